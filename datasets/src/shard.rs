//! Shards: which cases share a file, what the file is called, and what its columns hold.
//!
//! Borders are defined by content: over the sorted case ids of a split, a shard begins at every id whose hash is a
//! multiple of the wanted size. A case that joins or leaves thus changes the shard that it falls into and no other,
//! unless its own id is a border: then one shard becomes two, or two become one.

mod columns;
mod describe;
mod digest;
mod file;
mod images;
mod labels;
mod lists;
#[cfg(test)]
mod refused;
#[cfg(test)]
mod tests_support;

use std::{collections::BTreeMap, num::NonZeroUsize};

use crate::{DatasetsError, Split};

pub(crate) use digest::Content;
pub(crate) use file::{Layout, Source, write_batches};

pub use describe::{
    ColumnDescription, ShardDescription, describe, pictures, rows_as_json, safe_name,
};
pub use images::{ImageHead, image_digest, image_heads, read_image, read_images, write_images};
pub use labels::{LabelHead, label_digest, label_heads, read_label, read_labels, write_labels};

/// Largest number of voxels of one case that shards hold: 1024 slices of 1024 x 1024.
pub const MAX_VOXELS: usize = 1 << 30;

/// The cases that share a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardPart {
    /// `<split>-<16 hexadecimal digits>`: the same as long as the part begins at the same border.
    pub name: String,
    /// The split of all its cases.
    pub split: Split,
    /// Ids of its cases in ascending order.
    pub cases: Vec<String>,
}

impl ShardPart {
    /// Name of the file that holds the part.
    pub fn file_name(&self) -> String {
        format!("{}.parquet", self.name)
    }
}

/// Divides cases into shards of `target` cases in the mean; with a target of 1 every case has a shard of its own.
///
/// Sizes vary as the distance between borders does, about geometrically: a shard of more than four times the target
/// is met once in 50. The part before the first border of a split is named for the split alone; every other one
/// is named for the id that it begins with. Parts come in the order of their split and first case.
///
/// # Errors
/// [`DatasetsError::DuplicateCase`] when an id is listed twice, in whatever splits.
pub fn shard_parts<'a>(
    cases: impl IntoIterator<Item = (&'a str, Split)>,
    target: NonZeroUsize,
) -> Result<Vec<ShardPart>, DatasetsError> {
    let mut sorted: BTreeMap<&str, Split> = BTreeMap::new();
    for (case, split) in cases {
        if sorted.insert(case, split).is_some() {
            return Err(DatasetsError::DuplicateCase { case: case.to_owned() });
        }
    }
    let mut parts = Vec::new();
    for split in Split::ALL {
        let own = sorted.iter().filter(|&(_, &of)| of == split).map(|(&case, _)| case);
        parts.extend(parts_of_split(own, split, target));
    }
    Ok(parts)
}

/// Cuts the sorted ids of one split at its borders.
fn parts_of_split<'a>(
    cases: impl Iterator<Item = &'a str>,
    split: Split,
    target: NonZeroUsize,
) -> Vec<ShardPart> {
    let mut parts: Vec<ShardPart> = Vec::new();
    for case in cases {
        let hash = border_hash(case);
        let is_border = hash.is_multiple_of(target.get() as u64);
        match parts.last_mut() {
            Some(part) if !is_border => part.cases.push(case.to_owned()),
            _ => {
                let identity = border_hash(if is_border { case } else { "" });
                let name = format!("{split}-{identity:016x}");
                parts.push(ShardPart { name, split, cases: vec![case.to_owned()] });
            }
        }
    }
    parts
}

/// Hash that decides on borders and names parts; the empty id stands for the beginning of a split.
fn border_hash(case: &str) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key("pipeline 2026 shard border v1");
    hasher.update(case.as_bytes());
    let mut bytes = [0; 8];
    hasher.finalize_xof().fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn parts(cases: &[String], target: usize) -> Vec<ShardPart> {
        let cases = cases.iter().map(|case| (case.as_str(), Split::Train));
        shard_parts(cases, NonZeroUsize::new(target).unwrap()).unwrap()
    }

    fn differing(before: &[ShardPart], after: &[ShardPart]) -> usize {
        let set = |parts: &[ShardPart]| -> BTreeSet<(String, Vec<String>)> {
            parts.iter().map(|part| (part.name.clone(), part.cases.clone())).collect()
        };
        let changed = &set(before) ^ &set(after);
        let names: BTreeSet<&String> = changed.iter().map(|(name, _)| name).collect();
        names.len()
    }

    #[test]
    fn parts_are_pure_in_split_and_about_of_the_size_asked_for() {
        let cases: Vec<String> = (0..4000).map(|n| format!("case-{n:04}")).collect();
        let marked = cases.iter().enumerate().map(|(n, case)| (case.as_str(), Split::ALL[n % 3]));
        let parts = shard_parts(marked, NonZeroUsize::new(8).unwrap()).unwrap();
        let all: Vec<&String> = parts.iter().flat_map(|part| &part.cases).collect();
        assert_eq!(all.len(), 4000);
        assert!(parts.iter().all(|part| part.name.starts_with(part.split.name())));
        assert!(parts.iter().all(|part| part.cases.is_sorted()));
        let names: BTreeSet<&String> = parts.iter().map(|part| &part.name).collect();
        assert_eq!(names.len(), parts.len());
        let mean = 4000.0 / parts.len() as f64;
        assert!((6.5..9.5).contains(&mean), "{mean}");
    }

    #[test]
    fn a_target_of_one_gives_every_case_its_own_part() {
        let cases: Vec<String> = (0..20).map(|n| format!("duke-{n}")).collect();
        let parts = parts(&cases, 1);
        assert!(parts.iter().all(|part| part.cases.len() == 1));
        assert_eq!(parts.len(), 20);
        let twice = [("a", Split::Train), ("a", Split::Test)];
        let error = shard_parts(twice, NonZeroUsize::MIN).unwrap_err();
        assert!(matches!(error, DatasetsError::DuplicateCase { case } if case == "a"));
    }

    #[test]
    fn most_added_cases_change_one_part() {
        let cases: Vec<String> = (0..200).map(|n| format!("case-{n:03}")).collect();
        let changes: Vec<usize> = (0..200)
            .map(|left_out| {
                let mut fewer = cases.clone();
                fewer.remove(left_out);
                differing(&parts(&fewer, 16), &parts(&cases, 16))
            })
            .collect();
        assert!(changes.iter().all(|&n| n == 1 || n == 2));
        assert!(changes.iter().filter(|&&n| n == 1).count() > 170);
    }

    proptest! {
        #[test]
        fn an_added_case_touches_at_most_two_parts(
            ids in proptest::collection::btree_set("[a-z]{1,4}", 1..60), added in "[a-z0-9]{1,6}", target in 1usize..20,
        ) {
            prop_assume!(!ids.contains(&added));
            let before: Vec<String> = ids.into_iter().collect();
            let mut after = before.clone();
            after.push(added);
            let n = differing(&parts(&before, target), &parts(&after, target));
            prop_assert!((1..=2).contains(&n), "{n} parts differ");
        }
    }
}
