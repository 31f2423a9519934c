//! Holes of a mask: background that no path of faces joins with the edge of the volume.
//!
//! Source: the rule of SciPy's `binary_fill_holes` and ITK's `BinaryFillhole`. Randomness: none. Cost: the components of
//! the background in the box around the foreground.

use datasets::{Grid, Mask};

use crate::{
    components::{Components, Connectivity},
    morphology::BoundingBox,
};

/// The mask with its holes filled; a hole in a 2-D mask is closed in its plane.
///
/// # Examples
/// ```
/// # use datasets::mask;
/// let filled = imaging::holes::fill_holes(&mask!["# # #", "# . #", "# # #"]);
/// assert_eq!(filled, mask!["# # #", "# # #", "# # #"]);
/// ```
pub fn fill_holes(mask: &Mask) -> Mask {
    let Some(found) = BoundingBox::of(mask) else { return mask.clone() };
    let shape = mask.shape();
    // A rim of background around the box joins everything that is not a hole, except along an axis of length 1.
    let rim = shape.map(|length| usize::from(length > 1));
    let inner = found.shape();
    let outer = [0, 1, 2].map(|axis| inner[axis] + 2 * rim[axis]);
    let is_inner = |place: [usize; 3]| {
        (0..3).all(|axis| (rim[axis]..inner[axis] + rim[axis]).contains(&place[axis]))
    };
    let outside = Grid::from_fn(outer, |place| {
        let at = [0, 1, 2].map(|axis| (place[axis] + found.start[axis]).wrapping_sub(rim[axis]));
        !(is_inner(place) && mask.get(at))
    });
    let components = Components::find(&outside, Connectivity::Face);
    let mut filled = mask.clone();
    if components.len() < 2 {
        return filled;
    }
    // The first component in raster order holds the rim.
    for (index, &label) in components.labels().values().iter().enumerate() {
        if label > 1 {
            let place =
                [index / (outer[1] * outer[2]), index / outer[2] % outer[1], index % outer[2]];
            let at = [0, 1, 2].map(|axis| place[axis] + found.start[axis] - rim[axis]);
            filled.set(at, true);
        }
    }
    filled
}

#[cfg(test)]
mod tests {
    use datasets::mask;

    use super::*;

    #[test]
    fn only_what_is_enclosed_is_filled() {
        let open = mask!["# # # .", "# . # #", "# . . #", "# # # #"];
        assert_eq!(fill_holes(&open), mask!["# # # .", "# # # #", "# # # #", "# # # #"]);
        let bay = mask!["# # #", "# . .", "# # #"];
        assert_eq!(fill_holes(&bay), bay);
        assert!(fill_holes(&mask![". .", ". ."]).is_empty());
    }

    #[test]
    fn a_tube_is_open_at_its_ends() {
        let wall =
            |[_, row, column]: [usize; 3]| !(row == 2 && column == 2) && row < 5 && column < 5;
        let tube = Mask::from_fn([4, 6, 6], wall);
        assert_eq!(fill_holes(&tube), tube);
        let closed = Mask::from_fn([4, 6, 6], |place| {
            wall(place) || (place[0] % 3 == 0 && place[1] < 5 && place[2] < 5)
        });
        assert_eq!(fill_holes(&closed).area(), closed.area() + 2);
    }
}
