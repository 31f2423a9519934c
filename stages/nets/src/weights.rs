//! Trained models as safetensors files, and as candle tensors.
//!
//! Tensors have the names, shapes and order of values of a PyTorch state dictionary, with the network's name in
//! front: `backbone.…` and, for UMA-Net, `auem.…`; running statistics are included. `__metadata__` holds, as text:
//! `format`, `architecture` (JSON), `structures` (JSON list of names), `spacing_mm` (JSON `[slice, row, column]`,
//! if known) and the caller's notes. Equal models give equal bytes.
//!
//! Reading trusts nothing: sizes are held against the file's length before memory is taken, values must be finite.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};
use candle_nn::VarMap;
use kernels::Volume;
use serde::{Deserialize, Serialize};

use crate::{
    NamedTensor, NetsError, Parameters, SingleConfig, SingleNet, TaskShape, Trainable, UmaConfig,
    UmaNet, UnetConfig,
    container::{Container, Values},
};

/// Format of the files; another one is refused.
const FORMAT: &str = "nets model 1";

/// Everything that is needed to build a model again, but its weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Architecture {
    /// UMA-Net.
    Uma {
        /// Its settings.
        config: UmaConfig,
        /// Channels, structures, sources.
        shape: TaskShape,
    },
    /// One UNet.
    Single {
        /// Its settings.
        config: SingleConfig,
        /// Channels, structures, sources.
        shape: TaskShape,
    },
}

/// What a weights file tells about its model's data.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelInfo {
    /// Names of the structures, in the order of the output's last axis.
    pub structures: Vec<String>,
    /// Spacing `[slice, row, column]` of the training images in millimetres, if known.
    pub spacing_mm: Option<[f64; 3]>,
    /// More text for `__metadata__`, for example how images were prepared; keys of our own win.
    pub notes: BTreeMap<String, String>,
}

/// A model read from a file.
#[derive(Debug)]
pub enum Model {
    /// UMA-Net.
    Uma(Box<UmaNet>),
    /// One UNet.
    Single(Box<SingleNet>),
}

impl Model {
    /// Builds an untrained model.
    ///
    /// # Errors
    /// [`NetsError::Config`] if settings or shape are out of range.
    pub fn new(
        architecture: &Architecture,
        streams: crate::Streams<'_>,
    ) -> Result<Self, NetsError> {
        Ok(match architecture {
            Architecture::Uma { config, shape } => {
                Self::Uma(Box::new(UmaNet::new(config, *shape, streams)?))
            }
            Architecture::Single { config, shape } => {
                Self::Single(Box::new(SingleNet::new(config, *shape, streams)?))
            }
        })
    }

    /// The model, whichever it is.
    pub fn trainable(&self) -> &dyn Trainable {
        match self {
            Self::Uma(model) => model.as_ref(),
            Self::Single(model) => model.as_ref(),
        }
    }

    /// The model, whichever it is, to be changed.
    pub fn trainable_mut(&mut self) -> &mut dyn Trainable {
        match self {
            Self::Uma(model) => model.as_mut(),
            Self::Single(model) => model.as_mut(),
        }
    }

    /// As [`Predictor::predict`](crate::Predictor::predict).
    ///
    /// # Errors
    /// Those of [`Predictor::predict`](crate::Predictor::predict).
    pub fn predict(&mut self, images: &[f32], volume: Volume) -> Result<Vec<f32>, NetsError> {
        self.trainable_mut().predict(images, volume)
    }
}

/// The weights file of `model`.
pub fn write_model(model: &dyn Trainable, info: &ModelInfo) -> Vec<u8> {
    let ModelInfo { structures, spacing_mm, notes } = info;
    let mut file = Container { metadata: notes.clone(), ..Container::default() };
    file.note("format", FORMAT);
    file.note("architecture", serde_json::json!(model.architecture()));
    file.note("structures", serde_json::json!(structures));
    file.metadata.remove("spacing_mm");
    if let Some(spacing_mm) = spacing_mm {
        file.note("spacing_mm", serde_json::json!(spacing_mm));
    }
    for tensor in named_tensors(model) {
        file.put(tensor.name, &tensor.shape, Values::F32(tensor.values));
    }
    file.to_bytes()
}

