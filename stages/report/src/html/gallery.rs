//! Pictures of cases, grouped by the quality of their annotations (after Fig. 7 of arXiv 2304.00466v2).

use serde::Serialize;

use super::{Links, Numbering, TraceView};
use crate::data::{CaseMap, Gallery, GalleryCase, MaskPicture, Picture, Plane, Quality};
use crate::error::ReportError;
use crate::overlay::{ColourMap, contour_path, grey_png, legend_png, map_png, shrink_mask};
use crate::text::{compact, number};

/// A gallery as the template reads it.
#[derive(Serialize)]
pub(super) struct GalleryView<'a> {
    number: usize,
    title: &'a str,
    caption: &'a str,
    thresholds: Option<[String; 2]>,
    bars: Vec<BarView>,
    groups: Vec<GroupView<'a>>,
    traces: Vec<TraceView<'a>>,
}

#[derive(Serialize)]
struct BarView {
    label: &'static str,
    uri: String,
    ticks: [String; 3],
}

#[derive(Serialize)]
struct GroupView<'a> {
    title: &'static str,
    sign: &'static str,
    class: &'static str,
    cases: Vec<CaseView<'a>>,
}

#[derive(Serialize)]
struct CaseView<'a> {
    id: &'a str,
    place: Option<&'a str>,
    u_a: Option<String>,
    u_b: Option<String>,
    dice: Option<String>,
    image_id: String,
    main: Vec<Tile>,
    sources: Vec<&'a str>,
    matrix: Vec<MatrixRow>,
}

#[derive(Serialize)]
struct MatrixRow {
    title: &'static str,
    tiles: Vec<Option<Tile>>,
}

/// One small picture: a PNG of its own, or the case's image with contours over it.
#[derive(Serialize)]
struct Tile {
    label: String,
    alt: String,
    note: Option<String>,
    columns: usize,
    rows: usize,
    uri: Option<String>,
    /// Whether the picture is the case's image, to which the others refer.
    defines: bool,
    contours: Vec<Contour>,
}

#[derive(Clone, Serialize)]
struct Contour {
    class: &'static str,
    path: String,
}

impl<'a> GalleryView<'a> {
    pub(super) fn new(
        gallery: &'a Gallery,
        numbering: &mut Numbering,
        links: &Links<'_>,
    ) -> Result<Self, ReportError> {
        let number = numbering.figure();
        let groups = [
            (Some(Quality::High), "High-quality annotations", "✓", "high"),
            (Some(Quality::Low), "Low-quality annotations", "✕", "low"),
            (None, "Not assessed", "", "none"),
        ];
        let mut views = Vec::new();
        for (quality, title, sign, class) in groups {
            let cases =
                gallery.cases.iter().enumerate().filter(|(_, case)| case.quality == quality);
            let cases: Vec<_> = cases
                .map(|(index, case)| {
                    CaseBuilder { gallery, case, image_id: format!("f{number}-{index}") }.view()
                })
                .collect::<Result<_, _>>()?;
            if !cases.is_empty() {
                views.push(GroupView { title, sign, class, cases });
            }
        }
        Ok(Self {
            number,
            title: &gallery.title,
            caption: &gallery.caption,
            thresholds: gallery.thresholds.map(|pair| pair.map(|value| compact(Some(value)))),
            bars: bars(gallery)?,
            groups: views,
            traces: links.traces(gallery.traces.iter()),
        })
    }
}

/// Legend bars of the colour maps that the cases use.
fn bars(gallery: &Gallery) -> Result<Vec<BarView>, ReportError> {
    let mut bars = Vec::new();
    if gallery.cases.iter().any(|case| !case.uncertainty.is_empty()) {
        bars.push(bar("Uncertainty σ", ColourMap::Inferno, gallery.uncertainty_range)?);
    }
    if gallery.cases.iter().any(|case| !case.calibration.is_empty() || case.consensus.is_some()) {
        bars.push(bar("Calibration s, consensus s*", ColourMap::Viridis, [0.0, 1.0])?);
    }
    Ok(bars)
}

fn bar(
    label: &'static str,
    colours: ColourMap,
    [low, high]: [f32; 2],
) -> Result<BarView, ReportError> {
    let ticks = [low, (low + high) / 2.0, high].map(|value| compact(Some(f64::from(value))));
    Ok(BarView { label, uri: legend_png(colours)?, ticks })
}

/// Builds the view of one case.
struct CaseBuilder<'a> {
    gallery: &'a Gallery,
    case: &'a GalleryCase,
    image_id: String,
}

