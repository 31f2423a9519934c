//! Settings of UMA-Net and of a single network, and the shape of the data they are built for.
//!
//! Source: arXiv 2304.00466v2. Every component of its Table V has a switch of its own:
//!
//! | row | switches |
//! |---|---|
//! | baseline | `auem`, `consistency`, `quality` off: mean loss over the labels, `w = 1`, `σ = 0` |
//! | + AUEM | `consistency` and `quality` off |
//! | + L_C | `quality` off |
//! | + QAM | `auxiliary` off: a case of low quality changes no parameter |
//! | + AP | the default |
//!
//! Deviations, all about what the paper leaves open: the width of 16 (for CPU; 64 is the classic one), the bias
//! of the AUEM's heads (see [`AuemConfig::head_bias`]) and the start of the gate (see
//! [`QualityConfig::start_share`]).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Axes, LossConfig, NetsError, QualityConfig, Ramp, UnetConfig};

/// What a network is built for: the last axes of its maps and the number of sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskShape {
    /// Channels of an image, at least 1.
    pub n_channels: usize,
    /// Structures of a label, at least 1; each is a sigmoid of its own.
    pub n_structures: usize,
    /// Labels of a case, at least 1.
    pub n_sources: usize,
}

impl TaskShape {
    /// Checks that every number is in 1..=256.
    ///
    /// # Errors
    /// [`NetsError::Config`] for the first that is not.
    pub fn validate(&self) -> Result<(), NetsError> {
        let Self { n_channels, n_structures, n_sources } = *self;
        let named = [
            ("shape.n_channels", n_channels),
            ("shape.n_structures", n_structures),
            ("shape.n_sources", n_sources),
        ];
        named.into_iter().try_for_each(|(field, value)| {
            NetsError::check(field, "a number in 1..=256", value, (1..=256).contains(&value))
        })
    }
}

/// Which decoders the AUEM has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuemDecoders {
    /// A complete UNet decoder with skips per source, on one encoder (Fig. 2).
    #[default]
    Full,
}

/// The annotation uncertainty estimation module.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuemConfig {
    /// Whether it exists; without it every weight is 1 and every σ is 0. Default true.
    pub enabled: bool,
    /// Its width over the backbone's, in (0, 4]; the product is rounded to an even number. Default 1.
    pub width_mult: f64,
    /// Bias of its heads at the start, in [−20, 20]. Default −2, so that σ starts at 0.12 and not at ½.
    ///
    /// Deviation: the paper names none. With 0 the gate needs many thousand steps to open.
    pub head_bias: f64,
    /// Its decoders. Default a full one per source.
    pub decoders: AuemDecoders,
}

impl Default for AuemConfig {
    fn default() -> Self {
        Self { enabled: true, width_mult: 1.0, head_bias: -2.0, decoders: AuemDecoders::Full }
    }
}

/// The consistency loss (Eq. 5).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConsistencyConfig {
    /// Whether it is part of the loss. Default true.
    pub enabled: bool,
    /// Growth of its weight α.
    pub ramp: Ramp,
}

impl Default for ConsistencyConfig {
    fn default() -> Self {
        Self { enabled: true, ramp: Ramp::default() }
    }
}

/// The auxiliary predictor, trained by the cases of low quality.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuxiliaryConfig {
    /// Whether it exists; without it a case of low quality changes no parameter. Default true.
    pub enabled: bool,
}

impl Default for AuxiliaryConfig {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// Settings of UMA-Net; the default is the complete method.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UmaConfig {
    /// Channels of the backbone at full resolution, even, in 2..=1024. Default 16.
    pub base_width: usize,
    /// Resolutions of both networks, in 1..=8; image sides must be multiples of `2^(levels − 1)`. Default 5.
    pub levels: usize,
    /// Axes that are convolved and pooled: `two` (default), `three`, where slices must be such multiples too, or
    /// `anisotropic`.
    #[serde(skip_serializing_if = "Axes::is_two")]
    pub axes: Axes,
    /// Annotation uncertainty estimation module.
    pub auem: AuemConfig,
    /// Consistency loss.
    pub consistency: ConsistencyConfig,
    /// Quality assessment module.
    pub quality: QualityConfig,
    /// Auxiliary predictor.
    pub auxiliary: AuxiliaryConfig,
    /// Loss terms.
    pub loss: LossConfig,
}

impl Default for UmaConfig {
    fn default() -> Self {
        Self {
            base_width: 16,
            levels: 5,
            axes: Axes::Two,
            auem: AuemConfig::default(),
            consistency: ConsistencyConfig::default(),
            quality: QualityConfig::default(),
            auxiliary: AuxiliaryConfig::default(),
            loss: LossConfig::default(),
        }
    }
}

impl UmaConfig {
    /// Checks the ranges stated at the fields.
    ///
    /// # Errors
    /// [`NetsError::Config`] for the first field outside its range.
    pub fn validate(&self) -> Result<(), NetsError> {
        check_size(self.base_width, self.levels, self.axes)?;
        let AuemConfig { enabled: _, width_mult, head_bias, decoders: AuemDecoders::Full } =
            self.auem;
        let good = width_mult > 0.0 && width_mult <= 4.0;
        NetsError::check("auem.width_mult", "a factor in (0, 4]", width_mult, good)?;
        let good = (-20.0..=20.0).contains(&head_bias);
        NetsError::check("auem.head_bias", "a number in [-20, 20]", head_bias, good)?;
        self.consistency.ramp.validate()?;
        self.quality.validate()?;
        self.loss.validate()
    }

