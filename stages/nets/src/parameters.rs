//! Flat storage of a network's parameters: one buffer of values, one of gradients, names over ranges.
//!
//! One buffer means one pass for the optimizer and one slice for a checkpoint. Weights lie in the order
//! that the kernels read, `[kernel slice, kernel row, kernel column, in channel, out channel]`;
//! [`Parameters::export`] and [`Parameters::import`] translate to and from PyTorch's order, so that names,
//! shapes and values of a checkpoint are those of the PyTorch layer of the same kind.

use std::ops::Range;

use thiserror::Error;

/// How the values of an entry lie in the flat buffer, seen from PyTorch's shape of the same tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// As PyTorch: biases, scales, shifts.
    Plain,
    /// Convolution weights: PyTorch `[out, in, kernel…]`, here `[kernel…, in, out]`.
    Conv,
    /// Transposed convolution weights: PyTorch `[in, out, kernel…]`, here `[kernel…, in, out]`.
    UpConv,
}

/// One named tensor of the flat buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name as in a PyTorch state dictionary, for example `inc.double_conv.0.weight`.
    pub name: String,
    /// PyTorch's shape; [`Layout`] tells how the values lie here.
    pub shape: Vec<usize>,
    /// Order of the values in the flat buffer.
    pub layout: Layout,
    /// Place in [`Parameters::values`] and [`Parameters::gradients`].
    pub range: Range<usize>,
}

/// Numbers that belong to a model and are not learned: running means and variances, one a channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Buffer {
    /// Name as in a PyTorch state dictionary, for example `inc.double_conv.1.running_mean`.
    pub name: String,
    /// One value a channel.
    pub values: Vec<f32>,
}

/// A tensor in PyTorch's order, on its way to or from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// Name as in a PyTorch state dictionary.
    pub name: String,
    /// PyTorch's shape.
    pub shape: Vec<usize>,
    /// Values, last axis fastest.
    pub values: Vec<f32>,
}

/// What is wrong with tensors that should fill a model.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParametersError {
    /// The model has a tensor of this name and none was given.
    #[error("tensor `{name}` is missing")]
    Missing {
        /// Name of the tensor in the model.
        name: String,
    },
    /// A tensor was given that the model does not have.
    #[error("tensor `{name}` is not part of this model")]
    Unknown {
        /// Name of the tensor that was given.
        name: String,
    },
    /// The tensor of this name has another shape in the model.
    #[error("tensor `{name}` must have shape {expected:?}: got {found:?}")]
    Shape {
        /// Name of the tensor.
        name: String,
        /// The model's shape.
        expected: Vec<usize>,
        /// The shape that was given.
        found: Vec<usize>,
    },
}

/// All parameters of a network, their gradients, and its running statistics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters {
    /// Learned values of all entries, one after the other.
    pub values: Vec<f32>,
    /// Gradient of the loss with respect to each of `values`; backward passes add to it.
    pub gradients: Vec<f32>,
    /// Names, shapes and places, in the order of the flat buffer.
    pub entries: Vec<Entry>,
    /// Running statistics, in the order of their layers.
    pub buffers: Vec<Buffer>,
}

impl Parameters {
    /// Appends a tensor filled with `value` and returns its index in `entries`.
    pub fn add(&mut self, name: String, shape: &[usize], layout: Layout, value: f32) -> usize {
        let start = self.values.len();
        let end = start + shape.iter().product::<usize>();
        self.values.resize(end, value);
        self.gradients.resize(end, 0.0);
        self.entries.push(Entry { name, shape: shape.to_vec(), layout, range: start..end });
        self.entries.len() - 1
    }

    /// Appends a buffer of `len` times `value` and returns its index in `buffers`.
    pub fn add_buffer(&mut self, name: String, len: usize, value: f32) -> usize {
        self.buffers.push(Buffer { name, values: vec![value; len] });
        self.buffers.len() - 1
    }

    /// Number of learned values; running statistics do not count.
    pub fn count(&self) -> usize {
        self.values.len()
    }

    /// Values of the entry `index`, in this crate's order.
    pub fn entry(&self, index: usize) -> &[f32] {
        &self.values[self.entries[index].range.clone()]
    }

    /// Values of the entry `index`, to be changed in place.
    pub fn entry_mut(&mut self, index: usize) -> &mut [f32] {
        &mut self.values[self.entries[index].range.clone()]
    }

    /// The place after all layers so far.
    pub(crate) fn mark(&self) -> Mark {
        Mark { entry: self.entries.len(), buffer: self.buffers.len() }
    }

