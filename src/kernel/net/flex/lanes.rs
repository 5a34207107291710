//! Vectors of `f32` for each instruction set.
//!
//! A kernel is written once, generic over [`Lanes`], as a [`Task`]; [`Simd::run`] compiles it for each instruction set. Everything between
//! `run` and the intrinsics is `#[inline(always)]`: a function that is not inlined would be compiled for the build's baseline.

use crate::kernel::net::simd::Simd;

/// Work that is generic over the vectors.
pub trait Task: Sized {
    /// What it gives.
    type Output;

    /// Does it. Implementations are `#[inline(always)]`.
    fn run<L: Lanes>(self) -> Self::Output;
}

impl Simd {
    /// Does a task with these vectors.
    ///
    /// # Panics
    /// The processor has no such instructions.
    #[inline]
    pub fn run<T: Task>(self, task: T) -> T::Output {
        assert!(self.runs(), "this processor has no {}", self.name());
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the processor has the instructions.
            Self::Avx512 => unsafe { avx512(task) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the processor has the instructions.
            Self::Avx2 => unsafe { avx2(task) },
            _ => task.run::<[f32; 4]>(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
fn avx512<T: Task>(task: T) -> T::Output {
    task.run::<std::arch::x86_64::__m512>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<T: Task>(task: T) -> T::Output {
    task.run::<std::arch::x86_64::__m256>()
}

/// A vector of `f32`. The methods are to be called inside [`Task::run`] alone, which guarantees the instructions.
pub trait Lanes: Copy {
    /// Values of a vector.
    const N: usize;

    /// All lanes `value`.
    fn splat(value: f32) -> Self;
    /// # Safety
    /// `N` values can be read from `from`.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// `N` values can be written to `to`.
    unsafe fn store(self, to: *mut f32);
    /// `self * by + plus`, rounded once where the processor can.
    fn mul_add(self, by: Self, plus: Self) -> Self;
    /// Sum.
    fn add(self, other: Self) -> Self;
    /// Difference.
    fn sub(self, other: Self) -> Self;
    /// Product.
    fn mul(self, other: Self) -> Self;
    /// The larger of each lane; `other` where either is NaN.
    fn max(self, other: Self) -> Self;
    /// `self` where `sign` is above zero, else 0.
    fn where_positive(self, sign: Self) -> Self;

    /// Zeros.
    #[inline(always)]
    fn zero() -> Self {
        Self::splat(0.0)
    }

    /// The first `count` values, zeros behind.
    ///
    /// # Safety
    /// `count` values can be read from `from`, `count <= N`.
    #[inline(always)]
    unsafe fn load_some(from: *const f32, count: usize) -> Self {
        let mut room = [0.0f32; 16];
        // SAFETY: the caller's; a vector has no more than 16 values.
        unsafe {
            std::ptr::copy_nonoverlapping(from, room.as_mut_ptr(), count);
            Self::load(room.as_ptr())
        }
    }

    /// Writes the first `count` values.
    ///
    /// # Safety
    /// `count` values can be written to `to`, `count <= N`.
    #[inline(always)]
    unsafe fn store_some(self, to: *mut f32, count: usize) {
        let mut room = [0.0f32; 16];
        // SAFETY: the caller's; a vector has no more than 16 values.
        unsafe {
            self.store(room.as_mut_ptr());
            std::ptr::copy_nonoverlapping(room.as_ptr(), to, count);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Lanes;
    use std::arch::x86_64::*;

    /// [`Lanes`] for a vector by its intrinsics, and what has another form for each.
    macro_rules! lanes {
        ($vector:ty, $count:literal: $splat:ident $load:ident $store:ident $mul_add:ident $add:ident $sub:ident $mul:ident $max:ident { $($own:item)* }) => {
            // SAFETY of all blocks: `Task::run` is only called with these vectors where the processor has the instructions; memory is the caller's.
            impl Lanes for $vector {
                const N: usize = $count;

                #[inline(always)]
                fn splat(value: f32) -> Self {
                    unsafe { $splat(value) }
                }
                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    unsafe { $load(from) }
                }
                #[inline(always)]
                unsafe fn store(self, to: *mut f32) {
                    unsafe { $store(to, self) }
                }
                #[inline(always)]
                fn mul_add(self, by: Self, plus: Self) -> Self {
                    unsafe { $mul_add(self, by, plus) }
                }
                #[inline(always)]
                fn add(self, other: Self) -> Self {
                    unsafe { $add(self, other) }
                }
                #[inline(always)]
                fn sub(self, other: Self) -> Self {
                    unsafe { $sub(self, other) }
                }
                #[inline(always)]
                fn mul(self, other: Self) -> Self {
                    unsafe { $mul(self, other) }
                }
                #[inline(always)]
                fn max(self, other: Self) -> Self {
                    unsafe { $max(self, other) }
                }
                $($own)*
            }
        };
    }

    lanes!(__m512, 16: _mm512_set1_ps _mm512_loadu_ps _mm512_storeu_ps _mm512_fmadd_ps _mm512_add_ps _mm512_sub_ps _mm512_mul_ps _mm512_max_ps {
        #[inline(always)]
        fn where_positive(self, sign: Self) -> Self {
            unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(sign, _mm512_setzero_ps()), self) }
        }
        #[inline(always)]
        unsafe fn load_some(from: *const f32, count: usize) -> Self {
            unsafe { _mm512_maskz_loadu_ps(((1u32 << count) - 1) as u16, from) }
        }
        #[inline(always)]
        unsafe fn store_some(self, to: *mut f32, count: usize) {
            unsafe { _mm512_mask_storeu_ps(to, ((1u32 << count) - 1) as u16, self) }
        }
    });

    lanes!(__m256, 8: _mm256_set1_ps _mm256_loadu_ps _mm256_storeu_ps _mm256_fmadd_ps _mm256_add_ps _mm256_sub_ps _mm256_mul_ps _mm256_max_ps {
        #[inline(always)]
        fn where_positive(self, sign: Self) -> Self {
            unsafe { _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(sign, _mm256_setzero_ps()), self) }
        }
    });
}

/// One operation on each pair of lanes.
macro_rules! each {
    ($a:ident, $b:ident, $op:expr) => {{
        let mut out = [0.0; 4];
        for lane in 0..4 {
            out[lane] = $op($a[lane], $b[lane]);
        }
        out
    }};
}

impl Lanes for [f32; 4] {
    const N: usize = 4;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        [value; 4]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's.
        unsafe { from.cast::<Self>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { to.cast::<Self>().write_unaligned(self) }
    }
    #[inline(always)]
    fn mul_add(self, by: Self, plus: Self) -> Self {
        let mut out = [0.0; 4];
        for lane in 0..4 {
            // Without the instruction a fused operation would be a call per value.
            out[lane] = if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
                self[lane].mul_add(by[lane], plus[lane])
            } else {
                self[lane] * by[lane] + plus[lane]
            };
        }
        out
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        each!(self, other, |a: f32, b: f32| a + b)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        each!(self, other, |a: f32, b: f32| a - b)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        each!(self, other, |a: f32, b: f32| a * b)
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        each!(self, other, |a: f32, b: f32| if a > b { a } else { b })
    }
    #[inline(always)]
    fn where_positive(self, sign: Self) -> Self {
        each!(self, sign, |a: f32, b: f32| if b > 0.0 { a } else { 0.0 })
    }
}

/// Asks for the cache line at an address, which need not be valid, to be moved to the second-level cache.
#[inline(always)]
pub fn prefetch(at: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction belongs to every x86-64 processor, and reads nothing that the program could see.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// `V` vectors, of which the last that have values may be partly filled and those behind are zeros.
///
/// # Safety
/// `count` values can be read.
#[inline(always)]
pub unsafe fn read<L: Lanes, const V: usize>(from: *const f32, count: usize) -> [L; V] {
    let mut out = [L::zero(); V];
    for v in 0..V {
        // SAFETY: the caller's. Nothing is read from an address behind the last value.
        out[v] = unsafe {
            let from = from.wrapping_add(v * L::N);
            if count >= (v + 1) * L::N { L::load(from) } else { L::load_some(from, count.saturating_sub(v * L::N)) }
        };
    }
    out
}

/// Writes the first `count` values of `V` vectors.
///
/// # Safety
/// `count` values can be written.
#[inline(always)]
pub unsafe fn write<L: Lanes, const V: usize>(values: [L; V], to: *mut f32, count: usize) {
    for v in 0..V {
        // SAFETY: the caller's. Nothing is written to an address behind the last value.
        unsafe {
            let to = to.wrapping_add(v * L::N);
            if count >= (v + 1) * L::N { values[v].store(to) } else { values[v].store_some(to, count.saturating_sub(v * L::N)) }
        }
    }
}
