//! Simulated annotation sources: twenty-one simulators, the first five of them the paper's, each a stage that finds its strength, and one
//! stage that applies them.
//!
//! A simulator's stage calibrates on the training split and writes what [`apply::Apply`] needs into one part and the
//! numbers that it reached into another: as long as the strength stays the same, no label is made again.

pub mod apply;
mod calibrate;

pub use calibrate::{
    Calibrate, CalibrateConfig, CalibrateInputs, CalibrateOutputs, NamedSimulator,
};

use std::collections::BTreeMap;

use engine::Registry;
use imaging::noise::{
    Affine, AreaRatio, Choppy, Correlation, Cube, EdgeDistort, Erase, ErodeDilate, FlipSquare,
    Fourier, Fracture, GrfBoundary, Markov, MorphRater, Natural, Polygonize, Shift, Simulator,
    Speckle, Spiculation, Swelling, Thickening, Thinning,
};
use serde::{Deserialize, Serialize};

use crate::unit::LengthUnit;

/// Declares the simulators: a line makes a stage and lets [`apply::Apply`] read what that stage writes.
macro_rules! simulators {
    ($($(#[$meta:meta])* $name:ident = $stage:literal, version $version:literal, $about:literal;)*) => {
        /// A simulator with its options, as `simulator.json` holds it.
        #[derive(Clone, Debug, Serialize, Deserialize)]
        #[serde(tag = "stage", content = "options")]
        pub enum AnySimulator {
            $($(#[$meta])* #[serde(rename = $stage)] $name($name),)*
        }

        impl AnySimulator {
            /// The simulator itself.
            pub fn as_simulator(&self) -> &dyn Simulator {
                match self {
                    $(Self::$name(simulator) => simulator,)*
                }
            }
        }

        $(
            impl NamedSimulator for $name {
                const STAGE: &'static str = $stage;
                const STAGE_VERSION: u32 = $version;
                const STAGE_ABOUT: &'static str = $about;

                fn wrap(&self) -> AnySimulator {
                    AnySimulator::$name(self.clone())
                }
            }
        )*

        /// Adds the simulators' stages and the one that applies them.
        pub(crate) fn register(registry: &mut Registry) {
            $(registry.add::<Calibrate<$name>>();)*
            registry.add::<apply::Apply>();
        }
    };
}

simulators! {
    /// Noise 1: random erosion or dilation.
    ErodeDilate = "noise.erode_dilate", version 1,
        "Calibrates random erosion or dilation by a disc.";
    /// Noise 2: constant shift.
    Shift = "noise.shift", version 1,
        "Calibrates a constant shift.";
    /// Noise 3: a square in which mask and background change places.
    FlipSquare = "noise.flip_square", version 1,
        "Calibrates a square of random place that reverses the mask.";
    /// Noise 4: few points of the contour joined by a spline.
    Polygonize = "noise.polygonize", version 1,
        "Calibrates a closed cubic spline through random points of the contour.";
    /// Noise 5: one of the two lungs is missing.
    Erase = "noise.erase", version 1,
        "Calibrates the erasing of one of the two largest components.";
    /// The outline drifts by many small random steps.
    Markov = "noise.markov", version 1,
        "Calibrates the number of random steps by which the outline drifts.";
    /// The outline wanders by a smooth random field.
    GrfBoundary = "noise.grf_boundary", version 1,
        "Calibrates a smooth random field that moves the outline in and out.";
    /// A share of the area is wrong.
    AreaRatio = "noise.area_ratio", version 1,
        "Calibrates the share of the area by which a mask is too large, too small or misplaced.";
    /// Too large, too small, or bites and bulges.
    EdgeDistort = "noise.edge_distort", version 1,
        "Calibrates dilation, erosion, or discs stamped on and cut out of the edge.";
    /// The low frequencies of the outline are off.
    Fourier = "noise.fourier", version 1,
        "Calibrates random factors on the low frequencies of the outline.";
    /// Spicules stand out.
    Spiculation = "noise.spiculation", version 1,
        "Calibrates the height of spicules at random places of the outline.";
    /// The right shape in the wrong size, turned and misplaced.
    Affine = "noise.affine", version 1,
        "Calibrates random changes of the size, the direction and the place of the mask.";
    /// Too large or too small by a box of voxels.
    Cube = "noise.cube", version 1,
        "Calibrates random erosion or dilation by a cube.";
    /// The outline swings in and out along its way.
    Natural = "noise.natural", version 1,
        "Calibrates a smooth random function that moves the outline in and out.";
    /// Every row begins and ends elsewhere.
    Choppy = "noise.choppy", version 1,
        "Calibrates random moves of both ends of every row of the mask.";
    /// Single voxels are wrong.
    Speckle = "noise.speckle", version 1,
        "Calibrates flips of single voxels that keep the size of the mask.";
    /// Everything is too thin.
    Thinning = "noise.thinning", version 1,
        "Calibrates erosion by a share of half the thickness of the mask.";
    /// Everything is too thick.
    Thickening = "noise.thickening", version 1,
        "Calibrates dilation by a share of half the thickness of the mask.";
    /// One place bulges.
    Swelling = "noise.swelling", version 1,
        "Calibrates a bulge at a random place in the middle of the mask.";
    /// Gaps go across.
    Fracture = "noise.fracture", version 1,
        "Calibrates cuts across the mask at random places.";
    /// A rater with a habit: right, too much, too little, with gaps, or nothing.
    MorphRater = "noise.morph_rater", version 1,
        "Calibrates a rater that always draws too much, too little, or too much with gaps.";
}

/// Everything that [`apply::Apply`] needs to make a source's labels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SimulatedSource {
    /// Name of the source.
    pub source: String,
    /// Simulator with options.
    pub simulator: AnySimulator,
    /// Its strength for every structure that has none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<f64>,
    /// Its strengths for single structures.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub strengths: BTreeMap<String, f64>,
    /// Unit of lengths.
    #[serde(default, skip_serializing_if = "is_pixels")]
    pub unit: LengthUnit,
    /// What it shares with other sources.
    pub correlation: Correlation,
    /// Seed of its draws.
    pub rng_seed: u64,
}

fn is_pixels(unit: &LengthUnit) -> bool {
    *unit == LengthUnit::Pixels
}
