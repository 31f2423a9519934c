//! The attributes that are read: geometry, pixels, time, and which files belong together. What is not on this list is never
//! kept.
//!
//! Source: DICOM PS3.6, data dictionary; PS3.5, 6.2 (representations of numbers).

use std::fmt;

use super::{
    DicomError,
    element::{DataSet, Value},
};

/// Group and element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tag(pub(super) u16, pub(super) u16);

impl fmt::Display for Tag {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "({:04x},{:04x})", self.0, self.1)
    }
}

/// How a number is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Whole numbers of 16 bits.
    Short,
    /// Real numbers of 64 bits.
    Double,
    /// Whole numbers of 32 bits.
    Long,
    /// Text, of numbers or of words.
    Text,
    /// Bytes of another kind.
    Bytes,
    Sequence,
}

/// An attribute on the list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attribute {
    pub(super) tag: Tag,
    pub(super) name: &'static str,
    form: Form,
}

/// Declares the list.
macro_rules! attributes {
    ($($constant:ident = $group:literal, $element:literal, $name:literal, $form:ident;)*) => {
        $(
            pub(super) const $constant: Attribute =
                Attribute { tag: Tag($group, $element), name: $name, form: Form::$form };
        )*
        const ALL: &[Attribute] = &[$($constant),*];
    };
}

attributes! {
    TRANSFER_SYNTAX = 0x0002, 0x0010, "TransferSyntaxUID", Text;
    OBJECT_UID = 0x0008, 0x0018, "SOPInstanceUID", Text;
    ACQUISITION_DATE_TIME = 0x0008, 0x002a, "AcquisitionDateTime", Text;
    ACQUISITION_TIME = 0x0008, 0x0032, "AcquisitionTime", Text;
    CONTENT_TIME = 0x0008, 0x0033, "ContentTime", Text;
    SLICE_THICKNESS = 0x0018, 0x0050, "SliceThickness", Text;
    SPACING_BETWEEN_SLICES = 0x0018, 0x0088, "SpacingBetweenSlices", Text;
    TRIGGER_TIME = 0x0018, 0x1060, "TriggerTime", Text;
    IMAGER_PIXEL_SPACING = 0x0018, 0x1164, "ImagerPixelSpacing", Text;
    FRAME_ACQUISITION_DATE_TIME = 0x0018, 0x9074, "FrameAcquisitionDateTime", Text;
    SERIES_UID = 0x0020, 0x000e, "SeriesInstanceUID", Text;
    ACQUISITION_NUMBER = 0x0020, 0x0012, "AcquisitionNumber", Text;
    INSTANCE_NUMBER = 0x0020, 0x0013, "InstanceNumber", Text;
    POSITION = 0x0020, 0x0032, "ImagePositionPatient", Text;
    ORIENTATION = 0x0020, 0x0037, "ImageOrientationPatient", Text;
    TEMPORAL_POSITION = 0x0020, 0x0100, "TemporalPositionIdentifier", Text;
    FRAME_CONTENT = 0x0020, 0x9111, "FrameContentSequence", Sequence;
    PLANE_POSITION = 0x0020, 0x9113, "PlanePositionSequence", Sequence;
    PLANE_ORIENTATION = 0x0020, 0x9116, "PlaneOrientationSequence", Sequence;
    TEMPORAL_POSITION_INDEX = 0x0020, 0x9128, "TemporalPositionIndex", Long;
    FRAME_ACQUISITION_NUMBER = 0x0020, 0x9156, "FrameAcquisitionNumber", Short;
    TEMPORAL_OFFSET = 0x0020, 0x930d, "TemporalPositionTimeOffset", Double;
    TEMPORAL_SEQUENCE = 0x0020, 0x9310, "TemporalPositionSequence", Sequence;
    SAMPLES = 0x0028, 0x0002, "SamplesPerPixel", Short;
    PHOTOMETRIC = 0x0028, 0x0004, "PhotometricInterpretation", Text;
    PLANAR = 0x0028, 0x0006, "PlanarConfiguration", Short;
    FRAMES = 0x0028, 0x0008, "NumberOfFrames", Text;
    ROWS = 0x0028, 0x0010, "Rows", Short;
    COLUMNS = 0x0028, 0x0011, "Columns", Short;
    PIXEL_SPACING = 0x0028, 0x0030, "PixelSpacing", Text;
    BITS_ALLOCATED = 0x0028, 0x0100, "BitsAllocated", Short;
    BITS_STORED = 0x0028, 0x0101, "BitsStored", Short;
    HIGH_BIT = 0x0028, 0x0102, "HighBit", Short;
    PIXEL_REPRESENTATION = 0x0028, 0x0103, "PixelRepresentation", Short;
    BURNED_IN = 0x0028, 0x0301, "BurnedInAnnotation", Text;
    INTERCEPT = 0x0028, 0x1052, "RescaleIntercept", Text;
    SLOPE = 0x0028, 0x1053, "RescaleSlope", Text;
    LOSSY = 0x0028, 0x2110, "LossyImageCompression", Text;
    MODALITY_LUT = 0x0028, 0x3000, "ModalityLUTSequence", Sequence;
    PIXEL_MEASURES = 0x0028, 0x9110, "PixelMeasuresSequence", Sequence;
    PIXEL_TRANSFORMATION = 0x0028, 0x9145, "PixelValueTransformationSequence", Sequence;
    SHARED_GROUPS = 0x5200, 0x9229, "SharedFunctionalGroupsSequence", Sequence;
    FRAME_GROUPS = 0x5200, 0x9230, "PerFrameFunctionalGroupsSequence", Sequence;
    PIXEL_DATA = 0x7fe0, 0x0010, "PixelData", Bytes;
}

