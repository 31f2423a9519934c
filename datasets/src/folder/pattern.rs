//! Patterns of paths: text with placeholders, for example `images/{case}_{channel}.nii.gz`.
//!
//! A placeholder stands for at least one character and never for `/`; one that occurs twice stands for the same text
//! both times. `{*}` is any text that means nothing, also none; `{?}` is any one character. Letters match in either case, and a
//! pattern without one of the endings that are read stands for all of them.

use std::{collections::BTreeMap, fmt};

use thiserror::Error;

use super::ending;

/// Most placeholders of a pattern: each may make matching slower by the length of a path.
const MAX_PLACEHOLDERS: usize = 8;

/// What a part of a path says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Placeholder {
    /// Name of the case.
    Case,
    /// Channel of the image.
    Channel,
    /// Who drew the label.
    Rater,
    /// What was drawn, where every structure has a file of its own.
    Structure,
    /// Name of the patient.
    Patient,
}

impl Placeholder {
    /// All placeholders.
    pub const ALL: [Self; 5] =
        [Self::Case, Self::Channel, Self::Rater, Self::Structure, Self::Patient];

    /// The word between the braces.
    pub fn name(self) -> &'static str {
        match self {
            Self::Case => "case",
            Self::Channel => "channel",
            Self::Rater => "rater",
            Self::Structure => "structure",
            Self::Patient => "patient",
        }
    }
}

/// A text that is no pattern.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PatternError {
    /// A brace without its partner.
    #[error("pattern `{pattern}` has a brace without its partner")]
    Brace {
        /// The pattern.
        pattern: String,
    },
    /// A word that is no placeholder.
    #[error(
        "pattern `{pattern}` has an unknown placeholder `{{{found}}}`: known are {{case}}, {{channel}}, {{rater}}, {{structure}}, {{patient}}, {{*}} and {{?}}"
    )]
    Unknown {
        /// The pattern.
        pattern: String,
        /// The word.
        found: String,
    },
    /// Two placeholders of any length side by side.
    #[error("pattern `{pattern}` has two placeholders side by side: nothing says where one ends")]
    Ambiguous {
        /// The pattern.
        pattern: String,
    },
    /// A pattern without a placeholder that it needs.
    #[error("pattern `{pattern}` needs `{{{}}}`", needed.name())]
    Missing {
        /// The pattern.
        pattern: String,
        /// The placeholder.
        needed: Placeholder,
    },
    /// A placeholder where it means nothing.
    #[error("pattern `{pattern}` has `{{{}}}`, which means nothing there", found.name())]
    Misplaced {
        /// The pattern.
        pattern: String,
        /// The placeholder.
        found: Placeholder,
    },
    /// Too many placeholders.
    #[error("pattern `{pattern}` has more than {MAX_PLACEHOLDERS} placeholders")]
    TooMany {
        /// The pattern.
        pattern: String,
    },
}

/// What the placeholders of a pattern stand for in one path.
pub type Captured = BTreeMap<Placeholder, String>;

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Text(String),
    Capture(Placeholder),
    Any,
    One,
}

/// A parsed pattern.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    text: String,
    tokens: Vec<Token>,
    /// Whether the pattern has an ending of its own.
    has_ending: bool,
}

impl fmt::Display for Pattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl Pattern {
    /// Reads a pattern in which only the placeholders `allowed` may stand, and `needed` must.
    ///
    /// # Errors
    /// Any [`PatternError`].
    pub fn parse(
        text: &str,
        needed: &[Placeholder],
        allowed: &[Placeholder],
    ) -> Result<Self, PatternError> {
        let tokens = tokens(text)?;
        let pattern = || text.to_owned();
        let has = |placeholder: Placeholder| tokens.contains(&Token::Capture(placeholder));
        if let Some(&needed) = needed.iter().find(|&&needed| !has(needed)) {
            return Err(PatternError::Missing { pattern: pattern(), needed });
        }
        let misplaced = |found: &Placeholder| {
            has(*found) && !needed.contains(found) && !allowed.contains(found)
        };
        if let Some(found) = Placeholder::ALL.into_iter().find(misplaced) {
            return Err(PatternError::Misplaced { pattern: pattern(), found });
        }
        Ok(Self { text: pattern(), tokens, has_ending: ending(text).is_some() })
    }

    /// What the placeholders stand for in a path with `/`; `None` when it does not fit.
    pub fn captures(&self, path: &str) -> Option<Captured> {
        let path = match self.has_ending {
            true => path,
            false => &path[..path.len() - ending(path)?.len()],
        };
        self.captures_exactly(path)
    }

