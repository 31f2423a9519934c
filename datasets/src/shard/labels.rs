//! Label shards: one row for what a source says about a structure of a case.
//!
//! Exact voxels lie in `data` as booleans, in two and three dimensions alike; a PNG of masks with one slice lies in
//! `mask` for viewers. So a source that joins or leaves touches its own files only.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
};
use serde::de::IgnoredAny;

use super::{
    columns::{
        Rows, affine_lists, axis, bit_lists, check_voxels, list_type, picture_column, picture_type,
        shape_lists, spaces, spacing_lists, texts, voxel_lists,
    },
    digest::Content,
    file::{Layout, Source, Storage, write_batches},
    images::{check_size, groups},
};
use crate::{Affine, CaseLabel, DatasetsError, Grid, SourceKind, Spacing, Split, picture};

/// The columns that reading needs, those of [`LabelHead`] first, and `affine` and `space`, which older files lack; the others
/// repeat what they say, for viewers and queries.
const NEEDED: [&str; 11] = [
    "case_id",
    "source",
    "structure",
    "split",
    "shape",
    "source_kind",
    "spacing_mm",
    "voxels",
    "params",
    "data",
    "probability",
];

/// Writes a label shard, rows sorted by case, structure and source, and returns the digest of its content.
///
/// The same labels give the same bytes in whatever order they come. Columns: `case_id`, `source`, `source_kind`,
/// `structure`, `split`, `slices`, `rows`, `columns`, `shape`, `spacing_mm`, `affine` and `space` (as in image shards),
/// `voxels` (size of the foreground), `params` (JSON, may be missing), `mask` (PNG with 0 and 255 of a mask with one slice, else missing), `data`
/// (booleans), `probability` (may be missing).
///
/// # Errors
/// [`DatasetsError::DuplicateLabel`]; [`DatasetsError::CaseShape`] for masks without voxels or with too many;
/// [`DatasetsError::VoxelCount`] and [`DatasetsError::VoxelValue`] for probabilities of another shape or outside
/// `[0, 1]`; [`DatasetsError::Params`]; and failures to write.
pub fn write_labels(path: &Path, labels: &[CaseLabel]) -> Result<[u8; 32], DatasetsError> {
    let sorted = sorted(labels);
    if let Some(pair) = sorted.windows(2).find(|pair| key(pair[0]) == key(pair[1])) {
        return Err(twice(pair[0]));
    }
    for label in &sorted {
        check(path, label)?;
    }
    write_batches(path, &layout(), groups(&sorted, |label| label.mask.values().len()).map(batch))?;
    Ok(digest(&sorted))
}

/// Digest of what a label shard says: free of the order of the labels and of the file format.
pub fn label_digest(labels: &[CaseLabel]) -> [u8; 32] {
    digest(&sorted(labels))
}

/// What a shard says of a label besides its voxels.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelHead {
    /// Id of the case.
    pub id: String,
    /// Name of the source.
    pub source: String,
    /// What is outlined.
    pub structure: String,
    /// Split of the case.
    pub split: Split,
    /// Axes, `[slice, row, column]`.
    pub shape: [usize; 3],
    /// Where the voxels are, if that is known.
    pub affine: Option<Affine>,
}

/// Reads what a label shard says of its labels without decoding a voxel, in the order of its rows.
///
/// # Errors
/// Those of [`read_labels`] that do not concern voxels.
pub fn label_heads(path: &Path) -> Result<Vec<LabelHead>, DatasetsError> {
    let mut heads = Vec::new();
    Source::open(path)?.each_batch(&NEEDED[..5], |batch, first| {
        let rows = Rows { path, batch, first };
        for row in 0..batch.num_rows() {
            heads.push(read_head(&rows, row)?);
        }
        Ok(true)
    })?;
    let mut keys = BTreeSet::new();
    match heads.iter().find(|head| !keys.insert([&head.id, &head.structure, &head.source])) {
        Some(head) => Err(DatasetsError::DuplicateLabel {
            case: head.id.clone(),
            structure: head.structure.clone(),
            source_name: head.source.clone(),
        }),
        None => Ok(heads),
    }
}

