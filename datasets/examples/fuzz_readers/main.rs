//! Feeds damaged files to every reader: no panic, and no allocation beyond a bound that grows with the file.
//!
//! `cargo run --release -p datasets --example fuzz_readers -- --seconds 60 [--format png] [--rng-seed 0]`
//!
//! Files are good ones of every format with up to three mutations; half of the compressed ones are mutated before they are
//! compressed, so that their checksums hold. The same seed gives the same files; a `TMPDIR` in memory makes more of them. Files that break a reader are kept in
//! the folder that the last line names, and the exit code is 1.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks")]

mod mutate;
mod seeds;

use std::{
    env, fs, io,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use datasets::{
    DatasetsError, Stream,
    dicom::read_series,
    lidc::read_reading,
    raster::read_raster,
    sheet::each_row,
    volume::{detached_voxels, read_frames},
};
use peak_alloc::PeakAlloc;

use seeds::{Seed, Target};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Bytes that a reader may have at once for any file: the budget of pictures, twice for what is converted.
const FREE_BYTES: usize = 128 << 20;

/// Further bytes for a stored byte: deflate expands 1032 times, and a byte of voxels becomes 4 more.
const BYTES_A_STORED_BYTE: usize = 8 << 10;

/// What became of the files of a format.
#[derive(Default)]
struct Counts {
    read: usize,
    refused: usize,
    panics: usize,
    greedy: usize,
    peak: usize,
}

impl Counts {
    fn n_files(&self) -> usize {
        self.read + self.refused + self.panics
    }

    fn n_faults(&self) -> usize {
        self.panics + self.greedy
    }
}

struct Options {
    seconds: u64,
    format: Option<String>,
    rng_seed: u64,
}

fn options() -> Result<Options, String> {
    let mut options = Options { seconds: 10, format: None, rng_seed: 0 };
    let mut words = env::args().skip(1);
    while let Some(name) = words.next() {
        let value = words.next().ok_or_else(|| format!("`{name}` needs a value"))?;
        let number =
            || value.parse().map_err(|_| format!("`{name}` needs a number: got `{value}`"));
        match name.as_str() {
            "--seconds" => options.seconds = number()?,
            "--rng-seed" => options.rng_seed = number()?,
            "--format" => options.format = Some(value),
            _ => {
                return Err(format!(
                    "unknown option `{name}`: known are --seconds, --format, --rng-seed"
                ));
            }
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let run = options().and_then(|options| fuzz(&options).map_err(|error| error.to_string()));
    match run {
        Ok(0) => ExitCode::SUCCESS,
        Ok(n_faults) => {
            eprintln!("{n_faults} faults; their files are in {}", kept().display());
            ExitCode::FAILURE
        }
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}

fn kept() -> PathBuf {
    env::temp_dir().join("fuzz_readers_faults")
}

/// Gives every format its share of the time; the number of faults.
fn fuzz(options: &Options) -> Result<usize, Box<dyn std::error::Error>> {
    let all = seeds::all()?;
    // The beginning of a name stands for all that begin so.
    let wanted =
        |seed: &&Seed| options.format.as_deref().is_none_or(|name| seed.format.starts_with(name));
    let chosen: Vec<&Seed> = all.iter().filter(wanted).collect();
    if chosen.is_empty() {
        let known: Vec<&str> = all.iter().map(|seed| seed.format).collect();
        return Err(format!("no such format: known are {}", known.join(", ")).into());
    }
    panic::set_hook(Box::new(|_| {}));
    let folder = env::temp_dir().join(format!("fuzz_readers_{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    println!(
        "{:<14} {:>9} {:>9} {:>9} {:>7} {:>7} {:>9}",
        "format", "files", "read", "refused", "panics", "greedy", "peak MiB"
    );
    let share = Duration::from_millis(1000 * options.seconds / chosen.len() as u64);
    let mut n_faults = 0;
    for seed in chosen {
        let counts = fuzz_format(seed, options.rng_seed, share, &folder)?;
        let Counts { read, refused, panics, greedy, peak } = &counts;
        let peak = peak >> 20;
        println!(
            "{:<14} {:>9} {read:>9} {refused:>9} {panics:>7} {greedy:>7} {peak:>9}",
            seed.format,
            counts.n_files()
        );
        n_faults += counts.n_faults();
    }
    fs::remove_dir_all(&folder)?;
    Ok(n_faults)
}

fn fuzz_format(seed: &Seed, rng_seed: u64, share: Duration, folder: &Path) -> io::Result<Counts> {
    let mut stream = Stream::new(rng_seed, "example.fuzz_readers", &[seed.format]);
    let mut counts = Counts::default();
    let start = Instant::now();
    // The good file comes first: a format whose seed is refused tests nothing.
    let mut files = seed.files.iter().map(seeds::stored).collect::<io::Result<Vec<_>>>()?;
    let mut is_good = true;
    while is_good || start.elapsed() < share {
        for ((name, _), bytes) in seed.names().zip(&files) {
            fs::write(folder.join(name), bytes)?;
        }
        let n_faults = counts.n_faults();
        let was_read = try_reader(seed, folder, files.iter().map(Vec::len).sum(), &mut counts);
        if is_good && !was_read {
            return Err(io::Error::other(format!("the good file of {} is refused", seed.format)));
        }
        if counts.n_faults() > n_faults {
            fs::create_dir_all(kept())?;
            for ((name, _), bytes) in seed.names().zip(&files) {
                fs::write(
                    kept().join(format!("{}_{}_{name}", seed.format, counts.n_files())),
                    bytes,
                )?;
            }
        }
        is_good = false;
        files = mutate::files(seed, &mut stream)?;
    }
    Ok(counts)
}

/// Reads the files and counts what happened; whether they were read.
fn try_reader(seed: &Seed, folder: &Path, n_stored: usize, counts: &mut Counts) -> bool {
    let path = folder.join(&seed.files[0].name);
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let found = panic::catch_unwind(AssertUnwindSafe(|| read(seed.target, &path)));
    let peak = ALLOCATOR.peak_usage().saturating_sub(before);
    counts.peak = counts.peak.max(peak);
    counts.greedy += usize::from(peak > FREE_BYTES + BYTES_A_STORED_BYTE * n_stored);
    match found {
        Ok(Ok(())) => counts.read += 1,
        Ok(Err(_)) => counts.refused += 1,
        Err(_) => counts.panics += 1,
    }
    matches!(found, Ok(Ok(())))
}

fn read(target: Target, path: &Path) -> Result<(), DatasetsError> {
    match target {
        Target::Volume => {
            detached_voxels(path)?;
            read_frames(path).map(drop)
        }
        Target::Raster => {
            let raster = read_raster(path)?;
            // An index beyond the palette is refused there and nowhere before.
            let _ = raster.coloured();
            Ok(())
        }
        Target::Dicom => read_series(&[path.to_owned()]).map(drop),
        Target::Sheet => each_row(path, None, |_, _| {}),
        Target::Reading => read_reading(path).map(drop),
    }
}
