//! Normalization, activation and max pooling in one pass, and the way back.
//!
//! Forward, each window is normalized, written and pooled while it is in registers. Backward, the activations of a
//! window are computed again from the values, which shows the first maximum that takes the pooled gradient; so the
//! gradient of the full-size output is never written, and the activations are not read at all.

use super::{
    Affine, AffineGradient, Norm, NormStatistics,
    activation::{Act, with_act},
    groups::{self, PartSums, Parts, Table},
    lanes::{Backward, BackwardSums, Forward, Map, Source, Sum, numbers},
    parts_of,
};
use crate::{
    Element, Isa, MaxPool, Pooled, Volume, Write,
    parallel::{Scratch, SharedMut},
    simd::{LaneTask, Lanes, load, store},
    windows::{Row, RowPass, Windows, run_row},
};

/// A max pooling right after a normalization.
#[derive(Clone, Copy, Debug)]
pub struct Pooling {
    /// Axes of the full-size output.
    pub volume: Volume,
    /// Window; sides of 1 and 2 are the fast ones.
    pub pool: MaxPool,
}

/// Gradients of both outputs of [`Norm::apply_pooled`].
#[derive(Clone, Copy, Debug)]
pub struct PooledGradient<'a, E> {
    /// Gradient of the full-size output from its other uses.
    pub full: &'a [E],
    /// Gradient of the pooled output.
    pub pooled: &'a [E],
}

