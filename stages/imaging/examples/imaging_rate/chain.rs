//! All steps of the breast chain for one case; what counts is the memory.

use datasets::{
    Image, Split,
    phantom::{DcePhantom, DceRegime},
};
use imaging::{
    dce::{Enhancement, Phases, Suppression, breast, enhancement, suppress, uptake},
    sources::{Edge, Fuzzy, Grower, Maps, Smooth, Statistic, outline},
    vesselness::{Vesselness, vesselness},
};

use crate::{Bench, clock::sampled, inputs, rows::Times};

pub(crate) fn run(_: &Bench) -> Times {
    let phantom =
        DcePhantom { shape: inputs::SCAN, spacing_mm: inputs::SPACING, regime: DceRegime::Base };
    let case = phantom.draw(0, "phantom-0001", "P0001", Split::Test)?;
    // Drawing takes more memory than the scan: only what comes after it counts. The kernel forgets the peak.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let image = |phase: usize| -> &Image { &case.phases[phase].image };
    let phases =
        Phases { pre: image(0), early: image(1), late: image(2), spacing: inputs::SPACING };
    let chain = || -> Result<usize, imaging::ImagingError> {
        let settings = breast::Breast::default();
        let inner = breast::inner(&breast::find(phases, &settings)?, inputs::SPACING, &settings)?;
        let taken = uptake(phases, &inner)?;
        let found = vesselness(&taken.uptake, &inner, inputs::SPACING, &Vesselness::default())?;
        let vessels = suppress(&taken.uptake, &found, inputs::SPACING, &Suppression::default())?;
        let map = enhancement(
            &vessels.suppressed,
            &taken.percent,
            &taken.ratio,
            &inner,
            &Enhancement::default(),
        )?;
        let maps = Maps {
            enhancement: &map,
            uptake: &taken.uptake,
            vesselness: &vessels.vesselness,
            breast: &inner,
            spacing: inputs::SPACING,
        };
        let growers: [&dyn Grower; 4] =
            [&Edge::default(), &Smooth::default(), &Statistic::default(), &Fuzzy::default()];
        growers
            .into_iter()
            .try_fold(0, |n_voxels, grower| Ok(n_voxels + outline(grower, maps)?.mask.area()))
    };
    chain()?;
    Ok(sampled(1, chain))
}
