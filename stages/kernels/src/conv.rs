//! Convolution with zero padding to the same size and stride one, and its input gradient.
//!
//! Buffers are channels-last. Weights are `[kernel slice, kernel row, kernel column, in channel, out channel]`;
//! with two inputs, in channels are those of the first and then those of the second, as if they had been
//! concatenated. Like PyTorch this is a cross-correlation: kernel (0, 0, 0) reads the upper left neighbour.

use crate::{
    Isa,
    pack::{Direction, WeightAxes},
    parallel::{Scratch, SharedMut},
    spread::{Spread, Target},
    tile::{Finish, panels, pixel_tiles},
    volume::{Halo, RowMap, Source, Volume},
};

/// What a gradient does to its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// Replaces what was there.
    Replace,
    /// Adds to what was there.
    Add,
}

impl Write {
    pub(crate) fn finish(self) -> Finish {
        match self {
            Write::Replace => Finish::Replace,
            Write::Add => Finish::Add,
        }
    }
}

/// A convolution: kernel size and channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Odd sizes as `[slice, row, column]`; 1 in the slice axis in 2-D.
    pub kernel: [usize; 3],
    /// Channels of the first and the second input; 0 where there is no second.
    pub in_channels: [usize; 2],
    /// Channels of the output.
    pub out_channels: usize,
}

impl Conv {
    /// A convolution of one 2-D input with a square kernel.
    pub fn flat(kernel: usize, in_channels: usize, out_channels: usize) -> Self {
        Self { kernel: [1, kernel, kernel], in_channels: [in_channels, 0], out_channels }
    }

    /// Number of weights.
    pub fn n_weights(&self) -> usize {
        self.kernel.iter().product::<usize>() * self.n_inputs() * self.out_channels
    }

    pub(crate) fn n_inputs(&self) -> usize {
        self.in_channels[0] + self.in_channels[1]
    }

    pub(crate) fn axes(&self) -> WeightAxes {
        WeightAxes {
            tap_rows: self.kernel[0] * self.kernel[1],
            tap_columns: self.kernel[2],
            in_channels: self.n_inputs(),
            out_channels: self.out_channels,
        }
    }

    /// Computes `output`, `[pixel, out channel]`, from `inputs`; without a second input its slice is empty.
    ///
    /// # Panics
    /// When a buffer does not have the length that `volume` and the channels ask for, or a kernel side is even.
    pub fn forward(
        &self,
        volume: Volume,
        inputs: [&[f32]; 2],
        weights: &[f32],
        bias: Option<&[f32]>,
        output: &mut [f32],
    ) {
        self.check(volume, inputs.map(<[f32]>::len), weights.len(), output.len());
        assert!(bias.is_none_or(|bias| bias.len() == self.out_channels), "one bias an out channel");
        let isa = Isa::current();
        let (places, len) = self
            .axes()
            .place(Direction::Forward, panels(self.out_channels, |n| pixel_tiles(isa, n)));
        let packed = self.axes().pack(Direction::Forward, weights, &places, len);
        let floats = SharedMut::new(output);
        let targets: Vec<Target> = places
            .iter()
            .map(|place| Target {
                floats,
                n_channels: self.out_channels,
                first_channel: place.channels.start,
                finish: bias.map_or(Finish::Replace, |bias| {
                    Finish::Bias(bias[place.channels.start..].as_ptr())
                }),
            })
            .collect();
        let halo = Halo { volume, kernel: self.kernel, channels: self.in_channels };
        let (rows, inputs) =
            (RowMap::same(volume), inputs.map(|floats| Source::new(volume, floats)));
        Spread { halo, inputs, rows, packed: &packed, panels: &places, targets: &targets }.run();
    }

