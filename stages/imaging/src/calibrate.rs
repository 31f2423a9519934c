//! Finding the strength at which a simulated source has a wanted mean Dice.
//!
//! Source: bisection with common random numbers. arXiv 2304.00466v2, IV-A.1 asks for an average Dice of 0.8 and 0.7
//! and gives no strengths. Deviation: every source is brought to the target by itself.
//! Randomness: that of the simulator; all strengths share their draws, so the mean Dice is monotone but for
//! `polygonize`, where it is noisy (use 100 masks or more).
//! Cost: at most `max_evaluations` passes over all cases, in parallel; means are summed in the order of the case ids.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ImagingError,
    error::check_option,
    morphology::BoundingBox,
    noise::{NoiseCase, NoiseGrows, NoiseSource, StrengthSteps, StrengthUnit, simulate},
    scores::{EmptyPolicy, Overlap},
};

/// What a calibration aims at.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CalibrationTarget {
    /// Mean Dice of noisy against clean masks; 0.8 by default (0.7 is the paper's high noise).
    pub dice: f64,
    /// Accepted distance to it; 0.005 by default. Strengths that are whole numbers take the best one anyway.
    pub tolerance: f64,
    /// Strengths to search, smallest first; by default what the simulator proposes for the shape of the masks.
    pub bracket: Option<[f64; 2]>,
    /// Passes over the cases, both ends of the bracket included; 20 by default.
    pub max_evaluations: usize,
}

impl Default for CalibrationTarget {
    fn default() -> Self {
        Self { dice: 0.8, tolerance: 0.005, bracket: None, max_evaluations: 20 }
    }
}

/// The strength that was found and what it does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Name of the simulator.
    pub simulator: String,
    /// The strength to use.
    pub strength: f64,
    /// Unit of the strength.
    pub unit: StrengthUnit,
    /// Strength over the square root of the mean area of the clean masks; only for lengths.
    pub relative_to_root_area: Option<f64>,
    /// Strength over the mean width of the boxes around the clean masks; only for lengths.
    pub relative_to_width: Option<f64>,
    /// The mean Dice that was asked for.
    pub target: f64,
    /// The distance that was accepted.
    pub tolerance: f64,
    /// Whether the mean lies within the tolerance; whole strengths may miss it.
    pub is_within_tolerance: bool,
    /// Mean Dice at the strength.
    pub mean_dice: f64,
    /// Sample standard deviation of Dice over cases; 0 for one case.
    pub sd_dice: f64,
    /// Lowest Dice of a case.
    pub min_dice: f64,
    /// Highest Dice of a case.
    pub max_dice: f64,
    /// Number of cases.
    pub n_cases: usize,
    /// Cases whose clean mask is empty; their Dice is 1 when the noisy mask is empty too.
    pub n_empty: usize,
    /// Cases where the strength could not be applied in full.
    pub n_clamped: usize,
    /// Mean Dice of those cases.
    pub mean_dice_clamped: Option<f64>,
    /// Passes over the cases.
    pub evaluations: usize,
}

