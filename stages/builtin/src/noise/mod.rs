//! Simulated annotation sources: ten simulators, the first five of them the paper's, each a stage that finds its strength, and one stage that applies them.
//!
//! A simulator's stage calibrates on the training split and writes what [`apply::Apply`] needs into one part and the
//! numbers that it reached into another: as long as the strength stays the same, no label is made again.

pub mod apply;
mod calibrate;

pub use calibrate::{
    Calibrate, CalibrateConfig, CalibrateInputs, CalibrateOutputs, NamedSimulator,
};

use engine::Registry;
use imaging::noise::{
    AreaRatio, Correlation, EdgeDistort, Erase, ErodeDilate, FlipSquare, Fourier, GrfBoundary,
    Markov, Polygonize, Shift, Simulator,
};
use serde::{Deserialize, Serialize};

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
}

/// Everything that [`apply::Apply`] needs to make a source's labels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SimulatedSource {
    /// Name of the source.
    pub source: String,
    /// Simulator with options.
    pub simulator: AnySimulator,
    /// Its strength.
    pub strength: f64,
    /// What it shares with other sources.
    pub correlation: Correlation,
    /// Seed of its draws.
    pub rng_seed: u64,
}

/// Spacing that simulators are given: strengths are in pixels, whatever a mask's own spacing.
pub(crate) const PIXELS: [f64; 3] = [1.0; 3];
