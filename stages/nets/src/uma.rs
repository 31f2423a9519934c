//! UMA-Net: a UNet with a primary and an auxiliary head, and the AUEM that weighs its labels.
//!
//! Source: arXiv 2304.00466v2, III. In a step the AUEM sees the image and all labels and gives an uncertainty map
//! per source; the quality assessment sends each case to the primary head or, if its sources are too uncertain or
//! disagree too much, to the auxiliary one; the loss (Eq. 8) of that head trains backbone and AUEM together. Only
//! backbone and primary head predict.
//!
//! The gradient of a batch of B is `(Σ_high ∂L(primary) + Σ_low ∂L(auxiliary)) / B`; an empty group adds nothing.
//! The gate is a decision without gradient. Running statistics of normalization see every case of the batch,
//! also one that trains no parameter.
//!
//! Deviation: if the gate opens after the first epoch (see [`QualityConfig`](crate::QualityConfig)), the auxiliary
//! head starts as a copy of the primary one. A random head thrown in at that moment shakes the AUEM so much that no
//! case passes for many epochs (measured on noisy discs: mean `u_a` from 0.20 to 0.91).

use crate::{
    Architecture, Batch, Case, CaseQuality, EpochMetrics, Execution, LossAt, LossGradients,
    LossMaps, LossTask, LossTerms, NetsError, Parameters, Predictor, QualityMaps, QualityReport,
    QualityScore, StepAt, StepReport, Streams, TaskShape, Trainable, UmaConfig, Unet, UnetError,
    Weighting, WindowConfig, calibration_maps, losses_of_batch,
    model::{not_finite, probabilities, zeros},
    score_case, score_cases,
    windows::blend,
};
use kernels::Volume;

/// The predictor that a case trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Primary,
    Auxiliary,
    Nowhere,
}

/// UMA-Net with the memory of its last step.
#[derive(Debug)]
pub struct UmaNet {
    config: UmaConfig,
    shape: TaskShape,
    backbone: Unet,
    auem: Option<Unet>,
    gate: bool,
    auem_input: Vec<f32>,
    backbone_gradients: Vec<Vec<Vec<f32>>>,
    auem_gradients: Vec<Vec<Vec<f32>>>,
}

/// What the AUEM says about the labels of one case.
#[derive(Clone, Debug, PartialEq)]
pub struct Assessment {
    /// Uncertainty maps σ per source, `[slice, row, column, structure]` in [0, 1]; zeros without AUEM.
    pub uncertainty: Vec<Vec<f32>>,
    /// Calibration maps `s^m` per source (Eq. 4), shaped alike: the label as the AUEM would have it.
    pub calibration: Vec<Vec<f32>>,
    /// Their mean `s*`.
    pub consensus: Vec<f32>,
    /// `u_a` and `u_b`, the worst over the structures.
    pub score: QualityScore,
    /// Whether both lie under their thresholds.
    pub is_high: bool,
}

impl UmaNet {
    /// Builds both networks; weights are drawn from the streams `nets.init` of `backbone` and `auem`.
    ///
    /// # Errors
    /// [`NetsError::Config`] if `config` or `shape` is out of range.
    pub fn new(
        config: &UmaConfig,
        shape: TaskShape,
        streams: Streams<'_>,
    ) -> Result<Self, NetsError> {
        config.validate()?;
        shape.validate()?;
        let backbone =
            Unet::new(config.backbone(shape), &mut *streams("nets.init", &["backbone"]))?;
        let auem = if config.auem.enabled {
            let mut auem =
                Unet::new(config.estimator(shape), &mut *streams("nets.init", &["auem"]))?;
            for decoder in 0..shape.n_sources {
                auem.set_head_bias(decoder, 0, config.auem.head_bias as f32)?;
            }
            Some(auem)
        } else {
            None
        };
        let n_heads = 1 + usize::from(config.auxiliary.enabled);
        Ok(Self {
            config: *config,
            shape,
            backbone,
            auem,
            gate: config.quality.acts(&[]),
            auem_input: Vec::new(),
            backbone_gradients: vec![vec![Vec::new(); n_heads]],
            auem_gradients: vec![vec![Vec::new()]; shape.n_sources],
        })
    }

