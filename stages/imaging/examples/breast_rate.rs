//! Milliseconds of the operations of the breast chain on the volume of 320 x 224 x 160 voxels of `dce_volume`.
//!
//! `cargo run --release -p imaging --example breast_rate`; `RAYON_NUM_THREADS=1` for one core.

#![allow(clippy::print_stdout, reason = "an example talks")]

use std::time::Instant;

use datasets::{Grid, Image, Mask, Stream};
use imaging::{
    ImagingError,
    components::Connectivity,
    grey::{median, opening},
    recursive::smooth,
    region::{
        Bounds, Confidence, confidence_connected, connected_threshold, neighbourhood_connected,
    },
    vesselness::{Structureness, Vesselness, vesselness},
};

const SHAPE: [usize; 3] = [160, 224, 320];
const SPACING: [f64; 3] = [1.4, 0.7, 0.7];

/// A breast of 200, a tumour of 600 and tubes of 500 on 20, with noise of 12.
fn dce_volume() -> Image {
    let mut stream = Stream::new(7, "example.dce_volume", &[]);
    let tubes: Vec<[f64; 5]> = (0..8)
        .map(|_| {
            [
                stream.between(30.0, 130.0),
                stream.between(40.0, 180.0),
                stream.between(0.0, 12.0),
                stream.between(0.0, 18.0),
                stream.between(1.5, 3.0),
            ]
        })
        .collect();
    let within = |place: [usize; 3], centre: [f64; 3], radius: [f64; 3]| {
        (0..3).map(|a| ((place[a] as f64 - centre[a]) / radius[a]).powi(2)).sum::<f64>() <= 1.0
    };
    Grid::from_fn(SHAPE, |place| {
        let [z, y, x] = place.map(|at| at as f64);
        let mut value = 20.0;
        if within(place, [80.0, 112.0, 160.0], [70.0, 100.0, 150.0]) {
            value = 200.0;
        }
        for (t, [cz, cy, az, ay, r]) in (0_u8..).zip(&tubes) {
            let cz = cz + az * (x / 37.0 + f64::from(t)).sin();
            let cy = cy + ay * (x / 53.0 + 2.0 * f64::from(t)).sin();
            if (z - cz).powi(2) + (y - cy).powi(2) <= r * r {
                value = 500.0;
            }
        }
        if within(place, [80.0, 112.0, 130.0], [15.0, 18.0, 22.0]) {
            value = 600.0;
        }
        let noise: f64 = (0..4).map(|_| stream.uniform()).sum::<f64>() - 2.0;
        (value + 12.0 * 3.0_f64.sqrt() * noise) as f32
    })
}

fn timed<T>(
    name: &str,
    n: usize,
    mut run: impl FnMut() -> Result<T, ImagingError>,
) -> Result<(), ImagingError> {
    let mut times = Vec::new();
    for _ in 0..n {
        let start = Instant::now();
        std::hint::black_box(run()?);
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    println!("{name:<44} {:8.2} ms [{:.2} .. {:.2}]", times[n / 2], times[0], times[n - 1]);
    Ok(())
}

fn main() -> Result<(), ImagingError> {
    let volume = dce_volume();
    let everywhere = Mask::filled(SHAPE, true);
    let scale =
        |structureness| Vesselness { sigmas_mm: vec![1.0], structureness, ..Vesselness::default() };
    timed("copy", 3, || Ok(volume.clone()))?;
    timed("recursive Gaussian, 1 mm", 3, || {
        let mut image = volume.clone();
        smooth(&mut image, 1.0, SPACING).map(|()| image)
    })?;
    let fixed = scale(Structureness::Fixed(50.0));
    timed("vesselness, 1 scale, fixed c", 3, || vesselness(&volume, &everywhere, SPACING, &fixed))?;
    let adaptive = scale(Structureness::HalfOfPercentile(99.9));
    timed("vesselness, 1 scale, c by percentile", 3, || {
        vesselness(&volume, &everywhere, SPACING, &adaptive)
    })?;
    for (name, seed, lower, upper) in
        [("tumour", [80, 112, 130], 540.0, 700.0), ("breast", [60, 40, 160], 140.0, 260.0)]
    {
        let bounds = Bounds { lower, upper };
        let found = connected_threshold(&volume, &[seed], bounds, Connectivity::Face)?;
        println!("{name}: {} voxels", found.n_voxels());
        timed("connected threshold", 5, || {
            connected_threshold(&volume, &[seed], bounds, Connectivity::Face)
        })?;
        timed("neighbourhood connected, radius 1", 5, || {
            neighbourhood_connected(&volume, &[seed], bounds, [1; 3])
        })?;
        let settings = Confidence { multiplier: 2.5, n_iterations: 5, seed_radius: 1 };
        timed("confidence connected, 5 iterations", 3, || {
            confidence_connected(&volume, &[seed], settings)
        })?;
    }
    timed("opening, ball of 3.2 mm", 1, || opening(&volume, 3.2, SPACING))?;
    timed("median, 5 x 5 x 3", 1, || Ok(median(&volume, [1, 2, 2])))
}