    /// Computes the gradient of each input that is asked for, given that of the output.
    ///
    /// # Panics
    /// When a buffer does not have the length that `volume` and the channels ask for, or a kernel side is even.
    pub fn input_gradient(
        &self,
        volume: Volume,
        output_gradient: &[f32],
        weights: &[f32],
        input_gradients: [Option<(&mut [f32], Write)>; 2],
    ) {
        let pixels = volume.n_pixels();
        let wanted = [0, 1].map(|input: usize| match &input_gradients[input] {
            Some((gradient, _)) => gradient.len(),
            None => pixels * self.in_channels[input],
        });
        self.check(volume, wanted, weights.len(), output_gradient.len());
        let isa = Isa::current();
        let (mut ranges, mut targets) = (Vec::new(), Vec::new());
        let mut first = 0;
        for (gradient, n_channels) in input_gradients.into_iter().zip(self.in_channels) {
            if let Some((gradient, write)) = gradient {
                let floats = SharedMut::new(gradient);
                for (channels, tiles) in panels(n_channels, |n| pixel_tiles(isa, n)) {
                    let (first_channel, finish) = (channels.start, write.finish());
                    targets.push(Target { floats, n_channels, first_channel, finish });
                    ranges.push((first + channels.start..first + channels.end, tiles));
                }
            }
            first += n_channels;
        }
        let (places, len) = self.axes().place(Direction::Backward, ranges);
        let packed: Scratch = self.axes().pack(Direction::Backward, weights, &places, len);
        let halo = Halo { volume, kernel: self.kernel, channels: [self.out_channels, 0] };
        let inputs = [output_gradient, &[]].map(|floats| Source::new(volume, floats));
        let rows = RowMap::same(volume);
        Spread { halo, inputs, rows, packed: &packed, panels: &places, targets: &targets }.run();
    }