    /// The settings it was built with.
    pub fn config(&self) -> &UmaConfig {
        &self.config
    }

    /// Whether the gate acts in the present epoch.
    pub fn gate_acts(&self) -> bool {
        self.gate
    }

    /// Uncertainty and calibration maps of a case of axes `size`, with running statistics.
    ///
    /// With `windows` the uncertainty is the mean of overlapping windows, weighted as a prediction by windows is; the
    /// scores are those of the whole case either way.
    ///
    /// # Errors
    /// Those of [`Batch::check`] and of [`WindowConfig::validate`]; [`NetsError::Unet`] for sizes that do not fit.
    pub fn assess(
        &mut self,
        case: &Case,
        size: [usize; 3],
        windows: Option<&WindowConfig>,
    ) -> Result<Assessment, NetsError> {
        let as_f32 = |label: &Vec<u8>| label.iter().map(|&value| f32::from(value)).collect();
        let labels = case.labels.iter().map(as_f32).collect();
        let mut batch = Batch { n_cases: 1, size, images: Vec::new(), labels };
        let uncertainty = if let Some(windows) = windows {
            self.estimate_by_windows(case, size, windows)?
        } else {
            batch.images.extend_from_slice(&case.image);
            self.estimate(&batch)?
        };
        let maps = QualityMaps {
            uncertainty: uncertainty.iter().map(Vec::as_slice).collect(),
            labels: batch.labels.iter().map(Vec::as_slice).collect(),
            size,
            n_structures: self.shape.n_structures,
        };
        let (calibration, consensus) = calibration_maps(&maps);
        let score = score_case(&self.config.quality, &maps);
        let is_high = self.config.quality.is_high(&score);
        let uncertainty = if uncertainty.is_empty() {
            vec![vec![0.0; consensus.len()]; self.shape.n_sources]
        } else {
            uncertainty
        };
        Ok(Assessment { uncertainty, calibration, consensus, score, is_high })
    }

    /// σ per source of a batch, with running statistics; empty without AUEM.
    fn estimate(&mut self, batch: &Batch) -> Result<Vec<Vec<f32>>, NetsError> {
        batch.check(self.shape)?;
        self.join_input(batch);
        let Some(auem) = &mut self.auem else { return Ok(Vec::new()) };
        auem.forward(&self.auem_input, batch.volume(), false)?;
        Ok((0..batch.labels.len()).map(|source| probabilities(auem.logits(source, 0))).collect())
    }

    /// As [`UmaNet::estimate`] of one case, by windows.
    fn estimate_by_windows(
        &mut self,
        case: &Case,
        size: [usize; 3],
        windows: &WindowConfig,
    ) -> Result<Vec<Vec<f32>>, NetsError> {
        windows.validate()?;
        if self.auem.is_none() {
            return Ok(Vec::new());
        }
        let TaskShape { n_channels, n_structures, n_sources } = self.shape;
        let (n_cases, labels) = (1, vec![Vec::new(); case.labels.len()]);
        let mut batch = Batch { n_cases, size: windows.size, labels, images: Vec::new() };
        let depth = n_sources * n_structures;
        let joined = blend(windows, size, depth, |window| {
            window.cut(&case.image, n_channels, &mut batch.images);
            for (label, part) in case.labels.iter().zip(&mut batch.labels) {
                window.cut(label, n_structures, part);
            }
            let found = self.estimate(&batch)?;
            let pixels = 0..found[0].len() / n_structures;
            let of_pixel = |pixel| {
                let maps = found.iter();
                maps.flat_map(move |map| {
                    map[pixel * n_structures..][..n_structures].iter().copied()
                })
            };
            Ok(pixels.flat_map(of_pixel).collect())
        })?;
        let of_source = |source: usize| {
            let first = source * n_structures;
            let pixels = joined.chunks_exact(depth);
            pixels.flat_map(|pixel| pixel[first..first + n_structures].iter().copied()).collect()
        };
        Ok((0..n_sources).map(of_source).collect())
    }

