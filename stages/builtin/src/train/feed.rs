//! How much memory the cases of a training take, and who reads those that do not fit.

use engine::StageError;
use nets::Outline;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::shards::ShardsError;

/// Bytes a voxel that reading takes besides the case: a channel compressed, decoded, copied and normalised.
const READING: u64 = 24;

const MIB: u64 = 1 << 20;

/// How cases come to the steps; none of it changes the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FeedConfig {
    /// Memory for cases in MiB, at least 1. Those that fit stay there, the others are read again in every epoch. Default
    /// 1024.
    pub memory_mib: u64,
    /// Threads that read and move the cases of the next steps, at least 1; fewer where the memory is for fewer. Default 2.
    pub readers: usize,
}

impl Default for FeedConfig {
    fn default() -> Self {
        Self { memory_mib: 1024, readers: 2 }
    }
}

/// Who reads, and which cases stay in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Threads that read.
    pub(crate) readers: usize,
    /// Validation cases that stay in memory: they are few, and every epoch waits for them.
    pub(crate) n_validation: usize,
    /// Training cases that stay in memory.
    pub(crate) n_train: usize,
}

impl FeedConfig {
    /// Bytes for cases.
    pub(crate) fn bytes(self) -> u64 {
        self.memory_mib.saturating_mul(MIB)
    }

    /// Shares the memory out: first what is under way, then validation cases, then training cases.
    ///
    /// # Errors
    /// [`ShardsError::CasesTooLarge`] when not even one reader has room.
    pub(crate) fn plan(self, train: &Outline, validation: &Outline) -> Result<Plan, StageError> {
        let cases = |outline: &Outline| outline.ids.len() as u64;
        // The clean masks of validation cases make them the larger ones.
        let case = train.case_bytes().max(validation.case_bytes());
        let reading = case + READING * train.n_pixels().max(validation.n_pixels()) as u64;
        let all = case * (cases(train) + cases(validation));
        let readers = self.readers.max(1) as u64;
        let at_once = self.bytes().saturating_sub(all) / reading;
        if at_once > 0 {
            let (n_validation, n_train) = (validation.ids.len(), train.ids.len());
            return Ok(Plan { readers: readers.min(at_once) as usize, n_validation, n_train });
        }
        // Each reader has one case, and while validation works on one, another is read.
        let fewest = (reading + case) + reading;
        if self.bytes() < fewest {
            let mib = |bytes: u64| bytes.div_ceil(MIB);
            let fault = ShardsError::CasesTooLarge {
                case_mib: mib(case),
                needed_mib: mib(fewest),
                found_mib: self.memory_mib,
            };
            let advice = format!("set `feed.memory_mib` to {} or more", mib(fewest));
            return Err(StageError::new(fault).hint(advice));
        }
        let readers = readers.min((self.bytes() - reading - case) / reading);
        let kept = (self.bytes() - reading - case - readers * reading) / case;
        let n_validation = kept.min(cases(validation));
        Ok(Plan {
            readers: readers as usize,
            n_validation: n_validation as usize,
            n_train: (kept - n_validation).min(cases(train)) as usize,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;

    /// Cases of a mebivoxel: 5 MiB, or 6 with a clean mask; reading one takes 30.
    fn outline(n_cases: usize, has_truth: bool) -> Outline {
        Outline {
            ids: (0..n_cases).map(|nth| nth.to_string()).collect(),
            size: [1, 1024, 1024],
            n_channels: 1,
            n_structures: 1,
            n_sources: 1,
            has_truth,
        }
    }

    fn plan(memory_mib: u64, readers: usize) -> Result<Plan, StageError> {
        FeedConfig { memory_mib, readers }.plan(&outline(90, false), &outline(10, true))
    }

    #[test]
    fn what_fits_stays_and_the_rest_is_read_again() {
        let whole = Plan { readers: 3, n_validation: 10, n_train: 90 };
        assert_eq!(plan(1000, 3).unwrap(), whole);
        assert_eq!(plan(630, 3).unwrap(), Plan { readers: 1, ..whole });
        assert_eq!(plan(629, 3).unwrap(), Plan { readers: 3, n_validation: 10, n_train: 73 });
        assert_eq!(plan(190, 3).unwrap(), Plan { readers: 3, n_validation: 10, n_train: 0 });
        assert_eq!(plan(150, 3).unwrap(), Plan { readers: 3, n_validation: 4, n_train: 0 });
        assert_eq!(plan(125, 3).unwrap(), Plan { readers: 2, n_validation: 4, n_train: 0 });
        assert_eq!(plan(66, 3).unwrap(), Plan { readers: 1, n_validation: 0, n_train: 0 });
    }

    #[test]
    fn a_case_without_room_is_refused_with_what_it_needs() {
        let fault = plan(65, 3).unwrap_err();
        assert_eq!(
            fault.to_string(),
            "one case takes 6 MiB: reading the cases needs 66 MiB, and the training may use 65"
        );
        assert_eq!(fault.advice(), Some("set `feed.memory_mib` to 66 or more"));
    }
}
