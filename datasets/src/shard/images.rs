//! Image shards: one row a case, exact voxels in `data`, a PNG of 2-D images for viewers in `image`.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use arrow::{
    array::{ArrayRef, Float32Array, Float64Array, RecordBatch},
    datatypes::{DataType, Field, Schema},
};

use super::{
    MAX_VOXELS,
    columns::{
        Rows, affine_lists, axis, check_voxels, list_type, picture_column, picture_type,
        shape_lists, spaces, spacing_lists, texts, voxel_lists,
    },
    digest::Content,
    file::{Layout, Source, Storage, write_batches},
};
use crate::{Affine, CaseImage, DatasetsError, Grid, Spacing, Split, picture};

/// The columns that reading needs, the voxels last, and `affine` and `space`, which older files lack; the others repeat
/// what they say, for viewers and queries.
const NEEDED: [&str; 7] = ["case_id", "patient", "dataset", "split", "shape", "spacing_mm", "data"];

/// Writes an image shard, rows sorted by case id, and returns the digest of its content.
///
/// The same cases give the same bytes in whatever order they come. Columns: `case_id`, `patient`, `dataset`,
/// `split`, `slices`, `rows`, `columns`, `shape`, `axes`, `dtype`, `spacing_mm`, `affine`, `space`, `min`, `max`, `mean`, `image`,
/// `data`.
/// `affine` holds the twelve numbers of an [`Affine`] row by row and `space` the name of its [`Space`](crate::Space),
/// both missing where the place is not known.
/// `image` is a 16-bit PNG of an image with one slice ([`picture::image_png`] tells its scale), else missing.
///
/// # Errors
/// [`DatasetsError::DuplicateCase`], [`DatasetsError::CaseShape`] for images without voxels or above
/// [`MAX_VOXELS`], [`DatasetsError::VoxelValue`] for voxels that are not finite, and failures to write.
pub fn write_images(path: &Path, cases: &[CaseImage]) -> Result<[u8; 32], DatasetsError> {
    let sorted = checked(path, cases)?;
    write_batches(path, &layout(), groups(&sorted, |case| case.image.values().len()).map(batch))?;
    Ok(digest(&sorted))
}

/// Digest of what an image shard of these cases says: free of the order of the cases and of the file format.
pub fn image_digest(cases: &[CaseImage]) -> [u8; 32] {
    let mut sorted: Vec<&CaseImage> = cases.iter().collect();
    sorted.sort_by(|a, b| a.id.cmp(&b.id));
    digest(&sorted)
}

/// What a shard says of an image besides its voxels.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageHead {
    /// Id of the case.
    pub id: String,
    /// Id of the patient.
    pub patient: String,
    /// Name of the data set.
    pub dataset: String,
    /// Split of the case.
    pub split: Split,
    /// Axes, `[slice, row, column]`.
    pub shape: [usize; 3],
    /// Distance between voxels.
    pub spacing: Spacing,
    /// Where the voxels are, if that is known.
    pub affine: Option<Affine>,
}

/// Reads what an image shard says of its images without decoding a voxel, in the order of its rows.
///
/// # Errors
/// Those of [`read_images`] that do not concern voxels.
pub fn image_heads(path: &Path) -> Result<Vec<ImageHead>, DatasetsError> {
    let mut heads: Vec<ImageHead> = Vec::new();
    Source::open(path)?.each_batch(&NEEDED[..NEEDED.len() - 1], |batch, first| {
        let rows = Rows { path, batch, first };
        for row in 0..batch.num_rows() {
            heads.push(read_head(&rows, row)?);
        }
        Ok(true)
    })?;
    let mut ids = BTreeSet::new();
    match heads.iter().find(|head| !ids.insert(&head.id)) {
        Some(twice) => Err(DatasetsError::DuplicateCase { case: twice.id.clone() }),
        None => Ok(heads),
    }
}

/// Reads the image in the row `nth` of a shard, none beyond its end.
///
/// # Errors
/// Those of [`read_images`].
pub fn read_image(path: &Path, nth: usize) -> Result<Option<CaseImage>, DatasetsError> {
    let mut found = None;
    Source::open(path)?.only(nth).each_batch(&NEEDED, |batch, _| {
        if batch.num_rows() > 0 {
            found = Some(read_row(&Rows { path, batch, first: nth }, 0)?);
        }
        Ok(false)
    })?;
    Ok(found)
}