    /// Joins image and labels along the channels, for the AUEM.
    fn join_input(&mut self, batch: &Batch) {
        if self.auem.is_none() {
            return;
        }
        let TaskShape { n_channels, n_structures, n_sources } = self.shape;
        let n_pixels = batch.n_cases * batch.n_pixels();
        let width = n_channels + n_sources * n_structures;
        self.auem_input.resize(n_pixels * width, 0.0);
        for (pixel, target) in self.auem_input.chunks_exact_mut(width).enumerate() {
            let (image, masks) = target.split_at_mut(n_channels);
            image.copy_from_slice(&batch.images[pixel * n_channels..][..n_channels]);
            for (label, target) in batch.labels.iter().zip(masks.chunks_exact_mut(n_structures)) {
                target.copy_from_slice(&label[pixel * n_structures..][..n_structures]);
            }
        }
    }

    fn quality_maps<'a>(
        &self,
        batch: &'a Batch,
        uncertainty: &[&'a [f32]],
        case: usize,
    ) -> QualityMaps<'a, f32> {
        let len = batch.n_pixels() * self.shape.n_structures;
        let of_case = |map: &'a [f32]| &map[case * len..][..len];
        QualityMaps {
            uncertainty: uncertainty.iter().map(|map| of_case(map)).collect(),
            labels: batch.labels.iter().map(|map| of_case(map)).collect(),
            size: batch.size,
            n_structures: self.shape.n_structures,
        }
    }

    /// Scores of all cases, and their means.
    fn assess_quality(&self, batch: &Batch) -> (Vec<QualityScore>, QualityReport) {
        let auem = self.auem.iter();
        let logits: Vec<&[f32]> = auem
            .flat_map(|auem| (0..batch.labels.len()).map(|source| auem.logits(source, 0)))
            .collect();
        let maps: Vec<QualityMaps<'_, f32>> =
            (0..batch.n_cases).map(|case| self.quality_maps(batch, &logits, case)).collect();
        let found = score_cases(&self.config.quality, &maps);
        let mean = |value: &dyn Fn(&CaseQuality) -> f64| {
            found.iter().map(value).sum::<f64>() / found.len().max(1) as f64
        };
        let is_high = |case: &&CaseQuality| self.config.quality.is_high(&case.score);
        let report = QualityReport {
            n_passing: found.iter().filter(is_high).count(),
            u_a: mean(&|case| case.score.u_a),
            u_a_all: mean(&|case| case.score.u_a_all),
            u_b: mean(&|case| case.score.u_b),
            uncertainty: (0..logits.len())
                .map(|source| mean(&|case| case.uncertainty[source]))
                .collect(),
        };
        (found.into_iter().map(|case| case.score).collect(), report)
    }

    fn route(&self, score: &QualityScore) -> Route {
        match (!self.gate || self.config.quality.is_high(score), self.config.auxiliary.enabled) {
            (true, _) => Route::Primary,
            (false, true) => Route::Auxiliary,
            (false, false) => Route::Nowhere,
        }
    }

    /// Losses of the routed cases; leaves the gradients of the logits in the two gradient buffers.
    fn losses(&mut self, batch: &Batch, routes: &[Route], alpha: f64) -> Vec<LossTerms> {
        let len = batch.n_pixels() * self.shape.n_structures;
        for (route, buffer) in
            [Route::Primary, Route::Auxiliary].iter().zip(&mut self.backbone_gradients[0])
        {
            // An empty buffer tells the backbone that this head has no gradient.
            zeros(buffer, if routes.contains(route) { len * batch.n_cases } else { 0 });
        }
        let sources = if self.auem.is_some() { self.shape.n_sources } else { 0 };
        for decoder in &mut self.auem_gradients[..sources] {
            zeros(&mut decoder[0], len * batch.n_cases);
        }
        let mut heads: Vec<_> =
            self.backbone_gradients[0].iter_mut().map(|head| head.chunks_exact_mut(len)).collect();
        let mut decoders: Vec<_> = self.auem_gradients[..sources]
            .iter_mut()
            .map(|decoder| decoder[0].chunks_exact_mut(len))
            .collect();
        let mut tasks = Vec::with_capacity(batch.n_cases);
        for (case, route) in routes.iter().enumerate() {
            let of_case = |map: &'_ [f32]| case * len..(case * len + len).min(map.len());
            let mut places: Vec<_> = heads.iter_mut().map(Iterator::next).collect();
            let uncertainty: Vec<_> = decoders.iter_mut().filter_map(Iterator::next).collect();
            let head = usize::from(*route == Route::Auxiliary);
            let Some(prediction) = places.get_mut(head).and_then(Option::take) else { continue };
            if *route == Route::Nowhere {
                continue;
            }
            let logits = self.backbone.logits(0, head);
            let estimates =
                self.auem.iter().flat_map(|auem| (0..sources).map(|source| auem.logits(source, 0)));
            let maps = LossMaps {
                prediction: &logits[of_case(logits)],
                uncertainty: estimates.map(|map| &map[of_case(map)]).collect(),
                labels: batch.labels.iter().map(|map| &map[of_case(map)]).collect(),
            };
            tasks.push(LossTask { maps, gradients: LossGradients { prediction, uncertainty } });
        }
        let at = LossAt {
            config: &self.config.loss,
            alpha,
            gradient_scale: 1.0 / batch.n_cases as f64,
            n_structures: self.shape.n_structures,
        };
        losses_of_batch(&at, tasks)
    }

    fn not_finite(&self, term: (&'static str, f64), at: StepAt, batch: &Batch) -> NetsError {
        let heads: Vec<&[f32]> = (0..self.backbone_gradients[0].len())
            .map(|head| self.backbone.logits(0, head))
            .collect();
        let maps: Vec<&[f32]> = self
            .auem
            .iter()
            .flat_map(|auem| (0..self.shape.n_sources).map(|source| auem.logits(source, 0)))
            .collect();
        not_finite(term, at, batch, &heads, &maps)
    }

    /// Makes the auxiliary head a copy of the primary one; says whether there is one.
    fn start_auxiliary(&mut self) -> bool {
        let parameters = self.backbone.parameters_mut();
        for kind in ["weight", "bias"] {
            let entry = |head: usize| parameters.find(&format!("outc.{head}.conv.{kind}"));
            if let (Some(primary), Some(auxiliary)) = (entry(0), entry(1)) {
                let values = parameters.entry(primary).to_vec();
                parameters.entry_mut(auxiliary).copy_from_slice(&values);
            }
        }
        self.config.auxiliary.enabled
    }
}

