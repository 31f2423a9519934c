//! Max pooling whose window equals its stride.
//!
//! The gradient goes to the first maximum of each window in the order slice, row, column, as in PyTorch. Which one
//! it was is found again by comparing the inputs with the output, so no index is kept.

use crate::{
    Element, Isa, Volume, Write,
    parallel::SharedMut,
    simd::{LaneTask, Lanes, load, store},
    windows::{Row, RowPass, Windows, run_row},
};

/// A max pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool {
    /// Window and stride as `[slice, row, column]`; 1 in the slice axis in 2-D.
    pub window: [usize; 3],
}

impl MaxPool {
    /// Halves rows and columns.
    pub fn flat() -> Self {
        Self { window: [1, 2, 2] }
    }

    /// Axes of the output; what does not fill a window at the end of an axis is left out.
    pub fn output_volume(&self, volume: Volume) -> Volume {
        let [slices, rows, columns] = self.window;
        Volume {
            batch: volume.batch,
            slices: volume.slices / slices,
            rows: volume.rows / rows,
            columns: volume.columns / columns,
        }
    }

    /// Computes `output`, `[pixel, channel]`, from `input` of axes `volume`; NaN in a window may be lost.
    ///
    /// # Panics
    /// When a buffer does not have the length that `volume` and `n_channels` ask for.
    pub fn forward<E: Element>(
        &self,
        volume: Volume,
        n_channels: usize,
        input: &[E],
        output: &mut [E],
    ) {
        let Some(windows) = Windows::new(volume, *self, n_channels) else {
            return plain::forward(&plain::Taps::new(*self, volume, n_channels), input, output);
        };
        windows.check([input.len(); 2], output.len());
        let (isa, shared) = (Isa::current(), SharedMut::new(output));
        windows.for_each(|place| {
            for row in place.rows {
                let row = windows.row(place.case, row);
                isa.run(Forward { windows, row, input, output: shared });
            }
        });
    }

    /// Computes the gradient of the input, given that of the output and what the forward pass saw and gave.
    ///
    /// # Panics
    /// When a buffer does not have the length that `volume` and `n_channels` ask for.
    pub fn input_gradient<E: Element>(
        &self,
        volume: Volume,
        n_channels: usize,
        passed: Pooled<'_, E>,
        input_gradient: &mut [E],
        write: Write,
    ) {
        let Some(windows) = Windows::new(volume, *self, n_channels) else {
            let taps = plain::Taps::new(*self, volume, n_channels);
            return plain::backward(&taps, passed, input_gradient, write);
        };
        windows.check([passed.input.len(), input_gradient.len()], passed.output.len());
        assert_eq!(passed.output_gradient.len(), passed.output.len(), "values of the gradient");
        let (isa, to) = (Isa::current(), SharedMut::new(input_gradient));
        windows.for_each(|place| {
            for row in place.rows {
                let row = windows.row(place.case, row);
                isa.run(Backward { windows, row, passed, to, write });
            }
        });
    }
}

/// What a forward pass saw and gave, and the gradient of the latter.
#[derive(Clone, Copy, Debug)]
pub struct Pooled<'a, E> {
    /// Input of the forward pass.
    pub input: &'a [E],
    /// Its output.
    pub output: &'a [E],
    /// Gradient of the output.
    pub output_gradient: &'a [E],
}

/// One row of windows.
struct Forward<'a, E> {
    windows: Windows,
    row: Row,
    input: &'a [E],
    output: SharedMut<E>,
}

impl<E: Element> LaneTask for Forward<'_, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(mut self) {
        // SAFETY: the public function checked the buffers; rows of windows share no pixel.
        unsafe { run_row::<L, _>(self.windows, self.row, &mut self) }
    }
}

impl<E: Element> RowPass for Forward<'_, E> {
    #[inline(always)]
    unsafe fn window<L: Lanes, const TAPS: usize>(
        &mut self,
        taps: [usize; TAPS],
        pooled: usize,
        _channel: usize,
        count: usize,
    ) {
        // SAFETY: the caller's promises.
        unsafe {
            let from = self.input.as_ptr();
            let mut best: L = load(from.add(taps[0]), count);
            for &tap in &taps[1..] {
                best = best.max(load(from.add(tap), count));
            }
            store(best, self.output.pointer().add(pooled), count);
        }
    }

    #[inline(always)]
    unsafe fn pixel<L: Lanes>(&mut self, _at: usize, _channel: usize, _count: usize) {}
}

