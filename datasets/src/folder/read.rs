//! Reads the files of a case into images and masks, and notes what is wrong with them.

use std::{collections::BTreeMap, path::Path};

use super::{
    Action, Entry, Finding, FindingCode, LabelFile, LabelValues, SourceFile,
    check::{self, Values},
    ending, series,
};
use crate::{
    CaseImage, CaseLabel, DatasetsError, Grid, Image, Mask, SourceKind, Spacing, Split,
    dicom::{Numbering, Series},
    raster::{self, Model, Raster, read_raster},
    volume::{self, Affine, read_frames, read_volume},
};

/// How the cases of a data set are read.
#[derive(Clone, Debug)]
pub struct ReadOptions<'a> {
    /// Name of the data set.
    pub dataset: &'a str,
    /// The structures by name.
    pub structures: &'a BTreeMap<String, LabelValues>,
    /// Pairs of structures of which the first must lie within the second.
    pub nested: &'a [[String; 2]],
    /// Distance between the pixels of pictures, which do not tell it.
    pub spacing: Option<Spacing>,
}

/// A case with what was noted about it.
#[derive(Clone, Debug, PartialEq)]
pub struct FolderCase {
    /// One image a channel with the channel's name; none when the case is dropped.
    pub channels: Vec<(String, CaseImage)>,
    /// Reference labels, source `truth`.
    pub truth: Vec<CaseLabel>,
    /// Labels of all raters.
    pub raters: Vec<CaseLabel>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Digest of all voxels of the image, to find it again under another name.
    pub digest: [u8; 32],
}

/// Whether a file holds more than one slice; `false` where it cannot be read.
pub fn has_slices(entry: &Entry) -> bool {
    let first = entry.images.first().and_then(|(_, file)| load_image(&file.path).ok());
    first.is_some_and(|loaded| loaded.channels[0].n_slices() > 1)
}

/// Reads a case.
///
/// Pictures of whole numbers without a sign become images in `[0, 1]`, opacity is left out, and volumes keep their
/// numbers. A case with a finding that drops it has no images and labels.
pub fn read_case(entry: &Entry, split: Split, options: &ReadOptions<'_>) -> FolderCase {
    let mut reader = Reader { entry, split, options, findings: Vec::new() };
    let read = reader.read();
    let is_dropped = reader.findings.iter().any(|found| found.code.action() == Action::Dropped);
    let (channels, truth, raters, digest) = read.filter(|_| !is_dropped).unwrap_or_default();
    FolderCase { channels, truth, raters, findings: reader.findings, digest }
}

type Parts = (Vec<(String, CaseImage)>, Vec<CaseLabel>, Vec<CaseLabel>, [u8; 32]);

struct Reader<'a> {
    entry: &'a Entry,
    split: Split,
    options: &'a ReadOptions<'a>,
    findings: Vec<Finding>,
}

/// A channel with its name.
type NamedImage = (String, Image);

/// Distance between voxels, and where they are if the file says so.
type Place = (Spacing, Option<Affine>);

/// A file in memory: its channels, and its place where the format tells it.
struct Loaded {
    channels: Vec<Image>,
    place: Option<Place>,
    /// How slices are numbered, where the format does that.
    numbering: Numbering,
    /// By what rule one channel was made of several.
    rule: Option<String>,
    /// What the format itself says about the image.
    notes: Vec<(FindingCode, String)>,
}

impl Loaded {
    /// Channels of which nothing else is known.
    fn plain(channels: Vec<Image>) -> Self {
        let numbering = Numbering::Unclear;
        Self { channels, place: None, numbering, rule: None, notes: Vec::new() }
    }
}

