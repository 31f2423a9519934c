//! Which axes a network convolves and pools: 2-D is 3-D with one slice.

use kernels::Volume;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::UnetError;

/// Which axes a network convolves and pools.
///
/// Level 0 has full resolution; pooling `n` leads from level `n` to level `n + 1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Axes {
    /// Rows and columns: kernels 3 × 3, pooling by 2 × 2; slices never see each other.
    #[default]
    Two,
    /// Slices, rows and columns: kernels 3 × 3 × 3, pooling by 2 × 2 × 2.
    Three,
    /// As `three`, but the first poolings keep the slices, and the blocks above them have kernels 1 × 3 × 3, as
    /// nnU-Net (Isensee et al., 2021) plans it for volumes with thick slices.
    Anisotropic {
        /// Poolings that keep the slices, at least 1 and fewer than levels.
        flat_poolings: usize,
    },
}

impl Axes {
    /// Whether these are the axes of 2-D, which files leave out: absent means 2-D.
    pub(crate) fn is_two(&self) -> bool {
        *self == Self::Two
    }

    /// Whether blocks of `level` see one slice only.
    fn is_flat(self, level: usize) -> bool {
        match self {
            Self::Two => true,
            Self::Three => false,
            Self::Anisotropic { flat_poolings } => level < flat_poolings,
        }
    }

    /// Kernel of the blocks at `level`, `[slice, row, column]`.
    pub(crate) fn kernel(self, level: usize) -> [usize; 3] {
        if self.is_flat(level) { [1, 3, 3] } else { [3, 3, 3] }
    }

    /// Window and stride of pooling `level`, and of the up-convolution back, `[slice, row, column]`.
    pub(crate) fn pooling(self, level: usize) -> [usize; 3] {
        if self.is_flat(level) { [1, 2, 2] } else { [2, 2, 2] }
    }

    /// Numbers that the axes `[slice, row, column]` of an image must be multiples of, with this many levels.
    pub fn multiples(self, levels: usize) -> [usize; 3] {
        let slices = (0..levels.saturating_sub(1)).filter(|&level| !self.is_flat(level)).count();
        let [slices, sides] = [slices, levels.saturating_sub(1)].map(|poolings| 1 << poolings);
        [slices, sides, sides]
    }

    /// Refuses poolings that are not there.
    pub(crate) fn check(self, levels: usize) -> Result<(), UnetError> {
        match self {
            Self::Anisotropic { flat_poolings: found } if !(1..levels).contains(&found) => {
                Err(UnetError::FlatPoolings { levels, found })
            }
            Self::Two | Self::Three | Self::Anisotropic { .. } => Ok(()),
        }
    }

    /// PyTorch's shape of weights: `[first, second, kernel…]` with two or three kernel axes.
    pub(crate) fn weight_shape(self, channels: [usize; 2], kernel: [usize; 3]) -> Vec<usize> {
        let kernel = if self.is_two() { &kernel[1..] } else { &kernel[..] };
        [&channels[..], kernel].concat()
    }

    /// Axes at every level, full resolution first.
    pub(crate) fn volumes(self, volume: Volume, levels: usize) -> Vec<Volume> {
        let below = |level: usize, volume: Volume| {
            let [slices, rows, columns] = self.pooling(level);
            Volume {
                slices: volume.slices / slices,
                rows: volume.rows / rows,
                columns: volume.columns / columns,
                ..volume
            }
        };
        let mut volumes = vec![volume];
        for level in 1..levels {
            volumes.push(below(level - 1, volumes[level - 1]));
        }
        volumes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;

    #[test]
    fn poolings_give_multiples_and_volumes() {
        let thick = Axes::Anisotropic { flat_poolings: 2 };
        for (axes, multiples, deepest) in [
            (Axes::Two, [1, 8, 8], [16, 4, 2]),
            (Axes::Three, [8, 8, 8], [2, 4, 2]),
            (thick, [2, 8, 8], [8, 4, 2]),
        ] {
            assert_eq!(axes.multiples(4), multiples, "{axes:?}");
            let volume = Volume { batch: 3, slices: 16, rows: 32, columns: 16 };
            let volumes = axes.volumes(volume, 4);
            let Volume { batch, slices, rows, columns } = volumes[3];
            assert_eq!((batch, [slices, rows, columns]), (3, deepest), "{axes:?}");
        }
        assert_eq!((thick.kernel(1), thick.kernel(2)), ([1, 3, 3], [3, 3, 3]));
        assert_eq!(Axes::Three.multiples(1), [1, 1, 1]);
    }

    #[test]
    fn settings_are_words() {
        let read = |text: &str| serde_json::from_str::<Axes>(text);
        assert_eq!(read("\"three\"").unwrap(), Axes::Three);
        let thick = read("{\"anisotropic\": {\"flat_poolings\": 1}}").unwrap();
        assert_eq!(thick, Axes::Anisotropic { flat_poolings: 1 });
        assert!(read("\"four\"").is_err());
    }

    #[test]
    fn weights_have_the_axes_of_pytorch() {
        assert_eq!(Axes::Two.weight_shape([8, 4], [1, 3, 3]), [8, 4, 3, 3]);
        assert_eq!(Axes::Three.weight_shape([8, 4], [1, 1, 1]), [8, 4, 1, 1, 1]);
    }
}
