//! Running a simulator on a case, with noise that sources may share.
//!
//! Independent noise makes a majority vote nearly perfect; annotators are not so kind. Everything that sources can
//! have in common is applied here, in one place for all simulators: first what is inherited (a constant shift, an
//! erased component), then the noise of the source itself, at a strength that may depend on the case.
//! Randomness: streams keyed by (seed, case, source, simulator, version); shared draws leave the source out.

use datasets::{Mask, Stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Draw, Erase, NoiseGrows, Noisy, Simulator, shift::shift};
use crate::{ImagingError, error::check_option};

/// What the noise of several sources has in common; the default is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Correlation {
    /// Columns by which every mask moves to the right before its own noise (negative: left); 0 by default.
    pub systematic_shift_px: i32,
    /// Probability that a case loses one of its two largest components in every source that has the same value;
    /// 0 by default.
    pub shared_erase_probability: f64,
    /// Draws the noise itself without the name of the source, so that sources with the same simulator and seed make
    /// the same mistakes; false by default.
    pub shared_event: bool,
    /// Standard deviation of the logarithm of a factor on the strength of each case, the same for all sources
    /// (0.35 gives a tail of bad cases); 0 by default.
    pub severity_sd: f64,
}

impl Correlation {
    fn check(&self) -> Result<(), ImagingError> {
        let owner = "correlation";
        check_option(owner, "shared_erase_probability", self.shared_erase_probability, [0.0, 1.0])?;
        check_option(owner, "severity_sd", self.severity_sd, [0.0, 10.0])
    }
}

/// A simulated annotator.
#[derive(Clone, Copy)]
pub struct NoiseSource<'a> {
    /// Its kind of noise, with options.
    pub simulator: &'a dyn Simulator,
    /// What it shares with other sources.
    pub correlation: Correlation,
    /// Seed of the experiment.
    pub seed: u64,
    /// Its name, which keeps its draws apart from those of other sources.
    pub name: &'a str,
}

/// A clean mask to be annotated.
#[derive(Clone, Copy, Debug)]
pub struct NoiseCase<'a> {
    /// Identifier that is unique over all data sets; structures of a case that are to share their draws share it.
    pub id: &'a str,
    /// The clean mask.
    pub mask: &'a Mask,
    /// Spacing as `[slice, row, column]`; 1 for pixel units.
    pub spacing: [f64; 3],
}

/// Lets a source annotate a case.
///
/// The same arguments give the same mask, whatever else is annotated before, beside or after. `params` of the result
/// also hold `severity`, `systematic_shift_px` and `shared_erase` where they take part.
///
/// # Errors
/// What [`Simulator::check`] refuses at this strength, and [`ImagingError::OptionOutOfRange`] for the correlation.
///
/// # Examples
/// ```
/// # use datasets::mask; use imaging::noise::{Correlation, NoiseCase, NoiseSource, Shift, simulate};
/// let source = NoiseSource { simulator: &Shift::default(), correlation: Correlation::default(), seed: 7, name: "b" };
/// let case = NoiseCase { id: "jsrt-0001", mask: &mask!["# # . ."], spacing: [1.0; 3] };
/// assert_eq!(simulate(&source, 1.0, &case)?.mask, mask![". # # ."]);
/// # Ok::<(), imaging::ImagingError>(())
/// ```
pub fn simulate(
    source: &NoiseSource<'_>,
    strength: f64,
    case: &NoiseCase<'_>,
) -> Result<Noisy, ImagingError> {
    source.correlation.check()?;
    source.simulator.check(strength, case.mask.shape(), case.spacing)?;
    let mut shared = Vec::new();
    let inherited = inherit(source, case, &mut shared);
    let severity = severity(source, case);
    if let Some(severity) = severity {
        shared.push(("severity", severity));
    }
    let strength = match source.simulator.scale().noise_grows {
        NoiseGrows::WithStrength => strength * severity.unwrap_or(1.0),
        NoiseGrows::AgainstStrength => strength / severity.unwrap_or(1.0),
    };
    let mask = inherited.as_ref().unwrap_or(case.mask);
    let mut noisy = source.simulator.apply(mask, case.spacing, strength, &draw(source, case));
    noisy.params.extend(shared);
    Ok(noisy)
}

/// The draw of a source for a case.
fn draw(source: &NoiseSource<'_>, case: &NoiseCase<'_>) -> Draw {
    let version = source.simulator.version().to_string();
    let simulator = source.simulator.name();
    let mut stream = if source.correlation.shared_event {
        Stream::new(source.seed, "noise.shared", &[case.id, simulator, &version])
    } else {
        Stream::new(source.seed, "noise", &[case.id, source.name, simulator, &version])
    };
    Draw::take(&mut stream)
}