impl Reader<'_> {
    fn finding(
        &self,
        source: &str,
        code: FindingCode,
        file: &SourceFile,
        detail: String,
    ) -> Finding {
        Finding::new(&self.entry.id, source, code, file, detail)
    }

    fn note(&mut self, source: &str, code: FindingCode, file: &SourceFile, detail: String) {
        let finding = self.finding(source, code, file, detail);
        self.findings.push(finding);
    }

    fn read(&mut self) -> Option<Parts> {
        let entry = self.entry;
        let (channels, expected) = self.images()?;
        let place = expected.place;
        let spacing = place.map(|(spacing, _)| spacing).or(self.options.spacing);
        let spacing = spacing.unwrap_or_else(Spacing::unit);
        let affine = place.and_then(|(_, affine)| affine);
        let own = (spacing, affine);
        let truth = self.labels("truth", SourceKind::Truth, &entry.truth, &expected, own);
        let mut raters = Vec::new();
        for (source, files) in &entry.raters {
            raters.push(self.labels(source, SourceKind::Human, files, &expected, own));
        }
        self.compare(&truth, &raters);
        let digest = check::digest(channels.iter().map(|(_, image)| image));
        let case = |(name, image): NamedImage| {
            let case = CaseImage {
                id: entry.id.clone(),
                patient: entry.patient.clone(),
                dataset: self.options.dataset.to_owned(),
                split: self.split,
                image,
                spacing,
                affine,
            };
            (name, case)
        };
        let channels: Vec<_> = channels.into_iter().map(case).collect();
        Some((channels, truth, raters.concat(), digest))
    }

    /// The channels of all image files, checked against each other.
    fn images(&mut self) -> Option<(Vec<NamedImage>, Geometry)> {
        let mut channels: Vec<NamedImage> = Vec::new();
        let mut expected: Option<Geometry> = None;
        for (name, file) in &self.entry.images {
            let loaded = match load_image(&file.path) {
                Ok(loaded) => loaded,
                Err(error) => {
                    self.findings.push(series::refusal(&self.entry.id, "", file, &error));
                    continue;
                }
            };
            let found = Geometry::of(&loaded);
            for (code, detail) in loaded.notes {
                self.note("", code, file, detail);
            }
            match &expected {
                Some(expected) => self.compare_places("", file, expected, &found),
                None => expected = Some(found),
            }
            let is_alone = loaded.channels.len() == 1;
            for (n, image) in loaded.channels.into_iter().enumerate() {
                if let Some((code, detail)) = check::check_image(&image) {
                    self.note("", code, file, detail);
                }
                let name = if is_alone { name.clone() } else { format!("{name}{n}") };
                channels.push((name, image));
            }
        }
        expected.map(|expected| (channels, expected))
    }

    fn compare_places(
        &mut self,
        source: &str,
        file: &SourceFile,
        expected: &Geometry,
        found: &Geometry,
    ) {
        if expected.shape != found.shape {
            let (expected, found) = (expected.shape, found.shape);
            let detail = format!("shape [slice, row, column] = {found:?}: expected {expected:?}");
            self.note(source, FindingCode::ShapeMismatch, file, detail);
        } else if let Some(detail) = expected.differs(found) {
            self.note(source, FindingCode::GeometryMismatch, file, detail);
        }
    }

    /// The masks of one source.
    fn labels(
        &mut self,
        source: &str,
        kind: SourceKind,
        files: &[LabelFile],
        expected: &Geometry,
        (spacing, affine): Place,
    ) -> Vec<CaseLabel> {
        let mut labels = Vec::new();
        for LabelFile { structure, file, bounds } in files {
            let loaded = match bounds {
                None => load_label(&file.path)
                    .map_err(|error| series::refusal(&self.entry.id, source, file, &error)),
                Some(bounds) => match bounds.region(expected.shape, expected.numbering) {
                    Ok(region) => {
                        let off_side = affine.and_then(|affine| bounds.off_side(&region, &affine));
                        if let Some(detail) = off_side {
                            self.note(source, FindingCode::SideMismatch, file, detail);
                        }
                        Ok(Loaded::plain(vec![region.map(expected.shape)]))
                    }
                    Err((code, detail)) => Err(self.finding(source, code, file, detail)),
                },
            };
            let loaded = match loaded {
                Ok(loaded) => loaded,
                Err(finding) => {
                    self.findings.push(finding);
                    continue;
                }
            };
            self.compare_places(source, file, expected, &Geometry::of(&loaded));
            if let Some(rule) = loaded.rule {
                self.note(source, FindingCode::MaskNotSingleChannel, file, rule);
            }
            for (name, mask) in self.masks(source, structure.as_deref(), file, &loaded.channels[0])
            {
                self.check_mask(source, file, &name, &mask);
                labels.push(CaseLabel {
                    id: self.entry.id.clone(),
                    source: source.to_owned(),
                    kind,
                    structure: name,
                    split: self.split,
                    mask,
                    probability: None,
                    spacing,
                    affine,
                    params: None,
                });
            }
        }
        self.check_nested(source, files, &labels);
        labels
    }

    /// The structures of a label map; a file of one structure holds no other.
    fn masks(
        &mut self,
        source: &str,
        only: Option<&str>,
        file: &SourceFile,
        map: &Image,
    ) -> Vec<(String, Mask)> {
        let all = self.options.structures.iter();
        let own: BTreeMap<&str, &LabelValues> = all
            .filter(|(name, _)| only.is_none_or(|only| only == name.as_str()))
            .map(|(name, values)| (name.as_str(), values))
            .collect();
        let values = Values::of(map);
        if let Some(detail) = values.unexpected(own.values().copied()) {
            self.note(source, FindingCode::UnexpectedValues, file, detail);
        }
        own.into_iter().map(|(name, values)| (name.to_owned(), check::mask(map, values))).collect()
    }

    fn check_mask(&mut self, source: &str, file: &SourceFile, name: &str, mask: &Mask) {
        let (area, size) = (mask.area(), mask.values().len());
        let (code, detail) = if area == 0 {
            (FindingCode::EmptyMask, format!("structure `{name}` has no voxel"))
        } else if area == size {
            (FindingCode::FullMask, format!("structure `{name}` has all {size} voxels"))
        } else if 2 * area > size {
            let detail = format!("structure `{name}` has {area} of {size} voxels");
            (FindingCode::InvertedPolaritySuspect, detail)
        } else {
            return;
        };
        self.note(source, code, file, detail);
    }

    fn check_nested(&mut self, source: &str, files: &[LabelFile], labels: &[CaseLabel]) {
        let find = |name: &str| labels.iter().find(|label| label.structure == name);
        for [inner, outer] in self.options.nested {
            let (Some(inside), Some(outside)) = (find(inner), find(outer)) else { continue };
            let n_outside = check::count_outside(&inside.mask, &outside.mask);
            let of_inner = |label: &&LabelFile| label.structure.as_ref().is_none_or(|s| s == inner);
            if let (true, Some(LabelFile { file, .. })) =
                (n_outside > 0, files.iter().find(of_inner))
            {
                let detail = format!("{n_outside} voxels of `{inner}` lie outside `{outer}`");
                self.note(source, FindingCode::TopologyViolation, file, detail);
            }
        }
    }

    /// Notes raters that say the same as another or as the reference.
    fn compare(&mut self, truth: &[CaseLabel], raters: &[Vec<CaseLabel>]) {
        let entry = self.entry;
        for (n, labels) in raters.iter().enumerate() {
            let Some(source) = labels.first().map(|label| label.source.clone()) else { continue };
            let Some(LabelFile { file, .. }) = entry.raters[&source].first() else { continue };
            if check::are_same(labels, truth) {
                let detail = "all structures are those of the reference".to_owned();
                self.note(&source, FindingCode::RaterEqualsReference, file, detail);
            }
            let twin = raters[..n].iter().find(|others| check::are_same(labels, others));
            if let Some(other) = twin.and_then(|others| others.first()) {
                let detail = format!("all structures are those of `{}`", other.source);
                self.note(&source, FindingCode::RatersIdentical, file, detail);
            }
        }
    }
}

