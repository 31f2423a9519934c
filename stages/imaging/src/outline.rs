//! Two nested structures out of the lines that somebody drew around them, as the disc and the cup of RIGA.
//!
//! Lines have a width, gaps and specks beside them. Specks are left out, lines are widened by the smallest radius that
//! leaves two regions of which one lies within the other, and widened lines are shared among the regions along their
//! middle, so that widening moves no border. Nothing is guessed: lines that touch, that do not close or that make other regions are a fault.
//! Source: the differences of pictures with and without lines, as published converters of RIGA take them. Deviation:
//! converters fill a line to its outer edge or take convex hulls, which makes structures larger by half a line or more.
//! Randomness: none. Cost: the components and three distance transforms of the box around the lines.

use datasets::Mask;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    components::{Components, Connectivity},
    distance::squared_distance,
    holes::fill_holes,
    morphology::{BoundingBox, dilate},
    resample::cut,
    zip::zip,
};

/// Regions smaller than this part of the largest are loops of a pen.
const SMALLEST_PART: usize = 100;

/// What counts as a line and as a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OutlineOptions {
    /// Pieces of lines of fewer pixels are specks. Default 20.
    pub min_piece_px: usize,
    /// Largest radius in pixels by which lines are widened; gaps of twice as many are closed. Default 10.
    pub max_closing_px: usize,
    /// Regions of fewer pixels are part of the line. Default 20.
    pub min_region_px: usize,
}

impl Default for OutlineOptions {
    fn default() -> Self {
        Self { min_piece_px: 20, max_closing_px: 10, min_region_px: 20 }
    }
}

/// A structure within another.
#[derive(Clone, Debug, PartialEq)]
pub struct Nested {
    /// What the outer line goes around, the inner structure with it.
    pub outer: Mask,
    /// What the inner line goes around; never empty, and within `outer`.
    pub inner: Mask,
    /// Radius in pixels by which lines were widened to close gaps; 0 when there were none.
    pub closing_px: usize,
}

/// Lines that do not go around two nested structures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OutlineFault {
    /// Nothing is drawn.
    #[error("no line: {n_pixels} pixels are marked, and no piece has {min_piece_px}")]
    NoLine {
        /// Pixels that are marked.
        n_pixels: usize,
        /// Pixels of the smallest line.
        min_piece_px: usize,
    },
    /// Lines that are open, or too many.
    #[error(
        "lines enclose {n_regions} regions after they were widened by {closing_px} pixels: expected 2"
    )]
    Regions {
        /// Regions that are enclosed.
        n_regions: usize,
        /// Radius of the last widening.
        closing_px: usize,
    },
    /// Lines that touch or lie side by side.
    #[error(
        "lines touch or lie side by side: of regions of {areas:?} pixels none surrounds the other"
    )]
    NotNested {
        /// Pixels of the two regions.
        areas: [usize; 2],
    },
}

/// Finds the structures that the lines of a picture go around.
///
/// `drawn` is `[slice, row, column]` with one slice, foreground where something is drawn. Pixels of a line belong to the
/// region that is nearest, and to the inner one where two are as near.
///
/// # Errors
/// [`OutlineFault`], also for lines that the edge of the picture closes.
///
/// # Examples
/// ```
/// # use datasets::mask; use imaging::outline::{OutlineOptions, nested_outlines};
/// let options = OutlineOptions { min_piece_px: 2, min_region_px: 1, max_closing_px: 0 };
/// let drawn = mask![
///     "# # # # # # #",
///     "# . . . . . #",
///     "# . # # # . #",
///     "# . # . # . #",
///     "# . # # # . #",
///     "# . . . . . #",
///     "# # # # # # #",
/// ];
/// let found = nested_outlines(&drawn, &options)?;
/// // Corners are nearer to what lies around the line.
/// assert_eq!([found.outer.area(), found.inner.area()], [45, 5]);
/// # Ok::<(), imaging::outline::OutlineFault>(())
/// ```
pub fn nested_outlines(drawn: &Mask, options: &OutlineOptions) -> Result<Nested, OutlineFault> {
    let OutlineOptions { min_piece_px, max_closing_px, .. } = *options;
    let pieces = without_specks(drawn, min_piece_px);
    let Some(found) = BoundingBox::of(&pieces) else {
        return Err(OutlineFault::NoLine { n_pixels: drawn.area(), min_piece_px });
    };
    // Lines stay within the frame, whose first pixel is outside of every line.
    let margin = max_closing_px + 1;
    let start = found.start.map(usize::cast_signed);
    let first = [start[0], start[1] - margin.cast_signed(), start[2] - margin.cast_signed()];
    let [n_slices, n_rows, n_columns] = found.shape();
    let lines = cut(&pieces, first, [n_slices, n_rows + 2 * margin, n_columns + 2 * margin], false);
    let mut fault = OutlineFault::Regions { n_regions: 0, closing_px: 0 };
    for closing_px in 0..=max_closing_px {
        let widened = dilate(&lines, closing_px as f64, [1.0; 3]);
        match regions(&widened, options, closing_px) {
            Ok(regions) => {
                let back = |mask: &Mask| cut(mask, first.map(|at| -at), drawn.shape(), false);
                let [outer, inner] = regions.shared();
                return Ok(Nested { outer: back(&outer), inner: back(&inner), closing_px });
            }
            Err(found @ OutlineFault::NotNested { .. }) => return Err(found),
            Err(found) => fault = found,
        }
    }
    Err(fault)
}

