//! The net against the same net of stock candle operations in f64, against finite differences, and its refusals.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::collections::BTreeMap;

use candle_core::{D, DType, Device, Result as CandleResult, Tensor, Var};
use rayon::ThreadPoolBuilder;

use super::*;
use crate::testing::streams;
use crate::{Layout, NamedTensor};

/// Largest difference of our f32 results from the f64 net, relative to the norm of the latter.
const TOLERANCE: f64 = 1e-5;

fn net(config: UnetConfig) -> Unet {
    let streams = streams(7);
    let mut unet = Unet::new(config, &mut *streams("weights", &[])).unwrap();
    // Scales and shifts away from the identity, so that a mix-up is seen.
    let mut uniform = streams("scales", &[]);
    let parameters = unet.parameters_mut();
    for index in 0..parameters.entries.len() {
        if parameters.entries[index].layout == Layout::Plain {
            parameters
                .entry_mut(index)
                .iter_mut()
                .for_each(|value| *value += 0.4 * uniform() as f32);
        }
    }
    unet
}

fn numbers(len: usize, purpose: &str) -> Vec<f32> {
    let mut uniform = streams(3)(purpose, &[]);
    (0..len).map(|_| uniform() as f32 - 0.5).collect()
}

fn config(n_decoders: usize, n_heads: usize) -> UnetConfig {
    UnetConfig {
        axes: Axes::Two,
        in_channels: 2,
        base_width: 4,
        levels: 3,
        n_decoders,
        n_heads,
        out_channels: 2,
    }
}

/// Axes of the small batches below, `[batch, row, column]`.
const BATCH: [usize; 3] = [2, 8, 12];

fn flat([batch, rows, columns]: [usize; 3]) -> Volume {
    Volume::flat(batch, rows, columns)
}

fn head_gradients(config: &UnetConfig) -> Vec<Vec<Vec<f32>>> {
    gradients_of_heads(config, flat(BATCH))
}

/// The same net of stock operations.
struct Stock {
    config: UnetConfig,
    tensors: BTreeMap<String, Var>,
    training: bool,
}

impl Stock {
    fn new(unet: &Unet, training: bool) -> Self {
        let tensor = |named: NamedTensor| {
            let values: Vec<f64> = named.values.iter().map(|&value| f64::from(value)).collect();
            let tensor = Tensor::from_vec(values, named.shape, &Device::Cpu).unwrap();
            (named.name, Var::from_tensor(&tensor).unwrap())
        };
        let tensors = unet.parameters().export().into_iter().map(tensor).collect();
        Self { config: unet.config().clone(), tensors, training }
    }

    fn get(&self, name: &str) -> &Tensor {
        self.tensors[name].as_tensor()
    }

    fn channels(&self, name: &str) -> CandleResult<Tensor> {
        self.get(name).reshape((1, (), 1, 1))
    }

    fn unit(&self, x: &Tensor, prefix: &str, position: usize) -> CandleResult<Tensor> {
        let weight = self.get(&format!("{prefix}.double_conv.{position}.weight"));
        let norm = format!("{prefix}.double_conv.{}", position + 1);
        let x = x.conv2d(weight, 1, 1, 1, 1)?;
        let [mean, variance] = if self.training {
            let mean = x.mean_keepdim((0, 2, 3))?;
            let variance = x.broadcast_sub(&mean)?.sqr()?.mean_keepdim((0, 2, 3))?;
            [mean, variance]
        } else {
            [
                self.channels(&format!("{norm}.running_mean"))?,
                self.channels(&format!("{norm}.running_var"))?,
            ]
        };
        let x = x.broadcast_sub(&mean)?.broadcast_div(&(variance + 1e-5)?.sqrt()?)?;
        let x = x.broadcast_mul(&self.channels(&format!("{norm}.weight"))?)?;
        x.broadcast_add(&self.channels(&format!("{norm}.bias"))?)?.relu()
    }

    fn block(&self, x: &Tensor, prefix: &str) -> CandleResult<Tensor> {
        self.unit(&self.unit(x, prefix, 0)?, prefix, 3)
    }

    /// Maxima of 2 × 2 blocks by reductions: the gradient of `max_pool2d` is scaled wrongly.
    fn pool(x: &Tensor) -> CandleResult<Tensor> {
        let (batch, channels, rows, columns) = x.dims4()?;
        x.reshape(&[batch, channels, rows / 2, 2, columns / 2, 2])?.max(D::Minus1)?.max(3)
    }

