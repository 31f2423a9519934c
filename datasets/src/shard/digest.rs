//! Digest of what a shard says, free of how its container says it.
//!
//! Every field is fed with its length and in one byte order, so that no two contents feed the same bytes. Pictures
//! and other derived columns are left out: they follow from the voxels.

use crate::{Affine, Grid, Space, Spacing};

/// A BLAKE3 digest in the making.
pub(crate) struct Content(blake3::Hasher);

impl Content {
    /// Begins the digest of `n_rows` rows of a kind of shard.
    pub(crate) fn new(kind: &str, n_rows: usize) -> Self {
        let mut content =
            Self(blake3::Hasher::new_derive_key("pipeline 2026 logical content of a shard v1"));
        content.text(kind);
        content.count(n_rows);
        content
    }

    /// Feeds a text.
    pub(crate) fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.update(text.as_bytes());
    }

    /// Feeds whether something is there.
    pub(crate) fn presence(&mut self, is_there: bool) {
        self.0.update(&[u8::from(is_there)]);
    }

    /// Feeds a length.
    pub(crate) fn count(&mut self, n: usize) {
        self.0.update(&(n as u64).to_le_bytes());
    }

    /// Feeds the spacing and, where they are known, the rows of the affine and the code of its space in one list, by whose
    /// length they are told apart: what has no affine, or one in the usual space, keeps the digest that it had before there
    /// were others.
    pub(crate) fn geometry(&mut self, spacing: Spacing, affine: Option<&Affine>) {
        let mut numbers = spacing.millimetres().to_vec();
        if let Some(Affine { rows, space }) = affine {
            numbers.extend(rows.iter().flatten());
            let code = (*space != Space::default()).then(|| f64::from(space.code()));
            numbers.extend(code);
        }
        self.doubles(&numbers);
    }

    /// Feeds numbers by their bits.
    pub(crate) fn doubles(&mut self, values: &[f64]) {
        self.count(values.len());
        for value in values {
            self.0.update(&value.to_bits().to_le_bytes());
        }
    }

    /// Feeds shape and voxels of an image by their bits.
    pub(crate) fn image(&mut self, image: &Grid<f32>) {
        self.shape(image.shape());
        for part in image.values().chunks(4096) {
            let bytes: Vec<u8> =
                part.iter().flat_map(|value| value.to_bits().to_le_bytes()).collect();
            self.0.update(&bytes);
        }
    }

    /// Feeds shape and voxels of a mask, one byte a voxel.
    pub(crate) fn mask(&mut self, mask: &Grid<bool>) {
        self.shape(mask.shape());
        for part in mask.values().chunks(16384) {
            let bytes: Vec<u8> = part.iter().map(|&inside| u8::from(inside)).collect();
            self.0.update(&bytes);
        }
    }

    /// The digest of all that was fed.
    pub(crate) fn finish(self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }

    fn shape(&mut self, shape: [usize; 3]) {
        shape.into_iter().for_each(|n| self.count(n));
    }
}