/// Shape, and the place in the world where the format tells it.
struct Geometry {
    shape: [usize; 3],
    place: Option<Place>,
    numbering: Numbering,
}

impl Geometry {
    /// Largest difference of spacings, and of affines in their numbers, that is none: files round to 4 bytes.
    const TOLERANCE: f64 = 1e-3;

    fn of(loaded: &Loaded) -> Self {
        let Loaded { channels, place, numbering, .. } = loaded;
        Self { shape: channels[0].shape(), place: *place, numbering: *numbering }
    }

    /// What differs beyond the shape, where both tell it.
    fn differs(&self, found: &Self) -> Option<String> {
        let ((expected, affine), (spacing, own)) = (self.place?, found.place?);
        let far = |a: f64, b: f64| (a - b).abs() > Self::TOLERANCE;
        let [expected, found] = [expected, spacing].map(Spacing::millimetres);
        if expected.into_iter().zip(found).any(|(a, b)| far(a, b)) {
            let axes = "mm as [slice, row, column]";
            return Some(format!("spacing is {found:?} {axes}: expected {expected:?}"));
        }
        let (affine, own) = (affine?.rows, own?.rows);
        let differ = affine.iter().flatten().zip(own.iter().flatten()).any(|(&a, &b)| far(a, b));
        differ.then(|| format!("affine is {own:?}: expected {affine:?}"))
    }
}

