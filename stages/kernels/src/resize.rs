//! Nearest and linear (bi- and trilinear) resizing along slices, rows and columns, and its gradient.
//!
//! Source: the sampling rules of PyTorch's `interpolate` on the CPU, in its f32: `nearest` reads `floor(o · n/N)`;
//! linear reads at `(o + ½) n/N − ½`, not under 0, or at `o (n−1)/(N−1)` with aligned corners, between the two
//! neighbours. Along an axis of one length nothing changes, so 2-D is one slice.
//!
//! An output row is a blend of at most four input rows, done on whole lines, and then stretched along the columns.
//! The gradient gathers: an input row is the weighted sum of the output rows that read it, so no two tasks write the
//! same number and the order of sums is that of the rows. Blends are f32 whatever the format.

use crate::{
    Element, Isa, Volume, Write,
    parallel::{Scratch, SharedMut, for_each_task},
    simd::{LaneTask, Lanes},
};

/// How values between pixels are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interpolation {
    /// The pixel whose range holds the place.
    Nearest,
    /// Between the neighbours along every axis; pixels are squares (PyTorch's `align_corners=False`).
    Linear,
    /// Between the neighbours along every axis; the outermost pixels' centres stay in place
    /// (PyTorch's `align_corners=True`).
    LinearAligned,
}

/// A change of size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resize {
    /// How values are found.
    pub interpolation: Interpolation,
    /// Slices, rows and columns of the output, at least 1 each.
    pub size: [usize; 3],
}

/// Two places of the input along an axis, and the share of the second.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Tap {
    places: [usize; 2],
    weights: [f32; 2],
}

impl Interpolation {
    /// For each of `to` outputs along an axis the inputs that it reads, of `from`.
    fn taps(self, from: usize, to: usize) -> Vec<Tap> {
        (0..to).map(|output| self.tap(output, from, to)).collect()
    }

    fn tap(self, output: usize, from: usize, to: usize) -> Tap {
        let alone = |place: usize| Tap { places: [place; 2], weights: [1.0, 0.0] };
        let last = from - 1;
        if from == to {
            return alone(output);
        }
        let at = match self {
            Self::Nearest => {
                let scale = from as f32 / to as f32;
                return alone(((output as f32 * scale) as usize).min(last));
            }
            Self::Linear => {
                let scale = from as f32 / to as f32;
                ((output as f32 + 0.5) * scale - 0.5).max(0.0)
            }
            Self::LinearAligned if to == 1 => 0.0,
            Self::LinearAligned => output as f32 * (last as f32 / (to - 1) as f32),
        };
        let first = (at as usize).min(last);
        let share = (at - first as f32).clamp(0.0, 1.0);
        Tap { places: [first, (first + 1).min(last)], weights: [1.0 - share, share] }
    }
}

/// For each input along an axis the outputs that read it, with their weights.
fn readers(taps: &[Tap], from: usize) -> Vec<Vec<(usize, f32)>> {
    let mut readers = vec![Vec::new(); from];
    for (output, tap) in taps.iter().enumerate() {
        for (place, weight) in tap.places.into_iter().zip(tap.weights) {
            if weight != 0.0 {
                readers[place].push((output, weight));
            }
        }
    }
    readers
}

impl Resize {
    /// Twice the size along the axes of `factor` 2, and so on.
    pub fn by(interpolation: Interpolation, volume: Volume, factor: [usize; 3]) -> Self {
        let [slices, rows, columns] = factor;
        let size = [volume.slices * slices, volume.rows * rows, volume.columns * columns];
        Self { interpolation, size }
    }

    /// Axes of the output.
    pub fn output_volume(&self, volume: Volume) -> Volume {
        let [slices, rows, columns] = self.size;
        Volume { batch: volume.batch, slices, rows, columns }
    }

    fn axes(&self, volume: Volume) -> [Vec<Tap>; 3] {
        let from = [volume.slices, volume.rows, volume.columns];
        std::array::from_fn(|axis| self.interpolation.taps(from[axis], self.size[axis]))
    }

    /// Computes `output`, `[batch, slice, row, column, channel]` of [`Resize::output_volume`].
    ///
    /// # Panics
    /// When a buffer does not have the length that `volume` and `n_channels` ask for, or an axis has no length.
    pub fn forward<E: Element>(
        &self,
        volume: Volume,
        n_channels: usize,
        input: &[E],
        output: &mut [E],
    ) {
        let large = self.output_volume(volume);
        self.check(volume, n_channels, input.len(), output.len());
        let [slices, rows, columns] = self.axes(volume);
        let (line, wide) = (volume.columns * n_channels, large.columns * n_channels);
        let (isa, shared) = (Isa::current(), SharedMut::new(output));
        for_each_task(large.batch * large.slices * large.rows, |task| {
            let (row, slice) = (&rows[task % large.rows], task / large.rows % large.slices);
            let (slice, case) = (&slices[slice], task / large.rows / large.slices);
            let mut blend = Vec::with_capacity(4);
            for (z, by_slice) in slice.places.into_iter().zip(slice.weights) {
                for (y, by_row) in row.places.into_iter().zip(row.weights) {
                    if by_slice * by_row != 0.0 {
                        let place = ((case * volume.slices + z) * volume.rows + y) * line;
                        blend.push((&input[place..place + line], by_slice * by_row));
                    }
                }
            }
            // SAFETY: tasks write rows of their own, and the output outlives them.
            let target = unsafe { shared.slice(task * wide, wide) };
            let reads = |column: usize| {
                let Tap { places, weights } = columns[column];
                [(places[0], weights[0]), (places[1], weights[1])]
            };
            isa.run(Line { blend: &blend, n_channels, line, target, reads, write: Write::Replace });
        });
    }

