//! What the CPU's kernels share: tiles of images, output memory, and stores that pass the caches by.

use std::marker::PhantomData;
use std::ops::Range;

use burn::tensor::{DType, Element, bf16, f16};

use super::path::poisoned;

/// A value type that images are stored in on the host.
pub trait Stored: Copy + Send + Sync + Element + bytemuck::NoUninit + 'static {
    /// Its name in Burn.
    const DTYPE: DType;

    /// Widens `from` into `room`, or hands `from` out as it is.
    fn read<'a>(from: &'a [Self], room: &'a mut [f32]) -> &'a [f32];

    /// Writes values rounded to this type.
    ///
    /// # Safety
    /// `out` is valid for writing `values.len()` values, which nobody else reads or writes meanwhile.
    unsafe fn write(out: *mut Self, values: &[f32], stream: bool);

    /// What poisoned outputs are filled with.
    fn nan() -> Self;
}

impl Stored for f32 {
    const DTYPE: DType = DType::F32;

    fn read<'a>(from: &'a [Self], _: &'a mut [f32]) -> &'a [f32] {
        from
    }

    unsafe fn write(out: *mut Self, values: &[f32], stream: bool) {
        // SAFETY: the caller's.
        unsafe {
            if stream { stream_to(out, values) } else { std::ptr::copy_nonoverlapping(values.as_ptr(), out, values.len()) }
        }
    }

    fn nan() -> Self {
        f32::NAN
    }
}

macro_rules! stored_in_16_bits {
    ($type:ty, $dtype:expr) => {
        impl Stored for $type {
            const DTYPE: DType = $dtype;

            fn read<'a>(from: &'a [Self], room: &'a mut [f32]) -> &'a [f32] {
                let room = &mut room[..from.len()];
                room.iter_mut().zip(from).for_each(|(wide, value)| *wide = value.to_f32());
                room
            }

            unsafe fn write(out: *mut Self, values: &[f32], _: bool) {
                for (at, &value) in values.iter().enumerate() {
                    // SAFETY: the caller's.
                    unsafe { out.add(at).write(<$type>::from_f32(value)) };
                }
            }

            fn nan() -> Self {
                <$type>::NAN
            }
        }
    };
}

stored_in_16_bits!(f16, DType::F16);
stored_in_16_bits!(bf16, DType::BF16);

/// Outputs from this size on are written past the caches: they would only evict the inputs, and a plain store reads each line first.
const STREAM_FROM_BYTES: usize = 16 << 20;

/// Copies with non-temporal stores. They are ordered by the fence at the end of [`Output::finish`]'s parallel loop.
///
/// # Safety
/// As [`Stored::write`].
#[cfg(target_arch = "x86_64")]
unsafe fn stream_to(out: *mut f32, values: &[f32]) {
    use std::arch::x86_64::{_mm_loadu_ps, _mm_stream_ps};
    // A streaming store wants 16 bytes of alignment.
    let head = (out.align_offset(16)).min(values.len());
    let body = (values.len() - head) / 4 * 4;
    // SAFETY: all indices stay below `values.len()`; `out + head` is aligned; SSE is part of the architecture.
    unsafe {
        std::ptr::copy_nonoverlapping(values.as_ptr(), out, head);
        for at in (head..head + body).step_by(4) {
            _mm_stream_ps(out.add(at), _mm_loadu_ps(values.as_ptr().add(at)));
        }
        let tail = head + body;
        std::ptr::copy_nonoverlapping(values.as_ptr().add(tail), out.add(tail), values.len() - tail);
    }
}

#[cfg(not(target_arch = "x86_64"))]
unsafe fn stream_to(out: *mut f32, values: &[f32]) {
    // SAFETY: the caller's.
    unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), out, values.len()) }
}

/// Makes this thread's streaming stores visible before it hands its work over.
pub fn fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of the architecture; the instruction has no operands.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

/// Images in the making, `[n, per_image]`: threads write disjoint parts, then the whole becomes a vector.
pub struct Output<S> {
    memory: Vec<S>,
    at: *mut S,
    per_image: usize,
    stream: bool,
    kind: PhantomData<S>,
}

// SAFETY: `write` is the only access through `at`, and its contract keeps the parts disjoint.
unsafe impl<S: Send> Sync for Output<S> {}

impl<S: Stored> Output<S> {
    /// Memory for `images` images.
    pub fn new(images: usize, per_image: usize) -> Self {
        let len = images * per_image;
        let mut memory: Vec<S> = if poisoned() { vec![S::nan(); len] } else { Vec::with_capacity(len) };
        let at = memory.as_mut_ptr();
        Self { memory, at, per_image, stream: len * size_of::<S>() >= STREAM_FROM_BYTES, kind: PhantomData }
    }

    /// Writes values `range` of an image.
    ///
    /// # Safety
    /// The image is one of those the output was made for, `range` lies in it, and no other call writes the same values.
    pub unsafe fn write(&self, image: usize, range: Range<usize>, values: &[f32]) {
        debug_assert!(range.end <= self.per_image && values.len() == range.len());
        // SAFETY: the caller's; the memory has room for all images.
        unsafe { S::write(self.at.add(image * self.per_image + range.start), values, self.stream) }
    }

    /// The written memory.
    ///
    /// # Safety
    /// Every value has been written, and the writing threads have been joined.
    pub unsafe fn finish(mut self, images: usize) -> Vec<S> {
        assert!(images * self.per_image <= self.memory.capacity());
        // SAFETY: the caller's.
        unsafe { self.memory.set_len(images * self.per_image) };
        self.memory
    }
}

/// Values of a tile: whole lines, and few enough that a tile, its partner and the result share the first-level cache.
const TILE: usize = 2048;

/// The tiles of an image of `lines` lines of `width` values: enough of them that all threads find work, each some lines long.
pub fn tiles(lines: usize, width: usize) -> Vec<Range<usize>> {
    let wanted = (lines * width).div_ceil(8 * rayon::current_num_threads()).clamp(256, TILE);
    let step = (wanted / width).max(1);
    (0..lines).step_by(step).map(|from| from..(from + step).min(lines)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_every_line_once() {
        for (lines, width) in [(1, 1), (3 * 224, 224), (96, 32), (7, 5000), (1000, 1)] {
            let tiles = tiles(lines, width);
            let all: Vec<usize> = tiles.iter().cloned().flatten().collect();
            assert_eq!(all, (0..lines).collect::<Vec<_>>(), "{lines} lines of {width}");
        }
    }

    #[test]
    fn streamed_values_arrive_at_any_alignment() {
        for (offset, len) in [(0, 64), (1, 64), (3, 5), (2, 1), (5, 131), (0, 0)] {
            let mut out = vec![-1.0f32; offset + len + 7];
            let values: Vec<f32> = (0..len).map(|v| v as f32).collect();
            // SAFETY: `out` has `offset + len` values.
            unsafe { stream_to(out.as_mut_ptr().add(offset), &values) };
            fence();
            assert_eq!(out[offset..offset + len], values);
            assert!(out[..offset].iter().chain(&out[offset + len..]).all(|&v| v == -1.0));
        }
    }
}
