//! Transposed convolution whose kernel equals its stride: each pixel becomes a block of pixels.
//!
//! Weights are `[kernel slice, kernel row, kernel column, in channel, out channel]`. The pixels that one input pixel
//! makes in one output row lie together in memory, so each kernel row is a product with as many lanes as kernel
//! columns times out channels, and its outputs are every other row of the output.

use crate::{
    Conv, Element, Isa, Write,
    conv_weights::WeightPass,
    element::Numbers,
    pack::{Direction, WeightAxes, rounded},
    parallel::{Scratch, SharedMut, for_each_task},
    spread::{Spread, Target},
    sums::add_channel_sums,
    tile::{Finish, panels, pixel_tiles},
    volume::{Halo, RowMap, Source, Volume},
};

/// A transposed convolution with kernel and stride `stride`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpConv {
    /// Factors as `[slice, row, column]`; 1 in the slice axis in 2-D.
    pub stride: [usize; 3],
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
}

impl UpConv {
    /// Doubles rows and columns.
    pub fn flat(in_channels: usize, out_channels: usize) -> Self {
        Self { stride: [1, 2, 2], in_channels, out_channels }
    }

    /// Number of weights.
    pub fn n_weights(&self) -> usize {
        self.stride.iter().product::<usize>() * self.in_channels * self.out_channels
    }

    /// Axes of the output for an input of axes `volume`.
    pub fn output_volume(&self, volume: Volume) -> Volume {
        let [slices, rows, columns] = self.stride;
        Volume {
            batch: volume.batch,
            slices: volume.slices * slices,
            rows: volume.rows * rows,
            columns: volume.columns * columns,
        }
    }

    /// Computes `output`, `[pixel, out channel]`, from `input` of axes `volume`.
    ///
    /// # Panics
    /// When a buffer does not have the length that `volume` and the channels ask for.
    pub fn forward<E: Element>(
        &self,
        volume: Volume,
        input: &[E],
        weights: &[f32],
        bias: Option<&[f32]>,
        output: &mut [E],
    ) {
        self.check(volume, input.len(), weights.len(), output.len());
        assert!(bias.is_none_or(|bias| bias.len() == self.out_channels), "one bias an out channel");
        let isa = Isa::current();
        #[cfg(target_arch = "x86_64")]
        if isa.has_tiles_for::<E>() {
            return self.forward_on_tiles(volume, input, weights, bias, output);
        }
        let (axes, width) = (self.row_axes(), self.row_channels());
        let (places, len) = axes.place(Direction::Forward, panels(width, |n| pixel_tiles(isa, n)));
        let bias = bias.map(|bias| bias.repeat(self.stride[2]));
        let (weights, numbers) = (rounded::<E>(weights), E::numbers(output));
        let targets: Vec<Target> = places
            .iter()
            .map(|place| Target {
                numbers,
                n_channels: width,
                first_channel: place.channels.start,
                finish: bias.as_ref().map_or(Finish::Replace, |bias| {
                    Finish::Bias(bias[place.channels.start..].as_ptr())
                }),
            })
            .collect();
        let halo = Halo { volume, kernel: [1, 1, 1], channels: [self.in_channels, 0] };
        let inputs = [input, &[]].map(|numbers| Source::new(volume, numbers));
        for (tap_row, rows) in self.row_maps(volume).into_iter().enumerate() {
            let weights = self.row_weights(&weights, tap_row);
            let packed = axes.pack(Direction::Forward, &weights, &places, len);
            Spread { halo, inputs, rows, packed: &packed, panels: &places, targets: &targets }
                .run();
        }
    }

    /// Computes the gradient of the input, given that of the output.
    ///
    /// # Panics
    /// When a buffer does not have the length that `volume` and the channels ask for.
    pub fn input_gradient<E: Element>(
        &self,
        volume: Volume,
        output_gradient: &[E],
        weights: &[f32],
        input_gradient: &mut [E],
        write: Write,
    ) {
        self.check(volume, input_gradient.len(), weights.len(), output_gradient.len());
        #[cfg(target_arch = "x86_64")]
        if Isa::current().has_tiles_for::<E>() {
            self.input_gradient_on_tiles(volume, output_gradient, weights, input_gradient, write);
            return;
        }
        let weights = rounded::<E>(weights);
        if let Some(floats) = E::as_f32_mut(input_gradient) {
            self.sum_rows(volume, output_gradient, &weights, floats, write);
            return;
        }
        let mut sums = Scratch::take(input_gradient.len());
        self.sum_rows(volume, output_gradient, &weights, &mut sums, Write::Replace);
        narrow(&sums, input_gradient, write);
    }

