//! Regions, recursive Gaussians and vesselness against SimpleITK 2.5.3; `tests/python/region_vectors.py` makes the vectors.

#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

#[path = "../../../tests/shared/published.rs"]
mod published;

use std::collections::BTreeMap;

use datasets::{Grid, Image, Mask, volume::read_volume};
use imaging::{
    components::Connectivity,
    grey::median,
    holes::fill_holes,
    recursive::{Order, derive, smooth},
    region::{
        Bounds, Confidence, confidence_connected, connected_threshold, neighbourhood_connected,
    },
    scores::{EmptyPolicy, Overlap},
    sources::{Edge, Grower, Guard, Maps, Statistic},
    vesselness::{Structureness, Vesselness, vesselness},
};
use published::published;

const SHAPE: [usize; 3] = [7, 9, 12];
const SPACING: [f64; 3] = [1.4, 0.7, 0.7];
const SEED: [usize; 3] = [3, 4, 6];

/// Rounding of the recursion in `f32`, relative to values of about 60.
const GAUSSIAN_TOLERANCE: f32 = 1e-4;

/// Rounding of second differences of the smoothed image and of eigenvalues in `f32`, for values in [0, 1].
const VESSEL_TOLERANCE: f32 = 5e-4;

fn vectors() -> BTreeMap<String, String> {
    let text = include_str!("vectors/regions.txt");
    let pair =
        |line: &str| line.split_once(": ").map(|(name, rest)| (name.to_owned(), rest.to_owned()));
    text.lines().filter_map(pair).collect()
}

/// The values of every vector whose name begins with `kind`, with the numbers and words of its name.
fn each(kind: &str) -> Vec<(Vec<String>, String)> {
    let found: Vec<_> = vectors()
        .into_iter()
        .filter_map(|(name, rest)| {
            let words = name.strip_prefix(kind)?.split_whitespace().map(str::to_owned).collect();
            Some((words, rest))
        })
        .collect();
    assert!(!found.is_empty(), "no vector `{kind}`");
    found
}

fn number(word: &str) -> f64 {
    word.parse().unwrap()
}

fn whole(word: &str) -> usize {
    word.parse().unwrap()
}

fn volume() -> Image {
    Grid::from_fn(SHAPE, |[z, y, x]| {
        let code = (z * SHAPE[1] + y) * SHAPE[2] + x;
        let grain = (code * 7919 + code * code * 31) % 101;
        let off = |place: usize, centre: usize| (place as i64 - centre as i64).pow(2);
        let near = 900 - 40 * off(z, 3) - 30 * off(y, 4) - 12 * off(x, 6);
        (near + 3 * grain as i64) as f32 / 16.0
    })
}

fn mask(drawn: &str) -> Mask {
    Grid::new(SHAPE, drawn.chars().map(|c| c == '#').collect()).unwrap()
}

fn assert_near(found: &Image, expected: &str, tolerance: f32, what: &str) {
    let expected: Vec<f32> = expected.split(' ').map(|word| word.parse().unwrap()).collect();
    let errors = found.values().iter().zip(&expected).map(|(a, b)| (a - b).abs());
    let worst = errors.enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    assert!(
        worst.1 <= tolerance,
        "{what}: {worst:?} {} {}",
        found.values()[worst.0],
        expected[worst.0]
    );
}

#[test]
fn thresholds_grow_the_same_regions() {
    for (words, drawn) in each("connected ") {
        let connectivity =
            if words[1] == "full" { Connectivity::Vertex } else { Connectivity::Face };
        let bounds = Bounds { lower: number(&words[0]) as f32, upper: 1e9 };
        let found = connected_threshold(&volume(), &[SEED], bounds, connectivity).unwrap();
        assert_eq!(found.mask(), &mask(&drawn), "{words:?}");
    }
}

#[test]
fn neighbourhoods_grow_the_same_regions() {
    for (words, drawn) in each("neighbourhood ") {
        let bounds = Bounds { lower: number(&words[0]) as f32, upper: 1e9 };
        let radius = [1, 2, 3].map(|word| whole(&words[word]));
        let found = neighbourhood_connected(&volume(), &[SEED], bounds, radius).unwrap();
        assert_eq!(found.mask(), &mask(&drawn), "{words:?}");
    }
}

#[test]
fn confidence_grows_the_same_regions() {
    for (words, drawn) in each("confidence ") {
        let settings = Confidence {
            multiplier: number(&words[0]),
            n_iterations: whole(&words[1]),
            seed_radius: whole(&words[2]),
        };
        let seeds = if settings.seed_radius == 0 { vec![SEED, [3, 4, 5]] } else { vec![SEED] };
        let found = confidence_connected(&volume(), &seeds, settings).unwrap();
        assert_eq!(found.region.mask(), &mask(&drawn), "{words:?}");
    }
}

