//! What the CPU's kernels share: tiles of images, output memory, and stores that pass the caches by.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use burn::tensor::{DType, Element, bf16, f16};

#[cfg(feature = "flex")]
use crate::kernel::KernelPath;
use crate::kernel::path::poisoned;

/// Refuses every path but the one that the CPU backend has of its own.
///
/// # Panics
/// Another path.
#[cfg(feature = "flex")]
pub fn only_flex(path: KernelPath) {
    assert_eq!(path, KernelPath::Flex, "the CPU backend has no other kernels of its own");
}

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

    /// `len` values from `out` on as f32 that are still to be written; `None` for other types.
    ///
    /// # Safety
    /// As [`Stored::write`], for as long as the result lives.
    unsafe fn place<'a>(out: *mut Self, len: usize) -> Option<&'a mut [MaybeUninit<f32>]>;

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
        unsafe { if stream { stream_to(out, values) } else { std::ptr::copy_nonoverlapping(values.as_ptr(), out, values.len()) } }
    }

    unsafe fn place<'a>(out: *mut Self, len: usize) -> Option<&'a mut [MaybeUninit<f32>]> {
        // SAFETY: the caller's.
        Some(unsafe { std::slice::from_raw_parts_mut(out.cast(), len) })
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

            unsafe fn place<'a>(_: *mut Self, _: usize) -> Option<&'a mut [MaybeUninit<f32>]> {
                None
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

/// Asks for 2 MiB pages under a large block: written once from end to end, it would take a page fault and an address translation
/// for every 4 KiB otherwise. A request, which systems without such pages ignore.
pub fn prefer_huge_pages<T>(at: *mut T, count: usize) {
    let (at, bytes) = (at.cast::<u8>(), count * size_of::<T>());
    #[cfg(target_os = "linux")]
    {
        const HUGE: usize = 2 << 20;
        let from = at.align_offset(HUGE);
        let whole = bytes.saturating_sub(from) / HUGE * HUGE;
        if whole > 0 {
            // SAFETY: the range lies in the block, and the advice changes no content.
            unsafe { libc::madvise(at.add(from).cast(), whole, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (at, bytes);
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
        prefer_huge_pages(at, len);
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

    /// The place of values `range` of an image, to be written in full; `None` where they must go through [`Output::write`].
    ///
    /// # Safety
    /// As [`Output::write`], for as long as the result lives.
    #[expect(clippy::mut_from_ref, reason = "threads share the output and take disjoint parts")]
    pub unsafe fn place(&self, image: usize, range: Range<usize>) -> Option<&mut [MaybeUninit<f32>]> {
        debug_assert!(range.end <= self.per_image);
        // SAFETY: the caller's; the memory has room for all images.
        if self.stream { None } else { unsafe { S::place(self.at.add(image * self.per_image + range.start), range.len()) } }
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

/// Values of an image that a task handles before it turns to the next image: long enough for the processor to stream, short enough for the
/// images that are read twice to be in its last cache still.
const RUN: usize = 16_384;

/// Lines of `width` values that hold about `values` of them, at least one.
pub fn lines_of(values: usize, width: usize) -> usize {
    (values / width).max(1)
}

/// The tasks of a batch of `images` images of `lines` lines: lines and images of each. There are enough for all threads to share the work
/// evenly, and otherwise as few as possible.
pub fn tasks(lines: usize, width: usize, images: usize) -> Vec<(Range<usize>, Range<usize>)> {
    let wanted = 8 * rayon::current_num_threads();
    let step = lines_of(RUN, width);
    let parts = wanted.div_ceil(lines.div_ceil(step)).clamp(1, images.max(1));
    // Even, so that no pair of images that read each other is torn.
    let part = images.div_ceil(parts).next_multiple_of(2).max(2);
    let cut = |from: usize, step: usize, end: usize| from..(from + step).min(end);
    (0..lines)
        .step_by(step)
        .flat_map(|line| (0..images).step_by(part).map(move |image| (cut(line, step, lines), cut(image, part, images))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_cover_every_line_of_every_image_once() {
        for (lines, width, images) in [(1, 1, 1), (3 * 224, 224, 5), (96, 32, 512), (7, 50_000, 3), (1000, 1, 2)] {
            let mut seen = vec![0; lines * images];
            for (some, of) in tasks(lines, width, images) {
                of.for_each(|image| some.clone().for_each(|line| seen[image * lines + line] += 1));
            }
            assert!(seen.iter().all(|&times| times == 1), "{images} images, {lines} lines of {width}");
        }
    }

    #[test]
    fn a_poisoned_output_shows_what_was_not_written() {
        crate::kernel::poison_outputs(true);
        let output = Output::<f32>::new(2, 3);
        // SAFETY: inside the output; poisoned memory is initialised.
        let values = unsafe {
            output.write(1, 1..3, &[4.0, 5.0]);
            output.finish(2)
        };
        crate::kernel::poison_outputs(false);
        assert!(values[..4].iter().all(|value| value.is_nan()));
        assert_eq!(values[4..], [4.0, 5.0]);
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