fn is_picture(path: &Path) -> bool {
    let name = path.to_string_lossy();
    ending(&name).is_some_and(|ending| raster::ENDINGS.contains(&ending))
}

/// The channels of a DICOM series: its phases, or its colours.
fn load_series(path: &Path) -> Result<Loaded, DatasetsError> {
    let Series { channels, has_spacing, numbering, notes, .. } = series::load(path)?;
    let place = channels.first().map(|volume| (volume.spacing, volume.affine));
    Ok(Loaded {
        channels: channels.into_iter().map(|volume| volume.image).collect(),
        place: place.filter(|_| has_spacing),
        numbering,
        rule: None,
        notes: notes.iter().map(|&note| (series::code_of_note(note), note.to_string())).collect(),
    })
}

/// All channels of an image file.
fn load_image(path: &Path) -> Result<Loaded, DatasetsError> {
    if series::is_series(path) {
        return load_series(path);
    }
    if !is_picture(path) {
        let frames = read_frames(path)?;
        let place = frames.first().map(|volume| (volume.spacing, volume.affine));
        let channels = frames.into_iter().map(|volume| volume.image).collect();
        return Ok(Loaded { place, ..Loaded::plain(channels) });
    }
    let undecoded =
        |source| DatasetsError::Picture { path: path.to_owned(), source: Box::new(source) };
    let raster = read_raster(path)?.coloured().map_err(undecoded)?;
    let n_colours = match raster.model {
        Model::Grey | Model::GreyAlpha | Model::Indexed => 1,
        Model::Rgb | Model::RgbAlpha => 3,
    };
    let Raster { mut channels, white, .. } = raster;
    channels.truncate(n_colours);
    if let Some(white) = white {
        channels.iter_mut().flat_map(Grid::values_mut).for_each(|value| *value /= white);
    }
    Ok(Loaded::plain(channels))
}

/// A label map: numbers as stored, indices of a palette among them.
fn load_label(path: &Path) -> Result<Loaded, DatasetsError> {
    if series::is_series(path) {
        let loaded = load_series(path)?;
        return match loaded.channels.len() {
            1 => Ok(loaded),
            found => Err(DatasetsError::Volume {
                path: path.to_owned(),
                source: volume::VolumeError::Frames { found },
            }),
        };
    }
    if !is_picture(path) {
        let volume::Volume { image, spacing, affine } = read_volume(path)?;
        let place = Some((spacing, affine));
        return Ok(Loaded { place, ..Loaded::plain(vec![image]) });
    }
    let Raster { channels, model, .. } = read_raster(path)?;
    let (map, rule) = match model {
        Model::Grey | Model::Indexed => (channels[0].clone(), None),
        _ => {
            let (map, rule) = check::one_of_many(&channels, model);
            (map, Some(format!("{}: {rule}", model.words())))
        }
    };
    Ok(Loaded { rule, ..Loaded::plain(vec![map]) })
}
