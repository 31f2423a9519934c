//! Reading and writing shards on the ports of stages.

use std::{collections::BTreeMap, path::Path};

use datasets::{
    Affine, CaseImage, CaseLabel, DatasetsError, affine,
    shard::{
        image_heads, label_heads, read_image, read_label, read_labels, write_images, write_labels,
    },
    table::Table,
};
use engine::{Ctx, Input, Out, StageError};
use thiserror::Error;

/// Shards that do not fit together.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ShardsError {
    /// A case without a label of a source.
    #[error("case `{case}` has no label of structure `{structure}` from cell `{cell}`")]
    LabelMissing {
        /// The case.
        case: String,
        /// The structure.
        structure: String,
        /// The cell that makes the source's labels.
        cell: String,
    },
    /// A label of a case that the others do not have.
    #[error(
        "cell `{cell}` labels case `{case}`, structure `{structure}`, which cell `{first}` does not"
    )]
    LabelExtra {
        /// The case.
        case: String,
        /// The structure.
        structure: String,
        /// The cell that makes the extra label.
        cell: String,
        /// The cell that the others are compared with.
        first: String,
    },
    /// An image and a label of different shapes.
    #[error(
        "label of source `{source_name}` for case `{case}` has shape {found:?} as [slice, row, column]: the image has {expected:?}"
    )]
    ShapeDiffers {
        /// The case.
        case: String,
        /// The source.
        source_name: String,
        /// Shape of the image.
        expected: [usize; 3],
        /// Shape of the label.
        found: [usize; 3],
    },
    /// A case without an image for one of its channels.
    #[error("case `{case}` has an image in cell `{first}` and none in cell `{cell}`")]
    ChannelMissing {
        /// The case.
        case: String,
        /// The cell that should make its image.
        cell: String,
        /// The cell of the first channel.
        first: String,
    },
    /// Channels of a case of different shapes.
    #[error(
        "image of case `{case}` in cell `{cell}` has shape {found:?} as [slice, row, column]: that in cell `{first}` has {expected:?}"
    )]
    ChannelShape {
        /// The case.
        case: String,
        /// The cell of the channel that differs.
        cell: String,
        /// The cell of the first channel.
        first: String,
        /// Shape of the first channel.
        expected: [usize; 3],
        /// Shape of the channel that differs.
        found: [usize; 3],
    },
    /// Two things of a case that have one shape and lie in different places.
    #[error(
        "case `{case}` lies elsewhere in cell `{cell}`: affine {found:?} as [x, y, z] by [column, row, slice, 1], expected {expected:?}"
    )]
    PlaceDiffers {
        /// The case.
        case: String,
        /// The cell that places it elsewhere.
        cell: String,
        /// Where the case's image, or what comes first, lies.
        expected: Box<[[f64; 4]; 3]>,
        /// Where the other lies.
        found: Box<[[f64; 4]; 3]>,
    },
    /// A network and its images differ in the number of channels.
    #[error(
        "the network was trained on {expected} channels: {found} artifacts are wired to `images`"
    )]
    ChannelCount {
        /// Channels of the network.
        expected: usize,
        /// Artifacts on the port.
        found: usize,
    },
    /// Cases of different shapes for one network.
    #[error(
        "case `{case}` has shape {found:?} as [slice, row, column]: case `{first}` has {expected:?}, and a network is trained on cases of one shape"
    )]
    SizesDiffer {
        /// The case that differs.
        case: String,
        /// The case that the others are compared with.
        first: String,
        /// Its shape.
        expected: [usize; 3],
        /// The shape that differs.
        found: [usize; 3],
    },
    /// A case that its shard no longer has.
    #[error("case `{case}` is no longer in its shard")]
    CaseGone {
        /// The case.
        case: String,
    },
    /// Cases that are too large for the memory that a training has for them.
    #[error(
        "one case takes {case_mib} MiB: reading the cases needs {needed_mib} MiB, and the training may use {found_mib}"
    )]
    CasesTooLarge {
        /// Memory of a case.
        case_mib: u64,
        /// The least memory with which cases can be read.
        needed_mib: u64,
        /// Memory that the settings give.
        found_mib: u64,
    },
    /// A split without a case.
    #[error("split `{split}` has no case: the network cannot be {purpose} without one")]
    EmptySplit {
        /// The split.
        split: &'static str,
        /// What the split is for.
        purpose: &'static str,
    },
    /// A structure that no label has.
    #[error("no label of structure `{structure}` in cell `{cell}`: it has {found:?}")]
    StructureMissing {
        /// The structure.
        structure: String,
        /// The cell that makes the labels.
        cell: String,
        /// The structures that it has.
        found: Vec<String>,
    },
}