    /// The backbone for `shape`: one decoder, heads in the order primary, auxiliary.
    pub(crate) fn backbone(&self, shape: TaskShape) -> UnetConfig {
        UnetConfig {
            axes: self.axes,
            in_channels: shape.n_channels,
            base_width: self.base_width,
            levels: self.levels,
            n_decoders: 1,
            n_heads: 1 + usize::from(self.auxiliary.enabled),
            out_channels: shape.n_structures,
        }
    }

    /// The AUEM for `shape`: image and all labels in, one decoder per source.
    pub(crate) fn estimator(&self, shape: TaskShape) -> UnetConfig {
        let half = (self.base_width as f64 * self.auem.width_mult / 2.0).round().max(1.0);
        UnetConfig {
            axes: self.axes,
            in_channels: shape.n_channels + shape.n_sources * shape.n_structures,
            base_width: 2 * half as usize,
            levels: self.levels,
            n_decoders: shape.n_sources,
            n_heads: 1,
            out_channels: shape.n_structures,
        }
    }
}

/// Settings of a single UNet on one target, for the baselines.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SingleConfig {
    /// Channels at full resolution, even, in 2..=1024. Default 16.
    pub base_width: usize,
    /// Resolutions, in 1..=8; image sides must be multiples of `2^(levels − 1)`. Default 5.
    pub levels: usize,
    /// Axes that are convolved and pooled: `two` (default), `three`, where slices must be such multiples too, or
    /// `anisotropic`.
    #[serde(skip_serializing_if = "Axes::is_two")]
    pub axes: Axes,
    /// Loss: cross-entropy and `lambda` times Dice; what concerns σ has no effect.
    pub loss: LossConfig,
}

impl Default for SingleConfig {
    fn default() -> Self {
        Self { base_width: 16, levels: 5, axes: Axes::Two, loss: LossConfig::default() }
    }
}

impl SingleConfig {
    /// Checks the ranges stated at the fields.
    ///
    /// # Errors
    /// [`NetsError::Config`] for the first field outside its range.
    pub fn validate(&self) -> Result<(), NetsError> {
        check_size(self.base_width, self.levels, self.axes)?;
        self.loss.validate()
    }

    pub(crate) fn unet(&self, shape: TaskShape) -> UnetConfig {
        UnetConfig {
            axes: self.axes,
            in_channels: shape.n_channels,
            base_width: self.base_width,
            levels: self.levels,
            n_decoders: 1,
            n_heads: 1,
            out_channels: shape.n_structures,
        }
    }
}

fn check_size(base_width: usize, levels: usize, axes: Axes) -> Result<(), NetsError> {
    let good = (2..=1024).contains(&base_width) && base_width.is_multiple_of(2);
    NetsError::check("base_width", "an even number in 2..=1024", base_width, good)?;
    NetsError::check("levels", "a number in 1..=8", levels, (1..=8).contains(&levels))?;
    let good = axes.check(levels).is_ok();
    NetsError::check("axes", "at least 1 flat pooling and fewer than levels", axes, good)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;

    #[test]
    fn an_empty_table_is_the_complete_method() {
        let read: UmaConfig = serde_json::from_str("{}").unwrap();
        assert_eq!(read, UmaConfig::default());
        assert!(
            read.auem.enabled
                && read.quality.enabled
                && read.auxiliary.enabled
                && read.consistency.enabled
        );
        assert!(read.validate().is_ok());
    }

    #[test]
    fn axes_are_written_unless_they_are_two() {
        let text =
            |axes| serde_json::to_string(&SingleConfig { axes, ..Default::default() }).unwrap();
        assert!(!text(Axes::Two).contains("axes"));
        assert!(text(Axes::Three).contains(r#""axes":"three""#));
        let read: SingleConfig = serde_json::from_str(&text(Axes::Three)).unwrap();
        assert_eq!(read.axes, Axes::Three);
    }

    #[test]
    fn unknown_keys_and_variants_are_refused() {
        for text in [
            r#"{"quallity": {}}"#,
            r#"{"auem": {"decoders": "merge_and_split"}}"#,
            r#"{"loss": {"uncertainty_range": {"symmetric": {"tau": 1.0, "k": 2}}}}"#,
        ] {
            assert!(serde_json::from_str::<UmaConfig>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ranges_are_checked() {
        let good = UmaConfig::default();
        let auem = |width_mult, head_bias| AuemConfig { width_mult, head_bias, ..good.auem };
        for bad in [
            UmaConfig { base_width: 7, ..good },
            UmaConfig { levels: 0, ..good },
            UmaConfig { axes: Axes::Anisotropic { flat_poolings: 5 }, ..good },
            UmaConfig { auem: auem(0.0, 0.0), ..good },
            UmaConfig { auem: auem(1.0, f64::NAN), ..good },
        ] {
            assert!(matches!(bad.validate(), Err(NetsError::Config { .. })), "{bad:?}");
        }
        let shape = TaskShape { n_channels: 0, n_structures: 1, n_sources: 1 };
        assert!(matches!(
            shape.validate(),
            Err(NetsError::Config { field: "shape.n_channels", .. })
        ));
    }

    #[test]
    fn networks_get_their_channels() {
        let shape = TaskShape { n_channels: 3, n_structures: 2, n_sources: 5 };
        let config = UmaConfig {
            auem: AuemConfig { width_mult: 0.5, ..AuemConfig::default() },
            ..UmaConfig::default()
        };
        let (backbone, estimator) = (config.backbone(shape), config.estimator(shape));
        assert_eq!((backbone.in_channels, backbone.n_decoders, backbone.n_heads), (3, 1, 2));
        assert_eq!((estimator.in_channels, estimator.n_decoders, estimator.base_width), (13, 5, 8));
    }
}