/// Reads the label in the row `nth` of a shard, none beyond its end.
///
/// # Errors
/// Those of [`read_labels`].
pub fn read_label(path: &Path, nth: usize) -> Result<Option<CaseLabel>, DatasetsError> {
    let mut found = None;
    Source::open(path)?.only(nth).each_batch(&NEEDED, |batch, _| {
        if batch.num_rows() > 0 {
            found = Some(read_row(&Rows { path, batch, first: nth }, 0)?);
        }
        Ok(false)
    })?;
    Ok(found)
}

/// Reads a label shard, in the order of its rows.
///
/// # Errors
/// Those of [`read_images`](super::read_images); moreover [`DatasetsError::Contradiction`] when `voxels` is not the
/// size of the foreground, [`DatasetsError::Params`], and [`DatasetsError::DuplicateLabel`].
pub fn read_labels(path: &Path) -> Result<Vec<CaseLabel>, DatasetsError> {
    let mut labels = Vec::new();
    Source::open(path)?.each_batch(&NEEDED, |batch, first| {
        let rows = Rows { path, batch, first };
        for row in 0..batch.num_rows() {
            labels.push(read_row(&rows, row)?);
        }
        Ok(true)
    })?;
    match sorted(&labels).windows(2).find(|pair| key(pair[0]) == key(pair[1])) {
        Some(pair) => Err(twice(pair[0])),
        None => Ok(labels),
    }
}

fn read_head(rows: &Rows<'_>, row: usize) -> Result<LabelHead, DatasetsError> {
    let id = rows.text("case_id", row)?.to_owned();
    Ok(LabelHead {
        shape: rows.shape(&id, row)?,
        affine: rows.affine(&id, row)?,
        source: rows.text("source", row)?.to_owned(),
        structure: rows.text("structure", row)?.to_owned(),
        split: rows.word("split", &id, row, &Split::ALL.map(|split| (split.name(), split)))?,
        id,
    })
}

fn read_row(rows: &Rows<'_>, row: usize) -> Result<CaseLabel, DatasetsError> {
    let LabelHead { id, source, structure, split, shape, affine } = read_head(rows, row)?;
    let mask =
        Grid::new(shape, rows.bits("data", &id, shape, row)?).expect("the count was checked");
    let probability = rows
        .voxels("probability", &id, shape, row)?
        .map(|values| Grid::new(shape, values).expect("the count was checked"));
    let label = CaseLabel {
        source,
        kind: rows.word(
            "source_kind",
            &id,
            row,
            &SourceKind::ALL.map(|kind| (kind.name(), kind)),
        )?,
        structure,
        split,
        spacing: rows.spacing(&id, row)?,
        affine,
        params: rows.text_or_none("params", row)?.map(str::to_owned),
        mask,
        probability,
        id,
    };
    let [found, expected] = [rows.integer("voxels", row)?, label.mask.area() as i64];
    if found != expected {
        return Err(DatasetsError::Contradiction {
            path: rows.path.to_owned(),
            case: label.id,
            column: "voxels",
            expected: expected.to_string(),
            found: found.to_string(),
        });
    }
    check(rows.path, &label)?;
    Ok(label)
}

/// What no two labels of a shard share.
fn key(label: &CaseLabel) -> [&str; 3] {
    [&label.id, &label.structure, &label.source]
}

fn sorted(labels: &[CaseLabel]) -> Vec<&CaseLabel> {
    let mut sorted: Vec<&CaseLabel> = labels.iter().collect();
    sorted.sort_by(|a, b| key(a).cmp(&key(b)));
    sorted
}

fn twice(label: &CaseLabel) -> DatasetsError {
    DatasetsError::DuplicateLabel {
        case: label.id.clone(),
        structure: label.structure.clone(),
        source_name: label.source.clone(),
    }
}

