//! Medial axes of the slices of a mask: lines in its middle, connected as it is, with their distance from the background.
//!
//! Source: the ordered thinning of scikit-image (`medial_axis`): pixels are visited by their distance from the background,
//! of equals those with more neighbours first, and go where nothing falls apart and no line becomes shorter.
//! Deviation: what lies beyond the image is background; of pixels that are equal in both, the first goes first, not a random
//! one; pixels between four others stay, so that no hole can arise.
//! Randomness: none. Cost: a distance transform and a sort of the foreground.

use datasets::{Grid, Mask};

use super::redraw::plane_of;
use crate::{
    distance::{Border, squared_distance_to_background},
    zip::zip,
};

/// Steps to the eight neighbours, around.
const AROUND: [[isize; 2]; 8] =
    [[0, 1], [-1, 1], [-1, 0], [-1, -1], [0, -1], [1, -1], [1, 0], [1, 1]];

/// The medial axes of all slices of a mask, each slice by itself.
#[derive(Clone, Debug)]
pub(super) struct MedialAxis {
    /// Its pixels: at least one of every component of a slice.
    pub(super) pixels: Mask,
    /// Distance of every pixel to the background of its slice, in the unit of the spacing; finite, 0 in the background.
    pub(super) distance: Grid<f64>,
}

impl MedialAxis {
    pub(super) fn of(mask: &Mask, spacing: [f64; 3]) -> Self {
        let (mut pixels, mut distance) = (Vec::new(), Vec::new());
        for slice in 0..mask.n_slices() {
            let plane = plane_of(mask, slice);
            let squared = squared_distance_to_background(&plane, spacing, Border::Background);
            pixels.extend(thinned(plane, &squared).into_values());
            distance.extend(squared.values().iter().map(|squared| squared.sqrt()));
        }
        if mask.n_rows() * mask.n_columns() == 1 {
            // A slice of one pixel has no neighbours along any axis.
            let farthest = spacing[1].min(spacing[2]);
            distance.iter_mut().for_each(|distance| *distance = distance.min(farthest));
        }
        let grid = "as many values as the mask";
        Self {
            pixels: Grid::new(mask.shape(), pixels).expect(grid),
            distance: Grid::new(mask.shape(), distance).expect(grid),
        }
    }

    /// Twice the mean distance of the axes from the background, in the unit of the spacing; 0 for an empty mask. A line of
    /// one pixel is 2 thick, since distances are between centres.
    pub(super) fn mean_thickness(&self) -> f64 {
        let on_axis = zip(
            &self.pixels,
            &self.distance,
            |&on_axis, &distance| {
                if on_axis { distance } else { 0.0 }
            },
        );
        let n_pixels = self.pixels.area().max(1) as f64;
        2.0 * on_axis.values().iter().sum::<f64>() / n_pixels
    }
}

/// Places of the foreground in raster order.
pub(super) fn places(mask: &Mask) -> Vec<[usize; 3]> {
    let [_, n_rows, n_columns] = mask.shape();
    let inside = mask.values().iter().enumerate().filter(|(_, inside)| **inside);
    let place =
        |index: usize| [index / n_columns / n_rows, index / n_columns % n_rows, index % n_columns];
    inside.map(|(index, _)| place(index)).collect()
}

/// Removes the pixels of one slice from the outermost inwards as long as its shape stays.
fn thinned(mut plane: Mask, squared: &Grid<f64>) -> Mask {
    let n_columns = plane.n_columns();
    let inside = plane.values().iter().enumerate().filter(|(_, inside)| **inside);
    let mut order: Vec<(f64, usize, usize)> = inside
        .map(|(index, _)| {
            let around = neighbours(&plane, [index / n_columns, index % n_columns]);
            let n_missing = around.iter().filter(|inside| !**inside).count();
            (squared.values()[index], n_missing, index)
        })
        .collect();
    order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    for (.., index) in order {
        let around = neighbours(&plane, [index / n_columns, index % n_columns]);
        let n_around = around.iter().filter(|inside| **inside).count();
        if n_around >= 2 && n_parts(around) == 1 {
            plane.values_mut()[index] = false;
        }
    }
    plane
}

/// The neighbours of a pixel of a slice in the order of [`AROUND`]; beyond the image is background.
pub(super) fn neighbours(plane: &Mask, [row, column]: [usize; 2]) -> [bool; 8] {
    AROUND.map(|[down, right]| {
        let at = row.checked_add_signed(down).zip(column.checked_add_signed(right));
        at.is_some_and(|(row, column)| {
            row < plane.n_rows() && column < plane.n_columns() && plane.get([0, row, column])
        })
    })
}

