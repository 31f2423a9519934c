//! Where the voxels of a grid lie in the world, and how the voxels of one grid lie in another.

use crate::Spacing;

/// What the millimetres of an affine are those of, as the codes of NIfTI tell it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Space {
    /// The scanner (code 1): all that DICOM, NRRD and MetaImage place.
    Scanner,
    /// Another file (2), and all of which nothing else is known.
    #[default]
    Aligned,
    /// The atlas of Talairach and Tournoux (3).
    Talairach,
    /// The template MNI 152 (4).
    Mni,
    /// Another template (5).
    Template,
}

impl Space {
    /// All spaces in the order of their codes, from 1.
    pub const ALL: [Self; 5] =
        [Self::Scanner, Self::Aligned, Self::Talairach, Self::Mni, Self::Template];

    /// The word that shards use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scanner => "scanner",
            Self::Aligned => "aligned",
            Self::Talairach => "talairach",
            Self::Mni => "mni",
            Self::Template => "template",
        }
    }

    /// Its code in NIfTI, `NIFTI_XFORM_*`.
    pub fn code(self) -> i16 {
        match self {
            Self::Scanner => 1,
            Self::Aligned => 2,
            Self::Talairach => 3,
            Self::Mni => 4,
            Self::Template => 5,
        }
    }

    /// The space of a code; one that stands for none is [`Space::Aligned`].
    pub fn of_code(code: i32) -> Self {
        Self::ALL.into_iter().find(|space| i32::from(space.code()) == code).unwrap_or_default()
    }
}

/// Where voxels are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// Three rows that take `(column, row, slice, 1)` to millimetres `[x, y, z]` from left to right, back to front and foot
    /// to head of the patient (RAS+, the convention of NIfTI).
    pub rows: [[f64; 4]; 3],
    /// Whose millimetres they are; grids are compared whatever they say here.
    pub space: Space,
}

impl From<[[f64; 4]; 3]> for Affine {
    /// An affine of which no more is known than its numbers.
    fn from(rows: [[f64; 4]; 3]) -> Self {
        Self { rows, space: Space::default() }
    }
}

/// Share of the smallest distance between voxels by which two grids may be apart and still be the same: files round
/// their numbers to 4 bytes.
const SAME_SHARE: f64 = 0.01;

/// Least determinant of three axes of length 1 that can be told from axes in a plane.
const MIN_SOLIDITY: f64 = 1e-9;

/// The affine of a grid of which only the spacing is known: the first voxel at the origin, columns, rows and slices along
/// the axes of the world.
pub fn of_spacing(spacing: Spacing) -> Affine {
    let [slice, row, column] = spacing.millimetres();
    [[column, 0.0, 0.0, 0.0], [0.0, row, 0.0, 0.0], [0.0, 0.0, slice, 0.0]].into()
}

/// Place of a voxel `[slice, row, column]`, or of one between voxels, in millimetres `[x, y, z]`.
pub fn place(affine: &Affine, [slice, row, column]: [f64; 3]) -> [f64; 3] {
    affine.rows.map(|[by_column, by_row, by_slice, offset]| {
        by_column * column + by_row * row + by_slice * slice + offset
    })
}

/// The affine of a grid whose voxel `[0, 0, 0]` lies at `first` in the old grid and whose neighbours lie `step` old voxels
/// apart; both as `[slice, row, column]`. The space stays.
pub fn regridded(affine: &Affine, first: [f64; 3], step: [f64; 3]) -> Affine {
    let origin = place(affine, first);
    let [slice, row, column] = step;
    let rows = [0, 1, 2].map(|world| {
        let [by_column, by_row, by_slice, _] = affine.rows[world];
        [by_column * column, by_row * row, by_slice * slice, origin[world]]
    });
    Affine { rows, space: affine.space }
}

/// Whether no corner of a grid of `shape` is further than a hundredth of a voxel from one place by the other.
pub fn are_same(a: &Affine, b: &Affine, shape: [usize; 3]) -> bool {
    let lengths = steps(a).into_iter().filter(|&length| length > 0.0);
    let tolerance = SAME_SHARE * lengths.fold(f64::INFINITY, f64::min);
    (0..8).all(|corner| {
        let end = |axis: usize| {
            if corner >> axis & 1 == 1 { shape[axis].saturating_sub(1) as f64 } else { 0.0 }
        };
        let corner = [end(0), end(1), end(2)];
        let [a, b] = [a, b].map(|affine| place(affine, corner));
        a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance)
    })
}