impl<'a> CaseBuilder<'a> {
    fn view(self) -> Result<CaseView<'a>, ReportError> {
        let case = self.case;
        let sources = sources(case);
        let [threshold_a, threshold_b] = match self.gallery.thresholds {
            Some(pair) => pair.map(Some),
            None => [None, None],
        };
        Ok(CaseView {
            main: self.main()?,
            matrix: self.matrix(&sources)?,
            id: &case.id,
            place: case.place.as_deref(),
            u_a: case.u_a.map(|value| against(value, threshold_a)),
            u_b: case.u_b.map(|value| against(value, threshold_b)),
            dice: case.dice.map(|dice| number(Some(dice), 3)),
            sources,
            image_id: self.image_id,
        })
    }

    /// Image, truth, consensus and prediction.
    fn main(&self) -> Result<Vec<Tile>, ReportError> {
        let case = self.case;
        let uri = grey_png(&case.image, &self.name("image"))?;
        let mut tiles =
            vec![Tile { uri: Some(uri), defines: true, ..self.tile("Image", Vec::new()) }];
        let truth = self.truth()?;
        if !truth.is_empty() {
            tiles.push(self.tile("Truth", truth.clone()));
        }
        if let Some(map) = &case.consensus {
            tiles.push(self.map_tile("Consensus s*", map, ColourMap::Viridis, [0.0, 1.0])?);
        }
        if let Some(mask) = &case.prediction {
            let label = if truth.is_empty() { "Prediction" } else { "Prediction and truth" };
            let contour = self.contour("prediction", "prediction", mask)?;
            tiles.push(self.tile(label, truth.into_iter().chain([contour]).collect()));
        }
        Ok(tiles)
    }

    /// Annotation, uncertainty and calibration by source; rows without any picture are left out.
    fn matrix(&self, sources: &[&str]) -> Result<Vec<MatrixRow>, ReportError> {
        let case = self.case;
        let annotations =
            sources.iter().map(|source| self.annotation(source)).collect::<Result<_, _>>()?;
        let range = self.gallery.uncertainty_range;
        let rows = vec![
            MatrixRow { title: "Annotation", tiles: annotations },
            self.map_row("Uncertainty σ", sources, &case.uncertainty, ColourMap::Inferno, range)?,
            self.map_row(
                "Calibration s",
                sources,
                &case.calibration,
                ColourMap::Viridis,
                [0.0, 1.0],
            )?,
        ];
        Ok(rows.into_iter().filter(|row| row.tiles.iter().any(Option::is_some)).collect())
    }

    fn annotation(&self, source: &str) -> Result<Option<Tile>, ReportError> {
        let Some(found) = self.case.annotations.iter().find(|found| found.source == source) else {
            return Ok(None);
        };
        let contour =
            self.contour("annotation", &format!("annotation of `{source}`"), &found.mask)?;
        let contours = self.truth()?.into_iter().chain([contour]).collect();
        let note = found.dice.map(|dice| format!("Dice {}", number(Some(dice), 3)));
        let label = format!("Annotation of {source}");
        Ok(Some(Tile { note, ..self.tile(&label, contours) }))
    }

    fn map_row(
        &self,
        title: &'static str,
        sources: &[&str],
        maps: &[CaseMap],
        colours: ColourMap,
        range: [f32; 2],
    ) -> Result<MatrixRow, ReportError> {
        let tile = |source: &&str| {
            let found = maps.iter().find(|map| map.source == **source);
            found
                .map(|found| {
                    self.map_tile(&format!("{title} of {source}"), &found.map, colours, range)
                })
                .transpose()
        };
        Ok(MatrixRow { title, tiles: sources.iter().map(tile).collect::<Result<_, _>>()? })
    }

    /// The contour of the truth, if there is one.
    fn truth(&self) -> Result<Vec<Contour>, ReportError> {
        self.case.truth.iter().map(|mask| self.contour("truth", "truth", mask)).collect()
    }

    fn contour(
        &self,
        class: &'static str,
        what: &str,
        mask: &MaskPicture,
    ) -> Result<Contour, ReportError> {
        self.fits(what, mask)?;
        Ok(Contour { class, path: contour_path(&shrink_mask(mask)) })
    }

    fn map_tile(
        &self,
        label: &str,
        map: &Picture,
        colours: ColourMap,
        range: [f32; 2],
    ) -> Result<Tile, ReportError> {
        self.fits(label, map)?;
        let uri = map_png(map, colours, range, &self.name(label))?;
        Ok(Tile { uri: Some(uri), ..self.tile(label, Vec::new()) })
    }

    /// Refuses a picture that does not fill its shape or does not lie on the image's grid.
    fn fits<T>(&self, what: &str, picture: &Plane<T>) -> Result<(), ReportError> {
        picture.check(&self.name(what))?;
        if picture.shape() == self.case.image.shape() {
            return Ok(());
        }
        Err(ReportError::ShapeMismatch {
            case: self.case.id.clone(),
            what: what.to_owned(),
            expected: self.case.image.shape(),
            found: picture.shape(),
        })
    }

    /// A tile over the case's image.
    fn tile(&self, label: &str, contours: Vec<Contour>) -> Tile {
        let factor = self.case.image.factor();
        Tile {
            label: label.to_owned(),
            alt: format!("{label}, case {}", self.case.id),
            note: None,
            columns: self.case.image.columns.div_ceil(factor),
            rows: self.case.image.rows.div_ceil(factor),
            uri: None,
            defines: false,
            contours,
        }
    }

    fn name(&self, what: &str) -> String {
        format!("case `{}`: {what}", self.case.id)
    }
}