/// Runs the passes of two networks side by side: where one is too small for all cores, the other uses the rest.
fn both<A, B>(backbone: A, auem: Option<B>) -> Result<(), UnetError>
where
    A: FnOnce() -> Result<(), UnetError> + Send,
    B: FnOnce() -> Result<(), UnetError> + Send,
{
    let Some(auem) = auem else { return backbone() };
    let (first, second) = rayon::join(backbone, auem);
    first.and(second)
}

impl Predictor for UmaNet {
    fn shape(&self) -> TaskShape {
        self.shape
    }

    fn predict(&mut self, images: &[f32], volume: Volume) -> Result<Vec<f32>, NetsError> {
        self.backbone.forward(images, volume, false)?;
        Ok(probabilities(self.backbone.logits(0, 0)))
    }
}

impl Trainable for UmaNet {
    fn architecture(&self) -> Architecture {
        Architecture::Uma { config: self.config, shape: self.shape }
    }

    fn set_execution(&mut self, execution: Execution) {
        for net in [Some(&mut self.backbone), self.auem.as_mut()].into_iter().flatten() {
            net.set_execution(execution);
        }
    }

    fn begin_epoch(&mut self, history: &[EpochMetrics]) -> bool {
        let quality = history.iter().filter_map(|epoch| epoch.quality.as_ref());
        let passing: Vec<f64> = quality.map(|quality| quality.passing_share).collect();
        self.gate = self.config.quality.acts(&passing);
        let opens = match passing.as_slice() {
            [before @ .., _] => self.gate && !self.config.quality.acts(before),
            [] => false,
        };
        opens && self.start_auxiliary()
    }

