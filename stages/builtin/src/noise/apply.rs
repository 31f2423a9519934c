//! Makes the labels of a simulated source.
//!
//! Source: arXiv 2304.00466v2, IV-A.1.
//! Ports: in `truth: Labels` and `simulator: Simulator` (its settings); out `labels: Labels` of kind `simulated`, with what was
//! drawn for each case in `params`.
//! Structures of a case share their draws: the same coin, the same displacement, the same corner of a square, the same places
//! on the outline. Each is made noisy by itself; what they are taken for and rules among them ([`ApplyConfig`]) come after that.
//! Randomness: streams keyed by (seed, case, source); not by order, shard or subset. Cost: that of the simulator.

use std::collections::BTreeMap;

use datasets::{CaseLabel, SourceKind, shard::read_labels};
use engine::{Ctx, One, Out, Refusal, Stage, StageError, inputs, outputs};
use imaging::{
    ImagingError,
    noise::{NoiseCase, NoiseSource, simulate},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SimulatedSource;
use crate::{
    kinds::{Labels, SimulatorSettings},
    shards::{ShardsError, read_json, refused, write_label_shard},
};

/// Settings of [`Apply`]; what the noise is, the simulator brings.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApplyConfig {
    /// Structures that lie in each other, the outermost first, such as `["disc", "cup"]`. After the noise each is cut to
    /// what is left of the one before it: the outer structure wins, and an inner one may become empty. Default none.
    pub nested: Vec<String>,
    /// Structures that exclude each other, the strongest first. After the noise a voxel that several of them claim belongs
    /// to the first; this comes before nesting. Default none.
    pub exclusive: Vec<String>,
    /// Structures that the noise touches; others keep their clean mask, to which the rules apply all the same. So an erased
    /// cup need not take its disc with it. Default all.
    pub only: Vec<String>,
    /// Structures that are taken for each other in a circle: after the noise, and before all rules, each gets the mask of the
    /// one before it and the first that of the last. `["1", "4", "2"]` is the rater of Zhang et al. (NeurIPS 2020) who is
    /// wrong about tumours: 1 is drawn as 4, 4 as 2, 2 as 1. Default none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cycle: Vec<String>,
}

inputs! {
    /// What [`Apply`] reads.
    pub struct ApplyInputs {
        /// Clean masks.
        truth: One<Labels>,
        /// The simulator with its strength.
        simulator: One<SimulatorSettings>,
    }
}

outputs! {
    /// What [`Apply`] makes.
    pub struct ApplyOutputs {
        /// The labels of the source.
        labels: Out<Labels>,
    }
}

/// Labels of a simulated source.
pub struct Apply;

impl Stage for Apply {
    const NAME: &'static str = "noise.apply";
    const VERSION: u32 = 1;
    const ABOUT: &'static str =
        "Makes the labels of a simulated source with a calibrated simulator.";
    const PER_SHARD: bool = true;
    type Config = ApplyConfig;
    type Inputs = ApplyInputs;
    type Outputs = ApplyOutputs;

    fn check(config: &ApplyConfig) -> Result<(), Refusal> {
        let ApplyConfig { nested, exclusive, only, cycle } = config;
        let lists =
            [("nested", nested), ("exclusive", exclusive), ("only", only), ("cycle", cycle)];
        for (setting, names) in lists {
            let repeats = names.iter().enumerate().find(|(n, name)| names[..*n].contains(name));
            if let Some((_, name)) = repeats {
                return Err(Refusal::new(setting, format!("`{name}` is named twice")));
            }
            if names.len() == 1 && setting != "only" {
                let message = format!("expected at least two structures: got `{}`", names[0]);
                return Err(Refusal::new(setting, message));
            }
        }
        Ok(())
    }

    fn run(
        config: &ApplyConfig,
        inputs: ApplyInputs,
        outputs: &ApplyOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let settings: SimulatedSource = read_json(inputs.simulator.file("simulator.json")?)?;
        let truth = read_labels(inputs.truth.file(ctx.shard())?).map_err(refused)?;
        let mut cases: BTreeMap<String, Vec<CaseLabel>> = BTreeMap::new();
        for label in truth {
            cases.entry(label.id.clone()).or_default().push(label);
        }
        let mut labels = Vec::new();
        for case in cases.into_values() {
            let mut case = case
                .into_iter()
                .map(|label| annotate(config, &settings, label))
                .collect::<Result<Vec<_>, _>>()?;
            put_in_force(config, &mut case, &inputs.truth.cell)?;
            labels.extend(case);
        }
        write_label_shard(&outputs.labels, ctx, &labels)
    }
}

