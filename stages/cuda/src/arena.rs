//! Memory of a device, taken in large chunks and handed out front to back.

use crate::{Address, CudaError, Device};

/// Every buffer begins at a multiple of this.
const ALIGNMENT: usize = 256;
/// Bytes that are taken from the device at once, unless more are asked for.
const CHUNK: usize = 64 << 20;

/// Buffers that live as long as their device; nothing is given back but all at once, to be handed out again.
#[derive(Debug, Default)]
pub struct Arena {
    chunks: Vec<Chunk>,
}

#[derive(Debug)]
struct Chunk {
    at: Address,
    n_bytes: usize,
    used: usize,
}

impl Arena {
    /// Takes `n_bytes` of any content.
    ///
    /// # Errors
    /// Those of [`Device::allocate`].
    pub fn take(&mut self, device: &mut dyn Device, n_bytes: usize) -> Result<Address, CudaError> {
        let n_bytes = n_bytes.max(1).next_multiple_of(ALIGNMENT);
        let place = self.chunks.iter().position(|chunk| chunk.n_bytes - chunk.used >= n_bytes);
        let place = match place {
            Some(place) => place,
            None => {
                let whole = n_bytes.max(CHUNK);
                let at = device.allocate(whole)?;
                self.chunks.push(Chunk { at, n_bytes: whole, used: 0 });
                self.chunks.len() - 1
            }
        };
        let chunk = &mut self.chunks[place];
        chunk.used += n_bytes;
        Ok(chunk.at.plus(chunk.used - n_bytes))
    }

    /// Hands the same memory out once more: whoever uses both old and new buffers must not need the old ones' content.
    pub fn rewind(&mut self) {
        self.chunks.iter_mut().for_each(|chunk| chunk.used = 0);
    }

    /// Takes memory for `count` f32.
    ///
    /// # Errors
    /// Those of [`Device::allocate`].
    pub fn floats(&mut self, device: &mut dyn Device, count: usize) -> Result<Address, CudaError> {
        self.take(device, 4 * count)
    }

    /// Bytes taken from the device so far.
    pub fn n_bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.n_bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use crate::emulator::Emulator;

    #[test]
    fn buffers_are_aligned_and_apart() {
        let (mut device, mut arena) = (Emulator::without_kernels(), Arena::default());
        let places: Vec<Address> =
            [1, 256, 300, CHUNK, 8].iter().map(|&n| arena.take(&mut device, n).unwrap()).collect();
        assert!(places.iter().all(|place| place.0.is_multiple_of(ALIGNMENT as u64)));
        assert_eq!(places[1], places[0].plus(256));
        assert_eq!(places[2], places[1].plus(256));
        assert_eq!(places[4], places[2].plus(512));
        assert_eq!(arena.n_bytes(), 2 * CHUNK);
        arena.rewind();
        let again = [300, CHUNK, 1].map(|n| arena.take(&mut device, n).unwrap());
        assert_eq!(again, [places[0], places[3], places[0].plus(512)]);
        assert_eq!(arena.n_bytes(), 2 * CHUNK);
    }
}
