//! Colour photographs of the optic disc whose disc and cup are known, with the drawings of six readers.
//!
//! Disc, cup and vessels are drawn first and rendered then. The edge of the cup is soft, and how soft it is differs from
//! case to case: readers err in the way that the photograph lets them. What the senior settles is a source of its own,
//! as in RIGA, where the truth is neither a vote nor known better than by looking.

mod anatomy;
mod outline;
mod photograph;
mod raters;
mod vessels;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::raters::{N_RATERS, RaterSet};

use self::{
    anatomy::FundusAnatomy,
    outline::Outline,
    photograph::{Exposure, render},
    raters::{Drawing, settled},
};
use crate::{CaseImage, CaseLabel, DatasetsError, Grid, Mask, SourceKind, Spacing, Split, Stream};

/// Distance between the pixels of a photograph of 256 x 256: a disc of 1.8 mm has about 125 of them.
const SPACING_AT_256_MM: f64 = 0.0145;

/// Levels of a channel.
const LEVELS: f64 = 255.0;

/// How photographs and readers are drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FundusPhantom {
    /// Rows and columns of a photograph, 16 to 2048 (256). The eye does not depend on it.
    pub size: usize,
    /// How the readers' mistakes hang together (independent).
    pub raters: RaterSet,
    /// Range of the factor on the brightness of disc and cup, 0.05 to 2 ([0.6, 1.1]).
    pub contrast: [f64; 2],
    /// Standard deviation of the noise from pixel to pixel, in grey of 0 to 1 (0.015).
    pub noise_sd: f64,
    /// Standard deviation of the logarithm of the mottle of the retina (0.06).
    pub texture_sd: f64,
}

impl Default for FundusPhantom {
    fn default() -> Self {
        Self {
            size: 256,
            raters: RaterSet::Independent,
            contrast: [0.6, 1.1],
            noise_sd: 0.015,
            texture_sd: 0.06,
        }
    }
}

/// What is outlined in every photograph.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum FundusStructure {
    /// The optic disc, the cup included.
    Disc,
    /// The cup in it.
    Cup,
}

impl FundusStructure {
    /// All structures, the outer one first.
    pub const ALL: [Self; 2] = [Self::Disc, Self::Cup];

    /// The word that labels use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disc => "disc",
            Self::Cup => "cup",
        }
    }
}

/// Labels of one source: disc and cup.
pub type FundusLabels = [CaseLabel; 2];

/// A drawn photograph with what is known and what was drawn of it.
#[derive(Clone, Debug, PartialEq)]
pub struct FundusCase {
    /// Red, green and blue; values are multiples of 1/255 in `[0, 1]`.
    pub channels: [CaseImage; 3],
    /// The eye as it was drawn before the photograph; source `anatomy`.
    pub anatomy: FundusLabels,
    /// What the senior settled; source `arbitrated`.
    pub arbitrated: FundusLabels,
    /// What each reader drew; sources `rater1` to `rater6`.
    pub raters: [FundusLabels; N_RATERS],
    /// Geometric mean radius of the cup over that of the disc.
    pub cup_to_disc: f64,
    /// How hard the edge of the cup is to see: 1 in the mean, 0.6 to 1.4.
    pub cup_blur: f64,
}

impl FundusPhantom {
    /// Checks the ranges of all settings.
    ///
    /// # Errors
    /// [`DatasetsError::Setting`] and [`DatasetsError::SettingOrder`].
    pub fn check(&self) -> Result<(), DatasetsError> {
        let Self { size, raters: _, contrast, noise_sd, texture_sd } = self;
        let [low, high] = *contrast;
        for (setting, low, high, found) in [
            ("size", 16.0, 2048.0, *size as f64),
            ("contrast", 0.05, 2.0, low),
            ("contrast", 0.05, 2.0, high),
            ("noise_sd", 0.0, 0.2, *noise_sd),
            ("texture_sd", 0.0, 0.5, *texture_sd),
        ] {
            if !(low..=high).contains(&found) {
                return Err(DatasetsError::Setting { setting, low, high, found });
            }
        }
        if low > high {
            return Err(DatasetsError::SettingOrder { setting: "contrast", found: *contrast });
        }
        Ok(())
    }