/// Lengths of the columns of an affine as `[slice, row, column]`: the distances between voxels.
pub(crate) fn steps(affine: &Affine) -> [f64; 3] {
    [2, 1, 0].map(|axis| affine.rows.iter().map(|row| row[axis].powi(2)).sum::<f64>().sqrt())
}

/// Takes the voxels of one grid to places in another, in voxels of that; both as `[slice, row, column]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VoxelMap {
    by_axis: [[f64; 3]; 3],
    origin: [f64; 3],
}

impl VoxelMap {
    /// The map from the grid of `from` into that of `to`; `None` when the axes of `to` lie in a plane.
    pub fn between(from: &Affine, to: &Affine) -> Option<Self> {
        let inverse = inverted(axes(to))?;
        let into = |vector: [f64; 3]| inverse.map(|row| dot(row, vector));
        let offset = |affine: &Affine| affine.rows.map(|row| row[3]);
        let (start, end) = (offset(from), offset(to));
        let origin = into([0, 1, 2].map(|world| start[world] - end[world]));
        Some(Self { by_axis: axes(from).map(into), origin })
    }

    /// The place of a voxel in the other grid.
    pub fn at(&self, voxel: [usize; 3]) -> [f64; 3] {
        let voxel = voxel.map(|index| index as f64);
        [0, 1, 2].map(|to| {
            let along = (0..3).map(|from| self.by_axis[from][to] * voxel[from]);
            self.origin[to] + along.sum::<f64>()
        })
    }
}

/// How far three axes are from a plane: the determinant of their directions, 1 where they are upright on each other.
fn solidity(axes: [[f64; 3]; 3]) -> f64 {
    let [a, b, c] = axes.map(|axis| unit(axis).unwrap_or_default());
    dot(a, cross(b, c))
}

/// The same of the columns, rows and slices of an affine; of axes of length 0 the sign is of no meaning.
pub(crate) fn solidity_of(affine: &Affine) -> f64 {
    let [slice, row, column] = axes(affine);
    solidity([column, row, slice])
}

/// The steps to the next slice, row and column in the world; an axis of length 0, which only one voxel can have, stands
/// upright on the others and is 1 mm long.
fn axes(affine: &Affine) -> [[f64; 3]; 3] {
    let mut axes = [2, 1, 0].map(|axis| affine.rows.map(|row| row[axis]));
    for axis in 0..3 {
        if axes[axis] == [0.0; 3] {
            axes[axis] = upright(&axes);
        }
    }
    axes
}

/// A vector of length 1 that is upright on all that are not 0: what is left of that axis of the world of which most is.
fn upright(vectors: &[[f64; 3]; 3]) -> [f64; 3] {
    let mut base: Vec<[f64; 3]> = Vec::new();
    for &vector in vectors {
        let rest = without(vector, &base);
        base.extend(unit(rest));
    }
    let left = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]].map(|axis| without(axis, &base));
    let longest = left.into_iter().max_by(|a, b| dot(*a, *a).total_cmp(&dot(*b, *b)));
    longest.and_then(unit).unwrap_or_default()
}

/// What is left of a vector without its parts along those of `base`, which are upright on each other.
fn without(vector: [f64; 3], base: &[[f64; 3]]) -> [f64; 3] {
    base.iter().fold(vector, |rest, axis| {
        let share = dot(rest, *axis);
        [0, 1, 2].map(|world| rest[world] - share * axis[world])
    })
}