impl Norm {
    /// [`Norm::apply`], and the max pooling of its output, `[pixel, channel]`, to `pooled`.
    ///
    /// # Panics
    /// When buffers do not fit each other.
    pub fn apply_pooled<E: Element>(
        &self,
        pooling: Pooling,
        values: &[E],
        (affine, statistics): (Affine<'_>, &NormStatistics),
        output: &mut [E],
        pooled: &mut [E],
    ) {
        let n_channels = affine.scale.len();
        let Some(windows) = Windows::new(pooling.volume, pooling.pool, n_channels) else {
            self.apply(values, affine, statistics, output);
            return pooling.pool.forward(pooling.volume, n_channels, output, pooled);
        };
        windows.check([values.len(), output.len()], pooled.len());
        let parts = parts_of_cases(windows, affine, statistics);
        let line = groups::line(parts, affine, statistics);
        let table = Table::new(parts, line.each_ref().map(Vec::as_slice));
        let (output, pooled) = (SharedMut::new(output), SharedMut::new(pooled));
        let (isa, values) = (Isa::current(), Source::from(values));
        with_act!(self.activation, |act| windows.for_each(|place| {
            let rows = table.part(place.case % parts.n_parts, parts);
            for row in place.rows {
                let row = windows.row(place.case, row);
                isa.run(ForwardRow { windows, row, act, values, output, pooled, rows });
            }
        }));
    }

    /// [`Norm::gradient`] where the output was also pooled; the first maximum of a window takes its gradient.
    ///
    /// # Panics
    /// When buffers do not fit each other.
    pub fn gradient_pooled<E: Element>(
        &self,
        pooling: Pooling,
        gradient: PooledGradient<'_, E>,
        values: &mut [E],
        (affine, statistics): (Affine<'_>, &NormStatistics),
        to_affine: AffineGradient<'_>,
    ) {
        let n_channels = affine.scale.len();
        let Some(windows) = Windows::new(pooling.volume, pooling.pool, n_channels) else {
            let pair = (affine, statistics);
            return self.gradient_after_pool(pooling, gradient, values, pair, to_affine);
        };
        windows.check([values.len(), gradient.full.len()], gradient.pooled.len());
        let parts = parts_of_cases(windows, affine, statistics);
        let line = groups::line(parts, affine, statistics);
        let [mean, scale, shift] = line.each_ref().map(Vec::as_slice);
        let gradient = [gradient.full, gradient.pooled].map(Source::from);
        let values = SharedMut::new(values);
        let table = Table::new(parts, [mean, scale, shift]);
        let sums = with_act!(self.activation, |act| {
            sums((windows, parts), (act, &table), gradient, values.into())
        });
        let pair = (affine, statistics);
        let [to_value, offset] = self.backward_numbers(parts, pair, &sums, to_affine);
        let table = Table::new(parts, [mean, scale, shift, &to_value, &offset]);
        let isa = Isa::current();
        with_act!(self.activation, |act| windows.for_each(|place| {
            let rows = table.part(place.case % parts.n_parts, parts);
            for row in place.rows {
                let row = windows.row(place.case, row);
                isa.run(BackwardRow { windows, row, act, gradient, values, rows });
            }
        }));
    }

    /// The same in separate passes, for windows of any size.
    fn gradient_after_pool<E: Element>(
        &self,
        pooling: Pooling,
        gradient: PooledGradient<'_, E>,
        values: &mut [E],
        (affine, statistics): (Affine<'_>, &NormStatistics),
        to_affine: AffineGradient<'_>,
    ) {
        let (n_channels, Pooling { volume, pool }) = (affine.scale.len(), pooling);
        let mut input = Scratch::take(values.len());
        let mut output = Scratch::take(gradient.pooled.len());
        let mut full = Scratch::take(values.len());
        self.apply(values, affine, statistics, &mut input);
        pool.forward(volume, n_channels, &input, &mut output);
        full.copy_from_slice(gradient.full);
        let passed = Pooled { input: &input, output: &output, output_gradient: gradient.pooled };
        pool.input_gradient(volume, n_channels, passed, &mut full, Write::Add);
        self.gradient(&full, values, (affine, statistics), to_affine);
    }
}

/// The whole batch, or each case.
fn parts_of_cases(windows: Windows, affine: Affine<'_>, statistics: &NormStatistics) -> Parts {
    let n_cases = windows.volume.batch;
    let parts = parts_of(windows.volume.n_pixels() * windows.n_channels, affine, statistics);
    let n_parts = parts.n_parts;
    assert!([1, n_cases].contains(&n_parts), "statistics of {n_parts} cases, not {n_cases}");
    parts
}

/// Sums of the backward pass.
fn sums<E: Element, A: Act>(
    (windows, parts): (Windows, Parts),
    (act, table): (A, &Table<3>),
    gradient: [Source<E>; 2],
    values: Source<E>,
) -> PartSums {
    let (isa, n, period) = (Isa::current(), windows.n_channels, parts.period().values);
    let mut partial = vec![0.0; windows.volume.batch * windows.tasks_per_case() * 2 * n];
    let shared = SharedMut::new(&mut partial);
    windows.for_each(|place| {
        // SAFETY: tasks have sums of their own, and `partial` outlives them.
        let total = unsafe { shared.slice(place.index * 2 * n, 2 * n) };
        let rows = table.part(place.case % parts.n_parts, parts);
        let mut sums = Scratch::<f32>::take(2 * period);
        for row in place.rows {
            let row = windows.row(place.case, row);
            sums.fill(0.0);
            let sums = &mut *sums;
            isa.run(SumRow { windows, row, act, gradient, values, rows, sums });
            for (total, sums) in total.chunks_exact_mut(n).zip(sums.chunks_exact(period)) {
                total.iter_mut().zip(sums).for_each(|(total, &sum)| *total += f64::from(sum));
            }
        }
    });
    parts.gathered(&partial)
}

/// Normalizes and pools one row of windows.
struct ForwardRow<'a, E, A> {
    windows: Windows,
    row: Row,
    act: A,
    values: Source<E>,
    output: SharedMut<E>,
    pooled: SharedMut<E>,
    rows: &'a [f32],
}

impl<E: Element, A: Act> LaneTask for ForwardRow<'_, E, A> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(mut self) {
        // SAFETY: the public function checked the buffers; rows of windows share no pixel.
        unsafe { run_row::<L, _>(self.windows, self.row, &mut self) }
    }
}

