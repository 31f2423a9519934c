//! What masks and label maps can tell about themselves.

use std::collections::BTreeMap;

use super::{FindingCode, LabelValues, ValueRule};
use crate::{CaseLabel, Grid, Image, Mask, raster::Model};

/// Values of a label map that are listed in a finding.
const SHOWN: usize = 8;

/// Number of voxels of every value of a label map, by the bits of the value.
pub(super) struct Values(BTreeMap<u32, usize>);

impl Values {
    /// Counts; maps of interpolated numbers have many values, of which only the first thousands are told apart.
    pub(super) fn of(map: &Image) -> Self {
        const MOST: usize = 4096;
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        let mut last = (0.0_f32.to_bits(), 0);
        let mut add = |(bits, n): (u32, usize)| {
            if n > 0 && (counts.len() < MOST || counts.contains_key(&bits)) {
                *counts.entry(bits).or_default() += n;
            }
        };
        // Label maps are runs of one value.
        for &value in map.values() {
            let bits = (value + 0.0).to_bits();
            if bits != last.0 {
                add(last);
                last = (bits, 0);
            }
            last.1 += 1;
        }
        add(last);
        Self(counts)
    }

    /// The values that no structure declares, with their numbers of voxels.
    pub(super) fn unexpected<'a>(
        &self,
        structures: impl Iterator<Item = &'a LabelValues>,
    ) -> Option<String> {
        let mut declared = vec![0.0_f32.to_bits()];
        for values in structures {
            match values {
                LabelValues::Listed(values) => {
                    declared.extend(values.iter().map(|&value| (value as f32).to_bits()));
                }
                LabelValues::Rule(ValueRule::Foreground) => declared.extend(self.most_frequent()),
            }
        }
        let stray: Vec<(f32, usize)> = self
            .0
            .iter()
            .filter(|(bits, _)| !declared.contains(bits))
            .map(|(&bits, &n)| (f32::from_bits(bits), n))
            .collect();
        if stray.is_empty() {
            return None;
        }
        let shown = stray.iter().take(SHOWN).map(|(value, n)| format!("{value} ({n} voxels)"));
        let mut text = shown.collect::<Vec<_>>().join(", ");
        if stray.len() > SHOWN {
            text += &format!(", {} more values", stray.len() - SHOWN);
        }
        Some(text)
    }

    /// The value other than 0 that most voxels have.
    fn most_frequent(&self) -> Option<u32> {
        let others = self.0.iter().filter(|&(&bits, _)| bits != 0.0_f32.to_bits());
        others.max_by_key(|(_, n)| **n).map(|(&bits, _)| bits)
    }
}

/// The voxels of a structure.
pub(super) fn mask(map: &Image, values: &LabelValues) -> Mask {
    match values {
        LabelValues::Listed(values) => {
            let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
            map.map(|found| values.contains(found))
        }
        LabelValues::Rule(ValueRule::Foreground) => {
            map.map(|&found| found != 0.0 && !found.is_nan())
        }
    }
}

/// One channel of a mask that was stored in several, and the rule by which it was made.
pub(super) fn one_of_many(channels: &[Image], model: Model) -> (Image, &'static str) {
    let (colours, alpha) = match model {
        Model::GreyAlpha => (&channels[..1], channels.get(1)),
        Model::RgbAlpha => (&channels[..3], channels.get(3)),
        Model::Rgb => (channels, None),
        Model::Grey | Model::Indexed => (&channels[..1], None),
    };
    let clear = alpha.filter(|alpha| alpha.values().contains(&0.0));
    let is_grey = colours.iter().all(|colour| colour == &colours[0]);
    let mut map = colours[0].clone();
    for colour in &colours[1..] {
        map.values_mut().iter_mut().zip(colour.values()).for_each(|(v, c)| *v = v.max(*c));
    }
    if let Some(alpha) = clear {
        let pairs = map.values_mut().iter_mut().zip(alpha.values());
        pairs.filter(|(_, opacity)| **opacity == 0.0).for_each(|(value, _)| *value = 0.0);
    }
    let rule = match (is_grey, clear.is_some()) {
        (true, false) => "the grey that all colours are",
        (true, true) => "the grey that all colours are, 0 where it is transparent",
        (false, false) => "the largest of red, green and blue",
        (false, true) => "the largest of red, green and blue, 0 where it is transparent",
    };
    (map, rule)
}