    /// Computes the gradient of the input, given that of the output.
    ///
    /// # Panics
    /// As [`Resize::forward`].
    pub fn input_gradient<E: Element>(
        &self,
        volume: Volume,
        n_channels: usize,
        output_gradient: &[E],
        input_gradient: &mut [E],
        write: Write,
    ) {
        let large = self.output_volume(volume);
        self.check(volume, n_channels, input_gradient.len(), output_gradient.len());
        let [slices, rows, columns] = self.axes(volume);
        let slices = readers(&slices, volume.slices);
        let rows = readers(&rows, volume.rows);
        let columns = readers(&columns, volume.columns);
        let (line, wide) = (volume.columns * n_channels, large.columns * n_channels);
        let (isa, shared) = (Isa::current(), SharedMut::new(input_gradient));
        for_each_task(volume.batch * volume.slices * volume.rows, |task| {
            let (row, slice) = (&rows[task % volume.rows], task / volume.rows % volume.slices);
            let case = task / volume.rows / volume.slices;
            let mut blend = Vec::with_capacity(slices[slice].len() * row.len());
            for (z, by_slice) in &slices[slice] {
                for (y, by_row) in row {
                    let place = ((case * large.slices + z) * large.rows + y) * wide;
                    blend.push((&output_gradient[place..place + wide], by_slice * by_row));
                }
            }
            // SAFETY: tasks write rows of their own, and the gradient outlives them.
            let target = unsafe { shared.slice(task * line, line) };
            let reads = |column: usize| columns[column].iter().copied();
            isa.run(Line { blend: &blend, n_channels, line: wide, target, reads, write });
        });
    }

    /// The bounds that the unsafe code relies on.
    fn check(&self, volume: Volume, n_channels: usize, small: usize, large: usize) {
        let size = [volume.slices, volume.rows, volume.columns];
        assert!(!size.contains(&0) && !self.size.contains(&0), "axes have a length");
        assert_eq!(small, volume.n_pixels() * n_channels, "numbers of the input");
        let expected = self.output_volume(volume).n_pixels() * n_channels;
        assert_eq!(large, expected, "numbers of the output");
    }
}

/// A row of the target: the weighted sum of lines, and of each of its columns that of some columns of the sum.
struct Line<'a, E, R> {
    blend: &'a [(&'a [E], f32)],
    n_channels: usize,
    /// Numbers of a line.
    line: usize,
    target: &'a mut [E],
    /// Columns of the sum that a column of the target reads, with weights.
    reads: R,
    write: Write,
}

