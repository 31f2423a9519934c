//! Vessels of the retina: an artery and a vein in each of four arcades, which leave the disc, fork and thin out.

use super::anatomy::FundusAnatomy;
use crate::{Grid, Stream, phantom::film::bump};

/// Step of a vessel, in units of the frame.
const STEP: f64 = 1.0;

/// Forks that lie one after another at most.
const MOST_FORKS: usize = 2;

/// A vessel about to be drawn.
#[derive(Clone, Copy)]
struct Vessel {
    place: [f64; 2],
    /// Direction, 0 towards larger columns and a quarter turn towards larger rows.
    angle: f64,
    /// Change of the direction a unit.
    bend: f64,
    width: f64,
    /// How much light it takes.
    strength: f64,
    forks: usize,
}

/// How much light vessels take at each place, 0 to 1; a frame of 256 units on a picture of `size` pixels.
pub(super) fn vessel_map(anatomy: &FundusAnatomy, size: usize, stream: &mut Stream) -> Grid<f64> {
    let mut map = Grid::filled([1, size, size], 0.0);
    for vertical in [-1.0, 1.0] {
        for side in [-1.0, 1.0] {
            for (width, strength) in [(6.0, 0.55), (4.5, 0.38)] {
                let trunk = trunk(anatomy, [vertical, side], width, strength, stream);
                grow(&mut map, anatomy, stream, trunk);
            }
        }
    }
    map
}

/// A trunk of the arcade to `[vertical, side]`: out of the nasal part of the cup, steeply up or down, then round.
fn trunk(
    anatomy: &FundusAnatomy,
    [vertical, side]: [f64; 2],
    width: f64,
    strength: f64,
    stream: &mut Stream,
) -> Vessel {
    let cup = &anatomy.cup;
    let outward = std::f64::consts::FRAC_PI_2 * vertical;
    let start = cup.place(if anatomy.nasal > 0.0 { 0.0 } else { std::f64::consts::PI }, 0.35);
    let lean = side * vertical * stream.between(0.15, 0.5);
    Vessel {
        place: [start[0] + 2.0 * stream.normal(), start[1] + side * stream.between(1.0, 5.0)],
        angle: outward - lean,
        bend: -side * vertical * stream.between(0.002, 0.006),
        width: width * stream.between(0.85, 1.1),
        strength,
        forks: 0,
    }
}

fn grow(map: &mut Grid<f64>, anatomy: &FundusAnatomy, stream: &mut Stream, vessel: Vessel) {
    let Vessel { mut place, mut angle, bend, mut width, strength, forks } = vessel;
    let until_fork = stream.between(40.0, 75.0) * if forks == 0 { 1.2 } else { 0.8 };
    let mut was_in_cup = anatomy.is_cup(place);
    for _ in 0..(until_fork / STEP) as usize {
        draw_bead(map, place, 0.5 * width, strength);
        // Over the rim of the cup a vessel climbs, which looks like a kink.
        let is_in_cup = anatomy.is_cup(place);
        if was_in_cup && !is_in_cup {
            angle += stream.between(-0.45, 0.45);
        }
        was_in_cup = is_in_cup;
        angle += STEP * (bend + 0.012 * stream.normal());
        width = (width - 0.012 * STEP).max(1.5);
        place = [place[0] + STEP * angle.sin(), place[1] + STEP * angle.cos()];
        if place.iter().any(|at| !(-10.0..266.0).contains(at)) {
            return;
        }
    }
    if forks == MOST_FORKS {
        return;
    }
    for turn in [-0.5, 0.35] {
        let fork = Vessel {
            place,
            angle: angle + turn * stream.between(0.6, 1.2),
            bend,
            width: (0.75 * width).max(1.5),
            strength: 0.9 * strength,
            forks: forks + 1,
        };
        grow(map, anatomy, stream, fork);
    }
}

/// Raises the map to a round bump, so that beads that overlap do not add up.
fn draw_bead(map: &mut Grid<f64>, [row, column]: [f64; 2], radius: f64, strength: f64) {
    let size = map.n_rows();
    let pixel = size as f64 / 256.0;
    let reach = (1.3 * radius).max(0.75 / pixel);
    let span = |middle: f64| {
        let begin = ((middle - reach) * pixel).floor().max(0.0) as usize;
        begin..(((middle + reach) * pixel).ceil().max(0.0) as usize).min(size)
    };
    for r in span(row) {
        for c in span(column) {
            let [down, right] = [(r as f64 + 0.5) / pixel - row, (c as f64 + 0.5) / pixel - column];
            let level = strength * bump(down.hypot(right) / reach).sqrt();
            if level > map.get([0, r, c]) {
                map.set([0, r, c], level);
            }
        }
    }
}
