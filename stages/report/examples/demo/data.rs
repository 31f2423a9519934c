//! A report of made-up data with every part filled: no number in it was measured.

use report::{
    AxisScale, Better, CaseMap, CaseMask, CellOutput, CellRecord, CurveFigure, Fact, Gallery,
    GalleryCase, Head, Line, MaskPicture, Metric, NoiseRow, NoiseTable, Panel, Picture, Quality,
    ReportData, ResultRow, ResultTable, Rule, SeedRun, Series, Setting, Spread, Trace, Warning,
};

/// Short names of the five sources.
const SOURCES: [&str; 5] = ["erode/dilate", "shift", "square", "polygon", "erase"];

/// Side of the demo pictures in pixels.
const SIDE: usize = 96;

/// Builds the report.
pub(crate) fn demo() -> ReportData {
    ReportData {
        head: head(),
        results: vec![results()],
        curves: vec![losses(), uncertainty()],
        noise: vec![noise()],
        galleries: vec![gallery()],
        cells: cells(),
        resolved_toml: Some(TOML.to_owned()),
    }
}

const TOML: &str = r#"title = "Which annotation sources help?"
scale = "quick"

[train]
learning_rate = 0.001
calibration_weight = 1.0

[matrix]
subset = ["1-2", "1-3", "1-4", "1-5"]
rng_seed = [0, 1, 2]
"#;