    /// What layers work with: all of it.
    pub(crate) fn part(&mut self) -> Part<'_> {
        let Self { values, gradients, entries, buffers } = self;
        Part { values, entries, gradients, first_gradient: 0, buffers, first_buffer: 0 }
    }

    /// Index of the entry called `name`.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.name == name)
    }

    /// Sets every gradient to zero.
    pub fn zero_gradients(&mut self) {
        self.gradients.fill(0.0);
    }

    /// All tensors in PyTorch's order: the entries, then the buffers (shape `[channels]`).
    pub fn export(&self) -> Vec<NamedTensor> {
        let entries = self.entries.iter().map(|entry| NamedTensor {
            name: entry.name.clone(),
            shape: entry.shape.clone(),
            values: to_torch(&self.values[entry.range.clone()], &entry.shape, entry.layout),
        });
        let buffers = self.buffers.iter().map(|buffer| NamedTensor {
            name: buffer.name.clone(),
            shape: vec![buffer.values.len()],
            values: buffer.values.clone(),
        });
        entries.chain(buffers).collect()
    }

    /// Replaces all values and buffers by `tensors`, which lie in PyTorch's order; their own order is free.
    ///
    /// # Errors
    /// [`ParametersError`] when a tensor is missing, unknown or of another shape; nothing has changed then.
    pub fn import(&mut self, tensors: &[NamedTensor]) -> Result<(), ParametersError> {
        let expected: Vec<(&str, Vec<usize>)> = self.names_and_shapes();
        if let Some(extra) =
            tensors.iter().find(|t| expected.iter().all(|(name, _)| *name != t.name))
        {
            return Err(ParametersError::Unknown { name: extra.name.clone() });
        }
        let mut found = Vec::with_capacity(expected.len());
        for (name, shape) in expected {
            let tensor = tensors
                .iter()
                .find(|tensor| tensor.name == name)
                .ok_or_else(|| ParametersError::Missing { name: name.to_owned() })?;
            if tensor.shape != shape || tensor.values.len() != shape.iter().product::<usize>() {
                let (name, found) = (name.to_owned(), tensor.shape.clone());
                return Err(ParametersError::Shape { name, expected: shape, found });
            }
            found.push(tensor);
        }
        for (entry, tensor) in self.entries.iter().zip(&found) {
            let values = from_torch(&tensor.values, &entry.shape, entry.layout);
            self.values[entry.range.clone()].copy_from_slice(&values);
        }
        for (buffer, tensor) in self.buffers.iter_mut().zip(&found[self.entries.len()..]) {
            buffer.values.copy_from_slice(&tensor.values);
        }
        Ok(())
    }

    fn names_and_shapes(&self) -> Vec<(&str, Vec<usize>)> {
        let entries = self.entries.iter().map(|entry| (entry.name.as_str(), entry.shape.clone()));
        let buffers =
            self.buffers.iter().map(|buffer| (buffer.name.as_str(), vec![buffer.values.len()]));
        entries.chain(buffers).collect()
    }
}

/// A place between layers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    entry: usize,
    buffer: usize,
}

/// Parameters as layers see them: all values, and the gradients and running statistics of some layers.
///
/// Parts of different layers can be worked with side by side.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    values: &'a [f32],
    entries: &'a [Entry],
    gradients: &'a mut [f32],
    first_gradient: usize,
    buffers: &'a mut [Buffer],
    first_buffer: usize,
}

impl<'a> Part<'a> {
    /// Values of the entry `index`.
    pub(crate) fn entry(&self, index: usize) -> &'a [f32] {
        &self.values[self.entries[index].range.clone()]
    }

    /// Gradients of different entries, to be added to.
    pub(crate) fn gradients<const N: usize>(&mut self, entries: [usize; N]) -> [&mut [f32]; N] {
        let first = self.first_gradient;
        let ranges = entries.map(|index| {
            let Range { start, end } = self.entries[index].range;
            start - first..end - first
        });
        self.gradients.get_disjoint_mut(ranges).expect("entries do not overlap")
    }

    /// Running statistics, to be updated.
    pub(crate) fn buffers<const N: usize>(&mut self, buffers: [usize; N]) -> [&mut [f32]; N] {
        let own = buffers.map(|index| index - self.first_buffer);
        let found = self.buffers.get_disjoint_mut(own).expect("a layer's buffers are different");
        found.map(|buffer| buffer.values.as_mut_slice())
    }

    /// Splits off the entries and buffers from those of `mark` on.
    pub(crate) fn split(self, Mark { entry, buffer }: Mark) -> (Self, Self) {
        let Self { values, entries, gradients, first_gradient, buffers, first_buffer } = self;
        let start = entries.get(entry).map_or(values.len(), |entry| entry.range.start);
        let (gradients, later_gradients) = gradients.split_at_mut(start - first_gradient);
        let (buffers, later_buffers) = buffers.split_at_mut(buffer - first_buffer);
        let later = Self {
            values,
            entries,
            gradients: later_gradients,
            first_gradient: start,
            buffers: later_buffers,
            first_buffer: buffer,
        };
        (Self { values, entries, gradients, first_gradient, buffers, first_buffer }, later)
    }
}

