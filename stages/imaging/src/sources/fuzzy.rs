//! Algorithm 4: everything that belongs to the brightest of three fuzzy classes rather than not, where neighbours count too.
//! Copes with uneven tumours; takes in glands that enhance, and small tumours leave it no class of their own.
//!
//! Source: fuzzy c-means (Bezdek 1981) with a spatial function as in Chuang et al. (2006). Deviation: the spatial function
//! is the mean over 27 voxels and applied once, after the classes are found.

use datasets::{Grid, Image, Mask};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Grower, Grown, Guard, Maps, Record, SeedRule, touches_edge};
use crate::{
    ImagingError,
    components::Connectivity,
    dce::damped,
    error::check_option,
    holes::fill_holes,
    region::{Bounds, Region, connected_threshold},
};

/// Quantiles at which the centres start.
const STARTS: [f64; 3] = [0.2, 0.7, 0.99];
/// Change of the memberships at which the classes are found, and the most rounds.
const TOLERANCE: f64 = 1e-5;
const ROUNDS: usize = 60;

/// Fuzzy classes of the uptake without vessels, then a connected threshold on the membership.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fuzzy {
    /// Where the region starts. Default the brightest voxel after smoothing by 2 mm.
    pub seed: SeedRule,
    /// Radius around the seed in which it may grow, in millimetres, above 0. Default 25.
    pub radius_mm: f64,
    /// Membership from which on a voxel belongs, above 0 and at most 1. Default 0.5.
    pub membership: f64,
    /// What holds a leaking region back. Default nothing.
    pub guard: Option<Guard>,
}

impl Default for Fuzzy {
    fn default() -> Self {
        Self {
            seed: SeedRule::BrightestSmoothed(2.0),
            radius_mm: 25.0,
            membership: 0.5,
            guard: None,
        }
    }
}

impl Grower for Fuzzy {
    fn name(&self) -> &'static str {
        "fuzzy"
    }

    fn check(&self) -> Result<(), ImagingError> {
        self.guard.map_or(Ok(()), |guard| guard.check())?;
        check_option(self.name(), "radius_mm", self.radius_mm, [f64::MIN_POSITIVE, f64::MAX])?;
        check_option(self.name(), "membership", self.membership, [f64::MIN_POSITIVE, 1.0])
    }

    fn seed(&self, maps: Maps<'_>) -> Result<Option<[usize; 3]>, ImagingError> {
        self.seed.pick(maps)
    }

    fn grow(&self, maps: Maps<'_>, seed: [usize; 3]) -> Result<Grown, ImagingError> {
        let ball = maps.ball(seed, self.radius_mm);
        let image = damped(maps.uptake, maps.vesselness);
        let pairs = image.values().iter().zip(ball.values()).filter(|&(_, &inside)| inside);
        let values: Vec<f64> = pairs.map(|(&value, _)| f64::from(value)).collect();
        let classes = classes(&values);
        let membership = spatial(&memberships(&image, &ball, classes.centres), &ball);
        let start = self.start(maps, &membership, seed);
        let lower = self.membership as f32;
        let grow = |lower: f32| -> Result<Region, ImagingError> {
            connected_threshold(&membership, &[start], Bounds::at_least(lower), Connectivity::Face)
        };
        let high = membership.get(start).max(lower);
        let (region, lower, leak_capped) =
            Guard::grow(self.guard, [lower, high], maps.voxel_mm3(), grow)?;
        let [low, middle, high] = classes.centres;
        let numbers = vec![
            ("membership", f64::from(lower)),
            ("centre_low", low),
            ("centre_middle", middle),
            ("centre_high", high),
            ("rounds", classes.n_rounds as f64),
        ];
        let touches_roi = touches_edge(region.mask(), &ball);
        let record = Record { numbers, leak_capped, touches_roi, ..Record::default() };
        Ok(Grown { mask: fill_holes(region.mask()), record })
    }
}

impl Fuzzy {
    /// The seed if it belongs, else the voxel of highest enhancement that does.
    fn start(&self, maps: Maps<'_>, membership: &Image, seed: [usize; 3]) -> [usize; 3] {
        let lower = self.membership as f32;
        if membership.get(seed) >= lower {
            return seed;
        }
        let belongs = membership.map(|&value| value >= lower);
        super::brightest(maps.enhancement, &belongs).unwrap_or(seed)
    }
}

