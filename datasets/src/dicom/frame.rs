//! Frames of one file with their place, time and numbers.
//!
//! Source: DICOM PS3.3, C.7.6.2 (image plane), C.7.6.16 (functional groups of multi-frame files).

use super::{
    DicomError, Uid,
    attribute::{self, Attribute},
    element::{self, Codec, DataSet},
    pixels::{PixelFormat, Rescale},
};

/// Attributes of time, the most explicit first.
pub(super) const N_TIMES: usize = 6;

/// Their names, for messages.
pub(super) const TIME_NAMES: [&str; N_TIMES] = [
    "TemporalPositionIdentifier",
    "TemporalPositionTimeOffset",
    "TriggerTime",
    "AcquisitionNumber",
    "AcquisitionDateTime",
    "AcquisitionTime",
];

/// Factor to seconds; `None` for what only counts.
pub(super) const TIME_UNITS: [Option<f64>; N_TIMES] =
    [None, Some(1.0), Some(1e-3), None, Some(1.0), Some(1.0)];

/// Where a frame lies, in millimetres towards left, back and head (LPS).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    /// Centre of the first pixel.
    pub(super) position: [f64; 3],
    /// Unit vector from column to column.
    pub(super) across: [f64; 3],
    /// Unit vector from row to row.
    pub(super) down: [f64; 3],
}

/// A frame.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Frame {
    /// The object that the file is, where it holds this frame alone.
    pub(super) object: Option<Uid>,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) place: Option<Place>,
    /// Distances between rows and between columns.
    pub(super) spacing: Option<[f64; 2]>,
    /// Distance to the next slice as the file tells it, which is asked only where there is no next slice.
    pub(super) thickness: Option<f64>,
    /// InstanceNumber of the file, or the number of the frame in a file of several, from 1.
    pub(super) number: Option<f64>,
    /// In the order of [`TIME_NAMES`].
    pub(super) times: [Option<f64>; N_TIMES],
    /// The numbers, one list a sample, in the order of rows.
    pub(super) samples: Vec<Vec<f32>>,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Content {
    pub(super) series: Option<Uid>,
    pub(super) frames: Vec<Frame>,
    pub(super) is_inverted: bool,
    pub(super) is_lossy: bool,
    pub(super) is_burned_in: bool,
}

/// Reads a file.
pub(super) fn content(file: &[u8]) -> Result<Content, DicomError> {
    let (body, syntax) = element::body(file)?;
    let data = element::parse(&body, syntax)?;
    let missing = DicomError::Missing { name: attribute::PIXEL_DATA.name };
    let pixels = data.find(attribute::PIXEL_DATA).ok_or(missing)?;
    let format = PixelFormat::of(&data, syntax)?;
    let groups = data.items(attribute::FRAME_GROUPS);
    if !groups.is_empty() && groups.len() != format.n_frames {
        return Err(DicomError::Attribute {
            name: attribute::FRAME_GROUPS.name,
            expected: "one item a frame",
            found: format!("{} items of {} frames", groups.len(), format.n_frames),
        });
    }
    let stored = format.frames(pixels)?;
    let frames = stored.iter().enumerate().map(|(n, stored)| {
        let own = FrameData { file: &data, own: groups.get(n), n_frames: format.n_frames };
        own.frame(&format, stored, n)
    });
    Ok(Content {
        series: data.text(attribute::SERIES_UID).and_then(Uid::new),
        frames: frames.collect::<Result<_, _>>()?,
        is_inverted: format.is_inverted,
        is_lossy: data.text(attribute::LOSSY) == Some("01") || syntax.codec == Codec::JpegBaseline,
        is_burned_in: data.text(attribute::BURNED_IN) == Some("YES"),
    })
}

/// Where the attributes of a frame are looked for.
struct FrameData<'a> {
    file: &'a DataSet<'a>,
    own: Option<&'a DataSet<'a>>,
    n_frames: usize,
}

