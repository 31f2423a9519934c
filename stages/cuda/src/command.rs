//! The verbs of `pipeline-cuda` about the GPU: what is there of CUDA, whether it computes what the CPU computes, and how
//! fast.
//!
//! Rows go to stdout, talk to stderr. Exit status: 0 done, 1 something failed or a number is wrong, 2 bad arguments.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use crate::{
    CudaError, Number, bench,
    check::{self, Row},
    gpu::{self, Gpu},
};

const USAGE: &str = "usage: pipeline-cuda VERB [--gpu N] [--json], or any verb of `pipeline`

  doctor      where driver and libraries are, or where they were looked for
  selfcheck   every operation and whole steps against the CPU; exit status 1 if a number is wrong
  bench       time and memory of training steps, in bf16 and f32
";

const VERBS: [&str; 3] = ["doctor", "selfcheck", "bench"];

/// What the command line asks for.
struct Request {
    verb: String,
    gpu: usize,
    json: bool,
}

/// Does what `arguments` ask for, if the first of them is a verb of this crate.
pub fn run(mut arguments: impl Iterator<Item = String>) -> Option<ExitCode> {
    let verb = arguments.next().filter(|verb| VERBS.contains(&verb.as_str()))?;
    Some(match parse(verb, arguments) {
        Ok(request) => answer(&request),
        Err(why) => {
            say(&format!("error: {why}\n{USAGE}"));
            ExitCode::from(2)
        }
    })
}

fn answer(request: &Request) -> ExitCode {
    let done = match request.verb.as_str() {
        "doctor" => Ok(doctor(request)),
        "selfcheck" => selfcheck(request),
        _ => run_bench(request),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            say(&format!("error: {fault}\n"));
            if let Some(hint) = fault.hint() {
                say(&format!("hint: {hint}\n"));
            }
            ExitCode::FAILURE
        }
    }
}

fn parse(verb: String, mut arguments: impl Iterator<Item = String>) -> Result<Request, String> {
    let (mut gpu, mut json) = (0, false);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => json = true,
            "--gpu" => {
                let number = arguments.next().unwrap_or_default();
                gpu =
                    number.parse().map_err(|_| format!("--gpu takes a number: got `{number}`"))?;
            }
            other => return Err(format!("unknown argument `{other}`")),
        }
    }
    Ok(Request { verb, gpu, json })
}

/// Writes to stderr; there is nobody to tell if that fails.
fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Writes a line to stdout.
fn tell(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

fn doctor(request: &Request) -> bool {
    let mut good = true;
    for found in gpu::find() {
        let is_there = found.place.is_ok();
        good &= is_there || found.optional;
        if request.json {
            let (place, tried) = match &found.place {
                Ok(place) => (Some(place.clone()), Vec::new()),
                Err(tried) => (None, tried.clone()),
            };
            tell(
                &serde_json::json!({ "library": found.library, "found": place, "tried": tried })
                    .to_string(),
            );
        } else {
            let place =
                found.place.unwrap_or_else(|tried| format!("not found: {}", tried.join(", ")));
            tell(&format!("{:<18} {place}", found.library));
        }
    }
    match good.then(|| Gpu::open(request.gpu)) {
        Some(Ok(gpu)) if request.json => {
            tell(&serde_json::json!({ "gpu": gpu.name() }).to_string())
        }
        Some(Ok(gpu)) => tell(&format!("{:<18} {}", "GPU", gpu.name())),
        Some(Err(fault)) => {
            say(&format!("error: {fault}\n"));
            good = false;
        }
        None => (),
    }
    good
}

fn selfcheck(request: &Request) -> Result<bool, CudaError> {
    let mut gpu = Gpu::open(request.gpu)?;
    say(&format!("comparing {} with the CPU\n", gpu.name()));
    if !request.json {
        tell(&check::heading());
    }
    let (mut n_rows, mut n_wrong) = (0, 0);
    check::compare(&mut gpu, &mut |row: Row| {
        n_rows += 1;
        n_wrong += usize::from(!row.is_good());
        if request.json {
            let Row { operation, shape, number, error, bound } = &row;
            let (dtype, ok) = (number.to_string(), row.is_good());
            let line = serde_json::json!({
                "operation": operation, "shape": shape, "dtype": dtype, "error": error, "bound": bound, "ok": ok,
            });
            tell(&line.to_string());
        } else {
            tell(&row.to_string());
        }
    })?;
    say(&format!("{} of {n_rows} comparisons are good\n", n_rows - n_wrong));
    Ok(n_wrong == 0)
}

fn run_bench(request: &Request) -> Result<bool, CudaError> {
    for case in bench::cases() {
        for number in [Number::Bf16, Number::F32] {
            let timing = bench::time(Gpu::open(request.gpu)?, &case, number)?;
            let dtype = timing.number.to_string();
            if request.json {
                let (ours_ms, peak_mib) = (timing.milliseconds, timing.peak_mib);
                let line = serde_json::json!({
                    "step": timing.step, "dtype": dtype, "ours_ms": ours_ms, "peak_mib": peak_mib,
                });
                tell(&line.to_string());
            } else {
                let (milliseconds, mib) = (timing.milliseconds, timing.peak_mib);
                tell(&format!(
                    "{:<40} {dtype:<5} {milliseconds:>9.2} ms {mib:>8.0} MiB",
                    timing.step
                ));
            }
        }
    }
    Ok(true)
}
