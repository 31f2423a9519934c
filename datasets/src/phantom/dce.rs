//! Contrast-enhanced breast scans whose tumour is known: one phase before and two after the injection.
//!
//! Anatomy is made of superellipsoids, random walks and random fields; signals come from the extended Tofts model, an
//! arterial input function of a population and the equation of the spoiled gradient echo. Every layer has a stream of its
//! own, so that a new layer changes no other. Small volumes show one breast, wide ones two.

mod anatomy;
mod field;
mod kinetics;
mod scan;
mod tumour;
mod vessels;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::{
    anatomy::{Anatomy, gland},
    scan::{Exposure, Layers, phases},
    tumour::{Tumour, truth},
};
use crate::{CaseImage, CaseLabel, DatasetsError, Grid, Mask, SourceKind, Spacing, Split, Stream};

/// What is hard about a case.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum DceRegime {
    /// Nothing: a tumour with a few spicules and a signal 30 times the noise.
    Base,
    /// A signal only 8 times the noise.
    Noisy,
    /// Glandular tissue that enhances 2.2 times as much as usual.
    Background,
    /// A tumour that enhances at its rim, around a necrotic core.
    Rim,
    /// Ten to sixteen spicules.
    Spiculated,
    /// Motion of 1.5 mm between the phases.
    Motion,
    /// A tumour of 5 mm radius.
    Small,
    /// Per case one of the first five: 40 % base, 15 % of each other, with noise drawn anew.
    Mixed,
}

impl DceRegime {
    /// All regimes that a case can be of.
    pub const CASES: [Self; 7] = [
        Self::Base,
        Self::Noisy,
        Self::Background,
        Self::Rim,
        Self::Spiculated,
        Self::Motion,
        Self::Small,
    ];

    /// The word that configurations use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Noisy => "noisy",
            Self::Background => "background",
            Self::Rim => "rim",
            Self::Spiculated => "spiculated",
            Self::Motion => "motion",
            Self::Small => "small",
            Self::Mixed => "mixed",
        }
    }
}

/// How breast scans are drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DcePhantom {
    /// Voxels as `[slice, row, column]`, 16 to 512 each. Default [80, 112, 112]: one breast. [160, 224, 320] is the
    /// grid of arXiv 2304.00466v2.
    pub shape: [usize; 3],
    /// Spacing as `[slice, row, column]` in millimetres, 0.3 to 10. Default [1.4, 1.0, 1.0].
    pub spacing_mm: [f64; 3],
    /// What is hard about the cases. Default mixed.
    pub regime: DceRegime,
}

impl Default for DcePhantom {
    fn default() -> Self {
        Self { shape: [80, 112, 112], spacing_mm: [1.4, 1.0, 1.0], regime: DceRegime::Mixed }
    }
}

/// What is outlined in every scan.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum DceStructure {
    /// The tumour.
    Tumour,
    /// Both breasts with their skin, up to the chest wall.
    Breast,
    /// Glandular tissue.
    Gland,
    /// Vessels in the breast.
    Vessel,
}

impl DceStructure {
    /// The word that labels use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tumour => "tumour",
            Self::Breast => "breast",
            Self::Gland => "gland",
            Self::Vessel => "vessel",
        }
    }
}

/// A drawn scan with its truth.
#[derive(Clone, Debug, PartialEq)]
pub struct DceCase {
    /// Before, 1.75 and 3.9 minutes after the injection; values are at least 0, in arbitrary units.
    pub phases: [CaseImage; 3],
    /// The truth, drawn before the scan.
    pub masks: BTreeMap<DceStructure, Mask>,
    /// What the case is hard by.
    pub regime: DceRegime,
    /// What was drawn, as JSON.
    pub params: String,
}

impl DceCase {
    /// The truth of one structure as a label of the source `truth`, with what was drawn as its parameters.
    pub fn label(&self, structure: DceStructure) -> CaseLabel {
        let image = &self.phases[0];
        let mask = self.masks.get(&structure).cloned();
        CaseLabel {
            id: image.id.clone(),
            source: "truth".to_owned(),
            kind: SourceKind::Truth,
            structure: structure.name().to_owned(),
            split: image.split,
            mask: mask.unwrap_or_else(|| Grid::filled(image.image.shape(), false)),
            probability: None,
            spacing: image.spacing,
            affine: image.affine,
            params: Some(self.params.clone()),
        }
    }
}

/// What is drawn by chance for a case.
#[derive(Clone, Debug, Serialize)]
struct Drawn {
    regime: DceRegime,
    snr: f64,
    background: f64,
    skin: f64,
    motion_mm: f64,
    gland_share: f64,
    radius_mm: f64,
    n_spicules: usize,
    is_rim: bool,
    has_second_focus: bool,
    has_feeding_vessel: bool,
}

