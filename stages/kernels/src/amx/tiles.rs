//! The tile unit itself: whether it is there, its configuration, and products of tiles.
//!
//! A tile holds sixteen rows of 64 bytes. One instruction multiplies sixteen rows of 32 bf16 with sixteen rows of
//! sixteen pairs and adds to sixteen by sixteen sums in f32. Rust has no stable intrinsics for it, so each product
//! is one block of assembly that sets all tiles it reads.

use std::{arch::asm, marker::PhantomData, sync::OnceLock};

use half::bf16;

/// Numbers of the sum that one step of a product takes.
pub(crate) const STEP: usize = 32;
/// Rows or lanes of one tile.
pub(crate) const SIDE: usize = 16;
/// Numbers of one tile of a panel.
pub(crate) const TILE: usize = STEP * SIDE;
/// Sums of one product.
pub(crate) const SUMS: usize = 1024;

/// Whether the processor has the unit and the system lets this process use it.
pub(crate) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| has_instructions() && is_permitted())
}

/// The instructions that the code of this module uses, and the state that the system saves for them.
fn has_instructions() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    /// Leaf 1, ecx: the system has enabled `xgetbv`.
    const OSXSAVE: u32 = 1 << 27;
    /// Leaf 7, edx: products of bf16 tiles, and tiles.
    const TILES: u32 = 1 << 22 | 1 << 24;
    /// Register XCR0: tile configuration and tile data.
    const TILE_STATE: u32 = 1 << 17 | 1 << 18;
    let vectors = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bf16");
    if !vectors || __cpuid(0).eax < 7 || __cpuid(1).ecx & OSXSAVE == 0 {
        return false;
    }
    let state: u32;
    // SAFETY: `xgetbv` of register 0 is allowed where OSXSAVE is set; it writes eax and edx only.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") state, out("edx") _,
            options(nomem, nostack, preserves_flags));
    }
    __cpuid_count(7, 0).edx & TILES == TILES && state & TILE_STATE == TILE_STATE
}

