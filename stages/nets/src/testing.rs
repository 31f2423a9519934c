//! What the tests of this crate share: random streams, noisy discs, and a model of three numbers.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::sync::Arc;

use kernels::Volume;

use crate::{
    Architecture, Batch, Case, Execution, Layout, LossConfig, LossTerms, NetsError, Outline,
    Parameters, Predictor, Samples, SingleConfig, StepAt, StepReport, TaskShape, Trainable,
    batch::Draw, model::probabilities,
};

/// Random streams for tests: FNV-1a of the key, then SplitMix64.
pub(crate) fn streams(seed: u64) -> impl Fn(&str, &[&str]) -> Box<dyn FnMut() -> f64> {
    move |purpose, parts| {
        let mut state = 0xcbf2_9ce4_8422_2325 ^ seed;
        for byte in [purpose].iter().chain(parts).flat_map(|part| part.bytes().chain([0xff])) {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Box::new(move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
        })
    }
}

/// `n_cases` bright discs on noise with three sources: too large, shifted, and half erased; clean masks as truth.
pub(crate) fn drawn_discs(n_cases: usize, side: usize, seed: u64) -> (Outline, Vec<Case>) {
    let streams = streams(seed);
    let mut outline = Outline {
        size: [1, side, side],
        n_channels: 1,
        n_structures: 1,
        n_sources: 3,
        has_truth: true,
        ..Outline::default()
    };
    let mut cases = Vec::new();
    for nth in 0..n_cases {
        let id = format!("disc-{nth}");
        let mut case = Case { labels: vec![Vec::new(); 3], ..Case::default() };
        let mut truth = Vec::new();
        let mut uniform = streams("disc", &[&id]);
        let scale = side as f64 / 32.0;
        let (row, column) = ((11.0 + 10.0 * uniform()) * scale, (11.0 + 10.0 * uniform()) * scale);
        let radius = (6.0 + 3.0 * uniform()) * scale;
        let inside = |r: f64, c: f64, radius: f64| {
            u8::from((r - row).powi(2) + (c - column).powi(2) < radius * radius)
        };
        for place in 0..side * side {
            let (r, c) = ((place / side) as f64, (place % side) as f64);
            let clean = inside(r, c, radius);
            case.image.push((2.0 * f64::from(clean) - 1.0 + 0.6 * (uniform() - 0.5)) as f32);
            truth.push(clean);
            case.labels[0].push(inside(r, c, radius + 2.0 * scale));
            case.labels[1].push(inside(r, c - 2.0 * scale, radius));
            case.labels[2].push(if r > row { clean } else { 0 });
        }
        outline.ids.push(id);
        cases.push(Case { truth: Some(truth), ..case });
    }
    (outline, cases)
}

/// A set of cases that are all in memory.
pub(crate) fn in_memory((outline, cases): (Outline, Vec<Case>)) -> Samples {
    kept((outline, cases), usize::MAX)
}

/// A set of cases of which `n_kept` stay in memory.
pub(crate) fn kept((outline, cases): (Outline, Vec<Case>), n_kept: usize) -> Samples {
    let cases: Vec<Arc<Case>> = cases.into_iter().map(Arc::new).collect();
    Samples::new(outline, cases, n_kept)
}

/// [`drawn_discs`] in memory.
pub(crate) fn discs(n_cases: usize, side: usize, seed: u64) -> Samples {
    in_memory(drawn_discs(n_cases, side, seed))
}

/// `n_cases` volumes, each of `n_slices` slices with a disc of its own.
pub(crate) fn stacks(
    n_cases: usize,
    n_slices: usize,
    side: usize,
    seed: u64,
) -> (Outline, Vec<Case>) {
    let (mut outline, discs) = drawn_discs(n_cases * n_slices, side, seed);
    outline.size[0] = n_slices;
    outline.ids = outline.ids.into_iter().step_by(n_slices).collect();
    let stack = |slices: &[Case]| Case {
        image: slices.iter().flat_map(|slice| slice.image.clone()).collect(),
        labels: (0..3)
            .map(|source| slices.iter().flat_map(|slice| slice.labels[source].clone()).collect())
            .collect(),
        truth: slices
            .iter()
            .map(|slice| slice.truth.clone())
            .collect::<Option<Vec<_>>>()
            .map(|all| all.concat()),
    };
    (outline, discs.chunks_exact(n_slices).map(stack).collect())
}