fn annotate(
    config: &ApplyConfig,
    settings: &SimulatedSource,
    label: CaseLabel,
) -> Result<CaseLabel, StageError> {
    let (source, kind) = (settings.source.clone(), SourceKind::Simulated);
    if !config.only.is_empty() && !config.only.contains(&label.structure) {
        return Ok(CaseLabel { source, kind, probability: None, params: None, ..label });
    }
    let own = settings.strengths.get(&label.structure).copied().or(settings.strength);
    let strength = own.ok_or_else(|| {
        let found: Vec<&String> = settings.strengths.keys().collect();
        let structure = &label.structure;
        StageError::new(format!("`{source}` has no strength for `{structure}`: it has {found:?}"))
    })?;
    let simulator = NoiseSource {
        simulator: settings.simulator.as_simulator(),
        correlation: settings.correlation,
        seed: settings.rng_seed,
        name: &settings.source,
    };
    let spacing = settings.unit.spacing(&label);
    let case = NoiseCase { id: &label.id, mask: &label.mask, spacing };
    let noisy = simulate(&simulator, strength, &case).map_err(StageError::new)?;
    let mut params: serde_json::Map<String, serde_json::Value> =
        noisy.params.iter().map(|&(name, value)| (name.to_owned(), value.into())).collect();
    params.insert("clamped".to_owned(), noisy.clamped.into());
    let params = Some(serde_json::Value::Object(params).to_string());
    Ok(CaseLabel { source, kind, mask: noisy.mask, probability: None, params, ..label })
}

/// Applies the exchange and the rules among the structures of a case.
fn put_in_force(
    config: &ApplyConfig,
    labels: &mut [CaseLabel],
    cell: &str,
) -> Result<(), StageError> {
    exchange(&config.cycle, labels, cell)?;
    for (stronger, weaker) in pairs(&config.exclusive) {
        cut(labels, stronger, weaker, cell, |taken| !taken)?;
    }
    for outer_and_inner in config.nested.windows(2) {
        cut(labels, &outer_and_inner[0], &outer_and_inner[1], cell, |outer| outer)?;
    }
    Ok(())
}

/// Gives each structure what was drawn of the one before it, and the first that of the last.
fn exchange(cycle: &[String], labels: &mut [CaseLabel], cell: &str) -> Result<(), StageError> {
    for pair in cycle.windows(2).rev() {
        let [from, to] = places(labels, [&pair[0], &pair[1]], cell)?;
        let [from, to] = labels.get_disjoint_mut([from, to]).expect("two names are at two places");
        std::mem::swap(&mut from.mask, &mut to.mask);
        std::mem::swap(&mut from.params, &mut to.params);
    }
    Ok(())
}

/// Every name with every later one.
fn pairs(names: &[String]) -> impl Iterator<Item = (&String, &String)> {
    let later = |(n, name)| names[n + 1..].iter().map(move |other| (name, other));
    names.iter().enumerate().flat_map(later)
}

/// Keeps of `structure` the voxels at which `stays` is true of what `by` has there.
fn cut(
    labels: &mut [CaseLabel],
    by: &str,
    structure: &str,
    cell: &str,
    stays: impl Fn(bool) -> bool,
) -> Result<(), StageError> {
    let [by, place] = places(labels, [by, structure], cell)?;
    let other = labels[by].mask.clone();
    let mask = &mut labels[place].mask;
    let voxels = mask.values_mut().iter_mut().zip(other.values());
    voxels.for_each(|(own, &other)| *own &= stays(other));
    Ok(())
}