/// Reads a weights file, which may come from anywhere.
///
/// # Errors
/// [`NetsError::Container`] for damaged bytes; [`NetsError::Entry`] and [`NetsError::Metadata`] for metadata that
/// is missing or of another form, for tensors that are not f32 or not finite; [`NetsError::Config`] for settings out
/// of range; [`NetsError::Parameters`] for tensors that are missing, unknown or of another shape.
pub fn read_model(bytes: &[u8]) -> Result<(Model, ModelInfo), NetsError> {
    let mut file = Container::from_bytes(bytes)?;
    let format = file.text("format")?;
    if format != FORMAT {
        let found = format.to_owned();
        return Err(NetsError::Entry { name: "format".into(), expected: FORMAT.to_owned(), found });
    }
    let architecture: Architecture = json(&file, "architecture")?;
    let structures: Vec<String> = json(&file, "structures")?;
    let spacing_mm =
        file.metadata.contains_key("spacing_mm").then(|| json(&file, "spacing_mm")).transpose()?;
    check_room(&architecture, bytes.len())?;
    let mut model = Model::new(&architecture, &|_, _| Box::new(|| 0.5))?;
    let (expected, found) = (model.trainable().shape().n_structures, structures.len());
    if expected != found {
        return Err(NetsError::Count { what: "structure names", expected, found });
    }
    let tensors =
        std::mem::take(&mut file.tensors).into_iter().map(|(name, (shape, values))| match values {
            Values::F32(values) => Ok(NamedTensor { name, shape, values }),
            Values::F64(_) => {
                Err(NetsError::Entry { name, expected: "dtype F32".into(), found: "F64".into() })
            }
        });
    put_tensors(model.trainable_mut(), tensors.collect::<Result<_, _>>()?)?;
    let own = ["format", "architecture", "structures", "spacing_mm"];
    let mut notes = file.metadata;
    notes.retain(|key, _| !own.contains(&key.as_str()));
    Ok((model, ModelInfo { structures, spacing_mm, notes }))
}

/// All tensors of `model` as candle variables on the CPU, under the names of the weights file.
///
/// # Errors
/// [`NetsError::Candle`] if candle refuses a tensor.
pub fn to_var_map(model: &dyn Trainable) -> Result<VarMap, NetsError> {
    let map = VarMap::new();
    {
        let mut variables = map.data().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for NamedTensor { name, shape, values } in named_tensors(model) {
            let tensor = Tensor::from_vec(values, shape, &Device::Cpu)?;
            variables.insert(name, Var::from_tensor(&tensor)?);
        }
    }
    Ok(map)
}

