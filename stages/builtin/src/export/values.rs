//! The values of a label map: what `structures` of `ingest.folder` reads, the other way round.

use std::collections::BTreeMap;

use datasets::{CaseLabel, Grid};
use engine::Refusal;

use super::nifti::ExportError;

/// Most structures of a label map.
const MOST: usize = 128;

/// Least probability that counts: a network may be sure, and its logarithm must stay finite.
const LEAST_PROBABILITY: f64 = 1e-9;

/// Structures as a set: the lowest bit is the first by name.
type Set = u128;

/// Which value stands for which structures.
#[derive(Debug)]
pub(super) struct Values<'a> {
    structures: Vec<&'a str>,
    by_set: BTreeMap<Set, u8>,
}

impl<'a> Values<'a> {
    /// Turns the values of each structure into the structures of each value; 0 is background.
    ///
    /// # Errors
    /// The structure whose values do not tell it from others.
    pub(super) fn new(of: &'a BTreeMap<String, Vec<u8>>) -> Result<Self, Refusal> {
        let refusal =
            |name: &str, message: String| Refusal::new(format!("structures.{name}"), message);
        let mut sets: BTreeMap<u8, Set> = BTreeMap::new();
        for (bit, (name, values)) in of.iter().enumerate() {
            if bit == MOST {
                return Err(refusal(
                    name,
                    format!("expected at most {MOST} structures: got {}", of.len()),
                ));
            }
            if values.is_empty() || values.contains(&0) {
                let message =
                    format!("expected numbers from 1 to 255, at least one: got {values:?}");
                return Err(refusal(name, message));
            }
            values.iter().for_each(|&value| *sets.entry(value).or_default() |= 1 << bit);
        }
        let mut by_set = BTreeMap::from([(0, 0)]);
        for (value, set) in sets {
            if let Some(other) = by_set.insert(set, value) {
                let (name, _) = of.iter().nth(set.trailing_zeros() as usize).expect("a bit a name");
                let message = format!("values {other} and {value} stand for the same structures");
                return Err(refusal(name, message));
            }
        }
        Ok(Self { structures: of.keys().map(String::as_str).collect(), by_set })
    }

    /// The structures by name.
    pub(super) fn structures(&self) -> &[&'a str] {
        &self.structures
    }

    /// The label map of a case, from its labels in the order of [`Values::structures`], which have one shape.
    ///
    /// Where structures meet that no value stands for, the most probable value is taken: the one with the greatest product
    /// of the probabilities of its structures and of the absence of the others.
    ///
    /// # Errors
    /// [`ExportError::NoValue`] for the first such voxel where a label has no probabilities.
    pub(super) fn map(&self, labels: &[&CaseLabel]) -> Result<Grid<u8>, ExportError> {
        let shape = labels[0].mask.shape();
        let set = |index: usize| {
            let bits = labels.iter().enumerate();
            bits.fold(0, |set, (bit, label)| set | Set::from(label.mask.values()[index]) << bit)
        };
        let n_voxels = labels[0].mask.values().len();
        let values = (0..n_voxels).map(|index| match set(index) {
            0 => Ok(0),
            set => match self.by_set.get(&set) {
                Some(&value) => Ok(value),
                None => self.most_probable(labels, index, set),
            },
        });
        let values = values.collect::<Result<_, _>>()?;
        Ok(Grid::new(shape, values).expect("one value a voxel"))
    }

    fn most_probable(
        &self,
        labels: &[&CaseLabel],
        index: usize,
        found: Set,
    ) -> Result<u8, ExportError> {
        let maps =
            labels.iter().map(|label| Some(f64::from(label.probability.as_ref()?.values()[index])));
        let Some(probabilities) = maps.collect::<Option<Vec<f64>>>() else {
            let [_, n_rows, n_columns] = labels[0].mask.shape();
            let named = self.structures.iter().enumerate().filter(|(bit, _)| found >> bit & 1 == 1);
            return Err(ExportError::NoValue {
                case: labels[0].id.clone(),
                place: [
                    index / (n_rows * n_columns),
                    index / n_columns % n_rows,
                    index % n_columns,
                ],
                structures: named.map(|(_, name)| (*name).to_owned()).collect(),
            });
        };
        let likelihood = |set: Set| -> f64 {
            let terms = probabilities.iter().enumerate().map(|(bit, &inside)| {
                let probability = if set >> bit & 1 == 1 { inside } else { 1.0 - inside };
                probability.max(LEAST_PROBABILITY).ln()
            });
            terms.sum()
        };
        let mut best = (f64::NEG_INFINITY, 0);
        for (&set, &value) in &self.by_set {
            let own = likelihood(set);
            if own > best.0 {
                best = (own, value);
            }
        }
        Ok(best.1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use datasets::{Image, Mask, mask};

    use super::*;
    use crate::shards::tests::label;

    fn structures(of: &[(&str, &[u8])]) -> BTreeMap<String, Vec<u8>> {
        of.iter().map(|(name, values)| ((*name).to_owned(), values.to_vec())).collect()
    }

    fn named(mask: Mask, probability: Option<[f32; 4]>) -> CaseLabel {
        let probability = probability.map(|values| Image::new([1, 1, 4], values.to_vec()).unwrap());
        CaseLabel { probability, ..label("a", "x", mask) }
    }

    #[test]
    fn values_are_what_reading_them_takes_apart() {
        let eye = structures(&[("cup", &[2]), ("disc", &[1, 2])]);
        let values = Values::new(&eye).unwrap();
        let (cup, disc) = (named(mask![". . # ."], None), named(mask![". # # #"], None));
        assert_eq!(values.map(&[&cup, &disc]).unwrap().values(), [0, 1, 2, 1]);
        let outside = named(mask!["# . # ."], None);
        let error = values.map(&[&outside, &disc]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "case `a`: no value stands for [\"cup\"] alone, as at [slice, row, column] = [0, 0, 0]"
        );
    }

    #[test]
    fn where_structures_meet_the_more_probable_is_taken() {
        let halves = structures(&[("anterior", &[1]), ("posterior", &[2])]);
        let values = Values::new(&halves).unwrap();
        let anterior = named(mask!["# # # ."], Some([0.9, 0.8, 0.6, 0.1]));
        let posterior = named(mask![". # # #"], Some([0.2, 0.7, 0.7, 1.0]));
        assert_eq!(values.map(&[&anterior, &posterior]).unwrap().values(), [1, 1, 2, 2]);
        let eye = structures(&[("cup", &[2]), ("disc", &[1, 2])]);
        let cup = named(mask!["# # . ."], Some([0.6, 0.9, 0.1, 0.1]));
        let disc = named(mask![". . # ."], Some([0.1, 0.4, 0.9, 0.2]));
        let found = Values::new(&eye).unwrap().map(&[&cup, &disc]).unwrap();
        assert_eq!(found.values(), [0, 2, 1, 0], "either nothing or a cup within a disc");
    }

    #[test]
    fn values_that_tell_nothing_apart_are_refused() {
        let refused = |of: &[(&str, &[u8])]| {
            let Refusal { key, message } = Values::new(&structures(of)).unwrap_err();
            format!("{key}: {message}")
        };
        let twice = "structures.whole: values 1 and 2 stand for the same structures";
        assert_eq!(refused(&[("whole", &[1, 2])]), twice);
        let zero = "structures.lung: expected numbers from 1 to 255, at least one: got [0]";
        assert_eq!(refused(&[("lung", &[0])]), zero);
        assert!(refused(&[("lung", &[])]).ends_with("got []"));
    }
}
