//! Prints the processor time of reading as a JSON object; `tests/compare/imaging` sets it against other libraries.
//!
//! `cargo run --release -p datasets --example reader_rate -- films|epoch|ten_epochs FOLDER [SAMPLES]`, one thread. Into the folder go the
//! files that are read, and as NumPy files what came of them.
#![allow(clippy::print_stdout, reason = "printing is what this program does")]

#[path = "../../tests/compare/rate/clock.rs"]
mod clock;
#[path = "../../tests/compare/rate/exchange.rs"]
mod exchange;

use std::{collections::BTreeMap, error::Error, fs, path::Path};

use datasets::{
    CaseImage, CaseLabel, DatasetsError, Grid, Image, Mask, SourceKind, Spacing, Split, Stream,
    jsrt::{FILM_SIDE, JsrtEntry, JsrtLayout, read_case},
    shard::{read_images, read_labels, write_images, write_labels},
};

use clock::sampled;
use exchange::{write, write_numbers};

/// Milliseconds of each sample.
type Times = Result<Vec<f64>, Box<dyn Error>>;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [name, folder, rest @ ..] = words.as_slice() else {
        return Err("expected films, epoch or ten_epochs, and a folder".into());
    };
    let n_samples = rest.first().map_or(Ok(5), |word| word.parse())?;
    let run: fn(&Path, usize) -> Times = match name.as_str() {
        "films" => films,
        "epoch" => |folder: &Path, n_samples| epochs(folder, n_samples, 1),
        "ten_epochs" => |folder: &Path, n_samples| epochs(folder, n_samples, 10),
        other => {
            return Err(format!("no row `{other}`: expected films, epoch or ten_epochs").into());
        }
    };
    // The pool's only thread is this one, whose time is measured.
    rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global()?;
    let times = run(Path::new(folder), n_samples)?;
    let times: Vec<String> = times.iter().map(|time| format!("{time:.4}")).collect();
    let peak = clock::peak_mib().map_or("null".to_owned(), |mib| format!("{mib:.1}"));
    println!("{{\"times_ms\": [{}], \"peak_mib\": {peak}}}", times.join(", "));
    Ok(())
}

/// 247 raw films, read and reduced to 256 x 256; sixteen different ones under as many names as the data set has.
fn films(folder: &Path, n_samples: usize) -> Times {
    let name = |number: usize| folder.join(format!("film{number:03}.IMG"));
    let mut stream = Stream::new(9, "example.films", &[]);
    for number in 0..247 {
        if number < 16 {
            let n_pixels = FILM_SIDE * FILM_SIDE;
            let raw = (0..n_pixels).flat_map(|_| (stream.below(4096) as u16).to_be_bytes());
            fs::write(name(number), raw.collect::<Vec<u8>>())?;
        } else {
            fs::hard_link(name(number % 16), name(number))?;
        }
    }
    let entries: Vec<JsrtEntry> = (0..247)
        .map(|number| JsrtEntry {
            id: format!("film{number:03}"),
            layout: JsrtLayout::Official,
            image: name(number),
            masks: BTreeMap::new(),
            published_split: None,
            clinical: None,
        })
        .collect();
    let read = || -> Result<Vec<Image>, DatasetsError> {
        let read = entries.iter().map(|entry| read_case(entry, Split::Train, 256));
        read.map(|case| Ok(case?.image.image)).collect()
    };
    let first = read()?.iter().take(16).flat_map(|image| image.values().to_vec()).collect();
    write(folder, "ours", &Image::new([16, 256, 256], first)?)?;
    Ok(sampled(n_samples.min(3), read))
}

/// Cases of an epoch, and the sources of their labels.
const N_CASES: usize = 400;
const N_SOURCES: usize = 5;
const SIDE: usize = 256;
/// Cases of a batch.
const BATCH: usize = 16;

