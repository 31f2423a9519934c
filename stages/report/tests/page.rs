//! The whole page: well formed, escaped, without requests, the same bytes every time.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may fail loudly")]

#[path = "../examples/demo/data.rs"]
mod data;

use report::{
    CurveFigure, Gallery, GalleryCase, Head, Metric, NoiseRow, NoiseTable, Panel, Picture,
    ReportData, ResultRow, ResultTable, SeedRun, Series, Spread, Trace, Warning, render,
};

/// Elements that HTML closes by itself.
const VOID: [&str; 3] = ["meta", "img", "link"];

/// Refuses tags that do not close in order, attributes without quotes, and twice the same id.
fn check_well_formed(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page;
    while let Some(start) = rest.find('<') {
        assert!(!rest[..start].contains('>'), "stray `>` in {:?}", &rest[..start.min(80)]);
        let end = start + rest[start..].find('>').unwrap();
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "closed in the wrong order");
        } else if !tag.starts_with('!') && !tag.ends_with('/') {
            let name = tag.split_whitespace().next().unwrap();
            assert_eq!(tag.matches('"').count() % 2, 0, "quotes in {tag:?}");
            if name == "style" {
                rest = &rest[rest.find("</style>").unwrap()..];
            }
            if !VOID.contains(&name) {
                open.push(name);
            }
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
    let ids: Vec<&str> =
        page.split(" id=\"").skip(1).map(|part| part.split('"').next().unwrap()).collect();
    let mut unique = ids.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), ids.len(), "ids are not unique");
    for target in page.split("href=\"#").skip(1).map(|part| part.split('"').next().unwrap()) {
        assert!(ids.contains(&target), "link to nowhere: {target}");
    }
}

fn check_no_requests(page: &str) {
    for part in ["http://", "https://", "<script", "url(", "@import", "<link", "<iframe"] {
        assert!(!page.contains(part), "{part}");
    }
    for reference in page.split(" src=\"").skip(1).chain(page.split(" href=\"").skip(1)) {
        assert!(reference.starts_with("data:image/png;base64,") || reference.starts_with('#'));
    }
}