/// Searches the strength at which `source` has the wanted mean Dice over `cases`, whose order does not matter.
///
/// # Errors
/// - [`ImagingError::NoCases`] without cases.
/// - [`ImagingError::DiceUnreachable`] when the target lies outside what both ends of the bracket give.
/// - [`ImagingError::OptionOutOfRange`] for a Dice or tolerance outside `[0, 1]` or an empty bracket.
/// - What [`simulate`] refuses.
pub fn calibrate(
    source: &NoiseSource<'_>,
    cases: &[NoiseCase<'_>],
    target: &CalibrationTarget,
) -> Result<Calibration, ImagingError> {
    let mut ordered: Vec<NoiseCase<'_>> = cases.to_vec();
    ordered.sort_by(|left, right| left.id.cmp(right.id));
    let bracket = check_target(source, &ordered, target)?;
    let mut search = Search { source, cases: &ordered, target, evaluations: 0, best: None };
    let found = search.run(bracket)?;
    Ok(describe(&search, found))
}

/// Refuses targets without meaning and settles the bracket.
fn check_target(
    source: &NoiseSource<'_>,
    cases: &[NoiseCase<'_>],
    target: &CalibrationTarget,
) -> Result<[f64; 2], ImagingError> {
    let owner = "calibrate";
    check_option(owner, "dice", target.dice, [0.0, 1.0])?;
    check_option(owner, "tolerance", target.tolerance, [0.0, 1.0])?;
    check_option(owner, "max_evaluations", target.max_evaluations as f64, [2.0, 1e6])?;
    let simulator = source.simulator;
    let proposals = cases.iter().map(|case| simulator.bracket(case.mask.shape(), case.spacing));
    let common = proposals.reduce(|left, right| [left[0].max(right[0]), left[1].min(right[1])]);
    let common = common.ok_or(ImagingError::NoCases { simulator: simulator.name() })?;
    let [low, high] = target.bracket.unwrap_or(common);
    check_option(owner, "bracket", high, [low, f64::MAX])?;
    Ok(match simulator.scale().steps {
        StrengthSteps::Whole => [low.ceil(), high.floor()],
        StrengthSteps::Continuous(_) => [low, high],
    })
}

/// Dice of all cases at one strength.
#[derive(Clone, Debug)]
struct Evaluation {
    strength: f64,
    /// Dice of each case and whether its strength was clamped, in the order of the ids.
    cases: Vec<(f64, bool)>,
    mean: f64,
}

/// A running bisection.
struct Search<'a> {
    source: &'a NoiseSource<'a>,
    cases: &'a [NoiseCase<'a>],
    target: &'a CalibrationTarget,
    evaluations: usize,
    best: Option<Evaluation>,
}

impl Search<'_> {
    /// Looks at both ends and then halves the bracket until the target, the smallest step or the budget is reached.
    fn run(&mut self, [weakest, strongest]: [f64; 2]) -> Result<Evaluation, ImagingError> {
        let ends = [self.evaluate(weakest)?, self.evaluate(strongest)?];
        let (lowest, highest) = (ends[0].min(ends[1]), ends[0].max(ends[1]));
        let (target, tolerance) = (self.target.dice, self.target.tolerance);
        if target < lowest - tolerance || target > highest + tolerance {
            let simulator = self.source.simulator.name();
            return Err(ImagingError::DiceUnreachable {
                simulator,
                target,
                lowest,
                highest,
                weakest,
                strongest,
            });
        }
        let scale = self.source.simulator.scale();
        let (mut low, mut high) = (weakest, strongest);
        while self.evaluations < self.target.max_evaluations && !self.is_done() {
            let middle = match scale.steps {
                StrengthSteps::Whole if high - low <= 1.0 => break,
                StrengthSteps::Continuous(smallest) if high - low < smallest => break,
                StrengthSteps::Whole => ((low + high) / 2.0).floor(),
                StrengthSteps::Continuous(_) => (low + high) / 2.0,
            };
            let is_too_good = self.evaluate(middle)? > target;
            if is_too_good == (scale.noise_grows == NoiseGrows::WithStrength) {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(self.best.take().expect("both ends of the bracket were evaluated"))
    }

    /// Mean Dice at a strength; remembers the evaluation that comes closest to the target.
    fn evaluate(&mut self, strength: f64) -> Result<f64, ImagingError> {
        let score = |case: &NoiseCase<'_>| -> Result<(f64, bool), ImagingError> {
            let noisy = simulate(self.source, strength, case)?;
            let overlap = Overlap::count(case.mask, &noisy.mask)?;
            Ok((overlap.dice(EmptyPolicy::default()).unwrap_or(1.0), noisy.clamped))
        };
        let cases: Vec<(f64, bool)> = self.cases.par_iter().map(score).collect::<Result<_, _>>()?;
        let mean = cases.iter().map(|(dice, _)| dice).sum::<f64>() / cases.len() as f64;
        self.evaluations += 1;
        if self.best.as_ref().is_none_or(|best| self.miss(mean) < self.miss(best.mean)) {
            self.best = Some(Evaluation { strength, cases, mean });
        }
        Ok(mean)
    }

    fn miss(&self, mean: f64) -> f64 {
        (mean - self.target.dice).abs()
    }

    fn is_done(&self) -> bool {
        self.best.as_ref().is_some_and(|best| self.miss(best.mean) <= self.target.tolerance)
    }
}

