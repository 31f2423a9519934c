//! Inputs that are drawn from a seed: lungs, their raters, tumours, and a breast scan.

use std::f64::consts::TAU;

use datasets::{Grid, Image, Mask, Stream};

/// The grid of the paper's breast scans.
pub(crate) const SCAN: [usize; 3] = [160, 224, 320];
/// Its spacing in millimetres.
pub(crate) const SPACING: [f64; 3] = [1.4, 0.7, 0.7];

/// A lung: centre, half axes and seed of its outline's waves.
struct Field {
    centre: [f64; 2],
    half: [f64; 2],
    waves: Vec<[f64; 2]>,
}

impl Field {
    fn new(side: f64, column: f64, stream: &mut Stream) -> Self {
        let mut move_by = |share: f64| share * (stream.uniform() - 0.5);
        let centre = [(0.48 + move_by(0.02)) * side, (column + move_by(0.02)) * side];
        let scale = 1.0 + move_by(0.1);
        let half = [0.31 * side * scale, 0.145 * side * scale];
        let waves = (0..6).map(|_| [move_by(0.06), move_by(0.06)]).collect();
        Self { centre, half, waves }
    }

    fn holds(&self, row: f64, column: f64) -> bool {
        let (y, x) =
            ((row - self.centre[0]) / self.half[0], (column - self.centre[1]) / self.half[1]);
        let square = y * y + x * x;
        if !(0.5..2.0).contains(&square) {
            return square < 0.5;
        }
        let angle = y.atan2(x);
        let waves = (2_u8..).zip(&self.waves).map(|(order, [even, odd])| {
            let (sine, cosine) = (f64::from(order) * angle).sin_cos();
            even * cosine + odd * sine
        });
        square.sqrt() <= 1.0 + waves.sum::<f64>()
    }
}

/// Two lungs that cover some 28 percent of a square image; every `number` is another case, or another rater's view.
pub(crate) fn lungs(side: usize, number: usize) -> Mask {
    let mut stream = Stream::new(1, "example.lungs", &[&number.to_string()]);
    let fields = [0.3, 0.7].map(|column| Field::new(side as f64, column, &mut stream));
    Mask::from_fn([1, side, side], |[_, row, column]| {
        fields.iter().any(|field| field.holds(row as f64, column as f64))
    })
}

/// An ellipsoid on the grid of the scans.
pub(crate) fn ellipsoid(centre: [f64; 3], half: [f64; 3]) -> Mask {
    Mask::from_fn(SCAN, |place| is_within(place.map(|at| at as f64), centre, half))
}

fn is_within(place: [f64; 3], centre: [f64; 3], half: [f64; 3]) -> bool {
    (0..3).map(|axis| ((place[axis] - centre[axis]) / half[axis]).powi(2)).sum::<f64>() <= 1.0
}

/// Six raters of one tumour.
pub(crate) fn tumour_raters() -> Vec<Mask> {
    let rater = |r: f64| {
        let centre = [79.0 + r % 3.0, 112.0 - r % 2.0, 128.0 + r];
        ellipsoid(centre, [15.0 + r % 2.0, 18.0 - r % 3.0, 20.0 + r])
    };
    (0_u8..6).map(|r| rater(f64::from(r))).collect()
}

/// A tumour and a prediction of it.
pub(crate) fn tumour_pair() -> [Mask; 2] {
    [
        ellipsoid([80.0, 112.0, 130.0], [15.0, 18.0, 22.0]),
        ellipsoid([81.0, 110.0, 133.0], [14.0, 19.0, 21.0]),
    ]
}

/// A breast of 200, a tumour of 600 and eight tubes of 500 on 20, with noise of 12.
pub(crate) fn scan() -> Image {
    let mut stream = Stream::new(7, "example.scan", &[]);
    let tubes: Vec<[f64; 5]> = (0..8)
        .map(|_| {
            [(30.0, 130.0), (40.0, 180.0), (0.0, 12.0), (0.0, 18.0), (1.5, 3.0)]
                .map(|(low, high)| stream.between(low, high))
        })
        .collect();
    Grid::from_fn(SCAN, |place| {
        let place = place.map(|at| at as f64);
        let [z, y, x] = place;
        let mut value = 20.0;
        if is_within(place, [80.0, 112.0, 160.0], [70.0, 100.0, 150.0]) {
            value = 200.0;
        }
        for (tube, [cz, cy, az, ay, radius]) in (0_u8..).zip(&tubes) {
            let cz = cz + az * (x / 37.0 + f64::from(tube)).sin();
            let cy = cy + ay * (x / 53.0 + 2.0 * f64::from(tube)).sin();
            if (z - cz).powi(2) + (y - cy).powi(2) <= radius * radius {
                value = 500.0;
            }
        }
        if is_within(place, [80.0, 112.0, 130.0], [15.0, 18.0, 22.0]) {
            value = 600.0;
        }
        let noise: f64 = (0..4).map(|_| stream.uniform()).sum::<f64>() - 2.0;
        (value + 12.0 * 3.0_f64.sqrt() * noise) as f32
    })
}

/// A scan as it leaves the machine: waves of whole numbers below 1000.
pub(crate) fn raw_scan() -> Grid<u16> {
    let wave = |at: usize, length: f64| (TAU * at as f64 / length).sin();
    let mut stream = Stream::new(5, "example.raw_scan", &[]);
    Grid::from_fn([160, 512, 512], |[slice, row, column]| {
        let even = 500.0 + 150.0 * (wave(slice, 61.0) + wave(row, 143.0) + wave(column, 77.0));
        (even + 40.0 * stream.uniform()) as u16
    })
}
