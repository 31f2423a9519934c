//! Fusion of real raters against what other programs make of them.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::path::Path;

use datasets::{Grid, Mask, picture::read_mask, volume::read_volume};

use super::*;
use crate::published::published;

/// The seven raters of a QUBIQ brain growth case.
fn raters(folder: &Path, case: &str) -> Vec<Mask> {
    let path = |rater: usize| folder.join(case).join(format!("rater{rater}.png"));
    (1..=7).map(|rater| read_mask(&path(rater), 0).unwrap()).collect()
}

fn named(masks: &[Mask]) -> Vec<NamedMask<'_>> {
    masks.iter().map(|mask| NamedMask { source: "rater", mask }).collect()
}

fn assert_printed(found: &[f64], expected: &[f64]) {
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 5.1e-6, "{found} instead of {expected}");
    }
}

/// Expected values: SimpleITK 2.5.7, `STAPLEImageFilter`, with `|W >= .5|` and the vote of more than 3.5 of 7.
#[test]
fn staple_of_seven_raters_is_that_of_simpleitk() {
    let Some(folder) = published("qubiq_brain_growth") else { return };
    let masks = raters(&folder, "case01");
    assert_eq!(
        masks.iter().map(Mask::area).collect::<Vec<_>>(),
        [2593, 2527, 2440, 2188, 2517, 2622, 2608]
    );
    let first = staple(&named(&masks), &StapleOptions::default()).unwrap();
    assert_eq!((first.iterations, first.mask(0.5 - 1e-12).area()), (9, 2659));
    let expected = [0.93745, 0.90728, 0.90446, 0.80969, 0.92250, 0.94474, 0.91919];
    assert_printed(&first.sensitivity, &expected);
    let expected = [0.99269, 0.99165, 0.99744, 0.99745, 0.99533, 0.99199, 0.98806];
    assert_printed(&first.specificity, &expected);
    assert_eq!(majority_vote(&named(&masks), TieRule::Background).unwrap().area(), 2527);
    let masks = raters(&folder, "case02");
    let second = staple(&named(&masks), &StapleOptions::default()).unwrap();
    assert_eq!((second.iterations, second.mask(0.5 - 1e-12).area()), (12, 2413));
    let expected = [0.89504, 0.88195, 0.84021, 0.79098, 0.90862, 0.91802, 0.87209];
    assert_printed(&second.sensitivity, &expected);
    assert_eq!(majority_vote(&named(&masks), TieRule::Background).unwrap().area(), 2229);
}

/// Seven people who agree in the main: every fusion stays close to the vote.
#[test]
fn all_fusions_of_real_raters_agree_in_the_main() {
    let Some(folder) = published("qubiq_brain_growth") else { return };
    for case in ["case01", "case02", "case39"] {
        let masks = raters(&folder, case);
        let masks = named(&masks);
        let vote = majority_vote(&masks, TieRule::Background).unwrap();
        assert_eq!(soft_vote(&masks, 0.5).unwrap(), vote);
        for fused in [
            staple(&masks, &StapleOptions::default()).unwrap().mask(0.5),
            simple(&masks, &SimpleOptions::default()).unwrap().mask,
            shape_average(&masks, [1.0; 3], &ShapeAverageOptions::default()).unwrap(),
        ] {
            let dice = crate::noise::test_masks::dice(&vote, &fused);
            assert!(dice > 0.93, "{case}: {dice}");
        }
    }
}

/// Expected volumes: the four fusions that FeTS LabelFusion publishes for a BraTS case with two segmentations.
///
/// Its SIMPLE adds the classes of both inputs in place before it votes, so its result is the union for each class,
/// summed: labels 3, 5 and 6 are overlaps of classes. That is reproduced here as what it is.
#[test]
fn two_segmentations_fuse_as_in_label_fusion() {
    let Some(folder) = published("labelfusion_brats") else { return };
    let read = |name: &str| {
        let volume = read_volume(&folder.join(format!("{name}.nii.gz"))).unwrap();
        volume.labels().unwrap()
    };
    let sum = |map: &LabelMap| map.values().iter().map(|&label| u64::from(label)).sum::<u64>();
    let inputs = [read("unet"), read("resunet")];
    assert_eq!(
        (inputs[0].shape(), inputs.each_ref().map(sum)),
        ([155, 240, 240], [262_349, 262_120])
    );
    let maps: Vec<NamedLabels<'_>> =
        inputs.iter().map(|labels| NamedLabels { source: "network", labels }).collect();
    let vote = vote_labels(&maps, Some(0)).unwrap();
    assert_eq!(sum(&vote), 247_662);
    assert_eq!(
        (vote == read("baseline_itkvoting"), vote == read("baseline_majorityvoting")),
        (true, true)
    );
    let options = MultiLabelOptions { undecided: Some(0), ..MultiLabelOptions::default() };
    let estimate = multi_label_staple(&maps, &options).unwrap();
    assert!(estimate.labels == read("baseline_staple"));
    let mut added: LabelMap = Grid::filled(vote.shape(), 0);
    for class in [1, 2, 4] {
        let masks = inputs.each_ref().map(|map| map.map(|&label| label == class));
        let union = majority_vote(&named(&masks), TieRule::Foreground).unwrap();
        for (label, &inside) in added.values_mut().iter_mut().zip(union.values()) {
            *label += if inside { class } else { 0 };
        }
    }
    assert_eq!((sum(&added), added == read("baseline_simple")), (276_807, true));
}
