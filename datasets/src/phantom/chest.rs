//! Chest films whose lungs are known, because they were drawn before the film was rendered.
//!
//! Shapes, grey values and edge contrast follow the 247 JSRT films with SCR masks at 256 x 256; the test at the foot
//! holds them against that table. Some films are poor on purpose (low contrast, clouds over a lung), and how poor is
//! recorded with each case, because models of annotation quality live from that tail.

use std::collections::BTreeMap;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    anatomy::ChestAnatomy,
    film::{Exposure, Opacity, render},
};
use crate::{CaseImage, CaseLabel, DatasetsError, Grid, Mask, SourceKind, Spacing, Split, Stream};

/// Distance between the pixels of a JSRT film of 256 x 256.
const SPACING_AT_256_MM: f64 = 1.4;

/// Grey levels of the film, as of a 12-bit digitizer.
const LEVELS: f64 = 4095.0;

/// Attenuation of a cloud from which on a lung counts as hidden.
const HIDDEN: f64 = 0.25;

/// How chest films are drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChestPhantom {
    /// Rows and columns of a film, 16 to 2048 (256). The chest does not depend on it.
    pub size: usize,
    /// Range of the difference in grey, 0 to 1, between both sides of the border of a lung ([0.05, 0.11]; 0.08 was
    /// measured on JSRT).
    pub edge_contrast: [f64; 2],
    /// Share of films with a cloud that hides part of a lung (0.15).
    pub opacity_share: f64,
    /// Largest turn of the chest to either side, in degrees (5).
    pub rotation_deg: f64,
    /// Standard deviation of the noise from pixel to pixel, in grey of 0 to 1 (0.007).
    pub noise_sd: f64,
    /// Standard deviation of the mottle, 3 pixels wide at 256 (0.012).
    pub texture_sd: f64,
}

impl Default for ChestPhantom {
    fn default() -> Self {
        Self {
            size: 256,
            edge_contrast: [0.05, 0.11],
            opacity_share: 0.15,
            rotation_deg: 5.0,
            noise_sd: 0.007,
            texture_sd: 0.012,
        }
    }
}

/// What is outlined in every drawn film.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum ChestStructure {
    /// Both lungs.
    Lung,
    /// The heart.
    Heart,
    /// Both clavicles.
    Clavicle,
}

impl ChestStructure {
    /// All structures.
    pub const ALL: [Self; 3] = [Self::Lung, Self::Heart, Self::Clavicle];

    /// The word that labels use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lung => "lung",
            Self::Heart => "heart",
            Self::Clavicle => "clavicle",
        }
    }
}

/// A drawn film with its truth.
#[derive(Clone, Debug, PartialEq)]
pub struct PhantomCase {
    /// The film; values are multiples of 1/4095 in `[0, 1]`, air bright.
    pub image: CaseImage,
    /// The truth, drawn before the film.
    pub masks: BTreeMap<ChestStructure, Mask>,
    /// How much of the lungs the film shows, in (0, 1]: its edge contrast as a share of the largest that the
    /// configuration allows, times the share of the lungs that no cloud hides.
    pub quality: f64,
    /// What was drawn, as JSON: `anatomy`, `edge_contrast`, `gain`, `opacity`, `quality`.
    pub params: String,
}

impl PhantomCase {
    /// The truth as labels of the source `truth`, with what was drawn as their parameters.
    pub fn labels(&self) -> Vec<CaseLabel> {
        let label = |(structure, mask): (&ChestStructure, &Mask)| CaseLabel {
            id: self.image.id.clone(),
            source: "truth".to_owned(),
            kind: SourceKind::Truth,
            structure: structure.name().to_owned(),
            split: self.image.split,
            mask: mask.clone(),
            probability: None,
            spacing: self.image.spacing,
            affine: None,
            params: Some(self.params.clone()),
        };
        self.masks.iter().map(label).collect()
    }
}

impl ChestPhantom {
    /// Checks the ranges of all settings.
    ///
    /// # Errors
    /// [`DatasetsError::Setting`] and [`DatasetsError::SettingOrder`].
    pub fn check(&self) -> Result<(), DatasetsError> {
        let Self { size, edge_contrast, opacity_share, rotation_deg, noise_sd, texture_sd } = self;
        let [low, high] = *edge_contrast;
        for (setting, low, high, found) in [
            ("size", 16.0, 2048.0, *size as f64),
            ("edge_contrast", 0.01, 0.3, low),
            ("edge_contrast", 0.01, 0.3, high),
            ("opacity_share", 0.0, 1.0, *opacity_share),
            ("rotation_deg", 0.0, 30.0, *rotation_deg),
            ("noise_sd", 0.0, 0.2, *noise_sd),
            ("texture_sd", 0.0, 0.2, *texture_sd),
        ] {
            if !(low..=high).contains(&found) {
                return Err(DatasetsError::Setting { setting, low, high, found });
            }
        }
        if low > high {
            return Err(DatasetsError::SettingOrder {
                setting: "edge_contrast",
                found: [low, high],
            });
        }
        Ok(())
    }