/// Name of an attribute on the list.
pub(super) fn name(tag: Tag) -> Option<&'static str> {
    find(tag).map(|attribute| attribute.name)
}

pub(super) fn is_sequence(tag: Tag) -> bool {
    find(tag).is_some_and(|attribute| attribute.form == Form::Sequence)
}

fn find(tag: Tag) -> Option<&'static Attribute> {
    ALL.binary_search_by(|attribute| attribute.tag.cmp(&tag)).ok().map(|place| &ALL[place])
}

impl DataSet<'_> {
    /// The text of an attribute without padding; `None` where it is absent, empty or no text.
    pub(super) fn text(&self, attribute: Attribute) -> Option<&str> {
        let Some(Value::Bytes(bytes)) = self.find(attribute).map(|element| &element.value) else {
            return None;
        };
        let text = str::from_utf8(bytes).ok()?.trim_matches(['\0', ' ']);
        (!text.is_empty()).then_some(text)
    }

    /// The numbers of an attribute; `None` where it is absent or empty.
    ///
    /// # Errors
    /// [`DicomError::Attribute`] for what are no finite numbers.
    pub(super) fn numbers(&self, attribute: Attribute) -> Result<Option<Vec<f64>>, DicomError> {
        let Some(Value::Bytes(bytes)) = self.find(attribute).map(|element| &element.value) else {
            return Ok(None);
        };
        let wrong = |found: &str| DicomError::Attribute {
            name: attribute.name,
            expected: "finite numbers",
            found: found.to_owned(),
        };
        let numbers = match attribute.form {
            Form::Short => self.stored(bytes, |bytes| u16::from_le_bytes(bytes).into()),
            Form::Long => self.stored(bytes, |bytes| u32::from_le_bytes(bytes).into()),
            Form::Double => self.stored(bytes, f64::from_le_bytes),
            _ => match self.text(attribute) {
                None => return Ok(None),
                Some(text) => text.split('\\').map(|number| number.trim().parse().ok()).collect(),
            },
        };
        let numbers: Vec<f64> = numbers.ok_or_else(|| wrong("another text"))?;
        match numbers.iter().all(|number| number.is_finite()) {
            true => Ok((!numbers.is_empty()).then_some(numbers)),
            false => Err(wrong("infinity or NaN")),
        }
    }

    fn stored<const N: usize>(
        &self,
        bytes: &[u8],
        number: impl Fn([u8; N]) -> f64,
    ) -> Option<Vec<f64>> {
        let (chunks, rest) = bytes.as_chunks::<N>();
        let in_order = |mut chunk: [u8; N]| {
            if self.is_big {
                chunk.reverse();
            }
            number(chunk)
        };
        rest.is_empty().then(|| chunks.iter().copied().map(in_order).collect())
    }

    /// `N` numbers; `None` where the attribute is absent or empty.
    ///
    /// # Errors
    /// [`DicomError::Attribute`] for another number of them.
    pub(super) fn array<const N: usize>(
        &self,
        attribute: Attribute,
    ) -> Result<Option<[f64; N]>, DicomError> {
        let Some(numbers) = self.numbers(attribute)? else { return Ok(None) };
        let n_found = numbers.len();
        let wrong = |_| DicomError::Attribute {
            name: attribute.name,
            expected: match N {
                1 => "one number",
                2 => "two numbers",
                3 => "three numbers",
                _ => "six numbers",
            },
            found: format!("{n_found}"),
        };
        numbers.try_into().map(Some).map_err(wrong)
    }

    /// A whole number that is not negative.
    ///
    /// # Errors
    /// [`DicomError::Attribute`] for another one.
    pub(super) fn whole(&self, attribute: Attribute) -> Result<Option<u32>, DicomError> {
        let Some([number]) = self.array(attribute)? else { return Ok(None) };
        if number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number) {
            return Ok(Some(number as u32));
        }
        let expected = "a whole number that is not negative";
        Err(DicomError::Attribute { name: attribute.name, expected, found: number.to_string() })
    }

    /// As [`DataSet::whole`] for an attribute that is needed.
    ///
    /// # Errors
    /// [`DicomError::Missing`] besides.
    pub(super) fn needed(&self, attribute: Attribute) -> Result<u32, DicomError> {
        self.whole(attribute)?.ok_or(DicomError::Missing { name: attribute.name })
    }

    /// Seconds of a time of day, `HHMMSS.FFFFFF` where all but the hours may be missing, or those after a date.
    ///
    /// # Errors
    /// [`DicomError::Attribute`] for what is no time.
    pub(super) fn seconds(&self, attribute: Attribute) -> Result<Option<f64>, DicomError> {
        let Some(text) = self.text(attribute) else { return Ok(None) };
        let parsed = match attribute.name.ends_with("DateTime") {
            true => date_time(text),
            false => time_of_day(text),
        };
        let wrong = DicomError::Attribute {
            name: attribute.name,
            expected: "a time as HHMMSS.FFFFFF",
            found: "another text".to_owned(),
        };
        parsed.map(Some).ok_or(wrong)
    }
}

