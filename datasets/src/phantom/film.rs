//! Turns a drawn chest into a film: a map of attenuation, then light through it.
//!
//! Attenuation adds up along the beam, so the film is `exp(-sum)` times the exposure; bright is air, as in the raw
//! JSRT films. Constants are in units of attenuation and were set by hand against the grey values of those films.

use super::{anatomy::ChestAnatomy, blur::blur};
use crate::{Grid, Mask, Stream};

/// Light behind air alone.
const EXPOSURE: f64 = 0.74;

/// Grey just outside the lungs, on which the edge contrast stands.
const GREY_AT_EDGE: f64 = 0.16;

/// How much clearer the middle of a lung is than its border, where it is thin.
const LUNG_DEPTH: f64 = 0.5;

/// Width over which a lung becomes thick.
const LUNG_TAPER: f64 = 14.0;

/// A cloud that hides part of a lung.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Opacity {
    /// `[row, column]` of its centre in the frame of the picture.
    pub(super) place: [f64; 2],
    /// Half axes, rows and columns.
    pub(super) radius: [f64; 2],
    /// Attenuation in its middle.
    pub(super) strength: f64,
}

impl Opacity {
    /// Attenuation at a place of the picture.
    pub(super) fn at(&self, [row, column]: [f64; 2]) -> f64 {
        let [down, right] =
            [(row - self.place[0]) / self.radius[0], (column - self.place[1]) / self.radius[1]];
        self.strength * bump((down * down + right * right).sqrt() / 1.5)
    }
}

/// What the film shows beside the anatomy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Exposure {
    /// Difference in grey between both sides of the border of a lung.
    pub(super) edge_contrast: f64,
    /// The cloud, where there is one.
    pub(super) opacity: Option<Opacity>,
    /// Factor on all light, by which films of different chests differ.
    pub(super) gain: f64,
    /// Standard deviation of the noise from pixel to pixel.
    pub(super) noise_sd: f64,
    /// Standard deviation of the mottle, 3 units wide.
    pub(super) texture_sd: f64,
}

/// Renders a film of `lungs` and the rest of the chest, in `[0, 1]`.
pub(super) fn render(
    anatomy: &ChestAnatomy,
    exposure: &Exposure,
    lungs: &Mask,
    streams: [&mut Stream; 2],
) -> Grid<f64> {
    let [vessels, noise] = streams;
    let size = lungs.n_rows();
    let pixel = size as f64 / 256.0;
    let mut thickness = lungs.map(|&inside| f64::from(u8::from(inside)));
    blur(&mut thickness, LUNG_TAPER * pixel);
    let vessels = vessel_tree(anatomy, size, vessels);
    // On the inner side of the border the lung is still thin, so the step alone makes the contrast.
    let step = ((GREY_AT_EDGE + exposure.edge_contrast) / GREY_AT_EDGE).ln();
    let mut film = Grid::from_fn([1, size, size], |[_, row, column]| {
        let place = [row, column].map(|n| (n as f64 + 0.5) / pixel);
        let upright = anatomy.upright(place);
        let voxel = [0, row, column];
        let mut sum = body(anatomy, upright);
        if lungs.get(voxel) {
            sum -= step + LUNG_DEPTH * (2.0 * thickness.get(voxel) - 1.0);
            sum += vessels.get(voxel);
        }
        sum += exposure.opacity.map_or(0.0, |opacity| opacity.at(place));
        exposure.gain * EXPOSURE * (-sum.max(0.0)).exp()
    });
    blur(&mut film, 0.7 * pixel);
    add_noise(&mut film, exposure, pixel, noise);
    add_plate(&mut film, pixel);
    film
}

