//! Resampling against SimpleITK 2.5.7 and SciPy 1.17.1; `tests/python/resample_vectors.py` makes the vectors.

#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

use datasets::{Grid, Image, Mask, Stream};
use imaging::{
    ImagingError,
    resample::{Alignment, Interpolation, Resampling, resample, resample_mask, resize_nearest},
};

const SHAPE: [usize; 3] = [5, 7, 8];
const SPACING: [f64; 3] = [1.5, 0.7, 0.8];

/// Rounding of sums and of the spline's recursion in `f32`, for values up to 101.
const TOLERANCE: f32 = 2e-4;

fn volume() -> Image {
    Grid::from_fn(SHAPE, |[slice, row, column]| {
        let code = (slice * SHAPE[1] + row) * SHAPE[2] + column;
        ((code * 7919 + code * code * 31) % 101) as f32
    })
}

#[test]
fn values_equal_those_of_simpleitk_and_scipy() {
    let mut n_lines = 0;
    for line in include_str!("vectors/resample.txt").lines() {
        let (name, values) = line.split_once(": ").unwrap();
        let words: Vec<&str> = name.split_whitespace().collect();
        let [reference, interpolation, antialias, spacing @ ..] = words.as_slice() else {
            unreachable!("a line has a name of six words")
        };
        let spacing: Vec<f64> = spacing.iter().map(|word| word.parse().unwrap()).collect();
        let to = Resampling {
            spacing_mm: Some(spacing.try_into().unwrap()),
            interpolation: match *interpolation {
                "nearest" => Interpolation::Nearest,
                "linear" => Interpolation::Linear,
                _ => Interpolation::Cubic,
            },
            antialias: antialias.parse().unwrap(),
            alignment: if *reference == "itk" { Alignment::FirstVoxel } else { Alignment::Outline },
            ..Resampling::default()
        };
        let found = resample(&volume(), SPACING, &to).unwrap();
        let expected: Vec<f32> =
            values.split_whitespace().map(|word| word.parse().unwrap()).collect();
        assert_eq!(found.values().len(), expected.len(), "{name}");
        let n_known = expected.iter().filter(|value| !value.is_nan()).count();
        assert!(2 * n_known > expected.len(), "{name}");
        for (place, (found, expected)) in found.values().iter().zip(&expected).enumerate() {
            // ITK knows nothing beyond the outline.
            assert!(
                expected.is_nan() || (found - expected).abs() <= TOLERANCE,
                "{name}, {place}: {found}, {expected}"
            );
        }
        n_lines += 1;
    }
    assert_eq!(n_lines, 24);
}

#[test]
fn whole_numbers_are_taken_as_they_are() {
    let bytes = volume().map(|&value| value as u16);
    let to = Resampling { spacing_mm: Some([1.0, 0.5, 1.1]), ..Resampling::default() };
    assert_eq!(resample(&bytes, SPACING, &to), resample(&volume(), SPACING, &to));
}

#[test]
fn nothing_changes_at_the_same_spacing() {
    for interpolation in [Interpolation::Nearest, Interpolation::Linear, Interpolation::Cubic] {
        let to = Resampling { interpolation, antialias: true, ..Resampling::default() };
        let found = resample(&volume(), SPACING, &to).unwrap();
        for (found, expected) in found.values().iter().zip(volume().values()) {
            assert!((found - expected).abs() <= TOLERANCE, "{interpolation:?}");
        }
    }
}

#[test]
fn a_size_cuts_the_middle_out_and_pads_around_it() {
    let to = |size| Resampling {
        spacing_mm: Some([1.0, 0.5, 1.1]),
        size,
        fill: -7.0,
        ..Resampling::default()
    };
    let whole = resample(&volume(), SPACING, &to(None)).unwrap();
    assert_eq!(whole.shape(), [8, 10, 6]);
    let found = resample(&volume(), SPACING, &to(Some([4, 13, 6]))).unwrap();
    let expected = Grid::from_fn([4, 13, 6], |[slice, row, column]| {
        let row = row.checked_sub(2).filter(|&row| row < 10);
        row.map_or(-7.0, |row| whole.get([slice + 2, row, column]))
    });
    assert_eq!(found, expected);
}