    /// The input gradient in f32: one pass for each kernel row.
    fn sum_rows<E: Element>(
        &self,
        volume: Volume,
        output_gradient: &[E],
        weights: &[f32],
        input_gradient: &mut [f32],
        write: Write,
    ) {
        let isa = Isa::current();
        let (axes, width) = (self.row_axes(), self.row_channels());
        let (places, len) =
            axes.place(Direction::Backward, panels(self.in_channels, |n| pixel_tiles(isa, n)));
        let numbers = Numbers::F32(input_gradient.as_mut_ptr());
        let halo = Halo { volume, kernel: [1, 1, 1], channels: [width, 0] };
        for (tap_row, rows) in self.row_maps(volume).into_iter().enumerate() {
            let finish = if tap_row == 0 { write.finish() } else { Finish::Add };
            let n_channels = self.in_channels;
            let targets: Vec<Target> = places
                .iter()
                .map(|place| Target {
                    numbers,
                    n_channels,
                    first_channel: place.channels.start,
                    finish,
                })
                .collect();
            let weights = self.row_weights(weights, tap_row);
            let packed = axes.pack(Direction::Backward, &weights, &places, len);
            let inputs = [Source { numbers: output_gradient, rows }, Source::new(volume, &[])];
            let rows = RowMap::same(volume);
            Spread { halo, inputs, rows, packed: &packed, panels: &places, targets: &targets }
                .run();
        }
    }

    /// Adds the gradient of the weights, and that of the bias if asked for, given that of the output.
    ///
    /// # Panics
    /// When a buffer does not have the length that `volume` and the channels ask for.
    pub fn weight_gradient<E: Element>(
        &self,
        volume: Volume,
        input: &[E],
        output_gradient: &[E],
        weight_gradient: &mut [f32],
        bias_gradient: Option<&mut [f32]>,
    ) {
        self.check(volume, input.len(), weight_gradient.len(), output_gradient.len());
        if let Some(bias_gradient) = bias_gradient {
            assert_eq!(bias_gradient.len(), self.out_channels, "one bias an out channel");
            add_channel_sums(output_gradient, bias_gradient);
        }
        if volume.n_pixels() * weight_gradient.len() == 0 {
            return;
        }
        #[cfg(target_arch = "x86_64")]
        if Isa::current().has_tiles_for::<E>() {
            self.weight_gradient_on_tiles(volume, input, output_gradient, weight_gradient);
            return;
        }
        let conv = Conv::flat(1, self.in_channels, self.row_channels());
        let inputs = [input, &[]].map(|numbers| Source::new(volume, numbers));
        let row_len = conv.n_weights();
        for (tap_row, rows) in self.row_maps(volume).into_iter().enumerate() {
            let gradient = Source { numbers: output_gradient, rows };
            let mut sums = Scratch::<f32>::zeroed(row_len);
            WeightPass::new(&conv, volume, inputs, gradient).run(&mut sums);
            let target = &mut weight_gradient[tap_row * row_len..][..row_len];
            for (place, from) in self.row_places().enumerate() {
                target[from] += sums[place];
            }
        }
    }

    /// Floats that one input pixel makes in one output row.
    pub(crate) fn row_channels(&self) -> usize {
        self.stride[2] * self.out_channels
    }

    /// Weights of one kernel row as a product with one tap.
    fn row_axes(&self) -> WeightAxes {
        let (in_channels, out_channels) = (self.in_channels, self.row_channels());
        WeightAxes { tap_rows: 1, tap_columns: 1, in_channels, out_channels }
    }

    /// Rows of the output that each kernel row writes.
    pub(crate) fn row_maps(&self, volume: Volume) -> Vec<RowMap> {
        let [slices, rows, _] = self.stride;
        (0..slices * rows)
            .map(|tap| RowMap::strided(volume, [slices, rows], [tap / rows, tap % rows]))
            .collect()
    }

