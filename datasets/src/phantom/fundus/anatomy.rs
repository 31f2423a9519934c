//! Where disc and cup lie in one drawn eye, and how well the photograph shows them.
//!
//! All lengths are in a frame of 256 x 256 units around the optic disc, rows downward, whatever the size of the picture.

use serde::Serialize;

use super::outline::{Outline, Waves};
use crate::{Stream, phantom::anatomy::around};

/// Width of the edge of the cup at which it is as hard to see as in the mean.
const MEAN_CUP_EDGE: f64 = 10.0;

/// What was drawn for one eye.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct FundusAnatomy {
    /// Outline of the optic disc.
    pub(super) disc: Outline,
    /// Outline of the cup.
    pub(super) cup: Outline,
    /// Geometric mean radius of the cup over that of the disc.
    pub(super) cup_to_disc: f64,
    /// Distance over which the brightness rises at the edge of the disc, from a tenth to nine tenths.
    pub(super) disc_edge: f64,
    /// The same at the edge of the cup.
    pub(super) cup_edge: f64,
    /// Step in brightness at the cup as a share of that at the disc.
    pub(super) cup_contrast: f64,
    /// 1 when the nose is to the right, -1 when it is to the left.
    pub(super) nasal: f64,
    /// Width of the pale crescent at the temporal side of the disc; 0 for none.
    pub(super) crescent: f64,
}

impl FundusAnatomy {
    /// Draws an eye; always takes as many numbers from the stream.
    pub(super) fn draw(stream: &mut Stream) -> Self {
        let place = [around(stream, 128.0, 4.0), around(stream, 128.0, 4.0)];
        let disc = Outline {
            centre: place,
            radius: stream.between(50.0, 70.0),
            ratio: around(stream, 1.08, 0.03),
            turn: around(stream, 0.0, 0.2),
            waves: Waves::draw(4, 0.015, stream),
        };
        let cup_to_disc = (0.5 + 0.12 * stream.normal()).clamp(0.25, 0.8);
        // The cup lies a little towards the temple, and never reaches the edge of the disc.
        let nasal = if stream.uniform() < 0.5 { -1.0 } else { 1.0 };
        let room = disc.radius * (1.0 - cup_to_disc);
        let aside = nasal * room * stream.between(-0.2, 0.0);
        let below = room * stream.between(-0.12, 0.12);
        let cup = Outline {
            centre: [disc.centre[0] + below, disc.centre[1] + aside],
            radius: disc.radius * cup_to_disc,
            ratio: around(stream, 1.05, 0.05),
            turn: around(stream, 0.0, 0.4),
            waves: Waves::draw(5, 0.04, stream),
        };
        let has_crescent = stream.uniform() < 0.3;
        let width = stream.between(4.0, 12.0);
        Self {
            disc,
            cup,
            cup_to_disc,
            disc_edge: stream.between(3.0, 6.0),
            cup_edge: stream.between(6.0, 14.0),
            cup_contrast: stream.between(0.3, 0.5),
            nasal,
            crescent: if has_crescent { width } else { 0.0 },
        }
    }

    /// Whether a place lies in the disc.
    pub(super) fn is_disc(&self, place: [f64; 2]) -> bool {
        self.disc.depth(place) > 0.0
    }

    /// Whether a place lies in the cup.
    pub(super) fn is_cup(&self, place: [f64; 2]) -> bool {
        self.cup.depth(place) > 0.0 && self.is_disc(place)
    }

    /// How hard the edge of the cup is to see: 1 in the mean, 0.6 to 1.4.
    pub(super) fn cup_blur(&self) -> f64 {
        self.cup_edge / MEAN_CUP_EDGE
    }
}
