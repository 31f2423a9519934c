//! The layers as passes on tiles. Callers have checked the lengths of all buffers.

use super::{
    panel::{columns, rows, split},
    slab::Feed,
    spread::{Pass, Target},
    weights::WeightPass,
};
use crate::{
    Conv, Element, UpConv, Volume, Write,
    parallel::SharedMut,
    tile::Finish,
    volume::{RowMap, Source},
};

/// Inputs with their numbers of channels; a second one without channels is none.
fn sources<'a, E: Element>(
    volume: Volume,
    inputs: [&'a [E]; 2],
    channels: [usize; 2],
) -> Vec<(Source<'a, E>, usize)> {
    let sources = inputs.map(|numbers| Source::new(volume, numbers));
    sources.into_iter().zip(channels).filter(|&(_, n_channels)| n_channels > 0).collect()
}

/// The targets of an output with all lanes, in the order of [`split`].
fn targets<E: Element>(
    numbers: SharedMut<E>,
    n_channels: usize,
    rows: RowMap,
    finish: impl Fn(usize) -> Finish,
) -> impl Iterator<Item = Target<E>> {
    split(0..n_channels).map(move |lanes| {
        let (first_channel, finish) = (lanes.start, finish(lanes.start));
        Target { numbers, n_channels, first_channel, rows, finish }
    })
}

fn with_bias(bias: Option<&[f32]>) -> impl Fn(usize) -> Finish {
    move |first| bias.map_or(Finish::Replace, |bias| Finish::Bias(bias[first..].as_ptr()))
}

impl Conv {
    pub(crate) fn forward_on_tiles<E: Element>(
        &self,
        volume: Volume,
        inputs: [&[E]; 2],
        weights: &[f32],
        bias: Option<&[f32]>,
        output: &mut [E],
    ) {
        let n_out = self.out_channels;
        let panels = rows::<E>(weights, self.kernel[0] * self.kernel[1], n_out, split(0..n_out));
        let numbers = SharedMut::new(output);
        let targets: Vec<Target<E>> =
            targets(numbers, n_out, RowMap::same(volume), with_bias(bias)).collect();
        let sources = sources(volume, inputs, self.in_channels);
        let feed = Feed { volume, kernel: self.kernel, sources };
        Pass { feed: &feed, panels: &panels, targets: &targets }.run();
    }

    pub(crate) fn input_gradient_on_tiles<E: Element>(
        &self,
        volume: Volume,
        output_gradient: &[E],
        weights: &[f32],
        input_gradients: [Option<(&mut [E], Write)>; 2],
    ) {
        let (mut ranges, mut goals, mut first) = (Vec::new(), Vec::new(), 0);
        for (gradient, n_channels) in input_gradients.into_iter().zip(self.in_channels) {
            if let Some((gradient, write)) = gradient {
                let (numbers, finish) = (SharedMut::new(gradient), write.finish());
                goals.extend(targets(numbers, n_channels, RowMap::same(volume), |_| finish));
                ranges.extend(
                    split(0..n_channels).map(|lanes| first + lanes.start..first + lanes.end),
                );
            }
            first += n_channels;
        }
        let [_, _, tap_columns] = self.kernel;
        let n_segments = self.kernel[0] * self.kernel[1];
        // Taps are reversed.
        let block = self.n_inputs() * self.out_channels;
        let starts: Vec<usize> =
            (0..n_segments * tap_columns).rev().map(|tap| tap * block).collect();
        let panels =
            columns::<E>(weights, n_segments, (&starts, self.out_channels), ranges.into_iter());
        let sources = sources(volume, [output_gradient, &[]], [self.out_channels, 0]);
        let feed = Feed { volume, kernel: self.kernel, sources };
        Pass { feed: &feed, panels: &panels, targets: &goals }.run();
    }