/// Attenuation of everything but the air in the lungs, at a place of the upright chest.
fn body(anatomy: &ChestAnatomy, place: [f64; 2]) -> f64 {
    let [row, column] = place;
    let aside = (column - anatomy.midline).abs();
    let depth = depth_in_body(anatomy, row, aside);
    if depth <= 0.0 {
        return 0.0;
    }
    let thick = 1.0 - (-depth / 9.0).exp();
    let shoulder = 0.6 * smooth((aside - 78.0) / 30.0) * (1.0 - smooth((row - 95.0) / 60.0));
    let middle = 0.75 * bell(aside / 21.0);
    let lowest = anatomy.base[0].max(anatomy.base[1]);
    let abdomen = 1.15 * smooth((row - lowest + 42.0) / 40.0) * smooth(depth / 30.0);
    let heart = 0.3
        * (1.0 - smooth((anatomy.heart_shadow(place) - 0.7) / 0.5))
        * (1.0 - 0.6 * bell(aside / 21.0));
    let arch = 0.1 * (1.0 - smooth((anatomy.arch_level(place) - 0.8) / 0.3));
    let windpipe =
        -0.55 * bell((column - anatomy.midline + 3.0) / 7.5) * (1.0 - smooth((row - 70.0) / 35.0));
    let clavicle = 0.13 * bump(anatomy.clavicle_level(place));
    let breast = anatomy.breast * smooth((row - 140.0) / 40.0) * bell((aside - 62.0) / 42.0);
    let sum = 1.35 * thick
        + shoulder
        + middle
        + abdomen
        + heart
        + arch
        + windpipe
        + clavicle
        + breast
        + spine(row, aside)
        + ribs(anatomy, row, aside)
        - bubble(anatomy, place);
    sum.max(0.25 * thick)
}

/// How far a place lies inside the outline of the body; negative outside.
fn depth_in_body(anatomy: &ChestAnatomy, row: f64, aside: f64) -> f64 {
    // Neck and shoulders from above, arms to the side, and the trunk between arms and frame below.
    let shoulder_line = 24.0 * smooth((aside - 34.0) / 95.0) - 16.0 * bell(aside / 40.0);
    let from_above = 0.8 * (row - shoulder_line) + 4.0;
    let arms = 1.0 - smooth((row - 100.0) / 95.0);
    let side = anatomy.trunk + 44.0 * arms - 7.0 * bell((row - 190.0) / 40.0) - aside;
    from_above.min(side)
}

/// Vertebrae: a band with a joint every 13 units.
fn spine(row: f64, aside: f64) -> f64 {
    let joint = 0.5 + 0.5 * (row * std::f64::consts::TAU / 13.0).cos();
    (0.13 + 0.05 * joint) * (1.0 - smooth((aside - 7.0) / 4.0))
}

/// Ribs behind, which fall outward, and fainter ones in front, which rise outward.
fn ribs(anatomy: &ChestAnatomy, row: f64, aside: f64) -> f64 {
    let [pitch, first] = anatomy.ribs;
    let reach = smooth((aside - 8.0) / 8.0) * (1.0 - smooth((aside - 98.0) / 8.0));
    let height = smooth((row - 18.0) / 10.0) * (1.0 - smooth((row - 205.0) / 20.0));
    let out = aside / 100.0;
    // Bent bands: flat at the spine, steep at the wall, at the same distance from each other.
    let behind = (row - first + 9.0 * bell((aside - 34.0) / 22.0) - 42.0 * out.powf(2.4)) / pitch;
    let front = (row - first - 46.0 + 34.0 * out - 30.0 * (out - 0.5).powi(2)) / (1.18 * pitch);
    let band = |phase: f64, half: f64| {
        let off = ((phase - phase.round()) / half).abs();
        // A rib is a tube: its rims attenuate more than its middle.
        bump(off) * (0.75 + 0.5 * off * off)
    };
    let in_front = if aside > 26.0 { 0.045 * band(front, 0.24) } else { 0.0 };
    reach * height * (0.15 * band(behind, 0.23) + in_front)
}

/// Air in the stomach, below the image-right dome.
fn bubble(anatomy: &ChestAnatomy, [row, column]: [f64; 2]) -> f64 {
    if !anatomy.has_bubble {
        return 0.0;
    }
    let [down, right] = [row - anatomy.base[1] + 4.0, column - anatomy.midline - 58.0];
    0.7 * bump(((down / 9.0).powi(2) + (right / 22.0).powi(2)).sqrt())
}

/// Three generations of vessels out of each hilum, as attenuation.
fn vessel_tree(anatomy: &ChestAnatomy, size: usize, stream: &mut Stream) -> Grid<f64> {
    let mut map = Grid::filled([1, size, size], 0.0);
    for side in [-1.0, 1.0] {
        let hilum = [anatomy.apex + 90.0, anatomy.midline + side * 27.0];
        draw_blob(&mut map, anatomy, hilum, 18.0, 0.3);
        for branch in 0..7 {
            // Branches fan out from upward over sideward to downward.
            let turn = -1.25 + 2.5 * (f64::from(branch) + stream.between(-0.3, 0.3)) / 6.0;
            grow(&mut map, anatomy, stream, Vessel { place: hilum, turn, side, generation: 0 });
        }
    }
    map
}

