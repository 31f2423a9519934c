//! What a tissue looks like before and after contrast agent arrives.
//!
//! Source: extended Tofts model, the population arterial input of Parker et al. (2006) with the constants of OSIPI's
//! collection, and the spoiled gradient echo; tissue constants of the breast phantom of dce-dro-python at 1.5 T, fat
//! suppressed to a quarter. Deviation: constants of skin, and the exchange constants, are ours.

/// Times of the three phases in minutes after the injection.
pub(super) const TIMES_MIN: [f64; 3] = [0.0, 1.75, 3.9];

const REPETITION_MS: f64 = 5.2;
const FLIP_DEG: f64 = 10.0;
/// Of the contrast agent, per second and millimole in a litre.
const RELAXIVITY: f64 = 4.5;
/// Share of the blood that is no plasma.
const HAEMATOCRIT: f64 = 0.42;

/// How a tissue relaxes and takes up contrast agent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tissue {
    /// Transfer constant, per minute.
    transfer: f64,
    /// Volume fraction of the space outside of cells and vessels.
    space: f64,
    /// Volume fraction of plasma.
    plasma: f64,
    t1_ms: f64,
    density: f64,
}

const fn tissue(transfer: f64, space: f64, plasma: f64, t1_ms: f64, density: f64) -> Tissue {
    Tissue { transfer, space, plasma, t1_ms, density }
}

pub(super) const FAT: Tissue = tissue(0.003, 0.10, 0.002, 334.0, 250.0);
pub(super) const GLAND: Tissue = tissue(0.018, 0.30, 0.01, 1201.0, 5000.0);
pub(super) const MUSCLE: Tissue = tissue(0.03, 0.12, 0.02, 900.0, 3000.0);
pub(super) const SKIN: Tissue = tissue(0.045, 0.25, 0.04, 900.0, 2200.0);
pub(super) const VESSEL: Tissue = tissue(0.0, 1.0, 0.55, 1434.0, 5250.0);
pub(super) const TUMOUR: Tissue = tissue(0.28, 0.42, 0.05, 876.0, 5000.0);
pub(super) const RIM: Tissue = tissue(0.45, 0.40, 0.06, 876.0, 5000.0);
pub(super) const CORE: Tissue = tissue(0.06, 0.30, 0.02, 1000.0, 5000.0);
pub(super) const HEART: Tissue = tissue(0.0, 1.0, 0.58, 1434.0, 5250.0);

impl Tissue {
    /// Signal in the three phases, in arbitrary units.
    pub(super) fn signals(self) -> [f64; 3] {
        TIMES_MIN.map(|time| self.signal(self.concentration(time)))
    }

    /// Concentration of the agent in millimoles a litre.
    fn concentration(self, time_min: f64) -> f64 {
        const STEPS: usize = 2000;
        if time_min <= 0.0 {
            return 0.0;
        }
        let step = time_min / STEPS as f64;
        let washed = self.transfer / self.space;
        let sum: f64 = (0..STEPS)
            .map(|n| {
                let at = (n as f64 + 0.5) * step;
                plasma_concentration(at) * (-washed * (time_min - at)).exp()
            })
            .sum();
        self.plasma * plasma_concentration(time_min) + self.transfer * sum * step
    }

    /// Signal of the spoiled gradient echo.
    fn signal(self, concentration: f64) -> f64 {
        let rate = 1000.0 / self.t1_ms + RELAXIVITY * concentration;
        let decay = (-REPETITION_MS / 1000.0 * rate).exp();
        let (sine, cosine) = FLIP_DEG.to_radians().sin_cos();
        self.density * sine * (1.0 - decay) / (1.0 - cosine * decay)
    }
}

/// Concentration in plasma, millimoles a litre, minutes after the injection.
fn plasma_concentration(time_min: f64) -> f64 {
    const BUMPS: [[f64; 3]; 2] = [[0.809, 0.170_46, 0.0563], [0.330, 0.365, 0.132]];
    let bumps: f64 = BUMPS
        .iter()
        .map(|[area, centre, width]| {
            let height = area / (width * std::f64::consts::TAU.sqrt());
            height * (-0.5 * ((time_min - centre) / width).powi(2)).exp()
        })
        .sum();
    let tail = 1.050 * (-0.1685 * time_min).exp() / (1.0 + (-38.078 * (time_min - 0.483)).exp());
    (bumps + tail) / (1.0 - HAEMATOCRIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Signal before, percent of enhancement early and late: the table that the constants were chosen for.
    #[test]
    fn tissues_enhance_as_tabulated() {
        for (name, tissue, [before, early, late]) in [
            ("fat", FAT, [22.0, 1.0, 1.0]),
            ("gland", GLAND, [193.0, 30.0, 40.0]),
            ("muscle", MUSCLE, [144.0, 30.0, 33.0]),
            ("skin", SKIN, [106.0, 47.0, 53.0]),
            ("vessel", VESSEL, [176.0, 205.0, 167.0]),
            ("tumour", TUMOUR, [245.0, 105.0, 95.0]),
            ("rim", RIM, [245.0, 112.0, 92.0]),
            ("core", CORE, [222.0, 57.0, 67.0]),
            ("heart", HEART, [176.0, 208.0, 171.0]),
        ] {
            let found = tissue.signals();
            assert!((found[0] - before).abs() < 1.0, "{name} {found:?}");
            let percent = |phase: usize| 100.0 * (found[phase] / found[0] - 1.0);
            assert!((percent(1) - early).abs() < 2.5 + 0.01 * early, "{name} {}", percent(1));
            assert!((percent(2) - late).abs() < 2.5 + 0.01 * late, "{name} {}", percent(2));
        }
    }
}