/// Strides of PyTorch's `[out, in, taps]` or `[in, out, taps]` for `(tap, in, out)`.
fn torch_strides(shape: &[usize], layout: Layout) -> [usize; 3] {
    let taps: usize = shape[2..].iter().product();
    match layout {
        Layout::UpConv => [1, shape[1] * taps, taps],
        Layout::Plain | Layout::Conv => [1, taps, shape[1] * taps],
    }
}

/// Numbers of `(taps, in channels, out channels)` of a weight with PyTorch's `shape`.
fn weight_axes(shape: &[usize], layout: Layout) -> [usize; 3] {
    let taps = shape[2..].iter().product();
    match layout {
        Layout::UpConv => [taps, shape[0], shape[1]],
        Layout::Plain | Layout::Conv => [taps, shape[1], shape[0]],
    }
}

/// Places of the values in PyTorch's order, in our order.
fn torch_places(shape: &[usize], layout: Layout) -> impl Iterator<Item = usize> {
    let [taps, n_in, n_out] = weight_axes(shape, layout);
    let [tap_stride, in_stride, out_stride] = torch_strides(shape, layout);
    (0..taps * n_in * n_out).map(move |place| {
        let (rest, out) = (place / n_out, place % n_out);
        (rest / n_in) * tap_stride + (rest % n_in) * in_stride + out * out_stride
    })
}

fn to_torch(values: &[f32], shape: &[usize], layout: Layout) -> Vec<f32> {
    if layout == Layout::Plain {
        return values.to_vec();
    }
    let mut ordered = vec![0.0; values.len()];
    for (&value, place) in values.iter().zip(torch_places(shape, layout)) {
        ordered[place] = value;
    }
    ordered
}

fn from_torch(values: &[f32], shape: &[usize], layout: Layout) -> Vec<f32> {
    match layout {
        Layout::Plain => values.to_vec(),
        Layout::Conv | Layout::UpConv => {
            torch_places(shape, layout).map(|place| values[place]).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;

    fn small() -> Parameters {
        let mut parameters = Parameters::default();
        parameters.add("conv.weight".into(), &[2, 3, 1, 2], Layout::Conv, 0.0);
        parameters.add("up.weight".into(), &[3, 2, 2, 1], Layout::UpConv, 0.0);
        parameters.add("up.bias".into(), &[2], Layout::Plain, 0.5);
        parameters.add_buffer("norm.running_mean".into(), 2, 0.0);
        for (place, value) in parameters.values.iter_mut().enumerate() {
            *value = place as f32;
        }
        parameters
    }

    #[test]
    fn export_puts_the_kernel_last() {
        let exported = small().export();
        // Ours is [kernel, in, out]: place = (tap * 3 + in) * 2 + out.
        assert_eq!(exported[0].values, [0., 6., 2., 8., 4., 10., 1., 7., 3., 9., 5., 11.]);
        assert_eq!(exported[1].values[..4], [12., 18., 13., 19.]);
        assert_eq!(exported[2].values, [24., 25.]);
        assert_eq!(exported[3].shape, [2]);
    }

    #[test]
    fn import_reads_what_export_wrote_in_any_order() {
        let written = small();
        let mut tensors = written.export();
        tensors.reverse();
        let mut read = small();
        read.values.fill(0.0);
        read.import(&tensors).unwrap();
        assert_eq!(read, written);
    }

    #[test]
    fn parts_hold_their_own_gradients_and_buffers() {
        let mut parameters = small();
        let (mut first, mut second) = parameters.part().split(Mark { entry: 1, buffer: 0 });
        first.gradients([0])[0].fill(1.0);
        let [up, bias] = second.gradients([1, 2]);
        (up[0], bias[1]) = (2.0, 3.0);
        second.buffers([0])[0][1] = 4.0;
        assert_eq!(first.entry(2), second.entry(2));
        assert_eq!(parameters.gradients[11..14], [1.0, 2.0, 0.0]);
        assert_eq!((parameters.gradients[25], parameters.buffers[0].values[1]), (3.0, 4.0));
    }

    #[test]
    fn import_refuses_what_does_not_fit() {
        let tensors = small().export();
        let mut target = small();
        let missing = target.import(&tensors[1..]).unwrap_err();
        assert_eq!(missing, ParametersError::Missing { name: "conv.weight".into() });
        let mut wrong = tensors.clone();
        wrong[0].shape = vec![3, 2, 1, 2];
        assert!(matches!(target.import(&wrong), Err(ParametersError::Shape { .. })));
        wrong = tensors;
        wrong[2].name = "up.offset".into();
        let unknown = target.import(&wrong).unwrap_err();
        assert_eq!(unknown, ParametersError::Unknown { name: "up.offset".into() });
        assert_eq!(target, small());
    }
}