/// Puts what was found into numbers.
fn describe(search: &Search<'_>, found: Evaluation) -> Calibration {
    let Evaluation { strength, cases, mean } = found;
    let n_cases = cases.len();
    let squares: f64 = cases.iter().map(|(dice, _)| (dice - mean).powi(2)).sum();
    let clamped: Vec<f64> =
        cases.iter().filter(|(_, clamped)| *clamped).map(|(dice, _)| *dice).collect();
    let unit = search.source.simulator.scale().unit;
    let is_length = unit == StrengthUnit::Length;
    let (root_area, width) = mean_sizes(search.cases);
    Calibration {
        simulator: search.source.simulator.name().to_owned(),
        strength,
        unit,
        relative_to_root_area: (is_length && root_area > 0.0).then(|| strength / root_area),
        relative_to_width: (is_length && width > 0.0).then(|| strength / width),
        target: search.target.dice,
        tolerance: search.target.tolerance,
        is_within_tolerance: search.miss(mean) <= search.target.tolerance,
        mean_dice: mean,
        sd_dice: if n_cases > 1 { (squares / (n_cases - 1) as f64).sqrt() } else { 0.0 },
        min_dice: cases.iter().map(|(dice, _)| *dice).fold(f64::INFINITY, f64::min),
        max_dice: cases.iter().map(|(dice, _)| *dice).fold(f64::NEG_INFINITY, f64::max),
        n_cases,
        n_empty: search.cases.iter().filter(|case| case.mask.is_empty()).count(),
        n_clamped: clamped.len(),
        mean_dice_clamped: (!clamped.is_empty())
            .then(|| clamped.iter().sum::<f64>() / clamped.len() as f64),
        evaluations: search.evaluations,
    }
}