    pub(crate) fn weight_gradient_on_tiles<E: Element>(
        &self,
        volume: Volume,
        inputs: [&[E]; 2],
        output_gradient: &[E],
        weight_gradient: &mut [f32],
    ) {
        let sources = sources(volume, inputs, self.in_channels);
        let feed = Feed { volume, kernel: self.kernel, sources };
        let gradients = vec![(Source::new(volume, output_gradient), self.out_channels)];
        WeightPass { feed, gradients, out_channels: self.out_channels }.run(weight_gradient);
    }
}

impl UpConv {
    pub(crate) fn forward_on_tiles<E: Element>(
        &self,
        volume: Volume,
        input: &[E],
        weights: &[f32],
        bias: Option<&[f32]>,
        output: &mut [E],
    ) {
        let (width, maps) = (self.row_channels(), self.row_maps(volume));
        // All kernel rows side by side: `[in channel][kernel slice and row][kernel column, out channel]`.
        let n_lanes = maps.len() * width;
        let mut lanes = vec![0.0; self.in_channels * n_lanes];
        for tap_row in 0..maps.len() {
            let from = self.row_weights(weights, tap_row);
            let to = lanes.chunks_exact_mut(n_lanes.max(1)).map(|to| &mut to[tap_row * width..]);
            for (from, to) in from.chunks_exact(width.max(1)).zip(to) {
                to[..width].copy_from_slice(from);
            }
        }
        let ranges = (0..maps.len()).flat_map(|tap_row| {
            split(0..width)
                .map(move |lanes| tap_row * width + lanes.start..tap_row * width + lanes.end)
        });
        let panels = rows::<E>(&lanes, 1, n_lanes, ranges);
        let (bias, numbers) =
            (bias.map(|bias| bias.repeat(self.stride[2])), SharedMut::new(output));
        let targets: Vec<Target<E>> = maps
            .into_iter()
            .flat_map(|rows| targets(numbers, width, rows, with_bias(bias.as_deref())))
            .collect();
        let sources = sources(volume, [input, &[]], [self.in_channels, 0]);
        let feed = Feed { volume, kernel: [1, 1, 1], sources };
        Pass { feed: &feed, panels: &panels, targets: &targets }.run();
    }

    pub(crate) fn input_gradient_on_tiles<E: Element>(
        &self,
        volume: Volume,
        output_gradient: &[E],
        weights: &[f32],
        input_gradient: &mut [E],
        write: Write,
    ) {
        let finish = write.finish();
        let n_in = self.in_channels;
        let numbers = SharedMut::new(input_gradient);
        let targets: Vec<Target<E>> =
            targets(numbers, n_in, RowMap::same(volume), |_| finish).collect();
        let block = n_in * self.out_channels;
        let n_taps: usize = self.stride.iter().product();
        let starts: Vec<usize> = (0..n_taps).map(|tap| tap * block).collect();
        let panels = columns::<E>(weights, 1, (&starts, self.out_channels), split(0..n_in));
        let feed =
            Feed { volume, kernel: [1, 1, 1], sources: self.gradients(volume, output_gradient) };
        Pass { feed: &feed, panels: &panels, targets: &targets }.run();
    }

    pub(crate) fn weight_gradient_on_tiles<E: Element>(
        &self,
        volume: Volume,
        input: &[E],
        output_gradient: &[E],
        weight_gradient: &mut [f32],
    ) {
        let sources = sources(volume, [input, &[]], [self.in_channels, 0]);
        let feed = Feed { volume, kernel: [1, 1, 1], sources };
        let gradients = self.gradients(volume, output_gradient);
        WeightPass { feed, gradients, out_channels: self.out_channels }.run(weight_gradient);
    }

    /// The output gradient as one source for each kernel slice and row.
    fn gradients<'a, E: Element>(
        &self,
        volume: Volume,
        numbers: &'a [E],
    ) -> Vec<(Source<'a, E>, usize)> {
        let maps = self.row_maps(volume).into_iter();
        maps.map(|rows| (Source { numbers, rows }, self.row_channels())).collect()
    }
}