    /// The bounds that the unsafe code relies on.
    pub(crate) fn check(&self, volume: Volume, inputs: [usize; 2], weights: usize, output: usize) {
        let pixels = volume.n_pixels();
        assert!(
            self.kernel.iter().all(|side| side % 2 == 1),
            "kernel sides are odd: {:?}",
            self.kernel
        );
        assert_eq!(inputs, self.in_channels.map(|n| n * pixels), "floats of the inputs");
        assert_eq!(weights, self.n_weights(), "number of weights");
        assert_eq!(output, pixels * self.out_channels, "floats of the output");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{self, assert_close, numbers, on_all_sets};

    /// Kernel, in channels, out channels, `[batch, slice, row, column]`.
    type Case = ([usize; 3], [usize; 2], usize, [usize; 4]);

    /// Odd sides, axes of one, channels beside the lane widths, two inputs, narrow and wide planes.
    const CASES: [Case; 16] = [
        ([1, 3, 3], [1, 0], 16, [2, 1, 9, 13]),
        ([1, 3, 3], [6, 0], 8, [1, 1, 5, 64]),
        ([1, 3, 3], [8, 8], 8, [3, 1, 4, 4]),
        ([1, 3, 3], [16, 0], 16, [2, 1, 16, 16]),
        ([1, 3, 3], [5, 3], 24, [2, 1, 7, 1]),
        ([1, 3, 3], [32, 0], 40, [2, 1, 8, 8]),
        ([1, 3, 3], [20, 17], 33, [5, 1, 2, 3]),
        ([1, 3, 3], [3, 0], 4, [2, 1, 1, 31]),
        ([1, 3, 3], [64, 0], 64, [4, 1, 4, 4]),
        ([1, 1, 1], [16, 0], 1, [2, 1, 8, 8]),
        ([1, 1, 1], [7, 0], 3, [2, 1, 30, 9]),
        ([1, 1, 1], [9, 4], 2, [1, 1, 3, 3]),
        ([3, 3, 3], [2, 0], 5, [2, 3, 4, 6]),
        ([3, 3, 3], [16, 16], 16, [1, 4, 4, 5]),
        ([3, 1, 3], [4, 0], 16, [1, 1, 5, 5]),
        ([1, 5, 3], [3, 0], 7, [2, 2, 3, 9]),
    ];

    struct Setup {
        conv: Conv,
        volume: Volume,
        inputs: [Vec<f32>; 2],
        weights: Vec<f32>,
        bias: Vec<f32>,
        gradient: Vec<f32>,
    }

    fn setup((kernel, in_channels, out_channels, [batch, slices, rows, columns]): Case) -> Setup {
        let conv = Conv { kernel, in_channels, out_channels };
        let volume = Volume { batch, slices, rows, columns };
        let pixels = volume.n_pixels();
        Setup {
            conv,
            volume,
            inputs: [numbers(pixels * in_channels[0], 1), numbers(pixels * in_channels[1], 2)],
            weights: numbers(conv.n_weights(), 3),
            bias: numbers(out_channels, 4),
            gradient: numbers(pixels * out_channels, 5),
        }
    }

    impl Setup {
        fn inputs(&self) -> [&[f32]; 2] {
            [&self.inputs[0], &self.inputs[1]]
        }

        fn output(&self, bias: Option<&[f32]>) -> Vec<f32> {
            let mut output = vec![f32::NAN; self.gradient.len()];
            self.conv.forward(self.volume, self.inputs(), &self.weights, bias, &mut output);
            output
        }

        /// Gradients of both inputs, on top of ones.
        fn input_gradients(&self) -> [Vec<f32>; 2] {
            let mut found = [vec![1.0; self.inputs[0].len()], vec![1.0; self.inputs[1].len()]];
            let [first, second] = &mut found;
            let second = (!second.is_empty()).then_some((second.as_mut_slice(), Write::Add));
            let targets = [Some((first.as_mut_slice(), Write::Add)), second];
            self.conv.input_gradient(self.volume, &self.gradient, &self.weights, targets);
            found
        }

        /// Gradients of weights and bias, on top of ones.
        fn weight_gradients(&self) -> [Vec<f32>; 2] {
            let [mut weights, mut bias] =
                [vec![1.0; self.weights.len()], vec![1.0; self.bias.len()]];
            let (inputs, bias_sums) = (self.inputs(), Some(bias.as_mut_slice()));
            self.conv.weight_gradient(self.volume, inputs, &self.gradient, &mut weights, bias_sums);
            [weights, bias]
        }
    }

    #[test]
    fn forward_is_the_sum_over_neighbours() {
        for case in CASES {
            let setup = setup(case);
            let joined = reference::joined(&setup.conv, setup.inputs());
            let plain = reference::forward(&setup.conv, setup.volume, &joined, &setup.weights);
            let biased: Vec<f64> = plain
                .iter()
                .enumerate()
                .map(|(place, sum)| sum + f64::from(setup.bias[place % setup.conv.out_channels]))
                .collect();
            for found in on_all_sets(|| [setup.output(None), setup.output(Some(&setup.bias))]) {
                assert_close(&found[0], &plain, &format!("{case:?}"));
                assert_close(&found[1], &biased, &format!("{case:?} with bias"));
            }
        }
    }

    #[test]
    fn input_gradient_is_the_adjoint() {
        for case in CASES {
            let setup = setup(case);
            let mut expected = reference::input_gradient(
                &setup.conv,
                setup.volume,
                &setup.gradient,
                &setup.weights,
            );
            expected.iter_mut().for_each(|value| *value += 1.0);
            for found in on_all_sets(|| setup.input_gradients()) {
                let joined = reference::joined(&setup.conv, [&found[0], &found[1]]);
                assert_close(&joined, &expected, &format!("{case:?}"));
                let sides = [
                    reference::dot(&setup.output(None), &setup.gradient),
                    reference::dot(&setup.inputs.concat(), &found.concat())
                        - setup.inputs.concat().iter().map(|&value| f64::from(value)).sum::<f64>(),
                ];
                assert!((sides[0] - sides[1]).abs() < 1e-3, "{case:?}: {sides:?}");
            }
        }
    }

    #[test]
    fn input_gradient_of_one_input_leaves_the_other() {
        let setup = setup(CASES[6]);
        let whole = setup.input_gradients();
        let mut second = vec![f32::NAN; setup.inputs[1].len()];
        let targets = [None, Some((second.as_mut_slice(), Write::Replace))];
        setup.conv.input_gradient(setup.volume, &setup.gradient, &setup.weights, targets);
        let expected: Vec<f64> = whole[1].iter().map(|&value| f64::from(value) - 1.0).collect();
        assert_close(&second, &expected, "second input");
    }

    #[test]
    fn weight_gradient_is_the_sum_over_pixels() {
        for case in CASES {
            let setup = setup(case);
            let joined = reference::joined(&setup.conv, setup.inputs());
            let mut expected =
                reference::weight_gradient(&setup.conv, setup.volume, &joined, &setup.gradient);
            expected.iter_mut().for_each(|value| *value += 1.0);
            let n_out = setup.conv.out_channels;
            let sums: Vec<f64> = (0..n_out)
                .map(|channel| setup.gradient.iter().skip(channel).step_by(n_out))
                .map(|values| 1.0 + values.map(|&value| f64::from(value)).sum::<f64>())
                .collect();
            for [weights, bias] in on_all_sets(|| setup.weight_gradients()) {
                assert_close(&weights, &expected, &format!("{case:?}"));
                assert_close(&bias, &sums, &format!("{case:?} bias"));
            }
        }
    }

    #[test]
    fn work_split_over_tasks_gives_the_same() {
        // Large enough for several bands, chunks and panel groups.
        for case in [
            ([1, 3, 3], [16, 0], 16, [2, 1, 40, 40]),
            ([1, 3, 3], [48, 16], 72, [4, 1, 8, 8]),
            ([1, 3, 3], [96, 0], 96, [2, 1, 12, 12]),
            ([1, 3, 3], [8, 0], 8, [2, 1, 70, 33]),
        ] {
            let setup = setup(case);
            let joined = reference::joined(&setup.conv, setup.inputs());
            let forward = reference::forward(&setup.conv, setup.volume, &joined, &setup.weights);
            let mut weights =
                reference::weight_gradient(&setup.conv, setup.volume, &joined, &setup.gradient);
            weights.iter_mut().for_each(|value| *value += 1.0);
            for (output, sums) in on_all_sets(|| (setup.output(None), setup.weight_gradients())) {
                assert_close(&output, &forward, &format!("{case:?}"));
                assert_close(&sums[0], &weights, &format!("{case:?}"));
            }
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
        fn any_shape_agrees_with_the_definition(
            taps in [0..2_usize, 0..2_usize, 0..3_usize],
            in_channels in [1..40_usize, 0..20_usize],
            out_channels in 1..50_usize,
            axes in [1..4_usize, 1..4_usize, 1..7_usize, 1..9_usize],
        ) {
            let case = (taps.map(|taps| 2 * taps + 1), in_channels, out_channels, axes);
            let setup = setup(case);
            let joined = reference::joined(&setup.conv, setup.inputs());
            let (conv, volume, gradient) = (&setup.conv, setup.volume, &setup.gradient);
            let forward = reference::forward(conv, volume, &joined, &setup.weights);
            assert_close(&setup.output(None), &forward, &format!("{case:?}"));
            let mut to_weights = reference::weight_gradient(conv, volume, &joined, gradient);
            to_weights.iter_mut().for_each(|value| *value += 1.0);
            assert_close(&setup.weight_gradients()[0], &to_weights, &format!("{case:?} weights"));
            let mut to_inputs = reference::input_gradient(conv, volume, gradient, &setup.weights);
            to_inputs.iter_mut().for_each(|value| *value += 1.0);
            let [first, second] = setup.input_gradients();
            let found = reference::joined(conv, [&first, &second]);
            assert_close(&found, &to_inputs, &format!("{case:?} inputs"));
        }
    }
}
