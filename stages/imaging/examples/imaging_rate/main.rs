//! Prints the processor time of one operation as a JSON object; `tests/compare/imaging` sets it against other libraries.
//!
//! `cargo run --release -p imaging --example imaging_rate -- ROW [FOLDER [SAMPLES]]`, one thread; without arguments the names
//! of the rows. Inputs are drawn from seeds. Into the folder go inputs and results as NumPy files.
#![allow(clippy::print_stdout, reason = "printing is what this program does")]

mod chain;
#[path = "../../../../tests/compare/rate/clock.rs"]
mod clock;
#[path = "../../../../tests/compare/rate/exchange.rs"]
mod exchange;
mod inputs;
mod rows;

use std::{error::Error, path::PathBuf};

use rows::{ROWS, Row};

/// Where a row puts what others need, and how often it measures.
pub(crate) struct Bench {
    folder: Option<PathBuf>,
    n_samples: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let Some(name) = words.next() else {
        ROWS.iter().for_each(|row| println!("{}", row.name));
        return Ok(());
    };
    let bench = Bench {
        folder: words.next().map(PathBuf::from),
        n_samples: words.next().map_or(Ok(5), |word| word.parse())?,
    };
    let Row { run, .. } = ROWS
        .iter()
        .find(|row| row.name == name)
        .ok_or_else(|| format!("no row `{name}`: call without arguments for their names"))?;
    // The pool's only thread is this one, whose time is measured.
    rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global()?;
    let times = run(&bench)?;
    let times: Vec<String> = times.iter().map(|time| format!("{time:.4}")).collect();
    let peak = clock::peak_mib().map_or("null".to_owned(), |mib| format!("{mib:.1}"));
    println!("{{\"times_ms\": [{}], \"peak_mib\": {peak}}}", times.join(", "));
    Ok(())
}