/// All sources of a case in order of their first appearance.
fn sources(case: &GalleryCase) -> Vec<&str> {
    let annotations = case.annotations.iter().map(|mask| mask.source.as_str());
    let maps = case.uncertainty.iter().chain(&case.calibration).map(|map| map.source.as_str());
    let mut found = Vec::new();
    for source in annotations.chain(maps) {
        if !found.contains(&source) {
            found.push(source);
        }
    }
    found
}

/// Writes an uncertainty with its threshold, such as `0.143 < 0.2`.
fn against(value: f64, threshold: Option<f64>) -> String {
    let shown = number(Some(value), 3);
    match threshold {
        Some(limit) if value < limit => format!("{shown} < {}", compact(threshold)),
        Some(limit) if value >= limit => format!("{shown} ≥ {}", compact(threshold)),
        _ => shown,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use crate::data::CaseMask;

    fn mask(values: [bool; 4]) -> MaskPicture {
        MaskPicture { rows: 2, columns: 2, values: values.to_vec() }
    }

    fn case(id: &str, quality: Option<Quality>) -> GalleryCase {
        let image = Picture { rows: 2, columns: 2, values: vec![0.0, 1.0, 2.0, 3.0] };
        GalleryCase {
            id: id.into(),
            quality,
            u_a: Some(0.1),
            u_b: Some(f64::NAN),
            truth: Some(mask([true, false, false, false])),
            prediction: Some(mask([true; 4])),
            annotations: vec![CaseMask {
                source: "shift".into(),
                mask: mask([false; 4]),
                dice: Some(0.5),
            }],
            uncertainty: vec![CaseMap { source: "erase".into(), map: image.clone() }],
            image,
            ..GalleryCase::default()
        }
    }

    fn view(gallery: &Gallery) -> Result<GalleryView<'_>, ReportError> {
        GalleryView::new(gallery, &mut Numbering::default(), &Links::new(&[]))
    }

    #[test]
    fn cases_are_grouped_by_quality() {
        let cases =
            vec![case("a", None), case("b", Some(Quality::Low)), case("c", Some(Quality::High))];
        let gallery = Gallery { cases, thresholds: Some([0.2, 0.2]), ..Gallery::default() };
        let view = view(&gallery).unwrap();
        let ids: Vec<_> =
            view.groups.iter().map(|group| (group.class, group.cases[0].id)).collect();
        assert_eq!(ids, [("high", "c"), ("low", "b"), ("none", "a")]);
        let first = &view.groups[0].cases[0];
        assert_eq!((first.u_a.as_deref(), first.u_b.as_deref()), (Some("0.100 < 0.2"), Some("–")));
        assert_eq!(view.bars.len(), 1);
    }

    #[test]
    fn tiles_share_the_image_and_leave_gaps() {
        let gallery = Gallery { cases: vec![case("a", None)], ..Gallery::default() };
        let view = view(&gallery).unwrap();
        let case = &view.groups[0].cases[0];
        let labels: Vec<_> = case.main.iter().map(|tile| tile.label.as_str()).collect();
        assert_eq!(labels, ["Image", "Truth", "Prediction and truth"]);
        assert!(case.main[0].defines && case.main[1].uri.is_none());
        assert_eq!(case.main[1].contours[0].path, "M0 0h1v1h-1v-1z");
        assert_eq!(case.sources, ["shift", "erase"]);
        let rows: Vec<_> =
            case.matrix.iter().map(|row| (row.title, row.tiles[0].is_some())).collect();
        assert_eq!(rows, [("Annotation", true), ("Uncertainty σ", false)]);
    }

    #[test]
    fn pictures_off_the_image_grid_are_refused() {
        let mut broken = case("duke-7", None);
        broken.truth = Some(MaskPicture { rows: 1, columns: 2, values: vec![true, false] });
        let gallery = Gallery { cases: vec![broken], ..Gallery::default() };
        assert_eq!(
            view(&gallery).err().unwrap().to_string(),
            "case `duke-7`: truth differs from the image in shape [row, column]: [1, 2], expected [2, 2]"
        );
    }
}