    fn weighting(&self, at: StepAt) -> Weighting {
        let config = &self.config.consistency;
        let alpha = if config.enabled { config.ramp.at(at.step, at.n_steps) } else { 0.0 };
        Weighting { alpha, gate: self.gate }
    }

    fn step(&mut self, batch: &Batch, at: StepAt) -> Result<StepReport, NetsError> {
        batch.check(self.shape)?;
        self.backbone.parameters_mut().zero_gradients();
        if let Some(auem) = &mut self.auem {
            auem.parameters_mut().zero_gradients();
        }
        self.join_input(batch);
        let volume = batch.volume();
        both(
            || self.backbone.forward(&batch.images, volume, true),
            self.auem.as_mut().map(|auem| || auem.forward(&self.auem_input, volume, true)),
        )?;
        let (scores, quality) = self.assess_quality(batch);
        let routes: Vec<Route> = scores.iter().map(|score| self.route(score)).collect();
        let count = |wanted: Route| routes.iter().filter(|&&route| route == wanted).count();
        let (n_primary, n_auxiliary) = (count(Route::Primary), count(Route::Auxiliary));
        let Weighting { alpha, gate } = self.weighting(at);
        let losses = self.losses(batch, &routes, alpha);
        let mut terms = LossTerms::default();
        losses.iter().for_each(|case| terms.add(case, 1.0 / losses.len() as f64));
        if let Some(term) = terms.not_finite() {
            return Err(self.not_finite(term, at, batch));
        }
        if n_primary + n_auxiliary > 0 {
            both(
                || self.backbone.backward(&self.backbone_gradients),
                self.auem.as_mut().map(|auem| || auem.backward(&self.auem_gradients)),
            )?;
        }
        let n_cases = batch.n_cases;
        Ok(StepReport {
            gate,
            terms,
            alpha,
            n_cases,
            n_primary,
            n_auxiliary,
            quality: Some(quality),
        })
    }

    fn parts(&self) -> Vec<(&'static str, &Parameters)> {
        let auem = self.auem.as_ref().map(|auem| ("auem", auem.parameters()));
        [("backbone", self.backbone.parameters())].into_iter().chain(auem).collect()
    }