fn time_of_day(text: &str) -> Option<f64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) || !matches!(whole.len(), 2 | 4 | 6) {
        return None;
    }
    let pair = |place: usize| whole.get(place..place + 2).map_or(Some(0.0), |t| t.parse().ok());
    let fraction: f64 = format!("0.{fraction}0").parse().ok()?;
    Some(3600.0 * pair(0)? + 60.0 * pair(2)? + pair(4)? + fraction)
}

/// Seconds since the year 0 of `YYYYMMDDHHMMSS.FFFFFF&ZZXX`, of which a day and an hour are needed.
fn date_time(text: &str) -> Option<f64> {
    let local = text.split(['+', '-']).next()?;
    let (date, time) = local.split_at_checked(8)?;
    let part = |range: std::ops::Range<usize>| date.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (part(0..4)?, part(4..6)?, part(6..8)?);
    // Days from March on, so that the leap day is the last of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    Some(86_400.0 * days as f64 + time_of_day(time)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;

    #[test]
    fn the_list_is_sorted_so_that_it_can_be_searched() {
        assert!(ALL.is_sorted_by(|a, b| a.tag < b.tag));
        assert_eq!(name(Tag(0x0028, 0x0010)), Some("Rows"));
        assert_eq!(name(Tag(0x0010, 0x0010)), None, "names of patients are not on it");
    }

    #[test]
    fn times_become_seconds() {
        assert_eq!(time_of_day("101530.25"), Some(36_930.25));
        assert_eq!(time_of_day("10"), Some(36_000.0));
        for text in ["1", "10:15", "101530.2a", "-1", ""] {
            assert_eq!(time_of_day(text), None, "{text}");
        }
        let [before, after] = ["20240228235959", "20240301000000.5"].map(|t| date_time(t).unwrap());
        assert_eq!(after - before, 86_401.5, "over a leap day");
        assert_eq!(date_time("20240228"), None);
        let [zone, plain] = ["20240228120000+0100", "20240228120000"].map(date_time);
        assert_eq!(zone, plain);
    }
}
