//! The operations.

use std::error::Error;

use datasets::{Grid, Image, Mask};
use imaging::{
    components::Connectivity,
    distance::Border,
    fusion::{NamedMask, StapleOptions, staple},
    morphology::{dilate, erode},
    noise::{
        Correlation, Erase, ErodeDilate, FlipSquare, NoiseCase, NoiseSource, Polygonize, Shift,
        Simulator, simulate,
    },
    region::{
        Bounds, Confidence, confidence_connected, connected_threshold, neighbourhood_connected,
    },
    resample::{Alignment, Resampling, resample},
    scores::SurfaceDistances,
    vesselness::{Structureness, Vesselness, vesselness},
};

use crate::{
    Bench, chain,
    clock::sampled,
    exchange::{Value, write, write_numbers},
    inputs,
};

/// Milliseconds of each sample.
pub(crate) type Times = Result<Vec<f64>, Box<dyn Error>>;

/// One operation.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Bench) -> Times,
}

/// All of them.
pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "erode",
        run: |bench| ball(bench, |mask| erode(mask, RADIUS, [1.0; 3], Border::Unknown)),
    },
    Row { name: "dilate", run: |bench| ball(bench, |mask| dilate(mask, RADIUS, [1.0; 3])) },
    Row { name: "simulators", run: simulators },
    Row { name: "staple_2d", run: |bench| fuse(bench, &raters()) },
    Row { name: "staple_3d", run: |bench| fuse(bench, &inputs::tumour_raters()) },
    Row { name: "surface_tumour", run: surface_tumour },
    Row { name: "vesselness", run: vessels },
    Row { name: "connected_tumour", run: |bench| connected(bench, &TUMOUR) },
    Row { name: "connected_breast", run: |bench| connected(bench, &BREAST) },
    Row { name: "neighbourhood_tumour", run: |bench| neighbourhood(bench, &TUMOUR) },
    Row { name: "neighbourhood_breast", run: |bench| neighbourhood(bench, &BREAST) },
    Row { name: "confidence_tumour", run: |bench| confidence(bench, &TUMOUR) },
    Row { name: "confidence_breast", run: |bench| confidence(bench, &BREAST) },
    Row { name: "resample", run: resample_scan },
    Row { name: "breast_chain", run: chain::run },
];

impl Bench {
    fn put<T: Value>(&self, name: &str, grid: &Grid<T>) -> Result<(), Box<dyn Error>> {
        self.folder.as_ref().map_or(Ok(()), |folder| Ok(write(folder, name, grid)?))
    }

    fn put_numbers(&self, name: &str, numbers: &[f64]) -> Result<(), Box<dyn Error>> {
        self.folder.as_ref().map_or(Ok(()), |folder| Ok(write_numbers(folder, name, numbers)?))
    }
}

/// Radius of the disc in pixels.
const RADIUS: f64 = 10.0;

fn ball(bench: &Bench, run: impl Fn(&Mask) -> Mask) -> Times {
    let mask = inputs::lungs(2048, 0);
    bench.put("mask", &mask)?;
    bench.put("ours", &run(&mask))?;
    Ok(sampled(bench.n_samples, || run(&mask)))
}

/// The paper's five simulators on 247 masks of 1024 x 1024.
fn simulators(bench: &Bench) -> Times {
    let masks: Vec<Mask> = (0..247).map(|number| inputs::lungs(1024, number)).collect();
    let all: [(&dyn Simulator, f64); 5] = [
        (&ErodeDilate::default(), 12.0),
        (&Shift::default(), 40.0),
        (&FlipSquare::default(), 180.0),
        (&Polygonize::default(), 9.0),
        (&Erase::default(), 0.5),
    ];
    let run = || -> Result<usize, imaging::ImagingError> {
        let mut area = 0;
        for (simulator, strength) in all {
            let correlation = Correlation::default();
            let source = NoiseSource { simulator, correlation, seed: 3, name: simulator.name() };
            for (number, mask) in masks.iter().enumerate() {
                let id = number.to_string();
                let case = NoiseCase { id: &id, mask, spacing: [1.0; 3] };
                area += simulate(&source, strength, &case)?.mask.area();
            }
        }
        Ok(area)
    };
    run()?;
    Ok(sampled(bench.n_samples.min(3), run))
}

