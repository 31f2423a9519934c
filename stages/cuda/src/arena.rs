//! Memory of a device, taken in large chunks and handed out front to back.

use crate::{Address, CudaError, Device};

/// Every buffer begins at a multiple of this.
const ALIGNMENT: usize = 256;
/// Bytes that are taken from the device at once, unless more are asked for.
const CHUNK: usize = 64 << 20;

/// Buffers that live as long as their device; nothing is given back.
#[derive(Debug, Default)]
pub struct Arena {
    free: Option<(Address, usize)>,
    n_bytes: usize,
}

impl Arena {
    /// Takes `n_bytes` of any content.
    ///
    /// # Errors
    /// Those of [`Device::allocate`].
    pub fn take(&mut self, device: &mut dyn Device, n_bytes: usize) -> Result<Address, CudaError> {
        let n_bytes = n_bytes.max(1).next_multiple_of(ALIGNMENT);
        let (at, left) = match self.free {
            Some((at, left)) if left >= n_bytes => (at, left),
            // What is larger than a chunk gets one of its own, and the open one stays open.
            _ if n_bytes >= CHUNK => {
                self.n_bytes += n_bytes;
                return device.allocate(n_bytes);
            }
            _ => {
                self.n_bytes += CHUNK;
                (device.allocate(CHUNK)?, CHUNK)
            }
        };
        self.free = Some((at.plus(n_bytes), left - n_bytes));
        Ok(at)
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
        self.n_bytes
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
    }
}
