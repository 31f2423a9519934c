//! Small cases for the tests of this folder.

#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

use crate::{Affine, CaseImage, CaseLabel, Grid, SourceKind, Space, Spacing, Split, mask};

/// Where a turned and left-handed grid lies.
pub(super) const PLACE: Affine = Affine {
    rows: [[0.0, -0.7, 0.1, 3.5], [0.7, 0.0, 0.0, -8.0], [0.0, 0.07, 1.0 / 3.0, 120.0]],
    space: Space::Talairach,
};

/// A folder that goes away with the test.
pub(super) fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A training case whose voxels are all different.
pub(super) fn image_case(id: &str, shape: [usize; 3]) -> CaseImage {
    let mut next = 0.0;
    let image = Grid::from_fn(shape, |_| {
        next += 0.01;
        next
    });
    CaseImage {
        id: id.to_owned(),
        patient: format!("patient of {id}"),
        dataset: "drawn".to_owned(),
        split: Split::Train,
        image,
        spacing: Spacing::new([1.0, 0.7, 0.7]).unwrap(),
        affine: None,
    }
}

/// A training label of the structure `lung`.
pub(super) fn label(id: &str, source: &str) -> CaseLabel {
    CaseLabel {
        id: id.to_owned(),
        source: source.to_owned(),
        kind: SourceKind::Simulated,
        structure: "lung".to_owned(),
        split: Split::Train,
        mask: mask![". # # .", ". # . ."],
        probability: None,
        spacing: Spacing::unit(),
        affine: None,
        params: None,
    }
}