fn raters() -> Vec<Mask> {
    (0..5).map(|number| inputs::lungs(2048, number)).collect()
}

fn fuse(bench: &Bench, masks: &[Mask]) -> Times {
    let named: Vec<NamedMask<'_>> =
        masks.iter().map(|mask| NamedMask { source: "rater", mask }).collect();
    for (number, mask) in masks.iter().enumerate() {
        bench.put(&format!("mask{number}"), mask)?;
    }
    let estimate = staple(&named, &StapleOptions::default())?;
    bench.put("ours", &estimate.weights())?;
    bench.put_numbers("sensitivity", &estimate.sensitivity)?;
    Ok(sampled(bench.n_samples, || {
        staple(&named, &StapleOptions::default()).map(|estimate| estimate.probability())
    }))
}

fn surface_tumour(bench: &Bench) -> Times {
    let [reference, prediction] = inputs::tumour_pair();
    bench.put("reference", &reference)?;
    bench.put("prediction", &prediction)?;
    let run = || {
        let distances = SurfaceDistances::measure(&reference, &prediction, inputs::SPACING);
        let found = distances.ok().flatten();
        found.map(|found| {
            [found.assd(), found.percentile_pooled(95.0), found.percentile_directed(95.0)]
        })
    };
    bench.put_numbers("ours", &run().ok_or("both masks have a surface")?)?;
    Ok(sampled(bench.n_samples, run))
}

/// Scales in millimetres.
const SIGMAS: [f64; 3] = [0.7, 1.4, 2.1];
/// The norm that counts as structure.
const STRUCTURE: f64 = 50.0;

fn vessels(bench: &Bench) -> Times {
    let (image, inside) = (inputs::scan(), Mask::filled(inputs::SCAN, true));
    let settings = Vesselness {
        sigmas_mm: SIGMAS.to_vec(),
        structureness: Structureness::Fixed(STRUCTURE),
        ..Vesselness::default()
    };
    bench.put("image", &image)?;
    bench.put("ours", &vesselness(&image, &inside, inputs::SPACING, &settings)?)?;
    let run = || vesselness(&image, &inside, inputs::SPACING, &settings);
    Ok(sampled(bench.n_samples.min(3), run))
}

/// Where a region grows, and the values that belong to it.
struct Start {
    seed: [usize; 3],
    bounds: Bounds,
}

const TUMOUR: Start = Start { seed: [80, 112, 130], bounds: Bounds { lower: 540.0, upper: 700.0 } };
const BREAST: Start = Start { seed: [60, 40, 160], bounds: Bounds { lower: 140.0, upper: 260.0 } };

/// Measures from the image to the mask.
fn grown(bench: &Bench, run: impl Fn(&Image) -> Result<Mask, imaging::ImagingError>) -> Times {
    let image = inputs::scan();
    bench.put("image", &image)?;
    bench.put("ours", &run(&image)?)?;
    Ok(sampled(bench.n_samples, || run(&image)))
}

fn connected(bench: &Bench, at: &Start) -> Times {
    grown(bench, |image| {
        let region = connected_threshold(image, &[at.seed], at.bounds, Connectivity::Face)?;
        Ok(region.into_mask())
    })
}

fn neighbourhood(bench: &Bench, at: &Start) -> Times {
    grown(bench, |image| {
        Ok(neighbourhood_connected(image, &[at.seed], at.bounds, [1; 3])?.into_mask())
    })
}

fn confidence(bench: &Bench, at: &Start) -> Times {
    let settings = Confidence { multiplier: 2.5, n_iterations: 5, seed_radius: 1 };
    grown(bench, |image| Ok(confidence_connected(image, &[at.seed], settings)?.region.into_mask()))
}

fn resample_scan(bench: &Bench) -> Times {
    let raw = inputs::raw_scan();
    let to = Resampling {
        spacing_mm: Some([1.4, 0.7, 0.7]),
        size: Some([228, 475, 475]),
        alignment: Alignment::FirstVoxel,
        ..Resampling::default()
    };
    let from = [2.0, 0.65, 0.65];
    bench.put("raw", &raw)?;
    bench.put("ours", &resample(&raw, from, &to)?)?;
    Ok(sampled(bench.n_samples, || resample(&raw, from, &to)))
}