/// Into how many parts the neighbours of a pixel fall without it, across edges and vertices; 0 where the four nearest are
/// all there (Hilditch's crossing number).
fn n_parts(around: [bool; 8]) -> usize {
    let begins = |nearest: &usize| {
        let at = |step: usize| around[(nearest + step) % 8];
        !at(0) && (at(1) || at(2))
    };
    [0, 2, 4, 6].iter().filter(|nearest| begins(nearest)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        components::{Components, Connectivity},
        noise::test_masks::{disc, lungs, vectors},
    };
    use datasets::mask;

    fn axis(mask: &Mask) -> MedialAxis {
        MedialAxis::of(mask, [1.0; 3])
    }

    #[test]
    fn a_bar_becomes_the_line_in_its_middle() {
        let bar = mask![
            ". . . . . . . . .",
            ". # # # # # # # .",
            ". # # # # # # # .",
            ". # # # # # # # .",
            ". . . . . . . . ."
        ];
        let found = axis(&bar);
        let middle = |column: usize| found.pixels.get([0, 2, column]);
        assert!((2..=6).all(middle), "{}", found.pixels.to_drawing());
        assert_eq!(found.distance.row(0, 2), [0.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0, 0.0]);
        let line = mask![". . . . .", ". # # # .", ". . . . ."];
        assert_eq!((axis(&line).pixels, axis(&line).mean_thickness()), (line.clone(), 2.0));
        let narrow = MedialAxis::of(&line, [1.0, 1.0, 0.25]);
        assert_eq!(narrow.distance.row(0, 1), [0.0, 0.25, 0.5, 0.25, 0.0]);
    }

    /// The axis of scikit-image differs by what it decides at random among equal pixels.
    #[test]
    fn golden_thickness_of_scikit_image() {
        let (_, masks) = vectors();
        let found = axis(&masks["clean"]);
        let theirs = MedialAxis { pixels: masks["axis"].clone(), ..found.clone() };
        let relative = found.mean_thickness() / theirs.mean_thickness();
        assert!((relative - 1.0).abs() < 0.02, "{relative}");
        let differing = zip(&found.pixels, &theirs.pixels, |a, b| a != b).area();
        assert!(differing * 10 < theirs.pixels.area(), "{differing}");
    }

    #[test]
    fn neighbours_fall_into_parts() {
        let of = |drawing: &[&str]| n_parts(neighbours(&Mask::from_drawing(drawing), [1, 1]));
        assert_eq!(of(&["# # #", ". # .", ". . ."]), 1);
        assert_eq!(of(&["# . #", ". # .", ". . ."]), 2);
        assert_eq!(of(&["# . #", ". # .", "# . #"]), 4);
        assert_eq!(of(&["# # #", "# # #", ". . ."]), 1);
        assert_eq!(of(&["# # #", "# # #", "# # #"]), 0);
        assert_eq!(of(&[". . .", ". # .", ". . ."]), 0);
    }

    /// Every component and every hole survives, and a ring stays a ring one pixel wide.
    #[test]
    fn components_and_holes_stay() {
        let disc_in = |outer, inner| {
            zip(&disc(33, [16.0; 2], outer), &disc(33, [16.0; 2], inner), |&a, &b| a && !b)
        };
        let ring = disc_in(12.0, 5.0);
        for clean in [lungs(0), lungs(3), ring, disc(9, [4.0; 2], 3.0), mask!["#"]] {
            let found = axis(&clean).pixels;
            let n_parts = |mask: &Mask, connectivity| Components::find(mask, connectivity).len();
            let inverse = |mask: &Mask| mask.map(|&inside| !inside);
            assert_eq!(
                n_parts(&found, Connectivity::Vertex),
                n_parts(&clean, Connectivity::Vertex)
            );
            assert_eq!(
                n_parts(&inverse(&found), Connectivity::Face),
                n_parts(&inverse(&clean), Connectivity::Face)
            );
            assert!(found.area() < clean.area() || clean.area() == 1);
        }
    }

    #[test]
    fn empty_and_full_masks_have_finite_axes() {
        let empty = axis(&Mask::filled([2, 5, 6], false));
        assert_eq!((empty.pixels.area(), empty.mean_thickness()), (0, 0.0));
        for shape in [[1, 1, 1], [3, 1, 1], [1, 1, 7], [2, 6, 6]] {
            let full = axis(&Mask::filled(shape, true));
            assert!(full.mean_thickness().is_finite() && full.mean_thickness() >= 2.0);
            assert!(full.pixels.area() >= shape[0]);
        }
    }
}