/// Shards are read once, and every case goes once an epoch into a batch, in a shuffled order.
fn epochs(folder: &Path, n_samples: usize, n_epochs: usize) -> Times {
    let (images, labels) = drawn();
    let image_shard = folder.join("train-images.parquet");
    write_images(&image_shard, &images)?;
    let label_shards: Vec<_> =
        (0..N_SOURCES).map(|source| folder.join(format!("train-labels{source}.parquet"))).collect();
    for (path, labels) in label_shards.iter().zip(&labels) {
        write_labels(path, labels)?;
    }
    let all = images.iter().flat_map(|case| case.image.values().to_vec()).collect();
    write(folder, "images", &Image::new([N_CASES, SIDE, SIDE], all)?)?;
    let masks = (0..N_CASES).flat_map(|case| labels.iter().map(move |source| &source[case].mask));
    let masks = masks.flat_map(|mask| mask.values().to_vec()).collect();
    write(folder, "masks", &Mask::new([N_CASES, N_SOURCES * SIDE, SIDE], masks)?)?;
    let mut order: Vec<usize> = (0..N_CASES).collect();
    Stream::new(4, "example.order", &[]).shuffle(&mut order);
    write_numbers(folder, "order", &order.iter().map(|&case| case as f64).collect::<Vec<_>>())?;
    let read = || -> Result<[f64; 2], DatasetsError> {
        let images = read_images(&image_shard)?;
        let labels: Vec<Vec<CaseLabel>> =
            label_shards.iter().map(|path| read_labels(path)).collect::<Result<_, _>>()?;
        let sums = (0..n_epochs).map(|_| batches(&images, &labels, &order));
        Ok(sums.fold([0.0; 2], |[a, b], [c, d]| [a + c, b + d]))
    };
    write_numbers(folder, "ours", &read()?)?;
    Ok(sampled(n_samples.min(3), read))
}

/// Copies every case into the buffers of a batch; gives a sum over pixels of each batch, so that nothing is left out.
fn batches(images: &[CaseImage], labels: &[Vec<CaseLabel>], order: &[usize]) -> [f64; 2] {
    let n_pixels = SIDE * SIDE;
    let mut pixels = vec![0.0_f32; BATCH * n_pixels];
    let mut masks = vec![0_u8; N_SOURCES * BATCH * n_pixels];
    let mut sums = [0.0; 2];
    for batch in order.chunks(BATCH) {
        for (row, &case) in batch.iter().enumerate() {
            pixels[row * n_pixels..][..n_pixels].copy_from_slice(images[case].image.values());
            for (source, labels) in labels.iter().enumerate() {
                let target = &mut masks[(source * BATCH + row) * n_pixels..][..n_pixels];
                for (target, &inside) in target.iter_mut().zip(labels[case].mask.values()) {
                    *target = u8::from(inside);
                }
            }
            sums[0] += f64::from(pixels[row * n_pixels]);
            for source in 0..N_SOURCES {
                let mask = &masks[(source * BATCH + row) * n_pixels..][..n_pixels];
                sums[1] += mask.iter().step_by(257).map(|&inside| f64::from(inside)).sum::<f64>();
            }
        }
    }
    sums
}

/// Images of 12 bits, and labels of five sources.
fn drawn() -> (Vec<CaseImage>, Vec<Vec<CaseLabel>>) {
    let mut stream = Stream::new(2, "example.epoch", &[]);
    let grain: Vec<f32> = (0..N_CASES + SIDE * SIDE).map(|_| stream.normal() as f32).collect();
    let disc = |case: usize, source: usize| {
        let centre = [110.0 + (case % 37) as f32, 115.0 + (3 * source) as f32];
        Grid::from_fn([1, SIDE, SIDE], |[_, row, column]| {
            (row as f32 - centre[0]).hypot(column as f32 - centre[1]) < 70.0
        })
    };
    let images = (0..N_CASES).map(|case| {
        let body = disc(case, 0);
        let pixel = |(place, &inside): (usize, &bool)| {
            let value = if inside { 2100.0 } else { 600.0 } + 60.0 * grain[case + place];
            value.clamp(0.0, 4095.0).floor() / 4095.0
        };
        let values = body.values().iter().enumerate().map(pixel).collect();
        CaseImage {
            id: format!("case{case:04}"),
            patient: format!("case{case:04}"),
            dataset: "drawn".to_owned(),
            split: Split::Train,
            image: Grid::new([1, SIDE, SIDE], values).expect("a value a pixel"),
            spacing: Spacing::unit(),
            affine: None,
        }
    });
    let label = |case: usize, source: usize| CaseLabel {
        id: format!("case{case:04}"),
        source: format!("source{source}"),
        kind: SourceKind::Human,
        structure: "lung".to_owned(),
        split: Split::Train,
        mask: disc(case, source),
        probability: None,
        spacing: Spacing::unit(),
        affine: None,
        params: None,
    };
    let labels = (0..N_SOURCES)
        .map(|source| (0..N_CASES).map(|case| label(case, source)).collect())
        .collect();
    (images.collect(), labels)
}