impl FrameData<'_> {
    /// The functional group of the frame, else that of all frames, else the file itself.
    fn group(&self, sequence: Attribute) -> &DataSet<'_> {
        let own = self.own.and_then(|own| own.items(sequence).first());
        let shared = self.file.items(attribute::SHARED_GROUPS).first();
        own.or_else(|| shared?.items(sequence).first()).unwrap_or(self.file)
    }

    fn frame(&self, format: &PixelFormat, stored: &[u8], n: usize) -> Result<Frame, DicomError> {
        let rescale = Rescale::of(self.group(attribute::PIXEL_TRANSFORMATION))?;
        let measures = self.group(attribute::PIXEL_MEASURES);
        let thickness = match measures.array(attribute::SPACING_BETWEEN_SLICES)? {
            None => measures.array(attribute::SLICE_THICKNESS)?,
            found => found,
        };
        let object = match self.n_frames {
            1 => self.file.text(attribute::OBJECT_UID).and_then(Uid::new),
            _ => None,
        };
        Ok(Frame {
            object,
            rows: format.rows,
            columns: format.columns,
            place: self.place()?,
            spacing: spacing(measures)?,
            thickness: thickness.map(|[mm]| mm).filter(|&mm| mm > 0.0),
            number: self.number(n),
            times: self.times(),
            samples: format.decode(stored, n, rescale)?,
        })
    }

    /// A number that is none is as good as none: it is asked only where something else refers to it.
    fn number(&self, n: usize) -> Option<f64> {
        if self.n_frames > 1 {
            return Some((n + 1) as f64);
        }
        self.file.array(attribute::INSTANCE_NUMBER).ok().flatten().map(|[number]| number)
    }

    fn place(&self) -> Result<Option<Place>, DicomError> {
        let plane = self.group(attribute::PLANE_POSITION);
        // One position in a file of several frames is not theirs.
        if self.n_frames > 1 && std::ptr::eq(plane, self.file) {
            return Ok(None);
        }
        let position = plane.array(attribute::POSITION)?;
        let orientation = self.group(attribute::PLANE_ORIENTATION).array(attribute::ORIENTATION)?;
        let (Some(position), Some([a, b, c, d, e, f])) = (position, orientation) else {
            return Ok(None);
        };
        let (across, down) = ([a, b, c], [d, e, f]);
        // Directions are decimal texts of few digits.
        const TOLERANCE: f64 = 1e-2;
        let is_unit = |axis: [f64; 3]| (super::dot(axis, axis).sqrt() - 1.0).abs() < TOLERANCE;
        if is_unit(across) && is_unit(down) && super::dot(across, down).abs() < TOLERANCE {
            return Ok(Some(Place { position, across: unit(across), down: unit(down) }));
        }
        Err(DicomError::Attribute {
            name: attribute::ORIENTATION.name,
            expected: "two unit vectors at right angles",
            found: format!("{across:?} and {down:?}"),
        })
    }

    /// Times that are no times are as good as none: they are asked only where slices share a place.
    fn times(&self) -> [Option<f64>; N_TIMES] {
        let content = self.group(attribute::FRAME_CONTENT);
        let number = |data: &DataSet<'_>, attribute| {
            data.array(attribute).ok().flatten().map(|[number]: [f64; 1]| number)
        };
        let seconds = |data: &DataSet<'_>, attribute| data.seconds(attribute).ok().flatten();
        let temporal = self.group(attribute::TEMPORAL_SEQUENCE);
        let file = self.file;
        let index = number(content, attribute::TEMPORAL_POSITION_INDEX);
        let acquisition = number(content, attribute::FRAME_ACQUISITION_NUMBER);
        let moment = seconds(content, attribute::FRAME_ACQUISITION_DATE_TIME);
        [
            index.or_else(|| number(file, attribute::TEMPORAL_POSITION)),
            number(temporal, attribute::TEMPORAL_OFFSET),
            number(file, attribute::TRIGGER_TIME),
            acquisition.or_else(|| number(file, attribute::ACQUISITION_NUMBER)),
            moment.or_else(|| seconds(file, attribute::ACQUISITION_DATE_TIME)),
            seconds(file, attribute::ACQUISITION_TIME),
        ]
    }
}

/// Distances between rows and columns; in projections those at the detector.
fn spacing(data: &DataSet<'_>) -> Result<Option<[f64; 2]>, DicomError> {
    for attribute in [attribute::PIXEL_SPACING, attribute::IMAGER_PIXEL_SPACING] {
        let Some(found) = data.array::<2>(attribute)? else { continue };
        if found.iter().all(|&mm| mm > 0.0) {
            return Ok(Some(found));
        }
        return Err(DicomError::Attribute {
            name: attribute.name,
            expected: "two positive numbers",
            found: format!("{found:?}"),
        });
    }
    Ok(None)
}

fn unit(axis: [f64; 3]) -> [f64; 3] {
    let length = super::dot(axis, axis).sqrt();
    axis.map(|value| value / length)
}
