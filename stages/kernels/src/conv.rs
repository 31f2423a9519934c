//! Convolution with zero padding to the same size and stride one, and its input gradient.
//!
//! Buffers are channels-last. Weights are `[kernel slice, kernel row, kernel column, in channel, out channel]`;
//! with two inputs, in channels are those of the first and then those of the second, as if they had been
//! concatenated. Like PyTorch this is a cross-correlation: kernel (0, 0, 0) reads the upper left neighbour.

use crate::{
    Element, Isa,
    pack::{Direction, WeightAxes, rounded},
    parallel::Scratch,
    spread::{Spread, Target},
    tile::{Finish, panels, pixel_tiles},
    volume::{Halo, RowMap, Source, Volume},
    winograd,
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
    pub fn forward<E: Element>(
        &self,
        volume: Volume,
        inputs: [&[E]; 2],
        weights: &[f32],
        bias: Option<&[f32]>,
        output: &mut [E],
    ) {
        self.check(volume, inputs.map(<[E]>::len), weights.len(), output.len());
        assert!(bias.is_none_or(|bias| bias.len() == self.out_channels), "one bias an out channel");
        let isa = Isa::current();
        #[cfg(target_arch = "x86_64")]
        if isa.has_tiles_for::<E>() {
            return self.forward_on_tiles(volume, inputs, weights, bias, output);
        }
        if winograd::suits(self, volume)
            && let ([Some(first), Some(second)], Some(output)) =
                (inputs.map(E::as_f32), E::as_f32_mut(output))
        {
            return winograd::forward(self, volume, [first, second], weights, bias, output);
        }
        let (places, len) = self
            .axes()
            .place(Direction::Forward, panels(self.out_channels, |n| pixel_tiles(isa, n)));
        let packed = self.axes().pack(Direction::Forward, &rounded::<E>(weights), &places, len);
        let numbers = E::numbers(output);
        let targets: Vec<Target> = places
            .iter()
            .map(|place| Target {
                numbers,
                n_channels: self.out_channels,
                first_channel: place.channels.start,
                finish: bias.map_or(Finish::Replace, |bias| {
                    Finish::Bias(bias[place.channels.start..].as_ptr())
                }),
            })
            .collect();
        let halo = Halo { volume, kernel: self.kernel, channels: self.in_channels };
        let (rows, inputs) =
            (RowMap::same(volume), inputs.map(|numbers| Source::new(volume, numbers)));
        Spread { halo, inputs, rows, packed: &packed, panels: &places, targets: &targets }.run();
    }

    /// Computes the gradient of each input that is asked for, given that of the output.
    ///
    /// # Panics
    /// When a buffer does not have the length that `volume` and the channels ask for, or a kernel side is even.
    pub fn input_gradient<E: Element>(
        &self,
        volume: Volume,
        output_gradient: &[E],
        weights: &[f32],
        input_gradients: [Option<(&mut [E], Write)>; 2],
    ) {
        let pixels = volume.n_pixels();
        let wanted = [0, 1].map(|input: usize| match &input_gradients[input] {
            Some((gradient, _)) => gradient.len(),
            None => pixels * self.in_channels[input],
        });
        self.check(volume, wanted, weights.len(), output_gradient.len());
        let isa = Isa::current();
        #[cfg(target_arch = "x86_64")]
        if isa.has_tiles_for::<E>() {
            return self.input_gradient_on_tiles(volume, output_gradient, weights, input_gradients);
        }
        if winograd::suits(self, volume)
            && let Some(output_gradient) = E::as_f32(output_gradient)
        {
            let targets = input_gradients.map(|target| {
                let (gradient, write) = target?;
                Some((E::as_f32_mut(gradient)?, write))
            });
            return winograd::input_gradient(self, volume, output_gradient, weights, targets);
        }
        let (mut ranges, mut targets) = (Vec::new(), Vec::new());
        let mut first = 0;
        for (gradient, n_channels) in input_gradients.into_iter().zip(self.in_channels) {
            if let Some((gradient, write)) = gradient {
                let numbers = E::numbers(gradient);
                for (channels, tiles) in panels(n_channels, |n| pixel_tiles(isa, n)) {
                    let (first_channel, finish) = (channels.start, write.finish());
                    targets.push(Target { numbers, n_channels, first_channel, finish });
                    ranges.push((first + channels.start..first + channels.end, tiles));
                }
            }
            first += n_channels;
        }
        let (places, len) = self.axes().place(Direction::Backward, ranges);
        let weights = rounded::<E>(weights);
        let packed: Scratch = self.axes().pack(Direction::Backward, &weights, &places, len);
        let halo = Halo { volume, kernel: self.kernel, channels: [self.out_channels, 0] };
        let inputs = [output_gradient, &[]].map(|numbers| Source::new(volume, numbers));
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
    use crate::{
        bf16,
        reference::{
            self, assert_close, assert_rounded, numbers, on_all_sets, rounded_numbers, wide,
        },
    };

    /// Kernel, in channels, out channels, `[batch, slice, row, column]`.
    type Case = ([usize; 3], [usize; 2], usize, [usize; 4]);

    /// Odd sides, axes of one, channels beside the lane widths, two inputs, narrow and wide planes.
    const CASES: [Case; 19] = [
        ([1, 3, 3], [1, 0], 16, [2, 1, 9, 13]),
        ([1, 3, 3], [6, 0], 8, [1, 1, 5, 64]),
        ([1, 3, 3], [8, 8], 8, [3, 1, 4, 4]),
        ([1, 3, 3], [16, 0], 16, [2, 1, 16, 16]),
        ([1, 3, 3], [5, 3], 24, [2, 1, 7, 1]),
        ([1, 3, 3], [32, 0], 40, [2, 1, 8, 8]),
        ([1, 3, 3], [20, 17], 33, [5, 1, 2, 3]),
        ([1, 3, 3], [3, 0], 4, [2, 1, 1, 31]),
        ([1, 3, 3], [64, 0], 64, [4, 1, 4, 4]),
        ([1, 3, 3], [30, 37], 36, [2, 1, 7, 9]),
        ([1, 3, 3], [33, 0], 66, [1, 1, 31, 2]),
        ([3, 3, 3], [64, 0], 48, [2, 3, 5, 6]),
        ([1, 1, 1], [16, 0], 1, [2, 1, 8, 8]),
        ([1, 1, 1], [7, 0], 3, [2, 1, 30, 9]),
        ([1, 1, 1], [9, 4], 2, [1, 1, 3, 3]),
        ([3, 3, 3], [2, 0], 5, [2, 3, 4, 6]),
        ([3, 3, 3], [16, 16], 16, [1, 4, 4, 5]),
        ([3, 1, 3], [4, 0], 16, [1, 1, 5, 5]),
        ([1, 5, 3], [3, 0], 7, [2, 2, 3, 9]),
    ];

    struct Setup<E> {
        conv: Conv,
        volume: Volume,
        inputs: [Vec<E>; 2],
        weights: Vec<f32>,
        bias: Vec<f32>,
        gradient: Vec<E>,
    }

    fn setup<E: Element>(case: Case) -> Setup<E> {
        let (kernel, in_channels, out_channels, [batch, slices, rows, columns]) = case;
        let conv = Conv { kernel, in_channels, out_channels };
        let volume = Volume { batch, slices, rows, columns };
        let pixels = volume.n_pixels();
        Setup {
            conv,
            volume,
            inputs: [(in_channels[0], 1), (in_channels[1], 2)]
                .map(|(n_channels, seed)| rounded_numbers(pixels * n_channels, seed)),
            weights: numbers(conv.n_weights(), 3),
            bias: numbers(out_channels, 4),
            gradient: rounded_numbers(pixels * out_channels, 5),
        }
    }

    /// What a layer should give, in f64.
    struct Expected {
        output: Vec<f64>,
        biased: Vec<f64>,
        /// Gradients on top of ones.
        input: Vec<f64>,
        weights: Vec<f64>,
        bias: Vec<f64>,
    }

    impl<E: Element> Setup<E> {
        fn inputs(&self) -> [&[E]; 2] {
            [&self.inputs[0], &self.inputs[1]]
        }

        fn expected(&self) -> Expected {
            let (conv, volume, n_out) = (&self.conv, self.volume, self.conv.out_channels);
            let (weights, gradient) = (rounded::<E>(&self.weights), wide(&self.gradient));
            let inputs = [wide(&self.inputs[0]), wide(&self.inputs[1])];
            let joined = reference::joined(conv, [&inputs[0], &inputs[1]]);
            let on_top = |values: Vec<f64>| values.into_iter().map(|value| value + 1.0).collect();
            let output = reference::forward(conv, volume, &joined, &weights);
            let biases = self.bias.iter().map(|&bias| f64::from(bias)).cycle();
            let bias = |channel| gradient.iter().skip(channel).step_by(n_out);
            Expected {
                biased: output.iter().zip(biases).map(|(sum, bias)| sum + bias).collect(),
                output,
                input: on_top(reference::input_gradient(conv, volume, &gradient, &weights)),
                weights: on_top(reference::weight_gradient(conv, volume, &joined, &gradient)),
                bias: on_top(
                    (0..n_out).map(|c| bias(c).map(|&value| f64::from(value)).sum()).collect(),
                ),
            }
        }

        fn output(&self, bias: Option<&[f32]>) -> Vec<E> {
            let mut output = vec![E::narrow(f32::NAN); self.gradient.len()];
            self.conv.forward(self.volume, self.inputs(), &self.weights, bias, &mut output);
            output
        }

        /// Gradients of both inputs, on top of ones.
        fn input_gradients(&self) -> [Vec<E>; 2] {
            let mut found = [0, 1].map(|input| vec![E::narrow(1.0); self.inputs[input].len()]);
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

        /// Compares everything that `found` holds with the definition.
        fn check(&self, found: &Found<E>, case: &Case) {
            let expected = self.expected();
            assert_rounded(&found.output, &expected.output, &format!("{case:?}"));
            assert_rounded(&found.biased, &expected.biased, &format!("{case:?} with bias"));
            let [first, second] = [wide(&found.inputs[0]), wide(&found.inputs[1])];
            let input = reference::joined(&self.conv, [&first, &second]);
            let input: Vec<E> = input.into_iter().map(E::narrow).collect();
            assert_rounded(&input, &expected.input, &format!("{case:?} inputs"));
            assert_close(&found.sums[0], &expected.weights, &format!("{case:?} weights"));
            assert_close(&found.sums[1], &expected.bias, &format!("{case:?} bias"));
        }

        fn run(&self) -> Found<E> {
            Found {
                output: self.output(None),
                biased: self.output(Some(&self.bias)),
                inputs: self.input_gradients(),
                sums: self.weight_gradients(),
            }
        }
    }

    #[derive(Debug, PartialEq)]
    struct Found<E> {
        output: Vec<E>,
        biased: Vec<E>,
        inputs: [Vec<E>; 2],
        sums: [Vec<f32>; 2],
    }

    /// All passes on all sets against the definition.
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
    fn input_gradient_is_the_adjoint() {
        for case in CASES {
            let setup = setup::<f32>(case);
            let (output, [first, second]) = (setup.output(None), setup.input_gradients());
            let inputs = setup.inputs.concat();
            let sum: f64 = inputs.iter().map(|&value| f64::from(value)).sum();
            let sides = [
                reference::dot(&output, &setup.gradient),
                reference::dot(&inputs, &[first, second].concat()) - sum,
            ];
            assert!((sides[0] - sides[1]).abs() < 1e-3, "{case:?}: {sides:?}");
        }
    }

    #[test]
    fn input_gradient_of_one_input_leaves_the_other() {
        let setup = setup::<f32>(CASES[6]);
        let whole = setup.input_gradients();
        let mut second = vec![f32::NAN; setup.inputs[1].len()];
        let targets = [None, Some((second.as_mut_slice(), Write::Replace))];
        setup.conv.input_gradient(setup.volume, &setup.gradient, &setup.weights, targets);
        let expected: Vec<f64> = whole[1].iter().map(|&value| f64::from(value) - 1.0).collect();
        assert_close(&second, &expected, "second input");
    }

    #[test]
    fn work_split_over_tasks_gives_the_same() {
        // Large enough for several bands, chunks and panel groups.
        for case in [
            ([1, 3, 3], [16, 0], 16, [2, 1, 40, 40]),
            ([1, 3, 3], [48, 16], 72, [4, 1, 8, 8]),
            ([1, 3, 3], [96, 0], 96, [2, 1, 12, 12]),
            ([1, 3, 3], [8, 0], 8, [2, 1, 70, 33]),
            ([3, 3, 3], [16, 8], 24, [1, 9, 11, 13]),
        ] {
            check::<f32>(case);
            check::<bf16>(case);
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
            let (floats, halves) = (setup::<f32>(case), setup::<bf16>(case));
            floats.check(&floats.run(), &case);
            halves.check(&halves.run(), &case);
        }
    }
}
