//! Cases of several images, for example the phases of a scan: each artifact on a port of images is one channel.

use std::collections::BTreeMap;

use datasets::{Affine, CaseImage, Image};
use engine::{Input, StageError};

use crate::{
    shards::{ShardsError, check_place},
    trained::normalised,
};

/// A case with one image a channel.
pub(crate) struct Channels {
    /// The case with its first channel.
    pub(crate) case: CaseImage,
    others: Vec<Image>,
}

impl Channels {
    /// Number of channels.
    pub(crate) fn n_channels(&self) -> usize {
        1 + self.others.len()
    }

    /// What a network sees, `[slice, row, column, channel]`: every channel with mean 0 and standard deviation 1.
    pub(crate) fn normalised(&self) -> Vec<f32> {
        let n_channels = self.n_channels();
        let mut values = vec![0.0; self.case.image.values().len() * n_channels];
        for (channel, image) in std::iter::once(&self.case.image).chain(&self.others).enumerate() {
            let places = values[channel..].iter_mut().step_by(n_channels);
            places.zip(normalised(image)).for_each(|(place, value)| *place = value);
        }
        values
    }
}

/// What belongs to one case: its image, or what is known of it.
pub(crate) trait OfCase {
    /// Id of the case.
    fn id(&self) -> &str;
    /// Axes of its image, `[slice, row, column]`.
    fn shape(&self) -> [usize; 3];
    /// Where its voxels are, if that is known.
    fn affine(&self) -> Option<Affine>;
}

impl OfCase for CaseImage {
    fn id(&self) -> &str {
        &self.id
    }

    fn shape(&self) -> [usize; 3] {
        self.image.shape()
    }

    fn affine(&self) -> Option<Affine> {
        self.affine
    }
}

/// The cases of the first artifact, in its order, with the images of the others as further channels.
///
/// # Errors
/// Those of [`align`].
pub(crate) fn join(
    inputs: &[Input],
    read: impl Fn(&Input) -> Result<Vec<CaseImage>, StageError>,
) -> Result<Vec<Channels>, StageError> {
    let aligned = align(inputs, read)?.into_iter().filter_map(|channels| {
        let mut channels = channels.into_iter();
        let case = channels.next()?;
        Some(Channels { case, others: channels.map(|case| case.image).collect() })
    });
    Ok(aligned.collect())
}

/// For each case of the first artifact, in its order, what every artifact has of it.
///
/// # Errors
/// Those of `read`; [`ShardsError::ChannelMissing`], [`ShardsError::ChannelShape`] and [`ShardsError::PlaceDiffers`] for what
/// does not belong together.
pub(crate) fn align<T: OfCase>(
    inputs: &[Input],
    read: impl Fn(&Input) -> Result<Vec<T>, StageError>,
) -> Result<Vec<Vec<T>>, StageError> {
    let Some((first, others)) = inputs.split_first() else { return Ok(Vec::new()) };
    let mut cases: Vec<Vec<T>> = read(first)?.into_iter().map(|case| vec![case]).collect();
    for input in others {
        let mut found: BTreeMap<String, T> =
            read(input)?.into_iter().map(|case| (case.id().to_owned(), case)).collect();
        for channels in &mut cases {
            let (id, expected) = (channels[0].id().to_owned(), channels[0].shape());
            let (cell, first) = (input.cell.clone(), first.cell.clone());
            let Some(case) = found.remove(&id) else {
                return Err(StageError::new(ShardsError::ChannelMissing { case: id, cell, first }));
            };
            let found = case.shape();
            if expected != found {
                let fault = ShardsError::ChannelShape { case: id, cell, first, expected, found };
                return Err(StageError::new(fault));
            }
            check_place(&id, &cell, expected, channels[0].affine(), case.affine())?;
            channels.push(case);
        }
    }
    Ok(cases)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use datasets::{Spacing, Split};

    use super::*;
    use crate::shards::tests::input;

    fn case(id: &str, values: &[f32]) -> CaseImage {
        CaseImage {
            id: id.to_owned(),
            patient: id.to_owned(),
            dataset: "drawn".to_owned(),
            split: Split::Test,
            image: Image::new([1, 1, values.len()], values.to_vec()).unwrap(),
            spacing: Spacing::unit(),
            affine: None,
        }
    }

    fn joined(late: &[CaseImage]) -> Result<Vec<Channels>, StageError> {
        let inputs = ["pre", "late"].map(|cell| input(cell, "test-0.parquet", "unread".into()));
        join(&inputs, |input| {
            let early = vec![case("a", &[0.0, 2.0]), case("b", &[2.0, 0.0])];
            Ok(if input.cell == "pre" { early } else { late.to_vec() })
        })
    }

    #[test]
    fn channels_lie_beside_each_other_whatever_their_order() {
        let cases = joined(&[case("b", &[7.0, 9.0]), case("a", &[5.0, 1.0])]).unwrap();
        assert_eq!(cases[0].normalised(), [-1.0, 1.0, 1.0, -1.0]);
        assert_eq!(cases[1].normalised(), [1.0, -1.0, -1.0, 1.0]);
        assert_eq!(cases[0].n_channels(), 2);
    }

    #[test]
    fn what_does_not_belong_together_is_named() {
        let fault = joined(&[case("a", &[0.0, 1.0])]).map(|_| ()).unwrap_err().to_string();
        assert_eq!(fault, "case `b` has an image in cell `pre` and none in cell `late`");
        let fault = joined(&[case("a", &[0.0; 3]), case("b", &[0.0, 1.0])]);
        assert_eq!(
            fault.map(|_| ()).unwrap_err().to_string(),
            "image of case `a` in cell `late` has shape [1, 1, 3] as [slice, row, column]: that in cell `pre` has [1, 1, 2]"
        );
    }
}
