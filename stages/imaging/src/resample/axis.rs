//! How the voxels along one axis are made of those of the input: a few neighbours of each, with weights.

use super::{Alignment, Interpolation};

/// Support of the smoothing before a reduction, in standard deviations, as SciPy's `gaussian_filter` has it.
const TRUNCATE: f64 = 4.0;

/// Where the voxels of one axis lie in the input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    /// Voxels of the input.
    pub(super) n_input: usize,
    /// Voxels that the input has at the new spacing.
    pub(super) n_resampled: usize,
    /// Voxels of the output, after cutting or padding.
    pub(super) n_output: usize,
    /// New spacing over that of the input.
    pub(super) step: f64,
}

impl Places {
    /// Number of the first output voxel among the resampled ones: negative when voxels are added before.
    fn begin(&self) -> isize {
        let [resampled, output] = [self.n_resampled, self.n_output].map(usize::cast_signed);
        (resampled - output).div_euclid(2)
    }

    /// The output voxels that are no padding.
    fn inside(&self) -> std::ops::Range<usize> {
        let begin = self.begin();
        let start = (-begin).max(0).cast_unsigned().min(self.n_output);
        let end = (self.n_resampled.cast_signed() - begin).max(0).cast_unsigned();
        start..end.min(self.n_output).max(start)
    }

    /// Place of the first output voxel in the input, beyond its edges when voxels are added before.
    pub(super) fn first(&self, alignment: Alignment) -> f64 {
        self.unbounded(0, alignment)
    }

    fn unbounded(&self, output: usize, alignment: Alignment) -> f64 {
        let resampled = (output.cast_signed() + self.begin()) as f64;
        match alignment {
            Alignment::Outline => (resampled + 0.5) * self.step - 0.5,
            Alignment::FirstVoxel => resampled * self.step,
        }
    }

    /// Place of an output voxel in the input, whose first voxel has its centre at 0; no place lies beyond its edges.
    fn place(&self, output: usize, alignment: Alignment) -> f64 {
        self.unbounded(output, alignment).clamp(-0.5, self.n_input as f64 - 0.5)
    }

    /// The nearest input voxel of every output voxel that is no padding, and where these begin.
    pub(super) fn nearest(&self, alignment: Alignment) -> (usize, Vec<usize>) {
        let inside = self.inside();
        let last = self.n_input - 1;
        let nearest = |output| (self.place(output, alignment) + 0.5).max(0.0).floor() as usize;
        (inside.start, inside.map(|output| nearest(output).min(last)).collect())
    }
}

/// Output voxels that follow each other and whose input voxels do so, too.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Segment {
    start: usize,
    end: usize,
    /// First input voxel of output voxel `start`.
    from: usize,
}

/// The weights of one axis.
#[derive(Clone, Debug)]
pub(super) struct Taps {
    /// First output voxel that is no padding.
    pub(super) start: usize,
    /// First input voxel of each output voxel from `start` on.
    pub(super) first: Vec<usize>,
    /// Weights of the input voxels from the first on, one list for each of them.
    weights: Vec<Vec<f32>>,
    segments: Vec<Segment>,
}

impl Taps {
    pub(super) fn new(
        places: &Places,
        interpolation: Interpolation,
        alignment: Alignment,
        antialias: bool,
    ) -> Self {
        let n_input = places.n_input;
        let blur = if antialias { gaussian(0.5 * (places.step - 1.0)) } else { vec![1.0] };
        let reach = blur.len() / 2;
        let width = (interpolation.width() + 2 * reach).min(n_input);
        let inside = places.inside();
        let mut first = Vec::with_capacity(inside.len());
        let mut weights = vec![Vec::with_capacity(inside.len()); width];
        for output in inside.clone() {
            let (begin, kernel) = interpolation.kernel(places.place(output, alignment));
            let begin = begin - reach.cast_signed();
            let window = begin.clamp(0, (n_input - width).cast_signed()).cast_unsigned();
            let mut own = vec![0.0_f64; width];
            for (tap, weight) in convolved(&kernel, &blur).into_iter().enumerate() {
                let voxel = interpolation.fold(begin + tap.cast_signed(), n_input);
                own[voxel - window] += weight;
            }
            first.push(window);
            weights.iter_mut().zip(own).for_each(|(list, weight)| list.push(weight as f32));
        }
        let segments = segments(&first);
        Self { start: inside.start, first, weights, segments }
    }

    /// Number of output voxels that are no padding.
    pub(super) fn len(&self) -> usize {
        self.first.len()
    }

    /// Input voxels that each output voxel is made of.
    pub(super) fn n_taps(&self) -> usize {
        self.weights.len()
    }

    /// The input voxels that are needed, as a half-open range.
    pub(super) fn needed(&self) -> std::ops::Range<usize> {
        let [low, high] = [self.first.iter().min(), self.first.iter().max()]
            .map(|found| found.copied().unwrap_or(0));
        if self.first.is_empty() { 0..0 } else { low..high + self.weights.len() }
    }

    /// Input voxels and weights of one output voxel.
    pub(super) fn of(&self, output: usize) -> impl Iterator<Item = (usize, f32)> {
        let first = self.first[output];
        self.weights.iter().enumerate().map(move |(tap, list)| (first + tap, list[output]))
    }

