//! The unit of lengths that stages measure or move by.

use datasets::CaseLabel;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Unit of lengths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum LengthUnit {
    /// Millimetres, by the spacing of the case.
    Millimetres,
    /// Pixels of the masks as they are.
    #[default]
    Pixels,
    /// Pixels of a grid with this many columns over the same field of view.
    PixelsOfGrid(u32),
}

impl LengthUnit {
    /// Size of a voxel in this unit, `[slice, row, column]`.
    pub(crate) fn spacing(self, label: &CaseLabel) -> [f64; 3] {
        match self {
            Self::Millimetres => label.spacing.millimetres(),
            Self::Pixels => [1.0; 3],
            Self::PixelsOfGrid(columns) => [f64::from(columns) / label.mask.n_columns() as f64; 3],
        }
    }

    /// Volume of a voxel in the cube of this unit; of a mask with one slice the area in its square.
    pub(crate) fn volume(self, label: &CaseLabel) -> f64 {
        let [slice, row, column] = self.spacing(label);
        if label.mask.n_slices() == 1 { row * column } else { slice * row * column }
    }

    /// Short name for column heads.
    pub fn name(self) -> String {
        match self {
            Self::Millimetres => "mm".to_owned(),
            Self::Pixels => "px".to_owned(),
            Self::PixelsOfGrid(columns) => format!("px of {columns}"),
        }
    }

    /// Short name of the unit of volumes, or of areas where the mask has one slice.
    pub(crate) fn volume_name(self, label: &CaseLabel) -> String {
        let power = if label.mask.n_slices() == 1 { '²' } else { '³' };
        match self {
            Self::Millimetres => format!("mm{power}"),
            Self::Pixels => format!("px{power}"),
            Self::PixelsOfGrid(columns) => format!("px{power} of {columns}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use datasets::{Mask, Spacing, mask};

    use super::*;
    use crate::shards::tests::label;

    #[test]
    fn flat_masks_have_areas_and_volumes_have_volumes() {
        let mut flat = label("a", "x", mask!["# . .", "# # ."]);
        flat.spacing = Spacing::new([9.0, 2.0, 0.5]).unwrap();
        let volume = CaseLabel { mask: Mask::filled([2, 2, 3], true), ..flat.clone() };
        let of = |unit: LengthUnit, label| (unit.volume(label), unit.volume_name(label));
        assert_eq!(of(LengthUnit::Millimetres, &flat), (1.0, "mm²".to_owned()));
        assert_eq!(of(LengthUnit::Millimetres, &volume), (9.0, "mm³".to_owned()));
        assert_eq!(of(LengthUnit::Pixels, &volume), (1.0, "px³".to_owned()));
        assert_eq!(of(LengthUnit::PixelsOfGrid(6), &flat), (4.0, "px² of 6".to_owned()));
    }
}