/// All cases as they are.
pub(crate) fn whole_batch(samples: &Samples) -> Batch {
    let outline = samples.outline();
    let mut batch = Batch::default();
    batch.start(samples.n_cases(), outline.size, outline);
    for nth in 0..samples.n_cases() {
        batch.put(nth, &samples.case(nth).unwrap(), outline.size, Draw::default());
    }
    batch
}

/// A model of a weight and a bias for every pixel's first channel, and a running mean of the images.
#[derive(Debug)]
pub(crate) struct PixelNet {
    pub(crate) parameters: Parameters,
    pub(crate) n_sources: usize,
    /// Steps before this one train nothing.
    pub(crate) first_primary_step: usize,
}

impl PixelNet {
    pub(crate) fn new(n_sources: usize) -> Self {
        let mut parameters = Parameters::default();
        parameters.add("pixel.weight".into(), &[2], Layout::Plain, 0.0);
        parameters.add_buffer("pixel.running_mean".into(), 1, 0.0);
        Self { parameters, n_sources, first_primary_step: 0 }
    }

    fn logits(&self, images: &[f32]) -> Vec<f32> {
        images.iter().map(|x| self.parameters.values[0] * x + self.parameters.values[1]).collect()
    }
}

impl Predictor for PixelNet {
    fn shape(&self) -> TaskShape {
        TaskShape { n_channels: 1, n_structures: 1, n_sources: self.n_sources }
    }

    fn predict(&mut self, images: &[f32], _volume: Volume) -> Result<Vec<f32>, NetsError> {
        Ok(probabilities(&self.logits(images)))
    }
}

impl Trainable for PixelNet {
    fn architecture(&self) -> Architecture {
        Architecture::Single { config: SingleConfig::default(), shape: self.shape() }
    }

    fn set_execution(&mut self, _execution: Execution) {}

    fn step(&mut self, batch: &Batch, at: StepAt) -> Result<StepReport, NetsError> {
        batch.check(self.shape())?;
        self.parameters.zero_gradients();
        let mean = batch.images.iter().sum::<f32>() / batch.images.len() as f32;
        let running = &mut self.parameters.buffers[0].values[0];
        *running = 0.9 * *running + 0.1 * mean;
        let logits = self.logits(&batch.images);
        let mut gradients = vec![0.0; logits.len()];
        let maps = crate::LossMaps {
            prediction: &logits,
            uncertainty: vec![],
            labels: batch.labels.iter().map(Vec::as_slice).collect(),
        };
        let mut places = crate::LossGradients { prediction: &mut gradients, uncertainty: vec![] };
        let config = LossConfig::default();
        let at_loss =
            crate::LossAt { config: &config, alpha: 0.0, gradient_scale: 1.0, n_structures: 1 };
        let terms =
            crate::loss_of_case(&at_loss, &maps, &mut crate::LossScratch::default(), &mut places);
        if let Some(term) = terms.not_finite() {
            return Err(crate::model::not_finite(term, at, batch, &[&logits], &[]));
        }
        let trains = at.step >= self.first_primary_step;
        if trains {
            self.parameters.gradients[0] =
                gradients.iter().zip(&batch.images).map(|(g, x)| g * x).sum();
            self.parameters.gradients[1] = gradients.iter().sum();
        }
        let n_primary = if trains { batch.n_cases } else { 0 };
        let terms = if trains { terms } else { LossTerms::default() };
        Ok(StepReport { terms, n_cases: batch.n_cases, n_primary, ..StepReport::default() })
    }

    fn parts(&self) -> Vec<(&'static str, &Parameters)> {
        vec![("pixel", &self.parameters)]
    }

    fn parts_mut(&mut self) -> Vec<(&'static str, &mut Parameters)> {
        vec![("pixel", &mut self.parameters)]
    }
}