/// A number from 0 to 1 that depends on `keys` alone.
fn noise_at(keys: [usize; 3]) -> f64 {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for key in keys {
        state = (state ^ key as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state ^= state >> 29;
    }
    state = state.wrapping_mul(0x94d0_49bb_1331_11eb);
    (state >> 40) as f64 / (1u64 << 24) as f64
}

fn digest(key: usize) -> String {
    (0..8)
        .map(|part| format!("{:08x}", (noise_at([key, part, 7]) * f64::from(u32::MAX)) as u32))
        .collect()
}

fn trace(cell: &str, key: usize) -> Trace {
    Trace { cell: cell.to_owned(), artifact: digest(key) }
}

fn head() -> Head {
    let setting = |name: &str, value: &str, note: &str| Setting {
        name: name.to_owned(),
        value: value.to_owned(),
        note: (!note.is_empty()).then(|| note.to_owned()),
    };
    Head {
        title: "Which annotation sources help?".into(),
        scale: Some("quick".into()),
        dataset: Some("chest phantom, lungs, 96 × 96 px".into()),
        facts: vec![
            Fact { name: "Cases".into(), value: "160 train, 16 val, 64 test".into() },
            Fact { name: "Seeds".into(), value: "0, 1, 2".into() },
        ],
        sentence: Some(
            "Five sources give a Dice of 90.2 ± 0.4 % on the test set, 4.6 points more than the majority vote; every \
             source that is added helps, as in the paper. (All numbers on this page are made up.)"
                .into(),
        ),
        settings: vec![
            setting("train.batch", "8", "the paper does not say"),
            setting("train.epochs", "30", "the paper does not say; its scale needs about 100"),
            setting("auem.head_bias", "-2.0", "starts with little uncertainty, so that the quality gate can open"),
            setting("qam.u_a_domain", "all_pixels", "Eq. 6 as printed"),
            setting("score.empty_masks", "perfect / worst", ""),
        ],
        warnings: vec![Warning {
            title: "primary head never trained in run “UMA-Net, {1, 2}”, seed 1".into(),
            detail: Some(
                "No case was of high quality in any epoch (u_a stayed above 0.2), so its scores are those of an \
                 untrained head and its row is left out of the means."
                    .into(),
            ),
        }],
    }
}

fn results() -> ResultTable {
    let metric = |name: &str, unit: &str, better, decimals| Metric {
        name: name.to_owned(),
        unit: unit.to_owned(),
        better,
        decimals,
    };
    let uses = |ids: &[usize]| (1..=5).map(|id| ids.contains(&id)).collect();
    let rows = [
        ("UMA-Net, {1, 2}", uses(&[1, 2]), 77.1, Some(76.42), false),
        ("UMA-Net, {1, 2, 3}", uses(&[1, 2, 3]), 86.2, Some(84.61), false),
        ("UMA-Net, {1–4}", uses(&[1, 2, 3, 4]), 88.9, Some(88.07), false),
        ("UMA-Net, {1–5}", uses(&[1, 2, 3, 4, 5]), 90.2, Some(91.28), false),
        ("UMA-Net, {1, 3}", uses(&[1, 3]), 80.4, Some(84.99), false),
        ("UMA-Net, {1, 4}", uses(&[1, 4]), 80.9, Some(79.51), false),
        ("UNet on the vote", uses(&[1, 2, 3, 4, 5]), 85.6, None, false),
        ("UNet on clean labels", Vec::new(), 97.0, None, true),
    ];
    ResultTable {
        title: "Lungs, high noise, test set".into(),
        caption: "64 cases; empty masks count as perfect when both are empty and as the image diagonal when one is.".into(),
        paper: Some("arXiv 2304.00466v2, Table I (values here are made up)".into()),
        sources: SOURCES.map(str::to_owned).to_vec(),
        metrics: vec![
            metric("Dice", "%", Better::Higher, 2),
            metric("Jaccard per case", "%", Better::Higher, 2),
            metric("Jaccard from mean Dice", "%", Better::Higher, 2),
            metric("ASD", "px", Better::Lower, 2),
            metric("95HD", "px", Better::Lower, 2),
        ],
        rows: rows.into_iter().enumerate().map(|(index, row)| result_row(index, row)).collect(),
        remarks: vec!["Each source that is added to {1, 2} raises the Dice, as in the paper.".into()],
        traces: Vec::new(),
    }
}

fn result_row(
    index: usize,
    (label, uses, dice, paper, reference): (&str, Vec<bool>, f64, Option<f64>, bool),
) -> ResultRow {
    let jaccard = |dice: f64| 100.0 * dice / (200.0 - dice);
    let run = |seed: usize| {
        let dice = dice + 1.4 * (noise_at([index, seed, 1]) - 0.5);
        let distance = (100.0 - dice) * 0.19 * SIDE as f64 / 100.0;
        let failed = index == 0 && seed == 1;
        let values = [dice, jaccard(dice) + 0.3, jaccard(dice), distance, distance * 2.7];
        SeedRun {
            seed: seed as u64,
            n_cases: Some(64),
            values: values.map(|value| (!failed).then_some(value)).to_vec(),
            trace: Some(trace(&format!("score/{index}/seed-{seed}"), 100 + 3 * index + seed)),
        }
    };
    ResultRow {
        label: label.to_owned(),
        uses,
        reference,
        note: reference.then(|| "upper bound, sees the truth".to_owned()),
        paper: match paper {
            Some(dice) => {
                vec![Some(dice), None, Some(jaccard(dice)), Some((100.0 - dice) * 1.1), None]
            }
            None => Vec::new(),
        },
        runs: (0..if reference { 1 } else { 3 }).map(run).collect(),
    }
}

/// Lines of three seeds that go from `start` to `end` with some unrest.
fn series(label: &str, key: usize, start: f64, end: f64, unrest: f64) -> Series {
    let value = |seed: usize, epoch: usize| {
        let share = 1.0 - (-(epoch as f64) / (7.0 + seed as f64)).exp();
        start + (end - start) * share + unrest * (noise_at([key, seed, epoch]) - 0.5)
    };
    let line = |seed: usize| Line {
        seed: Some(seed as u64),
        points: (1..=30).map(|epoch| [epoch as f64, value(seed, epoch)]).collect(),
    };
    Series { label: label.to_owned(), lines: (0..3).map(line).collect() }
}

fn losses() -> CurveFigure {
    let runs = |ends: [f64; 3], start: f64, unrest: f64, key: usize| {
        let labels = ["UMA-Net, {1–5}", "UMA-Net, {1, 2}", "UNet on the vote"];
        let entry =
            |(index, label): (usize, &&str)| series(label, key + index, start, ends[index], unrest);
        labels.iter().enumerate().map(entry).collect::<Vec<_>>()
    };
    let panel = |title: &str, series: Vec<Series>| Panel {
        title: title.to_owned(),
        series,
        ..Panel::default()
    };
    let mut gate = runs([0.86, 0.0, 0.0], 0.0, 0.0, 60);
    gate.truncate(2);
    CurveFigure {
        title: "Training of three runs".into(),
        caption: "Validation Dice is taken against the vote, which training sees, and against the truth, which it does not.".into(),
        x_label: "epoch".into(),
        panels: vec![
            Panel { y_scale: AxisScale::Log, ..panel("Loss, weighted cross-entropy", runs([0.06, 0.19, 0.11], 0.9, 0.02, 20)) },
            panel("Validation Dice against the vote", runs([0.91, 0.79, 0.9], 0.4, 0.03, 30)),
            Panel {
                rules: vec![Rule { label: "vote itself".into(), y: 0.846 }],
                ..panel("Validation Dice against the truth", runs([0.9, 0.77, 0.856], 0.4, 0.04, 40))
            },
            Panel { y_range: Some([0.0, 1.0]), ..panel("Share of high-quality cases", gate) },
        ],
        traces: vec![trace("train/1-5/seed-0", 900), trace("train/1-2/seed-0", 901), trace("train/vote/seed-0", 902)],
    }
}

fn uncertainty() -> CurveFigure {
    let ends = [0.21, 0.34, 0.12, 0.18, 0.29];
    let entry =
        |(index, source): (usize, &&str)| series(source, 80 + index, 0.45, ends[index], 0.02);
    CurveFigure {
        title: "Mean uncertainty of each source, UMA-Net, {1–5}".into(),
        caption: "Mean of σ over all training pixels.".into(),
        x_label: "epoch".into(),
        panels: vec![Panel {
            title: "Mean uncertainty".into(),
            y_label: "σ".into(),
            y_range: Some([0.0, 0.5]),
            series: SOURCES.iter().enumerate().map(entry).collect(),
            ..Panel::default()
        }],
        traces: vec![trace("train/1-5/seed-0", 900)],
    }
}

fn noise() -> NoiseTable {
    let strengths = [
        (12.6, "radius, px"),
        (16.0, "shift, px"),
        (111.0, "side, px"),
        (5.3, "points"),
        (0.875, "probability"),
    ];
    let achieved = |index: usize, centre: f64| {
        let bell =
            |case: usize| (0..4).map(|part| noise_at([index, case, part]) - 0.5).sum::<f64>() / 4.0;
        Spread::of((0..160).map(|case| centre + 0.35 * bell(case)).collect())
    };
    let row = |(index, source): (usize, &&str)| NoiseRow {
        source: (*source).to_owned(),
        target: Some(0.7),
        achieved: achieved(index, [0.701, 0.698, 0.7, 0.703, 0.666][index]),
        strength: Some(strengths[index].0),
        strength_name: strengths[index].1.to_owned(),
        evaluations: Some(7 + index as u32),
    };
    NoiseTable {
        title: "High noise, training split".into(),
        caption: "Dice of the simulated masks against the clean ones.".into(),
        rows: SOURCES.iter().enumerate().map(row).collect(),
        vote: Some(achieved(9, 0.846)),
        traces: vec![trace("calibrate/high", 950)],
    }
}

/// Whether a place lies in one of two lungs whose middle is moved and whose radii are changed.
fn in_lungs(row: f64, column: f64, moved: f64, grown: f64) -> bool {
    let lung = |middle: f64| {
        let x = (column - middle - moved) / (13.0 + grown);
        let y = (row - 50.0) / (27.0 + grown);
        x * x + y * y + 0.25 * x * y <= 1.0
    };
    lung(30.0) || lung(66.0)
}

fn mask(inside: impl Fn(usize, usize) -> bool) -> MaskPicture {
    let values = (0..SIDE * SIDE).map(|index| inside(index / SIDE, index % SIDE)).collect();
    MaskPicture { rows: SIDE, columns: SIDE, values }
}

fn picture(value: impl Fn(usize, usize) -> f64) -> Picture {
    let values = (0..SIDE * SIDE).map(|index| value(index / SIDE, index % SIDE) as f32).collect();
    Picture { rows: SIDE, columns: SIDE, values }
}

fn lungs(moved: f64, grown: f64) -> MaskPicture {
    mask(|row, column| in_lungs(row as f64, column as f64, moved, grown))
}

/// The annotation of a source; `strength` from 0 on.
fn annotation(source: usize, strength: f64, key: usize) -> MaskPicture {
    match source {
        0 => lungs(0.0, -6.0 * strength),
        1 => lungs(8.0 * strength, 0.0),
        2 => mask(|row, column| {
            let hit = row.abs_diff(40 + key) < (14.0 * strength) as usize
                && column.abs_diff(48) < (20.0 * strength) as usize;
            in_lungs(row as f64, column as f64, 0.0, 0.0) != hit
        }),
        3 => mask(|row, column| {
            let (x, y) = (((column as f64 / 48.0).fract() - 0.62).abs(), (row as f64 - 50.0).abs());
            x * 48.0 / 14.0 + y / 28.0 < 1.3 - 0.2 * strength
        }),
        _ => mask(|row, column| {
            in_lungs(row as f64, column as f64, 0.0, 0.0) && (strength < 0.5 || column < 48)
        }),
    }
}

fn gallery() -> Gallery {
    let cases = [
        ("phantom-0012", Quality::High, 0.4, 0.143, 0.032),
        ("phantom-0077", Quality::High, 0.6, 0.181, 0.041),
        ("phantom-0031", Quality::Low, 1.2, 0.342, 0.096),
    ];
    Gallery {
        title: "Annotations, uncertainty, calibration and prediction, UMA-Net, {1–5}, seed 0"
            .into(),
        caption: "Test cases; the truth is shown with every contour.".into(),
        thresholds: Some([0.2, 0.2]),
        cases: cases.into_iter().enumerate().map(|(key, case)| gallery_case(key, case)).collect(),
        traces: vec![trace("assess/1-5/seed-0", 960), trace("predict/1-5/seed-0", 961)],
        ..Gallery::default()
    }
}

fn gallery_case(
    key: usize,
    (id, quality, strength, u_a, u_b): (&str, Quality, f64, f64, f64),
) -> GalleryCase {
    let truth = lungs(0.0, 0.0);
    let annotations: Vec<MaskPicture> =
        (0..SOURCES.len()).map(|source| annotation(source, strength, key)).collect();
    let differs = |source: usize, row: usize, column: usize| {
        let index = row * SIDE + column;
        annotations[source].values[index] != truth.values[index]
    };
    let sigma = |source: usize, row: usize, column: usize| {
        let (rows, columns) = (
            row.saturating_sub(2)..(row + 3).min(SIDE),
            column.saturating_sub(2)..(column + 3).min(SIDE),
        );
        let near = rows.flat_map(|row| columns.clone().map(move |column| (row, column)));
        let found = near.filter(|&(row, column)| differs(source, row, column)).count();
        (0.03 + 0.85 * found as f64 / 25.0 + 0.05 * noise_at([key, row, column])).min(1.0)
    };
    let calibration = |source: usize, row: usize, column: usize| {
        let inside = f64::from(u8::from(annotations[source].values[row * SIDE + column]));
        (inside - sigma(source, row, column)).abs()
    };
    let map = |value: &dyn Fn(usize, usize, usize) -> f64| {
        let entry = |(source, name): (usize, &&str)| CaseMap {
            source: (*name).to_owned(),
            map: picture(|row, column| value(source, row, column)),
        };
        SOURCES.iter().enumerate().map(entry).collect::<Vec<_>>()
    };
    let mean =
        |row, column| (0..5).map(|source| calibration(source, row, column)).sum::<f64>() / 5.0;
    GalleryCase {
        id: id.to_owned(),
        quality: Some(quality),
        u_a: Some(u_a),
        u_b: Some(u_b),
        image: picture(|row, column| shade(key, row, column)),
        uncertainty: map(&sigma),
        calibration: map(&calibration),
        consensus: Some(picture(mean)),
        prediction: Some(lungs(0.5 + 2.0 * (strength - 0.5), 0.7)),
        dice: Some(0.97 - 0.06 * strength),
        annotations: annotations
            .iter()
            .zip(SOURCES)
            .map(|(mask, source)| CaseMask {
                source: source.to_owned(),
                dice: Some(dice(mask, &truth)),
                mask: mask.clone(),
            })
            .collect(),
        truth: Some(truth),
        ..GalleryCase::default()
    }
}

fn dice(first: &MaskPicture, second: &MaskPicture) -> f64 {
    let count = |mask: &MaskPicture| mask.values.iter().filter(|&&inside| inside).count() as f64;
    let both = first
        .values
        .iter()
        .zip(&second.values)
        .filter(|&(&first, &second)| first && second)
        .count();
    2.0 * both as f64 / (count(first) + count(second))
}

/// Grey of a made-up chest film.
fn shade(key: usize, row: usize, column: usize) -> f64 {
    let (y, x) = (row as f64, column as f64);
    let body = 1.0 - ((x - 48.0) / 52.0).powi(4) - 0.3 * ((y - 60.0) / 60.0).powi(2);
    let ribs = 0.05 * ((y + 0.004 * (x - 48.0).powi(2)) / 3.2).sin();
    let lungs = if in_lungs(y, x, 0.0, 0.0) { -0.45 } else { 0.0 };
    let heart =
        if ((x - 52.0) / 13.0).powi(2) + ((y - 62.0) / 14.0).powi(2) < 1.0 { 0.2 } else { 0.0 };
    body + ribs + lungs + heart + 0.12 * (noise_at([key + 50, row, column]) - 0.5)
}

fn cells() -> Vec<CellRecord> {
    let cell = |name: &str, stage: &str, port: &str, key: usize| CellRecord {
        name: name.to_owned(),
        stage: stage.to_owned(),
        key: Some(digest(key + 5000)),
        outputs: vec![CellOutput { port: port.to_owned(), artifact: digest(key) }],
    };
    vec![
        cell("calibrate/high", "noise.calibrate v1", "strength", 950),
        cell("train/1-5/seed-0", "train.uma v1", "weights", 900),
        cell("train/1-2/seed-0", "train.uma v1", "weights", 901),
        cell("train/vote/seed-0", "train.unet v1", "weights", 902),
        cell("assess/1-5/seed-0", "assess.uma v1", "maps", 960),
        cell("predict/1-5/seed-0", "predict v1", "labels", 961),
        cell("score/0/seed-0", "score v1", "scores", 100),
    ]
}
