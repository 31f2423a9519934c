//! From shapes to the three phases: signals, bias, motion, blur and noise.

use rayon::prelude::*;

use crate::{Grid, Image, Mask, Stream};

use super::{
    anatomy::{Anatomy, MUSCLE_MM, SKIN_MM},
    field::Field,
    kinetics::{CORE, FAT, GLAND, HEART, MUSCLE, RIM, SKIN, TUMOUR, VESSEL},
};

/// Signal of aerated lung.
const LUNG_SIGNAL: f64 = 12.0;

/// The shapes of a case.
pub(super) struct Layers {
    pub(super) anatomy: Anatomy,
    pub(super) gland: Mask,
    pub(super) vessels: Grid<f32>,
    pub(super) tumour: Grid<f32>,
    /// Distance from the centre of the tumour as a share of its half axes.
    pub(super) deep: Grid<f32>,
}

/// How the shapes are seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exposure {
    /// Signal of gland before contrast over the standard deviation of the noise.
    pub(super) snr: f64,
    /// Factor on the enhancement of gland.
    pub(super) background: f64,
    /// Factor on the enhancement of skin.
    pub(super) skin: f64,
    /// Amplitude of motion between the phases, in millimetres.
    pub(super) motion_mm: f64,
    /// Whether the tumour enhances at its rim alone.
    pub(super) is_rim: bool,
}

/// Opens the stream of a layer of the case.
pub(super) type Streams<'a> = &'a (dyn Fn(&str) -> Stream + Sync);

/// The three phases.
pub(super) fn phases(
    layers: &Layers,
    exposure: Exposure,
    spacing: [f64; 3],
    streams: Streams<'_>,
) -> [Image; 3] {
    let clean = signals(layers, exposure, spacing, streams);
    let noise_sd = GLAND.signals()[0] / exposure.snr;
    let names = ["pre", "early", "late"];
    let mut phase = 0;
    clean.map(|clean| {
        let name = names[phase];
        let mut image = if phase > 0 && exposure.motion_mm > 0.0 {
            moved(&clean, spacing, exposure.motion_mm, |axis| {
                streams(&format!("motion {name} {axis}"))
            })
        } else {
            clean
        };
        phase += 1;
        blur(&mut image);
        add_noise(&mut image, noise_sd, |slice| streams(&format!("noise {name} {slice}")));
        image
    })
}

/// Signals without noise in the three phases.
fn signals(
    layers: &Layers,
    exposure: Exposure,
    spacing: [f64; 3],
    streams: Streams<'_>,
) -> [Image; 3] {
    let shape = layers.gland.shape();
    let background = Field::new(shape, spacing, 8.0, streams("background"));
    let patches = Field::new(shape, spacing, 3.0, streams("patches"));
    let bias = Field::new(shape, spacing, 45.0, streams("bias"));
    let painter = Painter::new(layers, exposure, spacing);
    let mut found = [0; 3].map(|_| Grid::filled(shape, 0.0_f32));
    let [pre, early, late] = &mut found;
    let lines = pre.values_mut().par_chunks_mut(shape[2]);
    let lines = lines.zip(early.values_mut().par_chunks_mut(shape[2]));
    let lines = lines.zip(late.values_mut().par_chunks_mut(shape[2]));
    lines.enumerate().for_each(|(line, ((pre, early), late))| {
        for column in 0..shape[2] {
            let place = [line / shape[1], line % shape[1], column];
            let uneven = [background.at(place), patches.at(place)].map(f64::from);
            let gain = painter.gain(place, f64::from(bias.at(place)));
            let signal = painter.signal(place, uneven).map(|value| (value * gain) as f32);
            [pre[column], early[column], late[column]] = signal;
        }
    });
    found
}

/// Mixes the tissues of a voxel.
struct Painter<'a> {
    layers: &'a Layers,
    exposure: Exposure,
    spacing: [f64; 3],
    voxel: f64,
    fat: [f64; 3],
    gland: [f64; 3],
    muscle: [f64; 3],
    skin: [f64; 3],
    vessel: [f64; 3],
    heart: [f64; 3],
    tumour: [f64; 3],
    core: [f64; 3],
}

impl<'a> Painter<'a> {
    fn new(layers: &'a Layers, exposure: Exposure, spacing: [f64; 3]) -> Self {
        Self {
            layers,
            exposure,
            spacing,
            voxel: spacing.iter().sum::<f64>() / 3.0,
            fat: FAT.signals(),
            gland: GLAND.signals(),
            muscle: MUSCLE.signals(),
            skin: SKIN.signals(),
            vessel: VESSEL.signals(),
            heart: HEART.signals(),
            tumour: if exposure.is_rim { RIM } else { TUMOUR }.signals(),
            core: if exposure.is_rim { CORE } else { TUMOUR }.signals(),
        }
    }

    fn at(&self, place: [usize; 3]) -> [f64; 3] {
        [0, 1, 2].map(|axis| (place[axis] as f64 + 0.5) * self.spacing[axis])
    }

    /// Receiver gain: uneven, and higher towards the front, where the coil is.
    fn gain(&self, place: [usize; 3], bias: f64) -> f64 {
        let at = self.at(place);
        let ahead = (self.layers.anatomy.wall_at(at[2]) - at[1]) / 78.0;
        (0.15 * bias.clamp(-2.5, 2.5) + 0.3 * (ahead.clamp(-1.0, 1.0) - 0.5)).exp()
    }