/// Asks Linux for the tile registers, for all threads of the process.
#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    const ARCH_PRCTL: u64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const TILE_DATA: u64 = 18;
    let result: i64;
    // SAFETY: this system call takes two numbers and no memory; the kernel overwrites rax, rcx and r11 only.
    unsafe {
        asm!("syscall", inlateout("rax") ARCH_PRCTL => result, in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") TILE_DATA, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    false
}

/// The tile unit of this thread while the value lives: eight tiles of full size.
///
/// It must not live across a call that may run another task on the thread, since that task's own value would take
/// the configuration away.
pub(crate) struct Tiles(PhantomData<*const ()>);

impl Tiles {
    /// Configures the unit.
    ///
    /// # Safety
    /// [`is_available`] is true.
    pub(crate) unsafe fn configure() -> Self {
        #[repr(C, align(64))]
        struct Config {
            palette: u8,
            start_row: u8,
            reserved: [u8; 14],
            row_bytes: [u16; 16],
            rows: [u8; 16],
        }
        const CONFIG: Config = Config {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
            rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
        };
        // SAFETY: the unit is there; the configuration is 64 readable bytes and a valid one. Compiled code
        // never holds values in tiles.
        unsafe {
            asm!("ldtilecfg [{config}]", config = in(reg) &CONFIG,
                options(nostack, preserves_flags, readonly));
        }
        Self(PhantomData)
    }

    /// Multiplies 32 left rows with a panel of 32 lanes; sums are `[row 32][lane 32]`.
    ///
    /// # Safety
    /// As [`Product`] says, with two left tiles and a panel of two tiles a step.
    #[inline(always)]
    pub(crate) unsafe fn wide(&self, product: &Product<'_>) {
        // SAFETY: the caller promises that all rows of all steps are readable and the sums writable; the tiles are
        // configured as long as `self` lives, and the block declares every register that it changes.
        unsafe {
            asm!(
                "test {add:e}, {add:e}",
                "jnz 2f",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "jmp 3f",
                "2:",
                "mov {st:e}, 128",
                "tileloadd tmm0, [{sums} + {st}*1]",
                "tileloadd tmm1, [{sums} + {st}*1 + 64]",
                "tileloadd tmm2, [{sums} + {st}*1 + 2048]",
                "tileloadd tmm3, [{sums} + {st}*1 + 2112]",
                "3:",
                "mov {st:e}, 64",
                "4:",
                "mov {a}, [{lefts}]",
                "mov {k}, {steps}",
                "lea {d}, [{a} + {gap}]",
                "5:",
                "tileloadd tmm4, [{a} + {row}*1]",
                "tileloadd tmm6, [{b} + {st}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b} + {st}*1 + 1024]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{d} + {row}*1]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a}, 64",
                "add {d}, 64",
                "add {b}, 2048",
                "dec {k}",
                "jnz 5b",
                "add {lefts}, 8",
                "dec {n}",
                "jnz 4b",
                "mov {st:e}, 128",
                "tilestored [{sums} + {st}*1], tmm0",
                "tilestored [{sums} + {st}*1 + 64], tmm1",
                "tilestored [{sums} + {st}*1 + 2048], tmm2",
                "tilestored [{sums} + {st}*1 + 2112], tmm3",
                add = in(reg) u32::from(product.add),
                sums = in(reg) product.sums,
                lefts = inout(reg) product.lefts.as_ptr() => _,
                n = inout(reg) product.lefts.len() => _,
                steps = in(reg) product.n_steps,
                gap = in(reg) product.gaps[0].wrapping_mul(size_of::<bf16>()),
                row = in(reg) product.left_row * size_of::<bf16>(),
                b = inout(reg) product.panel => _,
                st = out(reg) _,
                a = out(reg) _,
                d = out(reg) _,
                k = out(reg) _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }

    /// Multiplies 64 left rows with a panel of 16 lanes; sums are `[row 64][lane 16]`.
    ///
    /// # Safety
    /// As [`Product`] says, with four left tiles and a panel of one tile a step.
    #[inline(always)]
    pub(crate) unsafe fn tall(&self, product: &Product<'_>) {
        let gaps = product.gaps.map(|gap| gap.wrapping_mul(size_of::<bf16>()));
        // SAFETY: as in `wide`.
        unsafe {
            asm!(
                "mov {st:e}, 64",
                "test {add:e}, {add:e}",
                "jnz 2f",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "jmp 4f",
                "2:",
                "tileloadd tmm0, [{sums} + {st}*1]",
                "tileloadd tmm1, [{sums} + {st}*1 + 1024]",
                "tileloadd tmm2, [{sums} + {st}*1 + 2048]",
                "tileloadd tmm3, [{sums} + {st}*1 + 3072]",
                "4:",
                "mov {a}, [{lefts}]",
                "mov {k}, {steps}",
                "5:",
                "tileloadd tmm7, [{b} + {st}*1]",
                "tileloadd tmm4, [{a} + {row}*1]",
                "tdpbf16ps tmm0, tmm4, tmm7",
                "mov {d}, [{gaps}]",
                "add {d}, {a}",
                "tileloadd tmm5, [{d} + {row}*1]",
                "tdpbf16ps tmm1, tmm5, tmm7",
                "mov {d}, [{gaps} + 8]",
                "add {d}, {a}",
                "tileloadd tmm6, [{d} + {row}*1]",
                "tdpbf16ps tmm2, tmm6, tmm7",
                "mov {d}, [{gaps} + 16]",
                "add {d}, {a}",
                "tileloadd tmm4, [{d} + {row}*1]",
                "tdpbf16ps tmm3, tmm4, tmm7",
                "add {a}, 64",
                "add {b}, 1024",
                "dec {k}",
                "jnz 5b",
                "add {lefts}, 8",
                "dec {n}",
                "jnz 4b",
                "tilestored [{sums} + {st}*1], tmm0",
                "tilestored [{sums} + {st}*1 + 1024], tmm1",
                "tilestored [{sums} + {st}*1 + 2048], tmm2",
                "tilestored [{sums} + {st}*1 + 3072], tmm3",
                add = in(reg) u32::from(product.add),
                sums = in(reg) product.sums,
                lefts = inout(reg) product.lefts.as_ptr() => _,
                n = inout(reg) product.lefts.len() => _,
                steps = in(reg) product.n_steps,
                gaps = in(reg) gaps.as_ptr(),
                row = in(reg) product.left_row * size_of::<bf16>(),
                b = inout(reg) product.panel => _,
                st = out(reg) _,
                a = out(reg) _,
                d = out(reg) _,
                k = out(reg) _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: the unit was configured by this thread; releasing it makes switches between threads cheap again.
        unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) }
    }
}

/// Operands of one product: left rows, each of `STEP * n_steps` neighbouring numbers for every segment, and a panel.
pub(crate) struct Product<'a> {
    /// Row 0 of each segment of the sum; not empty.
    pub(crate) lefts: &'a [*const bf16],
    /// Numbers from one left row to the next.
    pub(crate) left_row: usize,
    /// Numbers from the first left tile to the other one or three, whose rows follow by `left_row` too; they wrap
    /// around, so that tiles may lie before the first.
    pub(crate) gaps: [usize; 3],
    /// Steps of each segment; at least one.
    pub(crate) n_steps: usize,
    /// Tiles of `[pair 16][lane 16][2]`, as they come in the sum.
    pub(crate) panel: *const bf16,
    /// [`SUMS`] numbers.
    pub(crate) sums: *mut f32,
    /// Whether to add to the sums instead of replacing them.
    pub(crate) add: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Left `[row][64]` and right `[64][lane]` of small whole numbers, so that sums are exact.
    fn operands(n_lanes: usize) -> (Vec<bf16>, Vec<bf16>) {
        let number = |n: usize| bf16::from_f32((n * 7 % 13) as f32 - 6.0);
        let left = (0..SIDE * 4 * 64).map(number).collect();
        (left, (0..64 * n_lanes).map(|n| number(n * 5 + 3)).collect())
    }

    fn check(n_rows: usize, n_lanes: usize, run: unsafe fn(&Tiles, &Product<'_>)) {
        if !is_available() {
            return;
        }
        let (left, right) = operands(n_lanes);
        let mut panel = Vec::new();
        for k in (0..64).step_by(STEP) {
            for lane in (0..n_lanes).step_by(SIDE) {
                for n in 0..TILE {
                    let (pair, rest) = (n / STEP, n % STEP);
                    panel.push(right[(k + 2 * pair + rest % 2) * n_lanes + lane + rest / 2]);
                }
            }
        }
        let mut sums = vec![f32::NAN; SUMS];
        let product = |add, sums: &mut Vec<f32>| {
            let product = Product {
                lefts: &[left.as_ptr()],
                left_row: 64,
                gaps: [SIDE * 64, 2 * SIDE * 64, 3 * SIDE * 64],
                n_steps: 2,
                panel: panel.as_ptr(),
                sums: sums.as_mut_ptr(),
                add,
            };
            // SAFETY: the unit is available, and the buffers hold all rows, steps and sums.
            unsafe { run(&Tiles::configure(), &product) };
        };
        product(false, &mut sums);
        product(true, &mut sums);
        for row in 0..n_rows {
            for lane in 0..n_lanes {
                let term =
                    |k: usize| left[row * 64 + k].to_f32() * right[k * n_lanes + lane].to_f32();
                let sum: f32 = (0..64).map(term).sum();
                assert_eq!(sums[row * n_lanes + lane], 2.0 * sum, "row {row}, lane {lane}");
            }
        }
    }

    #[test]
    fn products_are_exact_for_small_numbers() {
        check(32, 32, Tiles::wide);
        check(64, 16, Tiles::tall);
    }
}
