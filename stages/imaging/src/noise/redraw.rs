//! What simulators share that draw the outline of every component anew, slice by slice.

use datasets::Mask;

use crate::{
    components::{Components, Connectivity},
    contour::{Contour, Point},
    polygon::add_polygon,
};

/// Draws every part of every slice as the polygon that `line` makes of its outer contour, so that holes are lost; with
/// several slices a majority over three neighbouring ones smooths the result.
///
/// `line` is given the number of the component that the part belongs to in the whole volume, and the contour. Parts for
/// which it makes none, and those of fewer pixels than `smallest_px`, are copied.
pub(super) fn redraw(
    mask: &Mask,
    smallest_px: usize,
    mut line: impl FnMut(usize, &Contour) -> Option<Vec<Point>>,
) -> Mask {
    let volume = Components::find(mask, Connectivity::Vertex);
    let mut drawn = Mask::filled(mask.shape(), false);
    for slice in 0..mask.n_slices() {
        let plane = plane_of(mask, slice);
        let parts = Components::find(&plane, Connectivity::Edge);
        for (part, [_, row, column]) in parts.first_voxels().into_iter().enumerate() {
            let component = volume.at([slice, row, column]).expect("a pixel of the mask");
            let is_small = parts.sizes()[part] < smallest_px;
            let mut line = || line(component, &Contour::trace(&plane, 0, [row, column]));
            match (!is_small).then(&mut line).flatten() {
                Some(points) => add_polygon(&mut drawn, slice, &points),
                None => copy_part(&mut drawn, slice, &parts, part),
            }
        }
    }
    if mask.n_slices() > 1 { smooth_slices(&drawn) } else { drawn }
}

/// One slice as a mask of its own.
pub(super) fn plane_of(mask: &Mask, slice: usize) -> Mask {
    let [_, n_rows, n_columns] = mask.shape();
    let size = n_rows * n_columns;
    let values = mask.values()[slice * size..(slice + 1) * size].to_vec();
    Mask::new([1, n_rows, n_columns], values).expect("as many values as a slice")
}

/// The middle of the box around points.
pub(super) fn middle_of(points: &[Point]) -> Point {
    [0, 1].map(|axis: usize| {
        let places = points.iter().map(|point| point[axis]);
        let low = places.clone().fold(f64::INFINITY, f64::min);
        0.5 * (low + places.fold(f64::NEG_INFINITY, f64::max))
    })
}

/// Adds a component to a slice as it is.
fn copy_part(drawn: &mut Mask, slice: usize, parts: &Components, part: usize) {
    let start = drawn.index([slice, 0, 0]);
    for pixels in parts.ranges(part) {
        drawn.values_mut()[start..][pixels].fill(true);
    }
}

/// Majority of each voxel and its neighbours in the slices before and after; the outer slices count twice at the ends.
fn smooth_slices(mask: &Mask) -> Mask {
    let last = mask.n_slices() - 1;
    let size = mask.n_rows() * mask.n_columns();
    let plane = |slice: usize| &mask.values()[slice * size..(slice + 1) * size];
    let mut values = Vec::with_capacity(mask.values().len());
    for slice in 0..=last {
        let (before, here, after) =
            (plane(slice.saturating_sub(1)), plane(slice), plane((slice + 1).min(last)));
        for ((&before, &here), &after) in before.iter().zip(here).zip(after) {
            values.push(before & here | here & after | before & after);
        }
    }
    Mask::new(mask.shape(), values).expect("as many values as the mask")
}