impl Drawn {
    /// Draws everything in one order, whatever the regime; the regime then decides what holds.
    fn new(regime: DceRegime, stream: &mut Stream) -> Self {
        let pick = stream.uniform();
        let noise = stream.uniform();
        let mixed = match pick {
            ..0.4 => DceRegime::Base,
            ..0.55 => DceRegime::Noisy,
            ..0.7 => DceRegime::Background,
            ..0.85 => DceRegime::Rim,
            _ => DceRegime::Spiculated,
        };
        let is_mixed = regime == DceRegime::Mixed;
        let regime = if is_mixed { mixed } else { regime };
        // Log-uniform between 15 and 40, and between 8 and 15 where noise is what is hard.
        let wide = if regime == DceRegime::Noisy {
            8.0 * (15.0_f64 / 8.0).powf(noise)
        } else {
            15.0 * (40.0_f64 / 15.0).powf(noise)
        };
        let fixed = if regime == DceRegime::Noisy { 8.0 } else { 30.0 };
        let radius = stream.between(8.0, 14.0);
        let few = 4 + stream.below(5);
        let many = 10 + stream.below(7);
        Self {
            regime,
            snr: if is_mixed { wide } else { fixed },
            background: if regime == DceRegime::Background { 2.2 } else { 1.0 },
            skin: stream.between(0.7, 2.2),
            motion_mm: if regime == DceRegime::Motion { 1.5 } else { 0.0 },
            gland_share: stream.between(0.10, 0.55),
            radius_mm: if regime == DceRegime::Small { 5.0 } else { radius },
            n_spicules: if regime == DceRegime::Spiculated { many } else { few },
            is_rim: regime == DceRegime::Rim,
            has_second_focus: stream.uniform() < 0.1,
            has_feeding_vessel: stream.uniform() < 0.6,
        }
    }
}

impl DcePhantom {
    /// Checks the ranges of all settings.
    ///
    /// # Errors
    /// [`DatasetsError::Setting`].
    pub fn check(&self) -> Result<(), DatasetsError> {
        let lengths = self.shape.map(|length| ("shape", 16.0, 512.0, length as f64));
        let steps = self.spacing_mm.map(|step| ("spacing_mm", 0.3, 10.0, step));
        // The breasts need 60 mm each way, and the chest behind them a little more.
        let sizes = [0, 1, 2].map(|axis| {
            ("shape * spacing_mm", 60.0, 1000.0, self.shape[axis] as f64 * self.spacing_mm[axis])
        });
        for (setting, low, high, found) in lengths.into_iter().chain(steps).chain(sizes) {
            if !(low..=high).contains(&found) {
                return Err(DatasetsError::Setting { setting, low, high, found });
            }
        }
        Ok(())
    }

    /// Draws the case `id` of `patient`.
    ///
    /// The same seed and id give the same case, whatever else is drawn and on however many threads.
    ///
    /// # Errors
    /// Those of [`DcePhantom::check`].
    pub fn draw(
        &self,
        rng_seed: u64,
        id: &str,
        patient: &str,
        split: Split,
    ) -> Result<DceCase, DatasetsError> {
        self.check()?;
        let streams = |layer: &str| Stream::new(rng_seed, "phantom.dce", &[id, layer]);
        let drawn = Drawn::new(self.regime, &mut streams("case"));
        let (layers, tumour) = self.layers(&drawn, &streams);
        let exposure = Exposure {
            snr: drawn.snr,
            background: drawn.background,
            skin: drawn.skin,
            motion_mm: drawn.motion_mm,
            is_rim: drawn.is_rim,
        };
        let spacing = Spacing::new(self.spacing_mm)?;
        let phases = phases(&layers, exposure, self.spacing_mm, &streams).map(|image| CaseImage {
            id: id.to_owned(),
            patient: patient.to_owned(),
            dataset: "phantom_dce".to_owned(),
            split,
            image,
            spacing,
            affine: None,
        });
        let regime = drawn.regime;
        let params = serde_json::json!({ "drawn": drawn, "tumour": tumour }).to_string();
        Ok(DceCase { phases, masks: self.masks(layers, &tumour), regime, params })
    }