/// The gradient of one row of windows.
struct Backward<'a, E> {
    windows: Windows,
    row: Row,
    passed: Pooled<'a, E>,
    to: SharedMut<E>,
    write: Write,
}

impl<E: Element> LaneTask for Backward<'_, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(mut self) {
        // SAFETY: the public function checked the buffers; rows of windows share no pixel.
        unsafe { run_row::<L, _>(self.windows, self.row, &mut self) }
    }
}

impl<E: Element> RowPass for Backward<'_, E> {
    #[inline(always)]
    unsafe fn window<L: Lanes, const TAPS: usize>(
        &mut self,
        taps: [usize; TAPS],
        pooled: usize,
        _channel: usize,
        count: usize,
    ) {
        // SAFETY: the caller's promises.
        unsafe {
            let best: L = load(self.passed.output.as_ptr().add(pooled), count);
            // What is left of the gradient; the first maximum takes all of it.
            let mut left: L = load(self.passed.output_gradient.as_ptr().add(pooled), count);
            for tap in taps {
                let to = self.to.pointer().add(tap);
                let value = load(self.passed.input.as_ptr().add(tap), count);
                let taken = left.where_equal(value, best);
                left = left.sub(taken);
                match self.write {
                    Write::Replace => store(taken, to, count),
                    Write::Add => store(load::<L, E>(to, count).add(taken), to, count),
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn pixel<L: Lanes>(&mut self, at: usize, _channel: usize, count: usize) {
        if self.write == Write::Replace {
            // SAFETY: the caller's promises.
            unsafe { store(L::zero(), self.to.pointer().add(at), count) }
        }
    }
}

/// Windows of any size, in plain loops.
mod plain {
    use super::{MaxPool, Pooled};
    use crate::{Element, Volume, Write};

    /// Where the windows lie.
    pub(super) struct Taps {
        window: [usize; 3],
        volume: Volume,
        small: Volume,
        n_channels: usize,
    }

    impl Taps {
        pub(super) fn new(pool: MaxPool, volume: Volume, n_channels: usize) -> Self {
            Self { window: pool.window, volume, small: pool.output_volume(volume), n_channels }
        }

        /// Panics unless buffers have the lengths that the volumes ask for.
        fn check(&self, input: usize, output: usize) {
            let lens = [self.volume, self.small].map(|axes| axes.n_pixels() * self.n_channels);
            assert_eq!([input, output], lens, "values of the input and the output");
        }

        /// Inputs of output `at`, in order.
        pub(super) fn of(&self, at: usize) -> impl Iterator<Item = usize> {
            let [slices, rows, columns] = self.window;
            let (volume, n_channels) = (self.volume, self.n_channels);
            let (pixel, channel) = (at / n_channels, at % n_channels);
            let (row, x) = (pixel / self.small.columns, pixel % self.small.columns);
            let (image, y) = (row / self.small.rows, row % self.small.rows);
            let (batch, z) = (image / self.small.slices, image % self.small.slices);
            (0..slices * rows * columns).map(move |tap| {
                let slice = batch * volume.slices + z * slices + tap / columns / rows;
                let row = slice * volume.rows + y * rows + tap / columns % rows;
                (row * volume.columns + x * columns + tap % columns) * n_channels + channel
            })
        }
    }

    pub(super) fn forward<E: Element>(taps: &Taps, input: &[E], output: &mut [E]) {
        taps.check(input.len(), output.len());
        for (at, output) in output.iter_mut().enumerate() {
            let mut inputs = taps.of(at).map(|tap| input[tap]);
            let first = inputs.next().unwrap_or_default();
            *output = inputs
                .fold(first, |best, value| if best.widen() > value.widen() { best } else { value });
        }
    }

    pub(super) fn backward<E: Element>(
        taps: &Taps,
        passed: Pooled<'_, E>,
        input_gradient: &mut [E],
        write: Write,
    ) {
        taps.check(passed.input.len(), passed.output.len());
        taps.check(input_gradient.len(), passed.output_gradient.len());
        if write == Write::Replace {
            input_gradient.fill(E::default());
        }
        for (at, gradient) in passed.output_gradient.iter().enumerate() {
            if let Some(first) = taps.of(at).find(|&tap| passed.input[tap] == passed.output[at]) {
                let to = &mut input_gradient[first];
                *to = E::narrow(to.widen() + gradient.widen());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bf16,
        reference::{numbers, on_all_sets},
    };

    #[test]
    fn first_maximum_takes_the_gradient() {
        let volume = Volume::flat(1, 2, 5);
        // The second window is all equal; the last column fills no window.
        let input = [1., 5., 7., 7., 9., 2., 5., 7., 7., 9.];
        let (mut output, mut to_input) = ([0.0; 2], [1.0; 10]);
        MaxPool::flat().forward(volume, 1, &input, &mut output);
        assert_eq!(output, [5., 7.]);
        let passed = Pooled { input: &input, output: &output, output_gradient: &[3., 4.] };
        MaxPool::flat().input_gradient(volume, 1, passed, &mut to_input, Write::Replace);
        assert_eq!(to_input, [0., 3., 4., 0., 0., 0., 0., 0., 0., 0.]);
        MaxPool::flat().input_gradient(volume, 1, passed, &mut to_input, Write::Add);
        assert_eq!(to_input, [0., 6., 8., 0., 0., 0., 0., 0., 0., 0.]);
    }

    /// Compares both passes with loops over the windows.
    fn check<E: Element>(pool: MaxPool, n_channels: usize, axes: [usize; 4]) {
        let [batch, slices, rows, columns] = axes;
        let volume = Volume { batch, slices, rows, columns };
        // Few different values, so that ties are common; sums of gradients are exact in either format.
        let few = |len, seed, n: f32| -> Vec<E> {
            numbers(len, seed).iter().map(|value| E::narrow((value * n).round())).collect()
        };
        let input = few(volume.n_pixels() * n_channels, 1, 5.0);
        let all = plain::Taps::new(pool, volume, n_channels);
        let len = pool.output_volume(volume).n_pixels() * n_channels;
        let gradient = few(len, 2, 60.0);
        let (mut expected, mut to_input) = (vec![E::default(); len], vec![0.0; input.len()]);
        for at in 0..len {
            let mut best = (f32::NEG_INFINITY, 0);
            for tap in all.of(at) {
                if input[tap].widen() > best.0 {
                    best = (input[tap].widen(), tap);
                }
            }
            expected[at] = E::narrow(best.0);
            to_input[best.1] += gradient[at].widen();
        }
        let to_input = [0.0, 1.0]
            .map(|before| to_input.iter().map(|sum| E::narrow(sum + before)).collect::<Vec<E>>());
        let run = || {
            let mut output = vec![E::narrow(f32::NAN); len];
            pool.forward(volume, n_channels, &input, &mut output);
            let passed = Pooled { input: &input, output: &output, output_gradient: &gradient };
            let gradients =
                [(f32::NAN, Write::Replace), (1.0, Write::Add)].map(|(before, write)| {
                    let mut found = vec![E::narrow(before); input.len()];
                    pool.input_gradient(volume, n_channels, passed, &mut found, write);
                    found
                });
            (output, gradients)
        };
        for found in on_all_sets(run) {
            assert_eq!(found, (expected.clone(), to_input.clone()), "{pool:?} {volume:?}");
        }
    }

    #[test]
    fn all_sets_agree_with_plain_loops() {
        for (window, n_channels, axes) in [
            ([1, 2, 2], 16, [2, 1, 9, 8]),
            ([1, 2, 2], 5, [3, 1, 4, 6]),
            ([2, 2, 2], 20, [2, 4, 5, 6]),
            ([1, 2, 1], 33, [1, 2, 6, 3]),
            ([1, 2, 2], 64, [2, 1, 40, 30]),
        ] {
            check::<f32>(MaxPool { window }, n_channels, axes);
            check::<bf16>(MaxPool { window }, n_channels, axes);
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig {
            cases: 60,
            rng_seed: proptest::test_runner::RngSeed::Fixed(1),
            failure_persistence: None,
            ..Default::default()
        })]

        #[test]
        fn any_shape_agrees_with_plain_loops(
            window in [1..4_usize, 1..4_usize, 1..4_usize],
            n_channels in 1..40_usize,
            axes in [1..3_usize, 1..6_usize, 1..8_usize, 1..10_usize],
        ) {
            check::<f32>(MaxPool { window }, n_channels, axes);
            check::<bf16>(MaxPool { window }, n_channels, axes);
        }
    }
}