/// Reads an image shard, in the order of its rows.
///
/// # Errors
/// [`DatasetsError::Read`], [`DatasetsError::Decode`] and [`DatasetsError::DecoderBroke`] for files that are no
/// whole Parquet; [`DatasetsError::TooLarge`], [`DatasetsError::MissingColumn`], [`DatasetsError::ColumnType`],
/// [`DatasetsError::NullValue`], [`DatasetsError::UnknownWord`], [`DatasetsError::CaseShape`],
/// [`DatasetsError::CaseSpacing`], [`DatasetsError::VoxelCount`], [`DatasetsError::VoxelValue`] and
/// [`DatasetsError::DuplicateCase`] for files that are no image shards.
pub fn read_images(path: &Path) -> Result<Vec<CaseImage>, DatasetsError> {
    let mut cases = Vec::new();
    let mut ids = BTreeSet::new();
    Source::open(path)?.each_batch(&NEEDED, |batch, first| {
        let rows = Rows { path, batch, first };
        for row in 0..batch.num_rows() {
            let case = read_row(&rows, row)?;
            if !ids.insert(case.id.clone()) {
                return Err(DatasetsError::DuplicateCase { case: case.id });
            }
            cases.push(case);
        }
        Ok(true)
    })?;
    Ok(cases)
}

fn read_head(rows: &Rows<'_>, row: usize) -> Result<ImageHead, DatasetsError> {
    let id = rows.text("case_id", row)?.to_owned();
    Ok(ImageHead {
        shape: rows.shape(&id, row)?,
        patient: rows.text("patient", row)?.to_owned(),
        dataset: rows.text("dataset", row)?.to_owned(),
        split: rows.word("split", &id, row, &Split::ALL.map(|split| (split.name(), split)))?,
        spacing: rows.spacing(&id, row)?,
        affine: rows.affine(&id, row)?,
        id,
    })
}

fn read_row(rows: &Rows<'_>, row: usize) -> Result<CaseImage, DatasetsError> {
    let ImageHead { id, patient, dataset, split, shape, spacing, affine } = read_head(rows, row)?;
    let values = rows.voxels("data", &id, shape, row)?.ok_or_else(|| DatasetsError::NullValue {
        path: rows.path.to_owned(),
        column: "data".into(),
        row: rows.first + row,
    })?;
    check_voxels(rows.path, &id, "data", shape, &values, f32::is_finite)?;
    let image = Grid::new(shape, values).expect("the count was checked");
    Ok(CaseImage { id, patient, dataset, split, image, spacing, affine })
}

/// Sorts the cases and refuses those that no shard can hold.
fn checked<'a>(path: &Path, cases: &'a [CaseImage]) -> Result<Vec<&'a CaseImage>, DatasetsError> {
    let mut sorted: Vec<&CaseImage> = cases.iter().collect();
    sorted.sort_by(|a, b| a.id.cmp(&b.id));
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0].id == pair[1].id) {
        return Err(DatasetsError::DuplicateCase { case: twice[0].id.clone() });
    }
    for case in &sorted {
        check_size(path, &case.id, case.image.shape())?;
        check_voxels(
            path,
            &case.id,
            "data",
            case.image.shape(),
            case.image.values(),
            f32::is_finite,
        )?;
    }
    Ok(sorted)
}

/// Refuses grids without voxels and those above the limit.
pub(super) fn check_size(path: &Path, case: &str, shape: [usize; 3]) -> Result<(), DatasetsError> {
    if (1..=MAX_VOXELS).contains(&shape.iter().product()) {
        return Ok(());
    }
    Err(DatasetsError::CaseShape {
        path: path.to_owned(),
        case: case.to_owned(),
        found: shape.iter().map(|&n| n as i64).collect(),
        limit: MAX_VOXELS,
    })
}