/// Replaces all weights of `model` by candle tensors named as [`to_var_map`] names them; any device, any dtype.
///
/// # Errors
/// [`NetsError::Parameters`] for tensors that are missing, unknown or of another shape, [`NetsError::Entry`] for
/// values that are not finite, [`NetsError::Candle`] if a tensor can't be brought to the CPU as f32.
pub fn from_tensors(
    model: &mut dyn Trainable,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<(), NetsError> {
    let named = tensors.iter().map(|(name, tensor)| {
        let values = tensor.to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1()?;
        Ok(NamedTensor { name: name.clone(), shape: tensor.dims().to_vec(), values })
    });
    put_tensors(model, named.collect::<Result<_, NetsError>>()?)
}

fn named_tensors(model: &dyn Trainable) -> Vec<NamedTensor> {
    let parts = model.parts().into_iter();
    let named = parts.flat_map(|(part, parameters)| {
        parameters
            .export()
            .into_iter()
            .map(move |tensor| NamedTensor { name: format!("{part}.{}", tensor.name), ..tensor })
    });
    named.collect()
}

/// Hands every tensor to the network whose name it starts with; nothing changes unless all fit.
fn put_tensors(model: &mut dyn Trainable, tensors: Vec<NamedTensor>) -> Result<(), NetsError> {
    for tensor in &tensors {
        let fault = |value: &f32| {
            !value.is_finite() || (tensor.name.ends_with("running_var") && *value < 0.0)
        };
        if let Some(value) = tensor.values.iter().find(|value| fault(value)) {
            let expected = "finite numbers, no variance under 0".to_owned();
            return Err(NetsError::Entry {
                name: tensor.name.clone(),
                expected,
                found: value.to_string(),
            });
        }
    }
    let mut groups: BTreeMap<String, Vec<NamedTensor>> = BTreeMap::new();
    let names: Vec<&str> = model.parts().into_iter().map(|(name, _)| name).collect();
    for mut tensor in tensors {
        let part = tensor.name.split_once('.').filter(|(part, _)| names.contains(part));
        let Some((part, name)) = part.map(|(part, name)| (part.to_owned(), name.to_owned())) else {
            return Err(crate::ParametersError::Unknown { name: tensor.name }.into());
        };
        tensor.name = name;
        groups.entry(part).or_default().push(tensor);
    }
    let filled = model.parts().into_iter().map(|(name, parameters)| {
        let mut filled: Parameters = parameters.clone();
        filled.import(groups.get(name).map_or(&[], Vec::as_slice))?;
        Ok(filled)
    });
    let filled = filled.collect::<Result<Vec<_>, NetsError>>()?;
    model
        .parts_mut()
        .into_iter()
        .zip(filled)
        .for_each(|((_, parameters), filled)| *parameters = filled);
    Ok(())
}

fn json<T: serde::de::DeserializeOwned>(
    file: &Container,
    key: &'static str,
) -> Result<T, NetsError> {
    serde_json::from_str(file.text(key)?).map_err(|source| NetsError::Metadata { key, source })
}

/// Refuses settings whose networks can't possibly fit into the file they came with.
fn check_room(architecture: &Architecture, n_bytes: usize) -> Result<(), NetsError> {
    let least = match architecture {
        Architecture::Uma { config, shape } => {
            config.validate()?;
            shape.validate()?;
            let auem = if config.auem.enabled { least_bytes(&config.estimator(*shape)) } else { 0 };
            least_bytes(&config.backbone(*shape)) + auem
        }
        Architecture::Single { config, shape } => {
            config.validate()?;
            shape.validate()?;
            least_bytes(&config.unet(*shape))
        }
    };
    if least <= n_bytes as u128 {
        return Ok(());
    }
    let (expected, found) =
        (format!("a network of at most {n_bytes} bytes"), format!("at least {least} bytes"));
    Err(NetsError::Entry { name: "architecture".into(), expected, found })
}

/// A lower bound of a network's size: its first convolution, the last of the encoder, one per decoder.
fn least_bytes(config: &UnetConfig) -> u128 {
    let wide = |n: usize| n as u128;
    let deepest = wide(config.base_width) << (config.levels - 1);
    let upper = if config.levels > 1 { deepest / 2 } else { 0 };
    let first = wide(config.in_channels) * wide(config.base_width);
    4 * 9 * (first + deepest * deepest + wide(config.n_decoders) * upper * upper)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use crate::testing::{discs, streams, whole_batch};

    fn both() -> [Model; 2] {
        let shape = TaskShape { n_channels: 1, n_structures: 1, n_sources: 2 };
        let config = UmaConfig { base_width: 4, levels: 2, ..UmaConfig::default() };
        let single = SingleConfig { base_width: 4, levels: 2, ..SingleConfig::default() };
        [Architecture::Uma { config, shape }, Architecture::Single { config: single, shape }]
            .map(|architecture| Model::new(&architecture, &streams(4)).unwrap())
    }

    fn info() -> ModelInfo {
        ModelInfo {
            structures: vec!["lung".into()],
            spacing_mm: Some([1.4, 0.7, 0.35]),
            notes: BTreeMap::from([("preparation".into(), "mean 0, deviation 1".into())]),
        }
    }

    #[test]
    fn a_file_gives_the_same_model_and_the_same_bytes() {
        let images = whole_batch(&discs(2, 8, 1)).images;
        let size = Volume::flat(2, 8, 8);
        for mut model in both() {
            let bytes = write_model(model.trainable(), &info());
            let (mut read, read_info) = read_model(&bytes).unwrap();
            assert_eq!(read_info, info());
            assert_eq!(read.trainable().architecture(), model.trainable().architecture());
            assert_eq!(write_model(read.trainable(), &read_info), bytes);
            assert_eq!(read.predict(&images, size).unwrap(), model.predict(&images, size).unwrap());
        }
    }

    #[test]
    fn a_foreign_file_is_refused_and_never_panics() {
        let [uma, single] = both();
        let bytes = write_model(single.trainable(), &info());
        for end in (0..bytes.len()).step_by(97) {
            assert!(read_model(&bytes[..end]).is_err());
        }
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        for place in 0..header {
            let mut damaged = bytes.clone();
            damaged[place] = b'7';
            let _ = read_model(&damaged);
        }
        let change = |from: &str, to: &str| {
            let mut file = Container::from_bytes(&bytes).unwrap();
            let text = file.metadata["architecture"].replace(from, to);
            file.note("architecture", text);
            read_model(&file.to_bytes()).unwrap_err()
        };
        assert!(matches!(
            change("\"base_width\":4", "\"base_width\":1024"),
            NetsError::Entry { .. }
        ));
        assert!(matches!(change("\"base_width\":4", "\"base_width\":6"), NetsError::Parameters(_)));
        assert!(matches!(change("\"base_width\":4", "\"base_width\":3"), NetsError::Config { .. }));
        assert!(matches!(
            change("base_width", "width"),
            NetsError::Metadata { key: "architecture", .. }
        ));
        let mut file = Container::from_bytes(&bytes).unwrap();
        file.note("format", "nets model 9");
        assert!(
            matches!(read_model(&file.to_bytes()), Err(NetsError::Entry { name, .. }) if name == "format")
        );
        let mut file = Container::from_bytes(&write_model(uma.trainable(), &info())).unwrap();
        if let Some((_, Values::F32(values))) = file.tensors.values_mut().next() {
            values[0] = f32::NAN;
        }
        assert!(
            matches!(read_model(&file.to_bytes()), Err(NetsError::Entry { found, .. }) if found == "NaN")
        );
        let few = ModelInfo { structures: vec![], ..info() };
        assert!(matches!(
            read_model(&write_model(uma.trainable(), &few)),
            Err(NetsError::Count { .. })
        ));
    }

    #[test]
    fn candle_reads_the_file_and_gives_the_weights_back() {
        for mut model in both() {
            let bytes = write_model(model.trainable(), &info());
            let theirs = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).unwrap();
            let map = to_var_map(model.trainable()).unwrap();
            let ours = map.data().lock().unwrap();
            assert_eq!(ours.len(), theirs.len());
            for tensor in named_tensors(model.trainable()) {
                assert_eq!(theirs[&tensor.name].dims(), tensor.shape);
                assert_eq!(
                    ours[&tensor.name].flatten_all().unwrap().to_vec1::<f32>().unwrap(),
                    tensor.values
                );
            }
            let tensors: BTreeMap<String, Tensor> = theirs.into_iter().collect();
            model.trainable_mut().parts_mut()[0].1.values.fill(0.0);
            from_tensors(model.trainable_mut(), &tensors).unwrap();
            assert_eq!(write_model(model.trainable(), &info()), bytes);
            let fewer: BTreeMap<String, Tensor> = tensors.into_iter().skip(1).collect();
            assert!(matches!(
                from_tensors(model.trainable_mut(), &fewer),
                Err(NetsError::Parameters(_))
            ));
            assert_eq!(write_model(model.trainable(), &info()), bytes);
        }
    }
}