#[test]
fn gaussians_have_the_same_values() {
    for (words, expected) in each("smooth ") {
        let mut image = volume();
        smooth(&mut image, number(&words[0]), SPACING).unwrap();
        assert_near(&image, &expected, GAUSSIAN_TOLERANCE, &format!("{words:?}"));
    }
    for (words, expected) in each("derivative ") {
        let mut image = volume();
        let order = if words[1] == "1" { Order::First } else { Order::Second };
        let (axis, power) = (whole(&words[2]), whole(&words[1]) as i32);
        derive(&mut image, axis, order, number(&words[0]), SPACING).unwrap();
        // ITK multiplies derivatives per voxel by the scale in millimetres.
        let image = image.map(|&value| value * SPACING[axis].powi(power) as f32);
        assert_near(&image, &expected, GAUSSIAN_TOLERANCE, &format!("{words:?}"));
    }
}

#[test]
fn vesselness_has_the_same_values() {
    let everywhere = Mask::filled(SHAPE, true);
    for (words, expected) in each("vessel ") {
        let settings = Vesselness {
            sigmas_mm: vec![number(&words[0])],
            structureness: Structureness::Fixed(number(&words[1])),
            ..Vesselness::default()
        };
        let found = vesselness(&volume(), &everywhere, SPACING, &settings).unwrap();
        assert_near(&found, &expected, VESSEL_TOLERANCE, &format!("{words:?}"));
    }
}

#[test]
fn medians_and_holes_are_the_same() {
    for (words, expected) in each("median ") {
        let radius = [0, 1, 2].map(|word| whole(&words[word]));
        assert_near(&median(&volume(), radius), &expected, 0.0, "median");
    }
    for (words, drawn) in each("fill ") {
        let above = volume().map(|&value| f64::from(value) > number(&words[0]));
        assert_eq!(fill_holes(&above), mask(&drawn));
    }
}

/// A breast scan with a tumour at this seed; `None`, and a word, where the files are not at hand.
fn breast() -> Option<(Image, Mask)> {
    let folder = published("pyradiomics_volumes")?;
    let image = read_volume(&folder.join("breast1_image.nrrd")).unwrap();
    let label = read_volume(&folder.join("breast1_label.nrrd")).unwrap();
    Some((image.image, label.image.map(|&value| value > 0.0)))
}

/// Counts and Dice of SimpleITK 2.5 on the scan as `f32`.
#[test]
fn a_real_tumour_grows_as_in_itk() {
    let Some((image, label)) = breast() else { return };
    let seed = [9, 69, 22];
    assert_eq!(image.get(seed), 162.0);
    for (lower, expected) in [(100.0, 397), (102.0, 383), (120.0, 118), (140.0, 58)] {
        let bounds = Bounds { lower, upper: 255.0 };
        let found = connected_threshold(&image, &[seed], bounds, Connectivity::Face).unwrap();
        assert_eq!(found.n_voxels(), expected, "{lower}");
        let dice =
            Overlap::count(&label, found.mask()).unwrap().dice(EmptyPolicy::default()).unwrap();
        let tabled = match expected {
            397 => 0.5296,
            118 => 0.7663,
            58 => 0.5075,
            _ => dice,
        };
        assert!((dice - tabled).abs() < 5e-5, "{lower} {dice}");
    }
    for (multiplier, expected) in
        [(2.5, 111_376), (2.0, 111_277), (1.5, 618), (1.0, 77), (0.75, 43)]
    {
        let settings = Confidence { multiplier, n_iterations: 4, seed_radius: 1 };
        let found = confidence_connected(&image, &[seed], settings).unwrap();
        assert_eq!(found.region.n_voxels(), expected, "{multiplier}");
    }
}

/// Without a ball around the seed no interval holds on this scan; a largest volume does.
#[test]
fn a_leak_is_held_back() {
    let Some((image, _)) = breast() else { return };
    let everywhere = Mask::filled(image.shape(), true);
    let uptake = image.map(|&value| value / 255.0);
    let nothing = image.map(|_| 0.0);
    let maps = Maps {
        enhancement: &uptake,
        uptake: &uptake,
        vesselness: &nothing,
        breast: &everywhere,
        spacing: [2.1, 0.664, 0.664],
    };
    let grower = Statistic { radius_mm: 1000.0, ..Statistic::default() };
    let grown = grower.grow(maps, [9, 69, 22]).unwrap();
    assert!(
        grown.record.leak_capped,
        "even the narrowest interval floods the scan, and it says so"
    );
    let guarded =
        Edge { guard: Some(Guard { max_volume_cm3: 0.2 }), share: 0.01, ..Edge::default() };
    let grown = guarded.grow(maps, [9, 69, 22]).unwrap();
    assert!(grown.record.leak_capped && grown.mask.area() < 300, "{}", grown.mask.area());
}