/// The pieces of at least `min_piece_px` pixels.
fn without_specks(drawn: &Mask, min_piece_px: usize) -> Mask {
    let pieces = Components::find(drawn, Connectivity::Vertex);
    let sizes = pieces.sizes();
    pieces.labels().map(|&label| label > 0 && sizes[label as usize - 1] >= min_piece_px)
}

/// What lines divide a picture into.
struct Regions {
    outside: Mask,
    ring: Mask,
    inner: Mask,
}

/// The regions of a frame that begins outside of all lines.
fn regions(
    lines: &Mask,
    options: &OutlineOptions,
    closing_px: usize,
) -> Result<Regions, OutlineFault> {
    let all = Components::find(&lines.map(|&line| !line), Connectivity::Face);
    let enclosed: Vec<usize> = all.by_size().into_iter().filter(|&index| index > 0).collect();
    let largest = enclosed.first().map_or(0, |&index| all.sizes()[index]);
    let smallest = options.min_region_px.max(largest / SMALLEST_PART);
    let large: Vec<usize> =
        enclosed.into_iter().filter(|&index| all.sizes()[index] >= smallest).collect();
    let [first, second] = large[..] else {
        return Err(OutlineFault::Regions { n_regions: large.len(), closing_px });
    };
    let pair = [first, second].map(|index| all.mask_of(index));
    let areas = [first, second].map(|index| all.sizes()[index]);
    let surrounds = |ring: &Mask, inner: &Mask| {
        let filled = fill_holes(ring);
        filled.values().iter().zip(inner.values()).all(|(&filled, &inner)| filled || !inner)
    };
    let [first, second] = pair;
    let outside = all.mask_of(0);
    if surrounds(&first, &second) {
        Ok(Regions { outside, ring: first, inner: second })
    } else if surrounds(&second, &first) {
        Ok(Regions { outside, ring: second, inner: first })
    } else {
        Err(OutlineFault::NotNested { areas })
    }
}