/// An error of the data with its advice.
pub(crate) fn refused(error: DatasetsError) -> StageError {
    let advice = error.hint();
    let error = StageError::new(error);
    match advice {
        Some(advice) => error.hint(advice),
        None => error,
    }
}

/// Refuses what a cell has of a case when it lies elsewhere than expected; what does not say where it lies fits everywhere.
pub(crate) fn check_place(
    case: &str,
    cell: &str,
    shape: [usize; 3],
    expected: Option<Affine>,
    found: Option<Affine>,
) -> Result<(), StageError> {
    let Some((expected, found)) = expected.zip(found) else { return Ok(()) };
    if affine::are_same(&expected, &found, shape) {
        return Ok(());
    }
    Err(StageError::new(ShardsError::PlaceDiffers {
        case: case.to_owned(),
        cell: cell.to_owned(),
        expected: Box::new(expected.rows),
        found: Box::new(found.rows),
    }))
}

/// The image of one case on a port, if there is any.
pub(crate) fn images_of(input: &Input, case: &str) -> Result<Vec<CaseImage>, StageError> {
    for part in &input.parts {
        let heads = image_heads(&part.path).map_err(refused)?;
        if let Some(row) = heads.iter().position(|head| head.id == case) {
            return Ok(read_image(&part.path, row).map_err(refused)?.into_iter().collect());
        }
    }
    Ok(Vec::new())
}

/// All labels on a port by (case, structure).
pub(crate) fn labels(input: &Input) -> Result<BTreeMap<(String, String), CaseLabel>, StageError> {
    let mut found = BTreeMap::new();
    for part in &input.parts {
        for label in read_labels(&part.path).map_err(refused)? {
            found.insert((label.id.clone(), label.structure.clone()), label);
        }
    }
    Ok(found)
}

/// The labels of one case on a port.
pub(crate) fn labels_of(input: &Input, case: &str) -> Result<Vec<CaseLabel>, StageError> {
    let mut found = Vec::new();
    for part in &input.parts {
        let heads = label_heads(&part.path).map_err(refused)?;
        for (row, _) in heads.iter().enumerate().filter(|(_, head)| head.id == case) {
            found.extend(read_label(&part.path, row).map_err(refused)?);
        }
    }
    Ok(found)
}

/// The labels of one shard from several sources: for each case and structure one label a source, in the order of the port.
pub(crate) fn aligned_labels(
    inputs: &[Input],
    shard: &str,
) -> Result<Vec<Vec<CaseLabel>>, StageError> {
    let mut rows: BTreeMap<(String, String), Vec<CaseLabel>> = BTreeMap::new();
    for (n_before, input) in inputs.iter().enumerate() {
        for label in read_labels(input.file(shard)?).map_err(refused)? {
            let key = (label.id.clone(), label.structure.clone());
            let row = rows.entry(key).or_default();
            if row.len() != n_before {
                return Err(StageError::new(ShardsError::LabelExtra {
                    case: label.id,
                    structure: label.structure,
                    cell: input.cell.clone(),
                    first: inputs[0].cell.clone(),
                }));
            }
            if let Some(first) = row.first() {
                let shape = label.mask.shape();
                check_place(&label.id, &input.cell, shape, first.affine, label.affine)?;
            }
            row.push(label);
        }
        if let Some(((case, structure), _)) = rows.iter().find(|(_, row)| row.len() <= n_before) {
            return Err(StageError::new(ShardsError::LabelMissing {
                case: case.clone(),
                structure: structure.clone(),
                cell: input.cell.clone(),
            }));
        }
    }
    Ok(rows.into_values().collect())
}

/// Writes the label shard that a per-shard stage has made.
pub(crate) fn write_label_shard<K>(
    out: &Out<K>,
    ctx: &Ctx<'_>,
    labels: &[CaseLabel],
) -> Result<(), StageError> {
    write_labels_as(out, ctx.shard(), labels)
}

/// Writes labels as a part.
pub(crate) fn write_labels_as<K>(
    out: &Out<K>,
    part: &str,
    labels: &[CaseLabel],
) -> Result<(), StageError> {
    let content = write_labels(&out.path(part), labels).map_err(refused)?;
    out.content(part, content);
    Ok(())
}