impl<E: Element, A: Act> RowPass for ForwardRow<'_, E, A> {
    #[inline(always)]
    unsafe fn window<L: Lanes, const TAPS: usize>(
        &mut self,
        taps: [usize; TAPS],
        pooled: usize,
        channel: usize,
        count: usize,
    ) {
        // SAFETY: the caller's promises; a period holds whole vectors.
        unsafe {
            let numbers = numbers::<L, 3>(self.rows, channel);
            let mut best = L::zero();
            for (tap, at) in taps.into_iter().enumerate() {
                let value = Forward(self.act).value([load(self.values.at(at), count)], numbers);
                store(value, self.output.pointer().add(at), count);
                best = if tap == 0 { value } else { best.max(value) };
            }
            store(best, self.pooled.pointer().add(pooled), count);
        }
    }

    #[inline(always)]
    unsafe fn pixel<L: Lanes>(&mut self, at: usize, channel: usize, count: usize) {
        // SAFETY: as above.
        unsafe {
            let numbers = numbers::<L, 3>(self.rows, channel);
            let value = Forward(self.act).value([load(self.values.at(at), count)], numbers);
            store(value, self.output.pointer().add(at), count);
        }
    }
}

/// Gradients of the activations of one window: those of full size, and the pooled one at the first maximum.
///
/// # Safety
/// As for [`RowPass::window`].
#[inline(always)]
unsafe fn window_gradient<L: Lanes, A: Act, const TAPS: usize>(
    act: A,
    values: [L; TAPS],
    line: [L; 3],
    mut gradients: [L; TAPS],
    pooled: L,
) -> [L; TAPS] {
    // SAFETY: the caller's promises.
    unsafe {
        let mut outputs = [L::zero(); TAPS];
        for (output, value) in outputs.iter_mut().zip(values) {
            *output = Forward(act).value([value], line);
        }
        let mut best = outputs[0];
        for &output in &outputs[1..] {
            best = best.max(output);
        }
        let mut left = pooled;
        for (gradient, output) in gradients.iter_mut().zip(outputs) {
            let taken = left.where_equal(output, best);
            *gradient = gradient.add(taken);
            left = left.sub(taken);
        }
        gradients
    }
}

/// Values and gradients of the activations at `taps`.
///
/// # Safety
/// As for [`RowPass::window`].
#[inline(always)]
unsafe fn load_window<L: Lanes, E: Element, A: Act, const TAPS: usize>(
    (act, line): (A, [L; 3]),
    values: Source<E>,
    [full, small]: [Source<E>; 2],
    (taps, pooled): ([usize; TAPS], usize),
    count: usize,
) -> [[L; TAPS]; 2] {
    // SAFETY: the caller's promises.
    unsafe {
        let (mut here, mut gradients) = ([L::zero(); TAPS], [L::zero(); TAPS]);
        for (tap, at) in taps.into_iter().enumerate() {
            here[tap] = load(values.at(at), count);
            gradients[tap] = load(full.at(at), count);
        }
        let pooled = load(small.at(pooled), count);
        [here, window_gradient::<L, A, TAPS>(act, here, line, gradients, pooled)]
    }
}

/// Sums of the backward pass over one row of windows; `sums` holds two periods.
struct SumRow<'a, E, A> {
    windows: Windows,
    row: Row,
    act: A,
    gradient: [Source<E>; 2],
    values: Source<E>,
    rows: &'a [f32],
    sums: &'a mut [f32],
}

impl<E: Element, A: Act> LaneTask for SumRow<'_, E, A> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(mut self) {
        // SAFETY: the public function checked the buffers.
        unsafe { run_row::<L, _>(self.windows, self.row, &mut self) }
    }
}

