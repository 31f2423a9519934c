//! Comparison of a device with the CPU: every operation, and whole steps.
//!
//! Numbers are fixed by seeds. The CPU gets the inputs as the device sees them, that is rounded to bf16 where that is
//! the format; its own sums are f32 or f64. An error is the largest distance divided by the largest expected value.

mod losses;
mod operations;
mod steps;

use std::fmt;

use crate::{
    Address, Arena, CudaError, Device, Number, buffers,
    launches::{Kernels, PARTIAL_BYTES},
};

/// Sums of a few thousand products in another order.
const F32_BOUND: f64 = 2e-5;
/// One rounding of the result to eight digits, and sums of rounded numbers.
const BF16_BOUND: f64 = 1e-2;

/// One comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What was compared.
    pub operation: String,
    /// Axes, channels and the like.
    pub shape: String,
    /// Format of the activations.
    pub number: Number,
    /// Largest error relative to the largest expected value.
    pub error: f64,
    /// What it may be.
    pub bound: f64,
}

impl Row {
    /// Whether the error is within its bound; NaN is not.
    pub fn is_good(&self) -> bool {
        self.error <= self.bound
    }
}

impl fmt::Display for Row {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_good() { "ok" } else { "FAIL" };
        let Self { operation, shape, number, error, bound } = self;
        let number = number.to_string();
        write!(
            formatter,
            "{operation:<29} {shape:<56} {number:<5} {error:>9.2e} {bound:>9.2e}  {verdict}"
        )
    }
}

/// Heading of the rows' table.
pub fn heading() -> String {
    let [operation, shape, number, error, bound] =
        ["operation", "shape", "dtype", "error", "bound"];
    format!("{operation:<29} {shape:<56} {number:<5} {error:>9} {bound:>9}")
}

/// Compares every operation and whole steps of `device` with the CPU and hands each row to `tell` when it is there.
///
/// # Errors
/// Those of the device; a wrong number is a row and not an error.
pub fn compare(device: &mut dyn Device, tell: &mut dyn FnMut(Row)) -> Result<(), CudaError> {
    let mut arena = Arena::default();
    let partial = arena.take(device, PARTIAL_BYTES)?;
    let number = Number::F32;
    let mut bench = Bench { device, arena: &mut arena, partial, workspace: 0, number, tell };
    bench.need_workspace(64 << 20)?;
    for number in [Number::F32, Number::Bf16] {
        bench.number = number;
        operations::compare(&mut bench)?;
    }
    bench.number = number;
    losses::compare(&mut bench)?;
    steps::compare(device, tell)
}

/// A device with inputs put on it and results taken off.
struct Bench<'a> {
    device: &'a mut dyn Device,
    arena: &'a mut Arena,
    partial: Address,
    /// Bytes of workspace that the device has.
    workspace: usize,
    number: Number,
    tell: &'a mut dyn FnMut(Row),
}

impl Bench<'_> {
    fn kernels(&mut self) -> Kernels<'_> {
        Kernels { device: self.device, number: self.number, partial: self.partial }
    }

    /// Gives the device at least `n_bytes` of workspace.
    fn need_workspace(&mut self, n_bytes: usize) -> Result<(), CudaError> {
        if n_bytes > self.workspace {
            let at = self.arena.take(self.device, n_bytes)?;
            self.device.set_workspace(at, n_bytes)?;
            self.workspace = n_bytes;
        }
        Ok(())
    }

    /// Room for `count` values of the format.
    fn room(&mut self, count: usize) -> Result<Address, CudaError> {
        let at = self.arena.take(self.device, count * self.number.n_bytes())?;
        // Bytes of ones are NaN in both formats: what is read before it is written shows.
        self.device.upload(at, &vec![0xff; count * self.number.n_bytes()])?;
        Ok(at)
    }

    /// Room for `count` f32.
    fn floats(&mut self, count: usize) -> Result<Address, CudaError> {
        let at = self.arena.floats(self.device, count)?;
        self.device.upload(at, &vec![0xff; 4 * count])?;
        Ok(at)
    }

    /// Uploads values in the format.
    fn put(&mut self, values: &[f32]) -> Result<Address, CudaError> {
        let at = self.room(values.len())?;
        buffers::put_numbers(self.device, at, self.number, values)?;
        Ok(at)
    }

    /// Uploads f32.
    fn put_floats(&mut self, values: &[f32]) -> Result<Address, CudaError> {
        let at = self.floats(values.len())?;
        buffers::put(self.device, at, values)?;
        Ok(at)
    }

    /// Downloads as many values of the format as are expected and compares them.
    fn same(&mut self, what: (&str, &str), at: Address, expected: &[f32]) -> Result<(), CudaError> {
        let found = buffers::get_numbers(self.device, at, self.number, expected.len())?;
        let bound = match self.number {
            Number::F32 => F32_BOUND,
            Number::Bf16 => BF16_BOUND,
        };
        self.tell_error(what, largest_error(&found, expected), bound);
        Ok(())
    }

    /// The same for f32, which are sums whatever the format.
    fn same_floats(
        &mut self,
        what: (&str, &str),
        at: Address,
        expected: &[f32],
    ) -> Result<(), CudaError> {
        let found: Vec<f32> = buffers::get(self.device, at, expected.len())?;
        self.tell_error(what, largest_error(&found, expected), F32_BOUND);
        Ok(())
    }

    fn tell_error(&mut self, (operation, shape): (&str, &str), error: f64, bound: f64) {
        let (operation, shape, number) = (operation.to_owned(), shape.to_owned(), self.number);
        (self.tell)(Row { operation, shape, number, error, bound });
    }

    /// Numbers in `[-0.5, 0.5)`, rounded to the format.
    fn numbers(&self, len: usize, seed: u64) -> Vec<f32> {
        let numbers = numbers(len, seed);
        match self.number {
            Number::F32 => numbers,
            Number::Bf16 => numbers.into_iter().map(round).collect(),
        }
    }
}

