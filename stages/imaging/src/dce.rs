//! The steps that all region-growing sources on breast scans share: breast, subtraction, vessels, suppression, enhancement.
//!
//! Source: the steps are named in arXiv 2304.00466v2, IV-A.2, which gives no formula. Deviation: everything below is ours,
//! after the practice of functional tumour volumes (percent enhancement, signal enhancement ratio), of Frangi's filter
//! and of the shape test for vessels in breast scans.
//! Intensities are in arbitrary units, spacings in millimetres; maps have the shape of the scan.

pub mod breast;
mod chest_wall;
mod enhancement;
mod uptake;
mod vessels;

use datasets::{Image, Mask};

use crate::{ImagingError, error::check_spacing};

pub use enhancement::{Enhancement, enhancement};
pub use uptake::{Uptake, uptake};
pub use vessels::{Suppression, Vessels, suppress};
pub(crate) use vessels::{damped, principal_moments};

/// A scan before and twice after the injection of contrast agent.
#[derive(Clone, Copy, Debug)]
pub struct Phases<'a> {
    /// Before.
    pub pre: &'a Image,
    /// First phase after.
    pub early: &'a Image,
    /// Second phase after.
    pub late: &'a Image,
    /// Distance between voxels, `[slice, row, column]` in millimetres.
    pub spacing: [f64; 3],
}

impl Phases<'_> {
    /// Refuses phases of different shapes, without voxels or with an impossible spacing.
    fn check(&self) -> Result<(), ImagingError> {
        check_spacing(self.spacing)?;
        for (name, image) in [("early", self.early), ("late", self.late)] {
            if image.shape() != self.pre.shape() {
                return Err(ImagingError::ShapesDiffer {
                    left: "pre".to_owned(),
                    left_shape: self.pre.shape(),
                    right: name.to_owned(),
                    right_shape: image.shape(),
                });
            }
        }
        if self.pre.values().is_empty() { Err(ImagingError::NoVoxels) } else { Ok(()) }
    }
}

/// Refuses a map that has not the shape of a mask.
fn check_map(map: &Image, mask: &Mask) -> Result<(), ImagingError> {
    if map.shape() == mask.shape() {
        Ok(())
    } else {
        Err(ImagingError::MapShapeDiffers { mask_shape: mask.shape(), map_shape: map.shape() })
    }
}