    /// Signals in the three phases; `uneven` are the fields of background and tumour.
    fn signal(&self, place: [usize; 3], [background, patches]: [f64; 2]) -> [f64; 3] {
        let at = self.at(place);
        let body_depth = self.layers.anatomy.body_depth(at);
        let body = (0.5 + body_depth / self.voxel).clamp(0.0, 1.0);
        if body <= 0.0 {
            return [0.0; 3];
        }
        let skin = (0.5 + (SKIN_MM - body_depth) / self.voxel).clamp(0.0, 1.0);
        let mut signal = self.ground(place, at, background);
        signal = mix(signal, self.vessel, f64::from(self.layers.vessels.get(place)));
        let covered = f64::from(self.layers.tumour.get(place));
        if covered > 0.0 {
            let is_core = self.layers.deep.get(place) < 0.6;
            let tissue = if is_core { self.core } else { self.tumour };
            signal = mix(signal, enhanced(tissue, (0.12 * patches).exp()), covered);
        }
        signal = mix(signal, enhanced(self.skin, self.exposure.skin), skin);
        signal.map(|value| value * body)
    }

    /// What lies under vessels, tumour and skin.
    fn ground(&self, place: [usize; 3], at: [f64; 3], background: f64) -> [f64; 3] {
        let behind = at[1] - self.layers.anatomy.wall_at(at[2]);
        if behind < 0.0 {
            if !self.layers.gland.get(place) {
                return self.fat;
            }
            let level = self.exposure.background * (0.35 * background.clamp(-2.5, 2.5)).exp();
            return enhanced(self.gland, level);
        }
        if behind < MUSCLE_MM {
            self.muscle
        } else if self.layers.anatomy.is_heart(at) {
            self.heart
        } else {
            [LUNG_SIGNAL; 3]
        }
    }
}

/// Signals whose enhancement is multiplied by `factor`.
fn enhanced(signals: [f64; 3], factor: f64) -> [f64; 3] {
    signals.map(|signal| signals[0] + factor * (signal - signals[0]))
}

fn mix(under: [f64; 3], over: [f64; 3], share: f64) -> [f64; 3] {
    [0, 1, 2].map(|phase| under[phase] + share * (over[phase] - under[phase]))
}

/// The image displaced by a smooth random field along every axis.
fn moved(
    image: &Image,
    spacing: [f64; 3],
    amplitude_mm: f64,
    stream: impl Fn(usize) -> Stream,
) -> Image {
    let shape = image.shape();
    let fields = [0, 1, 2].map(|axis| Field::new(shape, spacing, 22.0, stream(axis)));
    let mut found = Grid::filled(shape, 0.0_f32);
    found.values_mut().par_chunks_mut(shape[2]).enumerate().for_each(|(line, target)| {
        for (column, target) in target.iter_mut().enumerate() {
            let place = [line / shape[1], line % shape[1], column];
            // Two thirds of the field lie within the amplitude.
            let from = [0, 1, 2].map(|axis| {
                let offset = amplitude_mm * f64::from(fields[axis].at(place)) / spacing[axis];
                (place[axis] as f64 + offset).clamp(0.0, (shape[axis] - 1) as f64)
            });
            *target = between(image, from);
        }
    });
    found
}

/// Value between voxels, by linear interpolation along every axis.
fn between(image: &Image, at: [f64; 3]) -> f32 {
    let shape = image.shape();
    let low = at.map(|place| place as usize);
    let high = [0, 1, 2].map(|axis| (low[axis] + 1).min(shape[axis] - 1));
    let share = [0, 1, 2].map(|axis| (at[axis] - low[axis] as f64) as f32);
    let line = |slice: usize, row: usize| {
        let values = image.row(slice, row);
        values[low[2]] + share[2] * (values[high[2]] - values[low[2]])
    };
    let plane = |slice: usize| {
        let (first, second) = (line(slice, low[1]), line(slice, high[1]));
        first + share[1] * (second - first)
    };
    let (first, second) = (plane(low[0]), plane(high[0]));
    first + share[0] * (second - first)
}

/// Blur with a standard deviation of half a voxel along every axis.
fn blur(image: &mut Image) {
    const SIDE: f32 = 0.125;
    let shape = image.shape();
    let strides = [shape[1] * shape[2], shape[2], 1];
    for axis in (0..3).filter(|&axis| shape[axis] > 1) {
        let (stride, length) = (strides[axis], shape[axis]);
        image.values_mut().par_chunks_mut(stride * length).for_each(|block| {
            for offset in 0..stride {
                let mut before = block[offset];
                for place in 0..length {
                    let here = block[place * stride + offset];
                    let after = block[(place + 1).min(length - 1) * stride + offset];
                    block[place * stride + offset] = here + SIDE * (before + after - 2.0 * here);
                    before = here;
                }
            }
        });
    }
}

/// Noise of a magnitude image: normal in both parts of the complex signal.
fn add_noise(image: &mut Image, sd: f64, stream: impl Fn(usize) -> Stream + Sync) {
    let [_, n_rows, n_columns] = image.shape();
    image.values_mut().par_chunks_mut(n_rows * n_columns).enumerate().for_each(|(slice, plane)| {
        let mut stream = stream(slice);
        for value in plane {
            let real = f64::from(*value) + sd * stream.normal();
            *value = real.hypot(sd * stream.normal()) as f32;
        }
    });
}