#[test]
fn full_page_is_well_formed_and_self_contained() {
    let page = render(&data::demo()).unwrap();
    check_well_formed(&page);
    check_no_requests(&page);
    assert_eq!(page, render(&data::demo()).unwrap());
    for part in [
        "▲ best",
        "± n&#x2f;a",
        "u<sub>a</sub> 0.143 &lt; 0.2",
        "primary head never trained",
        "Figure 4.",
    ] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn every_table_and_figure_names_its_artifact() {
    let page = render(&data::demo()).unwrap();
    let trace = &data::demo().noise[0].traces[0];
    assert!(page.contains(&format!(
        "<code>{}</code></a>, cell <code>calibrate&#x2f;high</code>",
        &trace.artifact[..12]
    )));
    assert!(page.contains(&format!("<dd><code>{}</code></dd>", trace.artifact)));
    assert_eq!(page.matches("class=\"source\"").count(), 5);
}

#[test]
fn tables_and_pictures_are_accessible() {
    let page = render(&data::demo()).unwrap();
    assert!(
        page.split("<th")
            .skip(1)
            .all(|tag| tag.starts_with("ead") || tag.split('>').next().unwrap().contains("scope="))
    );
    assert!(
        page.split("<img").skip(1).all(|tag| tag.split('>').next().unwrap().contains("alt=\""))
    );
    let named = |tag: &str| tag.contains("aria-label=\"") || tag.contains("aria-hidden=\"true\"");
    assert!(page.split("<svg").skip(1).all(|tag| named(tag.split('>').next().unwrap())));
    let tables = page.matches("<table").count();
    let matrices = page.matches("class=\"matrix\"").count();
    assert_eq!(page.matches("<caption>").count() + matrices, tables);
}

#[test]
fn empty_report_is_a_page() {
    let page = render(&ReportData::default()).unwrap();
    check_well_formed(&page);
    assert!(page.contains("<h1>Report</h1>") && !page.contains("<section"));
}

/// A report in which every text is `text`.
fn everywhere(text: &str) -> ReportData {
    let trace = || Trace { cell: text.into(), artifact: text.into() };
    let image = Picture { rows: 1, columns: 1, values: vec![f32::NAN] };
    let series = Series { label: text.into(), lines: Vec::new() };
    let run = SeedRun { values: vec![Some(1.0)], trace: Some(trace()), ..SeedRun::default() };
    ReportData {
        head: Head {
            title: text.into(),
            scale: Some(text.into()),
            dataset: Some(text.into()),
            sentence: Some(text.into()),
            warnings: vec![Warning { title: text.into(), detail: Some(text.into()) }],
            ..Head::default()
        },
        results: vec![ResultTable {
            title: text.into(),
            caption: text.into(),
            paper: Some(text.into()),
            sources: vec![text.into()],
            metrics: vec![Metric { name: text.into(), unit: text.into(), ..Metric::default() }],
            rows: vec![ResultRow {
                label: text.into(),
                note: Some(text.into()),
                runs: vec![run],
                ..ResultRow::default()
            }],
            remarks: vec![text.into()],
            traces: vec![trace()],
        }],
        curves: vec![CurveFigure {
            title: text.into(),
            x_label: text.into(),
            panels: vec![Panel {
                title: text.into(),
                y_label: text.into(),
                series: vec![series],
                ..Panel::default()
            }],
            ..CurveFigure::default()
        }],
        noise: vec![NoiseTable {
            rows: vec![NoiseRow { source: text.into(), ..NoiseRow::default() }],
            ..NoiseTable::default()
        }],
        galleries: vec![Gallery {
            cases: vec![GalleryCase {
                id: text.into(),
                place: Some(text.into()),
                image,
                ..GalleryCase::default()
            }],
            ..Gallery::default()
        }],
        cells: Vec::new(),
        resolved_toml: Some(text.into()),
    }
}

#[test]
fn text_never_becomes_markup() {
    for text in [
        "<script>alert(1)</script>",
        "\" onload=\"x",
        "a & b 'c'",
        "{{ 7 * 6 }}{% raw %}",
        "https://example.org",
    ] {
        let page = render(&everywhere(text)).unwrap();
        check_well_formed(&page);
        check_no_requests(&page);
        assert!(!page.contains("<script") && !page.contains("\" onload=") && !page.contains(">42"));
    }
}

#[test]
fn absent_and_broken_numbers_are_dashes() {
    let run = |value| SeedRun { values: vec![value], ..SeedRun::default() };
    let row = ResultRow {
        label: "a".into(),
        runs: vec![run(Some(f64::NAN)), run(None)],
        ..ResultRow::default()
    };
    let vote = Spread { mean: Some(f64::NAN), sd: Some(f64::NAN), n: 0, ..Spread::default() };
    let data = ReportData {
        results: vec![ResultTable {
            metrics: vec![Metric::default()],
            rows: vec![row],
            ..ResultTable::default()
        }],
        noise: vec![NoiseTable { vote: Some(vote), ..NoiseTable::default() }],
        curves: vec![CurveFigure::default()],
        galleries: vec![Gallery::default()],
        ..ReportData::default()
    };
    let page = render(&data).unwrap();
    check_well_formed(&page);
    assert!(page.contains("<td class=\"score\">–<span class=\"under\">n = 0</span></td>"));
    assert!(!page.contains("NaN"));
}

#[test]
fn data_survives_json() {
    let demo = data::demo();
    let text = serde_json::to_string(&demo).unwrap();
    let back: ReportData = serde_json::from_str(&text).unwrap();
    assert_eq!(render(&back).unwrap(), render(&demo).unwrap());
}