    fn layers(&self, drawn: &Drawn, streams: &dyn Fn(&str) -> Stream) -> (Layers, Tumour) {
        let (shape, spacing) = (self.shape, self.spacing_mm);
        let anatomy = Anatomy::new(shape, spacing, &mut streams("anatomy"));
        let tumour = Tumour::draw(
            &anatomy,
            drawn.radius_mm,
            drawn.n_spicules,
            drawn.has_second_focus,
            &mut streams("tumour"),
        );
        let feeds = drawn.has_feeding_vessel.then_some(&tumour);
        let vessels = vessels::coverage(shape, spacing, &anatomy, feeds, &mut streams("vessels"));
        let (covered, deep) = tumour.coverage(shape, spacing, streams("lumps"));
        let gland = gland(shape, spacing, &anatomy, drawn.gland_share, streams("gland"));
        (Layers { anatomy, gland, vessels, tumour: covered, deep }, tumour)
    }

    /// The truth; what a tumour or a vessel covers by half belongs to it and not to gland.
    fn masks(&self, layers: Layers, tumour: &Tumour) -> BTreeMap<DceStructure, Mask> {
        let spacing = self.spacing_mm;
        let lesion = truth(&layers.tumour, spacing, tumour.centre);
        let vessel = Grid::from_fn(self.shape, |place| {
            layers.vessels.get(place) >= 0.5 && !lesion.get(place)
        });
        let breast = Grid::from_fn(self.shape, |place| {
            let at = [0, 1, 2].map(|axis| (place[axis] as f64 + 0.5) * spacing[axis]);
            layers.anatomy.breast_depth(at) > 0.0 && at[1] < layers.anatomy.wall_at(at[2])
        });
        let gland = Grid::from_fn(self.shape, |place| {
            layers.gland.get(place) && !lesion.get(place) && !vessel.get(place)
        });
        BTreeMap::from([
            (DceStructure::Tumour, lesion),
            (DceStructure::Breast, breast),
            (DceStructure::Gland, gland),
            (DceStructure::Vessel, vessel),
        ])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;

    fn small(regime: DceRegime) -> DcePhantom {
        DcePhantom { shape: [40, 56, 56], spacing_mm: [2.8, 2.0, 2.0], regime }
    }

    fn draw(regime: DceRegime) -> DceCase {
        small(regime).draw(1, "phantom-0001", "P0001", Split::Train).unwrap()
    }

    /// Mean of an image over a mask.
    fn mean(case: &DceCase, phase: usize, structure: DceStructure) -> f64 {
        let values = case.phases[phase].image.values().iter();
        let inside = values.zip(case.masks[&structure].values()).filter(|&(_, &inside)| inside);
        let (sum, n) = inside.fold((0.0, 0.0), |(sum, n), (&v, _)| (sum + f64::from(v), n + 1.0));
        sum / n
    }

    #[test]
    fn tissues_enhance_in_their_order() {
        let case = draw(DceRegime::Base);
        let percent = |phase, structure| {
            100.0 * (mean(&case, phase, structure) / mean(&case, 0, structure) - 1.0)
        };
        let gland = percent(1, DceStructure::Gland);
        assert!((15.0..60.0).contains(&gland), "{gland}");
        let tumour = percent(1, DceStructure::Tumour);
        assert!((70.0..130.0).contains(&tumour), "{tumour}");
        assert!(percent(2, DceStructure::Tumour) < tumour);
        assert!(percent(2, DceStructure::Gland) > gland);
        let area = |structure: DceStructure| case.masks[&structure].area();
        assert!(area(DceStructure::Tumour) > 50 && area(DceStructure::Vessel) > 50);
        let outside = case.masks[&DceStructure::Tumour].values().iter();
        let outside = outside.zip(case.masks[&DceStructure::Breast].values());
        assert_eq!(outside.filter(|&(&tumour, &breast)| tumour && !breast).count(), 0);
    }

    #[test]
    fn the_same_case_comes_back_whatever_the_threads() {
        let case = draw(DceRegime::Mixed);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(pool.install(|| draw(DceRegime::Mixed)), case);
        let other = small(DceRegime::Mixed).draw(1, "phantom-0002", "P0002", Split::Train).unwrap();
        assert_ne!(other.masks, case.masks);
        let params: serde_json::Value = serde_json::from_str(&case.params).unwrap();
        assert!(params["drawn"]["snr"].as_f64().unwrap() >= 8.0);
    }

    #[test]
    fn what_is_hard_changes_nothing_else() {
        let (base, noisy) = (draw(DceRegime::Base), draw(DceRegime::Noisy));
        assert_eq!(base.masks, noisy.masks);
        assert_ne!(base.phases, noisy.phases);
        assert!(draw(DceRegime::Small).masks[&DceStructure::Tumour].area() < 200);
    }

    #[test]
    fn volumes_without_room_are_refused() {
        let narrow = DcePhantom { shape: [16, 20, 20], ..DcePhantom::default() };
        let error = narrow.check().unwrap_err();
        assert!(matches!(error, DatasetsError::Setting { setting: "shape * spacing_mm", .. }));
    }
}
