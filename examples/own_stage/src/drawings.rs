//! A reader: pictures and masks that somebody has typed.
//!
//! Format: a file `CASE.txt` has the rows of the picture in digits (0 dark, 9 bright), an empty line, and the rows of the
//! mask in `.` and `#`. Ports: no inputs; out `images`, `truth`, `cases`. Randomness: the split, by (seed, case).

use std::{
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use datasets::{
    CaseImage, CaseLabel, CasePatient, Grid, SourceKind, Spacing, Split, SplitSizes, split_cases,
};
use pipeline::{Ctx, External, Stage, StageError, inputs};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stages::ingest::{IngestOutputs, write_cases};

/// Settings of [`Drawings`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DrawingsConfig {
    /// Folder of the drawings; relative paths start at the project root.
    pub root: PathBuf,
    /// Sizes of the splits.
    pub split: SplitSizes,
    /// Cases of a shard in the mean.
    pub shard_cases: NonZeroUsize,
}

inputs! {
    /// [`Drawings`] reads files only.
    pub struct DrawingsInputs {}
}

/// Typed pictures and masks.
pub struct Drawings;

impl Stage for Drawings {
    const NAME: &'static str = "mine.drawings";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Reads pictures and masks that are typed as text.";
    /// Where the files lie does not change what is in them: moving the folder builds nothing again.
    const NONSEMANTIC: &'static [&'static str] = &["root"];
    type Config = DrawingsConfig;
    type Inputs = DrawingsInputs;
    type Outputs = IngestOutputs;

    /// Names every file, so that their content is part of the key.
    fn externals(config: &DrawingsConfig, project: &Path) -> Result<Option<Vec<External>>, StageError> {
        let root = project.join(&config.root);
        let mut found = Vec::new();
        let unreadable = |error| StageError::new(format!("cannot list `{}`: {error}", root.display()));
        for entry in fs::read_dir(&root).map_err(unreadable)? {
            let path = entry.map_err(StageError::new)?.path();
            if path.extension().is_some_and(|extension| extension == "txt") {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                found.push(External { name, path });
            }
        }
        Ok(Some(found))
    }

    fn run(
        config: &DrawingsConfig,
        _: DrawingsInputs,
        outputs: &IngestOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let files = ctx.externals().iter();
        let files: Vec<(&str, &Path)> =
            files.map(|file| (file.name.trim_end_matches(".txt"), file.path.as_path())).collect();
        let patients: Vec<CasePatient<'_>> =
            files.iter().map(|&(case, _)| CasePatient { case, patient: case }).collect();
        let splits = split_cases(&patients, config.split).map_err(StageError::new)?;
        let mut cases = Vec::new();
        for (id, path) in files {
            // Who found no place in a split is left out.
            if let Some(&split) = splits.get(id) {
                let text = fs::read_to_string(path).map_err(StageError::new)?;
                let (image, label) = read(id, split, &text)?;
                cases.push((image, vec![label], Vec::new()));
            }
        }
        cases.sort_by(|a, b| a.0.id.cmp(&b.0.id));
        write_cases(outputs, &cases, &[], config.shard_cases)
    }
}

fn read(id: &str, split: Split, text: &str) -> Result<(CaseImage, CaseLabel), StageError> {
    let wrong = |message: String| StageError::new(format!("case `{id}`: {message}"));
    let (picture, mask) = text
        .split_once("\n\n")
        .ok_or_else(|| wrong("expected an empty line between picture and mask: got none".to_owned()))?;
    let brightness = |c: char| c.to_digit(10).map(|digit| digit as f32 / 9.0);
    let image = grid(picture, brightness).map_err(|c| wrong(format!("expected digits: got {c}")))?;
    let inside = |c: char| [('.', false), ('#', true)].iter().find(|(k, _)| *k == c).map(|p| p.1);
    let mask =
        grid(mask, inside).map_err(|c| wrong(format!("expected `.` and `#`: got {c}")))?;
    if image.shape() != mask.shape() {
        let (expected, found) = (image.shape(), mask.shape());
        return Err(wrong(format!("the picture has the shape {expected:?}, the mask {found:?}")));
    }
    let label = CaseLabel {
        id: id.to_owned(),
        source: "truth".to_owned(),
        kind: SourceKind::Truth,
        structure: "lung".to_owned(),
        split,
        mask,
        probability: None,
        spacing: Spacing::unit(),
        affine: None,
        params: None,
    };
    let image = CaseImage {
        id: id.to_owned(),
        patient: id.to_owned(),
        dataset: "drawings".to_owned(),
        split,
        image,
        spacing: Spacing::unit(),
        affine: None,
    };
    Ok((image, label))
}

/// Rows of characters as `[slice, row, column]` with one slice.
fn grid<T: Clone>(text: &str, value: impl Fn(char) -> Option<T>) -> Result<Grid<T>, String> {
    let rows: Vec<&str> = text.trim_end().lines().collect();
    let n_columns = rows.first().map_or(0, |row| row.len());
    let characters = rows.iter().flat_map(|row| row.chars());
    let values: Result<Vec<T>, String> =
        characters.map(|c| value(c).ok_or_else(|| format!("`{c}`"))).collect();
    Grid::new([1, rows.len(), n_columns], values?).map_err(|error| error.to_string())
}
