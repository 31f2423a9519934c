//! The characters of the region-growing sources, measured on drawn scans: what arXiv 2304.00466v2, IV-A.2, says of its first
//! two algorithms must hold of ours, or the experiment on them shows something else than the paper's.

#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

use datasets::{
    Mask, Split,
    phantom::{DceCase, DcePhantom, DceRegime, DceStructure},
};
use imaging::{
    dce::{Enhancement, Phases, Suppression, breast, enhancement, suppress, uptake},
    distance::Border,
    morphology::{dilate, erode},
    scores::{EmptyPolicy, Overlap},
    sources::{Edge, Fuzzy, Grower, Maps, Smooth, Statistic, outline},
    vesselness::{Vesselness, vesselness},
};

/// Scans of a regime: the same anatomies whatever the regime.
const SEEDS: [u64; 3] = [0, 1, 2];

/// The largest ball that has no room in fine detail, in millimetres.
const DETAIL_MM: f64 = 2.5;

fn dice(a: &Mask, b: &Mask) -> f64 {
    Overlap::count(a, b).unwrap().dice(EmptyPolicy::default()).unwrap()
}

/// Means over the scans of a regime.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    /// Dice of each source with the truth.
    dice: [f64; 4],
    /// Share of the fine detail of the truth that each source finds.
    detail: [f64; 4],
    /// Dice of two sources, mean over all pairs.
    agreement: f64,
}

impl Found {
    fn of(regime: DceRegime) -> Self {
        let mut mean = Self::default();
        for seed in SEEDS {
            let phantom = DcePhantom { regime, ..DcePhantom::default() };
            let case = phantom.draw(seed, "phantom-0001", "P0001", Split::Test).unwrap();
            let one = Self::of_case(&case);
            for source in 0..4 {
                mean.dice[source] += one.dice[source] / SEEDS.len() as f64;
                mean.detail[source] += one.detail[source] / SEEDS.len() as f64;
            }
            mean.agreement += one.agreement / SEEDS.len() as f64;
        }
        mean
    }

    fn of_case(case: &DceCase) -> Self {
        let spacing = case.phases[0].spacing.millimetres();
        let truth = &case.masks[&DceStructure::Tumour];
        let masks = sources(case);
        let thick = dilate(&erode(truth, DETAIL_MM, spacing, Border::Unknown), DETAIL_MM, spacing);
        let fine = |index: usize| truth.values()[index] && !thick.values()[index];
        let detail = |mask: &Mask| {
            let places = (0..truth.values().len()).filter(|&index| fine(index));
            let (hits, all) = places.fold((0, 0), |(hits, all), index| {
                (hits + u32::from(mask.values()[index]), all + 1)
            });
            f64::from(hits) / f64::from(all)
        };
        let pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)];
        let agreement = pairs.map(|(a, b)| dice(&masks[a], &masks[b])).iter().sum::<f64>() / 6.0;
        Self {
            dice: [0, 1, 2, 3].map(|source| dice(truth, &masks[source])),
            detail: [0, 1, 2, 3].map(|source| detail(&masks[source])),
            agreement,
        }
    }
}

/// The masks of the four sources, as the experiments make them.
fn sources(case: &DceCase) -> Vec<Mask> {
    let spacing = case.phases[0].spacing.millimetres();
    let [pre, early, late] = [0, 1, 2].map(|phase| &case.phases[phase].image);
    let phases = Phases { pre, early, late, spacing };
    let whole = &case.masks[&DceStructure::Breast];
    let inner = breast::inner(whole, spacing, &breast::Breast::default()).unwrap();
    let taken = uptake(phases, &inner).unwrap();
    let settings = Vesselness { sigmas_mm: vec![1.0, 1.4, 2.0, 2.8], ..Vesselness::default() };
    let map = vesselness(&taken.uptake, &inner, spacing, &settings).unwrap();
    let vessels = suppress(&taken.uptake, &map, spacing, &Suppression::default()).unwrap();
    let (suppressed, settings) = (&vessels.suppressed, Enhancement::default());
    let enhanced = enhancement(suppressed, &taken.percent, &taken.ratio, &inner, &settings);
    let maps = Maps {
        enhancement: &enhanced.unwrap(),
        uptake: &taken.uptake,
        vesselness: &vessels.vesselness,
        breast: &inner,
        spacing,
    };
    let growers: [&dyn Grower; 4] =
        [&Edge::default(), &Smooth::default(), &Statistic::default(), &Fuzzy::default()];
    growers.map(|grower| outline(grower, maps).unwrap().mask).to_vec()
}

#[test]
fn the_first_source_follows_boundaries_and_breaks_under_noise_the_second_neither() {
    let [base, noisy, spiculated] =
        [DceRegime::Base, DceRegime::Noisy, DceRegime::Spiculated].map(Found::of);
    let told = format!("base {base:?}\nnoisy {noisy:?}\nspiculated {spiculated:?}");
    // Under noise: more than a quarter of what was right against a tenth.
    assert!(noisy.dice[0] <= 0.75 * base.dice[0], "{told}");
    assert!(base.dice[1] - noisy.dice[1] <= 0.08, "{told}");
    assert!(noisy.dice[1] - noisy.dice[0] >= 0.25, "{told}");
    // Spicules: more than half of them against fewer than a sixth.
    assert!(spiculated.detail[0] >= 0.5 && spiculated.detail[1] <= 0.15, "{told}");
    assert!(base.detail[0] >= 0.5 && base.detail[1] <= 0.15, "{told}");
    // The sources are imperfect annotations of the tumour, and no two of them are the same.
    for found in [base, spiculated] {
        assert!(found.dice.iter().all(|&dice| (0.5..0.95).contains(&dice)), "{told}");
        assert!((0.5..0.9).contains(&found.agreement), "{told}");
    }
}