impl<E: Element, I: IntoIterator<Item = (usize, f32)>, R: Fn(usize) -> I> LaneTask
    for Line<'_, E, R>
{
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let (n_channels, line) = (self.n_channels, self.line);
        let mut sum = Scratch::<f32>::take(line);
        // SAFETY: lines and their sum have `line` numbers; columns that are read lie in a line; `count` numbers from
        // each place lie in a pixel.
        unsafe {
            for at in (0..line).step_by(L::WIDTH) {
                let count = L::WIDTH.min(line - at);
                let mut lanes = L::zero();
                for (from, weight) in self.blend {
                    let value = E::load_first::<L>(from.as_ptr().add(at), count);
                    lanes = value.mul_add(L::splat(*weight), lanes);
                }
                lanes.store_first(sum.as_mut_ptr().add(at), count);
            }
            for (column, target) in self.target.chunks_exact_mut(n_channels).enumerate() {
                for at in (0..n_channels).step_by(L::WIDTH) {
                    let count = L::WIDTH.min(n_channels - at);
                    let to = target.as_mut_ptr().add(at);
                    let mut lanes = match self.write {
                        Write::Replace => L::zero(),
                        Write::Add => E::load_first::<L>(to, count),
                    };
                    for (place, weight) in (self.reads)(column) {
                        let from = sum.as_ptr().add(place * n_channels + at);
                        lanes = L::load_first(from, count).mul_add(L::splat(weight), lanes);
                    }
                    E::store_first(lanes, to, count);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bf16,
        reference::{assert_close, dot, numbers, on_all_sets},
    };

    const ALL: [Interpolation; 3] =
        [Interpolation::Nearest, Interpolation::Linear, Interpolation::LinearAligned];

    /// By the definition, one number at a time.
    fn expected(resize: &Resize, volume: Volume, n_channels: usize, input: &[f32]) -> Vec<f64> {
        let [slices, rows, columns] = resize.axes(volume);
        let mut output = Vec::new();
        for case in 0..volume.batch {
            for (z, y) in slices.iter().flat_map(|z| rows.iter().map(move |y| (z, y))) {
                for (x, channel) in
                    columns.iter().flat_map(|x| (0..n_channels).map(move |channel| (x, channel)))
                {
                    let mut sum = 0.0;
                    for corner in 0..8 {
                        let [a, b, c] = [corner & 1, corner >> 1 & 1, corner >> 2];
                        let row = (case * volume.slices + z.places[a]) * volume.rows + y.places[b];
                        let place = (row * volume.columns + x.places[c]) * n_channels + channel;
                        let weights = [z.weights[a], y.weights[b], x.weights[c]].map(f64::from);
                        sum += weights.iter().product::<f64>() * f64::from(input[place]);
                    }
                    output.push(sum);
                }
            }
        }
        output
    }

    fn check(resize: &Resize, volume: Volume, n_channels: usize) {
        let what = format!("{resize:?} of {volume:?}, {n_channels} channels");
        let input = numbers(volume.n_pixels() * n_channels, 1);
        let large = resize.output_volume(volume).n_pixels() * n_channels;
        let gradient = numbers(large, 2);
        let expected = expected(resize, volume, n_channels, &input);
        let run = || {
            let mut output = vec![f32::NAN; large];
            resize.forward(volume, n_channels, &input, &mut output);
            let mut to_input = vec![1.0; input.len()];
            resize.input_gradient(volume, n_channels, &gradient, &mut to_input, Write::Add);
            to_input.iter_mut().for_each(|value| *value -= 1.0);
            (output, to_input)
        };
        for (output, to_input) in on_all_sets(run) {
            assert_close(&output, &expected, &what);
            let difference = dot(&output, &gradient) - dot(&input, &to_input);
            assert!(difference.abs() < 1e-5 * (large as f64).sqrt().max(1.0), "{what}: adjoint");
        }
        let narrow: Vec<bf16> = input.iter().map(|&value| bf16::narrow(value)).collect();
        let mut output = vec![bf16::ZERO; large];
        resize.forward(volume, n_channels, &narrow, &mut output);
        for (found, expected) in output.iter().zip(&expected) {
            // Input and output are rounded once each, to 8 bits.
            assert!((f64::from(found.widen()) - expected).abs() < 2.0 * 0.5 / 256.0, "{what}");
        }
    }

    /// Values of `torch.nn.functional.interpolate` on [1, 2, 4] by its documented rules.
    #[test]
    fn a_line_comes_out_as_in_pytorch() {
        let volume = Volume::flat(1, 1, 3);
        let run = |interpolation, columns| {
            let mut output = vec![f32::NAN; columns];
            let resize = Resize { interpolation, size: [1, 1, columns] };
            resize.forward(volume, 1, &[1.0, 2.0, 4.0], &mut output);
            output
        };
        assert_eq!(run(Interpolation::Nearest, 6), [1.0, 1.0, 2.0, 2.0, 4.0, 4.0]);
        assert_eq!(run(Interpolation::Nearest, 4), [1.0, 1.0, 2.0, 4.0]);
        assert_eq!(run(Interpolation::Linear, 6), [1.0, 1.25, 1.75, 2.5, 3.5, 4.0]);
        assert_eq!(run(Interpolation::LinearAligned, 5), [1.0, 1.5, 2.0, 3.0, 4.0]);
        assert_eq!(run(Interpolation::LinearAligned, 1), [1.0]);
        assert_eq!(run(Interpolation::Linear, 1), [2.0]);
        assert_eq!(run(Interpolation::Linear, 3), [1.0, 2.0, 4.0]);
    }

    #[test]
    fn gradients_add_up_to_the_whole() {
        let volume = Volume::flat(1, 2, 2);
        let resize = Resize::by(Interpolation::Linear, volume, [1, 2, 2]);
        let mut gradient = [f32::NAN; 4];
        resize.input_gradient(volume, 1, &[1.0; 16], &mut gradient, Write::Replace);
        assert_eq!(gradient, [4.0; 4]);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig {
            cases: 60,
            rng_seed: proptest::test_runner::RngSeed::Fixed(1),
            failure_persistence: None,
            ..Default::default()
        })]

        #[test]
        fn any_shape_agrees_with_the_definition(
            interpolation in 0..3_usize,
            n_channels in 1..40_usize,
            axes in [1..3_usize, 1..4_usize, 1..6_usize, 1..9_usize],
            size in [1..6_usize, 1..9_usize, 1..14_usize],
        ) {
            let [batch, slices, rows, columns] = axes;
            let volume = Volume { batch, slices, rows, columns };
            check(&Resize { interpolation: ALL[interpolation], size }, volume, n_channels);
        }
    }
}