/// The value that bf16 makes of `value`.
fn round(value: f32) -> f32 {
    buffers::bf16_value(buffers::bf16_bits(value))
}

/// Numbers in `[-0.5, 0.5)`, the same for the same seed.
fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let mut uniform = uniform(seed);
    (0..len).map(|_| (uniform() - 0.5) as f32).collect()
}

/// Numbers in `[0, 1)`: SplitMix64.
pub(crate) fn uniform(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Largest distance over the largest expected value; NaN if any number is.
fn largest_error(found: &[f32], expected: &[f32]) -> f64 {
    let mut distance = 0.0_f64;
    for (&found, &expected) in found.iter().zip(expected) {
        let here = (f64::from(found) - f64::from(expected)).abs();
        if here.is_nan() {
            return f64::NAN;
        }
        distance = distance.max(here);
    }
    let largest =
        expected.iter().fold(0.0_f64, |largest, &value| largest.max(f64::from(value).abs()));
    if distance == 0.0 { 0.0 } else { distance / largest.max(f64::MIN_POSITIVE) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use std::{collections::BTreeSet, sync::OnceLock};

    use super::*;
    use crate::emulator::Emulator;

    /// Runs the whole comparison on the emulator.
    fn rows(reverse: bool) -> Option<(Vec<Row>, BTreeSet<String>)> {
        let mut device = Emulator::new()?;
        device.reverse = reverse;
        let mut rows = Vec::new();
        compare(&mut device, &mut |row| rows.push(row)).unwrap();
        Some((rows, device.launched))
    }

    /// The same in the common order, once for all tests.
    fn common() -> Option<&'static (Vec<Row>, BTreeSet<String>)> {
        static ROWS: OnceLock<Option<(Vec<Row>, BTreeSet<String>)>> = OnceLock::new();
        ROWS.get_or_init(|| rows(false)).as_ref()
    }

    #[test]
    fn the_emulated_kernels_agree_with_the_cpu() {
        let Some((rows, launched)) = common() else { return };
        let table: Vec<String> = rows.iter().map(Row::to_string).collect();
        assert!(rows.iter().all(Row::is_good), "{}\n{}", heading(), table.join("\n"));
        assert!(rows.len() > 100, "{} rows", rows.len());
        // Both heads were trained, so the gate was tried.
        let routes =
            |text: &str| rows.iter().any(|row| row.operation == format!("step: routes {text}"));
        assert!(routes("1+2") || routes("2+1"), "{}", table.join("\n"));
        // Each of the kernels was launched, with and without vectors.
        let sources = include_str!("../cuda/emulation.cpp");
        let named =
            |line: &str| Some(line.trim().split_once('(')?.1.trim_end_matches(')').to_owned());
        let table: Vec<&str> =
            sources.lines().filter(|line| line.starts_with("        ")).collect();
        for (macro_name, suffixes) in [
            ("PLAIN(", &[""][..]),
            ("OF_NUMBER(", &["_f32", "_bf16"]),
            ("OF_VECTOR(", &["_f32_1", "_f32_4", "_bf16_1", "_bf16_8"]),
        ] {
            for kernel in table
                .iter()
                .filter(|line| line.trim().starts_with(macro_name))
                .filter_map(|line| named(line))
            {
                for suffix in suffixes {
                    let name = format!("{kernel}{suffix}");
                    assert!(launched.contains(&name), "`{name}` was not launched");
                }
            }
        }
    }

    #[test]
    fn the_order_of_threads_changes_no_bit() {
        let (Some((forward, _)), Some((backward, _))) = (common(), rows(true)) else { return };
        assert_eq!(*forward, backward);
    }

    #[test]
    fn a_wrong_number_is_a_failed_row() {
        let row = |found: &[f32]| Row {
            operation: "sum".into(),
            shape: "2".into(),
            number: Number::F32,
            error: largest_error(found, &[2.0, 0.0]),
            bound: F32_BOUND,
        };
        assert!(row(&[2.0, 0.0]).is_good());
        assert!(row(&[2.0, 0.1]).to_string().ends_with("5.00e-2   2.00e-5  FAIL"));
        assert!(!row(&[f32::NAN, 0.0]).is_good());
    }
}
