//! Turns a drawn eye into a colour photograph: what the retina reflects, under the camera's light.
//!
//! Red is bright nearly everywhere, green carries disc and vessels, blue is dark: the gains were set by hand after
//! photographs of the kind. Disc and cup are steps in brightness with soft edges; the cup's is the softer one, which
//! is what makes readers disagree about it.

use super::{anatomy::FundusAnatomy, vessels::vessel_map};
use crate::{Grid, Stream, phantom::blur::blur, phantom::film::smooth};

/// Logistic widths from a tenth to nine tenths of the step.
const TENTH_TO_NINE_TENTHS: f64 = 4.394;

/// What a channel shows.
struct Channel {
    /// Reflection of the retina.
    retina: f64,
    /// What the disc adds, and as many times `cup_contrast` the cup.
    disc: f64,
    /// Share of the light that a vessel of strength 1 takes.
    vessel: f64,
    /// How much of the pigment's mottle shows.
    pigment: f64,
}

/// Red, green and blue.
const CHANNELS: [Channel; 3] = [
    Channel { retina: 0.60, disc: 0.20, vessel: 0.45, pigment: 0.7 },
    Channel { retina: 0.28, disc: 0.30, vessel: 1.0, pigment: 1.0 },
    Channel { retina: 0.13, disc: 0.24, vessel: 0.8, pigment: 0.8 },
];

/// What the photograph shows beside the anatomy.
pub(super) struct Exposure {
    /// Factor on all light.
    pub(super) gain: f64,
    /// Factors on the light of each channel.
    pub(super) colour: [f64; 3],
    /// `[row, column]` of the middle of the light.
    pub(super) light: [f64; 2],
    /// Share of the light that is missing in the corners.
    pub(super) vignette: f64,
    /// Standard deviation of the blur, in units of the frame.
    pub(super) defocus: f64,
    /// Factor on the steps at disc and cup.
    pub(super) contrast: f64,
    /// Standard deviation of the noise from pixel to pixel.
    pub(super) noise_sd: f64,
    /// Standard deviation of the mottle.
    pub(super) texture_sd: f64,
}

/// Renders red, green and blue, in `[0, 1]`.
pub(super) fn render(
    anatomy: &FundusAnatomy,
    exposure: &Exposure,
    size: usize,
    streams: &dyn Fn(&str) -> Stream,
) -> [Grid<f64>; 3] {
    let pixel = size as f64 / 256.0;
    let vessels = vessel_map(anatomy, size, &mut streams("vessels"));
    let coarse = mottle(size, 22.0 * pixel, &mut streams("pigment"));
    let fine = mottle(size, 3.0 * pixel, &mut streams("texture"));
    let steps = Grid::from_fn([1, size, size], |[_, row, column]| {
        brightness(anatomy, [row, column].map(|n| (n as f64 + 0.5) / pixel))
    });
    let mut noise = streams("noise");
    [0, 1, 2].map(|channel: usize| {
        let Channel { retina, disc, vessel, pigment } = &CHANNELS[channel];
        let mut picture = Grid::from_fn([1, size, size], |[_, row, column]| {
            let at = [0, row, column];
            let place = [row, column].map(|n| (n as f64 + 0.5) / pixel);
            let texture = exposure.texture_sd * pigment * (2.0 * coarse.get(at) + fine.get(at));
            let reflected = retina * texture.exp() + exposure.contrast * disc * steps.get(at);
            let light = exposure.gain * exposure.colour[channel] * exposure.light_at(place);
            light * reflected * (1.0 - vessel * vessels.get(at))
        });
        blur(&mut picture, exposure.defocus * pixel);
        for value in picture.values_mut() {
            // Bright pixels are noisier, as photons are.
            *value += exposure.noise_sd * (value.max(0.0) / 0.5).sqrt().max(0.3) * noise.normal();
        }
        picture
    })
}

impl Exposure {
    fn light_at(&self, [row, column]: [f64; 2]) -> f64 {
        let away = (row - self.light[0]).hypot(column - self.light[1]) / 181.0;
        1.0 - self.vignette * away * away
    }
}

/// Steps of disc, cup and crescent in units of the step of the disc.
fn brightness(anatomy: &FundusAnatomy, place: [f64; 2]) -> f64 {
    let rise = |depth: f64, edge: f64| {
        let steepness = TENTH_TO_NINE_TENTHS / edge;
        1.0 / (1.0 + (-depth * steepness).exp())
    };
    let depth = anatomy.disc.depth(place);
    let disc = rise(depth, anatomy.disc_edge);
    let cup = rise(anatomy.cup.depth(place), anatomy.cup_edge);
    // The rim is fuller below and above than at the sides.
    let side = (place[1] - anatomy.disc.centre[1]) / anatomy.disc.radius;
    let rim = 1.0 - 0.12 * side * side * (1.0 - cup);
    disc * (rim + anatomy.cup_contrast * cup) + crescent(anatomy, place, depth) * (1.0 - disc)
}

/// A pale crescent beside the disc, towards the temple.
fn crescent(anatomy: &FundusAnatomy, place: [f64; 2], depth: f64) -> f64 {
    if anatomy.crescent <= 0.0 {
        return 0.0;
    }
    let temporal = -anatomy.nasal * (place[1] - anatomy.disc.centre[1]) / anatomy.disc.radius;
    let width = anatomy.crescent * smooth((temporal - 0.2) / 0.6);
    0.45 * smooth((width + depth) / 3.0 + 0.5) * smooth((temporal - 0.2) / 0.6)
}

/// A smooth random field of mean 0 and standard deviation 1 over the picture.
fn mottle(size: usize, sigma_px: f64, stream: &mut Stream) -> Grid<f64> {
    let mut field = Grid::from_fn([1, size, size], |_| stream.normal());
    blur(&mut field, sigma_px);
    let n = field.values().len() as f64;
    let mean = field.values().iter().sum::<f64>() / n;
    let power = field.values().iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n;
    let scale = power.sqrt().max(1e-12).recip();
    field.map(|value| scale * (value - mean))
}