impl<E: Element, A: Act> SumRow<'_, E, A> {
    /// Adds the terms of some pixels to both sums of the vector at `channel`.
    ///
    /// # Safety
    /// The machine has the instructions of `L`, and the vector lies in the period.
    #[inline(always)]
    unsafe fn add<L: Lanes, const PIXELS: usize>(
        &mut self,
        channel: usize,
        line: [L; 3],
        [values, gradients]: [[L; PIXELS]; 2],
    ) {
        let half = self.sums.len() / 2;
        let at = self.sums.as_mut_ptr();
        // SAFETY: the caller's promise; `sums` holds two periods.
        unsafe {
            let (plain, weighted) = (at.add(channel), at.add(half + channel));
            let mut sums = [L::load(plain), L::load(weighted)];
            for (value, gradient) in values.into_iter().zip(gradients) {
                sums = BackwardSums(self.act).add([gradient, value], line, sums);
            }
            sums[0].store(plain);
            sums[1].store(weighted);
        }
    }
}

impl<E: Element, A: Act> RowPass for SumRow<'_, E, A> {
    #[inline(always)]
    unsafe fn window<L: Lanes, const TAPS: usize>(
        &mut self,
        taps: [usize; TAPS],
        pooled: usize,
        channel: usize,
        count: usize,
    ) {
        // SAFETY: the caller's promises. Lanes past `count` have gradient zero and add nothing.
        unsafe {
            let (act, line) = (self.act, numbers::<L, 3>(self.rows, channel));
            let places = (taps, pooled);
            let found = load_window((act, line), self.values, self.gradient, places, count);
            self.add(channel, line, found);
        }
    }

    #[inline(always)]
    unsafe fn pixel<L: Lanes>(&mut self, at: usize, channel: usize, count: usize) {
        // SAFETY: as above.
        unsafe {
            let line = numbers::<L, 3>(self.rows, channel);
            let value = load(self.values.at(at), count);
            let gradient = load(self.gradient[0].at(at), count);
            self.add(channel, line, [[value], [gradient]]);
        }
    }
}

/// Replaces the values of one row of windows by their gradients.
struct BackwardRow<'a, E, A> {
    windows: Windows,
    row: Row,
    act: A,
    gradient: [Source<E>; 2],
    values: SharedMut<E>,
    rows: &'a [f32],
}

impl<E: Element, A: Act> LaneTask for BackwardRow<'_, E, A> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(mut self) {
        // SAFETY: the public function checked the buffers; rows of windows share no pixel.
        unsafe { run_row::<L, _>(self.windows, self.row, &mut self) }
    }
}

impl<E: Element, A: Act> RowPass for BackwardRow<'_, E, A> {
    #[inline(always)]
    unsafe fn window<L: Lanes, const TAPS: usize>(
        &mut self,
        taps: [usize; TAPS],
        pooled: usize,
        channel: usize,
        count: usize,
    ) {
        // SAFETY: the caller's promises.
        unsafe {
            let (act, numbers) = (self.act, numbers::<L, 5>(self.rows, channel));
            let [mean, scale, shift, ..] = numbers;
            let (places, line) = ((taps, pooled), [mean, scale, shift]);
            let [values, gradients] =
                load_window((act, line), self.values.into(), self.gradient, places, count);
            for (tap, at) in taps.into_iter().enumerate() {
                let value = Backward(act).value([gradients[tap], values[tap]], numbers);
                store(value, self.values.pointer().add(at), count);
            }
        }
    }

    #[inline(always)]
    unsafe fn pixel<L: Lanes>(&mut self, at: usize, channel: usize, count: usize) {
        // SAFETY: as above.
        unsafe {
            let numbers = numbers::<L, 5>(self.rows, channel);
            let value = load(self.values.pointer().add(at), count);
            let gradient = load(self.gradient[0].at(at), count);
            let inputs = [gradient, value];
            let value = Backward(self.act).value(inputs, numbers);
            store(value, self.values.pointer().add(at), count);
        }
    }
}