/// Centres of fuzzy classes, ascending.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Classes {
    centres: [f64; 3],
    n_rounds: usize,
}

/// Fuzzy c-means of scalars with three classes and a fuzzifier of 2.
fn classes(values: &[f64]) -> Classes {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| {
        let place = share * sorted.len().saturating_sub(1) as f64;
        let (low, high) = (place.floor() as usize, place.ceil() as usize);
        let [low, high] = [low, high].map(|rank| sorted.get(rank).copied().unwrap_or(0.0));
        low + place.fract() * (high - low)
    };
    let mut centres = STARTS.map(at);
    let mut n_rounds = 0;
    while n_rounds < ROUNDS {
        n_rounds += 1;
        let (mut weights, mut sums) = ([0.0; 3], [0.0; 3]);
        for &value in values {
            for (class, share) in membership(value, centres).into_iter().enumerate() {
                weights[class] += share * share;
                sums[class] += share * share * value;
            }
        }
        let next = [0, 1, 2].map(|class| {
            if weights[class] > 0.0 { sums[class] / weights[class] } else { centres[class] }
        });
        let change = (0..3).map(|class| (next[class] - centres[class]).abs()).fold(0.0, f64::max);
        centres = next;
        if change <= TOLERANCE {
            break;
        }
    }
    centres.sort_unstable_by(f64::total_cmp);
    Classes { centres, n_rounds }
}

/// Membership in each class: the inverse squared distances, as shares.
fn membership(value: f64, centres: [f64; 3]) -> [f64; 3] {
    /// Nearer than this is at the centre.
    const NEAREST: f64 = 1e-16;
    let inverse = centres.map(|centre| 1.0 / (value - centre).powi(2).max(NEAREST));
    let sum: f64 = inverse.iter().sum();
    inverse.map(|share| share / sum)
}

/// Membership in the class of the highest centre; 0 outside the ball.
fn memberships(image: &Image, ball: &Mask, centres: [f64; 3]) -> Image {
    crate::zip::zip(image, ball, |&value, &inside| {
        // Above the highest centre memberships fall again, which no tumour does.
        let value = f64::from(value).min(centres[2]);
        if inside { membership(value, centres)[2] as f32 } else { 0.0 }
    })
}

/// Memberships weighted by the mean over the 27 voxels around; 0 outside the ball.
fn spatial(membership: &Image, ball: &Mask) -> Image {
    let shape = membership.shape();
    let mean = |place: [usize; 3]| {
        let mut sum = 0.0;
        for slice in place[0].saturating_sub(1)..(place[0] + 2).min(shape[0]) {
            for row in place[1].saturating_sub(1)..(place[1] + 2).min(shape[1]) {
                let line = membership.row(slice, row);
                let columns = place[2].saturating_sub(1)..(place[2] + 2).min(shape[2]);
                sum += line[columns].iter().map(|&value| f64::from(value)).sum::<f64>();
            }
        }
        sum / 27.0
    };
    Grid::from_fn(shape, |place| {
        if !ball.get(place) {
            return 0.0;
        }
        let (own, near) = (f64::from(membership.get(place)), mean(place));
        let (yes, no) = (own * near, (1.0 - own) * (1.0 - near));
        if yes + no > 0.0 { (yes / (yes + no)) as f32 } else { own as f32 }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_heaps_have_three_centres() {
        let values: Vec<f64> = [(0.1, 70), (0.4, 25), (0.9, 5)]
            .iter()
            .flat_map(|&(centre, n)| (0..n).map(move |i| centre + 0.01 * (f64::from(i % 5) - 2.0)))
            .collect();
        let found = classes(&values);
        for (found, expected) in found.centres.iter().zip([0.1, 0.4, 0.9]) {
            assert!((found - expected).abs() < 0.02, "{found} {expected}");
        }
        let shares = membership(0.4, found.centres);
        assert!(shares[1] > 0.99 && (shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert_eq!(classes(&[]).centres, [0.0; 3]);
    }
}