/// Refuses labels that no shard can hold.
fn check(path: &Path, label: &CaseLabel) -> Result<(), DatasetsError> {
    let shape = label.mask.shape();
    check_size(path, &label.id, shape)?;
    if let Some(probability) = &label.probability {
        if probability.shape() != shape {
            return Err(DatasetsError::VoxelCount {
                path: path.to_owned(),
                case: label.id.clone(),
                column: "probability",
                shape,
                expected: shape.iter().product(),
                found: probability.values().len(),
            });
        }
        let is_allowed = |value: f32| (0.0..=1.0).contains(&value);
        check_voxels(path, &label.id, "probability", shape, probability.values(), is_allowed)?;
    }
    match label.params.as_deref().map(serde_json::from_str::<IgnoredAny>) {
        Some(Err(source)) => {
            Err(DatasetsError::Params { path: path.to_owned(), case: label.id.clone(), source })
        }
        _ => Ok(()),
    }
}

fn layout() -> Layout {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let axis = |name: &str| Field::new(name, DataType::Int32, false);
    let schema = Schema::new(vec![
        text("case_id"),
        text("source"),
        text("source_kind"),
        text("structure"),
        text("split"),
        axis("slices"),
        axis("rows"),
        axis("columns"),
        Field::new("shape", list_type(DataType::Int32), false),
        Field::new("spacing_mm", list_type(DataType::Float64), false),
        Field::new("affine", list_type(DataType::Float64), true),
        Field::new("space", DataType::Utf8, true),
        Field::new("voxels", DataType::Int64, false),
        Field::new("params", DataType::Utf8, true),
        Field::new("mask", picture_type(), true),
        Field::new("data", list_type(DataType::Boolean), false),
        Field::new("probability", list_type(DataType::Float32), true),
    ]);
    Layout {
        schema: Arc::new(schema),
        blobs: vec![
            ("mask.bytes", Storage::Picture),
            ("data.list.element", Storage::Bits),
            ("probability.list.element", Storage::Voxels),
        ],
        tag: "label-shard/3",
        pictures: &["mask"],
    }
}

fn batch(labels: &[&CaseLabel]) -> Result<RecordBatch, DatasetsError> {
    let shapes: Vec<[usize; 3]> = labels.iter().map(|label| label.mask.shape()).collect();
    let spacings: Vec<Spacing> = labels.iter().map(|label| label.spacing).collect();
    let affines: Vec<Option<Affine>> = labels.iter().map(|label| label.affine).collect();
    let bits: Vec<&[bool]> = labels.iter().map(|label| label.mask.values()).collect();
    let probabilities: Vec<Option<&[f32]>> =
        labels.iter().map(|label| label.probability.as_ref().map(|map| map.values())).collect();
    let pictures = labels.iter().map(|label| {
        let is_flat = label.mask.n_slices() == 1;
        let png = if is_flat { picture::mask_png(&label.mask, 0) } else { None };
        (format!("{}.{}.{}.png", label.id, label.structure, label.source), png)
    });
    let columns: Vec<ArrayRef> = vec![
        texts(labels.iter().map(|label| label.id.as_str())),
        texts(labels.iter().map(|label| label.source.as_str())),
        texts(labels.iter().map(|label| label.kind.name())),
        texts(labels.iter().map(|label| label.structure.as_str())),
        texts(labels.iter().map(|label| label.split.name())),
        axis(&shapes, 0),
        axis(&shapes, 1),
        axis(&shapes, 2),
        shape_lists(&shapes),
        spacing_lists(&spacings),
        affine_lists(&affines),
        spaces(&affines),
        Arc::new(Int64Array::from_iter_values(labels.iter().map(|label| label.mask.area() as i64))),
        Arc::new(StringArray::from_iter(labels.iter().map(|label| label.params.as_deref()))),
        picture_column(pictures.collect()),
        bit_lists(&bits),
        voxel_lists(&probabilities),
    ];
    Ok(RecordBatch::try_new(layout().schema, columns).expect("columns are made for this schema"))
}