/// A vessel about to be drawn.
#[derive(Clone, Copy)]
struct Vessel {
    place: [f64; 2],
    /// Angle below the horizontal.
    turn: f64,
    /// -1 towards the left of the image, 1 towards the right.
    side: f64,
    generation: usize,
}

/// Draws a vessel and its two branches.
fn grow(map: &mut Grid<f64>, anatomy: &ChestAnatomy, stream: &mut Stream, vessel: Vessel) {
    const LENGTH: [f64; 3] = [30.0, 24.0, 20.0];
    const RADIUS: [f64; 3] = [2.6, 1.9, 1.4];
    const STRENGTH: [f64; 3] = [0.19, 0.15, 0.11];
    let Vessel { mut place, mut turn, side, generation } = vessel;
    let length = LENGTH[generation] * stream.between(0.8, 1.3);
    let bend = stream.between(-0.02, 0.02);
    for _ in 0..(length / 1.2) as usize {
        draw_blob(map, anatomy, place, RADIUS[generation], STRENGTH[generation]);
        turn += bend;
        place = [place[0] + 1.2 * turn.sin(), place[1] + 1.2 * side * turn.cos()];
    }
    if generation < 2 {
        for fork in [-0.42, 0.38] {
            let turn = turn + fork * stream.between(0.6, 1.4);
            grow(map, anatomy, stream, Vessel { place, turn, side, generation: generation + 1 });
        }
    }
}

/// Raises the map to a round bump, so that blobs that overlap do not add up.
fn draw_blob(
    map: &mut Grid<f64>,
    anatomy: &ChestAnatomy,
    place: [f64; 2],
    radius: f64,
    strength: f64,
) {
    let size = map.n_rows();
    let pixel = size as f64 / 256.0;
    let [row, column] = anatomy.turned(place);
    let reach = radius.max(0.75 / pixel);
    let span = |middle: f64| {
        let begin = ((middle - reach) * pixel).floor().max(0.0) as usize;
        begin..(((middle + reach) * pixel).ceil().max(0.0) as usize).min(size)
    };
    for r in span(row) {
        for c in span(column) {
            let [down, right] = [(r as f64 + 0.5) / pixel - row, (c as f64 + 0.5) / pixel - column];
            let level = strength * bump((down * down + right * right).sqrt() / reach);
            if level > map.get([0, r, c]) {
                map.set([0, r, c], level);
            }
        }
    }
}

/// Adds noise and mottle; the mottle is scaled to its standard deviation after the blur.
fn add_noise(film: &mut Grid<f64>, exposure: &Exposure, pixel: f64, stream: &mut Stream) {
    let mut mottle = film.map(|_| stream.normal());
    blur(&mut mottle, 3.0 * pixel);
    let power: f64 = mottle.values().iter().map(|value| value * value).sum();
    let scale = exposure.texture_sd / (power / mottle.values().len() as f64).sqrt().max(1e-12);
    for (value, mottle) in film.values_mut().iter_mut().zip(mottle.values()) {
        // Where no light passes there is neither noise nor mottle to see.
        let light = (*value / 0.3).clamp(0.15, 1.3);
        *value += light * (scale * mottle + exposure.noise_sd * stream.normal());
    }
}

/// The bright field for the patient's name in the upper left corner.
fn add_plate(film: &mut Grid<f64>, pixel: f64) {
    let [n_rows, n_columns] = [10.0, 35.0].map(|n: f64| (n * pixel).round() as usize);
    for row in 0..n_rows {
        for column in 0..n_columns {
            film.set([0, row, column], 1.0);
        }
    }
}

/// 0 below 0, 1 above 1, smooth between.
pub(super) fn smooth(x: f64) -> f64 {
    let x = x.clamp(0.0, 1.0);
    x * x * (3.0 - 2.0 * x)
}

/// Gaussian bell of height 1.
fn bell(x: f64) -> f64 {
    (-0.5 * x * x).exp()
}

/// Round bump of height 1 that ends at 1.
pub(super) fn bump(x: f64) -> f64 {
    let rest = (1.0 - x * x).max(0.0);
    rest * rest
}
