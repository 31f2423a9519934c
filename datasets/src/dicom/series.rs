//! Slices of a series sorted into volumes: by their places first, then by time.

use super::{
    DicomError, Numbering, Series, SeriesError, SeriesNote, dot,
    frame::{Frame, N_TIMES, Place, TIME_NAMES, TIME_UNITS},
};
use crate::volume::{Affine, Volume, from_lps};

/// Slices closer than this lie at one place; positions are decimal texts of up to 16 characters.
const SAME_PLACE_MM: f64 = 1e-3;

/// Largest difference of the numbers of two directions or distances that are the same.
const SAME_DIRECTION: f64 = 1e-3;

/// Largest share by which a distance between slices may differ from the others.
const SAME_GAP: f64 = 0.01;

/// Sine of the largest angle between the line of slices and their normal: 0.6 degrees.
const UPRIGHT: f64 = 0.01;

/// Cosine of the largest angle between the normal and the axis of the body in axial slices: 45 degrees.
const AXIAL: f64 = std::f64::consts::FRAC_1_SQRT_2;

/// What is the same in all slices.
struct Common {
    place: Option<Place>,
    normal: [f64; 3],
    spacing: Option<[f64; 2]>,
}

/// Assembles the frames of one series.
pub(super) fn assemble(mut frames: Vec<Frame>) -> Result<Series, DicomError> {
    let common = common(&frames)?;
    let slices = by_place(&frames, common.normal)?;
    let (phases, seconds) = by_time(&frames, &slices)?;
    let grid = Geometry::of(&frames, &phases[0], &common)?;
    let mut notes = Vec::new();
    if let Some(degrees) = grid.tilt_degrees {
        notes.push(SeriesNote::Tilted { degrees });
    }
    if common.place.is_some() && common.normal[2].abs() < AXIAL {
        notes.push(SeriesNote::NotAxial { normal: common.normal });
    }
    let (rows, columns) = (frames[0].rows, frames[0].columns);
    let objects = phases[0].iter().map(|&n| frames[n].object.take()).collect();
    let mut channels = Vec::new();
    for phase in &phases {
        for sample in 0..frames[0].samples.len() {
            let mut values = Vec::with_capacity(phase.len() * rows * columns);
            for &n in phase {
                // Frames are given up as they are copied: a series is in memory once, and one volume of it twice.
                values.append(&mut frames[n].samples[sample]);
            }
            let axes = [columns, rows, phase.len()];
            channels.push(Volume::assemble(axes, values, grid.spacing, grid.affine)?);
        }
    }
    let has_spacing = common.spacing.is_some();
    let numbering = numbering(&frames, &phases[0]);
    Ok(Series { channels, seconds, has_spacing, numbering, uid: None, objects, notes })
}

/// How the numbers of files run along the slices of a phase.
fn numbering(frames: &[Frame], phase: &[usize]) -> Numbering {
    let numbers = phase.iter().map(|&n| frames[n].number).collect::<Option<Vec<f64>>>();
    let Some(numbers) = numbers else { return Numbering::Unclear };
    let mut pairs = numbers.windows(2);
    if pairs.clone().all(|pair| pair[0] < pair[1]) {
        Numbering::Up
    } else if pairs.all(|pair| pair[0] > pair[1]) {
        Numbering::Down
    } else {
        Numbering::Unclear
    }
}

