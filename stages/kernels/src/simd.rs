//! Instruction sets and a small abstraction over their f32 vectors.
//!
//! The set of the process is found once: the best one that the machine has, or the one that [`INSTRUCTIONS`] names.
//! Every operation asks [`Isa::current`] on the thread that calls it and hands the answer to its tasks, so
//! [`with_isa`] can run any operation on any set of the machine.
//! Results do not depend on the number of threads; they may differ in the last bits between sets, because the
//! portable one has no fused multiply-add and the widths group sums differently.

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::{cell::Cell, env, error::Error, fmt, sync::OnceLock};

use crate::Element;
pub(crate) use portable::Portable;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

/// Set of vector instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// Plain Rust, four lanes; always there.
    Portable,
    /// AVX2 and FMA, eight lanes.
    Avx2,
    /// AVX-512 F, sixteen lanes.
    Avx512,
    /// As [`Isa::Amx`], and products of f32 in convolutions on the tile matrix unit as well: each number is split into
    /// two bf16 (16 binary digits of 24), and of four products the one of both lower parts is left out. The relative
    /// error is about 2^-17 instead of 2^-24; infinities become NaN. Used on request only, by [`with_isa`].
    AmxSplit,
    /// AVX-512 with BF16, and for convolutions of bf16 the tile matrix unit (AMX); f32 as on [`Isa::Avx512`].
    Amx,
}

/// Environment variable that names the set of a process, so that machines of different sets give the same bytes.
pub const INSTRUCTIONS: &str = "PIPELINE_INSTRUCTIONS";

/// A name in [`INSTRUCTIONS`] that is no set of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownIsa {
    /// What the variable holds.
    pub name: String,
}

impl fmt::Display for UnknownIsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has: Vec<&str> = Isa::available().into_iter().map(Isa::name).collect();
        write!(
            f,
            "{INSTRUCTIONS} must name an instruction set of this machine ({}): got `{}`",
            has.join(", "),
            self.name
        )
    }
}

impl Error for UnknownIsa {}

thread_local! {
    static CHOSEN: Cell<Option<Isa>> = const { Cell::new(None) };
}

impl Isa {
    /// All sets that this machine has, the best last.
    pub fn available() -> Vec<Isa> {
        [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::AmxSplit, Isa::Amx]
            .into_iter()
            .filter(|isa| isa.is_available())
            .collect()
    }