impl Regions {
    /// The outer and the inner structure, with every pixel of a line given to the nearest region.
    fn shared(&self) -> [Mask; 2] {
        let distance = |mask: &Mask| squared_distance(mask, [1.0; 3]);
        let [outside, ring, inner] = [&self.outside, &self.ring, &self.inner].map(distance);
        let within = zip(&ring, &inner, |&ring, &inner| ring.min(inner));
        let without = zip(&ring, &outside, |&ring, &outside| ring.min(outside));
        [
            zip(&within, &outside, |within, outside| within <= outside),
            zip(&inner, &without, |inner, without| inner <= without),
        ]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;

    /// Centre and half axes `[row, column]` of an ellipse.
    type Ellipse = ([f64; 2], [f64; 2]);

    const DISC: Ellipse = ([60.0, 70.0], [40.0, 34.0]);
    const CUP: Ellipse = ([63.0, 66.0], [20.0, 17.0]);
    const SHAPE: [usize; 3] = [1, 120, 140];

    /// Distance from the middle in half axes; 1 on the line.
    fn level((centre, axes): Ellipse, [_, row, column]: [usize; 3]) -> f64 {
        let [down, right] = [row as f64 - centre[0], column as f64 - centre[1]];
        (down / axes[0]).hypot(right / axes[1])
    }

    fn inside(ellipse: Ellipse) -> Mask {
        Mask::from_fn(SHAPE, |place| level(ellipse, place) <= 1.0)
    }

    /// A line of about `width` pixels along an ellipse, with a gap in rows of `gap` to its left.
    fn line(ellipse: Ellipse, width: f64, gap: std::ops::Range<usize>) -> Mask {
        let ((centre, axes), half) = (ellipse, width / 2.0);
        Mask::from_fn(SHAPE, |place| {
            let is_gap = gap.contains(&place[1]) && (place[2] as f64) < centre[1];
            let off = (level(ellipse, place) - 1.0) * axes[0].min(axes[1]);
            off.abs() <= half && !is_gap
        })
    }

    fn both(left: &Mask, right: &Mask) -> Mask {
        zip(left, right, |&left, &right| left || right)
    }

    fn dice(left: &Mask, right: &Mask) -> f64 {
        let shared = zip(left, right, |&left, &right| left && right);
        2.0 * shared.area() as f64 / (left.area() + right.area()) as f64
    }

    #[test]
    fn lines_of_every_width_give_the_ellipses_that_they_were_drawn_along() {
        for width in [1.5, 2.0, 3.0, 5.0, 7.0] {
            let drawn = both(&line(DISC, width, 0..0), &line(CUP, width, 0..0));
            let found = nested_outlines(&drawn, &OutlineOptions::default()).unwrap();
            let [disc, cup] = [dice(&found.outer, &inside(DISC)), dice(&found.inner, &inside(CUP))];
            assert!(disc > 0.985 && cup > 0.97, "width {width}: {disc} {cup}");
            assert_eq!(found.closing_px, 0, "width {width}");
        }
    }

    #[test]
    fn gaps_are_closed_by_the_smallest_radius_and_specks_are_left_out() {
        let mut drawn = both(&line(DISC, 3.0, 58..64), &line(CUP, 3.0, 62..65));
        for place in [[0, 3, 4], [0, 60, 60], [0, 60, 61], [0, 110, 2]] {
            drawn.set(place, true);
        }
        let found = nested_outlines(&drawn, &OutlineOptions::default()).unwrap();
        assert!((2..=4).contains(&found.closing_px), "{}", found.closing_px);
        assert!(dice(&found.outer, &inside(DISC)) > 0.98);
        assert!(dice(&found.inner, &inside(CUP)) > 0.96);
        let narrow = OutlineOptions { max_closing_px: 1, ..OutlineOptions::default() };
        let fault = OutlineFault::Regions { n_regions: 0, closing_px: 1 };
        assert_eq!(nested_outlines(&drawn, &narrow), Err(fault));
    }

    #[test]
    fn what_is_not_nested_is_a_fault() {
        let check = |drawn: &Mask| nested_outlines(drawn, &OutlineOptions::default()).unwrap_err();
        let nothing = Mask::filled(SHAPE, false);
        assert_eq!(check(&nothing), OutlineFault::NoLine { n_pixels: 0, min_piece_px: 20 });
        let one = line(DISC, 3.0, 0..0);
        assert_eq!(check(&one), OutlineFault::Regions { n_regions: 1, closing_px: 10 });
        let touching = both(&one, &line(([60.0, 57.0], [20.0, 20.0]), 3.0, 0..0));
        assert!(matches!(check(&touching), OutlineFault::NotNested { .. }));
        let beside = both(
            &line(([30.0, 30.0], [15.0, 15.0]), 3.0, 0..0),
            &line(([80.0, 90.0], [15.0, 15.0]), 3.0, 0..0),
        );
        assert!(matches!(check(&beside), OutlineFault::NotNested { .. }));
    }

    #[test]
    fn lines_at_the_edge_of_a_picture_stay_in_it() {
        let frame = Mask::from_fn([1, 40, 40], |[_, row, column]| {
            let rim = |low: usize, high: usize| {
                let on = |at: usize| at == low || at == high;
                let of = |at: usize| (low..=high).contains(&at);
                on(row) && of(column) || on(column) && of(row)
            };
            rim(0, 39) || rim(10, 29)
        });
        let found = nested_outlines(&frame, &OutlineOptions::default()).unwrap();
        // Corners are nearer to what lies around a line.
        assert_eq!([found.outer.area(), found.inner.area()], [1600 - 4, 400 - 4]);
        assert_eq!(found.outer.shape(), [1, 40, 40]);
    }
}