    /// Logits by decoder and head, `[batch, channel, row, column]`.
    fn forward(&self, x: &Tensor) -> CandleResult<Vec<Vec<Tensor>>> {
        let mut encoded = vec![self.block(x, "inc")?];
        for level in 1..self.config.levels {
            let x = Self::pool(&encoded[level - 1])?;
            encoded.push(self.block(&x, &format!("down{level}.maxpool_conv.1"))?);
        }
        let several = |n: usize, text: String| if n == 1 { String::new() } else { text };
        let mut logits = Vec::new();
        for decoder in 0..self.config.n_decoders {
            let prefix = several(self.config.n_decoders, format!("decoders.{decoder}."));
            let mut x = encoded[self.config.levels - 1].clone();
            for (step, skip) in encoded.iter().rev().skip(1).enumerate() {
                let name = format!("{prefix}up{}", step + 1);
                let up = x.conv_transpose2d(self.get(&format!("{name}.up.weight")), 0, 0, 2, 1)?;
                let up = up.broadcast_add(&self.channels(&format!("{name}.up.bias"))?)?;
                x = self.block(&Tensor::cat(&[skip, &up], 1)?, &format!("{name}.conv"))?;
            }
            let head = |head: usize| {
                let name = format!(
                    "{prefix}outc{}.conv",
                    several(self.config.n_heads, format!(".{head}"))
                );
                let logits = x.conv2d(self.get(&format!("{name}.weight")), 0, 1, 1, 1)?;
                logits.broadcast_add(&self.channels(&format!("{name}.bias"))?)
            };
            logits.push((0..self.config.n_heads).map(head).collect::<CandleResult<Vec<_>>>()?);
        }
        Ok(logits)
    }
}

/// Channels-last floats as `[batch, channel, row, column]` in f64.
fn channels_first(values: &[f32], [batch, rows, columns]: [usize; 3]) -> Tensor {
    let values = Tensor::from_slice(values, (batch, rows, columns, ()), &Device::Cpu).unwrap();
    values.to_dtype(DType::F64).unwrap().permute((0, 3, 1, 2)).unwrap()
}

fn assert_close(found: &[f32], expected: &Tensor, what: &str) {
    let expected: Vec<f64> = expected.flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(found.len(), expected.len(), "{what}: number of values");
    let distance: f64 = found.iter().zip(&expected).map(|(&a, b)| (f64::from(a) - b).powi(2)).sum();
    let norm: f64 = expected.iter().map(|value| value * value).sum();
    let error = (distance / norm).sqrt();
    assert!(error < TOLERANCE, "{what}: relative error {error:.1e}");
}

#[test]
fn parameter_counts_are_those_of_the_classic_net() {
    for (in_channels, out_channels, count) in [(3, 2, 31_037_698), (1, 1, 31_036_481)] {
        let config = UnetConfig {
            axes: Axes::Two,
            in_channels,
            base_width: 64,
            levels: 5,
            n_decoders: 1,
            n_heads: 1,
            out_channels,
        };
        let unet = Unet::new(config, &mut || 0.5).unwrap();
        assert_eq!(unet.parameters().count(), count);
    }
}

#[test]
fn names_and_shapes_are_those_of_a_checkpoint() {
    let unet = net(config(1, 1));
    let entry =
        |name: &str| unet.parameters().entries[unet.parameters().find(name).unwrap()].shape.clone();
    assert_eq!(entry("inc.double_conv.0.weight"), [4, 2, 3, 3]);
    assert_eq!(entry("down2.maxpool_conv.1.double_conv.3.weight"), [16, 16, 3, 3]);
    assert_eq!(entry("up1.up.weight"), [16, 8, 2, 2]);
    assert_eq!(entry("up1.conv.double_conv.0.weight"), [8, 16, 3, 3]);
    assert_eq!(entry("outc.conv.bias"), [2]);
    let deep = net(UnetConfig { axes: Axes::Three, ..config(1, 1) });
    let shape =
        |name: &str| deep.parameters().entries[deep.parameters().find(name).unwrap()].shape.clone();
    assert_eq!(shape("inc.double_conv.0.weight"), [4, 2, 3, 3, 3]);
    assert_eq!(shape("up1.up.weight"), [16, 8, 2, 2, 2]);
    assert_eq!(shape("outc.conv.weight"), [2, 4, 1, 1, 1]);
    let names: Vec<&str> =
        unet.parameters().entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names.len(), 6 * 5 + 2 * 2 + 2);
    let several = net(config(2, 2));
    assert!(several.parameters().find("decoders.1.outc.0.conv.weight").is_some());
}