/// Where the labels of two structures are, which must be there and of one shape.
fn places(
    labels: &[CaseLabel],
    structures: [&str; 2],
    cell: &str,
) -> Result<[usize; 2], StageError> {
    let place = |structure: &str| {
        labels.iter().position(|label| label.structure == structure).ok_or_else(|| {
            let case = labels.first().map(|label| label.id.clone()).unwrap_or_default();
            let (structure, cell) = (structure.to_owned(), cell.to_owned());
            StageError::new(ShardsError::LabelMissing { case, structure, cell })
        })
    };
    let [left, right] = structures;
    let found = [place(left)?, place(right)?];
    let [left_shape, right_shape] = found.map(|place| labels[place].mask.shape());
    if left_shape != right_shape {
        let [left, right] = structures.map(str::to_owned);
        let differ = ImagingError::ShapesDiffer { left, left_shape, right, right_shape };
        return Err(StageError::new(differ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use datasets::{Mask, Spacing, mask};
    use imaging::noise::{
        Affine, Correlation, Erase, ErodeDilate, FlipSquare, Fracture, MorphRater, Polygonize,
        RaterHabit, Shift, Spiculation, Swelling, Thickening, Thinning,
    };

    use super::*;
    use crate::{
        noise::{AnySimulator, NamedSimulator},
        shards::tests::label,
        unit::LengthUnit,
    };

    const SPACING: [f64; 3] = [1.4, 0.7, 0.7];

    fn source(simulator: AnySimulator, strength: f64, unit: LengthUnit) -> SimulatedSource {
        SimulatedSource {
            source: "x".to_owned(),
            simulator,
            strength: Some(strength),
            strengths: BTreeMap::new(),
            unit,
            correlation: Correlation::default(),
            rng_seed: 3,
        }
    }

    /// The paper's five with a strength in voxels or, of those that are lengths, in millimetres; single components go whole.
    fn of_the_paper() -> Vec<(AnySimulator, f64)> {
        let all = imaging::noise::SingleComponent::All;
        let erase = Erase { single_component: all, ..Erase::default() };
        vec![
            (ErodeDilate::default().wrap(), 2.0),
            (Shift::default().wrap(), 3.0),
            (FlipSquare::default().wrap(), 8.0),
            (Polygonize::default().wrap(), 6.0),
            (erase.wrap(), 0.5),
        ]
    }

    /// Those of shape, and the raters that change something, at about their published strengths.
    fn of_shape() -> Vec<(AnySimulator, f64)> {
        let mut all = vec![
            (Thinning::default().wrap(), 0.7),
            (Thickening::default().wrap(), 1.0),
            (Swelling::default().wrap(), 7.0),
            (Fracture::default().wrap(), 1.5),
            (Spiculation::default().wrap(), 4.0),
            (Affine::default().wrap(), 0.4),
        ];
        for habit in [RaterHabit::Over, RaterHabit::Under, RaterHabit::Wrong, RaterHabit::Blank] {
            all.push((MorphRater { habit }.wrap(), 1.0));
        }
        all
    }

    /// A disc (in 3-D a ball) with a cup a little aside in it, as the case `id`.
    fn eye(id: &str, n_slices: usize, spacing: [f64; 3]) -> Vec<CaseLabel> {
        let shape = [n_slices, 40, 40];
        let middle = shape.map(|length| (length - 1) as f64 / 2.0);
        let ball = |radius: f64, aside: f64| {
            Mask::from_fn(shape, |place| {
                let away = [0, 1, 2].map(|axis| {
                    let aside = if axis == 2 { aside } else { 0.0 };
                    (place[axis] as f64 - middle[axis] - aside) * spacing[axis]
                });
                away.iter().map(|x| x * x).sum::<f64>().sqrt() <= radius * spacing[2]
            })
        };
        let one = |structure: &str, mask| CaseLabel {
            structure: structure.to_owned(),
            spacing: Spacing::new(spacing).unwrap(),
            ..label(id, "truth", mask)
        };
        vec![one("cup", ball(7.0, 3.0)), one("disc", ball(12.0, 0.0))]
    }

    fn nesting() -> ApplyConfig {
        ApplyConfig { nested: vec!["disc".to_owned(), "cup".to_owned()], ..ApplyConfig::default() }
    }

    fn noisy(
        config: &ApplyConfig,
        source: &SimulatedSource,
        case: Vec<CaseLabel>,
    ) -> Result<Vec<CaseLabel>, StageError> {
        let annotated = case.into_iter().map(|label| annotate(config, source, label));
        let mut labels = annotated.collect::<Result<Vec<_>, _>>()?;
        put_in_force(config, &mut labels, "cases")?;
        Ok(labels)
    }

    /// Whether all of the cup lies in the disc.
    fn is_nested(labels: &[CaseLabel]) -> bool {
        let voxels = labels[0].mask.values().iter().zip(labels[1].mask.values());
        voxels.into_iter().all(|(&cup, &disc)| disc || !cup)
    }

    #[test]
    fn simulators_keep_nesting_in_two_and_three_dimensions() {
        let mut n_broken = 0;
        for (n_slices, unit) in [(1, LengthUnit::Pixels), (18, LengthUnit::Millimetres)] {
            for (simulator, strength) in of_the_paper().into_iter().chain(of_shape()) {
                let source = source(simulator, strength, unit);
                let mut n_changed = [0, 0];
                for n in 0..12 {
                    let case = eye(&format!("case-{n}"), n_slices, SPACING);
                    let free = noisy(&ApplyConfig::default(), &source, case.clone()).unwrap();
                    let nested = noisy(&nesting(), &source, case.clone()).unwrap();
                    n_broken += usize::from(!is_nested(&free));
                    assert!(is_nested(&nested), "{source:?}");
                    assert_eq!(nested[1], free[1], "the outer structure wins");
                    for structure in [0, 1] {
                        let changed = nested[structure].mask != case[structure].mask;
                        n_changed[structure] += usize::from(changed);
                    }
                }
                assert!(n_changed.iter().all(|n| *n > 2), "{source:?}: {n_changed:?}");
            }
        }
        assert!(n_broken > 10, "without the rule nesting is lost: {n_broken}");
    }

    /// Both structures are dilated, or both eroded; a shift and a square are the same for both.
    #[test]
    fn structures_of_a_case_share_their_draws() {
        let drawn = |simulator, strength, n: usize| {
            let source = source(simulator, strength, LengthUnit::Pixels);
            let case = eye(&format!("case-{n}"), 1, [1.0; 3]);
            noisy(&ApplyConfig::default(), &source, case).unwrap()
        };
        for n in 0..8 {
            for (simulator, strength) in &of_the_paper()[..3] {
                let labels = drawn(simulator.clone(), *strength, n);
                let params = |label: &CaseLabel| {
                    let params = label.params.clone().unwrap();
                    serde_json::from_str::<serde_json::Value>(&params).unwrap()
                };
                for key in ["dilate", "distance_px", "row", "column", "side_px"] {
                    assert_eq!(params(&labels[0])[key], params(&labels[1])[key], "{key}");
                }
            }
        }
    }

    /// Dilation by 2 mm against every pair of voxels; a shift by 3 mm is 4 columns of 0.7 mm, a cube of 4.2 mm 3 slices.
    #[test]
    fn millimetres_follow_the_spacing_in_three_dimensions() {
        let case = eye("case-0", 18, SPACING);
        let clean = &case[1].mask;
        let apply = |simulator: AnySimulator, strength| {
            let source = source(simulator, strength, LengthUnit::Millimetres);
            noisy(&ApplyConfig::default(), &source, case.clone()).unwrap()[1].mask.clone()
        };
        let certain = ErodeDilate { dilate_probability: 1.0, ..ErodeDilate::default() };
        let dilated = apply(certain.wrap(), 2.0);
        let near = |[slice, row, column]: [usize; 3]| {
            let reach = [1_isize, 2, 2];
            let offsets = |axis: usize| -reach[axis]..=reach[axis];
            offsets(0).any(|s| {
                offsets(1).any(|r| {
                    offsets(2).any(|c| {
                        let away = [s as f64 * 1.4, r as f64 * 0.7, c as f64 * 0.7];
                        let at = [slice as isize + s, row as isize + r, column as isize + c];
                        let inside = (0..3)
                            .all(|axis| (0..clean.shape()[axis] as isize).contains(&at[axis]));
                        inside
                            && away.iter().map(|x| x * x).sum::<f64>() <= 4.0
                            && clean.get(at.map(|n| n as usize))
                    })
                })
            })
        };
        assert_eq!(dilated, Mask::from_fn(clean.shape(), near));
        let shifted = apply(Shift::default().wrap(), 3.0);
        let moved =
            |[slice, row, column]: [usize; 3]| column >= 4 && clean.get([slice, row, column - 4]);
        assert_eq!(shifted, Mask::from_fn(clean.shape(), moved));
        let flipped = apply(FlipSquare::default().wrap(), 4.2);
        let changed = clean.values().iter().zip(flipped.values()).filter(|(a, b)| a != b).count();
        assert_eq!(changed, 3 * 6 * 6);
    }

    #[test]
    fn structures_may_have_strengths_of_their_own_or_none() {
        let mut own = source(Shift::default().wrap(), 1.0, LengthUnit::Pixels);
        own.strengths = BTreeMap::from([("cup".to_owned(), 2.0), ("disc".to_owned(), 0.0)]);
        own.strength = None;
        let case = eye("case-0", 1, [1.0; 3]);
        let labels = noisy(&ApplyConfig::default(), &own, case.clone()).unwrap();
        assert_eq!(labels[1].mask, case[1].mask);
        assert!(labels[0].params.as_ref().unwrap().contains("\"distance_px\":2.0"));
        own.strengths.remove("disc");
        let fault = noisy(&ApplyConfig::default(), &own, case.clone()).unwrap_err().to_string();
        assert_eq!(fault, "`x` has no strength for `disc`: it has [\"cup\"]");
        let cup = ApplyConfig { only: vec!["cup".to_owned()], ..nesting() };
        let labels = noisy(&cup, &own, case.clone()).unwrap();
        assert_eq!((&labels[1].mask, labels[1].source.as_str()), (&case[1].mask, "x"));
        assert_ne!(labels[0].mask, case[0].mask);
    }

    #[test]
    fn a_cycle_takes_structures_for_each_other_before_the_rules() {
        let one = |structure: &str, mask| CaseLabel {
            structure: structure.to_owned(),
            params: Some(format!("\"{structure}\"")),
            ..label("a", "truth", mask)
        };
        let masks = [mask!["# . . ."], mask![". # . ."], mask![". . # #"]];
        let names = ["1", "4", "2"].map(str::to_owned).to_vec();
        let labels = || -> Vec<CaseLabel> {
            names.iter().zip(&masks).map(|(name, mask)| one(name, mask.clone())).collect()
        };
        let config = ApplyConfig { cycle: names.clone(), ..ApplyConfig::default() };
        let mut found = labels();
        put_in_force(&config, &mut found, "cases").unwrap();
        let drawn: Vec<(&str, &Mask, &str)> = found
            .iter()
            .map(|label| (&*label.structure, &label.mask, label.params.as_deref().unwrap()))
            .collect();
        let [first, second, third] = &masks;
        assert_eq!(drawn, [("1", third, "\"2\""), ("4", first, "\"1\""), ("2", second, "\"4\"")]);
        let nested = ["1", "4"].map(str::to_owned).to_vec();
        let mut found = labels();
        put_in_force(&ApplyConfig { nested, ..config }, &mut found, "cases").unwrap();
        assert_eq!((&found[0].mask, found[1].mask.is_empty()), (third, true));
        let unknown = ["1", "5"].map(str::to_owned).to_vec();
        let config = ApplyConfig { cycle: unknown, ..ApplyConfig::default() };
        let fault = put_in_force(&config, &mut labels(), "cases").unwrap_err().to_string();
        assert_eq!(fault, "case `a` has no label of structure `5` from cell `cases`");
    }

    #[test]
    fn exclusive_structures_go_to_the_first_and_rules_name_what_there_is() {
        let one = |structure: &str, mask| CaseLabel {
            structure: structure.to_owned(),
            ..label("a", "truth", mask)
        };
        let mut labels = vec![one("a", mask!["# # . ."]), one("b", mask![". # # ."])];
        let names = ["b".to_owned(), "a".to_owned()].to_vec();
        let config = ApplyConfig { exclusive: names, ..ApplyConfig::default() };
        put_in_force(&config, &mut labels, "cases").unwrap();
        assert_eq!((&labels[0].mask, &labels[1].mask), (&mask!["# . . ."], &mask![". # # ."]));
        let fault = put_in_force(&nesting(), &mut labels, "cases").unwrap_err().to_string();
        assert_eq!(fault, "case `a` has no label of structure `disc` from cell `cases`");
        labels[1].mask = mask!["#"];
        let fault = put_in_force(&config, &mut labels, "cases").unwrap_err().to_string();
        assert!(fault.starts_with("masks `b` and `a` differ in shape"), "{fault}");
        let twice = ["disc".to_owned(), "disc".to_owned()].to_vec();
        assert!(Apply::check(&ApplyConfig { nested: twice, ..ApplyConfig::default() }).is_err());
        let alone = vec!["disc".to_owned()];
        assert!(Apply::check(&ApplyConfig { nested: alone, ..ApplyConfig::default() }).is_err());
        assert!(Apply::check(&nesting()).is_ok());
    }
}
