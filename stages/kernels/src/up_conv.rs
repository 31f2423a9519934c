//! Transposed convolution whose kernel equals its stride: each pixel becomes a block of pixels.
//!
//! Weights are `[kernel slice, kernel row, kernel column, in channel, out channel]`. The pixels that one input pixel
//! makes in one output row lie together in memory, so each kernel row is a product with as many lanes as kernel
//! columns times out channels, and its outputs are every other row of the output.

use crate::{
    Conv, Isa, Write,
    conv_weights::WeightPass,
    pack::{Direction, WeightAxes},
    parallel::{Scratch, SharedMut},
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
    pub fn forward(
        &self,
        volume: Volume,
        input: &[f32],
        weights: &[f32],
        bias: Option<&[f32]>,
        output: &mut [f32],
    ) {
        self.check(volume, input.len(), weights.len(), output.len());
        let isa = Isa::current();
        let (axes, width) = (self.row_axes(), self.row_channels());
        let (places, len) = axes.place(Direction::Forward, panels(width, |n| pixel_tiles(isa, n)));
        let bias = bias.map(|bias| bias.repeat(self.stride[2]));
        assert!(bias.as_ref().is_none_or(|bias| bias.len() == width), "one bias an out channel");
        let floats = SharedMut::new(output);
        let targets: Vec<Target> = places
            .iter()
            .map(|place| Target {
                floats,
                n_channels: width,
                first_channel: place.channels.start,
                finish: bias.as_ref().map_or(Finish::Replace, |bias| {
                    Finish::Bias(bias[place.channels.start..].as_ptr())
                }),
            })
            .collect();
        let halo = Halo { volume, kernel: [1, 1, 1], channels: [self.in_channels, 0] };
        let inputs = [input, &[]].map(|floats| Source::new(volume, floats));
        for (tap_row, rows) in self.row_maps(volume).into_iter().enumerate() {
            let weights = self.row_weights(weights, tap_row);
            let packed = axes.pack(Direction::Forward, &weights, &places, len);
            Spread { halo, inputs, rows, packed: &packed, panels: &places, targets: &targets }
                .run();
        }
    }

    /// Computes the gradient of the input, given that of the output.
    ///
    /// # Panics
    /// When a buffer does not have the length that `volume` and the channels ask for.
    pub fn input_gradient(
        &self,
        volume: Volume,
        output_gradient: &[f32],
        weights: &[f32],
        input_gradient: &mut [f32],
        write: Write,
    ) {
        self.check(volume, input_gradient.len(), weights.len(), output_gradient.len());
        let isa = Isa::current();
        let (axes, width) = (self.row_axes(), self.row_channels());
        let (places, len) =
            axes.place(Direction::Backward, panels(self.in_channels, |n| pixel_tiles(isa, n)));
        let floats = SharedMut::new(input_gradient);
        let halo = Halo { volume, kernel: [1, 1, 1], channels: [width, 0] };
        for (tap_row, rows) in self.row_maps(volume).into_iter().enumerate() {
            let finish = if tap_row == 0 { write.finish() } else { Finish::Add };
            let n_channels = self.in_channels;
            let targets: Vec<Target> = places
                .iter()
                .map(|place| Target {
                    floats,
                    n_channels,
                    first_channel: place.channels.start,
                    finish,
                })
                .collect();
            let weights = self.row_weights(weights, tap_row);
            let packed = axes.pack(Direction::Backward, &weights, &places, len);
            let inputs = [Source { floats: output_gradient, rows }, Source::new(volume, &[])];
            let rows = RowMap::same(volume);
            Spread { halo, inputs, rows, packed: &packed, panels: &places, targets: &targets }
                .run();
        }
    }

    /// Adds the gradient of the weights, and that of the bias if asked for, given that of the output.
    ///
    /// # Panics
    /// When a buffer does not have the length that `volume` and the channels ask for.
    pub fn weight_gradient(
        &self,
        volume: Volume,
        input: &[f32],
        output_gradient: &[f32],
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
        let conv = Conv::flat(1, self.in_channels, self.row_channels());
        let inputs = [input, &[]].map(|floats| Source::new(volume, floats));
        let row_len = conv.n_weights();
        for (tap_row, rows) in self.row_maps(volume).into_iter().enumerate() {
            let gradient = Source { floats: output_gradient, rows };
            let mut sums = Scratch::zeroed(row_len);
            WeightPass::new(&conv, volume, inputs, gradient).run(&mut sums);
            let target = &mut weight_gradient[tap_row * row_len..][..row_len];
            for (place, from) in self.row_places().enumerate() {
                target[from] += sums[place];
            }
        }
    }

    /// Floats that one input pixel makes in one output row.
    fn row_channels(&self) -> usize {
        self.stride[2] * self.out_channels
    }

    /// Weights of one kernel row as a product with one tap.
    fn row_axes(&self) -> WeightAxes {
        let (in_channels, out_channels) = (self.in_channels, self.row_channels());
        WeightAxes { tap_rows: 1, tap_columns: 1, in_channels, out_channels }
    }

    /// Rows of the output that each kernel row writes.
    fn row_maps(&self, volume: Volume) -> Vec<RowMap> {
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
    fn row_weights(&self, weights: &[f32], tap_row: usize) -> Scratch {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{assert_close, dot, numbers, on_all_sets};

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

    struct Setup {
        layer: UpConv,
        volume: Volume,
        input: Vec<f32>,
        weights: Vec<f32>,
        bias: Vec<f32>,
        gradient: Vec<f32>,
    }

    fn setup((stride, in_channels, out_channels, [batch, slices, rows, columns]): Case) -> Setup {
        let layer = UpConv { stride, in_channels, out_channels };
        let volume = Volume { batch, slices, rows, columns };
        let n_outputs = layer.output_volume(volume).n_pixels() * out_channels;
        Setup {
            layer,
            volume,
            input: numbers(volume.n_pixels() * in_channels, 1),
            weights: numbers(layer.n_weights(), 2),
            bias: numbers(out_channels, 3),
            gradient: numbers(n_outputs, 4),
        }
    }

    impl Setup {
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
    }

    #[test]
    fn all_passes_agree_with_their_definition() {
        for case in CASES {
            let setup = setup(case);
            let (layer, volume) = (setup.layer, setup.volume);
            let (n_in, n_out) = (layer.in_channels, layer.out_channels);
            let mut output: Vec<f64> = vec![0.0; setup.gradient.len()];
            let mut to_input: Vec<f64> = vec![1.0; setup.input.len()];
            let mut to_weights: Vec<f64> = vec![1.0; setup.weights.len()];
            let mut to_bias: Vec<f64> = vec![1.0; n_out];
            setup.blocks(|to, from, tap| {
                for out in 0..n_out {
                    let gradient = f64::from(setup.gradient[to * n_out + out]);
                    output[to * n_out + out] += f64::from(setup.bias[out]);
                    to_bias[out] += gradient;
                    for channel in 0..n_in {
                        let value = f64::from(setup.input[from * n_in + channel]);
                        let place = setup.weight(tap, channel, out);
                        output[to * n_out + out] += value * f64::from(setup.weights[place]);
                        to_input[from * n_in + channel] +=
                            gradient * f64::from(setup.weights[place]);
                        to_weights[place] += gradient * value;
                    }
                }
            });
            let run = || {
                let mut found = vec![f32::NAN; setup.gradient.len()];
                layer.forward(volume, &setup.input, &setup.weights, Some(&setup.bias), &mut found);
                let (gradient, mut input) = (&setup.gradient, vec![1.0; setup.input.len()]);
                layer.input_gradient(volume, gradient, &setup.weights, &mut input, Write::Add);
                let mut sums = [vec![1.0; setup.weights.len()], vec![1.0; n_out]];
                let [weights, bias] = &mut sums;
                layer.weight_gradient(volume, &setup.input, gradient, weights, Some(bias));
                (found, input, sums)
            };
            for (found, input, [weights, bias]) in on_all_sets(run) {
                assert_close(&found, &output, &format!("{case:?} forward"));
                assert_close(&input, &to_input, &format!("{case:?} input gradient"));
                assert_close(&weights, &to_weights, &format!("{case:?} weight gradient"));
                assert_close(&bias, &to_bias, &format!("{case:?} bias gradient"));
            }
        }
    }

    #[test]
    fn gradient_is_the_adjoint() {
        let setup = setup(CASES[0]);
        let mut output = vec![f32::NAN; setup.gradient.len()];
        setup.layer.forward(setup.volume, &setup.input, &setup.weights, None, &mut output);
        let mut input = vec![f32::NAN; setup.input.len()];
        let (gradient, weights) = (&setup.gradient, &setup.weights);
        setup.layer.input_gradient(setup.volume, gradient, weights, &mut input, Write::Replace);
        let sides = [dot(&output, &setup.gradient), dot(&setup.input, &input)];
        assert!((sides[0] - sides[1]).abs() < 1e-4, "{sides:?}");
    }
}
