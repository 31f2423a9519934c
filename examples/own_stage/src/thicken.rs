//! An annotation source: somebody with a thick pen.
//!
//! Ports: in `labels: Labels`; out `labels: Labels`, same shapes. Randomness: none. Runs per shard.

use datasets::{
    CaseLabel, Mask, SourceKind,
    shard::{read_labels, write_labels},
};
use pipeline::{Ctx, One, Out, Refusal, Stage, StageError, inputs, outputs};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stages::kinds::Labels;

/// Settings of [`Thicken`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ThickenConfig {
    /// Pixels that are added on every side.
    pub by_px: usize,
}

inputs! {
    /// What [`Thicken`] reads.
    pub struct ThickenInputs {
        /// Masks to draw around.
        labels: One<Labels>,
    }
}

outputs! {
    /// What [`Thicken`] makes.
    pub struct ThickenOutputs {
        /// The thicker masks.
        labels: Out<Labels>,
    }
}

/// Draws every mask with a thick pen.
pub struct Thicken;

impl Stage for Thicken {
    const NAME: &'static str = "mine.thicken";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Adds pixels around every mask.";
    const PER_SHARD: bool = true;
    type Config = ThickenConfig;
    type Inputs = ThickenInputs;
    type Outputs = ThickenOutputs;

    fn check(config: &ThickenConfig) -> Result<(), Refusal> {
        if config.by_px > 8 {
            let message = format!("expected at most 8 pixels: got {}", config.by_px);
            return Err(Refusal::new("by_px", message));
        }
        Ok(())
    }

    fn run(
        config: &ThickenConfig,
        inputs: ThickenInputs,
        outputs: &ThickenOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let labels = read_labels(inputs.labels.file(ctx.shard())?).map_err(StageError::new)?;
        let thick: Vec<CaseLabel> = labels
            .into_iter()
            .map(|label| CaseLabel {
                source: "thick pen".to_owned(),
                kind: SourceKind::Simulated,
                mask: thickened(&label.mask, config.by_px),
                ..label
            })
            .collect();
        let content = write_labels(&outputs.labels.path(ctx.shard()), &thick);
        // What the shard says, not its bytes, is its identity: another version of Parquet changes nothing downstream.
        outputs.labels.content(ctx.shard(), content.map_err(StageError::new)?);
        Ok(())
    }
}

/// A pixel is inside where one at most `by` rows and columns away was.
fn thickened(mask: &Mask, by: usize) -> Mask {
    let [_, n_rows, n_columns] = mask.shape();
    Mask::from_fn(mask.shape(), |[slice, row, column]| {
        let rows = row.saturating_sub(by)..(row + by + 1).min(n_rows);
        rows.into_iter().any(|row| {
            let columns = column.saturating_sub(by)..(column + by + 1).min(n_columns);
            columns.into_iter().any(|column| mask.get([slice, row, column]))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thick_pen_adds_a_ring() {
        let mask = Mask::from_drawing(&[". . . .", ". # . .", ". . . .", ". . . ."]);
        assert_eq!(
            thickened(&mask, 1),
            Mask::from_drawing(&["# # # .", "# # # .", "# # # .", ". . . ."])
        );
        assert_eq!(thickened(&mask, 0), mask);
    }
}