fn unit(vector: [f64; 3]) -> Option<[f64; 3]> {
    let length = dot(vector, vector).sqrt();
    (length > 0.0).then(|| vector.map(|part| part / length))
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

/// Rows that take a vector of the world to its shares along three axes.
fn inverted([a, b, c]: [[f64; 3]; 3]) -> Option<[[f64; 3]; 3]> {
    let determinant = dot(a, cross(b, c));
    (determinant.is_finite() && solidity([a, b, c]).abs() > MIN_SOLIDITY)
        .then(|| [cross(b, c), cross(c, a), cross(a, b)].map(|row| row.map(|v| v / determinant)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;

    /// Axes that are turned, of different lengths and left-handed.
    const OBLIQUE: Affine = Affine {
        rows: [[-0.6, 0.48, 0.5, 12.0], [0.8, 0.36, -0.2, -7.5], [0.05, -0.64, 2.4, 30.0]],
        space: Space::Mni,
    };

    fn assert_near(found: [f64; 3], expected: [f64; 3]) {
        let near = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9);
        assert!(near, "{found:?}: expected {expected:?}");
    }

    #[test]
    fn spaces_have_the_codes_of_nifti() {
        for (space, code) in Space::ALL.into_iter().zip(1..) {
            assert_eq!((Space::of_code(code), i32::from(space.code())), (space, code));
        }
        assert!([-1, 0, 6].into_iter().all(|code| Space::of_code(code) == Space::Aligned));
    }

    #[test]
    fn a_spacing_alone_lies_along_the_world() {
        let affine = of_spacing(Spacing::new([3.0, 2.0, 0.5]).unwrap());
        assert_eq!(place(&affine, [1.0, 2.0, 4.0]), [2.0, 4.0, 3.0]);
        assert_eq!(steps(&affine), [3.0, 2.0, 0.5]);
    }

    #[test]
    fn a_map_gives_back_what_a_new_grid_was_made_with() {
        let (first, step) = ([1.5, -2.0, 0.25], [0.5, 3.0, 1.25]);
        let finer = regridded(&OBLIQUE, first, step);
        assert_eq!(finer.space, Space::Mni);
        let map = VoxelMap::between(&finer, &OBLIQUE).unwrap();
        for voxel in [[0, 0, 0], [4, 0, 0], [0, 3, 0], [0, 0, 7], [5, 9, 2]] {
            let expected = [0, 1, 2].map(|axis| first[axis] + step[axis] * voxel[axis] as f64);
            assert_near(map.at(voxel), expected);
            let there = place(&OBLIQUE, expected);
            assert_near(place(&finer, voxel.map(|index| index as f64)), there);
        }
        let back = VoxelMap::between(&OBLIQUE, &finer).unwrap();
        assert_near(back.at([2, 1, 4]), [1.0, 1.0, 3.0]);
    }

    #[test]
    fn grids_are_the_same_to_a_hundredth_of_a_voxel_at_every_corner() {
        let rounded = OBLIQUE.rows.map(|row| row.map(|value| f64::from(value as f32))).into();
        assert!(are_same(&OBLIQUE, &rounded, [160, 512, 512]));
        let mut turned = OBLIQUE;
        turned.rows[0][1] += 1e-3;
        assert!(are_same(&OBLIQUE, &turned, [9, 9, 9]));
        assert!(!are_same(&OBLIQUE, &turned, [9, 99, 9]));
        assert!(!are_same(&OBLIQUE, &regridded(&OBLIQUE, [0.0, 0.0, 0.5], [1.0; 3]), [1, 1, 1]));
    }

    #[test]
    fn an_axis_of_one_voxel_may_have_no_length_and_axes_in_a_plane_have_no_inverse() {
        let flat = [[2.0, 0.0, 0.0, 1.0], [0.0, 2.0, 0.0, 1.0], [0.0, 0.0, 0.0, 5.0]].into();
        let map = VoxelMap::between(&flat, &flat).unwrap();
        assert_near(map.at([0, 3, 4]), [0.0, 3.0, 4.0]);
        let line = [[0.0, 0.0, 0.3, 1.0], [0.0, 0.0, 0.4, 1.0], [0.0, 0.0, 0.0, 5.0]].into();
        assert_near(VoxelMap::between(&line, &line).unwrap().at([7, 0, 0]), [7.0, 0.0, 0.0]);
        let plane = [[1.0, 2.0, 0.0, 0.0], [1.0, 2.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]].into();
        assert_eq!(VoxelMap::between(&flat, &plane), None);
        assert!((solidity_of(&line).abs() - 1.0).abs() < 1e-12 && solidity_of(&plane) == 0.0);
    }
}