    fn parts_mut(&mut self) -> Vec<(&'static str, &mut Parameters)> {
        let auem = self.auem.as_mut().map(|auem| ("auem", auem.parameters_mut()));
        [("backbone", self.backbone.parameters_mut())].into_iter().chain(auem).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use crate::{
        AuxiliaryConfig, ConsistencyConfig, QualityConfig,
        testing::{discs, drawn_discs, streams, whole_batch},
    };

    const START: StepAt = StepAt { epoch: 0, step: 3, n_steps: 10 };

    fn batch(n_cases: usize) -> Batch {
        whole_batch(&discs(n_cases, 8, 3))
    }

    fn small(quality: QualityConfig) -> UmaConfig {
        UmaConfig { base_width: 4, levels: 3, quality, ..UmaConfig::default() }
    }

    fn literal(tau: f64) -> QualityConfig {
        QualityConfig {
            start_share: 0.0,
            tau_a: tau,
            tau_b: tau.min(4.0),
            ..QualityConfig::default()
        }
    }

    fn net(config: &UmaConfig) -> UmaNet {
        let shape = TaskShape { n_channels: 1, n_structures: 1, n_sources: 3 };
        UmaNet::new(config, shape, &streams(1)).unwrap()
    }

    /// Largest absolute gradient of the entries whose name holds `part`.
    fn largest(parameters: &Parameters, part: &str) -> f32 {
        let entries = parameters.entries.iter().filter(|entry| entry.name.contains(part));
        let values = entries.flat_map(|entry| &parameters.gradients[entry.range.clone()]);
        values.fold(0.0, |largest, value| largest.max(value.abs()))
    }

    #[test]
    fn the_gate_sends_cases_to_one_head_or_nowhere() {
        let mut high = net(&small(literal(10.0)));
        let report = high.step(&batch(4), START).unwrap();
        assert_eq!((report.n_primary, report.n_auxiliary), (4, 0));
        let mut low = net(&small(literal(1e-6)));
        let report = low.step(&batch(4), START).unwrap();
        assert_eq!((report.n_primary, report.n_auxiliary), (0, 4));
        let alone =
            UmaConfig { auxiliary: AuxiliaryConfig { enabled: false }, ..small(literal(1e-6)) };
        let mut nowhere = net(&alone);
        let report = nowhere.step(&batch(4), START).unwrap();
        assert!(!report.has_gradient() && report.terms == LossTerms::default());
        assert!(nowhere.parts().iter().all(|(_, part)| part.gradients.iter().all(|&g| g == 0.0)));
        let quality = report.quality.unwrap();
        assert_eq!((quality.n_passing, quality.uncertainty.len()), (0, 3));
        let mut waiting = net(&small(QualityConfig { start_share: 0.5, ..literal(1e-6) }));
        assert_eq!(waiting.step(&batch(4), START).unwrap().n_primary, 4);
    }

    #[test]
    fn every_parameter_of_both_networks_gets_a_finite_gradient() {
        for (tau, idle) in [(10.0, 1), (1e-6, 0)] {
            let mut net = net(&small(literal(tau)));
            net.step(&batch(4), START).unwrap();
            let heads = net.backbone.config().n_heads;
            assert_eq!(heads, 2);
            let (backbone, auem) =
                (net.backbone.parameters(), net.auem.as_ref().unwrap().parameters());
            let mut without = Vec::new();
            for parameters in [backbone, auem] {
                assert!(parameters.gradients.iter().all(|gradient| gradient.is_finite()));
                let zero = |range: std::ops::Range<usize>| {
                    parameters.gradients[range].iter().all(|&g| g == 0.0)
                };
                without.extend(parameters.entries.iter().filter(|entry| zero(entry.range.clone())));
            }
            // Weight and bias of the head that has no case, and nothing else.
            let names: Vec<&str> = without.iter().map(|entry| entry.name.as_str()).collect();
            assert_eq!(names.len(), 2, "{names:?}");
            let twin = &backbone.entries[backbone.entries.len() - 4..];
            assert!(
                names.iter().all(|name| twin[2 * idle..2 * idle + 2]
                    .iter()
                    .any(|entry| entry.name == *name))
            );
            assert!(largest(auem, "weight") > 0.0);
        }
    }

    #[test]
    fn gradients_of_the_whole_model_agree_with_finite_differences() {
        let config =
            UmaConfig { consistency: ConsistencyConfig::default(), ..small(literal(10.0)) };
        let batch = batch(3);
        let mut net = net(&config);
        net.step(&batch, START).unwrap();
        let gradients: Vec<Vec<f32>> =
            net.parts().iter().map(|(_, part)| part.gradients.clone()).collect();
        for (part, gradients) in gradients.iter().enumerate() {
            // A whole direction at once: single parameters drown in the rounding of f32.
            let norm = gradients.iter().map(|g| g * g).sum::<f32>().sqrt();
            let mut loss_at = |size: f32| {
                for (value, gradient) in net.parts_mut()[part].1.values.iter_mut().zip(gradients) {
                    *value += size * gradient / norm;
                }
                let total = net.step(&batch, START).unwrap().terms.total;
                for (value, gradient) in net.parts_mut()[part].1.values.iter_mut().zip(gradients) {
                    *value -= size * gradient / norm;
                }
                total
            };
            let size = 2e-3;
            let slope = (loss_at(size) - loss_at(-size)) / f64::from(2.0 * size);
            let error = (slope - f64::from(norm)).abs() / f64::from(norm);
            assert!(error < 0.02, "part {part}: {slope} and {norm}");
        }
    }

    #[test]
    fn the_auxiliary_head_starts_as_the_primary_one_when_the_gate_opens() {
        let mut net = net(&small(QualityConfig::default()));
        let epoch = |passing_share: f64| EpochMetrics {
            quality: Some(crate::QualityMeans { passing_share, ..Default::default() }),
            ..EpochMetrics::default()
        };
        let heads = |net: &mut UmaNet| {
            net.backbone.forward(&batch(1).images, Volume::flat(1, 8, 8), false).unwrap();
            [0, 1].map(|head| net.backbone.logits(0, head).to_vec())
        };
        let history = [epoch(0.1), epoch(0.6), epoch(0.2)];
        net.begin_epoch(&history[..1]);
        let [primary, auxiliary] = heads(&mut net);
        assert!(!net.gate_acts() && primary != auxiliary);
        net.begin_epoch(&history[..2]);
        let [same, copied] = heads(&mut net);
        assert!(net.gate_acts() && same == primary && copied == primary);
        net.backbone.set_head_bias(0, 1, 3.0).unwrap();
        net.begin_epoch(&history);
        let [_, kept] = heads(&mut net);
        assert!(net.gate_acts() && kept != primary);
    }

    #[test]
    fn switches_leave_out_what_they_name() {
        let off = UmaConfig {
            auem: crate::AuemConfig { enabled: false, ..Default::default() },
            consistency: ConsistencyConfig { enabled: false, ..Default::default() },
            quality: QualityConfig { enabled: false, ..Default::default() },
            auxiliary: AuxiliaryConfig { enabled: false },
            ..small(QualityConfig::default())
        };
        let mut baseline = net(&off);
        let report = baseline.step(&batch(2), START).unwrap();
        assert_eq!((baseline.parts().len(), baseline.backbone.config().n_heads), (1, 1));
        assert_eq!((report.alpha, report.n_primary), (0.0, 2));
        assert!(
            (report.terms.total - report.terms.cross_entropy - report.terms.dice).abs() < 1e-12
        );
        for windows in [None, Some(WindowConfig { size: [1, 8, 4], overlap: 0.5 })] {
            let (outline, cases) = drawn_discs(2, 8, 3);
            let assessed = baseline.assess(&cases[0], outline.size, windows.as_ref()).unwrap();
            assert_eq!(assessed.calibration[1], batch(2).labels[1][..64]);
            assert!(assessed.uncertainty.iter().all(|map| map.iter().all(|&sigma| sigma == 0.0)));
        }
    }

    #[test]
    fn assessment_gives_maps_per_source() {
        let mut net = net(&small(literal(0.2)));
        net.step(&batch(2), START).unwrap();
        let (outline, cases) = drawn_discs(2, 8, 3);
        let case = &cases[1];
        let assessed = net.assess(case, outline.size, None).unwrap();
        assert_eq!(assessed.uncertainty.len(), 3);
        for place in 0..64 {
            let (label, sigma) = (f32::from(case.labels[2][place]), assessed.uncertainty[2][place]);
            assert!((assessed.calibration[2][place] - (label - sigma).abs()).abs() < 1e-6);
        }
        assert_eq!(assessed.is_high, assessed.score.u_a < 0.2 && assessed.score.u_b < 0.2);
        // One window that is the whole case, and four that are not.
        let by = |size| Some(WindowConfig { size, overlap: 0.0 });
        let whole = net.assess(case, outline.size, by([1, 8, 8]).as_ref()).unwrap();
        let close = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-6;
        for (a, b) in whole.uncertainty.iter().zip(&assessed.uncertainty) {
            assert!(a.iter().zip(b).all(close));
        }
        assert!((whole.score.u_a - assessed.score.u_a).abs() < 1e-6);
        let quarters = net.assess(case, outline.size, by([1, 4, 4]).as_ref()).unwrap();
        let corner = Case {
            image: [0, 8, 16, 24]
                .iter()
                .flat_map(|&row| case.image[row..row + 4].to_vec())
                .collect(),
            labels: case
                .labels
                .iter()
                .map(|label| {
                    [0, 8, 16, 24].iter().flat_map(|&row| label[row..row + 4].to_vec()).collect()
                })
                .collect(),
            truth: None,
        };
        let alone = net.assess(&corner, [1, 4, 4], None).unwrap();
        for (sigma, map) in alone.uncertainty.iter().zip(&quarters.uncertainty) {
            let first = [0, 8, 16, 24].iter().flat_map(|&row| &map[row..row + 4]);
            assert!(sigma.iter().zip(first).all(close));
        }
    }

    #[test]
    fn the_auem_sees_image_channels_then_the_structures_of_each_source() {
        let shape = TaskShape { n_channels: 2, n_structures: 2, n_sources: 2 };
        let mut net = UmaNet::new(&small(literal(10.0)), shape, &streams(1)).unwrap();
        let ramp = |first: f32| (0..128).map(|place| first + place as f32).collect::<Vec<f32>>();
        let binary = |period: usize| {
            (0..128).map(|place| f32::from(u8::from(place % period == 0))).collect()
        };
        let batch = Batch {
            n_cases: 1,
            size: [1, 8, 8],
            images: ramp(0.5),
            labels: vec![binary(2), binary(3)],
        };
        let report = net.step(&batch, START).unwrap();
        assert_eq!(report.quality.unwrap().uncertainty.len(), 2);
        assert_eq!(
            net.auem_input[..12],
            [0.5, 1.5, 1.0, 0.0, 1.0, 0.0, 2.5, 3.5, 1.0, 0.0, 0.0, 1.0]
        );
        assert_eq!(net.predict(&batch.images, batch.volume()).unwrap().len(), 128);
        let binary = |label: &Vec<f32>| label.iter().map(|&value| u8::from(value > 0.0)).collect();
        let labels = batch.labels.iter().map(binary).collect();
        let case = Case { image: batch.images, labels, truth: None };
        for windows in [None, Some(WindowConfig { size: [1, 4, 8], overlap: 0.0 })] {
            let assessed = net.assess(&case, [1, 8, 8], windows.as_ref()).unwrap();
            assert_eq!((assessed.consensus.len(), assessed.uncertainty[1].len()), (128, 128));
        }
    }

    #[test]
    fn batches_that_do_not_fit_are_refused() {
        let mut net = net(&small(literal(0.2)));
        let mut fewer = batch(2);
        fewer.labels.pop();
        assert!(matches!(
            net.step(&fewer, START),
            Err(NetsError::Count { expected: 3, found: 2, .. })
        ));
        let mut shorter = batch(2);
        shorter.labels[0].pop();
        assert!(matches!(net.step(&shorter, START), Err(NetsError::Shape { .. })));
        assert!(matches!(net.step(&Batch::default(), START), Err(NetsError::Empty { .. })));
        let odd = Batch { size: [1, 9, 8], ..batch(2) };
        assert!(net.step(&odd, START).is_err());
    }
}