fn digest(sorted: &[&CaseLabel]) -> [u8; 32] {
    let mut content = Content::new("labels", sorted.len());
    for label in sorted {
        let CaseLabel {
            id,
            source,
            kind,
            structure,
            split,
            mask,
            probability,
            spacing,
            affine,
            params,
        } = label;
        for text in [id, source, kind.name(), structure, split.name()] {
            content.text(text);
        }
        content.geometry(*spacing, affine.as_ref());
        content.mask(mask);
        content.presence(probability.is_some());
        if let Some(probability) = probability {
            content.image(probability);
        }
        content.presence(params.is_some());
        content.text(params.as_deref().unwrap_or_default());
    }
    content.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use crate::shard::tests_support::{PLACE, label, scratch};

    #[test]
    fn labels_come_back_with_maps_and_parameters() {
        let folder = scratch();
        let path = folder.path().join("train-0.parquet");
        let mut labels = vec![
            label("b", "shift"),
            label("a", "shift"),
            label("a", "erode"),
            label("c", "erode"),
        ];
        labels[0].params = Some(r#"{"clamped":true,"dx_px":0.1}"#.into());
        labels[1].probability = Some(labels[1].mask.map(|&inside| if inside { 0.75 } else { 0.0 }));
        labels[3].mask = Grid::filled([2, 3, 4], false);
        labels[2].affine = Some(PLACE);
        let digest = write_labels(&path, &labels).unwrap();
        let read = read_labels(&path).unwrap();
        assert_eq!(read, [2, 1, 0, 3].map(|n: usize| labels[n].clone()));
        let heads = label_heads(&path).unwrap();
        for (nth, (label, head)) in read.iter().zip(&heads).enumerate() {
            assert_eq!(read_label(&path, nth).unwrap().as_ref(), Some(label));
            assert_eq!((&head.id, &head.source), (&label.id, &label.source));
            assert_eq!((head.shape, head.split), (label.mask.shape(), label.split));
            assert_eq!(head.affine, label.affine);
        }
        assert_eq!((heads.len(), read_label(&path, 4).unwrap()), (4, None));
        assert_eq!(label_digest(&read), digest);
        let bytes = std::fs::read(&path).unwrap();
        labels.reverse();
        assert_eq!(write_labels(&path, &labels).unwrap(), digest);
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn every_field_moves_the_digest() {
        let base = label("a", "shift");
        let mut changed: Vec<CaseLabel> = vec![base.clone(); 11];
        changed[0].id.push('x');
        changed[1].source.push('x');
        changed[2].kind = SourceKind::Human;
        changed[3].structure.push('x');
        changed[4].split = Split::Val;
        changed[5].mask = base.mask.map(|inside| !inside);
        changed[6].probability = Some(base.mask.map(|_| 0.5));
        changed[7].spacing = Spacing::new([2.0, 1.0, 1.0]).unwrap();
        changed[8].params = Some("{}".into());
        changed[9].affine = Some(PLACE);
        changed[10].affine = Some(PLACE.rows.into());
        let mut digests: BTreeSet<[u8; 32]> =
            changed.into_iter().map(|label| label_digest(&[label])).collect();
        digests.insert(label_digest(&[base]));
        assert_eq!(digests.len(), 12);
    }

    #[test]
    fn labels_that_no_shard_can_hold_are_refused() {
        let folder = scratch();
        let path = folder.path().join("x.parquet");
        let refused = |labels: &[CaseLabel]| write_labels(&path, labels).unwrap_err();
        let base = label("a", "shift");
        assert!(matches!(
            refused(&[base.clone(), base.clone()]),
            DatasetsError::DuplicateLabel { .. }
        ));
        let wrong = CaseLabel { probability: Some(base.mask.map(|_| 1.5)), ..base.clone() };
        assert!(matches!(
            refused(&[wrong]),
            DatasetsError::VoxelValue { column: "probability", .. }
        ));
        let wrong = CaseLabel { probability: Some(Grid::filled([1, 1, 1], 0.5)), ..base.clone() };
        assert!(matches!(refused(&[wrong]), DatasetsError::VoxelCount { found: 1, .. }));
        let wrong = CaseLabel { params: Some("{".into()), ..base };
        assert!(matches!(refused(&[wrong]), DatasetsError::Params { .. }));
    }
}
