//! Surfaces, Euclidean erosion and dilation, and bounding boxes of masks.
//!
//! Randomness: none. Cost: one pass over the mask; a ball of 10 pixels takes a 2048 x 2048 mask about a millisecond, one of
//! very many voxels a distance transform.

use datasets::{Grid, Mask};

use crate::{
    bits::{Ball, BitMask},
    distance::{Border, squared_distance, squared_distance_to_background},
    zip::zip,
};

/// Foreground voxels with a face neighbour in the background: the mask without its erosion (connectivity 1).
///
/// What lies outside the image counts as background, so foreground on the border is surface, as in medPy and
/// MONAI. Axes of length 1 have no neighbours. An empty mask has an empty surface.
///
/// # Examples
/// ```
/// # use datasets::mask;
/// let surface = imaging::morphology::surface(&mask!["# # #", "# # #", "# # #"]);
/// assert_eq!(surface, mask!["# # #", "# . #", "# # #"]);
/// ```
pub fn surface(mask: &Mask) -> Mask {
    surface_along(mask, extended_axes(mask.shape()))
}

/// The axes along which voxels have neighbours: those longer than 1, or all of them for a single voxel.
pub(crate) fn extended_axes(shape: [usize; 3]) -> [bool; 3] {
    let extended = shape.map(|length| length > 1);
    if extended.contains(&true) { extended } else { [true; 3] }
}

/// As [`surface`], with neighbours along the chosen axes only; the edges of `mask` are surface along each of them.
pub(crate) fn surface_along(mask: &Mask, axes: [bool; 3]) -> Mask {
    let shape = mask.shape();
    let values = mask.values();
    let mut interior = values.to_vec();
    for (axis, stride) in [shape[1] * shape[2], shape[2]].into_iter().enumerate() {
        if axes[axis] {
            keep_between_neighbours(&mut interior, values, stride, shape[axis]);
        }
    }
    if axes[2] && shape[2] > 0 {
        for (inside, line) in interior.chunks_exact_mut(shape[2]).zip(values.chunks_exact(shape[2]))
        {
            for (inside, triple) in inside[1..].iter_mut().zip(line.windows(3)) {
                *inside &= triple[0] & triple[2];
            }
            inside[0] = false;
            inside[shape[2] - 1] = false;
        }
    }
    for (inside, &value) in interior.iter_mut().zip(values) {
        *inside = value & !*inside;
    }
    Grid::new(shape, interior).expect("as many values as the mask")
}

/// Clears what lacks a foreground neighbour on either side along the axis with this stride and length.
fn keep_between_neighbours(interior: &mut [bool], values: &[bool], stride: usize, length: usize) {
    for (line, inside) in interior.chunks_exact_mut(stride.max(1)).enumerate() {
        let place = line % length;
        if place == 0 || place + 1 == length {
            inside.fill(false);
            continue;
        }
        let start = line * stride;
        let before = &values[start - stride..start];
        let after = &values[start + stride..start + 2 * stride];
        for ((inside, &before), &after) in inside.iter_mut().zip(before).zip(after) {
            *inside &= before & after;
        }
    }
}

/// Rows of a ball above which a distance transform is faster: its cost does not depend on the radius.
const MOST_ROWS: usize = 3000;

/// Every voxel within `radius` of the foreground, in the unit of `spacing`; an empty mask stays empty.
pub fn dilate(mask: &Mask, radius: f64, spacing: [f64; 3]) -> Mask {
    match Ball::new(radius, spacing, mask.shape(), MOST_ROWS) {
        Some(ball) => BitMask::of(mask).dilated(&ball).to_mask(),
        None => squared_distance(mask, spacing).map(|&squared| squared.sqrt() <= radius),
    }
}

/// Foreground voxels farther than `radius` from the background, in the unit of `spacing`; the result may be empty.
pub fn erode(mask: &Mask, radius: f64, spacing: [f64; 3], border: Border) -> Mask {
    let Some(ball) = Ball::new(radius, spacing, mask.shape(), MOST_ROWS) else {
        let field = squared_distance_to_background(mask, spacing, border);
        return zip(&field, mask, |&squared, &inside| inside && squared.sqrt() > radius);
    };
    let mut eroded = BitMask::of(mask).eroded(&ball);
    if border == Border::Background {
        eroded.clear_rim(radius, spacing);
    }
    eroded.to_mask()
}

/// The smallest box around something, as half-open ranges `start..end` for each of `[slice, row, column]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoundingBox {
    /// First voxel along each axis.
    pub start: [usize; 3],
    /// One past the last voxel along each axis.
    pub end: [usize; 3],
}