#[test]
fn initial_weights_fill_their_bounds() {
    let unet = Unet::new(config(1, 1), &mut *streams(1)("weights", &[])).unwrap();
    for (name, fan_in) in
        [("down2.maxpool_conv.1.double_conv.3.weight", 144.0_f32), ("up1.up.weight", 32.0)]
    {
        let values = unet.parameters().entry(unet.parameters().find(name).unwrap());
        let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let bound = 1.0 / fan_in.sqrt();
        assert!((0.95 * bound..=bound).contains(&largest), "{name}: {largest} of {bound}");
    }
}

#[test]
fn training_pass_and_gradients_are_those_of_stock_operations() {
    for config in [config(1, 1), config(3, 2), UnetConfig { levels: 1, ..config(2, 1) }] {
        let mut unet = net(config.clone());
        let stock = Stock::new(&unet, true);
        let input = numbers(BATCH.iter().product::<usize>() * 2, "input");
        let logits = stock.forward(&channels_first(&input, BATCH)).unwrap();
        let gradients = head_gradients(&config);

        // Twice, to see that buffers of an earlier step do no harm and that gradients add up.
        for _ in 0..2 {
            unet.parameters_mut().zero_gradients();
            unet.forward(&input, flat(BATCH), true).unwrap();
            unet.backward(&gradients).unwrap();
        }
        let mut loss = Tensor::zeros((), DType::F64, &Device::Cpu).unwrap();
        for (decoder, heads) in logits.iter().enumerate() {
            for (head, logits) in heads.iter().enumerate() {
                let expected = logits.permute((0, 2, 3, 1)).unwrap();
                assert_close(
                    unet.logits(decoder, head),
                    &expected,
                    &format!("logits {decoder} {head}"),
                );
                let gradient = channels_first(&gradients[decoder][head], BATCH);
                loss = ((logits * gradient).unwrap().sum_all().unwrap() + loss).unwrap();
            }
        }
        let expected = loss.backward().unwrap();
        let mut found = unet.parameters().clone();
        found.values.copy_from_slice(&unet.parameters().gradients);
        for tensor in found.export().iter().take(found.entries.len()) {
            let expected = expected.get(stock.tensors[&tensor.name].as_tensor()).unwrap();
            assert_close(&tensor.values, expected, &tensor.name);
        }
    }
}

#[test]
fn inference_pass_is_that_of_stock_operations() {
    let config = config(2, 2);
    let mut unet = net(config.clone());
    let input = numbers(BATCH.iter().product::<usize>() * 2, "input");
    for _ in 0..3 {
        unet.forward(&input, flat(BATCH), true).unwrap();
    }
    let stock = Stock::new(&unet, false);
    let logits = stock.forward(&channels_first(&input, BATCH)).unwrap();
    unet.forward(&input, flat(BATCH), false).unwrap();
    for (decoder, heads) in logits.iter().enumerate() {
        for (head, logits) in heads.iter().enumerate() {
            let expected = logits.permute((0, 2, 3, 1)).unwrap();
            assert_close(
                unet.logits(decoder, head),
                &expected,
                &format!("logits {decoder} {head}"),
            );
        }
    }
    assert_eq!(unet.backward(&head_gradients(&config)), Err(UnetError::NoForward));
}

/// Nets of two and three axes with the axes of a batch that they take.
fn nets_of_all_axes() -> [(UnetConfig, Volume); 4] {
    let deep = Volume { batch: 2, slices: 4, rows: 8, columns: 4 };
    let thick = Axes::Anisotropic { flat_poolings: 1 };
    [
        (config(1, 2), flat(BATCH)),
        (config(3, 2), flat(BATCH)),
        (UnetConfig { axes: Axes::Three, ..config(2, 1) }, deep),
        (UnetConfig { axes: thick, ..config(2, 1) }, Volume { slices: 2, ..deep }),
    ]
}

fn gradients_of_heads(config: &UnetConfig, volume: Volume) -> Vec<Vec<Vec<f32>>> {
    let len = volume.n_pixels() * config.out_channels;
    (0..config.n_decoders)
        .map(|d| (0..config.n_heads).map(|h| numbers(len, &format!("head {d} {h}"))).collect())
        .collect()
}