#[test]
fn masks_follow_the_nearest_voxel_of_images() {
    let mut stream = Stream::new(8, "test.resample", &[]);
    for round in 0..60 {
        let shape = [1 + stream.below(5), 1 + stream.below(9), 1 + stream.below(9)];
        let mask = Grid::from_fn(shape, |_| stream.uniform() < 0.5);
        let to = Resampling {
            spacing_mm: Some([0, 1, 2].map(|_| stream.between(0.4, 3.0))),
            size: (round % 2 == 0).then(|| [0, 1, 2].map(|_| 1 + stream.below(12))),
            interpolation: Interpolation::Nearest,
            alignment: if round % 3 == 0 { Alignment::FirstVoxel } else { Alignment::Outline },
            ..Resampling::default()
        };
        let spacing = [1.0, 0.8, 1.3];
        let found = resample_mask(&mask, spacing, &to).unwrap();
        let numbers = mask.map(|&inside| u8::from(inside));
        let image = resample(&numbers, spacing, &to).unwrap();
        assert_eq!(found, image.map(|&value| value > 0.5), "{shape:?} {to:?}");
    }
    let mask = Mask::from_fn([1, 6, 8], |[_, row, column]| (row * column) % 3 == 1);
    let to = Resampling { spacing_mm: Some([1.0, 0.5, 2.0]), ..Resampling::default() };
    let found = resample_mask(&mask, [1.0; 3], &to);
    assert_eq!(found, resize_nearest(&mask, [1, 12, 4]));
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let image = Grid::from_fn([9, 12, 11], |[slice, row, column]| {
        ((slice * 31 + row * 17 + column * 7) % 23) as f32
    });
    for interpolation in [Interpolation::Linear, Interpolation::Cubic] {
        let to = Resampling {
            spacing_mm: Some([0.7, 1.3, 0.9]),
            interpolation,
            antialias: true,
            ..Resampling::default()
        };
        let at = |n_threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
            pool.install(|| resample(&image, [1.0; 3], &to).unwrap())
        };
        let once = at(1);
        assert!([2, 3, 8].into_iter().all(|n_threads| at(n_threads) == once));
    }
}

#[test]
fn degenerate_inputs_are_defined_or_refused() {
    let point = Grid::filled([1, 1, 1], 3.0_f32);
    let to = Resampling {
        spacing_mm: Some([0.1; 3]),
        size: Some([1, 3, 1]),
        interpolation: Interpolation::Cubic,
        antialias: true,
        ..Resampling::default()
    };
    assert_eq!(resample(&point, [1.0; 3], &to).unwrap().values(), [0.0, 3.0, 0.0]);
    assert_eq!(to.spacing([1, 1, 1], [1.0; 3]), [1.0; 3]);
    let coarse = Resampling { spacing_mm: Some([1.0, 1.0, 100.0]), ..Resampling::default() };
    assert_eq!(resample(&volume(), SPACING, &coarse).unwrap().shape(), [8, 5, 1]);
    let wrong = Resampling { spacing_mm: Some([1.0, 0.0, 1.0]), ..Resampling::default() };
    let error = resample(&point, [1.0; 3], &wrong).unwrap_err();
    assert!(matches!(error, ImagingError::SpacingNotPositive { .. }));
    let fine = Resampling { spacing_mm: Some([1e-9; 3]), ..Resampling::default() };
    let error = resample(&volume(), SPACING, &fine).unwrap_err();
    assert!(matches!(error, ImagingError::BadResampling { .. }));
    let none = Resampling { size: Some([1, 0, 1]), ..Resampling::default() };
    assert!(matches!(none.check(), Err(ImagingError::BadResampling { .. })));
    let empty = Grid::<f32>::filled([0, 2, 2], 0.0);
    let error = resample(&empty, [1.0; 3], &Resampling::default()).unwrap_err();
    assert!(matches!(error, ImagingError::BadResampling { .. }));
    let endless = Resampling { fill: f32::NAN, ..Resampling::default() };
    assert!(matches!(endless.check(), Err(ImagingError::OptionOutOfRange { .. })));
}