/// Writes images as a part.
pub(crate) fn write_images_as<K>(
    out: &Out<K>,
    part: &str,
    cases: &[CaseImage],
) -> Result<(), StageError> {
    let content = write_images(&out.path(part), cases).map_err(refused)?;
    out.content(part, content);
    Ok(())
}

/// Writes a value as a JSON part.
pub(crate) fn write_json<K>(
    out: &Out<K>,
    part: &str,
    value: &impl serde::Serialize,
) -> Result<(), StageError> {
    let bytes = serde_json::to_vec_pretty(value).map_err(StageError::new)?;
    out.write(part, &bytes)
}

/// Writes a table as a Parquet part whose stated content is that of its rows.
pub(crate) fn write_table<K>(out: &Out<K>, part: &str, table: &Table) -> Result<(), StageError> {
    let content = table.write_parquet(&out.path(part)).map_err(refused)?;
    out.content(part, content);
    Ok(())
}

/// Reads a JSON part.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, StageError> {
    let bytes = std::fs::read(path).map_err(StageError::new)?;
    serde_json::from_slice(&bytes).map_err(StageError::new)
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use std::path::PathBuf;

    use datasets::{Mask, SourceKind, Spacing, Split, mask};
    use engine::{Digest, InputPart};

    use super::*;

    /// A label of a 2 x 3 case of the training split.
    pub(crate) fn label(case: &str, source: &str, mask: Mask) -> CaseLabel {
        CaseLabel {
            id: case.to_owned(),
            source: source.to_owned(),
            kind: SourceKind::Human,
            structure: "lung".to_owned(),
            split: Split::Train,
            mask,
            probability: None,
            spacing: Spacing::unit(),
            affine: None,
            params: None,
        }
    }

    /// An artifact with one part, as the engine hands it to a stage.
    pub(crate) fn input(cell: &str, part: &str, path: PathBuf) -> Input {
        let content = Digest::of(cell.as_bytes());
        let parts = vec![InputPart { name: part.to_owned(), path, content }];
        Input { cell: cell.to_owned(), digest: content, parts }
    }

    fn sources(labels: &[&[CaseLabel]]) -> (tempfile::TempDir, Vec<Input>) {
        let folder = tempfile::tempdir().unwrap();
        let write = |(i, labels): (usize, &&[CaseLabel])| {
            let path = folder.path().join(format!("{i}.parquet"));
            datasets::shard::write_labels(&path, labels).unwrap();
            input(&format!("source{i}"), "train-0.parquet", path)
        };
        let inputs = labels.iter().enumerate().map(write).collect();
        (folder, inputs)
    }

    fn drawn() -> Mask {
        mask!["# . .", "# # ."]
    }

    #[test]
    fn labels_line_up_by_case_in_the_order_of_the_sources() {
        let (_folder, inputs) = sources(&[
            &[label("a", "x", drawn()), label("b", "x", drawn())],
            &[label("b", "y", drawn()), label("a", "y", drawn())],
        ]);
        let rows = aligned_labels(&inputs, "train-0.parquet").unwrap();
        let names: Vec<Vec<(&str, &str)>> =
            rows.iter().map(|row| row.iter().map(|l| (&*l.id, &*l.source)).collect()).collect();
        assert_eq!(names, [[("a", "x"), ("a", "y")], [("b", "x"), ("b", "y")]]);
    }

    #[test]
    fn a_missing_or_extra_label_names_its_case_and_cell() {
        let both = [label("a", "x", drawn()), label("b", "x", drawn())];
        let one = [label("a", "y", drawn())];
        let (_folder, inputs) = sources(&[&both, &one]);
        let error = aligned_labels(&inputs, "train-0.parquet").unwrap_err().to_string();
        assert_eq!(error, "case `b` has no label of structure `lung` from cell `source1`");
        let (_folder, inputs) = sources(&[&one, &both]);
        let error = aligned_labels(&inputs, "train-0.parquet").unwrap_err().to_string();
        assert_eq!(
            error,
            "cell `source1` labels case `b`, structure `lung`, which cell `source0` does not"
        );
    }

    #[test]
    fn a_missing_part_names_those_that_there_are() {
        let (_folder, inputs) = sources(&[&[label("a", "x", drawn())]]);
        let error = aligned_labels(&inputs, "train-1.parquet").unwrap_err().to_string();
        assert!(
            error.contains("no part `train-1.parquet`: it has [\"train-0.parquet\"]"),
            "{error}"
        );
    }
}
