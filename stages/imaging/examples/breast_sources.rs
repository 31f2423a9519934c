//! The four region-growing sources on drawn breast scans: Dice, volume ratio and fine detail, by what is hard about a case.
//!
//! `cargo run --release -p imaging --example breast_sources -- [gated] [each] [full]`; `full` draws one case on the grid of
//! 320 x 224 x 160 voxels and prints the time of every step.

#![allow(clippy::print_stdout, reason = "an example talks")]

use std::{error::Error, time::Instant};

use datasets::{
    Image, Mask, Split,
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

struct Row {
    dice: f64,
    volume: f64,
    detail: f64,
}

fn timed<T>(is_told: bool, name: &str, run: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let found = run();
    if is_told {
        println!("{name:<24} {:8.1} ms", start.elapsed().as_secs_f64() * 1e3);
    }
    found
}

fn image(case: &DceCase, phase: usize) -> &Image {
    &case.phases[phase].image
}

fn row(found: &Mask, truth: &Mask, fine: &Mask) -> Result<Row, Box<dyn Error>> {
    let dice = Overlap::count(truth, found)?.dice(EmptyPolicy::default()).unwrap_or(0.0);
    let hits = fine.values().iter().zip(found.values()).filter(|&(&a, &b)| a && b).count();
    Ok(Row {
        dice,
        volume: found.area() as f64 / truth.area().max(1) as f64,
        detail: hits as f64 / fine.area().max(1) as f64,
    })
}

fn rows(
    case: &DceCase,
    sigmas: Vec<f64>,
    gate: bool,
    is_told: bool,
) -> Result<Vec<Row>, Box<dyn Error>> {
    let spacing = case.phases[0].spacing.millimetres();
    let phases =
        Phases { pre: image(case, 0), early: image(case, 1), late: image(case, 2), spacing };
    let whole = &case.masks[&DceStructure::Breast];
    if is_told {
        let own = timed(is_told, "breast", || breast::find(phases, &breast::Breast::default()))?;
        let dice = Overlap::count(whole, &own)?.dice(EmptyPolicy::default()).unwrap_or(0.0);
        println!("breast found: Dice {dice:.3} with what was drawn");
    }
    let inner =
        timed(is_told, "rim", || breast::inner(whole, spacing, &breast::Breast::default()))?;
    let taken = timed(is_told, "uptake", || uptake(phases, &inner))?;
    let settings = Vesselness { sigmas_mm: sigmas, ..Vesselness::default() };
    let found =
        timed(is_told, "vesselness", || vesselness(&taken.uptake, &inner, spacing, &settings))?;
    let settings = Suppression { gate, ..Suppression::default() };
    let vessels =
        timed(is_told, "suppress", || suppress(&taken.uptake, &found, spacing, &settings))?;
    let map = timed(is_told, "enhancement", || {
        enhancement(
            &vessels.suppressed,
            &taken.percent,
            &taken.ratio,
            &inner,
            &Enhancement::default(),
        )
    })?;
    let maps = Maps {
        enhancement: &map,
        uptake: &taken.uptake,
        vesselness: &vessels.vesselness,
        breast: &inner,
        spacing,
    };
    let truth = &case.masks[&DceStructure::Tumour];
    let thick = dilate(&erode(truth, 2.5, spacing, Border::Unknown), 2.5, spacing);
    let mut fine = truth.clone();
    fine.values_mut().iter_mut().zip(thick.values()).for_each(|(fine, &thick)| *fine &= !thick);
    let growers: [&dyn Grower; 4] =
        [&Edge::default(), &Smooth::default(), &Statistic::default(), &Fuzzy::default()];
    growers
        .into_iter()
        .map(|grower| {
            let grown = timed(is_told, grower.name(), || outline(grower, maps))?;
            row(&grown.mask, truth, &fine)
        })
        .collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| words.iter().any(|found| found == word);
    if has("full") {
        let phantom = DcePhantom {
            shape: [160, 224, 320],
            spacing_mm: [1.4, 0.7, 0.7],
            regime: DceRegime::Base,
        };
        let case =
            timed(true, "phantom", || phantom.draw(0, "phantom-0001", "P0001", Split::Test))?;
        for row in rows(&case, vec![0.7, 1.0, 1.4, 2.0], has("gated"), true)? {
            println!("{:.2}/{:.2}/{:.2}", row.dice, row.volume, row.detail);
        }
        return Ok(());
    }
    for regime in DceRegime::CASES {
        let mut line = format!("{:<12}", regime.name());
        let mut sums = vec![[0.0; 3]; 4];
        for seed in 0..3 {
            let phantom = DcePhantom { regime, ..DcePhantom::default() };
            let case = phantom.draw(seed, "phantom-0001", "P0001", Split::Test)?;
            let found = rows(&case, vec![1.0, 1.4, 2.0, 2.8], has("gated"), false)?;
            if has("each") {
                let dice: Vec<String> =
                    found.iter().map(|row| format!("{:.2}", row.dice)).collect();
                println!("{} {seed}: {}", regime.name(), dice.join(" "));
            }
            for (sum, row) in sums.iter_mut().zip(found) {
                for (sum, value) in sum.iter_mut().zip([row.dice, row.volume, row.detail]) {
                    *sum += value / 3.0;
                }
            }
        }
        for [dice, volume, detail] in sums {
            line.push_str(&format!("  {dice:.2}/{volume:5.2}/{detail:.2}"));
        }
        println!("{line}");
    }
    Ok(())
}