    /// The name of the set in [`INSTRUCTIONS`].
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::AmxSplit => "amx-split",
            Isa::Amx => "amx",
        }
    }

    /// The set of this process: the one that [`INSTRUCTIONS`] names, or the best of the machine.
    ///
    /// # Errors
    /// [`UnknownIsa`] when the variable names no set of this machine.
    pub fn of_process() -> Result<Isa, UnknownIsa> {
        let available = Self::available();
        match env::var_os(INSTRUCTIONS) {
            None => Ok(available.last().copied().unwrap_or(Isa::Portable)),
            Some(name) => available
                .into_iter()
                .find(|isa| name == isa.name())
                .ok_or_else(|| UnknownIsa { name: name.to_string_lossy().into_owned() }),
        }
    }

    /// The set that operations called from this thread use: that of the process, or that of [`with_isa`].
    ///
    /// # Panics
    /// Where [`Isa::of_process`] is an error: programs ask it first.
    pub fn current() -> Isa {
        static PROCESS: OnceLock<Isa> = OnceLock::new();
        CHOSEN.get().unwrap_or_else(|| {
            *PROCESS
                .get_or_init(|| Self::of_process().expect("the program asked `of_process` first"))
        })
    }

    #[cfg(target_arch = "x86_64")]
    fn is_available(self) -> bool {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        match self {
            Isa::Portable => true,
            Isa::Avx2 => avx2,
            Isa::Avx512 => avx2 && is_x86_feature_detected!("avx512f"),
            Isa::Amx | Isa::AmxSplit => avx2 && crate::amx::is_available(),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn is_available(self) -> bool {
        self == Isa::Portable
    }

    /// Whether convolutions of format `E` run on tiles.
    pub(crate) fn has_tiles_for<E: Element>(self) -> bool {
        match self {
            Isa::Amx => E::as_f32(&[]).is_none(),
            Isa::AmxSplit => true,
            _ => false,
        }
    }

    /// Lanes of one vector of f32.
    pub(crate) fn lanes(self) -> usize {
        match self {
            Isa::Portable => 4,
            Isa::Avx2 => 8,
            _ => 16,
        }
    }

    /// Runs `task` compiled for this set.
    pub(crate) fn run<T: LaneTask>(self, task: T) -> T::Output {
        match self {
            // SAFETY: `Portable` needs no instructions beyond the target's own.
            Isa::Portable => unsafe { task.run::<Portable>() },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: values of `Isa` that reach this point come from `current`, which gives available sets only.
            Isa::Avx2 => unsafe { run_avx2(task) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx512 => unsafe { run_avx512(task) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above; machines with the tile matrix unit for bf16 have AVX-512 BF16 as well.
            Isa::Amx | Isa::AmxSplit => unsafe { run_avx512_bf16(task) },
            #[cfg(not(target_arch = "x86_64"))]
            // SAFETY: `Portable` needs no instructions beyond the target's own.
            _ => unsafe { task.run::<Portable>() },
        }
    }
}

/// Runs `body` with all operations that it calls from this thread on `isa`; `None` when the machine lacks it.
///
/// # Examples
/// ```
/// use kernels::{Isa, with_isa};
/// assert_eq!(with_isa(Isa::Portable, Isa::current), Some(Isa::Portable));
/// ```
pub fn with_isa<T>(isa: Isa, body: impl FnOnce() -> T) -> Option<T> {
    struct Restore(Option<Isa>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CHOSEN.set(self.0);
        }
    }
    isa.is_available().then(|| {
        let _restore = Restore(CHOSEN.replace(Some(isa)));
        body()
    })
}

/// A loop over lanes that is compiled once for each instruction set.
pub(crate) trait LaneTask {
    /// What the loop gives back.
    type Output;

    /// Runs the loop; implementations are `#[inline(always)]` so that they take on the caller's features.
    ///
    /// # Safety
    /// The machine must have the instructions of `L`.
    unsafe fn run<L: Lanes>(self) -> Self::Output;
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<T: LaneTask>(task: T) -> T::Output {
    // SAFETY: this function's own features are those of `Avx2`.
    unsafe { task.run::<Avx2>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn run_avx512<T: LaneTask>(task: T) -> T::Output {
    // SAFETY: this function's own features are those of `Avx512`.
    unsafe { task.run::<Avx512>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
fn run_avx512_bf16<T: LaneTask>(task: T) -> T::Output {
    // SAFETY: this function's own features are those of `Avx512` with BF16.
    unsafe { task.run::<Avx512<true>>() }
}

/// A vector of f32 lanes.
///
/// # Safety
/// All functions need the instructions of the implementing set; those with pointers need as many readable or
/// writable floats as they say.
pub trait Lanes: Copy {
    /// Lanes of one vector; a power of two.
    const WIDTH: usize;

    /// All lanes zero.
    unsafe fn zero() -> Self;
    /// All lanes `value`.
    unsafe fn splat(value: f32) -> Self;
    /// The `GROUP` floats at `from`, again and again; `GROUP` is 1, 2 or 4 and at most the width.
    unsafe fn splat_group<const GROUP: usize>(from: *const f32) -> Self;
    /// `WIDTH` floats.
    unsafe fn load(from: *const f32) -> Self;
    /// The first `count <= WIDTH` floats; the other lanes are zero and their memory is not touched.
    unsafe fn load_first(from: *const f32, count: usize) -> Self;
    /// Writes `WIDTH` floats.
    unsafe fn store(self, to: *mut f32);
    /// Writes the first `count <= WIDTH` floats.
    unsafe fn store_first(self, to: *mut f32, count: usize);
    /// `WIDTH` floats of which only the upper halves are stored, as in bf16.
    unsafe fn load_upper(from: *const u16) -> Self;
    /// The first `count <= WIDTH` of such floats; the other lanes are zero and their memory is not touched.
    unsafe fn load_upper_first(from: *const u16, count: usize) -> Self;
    /// Writes the upper halves of `WIDTH` floats, rounded to nearest, ties to even; NaN stays NaN.
    ///
    /// Denormal numbers may become zero.
    unsafe fn store_upper(self, to: *mut u16);
    /// Writes the first `count <= WIDTH` of them.
    unsafe fn store_upper_first(self, to: *mut u16, count: usize);
    /// Writes the upper halves of `self` and then those of `second`, `2 * WIDTH` in all.
    #[inline(always)]
    unsafe fn store_upper_pair(self, second: Self, to: *mut u16) {
        // SAFETY: the caller's promises; `WIDTH` more halves follow the first ones.
        unsafe {
            self.store_upper(to);
            second.store_upper(to.add(Self::WIDTH));
        }
    }
    /// `self * factor + term`, rounded once where the set can.
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self;
    /// `self + other`.
    unsafe fn add(self, other: Self) -> Self;
    /// `self - other`.
    unsafe fn sub(self, other: Self) -> Self;
    /// `self * other`.
    unsafe fn mul(self, other: Self) -> Self;
    /// `self / other`.
    unsafe fn div(self, other: Self) -> Self;
    /// Square root of each lane.
    unsafe fn sqrt(self) -> Self;
    /// Zero where `self` is below zero, else `self`; NaN stays NaN.
    unsafe fn relu(self) -> Self;
    /// `self` where `gate` is above zero and zero elsewhere.
    unsafe fn where_positive(self, gate: Self) -> Self;
    /// `self` where `a` equals `b` and zero elsewhere.
    unsafe fn where_equal(self, a: Self, b: Self) -> Self;
    /// The greater of both; NaN if `other` is NaN.
    unsafe fn max(self, other: Self) -> Self;
    /// Sums of neighbouring lanes, `WIDTH / 2` of them, in the first half; the rest is unspecified.
    unsafe fn fold_pairs(self) -> Self;
    /// The lesser of both; NaN if `other` is NaN.
    unsafe fn min(self, other: Self) -> Self;
    /// `self` without its sign.
    unsafe fn abs(self) -> Self;
    /// `self` where `gate` is above zero and `other` elsewhere.
    unsafe fn choose(self, gate: Self, other: Self) -> Self;
    /// Two to the power of each lane, which is a whole number in [-127, 128]; -127 gives 0 and 128 infinity.
    unsafe fn power_of_two(self) -> Self;
    /// A positive normal number as `(m, e)` with `m * 2^e` and `m` in [√½, √2).
    unsafe fn split_exponent(self) -> (Self, Self);
}

/// Bits of the square root of one half: where [`Lanes::split_exponent`] parts its octaves.
pub(crate) const ROOT_HALF: i32 = std::f32::consts::FRAC_1_SQRT_2.to_bits() as i32;

/// `count` values, the lanes after them zero.
///
/// # Safety
/// They are readable, `count` is at most the width, and the machine has the instructions of `L`.
#[inline(always)]
pub(crate) unsafe fn load<L: Lanes, E: Element>(from: *const E, count: usize) -> L {
    // SAFETY: the caller's promises, here and below.
    unsafe { if count == L::WIDTH { E::load(from) } else { E::load_first(from, count) } }
}

/// Writes `count` values.
///
/// # Safety
/// As for [`load`], and they are writable.
#[inline(always)]
pub(crate) unsafe fn store<L: Lanes, E: Element>(lanes: L, to: *mut E, count: usize) {
    // SAFETY: as above.
    unsafe {
        if count == L::WIDTH { E::store(lanes, to) } else { E::store_first(lanes, to, count) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every operation on the numbers -4, -3, …, folded into one list that is independent of the width.
    struct EveryOperation;

    impl LaneTask for EveryOperation {
        type Output = Vec<f32>;

        #[inline(always)]
        unsafe fn run<L: Lanes>(self) -> Vec<f32> {
            let input: Vec<f32> = (0..32).map(|i| i as f32 - 4.0).collect();
            let mut out = Vec::new();
            for start in (0..16).step_by(L::WIDTH) {
                let mut to = [0.0; 16];
                // SAFETY: the buffers hold 16 floats from each place, and the set is that of the caller.
                unsafe {
                    let (x, two) = (L::load(input.as_ptr().add(start)), L::splat(2.0));
                    let y = x.mul_add(two, L::zero()).add(x).sub(two).mul(two).div(two);
                    let y = y.where_positive(x).where_equal(y.max(x), y);
                    let (mantissa, exponent) = y.abs().choose(y, two).split_exponent();
                    let y = mantissa.mul(exponent.power_of_two()).min(y.max(y)).choose(x, y);
                    y.relu().sqrt().store(to.as_mut_ptr());
                }
                out.extend(&to[..L::WIDTH]);
            }
            out
        }
    }

    struct PartialLanes;

    impl LaneTask for PartialLanes {
        type Output = [f32; 12];

        #[inline(always)]
        unsafe fn run<L: Lanes>(self) -> [f32; 12] {
            let (input, mut to) = ([1.0, 2.0, 3.0, 4.0, 5.0], [9.0; 12]);
            // SAFETY: three lanes fit in every width; groups of four read the first four floats.
            unsafe {
                L::load_first(input.as_ptr(), 3).store_first(to.as_mut_ptr(), 4);
                L::splat_group::<4>(input.as_ptr())
                    .fold_pairs()
                    .store_first(to[4..].as_mut_ptr(), 2);
                L::splat_group::<2>(input.as_ptr()).store_first(to[8..].as_mut_ptr(), 3);
            }
            to
        }
    }

    #[test]
    fn sets_agree_on_every_operation() {
        let expected: Vec<f32> = (0..16)
            .map(|i| i as f32 - 4.0)
            .map(|x: f32| if x > 0.0 { (3.0 * x - 2.0).sqrt() } else { 0.0 })
            .collect();
        for isa in Isa::available() {
            assert_eq!(isa.run(EveryOperation), expected, "{isa:?}");
            let partial = isa.run(PartialLanes);
            assert_eq!(partial, [1., 2., 3., 0., 3., 7., 9., 9., 1., 2., 1., 9.], "{isa:?}");
        }
    }

    #[test]
    fn choice_ends_with_its_scope() {
        let best = Isa::current();
        assert_eq!(with_isa(Isa::Portable, Isa::current), Some(Isa::Portable));
        assert_eq!(Isa::current(), best);
    }
}