    /// Places `[kernel column, in channel, out channel]` in the order `[in channel, kernel column, out channel]`.
    fn row_places(&self) -> impl Iterator<Item = usize> {
        let (n_in, n_out, width) = (self.in_channels, self.out_channels, self.row_channels());
        (0..n_in * width).map(move |place| {
            let (channel, lane) = (place / width, place % width);
            (lane / n_out * n_in + channel) * n_out + lane % n_out
        })
    }

    /// Weights of one kernel row as `[in channel, kernel column, out channel]`.
    pub(crate) fn row_weights(&self, weights: &[f32], tap_row: usize) -> Scratch {
        let row_len = self.in_channels * self.row_channels();
        let from = &weights[tap_row * row_len..][..row_len];
        let mut ordered = Scratch::take(row_len);
        for (value, place) in ordered.iter_mut().zip(self.row_places()) {
            *value = from[place];
        }
        ordered
    }

    /// The bounds that the unsafe code relies on.
    fn check(&self, volume: Volume, input: usize, weights: usize, output: usize) {
        assert!(
            self.stride.iter().all(|&factor| factor > 0),
            "strides are positive: {:?}",
            self.stride
        );
        assert_eq!(input, volume.n_pixels() * self.in_channels, "floats of the input");
        assert_eq!(weights, self.n_weights(), "number of weights");
        let pixels = self.output_volume(volume).n_pixels();
        assert_eq!(output, pixels * self.out_channels, "floats of the output");
    }
}