    /// As [`Pattern::captures`], for a text that is no path of a file.
    pub fn captures_exactly(&self, text: &str) -> Option<Captured> {
        let mut found = Captured::new();
        fits(&self.tokens, text, &mut found).then_some(found)
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, PatternError> {
    let pattern = || text.to_owned();
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(['{', '}']) {
        let (before, after) = rest.split_at(start);
        if !before.is_empty() {
            tokens.push(Token::Text(before.to_owned()));
        }
        let inside = after.strip_prefix('{').and_then(|after| after.split_once('}'));
        let (word, after) = inside.ok_or_else(|| PatternError::Brace { pattern: pattern() })?;
        let token = match word {
            "*" => Token::Any,
            "?" => Token::One,
            _ => {
                let known = Placeholder::ALL.into_iter().find(|known| known.name() == word);
                let found = || PatternError::Unknown { pattern: pattern(), found: word.to_owned() };
                Token::Capture(known.ok_or_else(found)?)
            }
        };
        let is_open = |token: &Token| matches!(token, Token::Capture(_) | Token::Any);
        if is_open(&token) && tokens.last().is_some_and(is_open) {
            return Err(PatternError::Ambiguous { pattern: pattern() });
        }
        tokens.push(token);
        rest = after;
    }
    if !rest.is_empty() {
        tokens.push(Token::Text(rest.to_owned()));
    }
    let n_placeholders = tokens.iter().filter(|token| !matches!(token, Token::Text(_))).count();
    if n_placeholders > MAX_PLACEHOLDERS {
        return Err(PatternError::TooMany { pattern: pattern() });
    }
    Ok(tokens)
}

/// What follows `start` in `text`, whatever the case of its letters.
fn after<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    let (head, tail) = text.split_at_checked(start.len())?;
    head.eq_ignore_ascii_case(start).then_some(tail)
}

/// Whether the text fits, each placeholder taking as much as it can, the first one first.
fn fits(tokens: &[Token], text: &str, found: &mut Captured) -> bool {
    let Some((token, others)) = tokens.split_first() else { return text.is_empty() };
    let component = text.find('/').unwrap_or(text.len());
    match token {
        Token::Text(start) => after(text, start).is_some_and(|rest| fits(others, rest, found)),
        Token::One => {
            let first = text[..component].chars().next();
            first.is_some_and(|first| fits(others, &text[first.len_utf8()..], found))
        }
        Token::Any => {
            let mut ends = (0..=component).rev().filter(|&end| text.is_char_boundary(end));
            ends.any(|end| fits(others, &text[end..], found))
        }
        Token::Capture(placeholder) => {
            if let Some(known) = found.get(placeholder).cloned() {
                return after(text, &known).is_some_and(|rest| fits(others, rest, found));
            }
            let mut ends = (1..=component).rev().filter(|&end| text.is_char_boundary(end));
            ends.any(|end| {
                found.insert(*placeholder, text[..end].to_owned());
                let is_fit = fits(others, &text[end..], found);
                if !is_fit {
                    found.remove(placeholder);
                }
                is_fit
            })
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text, &[], &Placeholder::ALL).unwrap()
    }

    /// The values of the placeholders in the order of [`Placeholder::ALL`].
    fn found(text: &str, path: &str) -> Option<Vec<String>> {
        Some(pattern(text).captures(path)?.into_values().collect())
    }

    fn some(values: &[&str]) -> Option<Vec<String>> {
        Some(values.iter().map(|&value| value.to_owned()).collect())
    }

    #[test]
    fn names_of_real_layouts_are_taken_apart() {
        let nnunet = "imagesTr/{case}_{channel}";
        assert_eq!(found(nnunet, "imagesTr/BRATS_001_0003.nii.gz"), some(&["BRATS_001", "0003"]));
        assert_eq!(found(nnunet, "imagesTr/BRATS_001_0003.NRRD"), some(&["BRATS_001", "0003"]));
        assert_eq!(found(nnunet, "imagesTs/BRATS_001_0003.nii.gz"), None);
        assert_eq!(found(nnunet, "imagesTr/deep/BRATS_001_0003.nii.gz"), None);
        assert_eq!(found(nnunet, "imagesTr/BRATS_001_0003.json"), None);
        let drive = "{*}/{rater}_manual/{case}_manual{?}.gif";
        assert_eq!(found(drive, "test/2nd_manual/03_manual2.gif"), some(&["03", "2nd"]));
        assert_eq!(found("{case}/{case}_seg.nii.gz", "a1/A1_seg.nii.gz"), some(&["a1"]));
        assert_eq!(found("{case}/{case}_seg.nii.gz", "a1/a2_seg.nii.gz"), None);
        assert_eq!(found("Seg_{case}.png", "seg_TPre1.PNG"), some(&["TPre1"]));
        assert_eq!(found("{case}.png", ".png"), None);
        assert_eq!(found("{patient}{?}.png", "01L.png"), some(&["01"]));
        assert_eq!(found("ä{case}.png", "äö.png"), some(&["ö"]));
    }

    #[test]
    fn what_is_no_pattern_is_named() {
        let error = |text: &str| {
            Pattern::parse(text, &[Placeholder::Case], &[Placeholder::Channel]).unwrap_err()
        };
        assert!(matches!(error("a{case"), PatternError::Brace { .. }));
        assert!(matches!(error("a}{case}"), PatternError::Brace { .. }));
        assert!(
            matches!(error("{cases}"), PatternError::Unknown { found, .. } if found == "cases")
        );
        assert!(matches!(error("{case}{channel}"), PatternError::Ambiguous { .. }));
        assert!(matches!(error("{channel}"), PatternError::Missing { .. }));
        assert!(matches!(
            error("{case}_{rater}"),
            PatternError::Misplaced { found: Placeholder::Rater, .. }
        ));
        assert!(matches!(error(&"{case}_".repeat(9)), PatternError::TooMany { .. }));
    }

    proptest! {
        #[test]
        fn a_path_that_was_made_from_a_pattern_comes_back(
            case in "[a-zA-Z0-9]{1,8}(_[a-z0-9]{1,4}){0,2}", channel in "[0-9]{1,4}", rater in "[a-z]{1,5}",
        ) {
            let path = format!("x/{rater}/{case}_{channel}.mha");
            let values = found("x/{rater}/{case}_{channel}", &path).unwrap();
            prop_assert_eq!(values, vec![case, channel, rater]);
        }

        #[test]
        fn no_path_makes_matching_fail(path in "\\PC{0,60}") {
            let _ = found("{*}/{case}_{channel}{?}", &path);
            let _ = found("{case}/{case}", &path);
        }
    }
}
