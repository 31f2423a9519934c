//! One channel out of the images that a folder gave.
//!
//! Ports: in `channels: ChannelImages`; out `images: Images`, to be wired beside those of other channels.
//! Randomness: none. Cost: reading and writing the shard.

use datasets::{CaseImage, shard::read_images};
use engine::{Ctx, One, Out, Stage, StageError, inputs, outputs};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    kinds::{ChannelImages, Images},
    shards::{refused, write_images_as},
};

/// Between the case and the channel in the name of a row; no file name has it.
const MARK: char = '/';

/// Name of the row of a channel.
pub(super) fn row_id(case: &str, channel: &str) -> String {
    format!("{case}{MARK}{channel}")
}

/// Settings of [`Channel`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelConfig {
    /// The channel: what its files have for `{channel}`, or the number from 0 in a file of several.
    pub channel: String,
}

inputs! {
    /// What [`Channel`] reads.
    pub struct ChannelInputs {
        /// Images of all channels.
        channels: One<ChannelImages>,
    }
}

outputs! {
    /// What [`Channel`] makes.
    pub struct ChannelOutputs {
        /// Images of one channel.
        images: Out<Images>,
    }
}

/// A channel that no case has.
#[derive(Debug, Error)]
#[error("no image of channel `{channel}`: there are {found:?}")]
pub struct UnknownChannel {
    /// The channel asked for.
    pub channel: String,
    /// The channels that there are.
    pub found: Vec<String>,
}

/// One channel of several.
pub struct Channel;

impl Stage for Channel {
    const NAME: &'static str = "ingest.channel";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Gives the images of one channel out of those of all.";
    const PER_SHARD: bool = true;
    type Config = ChannelConfig;
    type Inputs = ChannelInputs;
    type Outputs = ChannelOutputs;

    fn run(
        config: &ChannelConfig,
        inputs: ChannelInputs,
        outputs: &ChannelOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let all = read_images(inputs.channels.file(ctx.shard())?).map_err(refused)?;
        let own = images_of(all, &config.channel)?;
        write_images_as(&outputs.images, ctx.shard(), &own)
    }
}

/// The images of one channel under the names of their cases.
fn images_of(all: Vec<CaseImage>, channel: &str) -> Result<Vec<CaseImage>, StageError> {
    let (mut own, mut found) = (Vec::new(), Vec::new());
    for image in all {
        let Some((case, name)) = image.id.rsplit_once(MARK) else { continue };
        found.push(name.to_owned());
        if name == channel {
            own.push(CaseImage { id: case.to_owned(), ..image });
        }
    }
    if !own.is_empty() {
        return Ok(own);
    }
    found.sort();
    found.dedup();
    Err(StageError::new(UnknownChannel { channel: channel.to_owned(), found }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use datasets::{Image, Spacing, Split};

    use super::*;

    #[test]
    fn a_channel_keeps_its_voxels_and_gets_the_name_of_its_case() {
        let image = |channel: &str, value: f32| CaseImage {
            id: row_id("a_1", channel),
            patient: "p".to_owned(),
            dataset: "drawn".to_owned(),
            split: Split::Train,
            image: Image::filled([1, 1, 2], value),
            spacing: Spacing::unit(),
            affine: None,
        };
        let all = || vec![image("0000", 1.0), image("0001", 2.0)];
        let own = images_of(all(), "0001").unwrap();
        assert_eq!((own.len(), own[0].id.as_str(), own[0].image.values()[0]), (1, "a_1", 2.0));
        let error = images_of(all(), "1").unwrap_err().to_string();
        assert_eq!(error, "no image of channel `1`: there are [\"0000\", \"0001\"]");
    }
}