/// Rounds `sums` into `target`, or adds them to it and rounds then.
fn narrow<E: Element>(sums: &[f32], target: &mut [E], write: Write) {
    const NUMBERS: usize = 64 * 1024;
    let shared = SharedMut::new(target);
    for_each_task(sums.len().div_ceil(NUMBERS), |task| {
        let sums = &sums[task * NUMBERS..(task * NUMBERS + NUMBERS).min(sums.len())];
        // SAFETY: tasks have ranges of their own, and the target outlives them.
        let target = unsafe { shared.slice(task * NUMBERS, sums.len()) };
        for (target, &sum) in target.iter_mut().zip(sums) {
            *target = match write {
                Write::Replace => E::narrow(sum),
                Write::Add => E::narrow(target.widen() + sum),
            };
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bf16,
        reference::{assert_close, assert_rounded, dot, numbers, on_all_sets, rounded_numbers},
    };

    /// Stride, in channels, out channels, `[batch, slice, row, column]`.
    type Case = ([usize; 3], usize, usize, [usize; 4]);

    const CASES: [Case; 7] = [
        ([1, 2, 2], 16, 8, [2, 1, 8, 8]),
        ([1, 2, 2], 5, 3, [1, 1, 3, 7]),
        ([1, 2, 2], 1, 1, [3, 1, 1, 1]),
        ([1, 2, 2], 64, 32, [2, 1, 20, 16]),
        ([2, 2, 2], 6, 4, [2, 2, 3, 4]),
        ([1, 1, 2], 4, 20, [1, 1, 4, 5]),
        ([2, 1, 1], 3, 16, [1, 3, 2, 2]),
    ];

    struct Setup<E> {
        layer: UpConv,
        volume: Volume,
        input: Vec<E>,
        weights: Vec<f32>,
        bias: Vec<f32>,
        gradient: Vec<E>,
    }

    fn setup<E: Element>(case: Case) -> Setup<E> {
        let (stride, in_channels, out_channels, [batch, slices, rows, columns]) = case;
        let layer = UpConv { stride, in_channels, out_channels };
        let volume = Volume { batch, slices, rows, columns };
        let n_outputs = layer.output_volume(volume).n_pixels() * out_channels;
        Setup {
            layer,
            volume,
            input: rounded_numbers(volume.n_pixels() * in_channels, 1),
            weights: numbers(layer.n_weights(), 2),
            bias: numbers(out_channels, 3),
            gradient: rounded_numbers(n_outputs, 4),
        }
    }

    /// Output, gradient of the input, and those of weights and bias.
    type Found<E> = (Vec<E>, Vec<E>, [Vec<f32>; 2]);

    impl<E: Element> Setup<E> {
        /// Calls `visit` with (output pixel, input pixel, tap).
        fn blocks(&self, mut visit: impl FnMut(usize, usize, usize)) {
            let [sd, sh, sw] = self.layer.stride;
            let Volume { slices, rows, columns, .. } = self.volume;
            for to in 0..self.layer.output_volume(self.volume).n_pixels() {
                let (x, y) = (to % (columns * sw), to / (columns * sw) % (rows * sh));
                let image = to / (columns * sw) / (rows * sh);
                let (z, b) = (image % (slices * sd), image / (slices * sd));
                let from = ((b * slices + z / sd) * rows + y / sh) * columns + x / sw;
                visit(to, from, (z % sd * sh + y % sh) * sw + x % sw);
            }
        }

        fn weight(&self, tap: usize, from: usize, to: usize) -> usize {
            (tap * self.layer.in_channels + from) * self.layer.out_channels + to
        }

        fn run(&self) -> Found<E> {
            let (layer, volume, weights) = (self.layer, self.volume, &self.weights);
            let mut found = vec![E::narrow(f32::NAN); self.gradient.len()];
            layer.forward(volume, &self.input, weights, Some(&self.bias), &mut found);
            let mut input = vec![E::narrow(1.0); self.input.len()];
            layer.input_gradient(volume, &self.gradient, weights, &mut input, Write::Add);
            let mut sums = [vec![1.0; weights.len()], vec![1.0; layer.out_channels]];
            let [to_weights, to_bias] = &mut sums;
            layer.weight_gradient(volume, &self.input, &self.gradient, to_weights, Some(to_bias));
            (found, input, sums)
        }

        fn check(&self, (found, input, [weights, bias]): &Found<E>, case: &Case) {
            let (n_in, n_out) = (self.layer.in_channels, self.layer.out_channels);
            let kernel = rounded::<E>(&self.weights);
            let mut output: Vec<f64> = vec![0.0; self.gradient.len()];
            let mut to_input: Vec<f64> = vec![1.0; self.input.len()];
            let mut to_weights: Vec<f64> = vec![1.0; self.weights.len()];
            let mut to_bias: Vec<f64> = vec![1.0; n_out];
            self.blocks(|to, from, tap| {
                for out in 0..n_out {
                    let gradient = f64::from(self.gradient[to * n_out + out].widen());
                    output[to * n_out + out] += f64::from(self.bias[out]);
                    to_bias[out] += gradient;
                    for channel in 0..n_in {
                        let value = f64::from(self.input[from * n_in + channel].widen());
                        let place = self.weight(tap, channel, out);
                        output[to * n_out + out] += value * f64::from(kernel[place]);
                        to_input[from * n_in + channel] += gradient * f64::from(kernel[place]);
                        to_weights[place] += gradient * value;
                    }
                }
            });
            assert_rounded(found, &output, &format!("{case:?} forward"));
            assert_rounded(input, &to_input, &format!("{case:?} input gradient"));
            assert_close(weights, &to_weights, &format!("{case:?} weight gradient"));
            assert_close(bias, &to_bias, &format!("{case:?} bias gradient"));
        }
    }

    fn check<E: Element>(case: Case) {
        let setup = setup::<E>(case);
        for found in on_all_sets(|| setup.run()) {
            setup.check(&found, &case);
        }
    }

    #[test]
    fn all_passes_agree_with_their_definition() {
        for case in CASES {
            check::<f32>(case);
            check::<bf16>(case);
        }
    }

    #[test]
    fn gradient_is_the_adjoint() {
        let setup = setup::<f32>(CASES[0]);
        let (layer, volume, weights) = (setup.layer, setup.volume, &setup.weights);
        let mut output = vec![f32::NAN; setup.gradient.len()];
        layer.forward(volume, &setup.input, weights, None, &mut output);
        let mut input = vec![f32::NAN; setup.input.len()];
        layer.input_gradient(volume, &setup.gradient, weights, &mut input, Write::Replace);
        let sides = [dot(&output, &setup.gradient), dot(&setup.input, &input)];
        assert!((sides[0] - sides[1]).abs() < 1e-4, "{sides:?}");
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig {
            cases: 40,
            rng_seed: proptest::test_runner::RngSeed::Fixed(1),
            failure_persistence: None,
            ..Default::default()
        })]

        #[test]
        fn any_shape_agrees_with_the_definition(
            stride in [1..4_usize, 1..4_usize, 1..4_usize],
            in_channels in 1..40_usize,
            out_channels in 1..40_usize,
            axes in [1..3_usize, 1..4_usize, 1..5_usize, 1..7_usize],
        ) {
            check::<f32>((stride, in_channels, out_channels, axes));
            check::<bf16>((stride, in_channels, out_channels, axes));
        }
    }
}
