//! Keyed random streams: the same key gives the same numbers whatever the order, the subset or the thread count.
//!
//! A stream is ChaCha8 under a key hashed from (seed, purpose, parts). Uniform and normal numbers are made here
//! and not by `rand`, whose algorithms may change between its major versions; golden values pin them.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// A stream of random numbers of its own.
#[derive(Clone, Debug)]
pub struct Stream {
    generator: ChaCha8Rng,
}

impl Stream {
    /// Opens the stream of `purpose` for `parts`, for example a case id and a source name.
    ///
    /// Parts are length-prefixed, so `["ab", "c"]` and `["a", "bc"]` are different streams.
    pub fn new(seed: u64, purpose: &str, parts: &[&str]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("pipeline 2026 random stream v1");
        hasher.update(&seed.to_le_bytes());
        for part in std::iter::once(&purpose).chain(parts) {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        Self { generator: ChaCha8Rng::from_seed(*hasher.finalize().as_bytes()) }
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.generator.next_u64()
    }

    /// Uniform in `[0, 1)` with 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in `[low, high)`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Standard normal by Box and Muller; two uniforms a number, so that streams stay aligned.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Uniform integer in `0..n`, by multiplication and shift (bias below `n / 2^64`); 0 for `n = 0`.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }

    /// Shuffles by Fisher and Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_numbers_pin_the_streams() {
        let mut stream = Stream::new(7, "golden", &["case", "source"]);
        let bits = [stream.bits(), stream.bits()];
        let [uniform, normal] = [stream.uniform(), stream.normal()];
        let below = stream.below(1000);
        let mut cards = [0, 1, 2, 3, 4, 5];
        stream.shuffle(&mut cards);
        assert_eq!(bits, [4164368141740828162, 10455411754353354084]);
        assert_eq!(uniform, 0.5933787191982554);
        // Logarithm and cosine come from the system and may differ in the last bit.
        assert!((normal - 0.3301796178786021).abs() < 1e-14, "{normal}");
        assert_eq!((below, cards), (94, [2, 0, 3, 5, 1, 4]));
    }

    #[test]
    fn every_part_of_the_key_opens_another_stream() {
        let first = |seed, purpose, parts: &[&str]| Stream::new(seed, purpose, parts).bits();
        let all = [
            first(1, "a", &["ab", "c"]),
            first(2, "a", &["ab", "c"]),
            first(1, "b", &["ab", "c"]),
            first(1, "a", &["a", "bc"]),
            first(1, "a", &["ab", "c", ""]),
        ];
        for (n, one) in all.iter().enumerate() {
            assert!(!all[..n].contains(one));
        }
        assert_eq!(all[0], first(1, "a", &["ab", "c"]));
    }

    #[test]
    fn numbers_are_spread_as_they_should() {
        const N: usize = 20_000;
        let mut stream = Stream::new(0, "moments", &[]);
        let normal: Vec<f64> = (0..N).map(|_| stream.normal()).collect();
        let mean = normal.iter().sum::<f64>() / N as f64;
        let variance = normal.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / N as f64;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
        let mut counts = [0usize; 5];
        (0..N).for_each(|_| counts[stream.below(5)] += 1);
        assert!(counts.iter().all(|n| n.abs_diff(N / 5) < 300), "{counts:?}");
        assert!((0..N).all(|_| (2.0..3.0).contains(&stream.between(2.0, 3.0))));
        assert_eq!(stream.below(0), 0);
    }
}