    /// Draws a case; the same seed and id give the same eye and the same hands at any size and in any order.
    ///
    /// # Errors
    /// Those of [`FundusPhantom::check`].
    pub fn draw(
        &self,
        seed: u64,
        id: &str,
        patient: &str,
        split: Split,
    ) -> Result<FundusCase, DatasetsError> {
        self.check()?;
        let streams = |layer: &str| Stream::new(seed, "phantom.fundus", &[id, layer]);
        let anatomy = FundusAnatomy::draw(&mut streams("anatomy"));
        let exposure = self.exposure(&mut streams("exposure"));
        let mm = SPACING_AT_256_MM * 256.0 / self.size as f64;
        let spacing = Spacing::new([1.0, mm, mm])?;
        let channels = render(&anatomy, &exposure, self.size, &streams).map(|picture| CaseImage {
            id: id.to_owned(),
            patient: patient.to_owned(),
            dataset: "phantom.fundus".to_owned(),
            split,
            image: picture.map(|&value| ((value.clamp(0.0, 1.0) * LEVELS).round() / LEVELS) as f32),
            spacing,
            affine: None,
        });
        let drawn = Drawn { phantom: self, seed, case: &channels[1], anatomy: &anatomy };
        let params = serde_json::json!({ "anatomy": anatomy, "contrast": exposure.contrast });
        Ok(FundusCase {
            anatomy: FundusStructure::ALL.map(|structure| {
                let mask = drawn.mask(|place| drawn.is_inside(structure, place));
                drawn.label("anatomy", SourceKind::Truth, structure, mask, params.to_string())
            }),
            arbitrated: drawn.arbitrated(),
            raters: std::array::from_fn(|rater| drawn.rater(rater)),
            cup_to_disc: anatomy.cup_to_disc,
            cup_blur: anatomy.cup_blur(),
            channels,
        })
    }

    /// Draws several cases, given as (id, patient, split), side by side; the answer is in their order.
    ///
    /// # Errors
    /// Those of [`FundusPhantom::check`].
    pub fn draw_all(
        &self,
        seed: u64,
        cases: &[(String, String, Split)],
    ) -> Result<Vec<FundusCase>, DatasetsError> {
        cases.par_iter().map(|(id, patient, split)| self.draw(seed, id, patient, *split)).collect()
    }

    /// Draws light and contrast; always takes as many numbers from the stream.
    fn exposure(&self, stream: &mut Stream) -> Exposure {
        Exposure {
            gain: stream.between(0.8, 1.15),
            colour: [0.06, 0.10, 0.15].map(|sd| (sd * stream.normal().clamp(-2.0, 2.0)).exp()),
            light: [stream.between(80.0, 176.0), stream.between(80.0, 176.0)],
            vignette: stream.between(0.1, 0.4),
            defocus: stream.between(0.7, 1.5),
            contrast: stream.between(self.contrast[0], self.contrast[1]),
            noise_sd: self.noise_sd,
            texture_sd: self.texture_sd,
        }
    }
}

/// A case whose labels are being drawn.
struct Drawn<'a> {
    phantom: &'a FundusPhantom,
    seed: u64,
    case: &'a CaseImage,
    anatomy: &'a FundusAnatomy,
}

