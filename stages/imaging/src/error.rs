//! What can be refused by the numerics, with the numbers that explain it.

use thiserror::Error;

/// Everything that `imaging` refuses.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum ImagingError {
    /// Two masks that belong together have different axes.
    #[error(
        "masks `{left}` and `{right}` differ in shape: {left_shape:?} and {right_shape:?} as [slice, row, column]"
    )]
    ShapesDiffer {
        /// Name of the first mask.
        left: String,
        /// Its axes.
        left_shape: [usize; 3],
        /// Name of the second mask.
        right: String,
        /// Its axes.
        right_shape: [usize; 3],
    },
    /// A fusion without anything to fuse.
    #[error("nothing to fuse: expected at least one mask, got none")]
    NoMasks,
    /// A mask or a map without a single voxel.
    #[error("nothing to measure: expected at least one voxel, got none")]
    NoVoxels,
    /// A mask and a map that belong together and have different axes.
    #[error(
        "mask and map differ in shape: {mask_shape:?} and {map_shape:?} as [slice, row, column]"
    )]
    MapShapeDiffers {
        /// Axes of the mask.
        mask_shape: [usize; 3],
        /// Axes of the map.
        map_shape: [usize; 3],
    },
    /// A value that is no probability.
    #[error("probabilities must lie in [0, 1]: got {value}")]
    NotAProbability {
        /// The value.
        value: f32,
    },
    /// A fusion of label maps in which every label that could mean "undecided" is taken.
    #[error("no label is left for undecided voxels: the largest label is {largest} of at most 255")]
    NoUndecidedLabel {
        /// Largest label of the maps.
        largest: usize,
    },
    /// A spacing that is zero, negative or not finite.
    #[error("spacing must be positive: got {spacing:?} as [slice, row, column]")]
    SpacingNotPositive {
        /// The spacing that was given.
        spacing: [f64; 3],
    },
    /// A strength that the simulator does not know.
    #[error("strength of `{simulator}` must lie in [{low}, {high}]: got {strength}")]
    StrengthOutOfRange {
        /// Name of the simulator.
        simulator: &'static str,
        /// The strength that was given.
        strength: f64,
        /// Smallest strength that is allowed.
        low: f64,
        /// Largest strength that is allowed.
        high: f64,
    },
    /// An option outside its range.
    #[error("option `{option}` of `{owner}` must lie in [{low}, {high}]: got {value}")]
    OptionOutOfRange {
        /// The simulator or step that has the option.
        owner: &'static str,
        /// Name of the option.
        option: &'static str,
        /// The value that was given.
        value: f64,
        /// Smallest value that is allowed.
        low: f64,
        /// Largest value that is allowed.
        high: f64,
    },
    /// A displacement that moves every mask out of the image.
    #[error("shift of {distance_px} pixels leaves nothing of an axis of {length_px} pixels")]
    ShiftTooLong {
        /// Displacement in pixels.
        distance_px: usize,
        /// Length of the axis along which the mask moves, in pixels.
        length_px: usize,
    },
    /// A square that does not fit into the image with room to move.
    #[error(
        "square of side {side_px} pixels must be smaller than the image: shape {shape:?} as [slice, row, column]"
    )]
    SquareTooLarge {
        /// Side in pixels along the axis where it does not fit.
        side_px: usize,
        /// Axes of the image.
        shape: [usize; 3],
    },
    /// A closed spline through too few points.
    #[error("a closed spline needs at least 3 points: got {found}")]
    TooFewPoints {
        /// Number of points that were given.
        found: usize,
    },
    /// A calibration without cases.
    #[error("nothing to calibrate `{simulator}` on: expected at least one case, got none")]
    NoCases {
        /// Name of the simulator.
        simulator: &'static str,
    },
    /// A mean Dice that no strength of the bracket gives.
    #[error(
        "`{simulator}` cannot reach a mean Dice of {target}: strengths {weakest} to {strongest} give {lowest:.4} to {highest:.4}"
    )]
    DiceUnreachable {
        /// Name of the simulator.
        simulator: &'static str,
        /// The mean Dice that was asked for.
        target: f64,
        /// Lowest mean Dice that the bracket gives.
        lowest: f64,
        /// Highest mean Dice that the bracket gives.
        highest: f64,
        /// Lower end of the bracket of strengths.
        weakest: f64,
        /// Upper end of the bracket of strengths.
        strongest: f64,
    },
    /// A seed outside the volume.
    #[error("seed {seed:?} is outside the volume: shape {shape:?} as [slice, row, column]")]
    SeedOutside {
        /// The seed as `[slice, row, column]`.
        seed: [usize; 3],
        /// Axes of the volume.
        shape: [usize; 3],
    },
    /// A region without a seed to grow from.
    #[error("nothing to grow from: expected at least one seed, got none")]
    NoSeeds,
    /// An output shape that is empty, or larger than the input where only reduction is defined.
    #[error("cannot resample shape {from:?} to {to:?} as [slice, row, column]: {rule}")]
    BadResampling {
        /// Axes of the input.
        from: [usize; 3],
        /// Axes that were asked for.
        to: [usize; 3],
        /// What the axes must satisfy.
        rule: &'static str,
    },
}

/// Refuses spacings that are not positive and finite.
pub(crate) fn check_spacing(spacing: [f64; 3]) -> Result<(), ImagingError> {
    if spacing.iter().all(|&step| step.is_finite() && step > 0.0) {
        Ok(())
    } else {
        Err(ImagingError::SpacingNotPositive { spacing })
    }
}

/// Refuses an option outside `[low, high]`; NaN is outside.
pub(crate) fn check_option(
    owner: &'static str,
    option: &'static str,
    value: f64,
    [low, high]: [f64; 2],
) -> Result<(), ImagingError> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        Err(ImagingError::OptionOutOfRange { owner, option, value, low, high })
    }
}