/// Cuts rows into row groups of at most 16 rows and about 4 million voxels, so that one case can be read alone.
pub(super) fn groups<'a, T>(
    rows: &'a [&'a T],
    n_voxels: impl Fn(&T) -> usize + 'a,
) -> impl Iterator<Item = &'a [&'a T]> {
    const ROWS: usize = 16;
    const VOXELS: usize = 1 << 22;
    let mut rest = rows;
    std::iter::from_fn(move || {
        let mut sum = 0;
        let n = rest
            .iter()
            .take(ROWS)
            .take_while(|row| {
                let is_first = sum == 0;
                sum += n_voxels(row);
                is_first || sum <= VOXELS
            })
            .count();
        let (group, others) = rest.split_at(n);
        rest = others;
        (n > 0).then_some(group)
    })
}

fn layout() -> Layout {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let number = |name: &str, kind| Field::new(name, kind, false);
    let schema = Schema::new(vec![
        text("case_id"),
        text("patient"),
        text("dataset"),
        text("split"),
        number("slices", DataType::Int32),
        number("rows", DataType::Int32),
        number("columns", DataType::Int32),
        Field::new("shape", list_type(DataType::Int32), false),
        text("axes"),
        text("dtype"),
        Field::new("spacing_mm", list_type(DataType::Float64), false),
        Field::new("affine", list_type(DataType::Float64), true),
        Field::new("space", DataType::Utf8, true),
        number("min", DataType::Float32),
        number("max", DataType::Float32),
        number("mean", DataType::Float64),
        Field::new("image", picture_type(), true),
        Field::new("data", list_type(DataType::Float32), false),
    ]);
    Layout {
        schema: Arc::new(schema),
        blobs: vec![("image.bytes", Storage::Picture), ("data.list.element", Storage::Voxels)],
        tag: "image-shard/3",
        pictures: &["image"],
    }
}

fn batch(cases: &[&CaseImage]) -> Result<RecordBatch, DatasetsError> {
    let shapes: Vec<[usize; 3]> = cases.iter().map(|case| case.image.shape()).collect();
    let spacings: Vec<Spacing> = cases.iter().map(|case| case.spacing).collect();
    let affines: Vec<Option<Affine>> = cases.iter().map(|case| case.affine).collect();
    let voxels: Vec<Option<&[f32]>> = cases.iter().map(|case| Some(case.image.values())).collect();
    let extreme = |pick: fn(f32, f32) -> f32| -> ArrayRef {
        let extremes =
            cases.iter().filter_map(|case| case.image.values().iter().copied().reduce(pick));
        Arc::new(Float32Array::from_iter_values(extremes))
    };
    let means = cases.iter().map(|case| {
        let values = case.image.values();
        values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len() as f64
    });
    let pictures = cases.iter().map(|case| {
        let is_flat = case.image.n_slices() == 1;
        let png = if is_flat { picture::image_png(&case.image, 0) } else { None };
        (format!("{}.png", case.id), png)
    });
    let columns: Vec<ArrayRef> = vec![
        texts(cases.iter().map(|case| case.id.as_str())),
        texts(cases.iter().map(|case| case.patient.as_str())),
        texts(cases.iter().map(|case| case.dataset.as_str())),
        texts(cases.iter().map(|case| case.split.name())),
        axis(&shapes, 0),
        axis(&shapes, 1),
        axis(&shapes, 2),
        shape_lists(&shapes),
        texts(cases.iter().map(|_| "slice,row,column")),
        texts(cases.iter().map(|_| "float32")),
        spacing_lists(&spacings),
        affine_lists(&affines),
        spaces(&affines),
        extreme(f32::min),
        extreme(f32::max),
        Arc::new(Float64Array::from_iter_values(means)),
        picture_column(pictures.collect()),
        voxel_lists(&voxels),
    ];
    Ok(RecordBatch::try_new(layout().schema, columns).expect("columns are made for this schema"))
}