/// Square root of the mean area (in 3-D the cube root of the mean volume), and the mean width of the boxes.
fn mean_sizes(cases: &[NoiseCase<'_>]) -> (f64, f64) {
    let n_cases = cases.len() as f64;
    let is_flat = cases.iter().all(|case| case.mask.n_slices() == 1);
    let sizes = cases.iter().map(|case| {
        let [slice, row, column] = case.spacing;
        case.mask.area() as f64 * if is_flat { row * column } else { slice * row * column }
    });
    let widths = cases.iter().map(|case| {
        BoundingBox::of(case.mask).map_or(0.0, |bounds| bounds.shape()[2] as f64 * case.spacing[2])
    });
    let size = sizes.sum::<f64>() / n_cases;
    (if is_flat { size.sqrt() } else { size.cbrt() }, widths.sum::<f64>() / n_cases)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use crate::noise::{
        Affine, AreaRatio, Choppy, Correlation, Cube, EdgeDistort, Erase, ErodeDilate, FlipSquare,
        Fourier, Fracture, GrfBoundary, Markov, MorphRater, Natural, Polygonize, Shift, Simulator,
        Speckle, Spiculation, Swelling, Thickening, Thinning, test_masks::lungs,
    };
    use datasets::Mask;

    fn named_lungs(n_cases: usize) -> Vec<(String, Mask)> {
        (0..n_cases).map(|case| (format!("case-{case:03}"), lungs(case))).collect()
    }

    fn run(
        simulator: &dyn Simulator,
        masks: &[(String, Mask)],
        target: CalibrationTarget,
    ) -> Result<Calibration, ImagingError> {
        let cases: Vec<NoiseCase<'_>> =
            masks.iter().map(|(id, mask)| NoiseCase { id, mask, spacing: [1.0; 3] }).collect();
        let source =
            NoiseSource { simulator, correlation: Correlation::default(), seed: 5, name: "rater" };
        calibrate(&source, &cases, &target)
    }

    #[test]
    fn every_simulator_reaches_both_levels_of_the_paper() {
        let masks = named_lungs(100);
        let simulators: [&dyn Simulator; 21] = [
            &AreaRatio::default(),
            &EdgeDistort::default(),
            &Fourier::default(),
            &Spiculation::default(),
            &Affine::default(),
            &GrfBoundary::default(),
            &Markov::default(),
            &Cube::default(),
            &Natural::default(),
            &Choppy::default(),
            &Speckle::default(),
            &Thinning::default(),
            &Thickening::default(),
            &Swelling::default(),
            &Fracture::default(),
            &MorphRater::default(),
            &ErodeDilate::default(),
            &Shift::default(),
            &FlipSquare::default(),
            &Polygonize::default(),
            &Erase::default(),
        ];
        for simulator in simulators {
            for dice in [0.8, 0.7] {
                let found =
                    run(simulator, &masks, CalibrationTarget { dice, ..Default::default() })
                        .unwrap();
                let accepted = match simulator.scale().steps {
                    // Steps of a pixel, and of the distances that occur on a small grid.
                    StrengthSteps::Whole => 0.04,
                    StrengthSteps::Continuous(_) => 0.02,
                };
                assert!((found.mean_dice - dice).abs() <= accepted, "{found:?}");
                assert!(found.evaluations <= 20 && found.n_cases == 100);
                assert_eq!(found.relative_to_width.is_some(), found.unit == StrengthUnit::Length);
            }
        }
    }

    #[test]
    fn whole_strengths_are_the_best_whole_number() {
        let rectangle =
            Mask::from_fn([1, 20, 60], |[_, row, column]| row < 9 && (5..35).contains(&column));
        let masks = [("a".to_owned(), rectangle)];
        let found = run(&Shift::default(), &masks, CalibrationTarget::default()).unwrap();
        assert_eq!((found.strength, found.is_within_tolerance), (6.0, true));
        let between = CalibrationTarget { dice: 0.78, tolerance: 0.001, ..Default::default() };
        let found = run(&Shift::default(), &masks, between).unwrap();
        assert_eq!((found.strength, found.is_within_tolerance), (7.0, false));
        assert_eq!(found.relative_to_width, Some(7.0 / 30.0));
    }

    #[test]
    fn order_of_the_cases_and_threads_change_nothing() {
        let mut masks = named_lungs(30);
        let target = CalibrationTarget { max_evaluations: 8, ..Default::default() };
        let expected = run(&FlipSquare::default(), &masks, target).unwrap();
        masks.reverse();
        for n_threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
            let found = pool.install(|| run(&FlipSquare::default(), &masks, target)).unwrap();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_target_out_of_reach_tells_what_is_in_reach() {
        let target = CalibrationTarget { dice: 0.4, ..Default::default() };
        match run(&Erase::default(), &named_lungs(30), target).unwrap_err() {
            ImagingError::DiceUnreachable {
                simulator,
                target,
                lowest,
                highest,
                weakest,
                strongest,
            } => {
                assert_eq!((simulator, target, highest), ("erase", 0.4, 1.0));
                assert_eq!((weakest, strongest), (0.0, 1.0));
                assert!((0.6..0.75).contains(&lowest), "{lowest}");
            }
            other => assert_eq!(other, ImagingError::NoMasks),
        }
    }

    #[test]
    fn clamped_and_empty_cases_are_counted() {
        let mut masks = named_lungs(20);
        masks.push(("empty".to_owned(), Mask::filled([1, 64, 64], false)));
        let target = CalibrationTarget { dice: 0.2, tolerance: 0.05, ..Default::default() };
        let eroded = ErodeDilate { dilate_probability: 0.0, ..ErodeDilate::default() };
        let found = run(&eroded, &masks, target).unwrap();
        assert_eq!((found.n_empty, found.n_cases, found.max_dice), (1, 21, 1.0));
        assert!(found.n_clamped > 0 && found.mean_dice_clamped.unwrap() < 0.3);
    }

    #[test]
    fn nothing_to_work_on_and_bad_targets_are_refused() {
        let error = run(&Shift::default(), &[], CalibrationTarget::default()).unwrap_err();
        assert_eq!(error, ImagingError::NoCases { simulator: "shift" });
        for target in [
            CalibrationTarget { dice: 1.2, ..Default::default() },
            CalibrationTarget { tolerance: f64::NAN, ..Default::default() },
            CalibrationTarget { bracket: Some([5.0, 2.0]), ..Default::default() },
            CalibrationTarget { max_evaluations: 1, ..Default::default() },
        ] {
            let error = run(&Shift::default(), &named_lungs(2), target).unwrap_err();
            assert!(
                matches!(error, ImagingError::OptionOutOfRange { owner: "calibrate", .. }),
                "{error}"
            );
        }
    }
}