    /// Draws the film of a case; the same seed and id give the same chest at any size and in any order.
    ///
    /// # Errors
    /// Those of [`ChestPhantom::check`].
    pub fn draw(
        &self,
        seed: u64,
        id: &str,
        patient: &str,
        split: Split,
    ) -> Result<PhantomCase, DatasetsError> {
        self.check()?;
        let stream = |part: &str| Stream::new(seed, "phantom.chest", &[id, part]);
        let anatomy = ChestAnatomy::draw(&mut stream("anatomy"), self.rotation_deg);
        let masks = self.masks(&anatomy);
        let lungs = &masks[&ChestStructure::Lung];
        let exposure = self.exposure(&mut stream("exposure"), &anatomy);
        let film =
            render(&anatomy, &exposure, lungs, [&mut stream("vessels"), &mut stream("noise")]);
        let quality = self.quality(&exposure, lungs);
        let mm = SPACING_AT_256_MM * 256.0 / self.size as f64;
        let image = CaseImage {
            id: id.to_owned(),
            patient: patient.to_owned(),
            dataset: "phantom.chest".to_owned(),
            split,
            image: film.map(|&value| ((value.clamp(0.0, 1.0) * LEVELS).round() / LEVELS) as f32),
            spacing: Spacing::new([1.0, mm, mm])?,
            affine: None,
        };
        let params = drawn_parameters(&anatomy, &exposure, quality);
        Ok(PhantomCase { image, masks, quality, params })
    }

    /// Draws several cases, given as (id, patient, split), side by side; the answer is in their order.
    ///
    /// # Errors
    /// Those of [`ChestPhantom::check`].
    pub fn draw_all(
        &self,
        seed: u64,
        cases: &[(String, String, Split)],
    ) -> Result<Vec<PhantomCase>, DatasetsError> {
        cases.par_iter().map(|(id, patient, split)| self.draw(seed, id, patient, *split)).collect()
    }

    fn masks(&self, anatomy: &ChestAnatomy) -> BTreeMap<ChestStructure, Mask> {
        let drawn = |is_inside: &dyn Fn([f64; 2]) -> bool| {
            Grid::from_fn([1, self.size, self.size], |[_, row, column]| {
                is_inside(anatomy.upright(self.place(row, column)))
            })
        };
        BTreeMap::from([
            (ChestStructure::Lung, drawn(&|place| anatomy.is_lung(place))),
            (ChestStructure::Heart, drawn(&|place| anatomy.is_heart(place))),
            (ChestStructure::Clavicle, drawn(&|place| anatomy.is_clavicle(place))),
        ])
    }

    /// Centre of a pixel in the frame of 256 x 256.
    fn place(&self, row: usize, column: usize) -> [f64; 2] {
        [row, column].map(|n| (n as f64 + 0.5) * 256.0 / self.size as f64)
    }

    /// Draws contrast and cloud; always takes as many numbers from the stream.
    fn exposure(&self, stream: &mut Stream, anatomy: &ChestAnatomy) -> Exposure {
        let edge_contrast = stream.between(self.edge_contrast[0], self.edge_contrast[1]);
        let is_hidden = stream.uniform() < self.opacity_share;
        let side = stream.below(2);
        let across = stream.between(0.25, 0.75);
        let column = anatomy.wall[side] + across * (anatomy.inner[side] - anatomy.wall[side]);
        let row = anatomy.apex + stream.between(0.25, 0.85) * (anatomy.base[side] - anatomy.apex);
        let opacity = Opacity {
            place: anatomy.turned([row, column]),
            radius: [stream.between(18.0, 42.0), stream.between(18.0, 36.0)],
            strength: stream.between(0.4, 0.9),
        };
        Exposure {
            edge_contrast,
            gain: (0.16 * stream.normal().clamp(-2.0, 2.0)).exp(),
            opacity: is_hidden.then_some(opacity),
            noise_sd: self.noise_sd,
            texture_sd: self.texture_sd,
        }
    }

