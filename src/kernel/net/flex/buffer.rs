//! Memory that a step takes again and again: fresh pages from the system would cost more than many a pass over them.

use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

use burn::tensor::Bytes;
use burn_std::{AccessError, AccessPolicy, AllocationController, AllocationProperty};

/// A cache line, so that no vector lies across two.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// Values of a cache line.
const LINE: usize = 16;

/// Free memory, the longest unused first.
static FREE: Mutex<Vec<Vec<Line>>> = Mutex::new(Vec::new());
/// The most lines that lie there unused: 512 MiB.
const MOST: usize = 8 << 20;

/// Values of a step. Its memory returns to the pool when it is dropped, also if a tensor has become its owner meanwhile.
#[derive(Debug)]
pub struct Buffer {
    lines: Vec<Line>,
    len: usize,
}

impl Buffer {
    /// `len` values of no meaning: whoever takes them writes them before reading.
    pub fn new(len: usize) -> Self {
        let count = len.div_ceil(LINE);
        let mut free = FREE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // What was returned last is the likeliest to be in a cache.
        let found = free.iter().rposition(|lines| lines.len() == count).map(|at| free.remove(at));
        drop(free);
        let lines = found.unwrap_or_else(|| {
            let mut lines = Vec::with_capacity(count);
            crate::kernel::backend::cpu::prefer_huge_pages(lines.as_mut_ptr(), count);
            lines.resize(count, Line([0.0; LINE]));
            lines
        });
        let mut buffer = Self { lines, len };
        // In tests that ask for it, so that a value which is read before it is written is seen.
        if crate::kernel::path::poisoned() {
            buffer.fill(f32::NAN);
        }
        buffer
    }

    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let mut buffer = Self::new(len);
        buffer.fill(0.0);
        buffer
    }

    /// The values as the memory of a tensor, without a copy.
    pub fn into_bytes(self) -> Bytes {
        let bytes = self.len * size_of::<f32>();
        // SAFETY: all lines are initialised.
        unsafe { Bytes::from_controller(Box::new(self), bytes) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        if lines.is_empty() {
            return;
        }
        let mut free = FREE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        free.push(lines);
        let mut all: usize = free.iter().map(Vec::len).sum();
        while all > MOST {
            all -= free.remove(0).len();
        }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: lines are arrays of values without padding, and hold at least `len` of them.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl AllocationController for Buffer {
    fn alloc_align(&self) -> usize {
        align_of::<Line>()
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Other
    }

    unsafe fn memory_mut(&mut self, _: AccessPolicy) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        let bytes = self.len * size_of::<f32>();
        // SAFETY: the values are initialised; the caller writes initialised bytes alone.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), bytes) })
    }

    fn memory(&self, _: AccessPolicy) -> Result<&[MaybeUninit<u8>], AccessError> {
        let bytes = self.len * size_of::<f32>();
        // SAFETY: the values are initialised.
        Ok(unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), bytes) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_returns_from_a_tensor_and_is_taken_again() {
        // A length that no other test takes.
        let mut buffer = Buffer::new(123_457);
        buffer.fill(3.0);
        let at = buffer.as_ptr();
        assert_eq!(at as usize % 64, 0);
        let mut bytes = buffer.into_bytes();
        assert_eq!(bytes.len(), 4 * 123_457);
        assert!(bytemuck::cast_slice::<u8, f32>(&bytes).iter().all(|value| *value == 3.0));
        bytemuck::cast_slice_mut::<u8, f32>(&mut bytes)[123_456] = 4.0;
        let copy = bytes.clone();
        drop(bytes);
        let again = Buffer::new(123_457);
        assert!(again.as_ptr() == at && again[123_456] == 4.0, "the memory of a dropped tensor");
        assert_ne!(bytemuck::cast_slice::<u8, f32>(&copy).as_ptr(), at);
        assert!(Buffer::zeros(123_457).iter().all(|value| *value == 0.0));
        assert!(Buffer::new(0).is_empty());
    }
}