#[test]
fn gradient_is_the_slope_of_the_loss() {
    /// Along one direction, f32 rounding and the bends of ReLU and max together stay below this part of the slope.
    const SLOPE_TOLERANCE: f64 = 0.02;
    for (config, volume) in nets_of_all_axes() {
        let mut unet = net(config.clone());
        let input = numbers(volume.n_pixels() * 2, "input");
        let gradients = gradients_of_heads(&config, volume);
        let begin = unet.parameters().values.clone();
        let loss = |unet: &mut Unet| {
            unet.forward(&input, volume, true).unwrap();
            let heads =
                (0..config.n_decoders).flat_map(|d| (0..config.n_heads).map(move |h| (d, h)));
            heads
                .flat_map(|(d, h)| unet.logits(d, h).iter().zip(&gradients[d][h]))
                .map(|(&a, &b)| f64::from(a) * f64::from(b))
                .sum::<f64>()
        };
        loss(&mut unet);
        unet.backward(&gradients).unwrap();
        let gradient = unet.parameters().gradients.clone();
        // Along the gradient itself the slope is as steep as it can be, so rounding matters least.
        let norm = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
        let step = 1e-3;
        let mut at = |sign: f64| {
            let values = &mut unet.parameters_mut().values;
            for ((value, &from), &along) in values.iter_mut().zip(&begin).zip(&gradient) {
                *value = (f64::from(from) + sign * step * f64::from(along) / norm) as f32;
            }
            loss(&mut unet)
        };
        let slope = (at(1.0) - at(-1.0)) / (2.0 * step);
        assert!((slope / norm - 1.0).abs() < SLOPE_TOLERANCE, "slope {slope}, gradient {norm}");
    }
}

#[test]
fn a_net_of_one_slice_is_the_same_in_three_axes() {
    let mut flat_net = net(UnetConfig { levels: 1, ..config(1, 1) });
    let mut deep_net = net(UnetConfig { levels: 1, axes: Axes::Three, ..config(1, 1) });
    let tensors = flat_net.parameters().export().into_iter().map(|tensor| match tensor.shape[..] {
        // A kernel of three slices of which the middle one is that of two axes.
        [n_out, n_in, 3, 3] => {
            let middle = |nine: &[f32]| [&[0.0; 9], nine, &[0.0; 9]].concat();
            let values = tensor.values.chunks_exact(9).flat_map(middle).collect();
            NamedTensor { shape: vec![n_out, n_in, 3, 3, 3], values, ..tensor }
        }
        [n_out, n_in, 1, 1] => NamedTensor { shape: vec![n_out, n_in, 1, 1, 1], ..tensor },
        _ => tensor,
    });
    let tensors: Vec<NamedTensor> = tensors.collect();
    deep_net.parameters_mut().import(&tensors).unwrap();
    let volume = Volume { batch: 1, slices: 3, rows: 4, columns: 6 };
    let input = numbers(volume.n_pixels() * 2, "input");
    flat_net.forward(&input, volume, true).unwrap();
    deep_net.forward(&input, volume, true).unwrap();
    let expected: Vec<f64> = flat_net.logits(0, 0).iter().map(|&x| f64::from(x)).collect();
    let expected = Tensor::from_vec(expected, volume.n_pixels() * 2, &Device::Cpu).unwrap();
    assert_close(deep_net.logits(0, 0), &expected, "logits");
}

#[test]
fn bf16_is_f32_but_for_rounding() {
    /// Part of the norm that rounding to 8 bits of mantissa moves: half a unit, 2⁻⁹, in each of some ten operations.
    const ROUNDING: f64 = 0.03;
    /// More on the way back: where rounding moves one value in two hundred to the other side of a ReLU or of a maximum,
    /// its gradient comes or goes as a whole, which is the root of that share of the norm, in each of ten layers.
    const ROUNDING_BACK: f64 = 0.2;
    let distance = |found: &[f32], expected: &[f32]| {
        let square = |value: f32| f64::from(value).powi(2);
        let apart: f64 = found.iter().zip(expected).map(|(a, b)| square(a - b)).sum();
        (apart / expected.iter().copied().map(square).sum::<f64>()).sqrt()
    };
    for (config, Volume { batch, slices, rows, columns }) in nets_of_all_axes() {
        // Larger than elsewhere: the statistics of a few values at the bottom would amplify the rounding.
        let volume = Volume { batch, slices: 2 * slices, rows: 4 * rows, columns: 4 * columns };
        let input = numbers(volume.n_pixels() * 2, "input");
        let gradients = gradients_of_heads(&config, volume);
        let run = |precision: Precision| {
            let mut unet = net(config.clone());
            unet.set_execution(Execution { precision, recompute: false });
            unet.forward(&input, volume, true).unwrap();
            unet.backward(&gradients).unwrap();
            (unet.logits(0, 0).to_vec(), unet.parameters().gradients.clone())
        };
        let [(logits, gradients), (rounded, rounded_back)] =
            [Precision::F32, Precision::Bf16].map(run);
        let (forth, back) = (distance(&rounded, &logits), distance(&rounded_back, &gradients));
        assert!(forth > 0.0 && forth < ROUNDING, "{forth} {config:?}");
        assert!(back < ROUNDING_BACK, "{back} {config:?}");
    }
}