    fn quality(&self, exposure: &Exposure, lungs: &Mask) -> f64 {
        let is_hidden = |&index: &usize| {
            let place = self.place(index / self.size, index % self.size);
            exposure.opacity.is_some_and(|opacity| opacity.at(place) > HIDDEN)
        };
        let inside = (0..lungs.values().len()).filter(|&index| lungs.values()[index]);
        let n_hidden = inside.filter(is_hidden).count();
        let seen = 1.0 - n_hidden as f64 / lungs.area().max(1) as f64;
        exposure.edge_contrast / self.edge_contrast[1] * seen
    }
}

/// What was drawn, for the records.
fn drawn_parameters(anatomy: &ChestAnatomy, exposure: &Exposure, quality: f64) -> String {
    let opacity = exposure.opacity.map(|Opacity { place, radius, strength }| {
        serde_json::json!({ "place": place, "radius": radius, "strength": strength })
    });
    let params = serde_json::json!({
        "anatomy": anatomy,
        "edge_contrast": exposure.edge_contrast,
        "gain": exposure.gain,
        "opacity": opacity,
        "quality": quality,
    });
    params.to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use crate::phantom::names;

    fn cases(size: usize, n: usize) -> Vec<PhantomCase> {
        let phantom = ChestPhantom { size, ..ChestPhantom::default() };
        let named = |index| {
            let (id, patient) = names(index);
            (id, patient, Split::Train)
        };
        phantom.draw_all(7, &(0..n).map(named).collect::<Vec<_>>()).unwrap()
    }

    fn mean_and_sd(values: &[f64]) -> (f64, f64) {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance =
            values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
        (mean, variance.sqrt())
    }

    /// Mean grey of the pixels of a case that fulfil a condition.
    fn grey(case: &PhantomCase, is_there: impl Fn(usize) -> bool) -> f64 {
        let values = case.image.image.values();
        let there: Vec<f64> = (0..values.len())
            .filter(|&index| is_there(index))
            .map(|index| f64::from(values[index]))
            .collect();
        mean_and_sd(&there).0
    }

    /// Mean grey of the pixels within `width` of the border of a mask, on one side of it.
    fn ring(case: &PhantomCase, width: isize, is_inside: bool) -> f64 {
        let mask = &case.masks[&ChestStructure::Lung];
        let size = mask.n_rows() as isize;
        let other_side = |row: isize, column: isize| {
            let is_in_frame = (0..size).contains(&row) && (0..size).contains(&column);
            is_in_frame && mask.get([0, row as usize, column as usize]) != is_inside
        };
        let offsets: Vec<[isize; 2]> = (-width..=width)
            .flat_map(|down| (-width..=width).map(move |right| [down, right]))
            .filter(|[down, right]| down * down + right * right <= width * width)
            .collect();
        grey(case, |index| {
            let [row, column] = [index as isize / size, index as isize % size];
            mask.values()[index] == is_inside
                && offsets.iter().any(|[down, right]| other_side(row + down, column + right))
        })
    }

    /// Means on the JSRT films with SCR masks at 256 x 256, and how far off the drawn ones may be.
    #[test]
    fn drawn_films_agree_with_what_was_measured_on_real_ones() {
        let drawn = cases(128, 80);
        let n_pixels = 128.0 * 128.0;
        let share = |case: &PhantomCase, structure| case.masks[structure].area() as f64 / n_pixels;
        let inside = |case: &PhantomCase, structure| {
            grey(case, |index| case.masks[structure].values()[index])
        };
        let outside = |case: &PhantomCase| {
            grey(case, |index| case.masks.values().all(|mask| !mask.values()[index]))
        };
        let contrast = |case: &PhantomCase| ring(case, 3, true) - ring(case, 3, false);
        let [lung, heart, clavicle] = &ChestStructure::ALL;
        let mean = |measure: &dyn Fn(&PhantomCase) -> f64| {
            mean_and_sd(&drawn.iter().map(measure).collect::<Vec<_>>()).0
        };
        for (what, found, expected, tolerance) in [
            ("share of the lungs", mean(&|case| share(case, lung)), 0.305, 0.03),
            ("share of the heart", mean(&|case| share(case, heart)), 0.090, 0.01),
            ("share of the clavicles", mean(&|case| share(case, clavicle)), 0.019, 0.004),
            ("grey of the lungs", mean(&|case| inside(case, lung)), 0.33, 0.03),
            ("grey of the heart", mean(&|case| inside(case, heart)), 0.11, 0.03),
            ("grey of the clavicles", mean(&|case| inside(case, clavicle)), 0.27, 0.06),
            ("grey outside", mean(&outside), 0.23, 0.03),
            ("contrast at the lungs", mean(&contrast), 0.08, 0.02),
        ] {
            assert!(
                (found - expected).abs() < tolerance,
                "{what}: {found:.3}, on real films {expected}"
            );
        }
        let (_, sd) = mean_and_sd(&drawn.iter().map(|case| share(case, lung)).collect::<Vec<_>>());
        assert!((0.02..0.07).contains(&sd), "{sd}");
    }

    #[test]
    fn the_same_seed_and_id_give_the_same_chest_at_any_size_and_in_any_company() {
        let all = cases(64, 4);
        let alone = ChestPhantom { size: 64, ..ChestPhantom::default() };
        let again = alone.draw(7, "phantom-0003", "P0003", Split::Train).unwrap();
        assert_eq!(again, all[2]);
        let other = alone.draw(8, "phantom-0003", "P0003", Split::Train).unwrap();
        assert_ne!(other.params, again.params);
        let larger = ChestPhantom { size: 128, ..alone }
            .draw(7, "phantom-0003", "P0003", Split::Train)
            .unwrap();
        let share = |case: &PhantomCase| {
            case.masks[&ChestStructure::Lung].area() as f64
                / (case.image.image.values().len() as f64)
        };
        assert!((share(&larger) - share(&again)).abs() < 0.01);
        assert_eq!(larger.image.spacing.millimetres(), [1.0, 2.8, 2.8]);
    }

    #[test]
    fn some_films_are_poor_and_say_so() {
        let drawn = cases(32, 247);
        let qualities: Vec<f64> = drawn.iter().map(|case| case.quality).collect();
        assert!(qualities.iter().all(|quality| (0.0..=1.0).contains(quality) && *quality > 0.0));
        let (mean, sd) = mean_and_sd(&qualities);
        assert!((0.6..0.8).contains(&mean) && sd > 0.1, "{mean} {sd}");
        let n_hidden =
            drawn.iter().filter(|case| !case.params.contains("\"opacity\":null")).count();
        assert!((20..60).contains(&n_hidden), "{n_hidden}");
        let labels = drawn[0].labels();
        assert_eq!(
            labels.iter().map(|label| label.structure.as_str()).collect::<Vec<_>>(),
            ["lung", "heart", "clavicle"]
        );
        assert!(labels[0].params.as_ref().is_some_and(|params| params.contains("\"quality\"")));
    }

    #[test]
    fn a_cloud_lowers_contrast_and_quality() {
        let with = |opacity_share| {
            let phantom = ChestPhantom { size: 64, opacity_share, ..ChestPhantom::default() };
            phantom.draw(7, "a", "a", Split::Train).unwrap()
        };
        let [clear, hidden] = [with(0.0), with(1.0)];
        assert_eq!(clear.masks, hidden.masks);
        assert!(hidden.quality < clear.quality);
        let lung = |case: &PhantomCase| {
            grey(case, |index| case.masks[&ChestStructure::Lung].values()[index])
        };
        assert!(lung(&hidden) < lung(&clear));
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let default = ChestPhantom::default;
        let refused = |phantom: ChestPhantom| phantom.draw(0, "a", "a", Split::Train).unwrap_err();
        let named = |phantom| match refused(phantom) {
            DatasetsError::Setting { setting, .. }
            | DatasetsError::SettingOrder { setting, .. } => setting,
            other => unreachable!("{other}"),
        };
        assert_eq!(named(ChestPhantom { size: 15, ..default() }), "size");
        assert_eq!(
            named(ChestPhantom { edge_contrast: [0.1, f64::NAN], ..default() }),
            "edge_contrast"
        );
        assert_eq!(
            named(ChestPhantom { edge_contrast: [0.1, 0.05], ..default() }),
            "edge_contrast"
        );
        assert_eq!(named(ChestPhantom { opacity_share: 1.1, ..default() }), "opacity_share");
        assert_eq!(named(ChestPhantom { rotation_deg: -1.0, ..default() }), "rotation_deg");
        assert_eq!(named(ChestPhantom { noise_sd: 1.0, ..default() }), "noise_sd");
        assert_eq!(named(ChestPhantom { texture_sd: 1.0, ..default() }), "texture_sd");
        assert!(serde_json::from_str::<ChestPhantom>(r#"{"sise": 64}"#).is_err());
        assert!(default().draw(0, "a", "a", Split::Train).is_ok());
    }
}