    /// Makes a row of output voxels from a row of input voxels that begins with input voxel `begin`.
    pub(super) fn along(&self, row: &[f32], begin: usize, target: &mut [f32]) {
        for &Segment { start, end, from } in &self.segments {
            let target = &mut target[start..end];
            let n = target.len();
            let source = |tap: usize| &row[from + tap - begin..][..n];
            match self.weights.as_slice() {
                [near, far] => {
                    let pairs = source(0).iter().zip(source(1));
                    let weights = near[start..end].iter().zip(&far[start..end]);
                    for ((target, (a, b)), (near, far)) in target.iter_mut().zip(pairs).zip(weights)
                    {
                        *target = near * a + far * b;
                    }
                }
                lists => {
                    target.fill(0.0);
                    for (tap, list) in lists.iter().enumerate() {
                        let weighted = source(tap).iter().zip(&list[start..end]);
                        for (target, (value, weight)) in target.iter_mut().zip(weighted) {
                            *target += weight * value;
                        }
                    }
                }
            }
        }
    }
}

/// Cuts output voxels where the step to the next input voxel is not 1.
fn segments(first: &[usize]) -> Vec<Segment> {
    let mut found: Vec<Segment> = Vec::new();
    for (output, &from) in first.iter().enumerate() {
        match found.last_mut() {
            Some(last) if from == last.from + (output - last.start) => last.end = output + 1,
            _ => found.push(Segment { start: output, end: output + 1, from }),
        }
    }
    found
}

/// Weights of a Gaussian that sum to 1; a single one where there is nothing to smooth.
fn gaussian(sigma: f64) -> Vec<f64> {
    if sigma <= 0.0 {
        return vec![1.0];
    }
    let reach = (TRUNCATE * sigma + 0.5).floor() as i32;
    let weight = |at: i32| (-0.5 * (f64::from(at) / sigma).powi(2)).exp();
    let sum: f64 = (-reach..=reach).map(weight).sum();
    (-reach..=reach).map(|at| weight(at) / sum).collect()
}

/// The interpolation of smoothed values, as weights of the values themselves.
fn convolved(kernel: &[f64], blur: &[f64]) -> Vec<f64> {
    let mut sum = vec![0.0; kernel.len() + blur.len() - 1];
    for (offset, weight) in kernel.iter().enumerate() {
        for (tap, blur) in blur.iter().enumerate() {
            sum[offset + tap] += weight * blur;
        }
    }
    sum
}

impl Interpolation {
    /// Neighbours that take part along an axis.
    fn width(self) -> usize {
        match self {
            Self::Nearest => 1,
            Self::Linear => 2,
            Self::Cubic => 4,
        }
    }

    /// The first neighbour of a place, and the weights of it and the next ones.
    fn kernel(self, place: f64) -> (isize, Vec<f64>) {
        let below = place.floor();
        let t = place - below;
        let below = below as isize;
        match self {
            Self::Nearest => ((place + 0.5).floor() as isize, vec![1.0]),
            Self::Linear => (below, vec![1.0 - t, t]),
            Self::Cubic => {
                let s = 1.0 - t;
                let near = |t: f64| (4.0 - 6.0 * t * t + 3.0 * t * t * t) / 6.0;
                (below - 1, vec![s * s * s / 6.0, near(t), near(s), t * t * t / 6.0])
            }
        }
    }

    /// The voxel that stands for one beyond the edge.
    fn fold(self, voxel: isize, n: usize) -> usize {
        let last = n.cast_signed() - 1;
        match self {
            Self::Nearest | Self::Linear => voxel.clamp(0, last).cast_unsigned(),
            Self::Cubic => mirrored(voxel, n),
        }
    }
}

/// The voxel of an axis of `n` that is met when the axis is mirrored at its outermost voxels, over and over.
pub(super) fn mirrored(voxel: isize, n: usize) -> usize {
    let period = 2 * (n.cast_signed() - 1).max(1);
    let place = voxel.rem_euclid(period);
    place.min(period - place).cast_unsigned().min(n - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(n_input: usize, n_resampled: usize, n_output: usize, step: f64) -> Places {
        Places { n_input, n_resampled, n_output, step }
    }

    #[test]
    fn weights_sum_to_one_and_reach_no_further_than_the_axis() {
        for (n_input, step) in [(1, 1.0), (2, 0.4), (3, 2.0), (9, 0.7), (40, 3.3)] {
            let n = ((n_input as f64 / step).round() as usize).max(1);
            for interpolation in
                [Interpolation::Nearest, Interpolation::Linear, Interpolation::Cubic]
            {
                for antialias in [false, true] {
                    let places = places(n_input, n, n, step);
                    let taps = Taps::new(&places, interpolation, Alignment::Outline, antialias);
                    assert_eq!(taps.len(), n);
                    for output in 0..n {
                        let sum: f32 = taps.of(output).map(|(_, weight)| weight).sum();
                        assert!((sum - 1.0).abs() < 1e-5, "{interpolation:?} {n_input} {step}");
                        assert!(taps.of(output).all(|(voxel, _)| voxel < n_input));
                    }
                }
            }
        }
    }

    #[test]
    fn cutting_and_padding_are_centred() {
        assert_eq!((places(9, 9, 4, 1.0).begin(), places(9, 9, 4, 1.0).inside()), (2, 0..4));
        assert_eq!((places(3, 3, 6, 1.0).begin(), places(3, 3, 6, 1.0).inside()), (-2, 2..5));
    }

    #[test]
    fn mirrors_do_not_repeat_the_edge() {
        let found: Vec<usize> = (-3..7).map(|voxel| mirrored(voxel, 4)).collect();
        assert_eq!(found, [3, 2, 1, 0, 1, 2, 3, 2, 1, 0]);
        assert_eq!(mirrored(-5, 1), 0);
    }
}