/// What the mask is before the source's own noise; `None` when nothing is inherited.
fn inherit(
    source: &NoiseSource<'_>,
    case: &NoiseCase<'_>,
    shared: &mut Vec<(&'static str, f64)>,
) -> Option<Mask> {
    let correlation = &source.correlation;
    let mut inherited = None;
    if correlation.systematic_shift_px != 0 {
        shared.push(("systematic_shift_px", f64::from(correlation.systematic_shift_px)));
        inherited = Some(shift(case.mask, [0, correlation.systematic_shift_px as isize]));
    }
    if correlation.shared_erase_probability > 0.0 {
        let draw = Draw::take(&mut Stream::new(source.seed, "noise.shared_erase", &[case.id]));
        let mask = inherited.as_ref().unwrap_or(case.mask);
        let erased =
            Erase::default().apply(mask, case.spacing, correlation.shared_erase_probability, &draw);
        shared.push(("shared_erase", f64::from(u8::from(erased.mask != *mask))));
        inherited = Some(erased.mask);
    }
    inherited
}

/// Factor on the strength, shared by all sources of a case.
fn severity(source: &NoiseSource<'_>, case: &NoiseCase<'_>) -> Option<f64> {
    let sd = source.correlation.severity_sd;
    (sd > 0.0).then(|| (sd * Stream::new(source.seed, "noise.severity", &[case.id]).normal()).exp())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use rayon::prelude::*;

    use super::*;
    use crate::{
        fusion::{NamedMask, TieRule, majority_vote},
        noise::{
            Affine, AreaRatio, Choppy, Cube, EdgeDistort, ErodeDilate, FlipSquare, Fourier,
            Fracture, GrfBoundary, Markov, MorphRater, Natural, Polygonize, Shift, Speckle,
            Spiculation, Swelling, Thickening, Thinning,
            test_masks::{dice, lungs},
        },
    };

    /// Every simulator with a strength that does something and one that does nothing.
    fn simulators() -> Vec<(Box<dyn Simulator>, f64, f64)> {
        vec![
            (Box::new(ErodeDilate::default()), 3.0, 0.0),
            (Box::new(Shift::default()), 4.0, 0.0),
            (Box::new(FlipSquare::default()), 21.0, 0.0),
            (Box::new(Polygonize::default()), 7.5, f64::INFINITY),
            (Box::new(Erase::default()), 0.6, 0.0),
        ]
    }

    /// Those that are not in the paper.
    fn further_simulators() -> Vec<(Box<dyn Simulator>, f64, f64)> {
        vec![
            (Box::new(AreaRatio::default()), 0.4, 0.0),
            (Box::new(EdgeDistort::default()), 3.0, 0.0),
            (Box::new(Fourier::default()), 0.8, 0.0),
            (Box::new(Spiculation::default()), 6.0, 0.0),
            (Box::new(Affine::default()), 0.5, 0.0),
            (Box::new(GrfBoundary::default()), 2.0, 0.0),
            (Box::new(Markov::default()), 60.0, 0.0),
            (Box::new(Cube::default()), 5.0, 0.0),
            (Box::new(Natural::default()), 3.0, 0.0),
            (Box::new(Choppy::default()), 3.0, 0.0),
            (Box::new(Speckle::default()), 0.2, 0.0),
            (Box::new(Thinning::default()), 0.7, 0.0),
            (Box::new(Thickening::default()), 1.0, 0.0),
            (Box::new(Swelling::default()), 7.0, 0.0),
            (Box::new(Fracture::default()), 1.5, 0.0),
            (Box::new(MorphRater::default()), 1.0, 0.0),
        ]
    }

    fn all_simulators() -> impl Iterator<Item = (Box<dyn Simulator>, f64, f64)> {
        simulators().into_iter().chain(further_simulators())
    }

    fn annotate(
        simulator: &dyn Simulator,
        name: &str,
        correlation: Correlation,
        strength: f64,
        id: usize,
    ) -> Noisy {
        let source = NoiseSource { simulator, correlation, seed: 11, name };
        let (mask, id) = (lungs(id), format!("case-{id}"));
        simulate(&source, strength, &NoiseCase { id: &id, mask: &mask, spacing: [1.0; 3] }).unwrap()
    }

    #[test]
    fn the_weakest_strength_is_the_identity() {
        for (simulator, _, nothing) in all_simulators() {
            for id in 0..10 {
                let noisy = annotate(&*simulator, "rater", Correlation::default(), nothing, id);
                assert_eq!(noisy.mask, lungs(id), "{}", simulator.name());
            }
        }
    }

    #[test]
    fn order_subset_and_threads_change_nothing() {
        for (simulator, strength, _) in all_simulators() {
            let one =
                |id: usize| annotate(&*simulator, "rater", Correlation::default(), strength, id);
            let forwards: Vec<Noisy> = (0..16).map(one).collect();
            let mut backwards: Vec<Noisy> = (0..16).rev().map(one).collect();
            backwards.reverse();
            assert_eq!(forwards, backwards);
            for n_threads in [1, 2, 8] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
                let parallel: Vec<Noisy> =
                    pool.install(|| (0..16).into_par_iter().map(one).collect());
                assert_eq!(forwards, parallel, "{} with {n_threads} threads", simulator.name());
            }
        }
    }

    #[test]
    fn names_keep_draws_apart_unless_the_event_is_shared() {
        let simulator = FlipSquare::default();
        let differing = |correlation| {
            (0..10)
                .filter(|&id| {
                    annotate(&simulator, "a", correlation, 20.0, id)
                        != annotate(&simulator, "b", correlation, 20.0, id)
                })
                .count()
        };
        assert_eq!(differing(Correlation::default()), 10);
        assert_eq!(differing(Correlation { shared_event: true, ..Correlation::default() }), 0);
    }

    #[test]
    fn a_systematic_shift_is_inherited_before_the_noise() {
        let correlation = Correlation { systematic_shift_px: 3, ..Correlation::default() };
        let noisy = annotate(&Shift::default(), "a", correlation, 2.0, 0);
        assert_eq!(noisy.mask, shift(&lungs(0), [0, 5]));
        assert_eq!(noisy.params, [("distance_px", 2.0), ("systematic_shift_px", 3.0)]);
    }

    #[test]
    fn severity_belongs_to_the_case_and_worsens_every_simulator() {
        let correlation = Correlation { severity_sd: 0.35, ..Correlation::default() };
        let severity = |simulator: &dyn Simulator, name: &str, id| {
            let noisy = annotate(simulator, name, correlation, 5.0, id);
            noisy.params.iter().find(|(name, _)| *name == "severity").unwrap().1
        };
        let severities: Vec<f64> = (0..40).map(|id| severity(&Shift::default(), "a", id)).collect();
        let others: Vec<f64> =
            (0..40).map(|id| severity(&Polygonize::default(), "b", id)).collect();
        assert_eq!(severities, others);
        let (worst, _) =
            severities.iter().enumerate().max_by(|left, right| left.1.total_cmp(right.1)).unwrap();
        let points = annotate(&Polygonize::default(), "b", correlation, 8.0, worst).params[0].1;
        let distance = annotate(&Shift::default(), "a", correlation, 5.0, worst).params[0].1;
        assert!(severities[worst] > 1.3 && points < 8.0 && distance > 5.0, "{points} {distance}");
    }

    #[test]
    fn shared_mistakes_survive_the_vote() {
        let vote_dice = |correlation| {
            let total: f64 = (0..20)
                .map(|id| {
                    let masks: Vec<Mask> = simulators()
                        .iter()
                        .map(|(simulator, strength, _)| {
                            annotate(&**simulator, simulator.name(), correlation, *strength, id)
                                .mask
                        })
                        .collect();
                    let named: Vec<NamedMask<'_>> =
                        masks.iter().map(|mask| NamedMask { source: "rater", mask }).collect();
                    dice(&lungs(id), &majority_vote(&named, TieRule::Background).unwrap())
                })
                .sum();
            total / 20.0
        };
        let independent = vote_dice(Correlation::default());
        let shifted = vote_dice(Correlation { systematic_shift_px: 2, ..Correlation::default() });
        let erased =
            vote_dice(Correlation { shared_erase_probability: 0.5, ..Correlation::default() });
        assert!(independent > 0.9 && shifted < independent - 0.03 && erased < independent - 0.05);
    }

    #[test]
    fn bad_options_are_refused_by_name() {
        let correlation = Correlation { severity_sd: f64::NAN, ..Correlation::default() };
        let source = NoiseSource { simulator: &Shift::default(), correlation, seed: 1, name: "a" };
        let case = NoiseCase { id: "case", mask: &lungs(0), spacing: [1.0; 3] };
        let error = simulate(&source, 1.0, &case).unwrap_err();
        assert_eq!(
            error.to_string(),
            "option `severity_sd` of `correlation` must lie in [0, 10]: got NaN"
        );
        let source = NoiseSource { correlation: Correlation::default(), ..source };
        let error =
            simulate(&source, 1.0, &NoiseCase { spacing: [1.0, -1.0, 1.0], ..case }).unwrap_err();
        assert!(matches!(error, ImagingError::SpacingNotPositive { .. }));
    }
}