#[test]
fn recomputed_blocks_give_the_same_bytes() {
    for (config, volume) in nets_of_all_axes() {
        let input = numbers(volume.n_pixels() * 2, "input");
        let gradients = gradients_of_heads(&config, volume);
        let run = |precision: Precision, recompute: bool| {
            let mut unet = net(config.clone());
            unet.set_execution(Execution { precision, recompute });
            for _ in 0..2 {
                unet.forward(&input, volume, true).unwrap();
                unet.backward(&gradients).unwrap();
            }
            unet.forward(&input, volume, false).unwrap();
            (unet.logits(0, 0).to_vec(), unet.parameters().clone())
        };
        for precision in [Precision::F32, Precision::Bf16] {
            assert!(run(precision, false) == run(precision, true), "{precision:?} {config:?}");
        }
    }
}

#[test]
fn empty_gradients_are_zero_gradients() {
    let config = config(2, 2);
    let input = numbers(BATCH.iter().product::<usize>() * 2, "input");
    let run = |gradients: &[Vec<Vec<f32>>]| {
        let mut unet = net(config.clone());
        unet.forward(&input, flat(BATCH), true).unwrap();
        unet.backward(gradients).unwrap();
        unet.parameters().gradients.clone()
    };
    let mut gradients = head_gradients(&config);
    for (decoder, head) in [(0, 0), (0, 1), (1, 1)] {
        gradients[decoder][head].fill(0.0);
    }
    let zeros = run(&gradients);
    gradients[0].clear();
    gradients[1].truncate(1);
    assert_eq!(run(&gradients), zeros);
    assert!(run(&[]).iter().all(|&gradient| gradient == 0.0));
}

#[test]
fn number_of_threads_does_not_change_bytes() {
    let config = UnetConfig { base_width: 8, ..config(2, 1) };
    let axes = [4, 32, 32];
    let input = numbers(axes.iter().product::<usize>() * 2, "input");
    let gradients = vec![vec![numbers(axes.iter().product::<usize>() * 2, "gradient")]; 2];
    let run = |precision: Precision, n_threads: usize| {
        let pool = ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
        pool.install(|| {
            let mut unet = net(config.clone());
            unet.set_execution(Execution { precision, recompute: false });
            unet.forward(&input, flat(axes), true).unwrap();
            unet.backward(&gradients).unwrap();
            (unet.logits(1, 0).to_vec(), unet.parameters().clone())
        })
    };
    for precision in [Precision::F32, Precision::Bf16] {
        let alone = run(precision, 1);
        assert!(alone == run(precision, 2) && alone == run(precision, 3), "{precision:?}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let zero = Unet::new(UnetConfig { n_heads: 0, ..config(1, 1) }, &mut || 0.5).unwrap_err();
    assert_eq!(zero, UnetError::Zero { field: "n_heads" });
    let mut unet = net(config(1, 1));
    let input = numbers(2 * 8 * 12 * 2, "input");
    assert_eq!(
        unet.forward(&input, Volume::flat(2, 6, 16), true),
        Err(UnetError::Sides { found: [1, 6, 16], multiples: [1, 4, 4] })
    );
    assert!(matches!(
        unet.forward(&input, Volume::flat(2, 8, 8), true),
        Err(UnetError::Length { found: 384, .. })
    ));
    assert_eq!(
        unet.forward(&[], Volume::flat(0, 8, 8), true),
        Err(UnetError::Zero { field: "batch" })
    );
    assert_eq!(unet.backward(&[]), Err(UnetError::NoForward));
    unet.forward(&input, Volume::flat(2, 8, 12), true).unwrap();
    let short = [vec![vec![0.0; 3]]];
    assert!(matches!(
        unet.backward(&short),
        Err(UnetError::Length { expected: 384, found: 3, .. })
    ));
    let many = [vec![Vec::new(), Vec::new()]];
    assert!(matches!(unet.backward(&many), Err(UnetError::NoHead { head: 1, .. })));
    assert!(matches!(unet.set_head_bias(1, 0, 0.0), Err(UnetError::NoHead { decoder: 1, .. })));
}

#[test]
fn head_bias_shifts_the_logits() {
    let mut unet = net(config(2, 2));
    unet.set_head_bias(1, 0, -3.0).unwrap();
    let index = unet.parameters().find("decoders.1.outc.0.conv.bias").unwrap();
    assert_eq!(unet.parameters().entry(index), [-3.0, -3.0]);
}