fn digest(sorted: &[&CaseImage]) -> [u8; 32] {
    let mut content = Content::new("images", sorted.len());
    for case in sorted {
        let CaseImage { id, patient, dataset, split, image, spacing, affine } = case;
        for text in [id, patient, dataset, split.name()] {
            content.text(text);
        }
        content.geometry(*spacing, affine.as_ref());
        content.image(image);
    }
    content.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use crate::{
        affine,
        shard::tests_support::{PLACE, image_case, scratch},
    };

    #[test]
    fn cases_come_back_bit_by_bit_in_the_order_of_their_ids() {
        let folder = scratch();
        let path = folder.path().join("train-0.parquet");
        let placed = CaseImage { affine: Some(PLACE), ..image_case("b", [1, 5, 7]) };
        let cases = [placed, image_case("a", [3, 4, 2]), image_case("c", [1, 1, 1])];
        let digest = write_images(&path, &cases).unwrap();
        let read = read_images(&path).unwrap();
        assert_eq!(read, [cases[1].clone(), cases[0].clone(), cases[2].clone()]);
        let heads = image_heads(&path).unwrap();
        for (nth, (case, head)) in read.iter().zip(&heads).enumerate() {
            assert_eq!(read_image(&path, nth).unwrap().as_ref(), Some(case));
            assert_eq!((&head.id, head.shape), (&case.id, case.image.shape()));
            assert_eq!((head.split, head.spacing), (case.split, case.spacing));
            assert_eq!(head.affine, case.affine);
        }
        assert_eq!((heads.len(), read_image(&path, 3).unwrap()), (3, None));
        assert_eq!(image_digest(&read), digest);
        let bytes = std::fs::read(&path).unwrap();
        let mut turned = cases.clone();
        turned.reverse();
        assert_eq!(write_images(&path, &turned).unwrap(), digest);
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn every_field_moves_the_digest() {
        let base = image_case("a", [1, 2, 3]);
        let mut changed: Vec<CaseImage> = vec![base.clone(); 10];
        changed[0].id.push('x');
        changed[1].patient.push('x');
        changed[2].dataset.push('x');
        changed[3].split = Split::Test;
        changed[4].spacing = Spacing::new([1.0, 1.0, 2.0]).unwrap();
        changed[5].image.set([0, 1, 2], -0.0);
        changed[6].image = Grid::new([1, 3, 2], base.image.values().to_vec()).unwrap();
        changed[7].affine = Some(PLACE);
        changed[8].affine = Some(affine::regridded(&PLACE, [0.0, 1.0, 0.0], [1.0; 3]));
        changed[9].affine = Some(PLACE.rows.into());
        let mut digests: BTreeSet<[u8; 32]> =
            changed.into_iter().map(|case| image_digest(&[case])).collect();
        digests.insert(image_digest(std::slice::from_ref(&base)));
        digests.insert(image_digest(&[]));
        assert_eq!(digests.len(), 12);
    }

    #[test]
    fn cases_that_no_shard_can_hold_are_refused() {
        let folder = scratch();
        let path = folder.path().join("x.parquet");
        let mut hole = image_case("a", [1, 2, 3]);
        hole.image.set([0, 1, 0], f32::NAN);
        let error = write_images(&path, &[hole]).unwrap_err();
        assert!(matches!(error, DatasetsError::VoxelValue { place: [0, 1, 0], .. }));
        let nothing =
            CaseImage { image: Grid::filled([1, 0, 3], 0.0), ..image_case("a", [1, 1, 1]) };
        assert!(matches!(write_images(&path, &[nothing]), Err(DatasetsError::CaseShape { .. })));
        let twice = [image_case("a", [1, 1, 1]), image_case("a", [1, 2, 1])];
        assert!(matches!(write_images(&path, &twice), Err(DatasetsError::DuplicateCase { .. })));
        assert!(!path.exists(), "nothing is written before everything is checked");
        write_images(&path, &[]).unwrap();
        assert_eq!(read_images(&path).unwrap(), []);
    }

    #[test]
    fn row_groups_hold_few_rows_and_few_voxels() {
        let sizes: Vec<usize> = [vec![1; 20], vec![1 << 23, 1, 1 << 22, 1 << 21]].concat();
        let rows: Vec<&usize> = sizes.iter().collect();
        let found: Vec<usize> = groups(&rows, |&n| n).map(<[_]>::len).collect();
        assert_eq!(found, [16, 4, 1, 1, 1, 1]);
    }
}
