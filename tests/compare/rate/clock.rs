//! Time of calls in one thread, and the memory of the process.

use std::{fs, time::Instant};

/// A sample is as many calls as take this long.
const SAMPLE_MS: f64 = 40.0;

/// Milliseconds a call of `n_samples` samples, after two calls that do not count.
///
/// The clock of the wall: at real-time priority, as `tests/compare/imaging` starts its programs, that of the processor is
/// hardly less, and the system brings it up to date only now and then.
pub(crate) fn sampled<T>(n_samples: usize, mut call: impl FnMut() -> T) -> Vec<f64> {
    let mut time = |n_calls: usize| {
        let start = Instant::now();
        for _ in 0..n_calls {
            std::hint::black_box(call());
        }
        start.elapsed().as_secs_f64() * 1e3 / n_calls as f64
    };
    time(1);
    let n_calls = (SAMPLE_MS / time(1)).ceil().clamp(1.0, 1e4) as usize;
    (0..n_samples).map(|_| time(n_calls)).collect()
}

/// Greatest resident memory of this process in MiB.
pub(crate) fn peak_mib() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kib| kib / 1024.0)
}