/// Voxels of the first mask that the second does not have; masks of other shapes have none.
pub(super) fn count_outside(inner: &Mask, outer: &Mask) -> usize {
    if inner.shape() != outer.shape() {
        return 0;
    }
    inner.values().iter().zip(outer.values()).filter(|&(&inner, &outer)| inner && !outer).count()
}

/// Whether two sources drew the same masks; empty ones do not count as drawn.
pub(super) fn are_same(labels: &[CaseLabel], others: &[CaseLabel]) -> bool {
    let is_drawn = labels.iter().any(|label| !label.mask.is_empty());
    let same =
        |(a, b): (&CaseLabel, &CaseLabel)| (&a.structure, &a.mask) == (&b.structure, &b.mask);
    is_drawn && labels.len() == others.len() && labels.iter().zip(others).all(same)
}

/// What is wrong with the numbers of an image: NaN or infinity, or one value everywhere.
pub fn check_image(image: &Image) -> Option<(FindingCode, String)> {
    let values = image.values();
    let n_wrong = values.iter().filter(|value| !value.is_finite()).count();
    if n_wrong > 0 {
        let detail = format!("{n_wrong} of {} voxels are NaN or infinite", values.len());
        return Some((FindingCode::NotFinite, detail));
    }
    let is_constant = values.iter().all(|value| value == &values[0]);
    is_constant.then(|| (FindingCode::ConstantImage, format!("every voxel is {}", values[0])))
}

/// Digest of the shapes and voxels of a case's channels, by which an image is found again under another name.
pub fn digest<'a>(images: impl Iterator<Item = &'a Grid<f32>>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("pipeline 2026 image of a case v1");
    for image in images {
        for axis in image.shape() {
            hasher.update(&(axis as u64).to_le_bytes());
        }
        for values in image.values().chunks(1 << 12) {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            hasher.update(&bytes);
        }
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use crate::mask;

    fn map(values: &[f32]) -> Image {
        Grid::new([1, 1, values.len()], values.to_vec()).unwrap()
    }

    fn unexpected(values: &[f32], structures: &[LabelValues]) -> Option<String> {
        Values::of(&map(values)).unexpected(structures.iter())
    }

    #[test]
    fn values_that_nobody_declares_are_counted() {
        let [disc, cup] = [vec![1, 2], vec![2]].map(LabelValues::Listed);
        let both = [disc.clone(), cup.clone()];
        assert_eq!(unexpected(&[0.0, -0.0, 1.0, 2.0, 2.0], &both), None);
        let text = unexpected(&[4.0, 0.0, 1.5, 4.0, f32::NAN], &both).unwrap();
        assert_eq!(text, "1.5 (1 voxels), 4 (2 voxels), NaN (1 voxels)");
        let foreground = [LabelValues::Rule(ValueRule::Foreground)];
        assert_eq!(unexpected(&[0.0, 255.0, 255.0], &foreground), None);
        assert_eq!(unexpected(&[0.0; 3], &foreground), None);
        let text = unexpected(&[0.0, 255.0, 255.0, 24.0], &foreground).unwrap();
        assert_eq!(text, "24 (1 voxels)");
        let blurred: Vec<f32> = (0..20).map(|value| value as f32).collect();
        assert!(unexpected(&blurred, &foreground).unwrap().ends_with("10 more values"));
        let found = [mask(&map(&[0.0, 1.0, 2.0]), &disc), mask(&map(&[0.0, 1.0, 2.0]), &cup)];
        assert_eq!(found, [mask![". # #"], mask![". . #"]]);
    }

    #[test]
    fn a_mask_of_several_channels_is_read_by_a_rule() {
        let red = [map(&[255.0, 255.0, 0.0]), map(&[0.0; 3]), map(&[0.0; 3])];
        let (found, rule) = one_of_many(&red, Model::Rgb);
        assert_eq!(
            (found, rule),
            (map(&[255.0, 255.0, 0.0]), "the largest of red, green and blue")
        );
        let grey = [map(&[255.0, 255.0, 0.0]), map(&[255.0, 0.0, 255.0])];
        let (found, rule) = one_of_many(&grey, Model::GreyAlpha);
        assert_eq!(found, map(&[255.0, 0.0, 0.0]));
        assert!(rule.starts_with("the grey"), "{rule}");
    }

    #[test]
    fn what_reaches_out_is_counted() {
        assert_eq!(count_outside(&mask!["# # ."], &mask![". # #"]), 1);
        assert_eq!(count_outside(&mask![". # ."], &mask![". # #"]), 0);
    }
}