/// Refuses slices that differ in what one volume has once.
fn common(frames: &[Frame]) -> Result<Common, SeriesError> {
    let first = &frames[0];
    for other in frames {
        let sizes = [first, other].map(|frame| format!("{} x {}", frame.rows, frame.columns));
        let kinds = [first, other].map(|frame| format!("{} samples a pixel", frame.samples.len()));
        for (what, [first, other]) in [("rows x columns", sizes), ("kind", kinds)] {
            if first != other {
                return Err(SeriesError::Mixed { what, first, other });
            }
        }
        let directions = [first, other].map(|frame| {
            frame.place.map_or(Vec::new(), |place| [place.across, place.down].concat())
        });
        let distances = [first, other].map(|frame| frame.spacing.map_or(Vec::new(), Vec::from));
        for (what, [first, other]) in
            [("orientation", directions), ("mm between rows and columns", distances)]
        {
            let far = |(a, b): (&f64, &f64)| (a - b).abs() > SAME_DIRECTION;
            // Slices without a place are counted below.
            let both = !first.is_empty() && !other.is_empty();
            if both && first.iter().zip(&other).any(far) {
                return Err(SeriesError::MixedOrientation { what, first, other });
            }
        }
    }
    let n_lacking = frames.iter().filter(|frame| frame.place.is_none()).count();
    if n_lacking > 0 && frames.len() > 1 {
        let name = "ImagePositionPatient";
        return Err(SeriesError::NoPlace { name, n_lacking, n_slices: frames.len() });
    }
    if first.place.is_some() && frames.iter().any(|frame| frame.spacing.is_none()) {
        return Err(SeriesError::NoSpacing);
    }
    let normal = first.place.map_or([0.0, 0.0, 1.0], |place| cross(place.across, place.down));
    Ok(Common { place: first.place, normal, spacing: first.spacing })
}

/// Distance along the normal.
fn height(frame: &Frame, normal: [f64; 3]) -> f64 {
    frame.place.map_or(0.0, |place| dot(place.position, normal))
}

/// The frames of every place, from the lowest on along the normal; as many at each.
fn by_place(frames: &[Frame], normal: [f64; 3]) -> Result<Vec<Vec<usize>>, SeriesError> {
    let mut order: Vec<(f64, usize)> =
        frames.iter().enumerate().map(|(n, frame)| (height(frame, normal), n)).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut slices: Vec<(f64, Vec<usize>)> = Vec::new();
    for (at, n) in order {
        match slices.last_mut() {
            Some((place, own)) if at - *place < SAME_PLACE_MM => own.push(n),
            _ => slices.push((at, vec![n])),
        }
    }
    let mut counts: Vec<usize> = slices.iter().map(|(_, own)| own.len()).collect();
    counts.sort_unstable();
    let expected = counts[counts.len() / 2];
    let odd = slices.iter().position(|(_, own)| own.len() != expected);
    match odd.map(|slice| (slice, &slices[slice])) {
        Some((slice, (at_mm, own))) if expected == 1 => {
            let n_frames = own.len();
            Err(SeriesError::DuplicateSlice { slice, at_mm: *at_mm, n_frames })
        }
        Some((slice, (_, own))) => {
            Err(SeriesError::PhasesDiffer { slice, expected, found: own.len() })
        }
        None => Ok(slices.into_iter().map(|(_, own)| own).collect()),
    }
}

type Phases = (Vec<Vec<usize>>, Option<Vec<f64>>);

/// The frames of every phase from the lowest on, and the seconds of each phase after the first.
fn by_time(frames: &[Frame], slices: &[Vec<usize>]) -> Result<Phases, SeriesError> {
    let n_phases = slices[0].len();
    if n_phases == 1 {
        return Ok((vec![slices.concat()], None));
    }
    let Some((key, phases)) =
        (0..N_TIMES).find_map(|key| Some((key, phases_by(frames, slices, key)?)))
    else {
        let at_mm = frames[slices[0][0]]
            .place
            .map_or(0.0, |place| dot(place.position, cross(place.across, place.down)));
        return Err(SeriesError::DuplicateSlice { slice: 0, at_mm, n_frames: n_phases });
    };
    let mut seconds = None;
    for against in 0..N_TIMES {
        let starts = phases.iter().map(|phase| earliest(frames, phase, against));
        let Some(starts) = starts.collect::<Option<Vec<f64>>>() else { continue };
        if let Some(before) = starts.windows(2).position(|pair| pair[1] < pair[0]) {
            let (by, against) = (TIME_NAMES[key], TIME_NAMES[against]);
            return Err(SeriesError::TimeOrder { by, against, phase: before + 1 });
        }
        if let (None, Some(unit)) = (&seconds, TIME_UNITS[against])
            && starts[0] < starts[n_phases - 1]
        {
            seconds = Some(starts.iter().map(|start| (start - starts[0]) * unit).collect());
        }
    }
    Ok((phases, seconds))
}