impl Drawn<'_> {
    fn is_inside(&self, structure: FundusStructure, place: [f64; 2]) -> bool {
        match structure {
            FundusStructure::Disc => self.anatomy.is_disc(place),
            FundusStructure::Cup => self.anatomy.is_cup(place),
        }
    }

    fn arbitrated(&self) -> FundusLabels {
        self.nested("arbitrated", SourceKind::Truth, |structure, outline, blur, stream| {
            settled(structure, outline, blur, stream)
        })
    }

    fn rater(&self, rater: usize) -> FundusLabels {
        let set = self.phantom.raters;
        let source = format!("rater{}", rater + 1);
        self.nested(&source, SourceKind::Human, |structure, outline, blur, stream| {
            set.drawing(rater, structure, outline, blur, stream)
        })
    }

    /// Disc and cup as a hand draws them; the cup ends at the disc.
    fn nested(
        &self,
        source: &str,
        kind: SourceKind,
        draw: impl Fn(FundusStructure, &Outline, f64, &mut Stream) -> Drawing,
    ) -> FundusLabels {
        let [disc, cup] = FundusStructure::ALL.map(|structure| {
            let key = [self.case.id.as_str(), source, structure.name()];
            let mut stream = Stream::new(self.seed, "phantom.fundus.rater", &key);
            let (outline, blur) = match structure {
                FundusStructure::Disc => (&self.anatomy.disc, 1.0),
                FundusStructure::Cup => (&self.anatomy.cup, self.anatomy.cup_blur()),
            };
            draw(structure, outline, blur, &mut stream)
        });
        let is_disc = |place| disc.outline.depth(place) > 0.0;
        let is_cup = |place| cup.outline.depth(place) > 0.0 && is_disc(place);
        let label = |structure, mask, size: f64| {
            let params = serde_json::json!({ "log_size": size }).to_string();
            self.label(source, kind, structure, mask, params)
        };
        [
            label(FundusStructure::Disc, self.mask(is_disc), disc.size),
            label(FundusStructure::Cup, self.mask(is_cup), cup.size),
        ]
    }

    fn mask(&self, is_inside: impl Fn([f64; 2]) -> bool) -> Mask {
        let size = self.phantom.size;
        Grid::from_fn([1, size, size], |[_, row, column]| {
            is_inside([row, column].map(|n| (n as f64 + 0.5) * 256.0 / size as f64))
        })
    }

    fn label(
        &self,
        source: &str,
        kind: SourceKind,
        structure: FundusStructure,
        mask: Mask,
        params: String,
    ) -> CaseLabel {
        CaseLabel {
            id: self.case.id.clone(),
            source: source.to_owned(),
            kind,
            structure: structure.name().to_owned(),
            split: self.case.split,
            mask,
            probability: None,
            spacing: self.case.spacing,
            affine: None,
            params: Some(params),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use crate::phantom::names;

    const DISC: usize = 0;
    const CUP: usize = 1;

    fn cases(phantom: &FundusPhantom, n: usize) -> Vec<FundusCase> {
        let named = |index| {
            let (id, patient) = names(index);
            (id, patient, Split::Train)
        };
        phantom.draw_all(7, &(0..n).map(named).collect::<Vec<_>>()).unwrap()
    }

    fn small(raters: RaterSet) -> FundusPhantom {
        FundusPhantom { size: 96, raters, ..FundusPhantom::default() }
    }

    fn dice(a: &Mask, b: &Mask) -> f64 {
        let shared = a.values().iter().zip(b.values()).filter(|&(&a, &b)| a && b).count();
        2.0 * shared as f64 / (a.area() + b.area()) as f64
    }

    fn vote(case: &FundusCase, structure: usize) -> Mask {
        let masks: Vec<&Mask> = case.raters.iter().map(|labels| &labels[structure].mask).collect();
        let votes = |at| masks.iter().filter(|mask| mask.get(at)).count();
        Grid::from_fn(masks[0].shape(), |at| 2 * votes(at) > masks.len())
    }

    /// Mean over cases.
    fn mean(cases: &[FundusCase], measure: impl Fn(&FundusCase) -> f64) -> f64 {
        cases.iter().map(measure).sum::<f64>() / cases.len() as f64
    }

    /// Mean Dice against the anatomy of each reader, of the vote, and between two readers.
    fn levels(cases: &[FundusCase], structure: usize) -> ([f64; N_RATERS], f64, f64) {
        let truth = |case: &FundusCase| case.anatomy[structure].mask.clone();
        let rater = |case: &FundusCase, rater: usize| case.raters[rater][structure].mask.clone();
        let single =
            std::array::from_fn(|n| mean(cases, |case| dice(&truth(case), &rater(case, n))));
        let voted = mean(cases, |case| dice(&truth(case), &vote(case, structure)));
        let pairs = (0..N_RATERS).flat_map(|a| (a + 1..N_RATERS).map(move |b| [a, b]));
        let between =
            pairs.map(|[a, b]| mean(cases, |case| dice(&rater(case, a), &rater(case, b))));
        (single, voted, between.sum::<f64>() / 15.0)
    }

    /// Between two human readers a mean Dice of 0.935 (sd 0.036) is published for the disc and 0.823 (sd 0.089) for the
    /// cup (PMC9184612, table 6).
    #[test]
    fn independent_readers_agree_as_published_and_their_vote_is_good() {
        let cases = cases(&small(RaterSet::Independent), 80);
        let (single, voted, between) = levels(&cases, DISC);
        assert!((0.93..0.97).contains(&between) && voted > 0.97, "{between} {voted} {single:?}");
        let (single, voted, between) = levels(&cases, CUP);
        assert!((between - 0.823).abs() < 0.03, "{between}");
        assert!(single.iter().all(|dice| (0.78..0.94).contains(dice)), "{single:?}");
        assert!(voted > 0.93 && single.iter().all(|dice| *dice < voted), "{voted} {single:?}");
    }

    #[test]
    fn a_bias_that_readers_share_survives_their_vote() {
        let cases = cases(&small(RaterSet::Shared), 80);
        let (single, voted, between) = levels(&cases, CUP);
        let best = single.iter().copied().fold(0.0, f64::max);
        assert!((voted - 0.854).abs() < 0.03 && best > voted + 0.04, "{voted} {single:?}");
        assert!((between - 0.806).abs() < 0.03, "{between}");
    }

    #[test]
    fn what_the_senior_settles_is_nearer_to_the_eye_than_any_reader_and_is_not_it() {
        let cases = cases(&small(RaterSet::Independent), 30);
        for structure in [DISC, CUP] {
            let settled = |case: &FundusCase| {
                dice(&case.anatomy[structure].mask, &case.arbitrated[structure].mask)
            };
            let (single, ..) = levels(&cases, structure);
            let level = mean(&cases, settled);
            assert!(level < 0.999 && single.iter().all(|dice| *dice < level), "{level} {single:?}");
        }
    }

    #[test]
    fn every_cup_lies_in_its_disc_and_every_disc_in_the_picture() {
        for case in cases(&small(RaterSet::Shared), 40) {
            for [disc, cup] in case.raters.iter().chain([&case.anatomy, &case.arbitrated]) {
                let pairs = disc.mask.values().iter().zip(cup.mask.values());
                assert!(pairs.clone().all(|(&disc, &cup)| disc || !cup));
                assert!(cup.mask.area() > 20 && cup.mask.area() < disc.mask.area());
                let side = disc.mask.n_rows() - 1;
                let edge = |at: usize| [[0, 0, at], [0, side, at], [0, at, 0], [0, at, side]];
                assert!((0..=side).flat_map(edge).all(|at| !disc.mask.get(at)), "{}", disc.id);
                assert_eq!((disc.structure.as_str(), cup.structure.as_str()), ("disc", "cup"));
            }
        }
    }

    /// Mean of a channel over the pixels that fulfil a condition.
    fn grey(case: &FundusCase, channel: usize, is_there: impl Fn(usize) -> bool) -> f64 {
        let values = case.channels[channel].image.values().iter().enumerate();
        let there = values.filter(|&(index, _)| is_there(index));
        let (sum, n) = there.fold((0.0, 0.0), |(sum, n), (_, &v)| (sum + f64::from(v), n + 1.0));
        sum / n
    }

    #[test]
    fn cup_rim_and_retina_follow_in_brightness_and_red_green_and_blue_too() {
        let drawn = cases(&small(RaterSet::Independent), 20);
        for case in &drawn {
            let [disc, cup] = [DISC, CUP].map(|n| case.anatomy[n].mask.values());
            for channel in 0..3 {
                let places: [&dyn Fn(usize) -> bool; 3] =
                    [&|n| cup[n], &|n| disc[n] && !cup[n], &|n| !disc[n]];
                let [cup, rim, retina] = places.map(|is_there| grey(case, channel, is_there));
                assert!(cup > rim && rim > retina, "{channel}: {cup} {rim} {retina}");
            }
            let [red, green, blue] = [0, 1, 2].map(|channel| grey(case, channel, |n| !disc[n]));
            assert!(red > green && green > blue, "{red} {green} {blue}");
        }
        let saturated = mean(&drawn, |case| {
            let values = case.channels[0].image.values();
            values.iter().filter(|&&value| value >= 1.0).count() as f64 / values.len() as f64
        });
        assert!(saturated < 0.1, "{saturated}");
    }

    #[test]
    fn the_same_seed_and_id_give_the_same_case_at_any_size_and_in_any_company() {
        let phantom = small(RaterSet::Independent);
        let all = cases(&phantom, 3);
        let again = phantom.draw(7, "phantom-0003", "P0003", Split::Train).unwrap();
        assert_eq!(again, all[2]);
        assert_ne!(phantom.draw(8, "phantom-0003", "P0003", Split::Train).unwrap(), all[2]);
        let larger = FundusPhantom { size: 192, ..phantom.clone() };
        let larger = larger.draw(7, "phantom-0003", "P0003", Split::Train).unwrap();
        let share = |labels: &FundusLabels| {
            labels[CUP].mask.area() as f64 / labels[CUP].mask.values().len() as f64
        };
        for (one, other) in again.raters.iter().zip(&larger.raters) {
            assert!((share(one) / share(other) - 1.0).abs() < 0.03);
        }
        // Another set of readers photographs the same eye and draws the same discs.
        let shared =
            small(RaterSet::Shared).draw(7, "phantom-0003", "P0003", Split::Train).unwrap();
        assert_eq!((&shared.channels, &shared.arbitrated), (&again.channels, &again.arbitrated));
        let pairs = shared.raters.iter().zip(&again.raters);
        assert!(pairs.clone().all(|(one, other)| one[DISC] == other[DISC]));
        assert!(pairs.clone().all(|(one, other)| one[CUP].mask != other[CUP].mask));
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let named = |phantom: FundusPhantom| match phantom.check().unwrap_err() {
            DatasetsError::Setting { setting, .. }
            | DatasetsError::SettingOrder { setting, .. } => setting,
            other => unreachable!("{other}"),
        };
        let default = FundusPhantom::default;
        assert_eq!(named(FundusPhantom { size: 15, ..default() }), "size");
        assert_eq!(named(FundusPhantom { contrast: [1.0, 0.9], ..default() }), "contrast");
        assert_eq!(named(FundusPhantom { contrast: [f64::NAN, 0.9], ..default() }), "contrast");
        assert_eq!(named(FundusPhantom { noise_sd: 1.0, ..default() }), "noise_sd");
        assert_eq!(named(FundusPhantom { texture_sd: -1.0, ..default() }), "texture_sd");
        assert!(serde_json::from_str::<FundusPhantom>(r#"{"raters": "some"}"#).is_err());
    }
}