impl BoundingBox {
    /// Box around the foreground; `None` for an empty mask.
    pub fn of(mask: &Mask) -> Option<Self> {
        let [n_slices, n_rows, n_columns] = mask.shape();
        let mut found: Option<Self> = None;
        for slice in 0..n_slices {
            for row in 0..n_rows {
                let line = mask.row(slice, row);
                if !is_any(line) {
                    continue;
                }
                let first = line.iter().position(|&inside| inside).unwrap_or(n_columns);
                let last = line.iter().rposition(|&inside| inside).unwrap_or(first);
                let here = Self { start: [slice, row, first], end: [slice + 1, row + 1, last + 1] };
                found = Some(found.map_or(here, |found| found.union(&here)));
            }
        }
        found
    }

    /// Smallest box around both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self {
            start: [0, 1, 2].map(|axis| self.start[axis].min(other.start[axis])),
            end: [0, 1, 2].map(|axis| self.end[axis].max(other.end[axis])),
        }
    }

    /// Number of voxels along `[slice, row, column]`.
    pub fn shape(&self) -> [usize; 3] {
        [0, 1, 2].map(|axis| self.end[axis] - self.start[axis])
    }

    /// The part of `mask` inside the box.
    ///
    /// # Panics
    /// When the box reaches outside the mask.
    pub fn crop(&self, mask: &Mask) -> Mask {
        let mut values = Vec::with_capacity(self.shape().iter().product());
        for slice in self.start[0]..self.end[0] {
            for row in self.start[1]..self.end[1] {
                values.extend_from_slice(&mask.row(slice, row)[self.start[2]..self.end[2]]);
            }
        }
        Grid::new(self.shape(), values).expect("as many values as the box")
    }
}

/// Whether a voxel of a line is set; whole blocks are looked at together.
fn is_any(line: &[bool]) -> bool {
    let (blocks, rest) = line.as_chunks::<64>();
    let any = |voxels: &[bool]| voxels.iter().fold(false, |any, &inside| any | inside);
    blocks.iter().any(|block| any(block)) || any(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use datasets::mask;

    #[test]
    fn surface_keeps_the_rim_and_the_border() {
        let mask = mask!["# # # # .", "# # # # .", "# # # # .", ". # . . ."];
        assert_eq!(surface(&mask), mask!["# # # # .", "# . . # .", "# . # # .", ". # . . ."]);
        assert_eq!(surface(&mask!["# # #"]), mask!["# . #"]);
        assert!(surface(&mask![". ."]).is_empty());
        assert_eq!(surface(&mask!["#"]), mask!["#"]);
        assert_eq!(surface_along(&mask!["# # #"], [false, true, true]), mask!["# # #"]);
    }

    #[test]
    fn surface_of_a_cube_is_its_shell() {
        let cube =
            Mask::from_fn([5, 5, 5], |place| place.iter().all(|&axis| (1..4).contains(&axis)));
        assert_eq!(surface(&cube).area(), 26);
        assert_eq!(surface(&Mask::filled([3, 3, 3], true)).area(), 26);
    }

    #[test]
    fn radius_is_euclidean_and_in_the_unit_of_the_spacing() {
        let dot = mask![". . . . .", ". . # . .", ". . . . ."];
        assert_eq!(dilate(&dot, 1.0, [1.0; 3]), mask![". . # . .", ". # # # .", ". . # . ."]);
        assert_eq!(
            dilate(&dot, 1.0, [1.0, 1.0, 0.5]),
            mask![". . # . .", "# # # # #", ". . # . ."]
        );
        let square = mask![". . . . .", ". # # # .", ". # # # .", ". # # # .", ". . . . ."];
        assert_eq!(erode(&square, 1.0, [1.0; 3], Border::Unknown).area(), 1);
        assert!(erode(&square, 2.0, [1.0; 3], Border::Unknown).is_empty());
        let full = mask!["# # #", "# # #", "# # #"];
        assert_eq!(erode(&full, 1.0, [1.0; 3], Border::Unknown), full);
        assert_eq!(erode(&full, 1.0, [1.0; 3], Border::Background).area(), 1);
    }

    #[test]
    fn boxes_are_tight() {
        let mask = mask![". . . .", ". # . .", ". . # ."];
        let found = BoundingBox::of(&mask).expect("the mask is not empty");
        assert_eq!(found, BoundingBox { start: [0, 1, 1], end: [1, 3, 3] });
        assert_eq!(found.crop(&mask), mask!["# .", ". #"]);
        assert_eq!(BoundingBox::of(&mask![". ."]), None);
    }
}