fn earliest(frames: &[Frame], phase: &[usize], key: usize) -> Option<f64> {
    phase.iter().try_fold(f64::INFINITY, |first, &n| Some(first.min(frames[n].times[key]?)))
}

/// Phases by one attribute of time, where all frames have it and every phase ends before the next begins.
fn phases_by(frames: &[Frame], slices: &[Vec<usize>], key: usize) -> Option<Vec<Vec<usize>>> {
    let mut phases: Vec<Vec<usize>> = vec![Vec::new(); slices[0].len()];
    let mut ranges = vec![[f64::INFINITY, f64::NEG_INFINITY]; phases.len()];
    for slice in slices {
        let times = slice.iter().map(|&n| Some((frames[n].times[key]?, n)));
        let mut times = times.collect::<Option<Vec<(f64, usize)>>>()?;
        times.sort_by(|a, b| a.0.total_cmp(&b.0));
        for ((time, n), (phase, range)) in times.into_iter().zip(phases.iter_mut().zip(&mut ranges))
        {
            phase.push(n);
            *range = [range[0].min(time), range[1].max(time)];
        }
    }
    let are_apart = ranges.windows(2).all(|pair| pair[0][1] < pair[1][0]);
    are_apart.then_some(phases)
}

/// Distances and place of a volume.
struct Geometry {
    spacing: [f64; 3],
    affine: Option<Affine>,
    tilt_degrees: Option<f64>,
}

impl Geometry {
    fn of(frames: &[Frame], phase: &[usize], common: &Common) -> Result<Self, SeriesError> {
        let [between_rows, between_columns] = common.spacing.unwrap_or([1.0; 2]);
        let first = &frames[phase[0]];
        let alone = first.thickness.unwrap_or(1.0);
        let Some(Place { across, down, .. }) = common.place else {
            let spacing = [alone, between_rows, between_columns];
            return Ok(Self { spacing, affine: None, tilt_degrees: None });
        };
        let places: Vec<[f64; 3]> =
            phase.iter().filter_map(|&n| frames[n].place).map(|place| place.position).collect();
        let step = match places.len() {
            1 => common.normal.map(|axis| axis * alone),
            n => [0, 1, 2].map(|axis| (places[n - 1][axis] - places[0][axis]) / (n - 1) as f64),
        };
        check_line(&places, step, common.normal)?;
        let between_slices = dot(step, step).sqrt();
        let beside = cross(step, common.normal);
        let sine = dot(beside, beside).sqrt() / between_slices;
        let lps = [0, 1, 2].map(|axis| {
            let columns = across[axis] * between_columns;
            [columns, down[axis] * between_rows, step[axis], places[0][axis]]
        });
        Ok(Self {
            spacing: [between_slices, between_rows, between_columns],
            affine: Some(from_lps(lps)),
            tilt_degrees: (sine > UPRIGHT).then(|| sine.min(1.0).asin().to_degrees()),
        })
    }
}

/// Refuses slices that are not evenly spread on a line.
fn check_line(places: &[[f64; 3]], step: [f64; 3], normal: [f64; 3]) -> Result<(), SeriesError> {
    let gaps: Vec<f64> =
        places.windows(2).map(|pair| dot(pair[1], normal) - dot(pair[0], normal)).collect();
    let mut sorted = gaps.clone();
    sorted.sort_by(f64::total_cmp);
    let Some(&expected_mm) = sorted.get(sorted.len() / 2) else { return Ok(()) };
    let tolerance = SAME_GAP * expected_mm;
    if let Some(slice) = gaps.iter().position(|gap| (gap - expected_mm).abs() > tolerance) {
        return Err(SeriesError::Gap { slice, expected_mm, found_mm: gaps[slice] });
    }
    for (slice, place) in places.iter().enumerate() {
        let off = [0, 1, 2].map(|axis| place[axis] - places[0][axis] - slice as f64 * step[axis]);
        let off_mm = dot(off, off).sqrt();
        // Small errors of gaps add up along the line before they show beside it.
        if off_mm > tolerance.max(SAME_PLACE_MM) * (slice + 1) as f64 {
            return Err(SeriesError::OffLine { slice, off_mm });
        }
    }
    Ok(())
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}
