//! Memory that a step takes again and again: fresh pages from the system would cost more than many a pass over them.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::tensor::Bytes;
use burn_std::{AccessError, AccessPolicy, AllocationController, AllocationProperty};

/// Values of a cache line: what the arena is counted in, so that no vector lies across two.
const LINE: usize = 16;
const LINE_BYTES: usize = LINE * size_of::<f32>();

/// Memory that is asked for at a time. Unix gives pages only once they are written, so that what is never taken costs nothing.
const REGION_BYTES: usize = if cfg!(unix) { 1 << 30 } else { 1 << 26 };

/// Free lines by the address of the first: neighbours are one extent. What is taken is the first extent that is long enough, so that a step
/// takes the same places as the one before it, and the maps of a deep stage share the memory of a shallow one's.
struct Arena {
    free: BTreeMap<usize, usize>,
    /// Addresses at which regions begin: no extent reaches across one.
    regions: BTreeSet<usize>,
}

static ARENA: Mutex<Arena> = Mutex::new(Arena { free: BTreeMap::new(), regions: BTreeSet::new() });

/// Nothing that a lock guards here is ever half done.
fn arena() -> MutexGuard<'static, Arena> {
    ARENA.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Arena {
    fn take(&mut self, lines: usize) -> NonNull<f32> {
        let found = self.free.iter().find(|(_, free)| **free >= lines).map(|(at, free)| (*at, *free));
        let (at, free) = found.unwrap_or_else(|| self.grow(lines));
        self.free.remove(&at);
        if free > lines {
            self.free.insert(at + lines * LINE_BYTES, free - lines);
        }
        NonNull::new(at as *mut f32).expect("regions do not begin at 0")
    }

    /// A region of its own, or of the usual size, as an extent.
    fn grow(&mut self, lines: usize) -> (usize, usize) {
        let bytes = (lines * LINE_BYTES).max(REGION_BYTES);
        let at = region(bytes).or_else(|| region(lines * LINE_BYTES).filter(|_| bytes > lines * LINE_BYTES));
        let at = at.unwrap_or_else(|| panic!("there is no memory for a map of {} bytes", lines * LINE_BYTES)).as_ptr() as usize;
        self.regions.insert(at);
        self.free.insert(at, bytes / LINE_BYTES);
        (at, bytes / LINE_BYTES)
    }

    fn give_back(&mut self, mut at: usize, mut lines: usize) {
        let end = at + lines * LINE_BYTES;
        if !self.regions.contains(&end)
            && let Some(behind) = self.free.remove(&end)
        {
            lines += behind;
        }
        if !self.regions.contains(&at)
            && let Some((&before, &free)) = self.free.range(..at).next_back()
            && before + free * LINE_BYTES == at
        {
            at = before;
            lines += free;
        }
        self.free.insert(at, lines);
    }
}

/// Zeroed memory from the system that is never returned, aligned to pages.
#[cfg(unix)]
fn region(bytes: usize) -> Option<NonNull<f32>> {
    // SAFETY: a new private mapping touches no other memory.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if at == libc::MAP_FAILED {
        return None;
    }
    crate::kernel::backend::cpu::prefer_huge_pages(at.cast::<f32>(), bytes / size_of::<f32>());
    NonNull::new(at.cast())
}

/// Zeroed memory from the system that is never returned, aligned to cache lines.
#[cfg(not(unix))]
fn region(bytes: usize) -> Option<NonNull<f32>> {
    let layout = std::alloc::Layout::from_size_align(bytes, LINE_BYTES).ok()?;
    // SAFETY: the size is not 0.
    NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) }.cast())
}

/// Values of a step. Its memory returns to the arena when it is dropped, also if a tensor has become its owner meanwhile.
#[derive(Debug)]
pub struct Buffer {
    at: NonNull<f32>,
    len: usize,
}

// SAFETY: a buffer owns its memory.
unsafe impl Send for Buffer {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// `len` values of no meaning: whoever takes them writes them before reading.
    pub fn new(len: usize) -> Self {
        if len == 0 {
            return Self { at: NonNull::dangling(), len };
        }
        let mut buffer = Self { at: arena().take(len.div_ceil(LINE)), len };
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
        // SAFETY: all values are initialised.
        unsafe { Bytes::from_controller(Box::new(self), bytes) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.len > 0 {
            arena().give_back(self.at.as_ptr() as usize, self.len.div_ceil(LINE));
        }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: the memory is this buffer's, and all memory of the arena is initialised: it began as zeros.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr(), self.len) }
    }
}

impl AllocationController for Buffer {
    fn alloc_align(&self) -> usize {
        LINE_BYTES
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Other
    }

    unsafe fn memory_mut(&mut self, _: AccessPolicy) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        let bytes = self.len * size_of::<f32>();
        // SAFETY: the values are initialised; the caller writes initialised bytes alone.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr().cast(), bytes) })
    }

    fn memory(&self, _: AccessPolicy) -> Result<&[MaybeUninit<u8>], AccessError> {
        let bytes = self.len * size_of::<f32>();
        // SAFETY: the values are initialised.
        Ok(unsafe { std::slice::from_raw_parts(self.at.as_ptr().cast_const().cast(), bytes) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_and_passes_to_tensors_and_back() {
        let mut buffer = Buffer::new(12_345);
        buffer.fill(3.0);
        assert_eq!(buffer.as_ptr() as usize % LINE_BYTES, 0);
        let mut bytes = buffer.into_bytes();
        assert_eq!(bytes.len(), 4 * 12_345);
        assert!(bytemuck::cast_slice::<u8, f32>(&bytes).iter().all(|value| *value == 3.0));
        bytemuck::cast_slice_mut::<u8, f32>(&mut bytes)[12_344] = 4.0;
        let copy = bytes.clone();
        drop(bytes);
        assert_eq!(bytemuck::cast_slice::<u8, f32>(&copy)[12_344], 4.0);
        assert!(Buffer::zeros(12_345).iter().all(|value| *value == 0.0));
        assert!(Buffer::new(0).is_empty());
    }

    /// The book of an arena of its own: nothing of it is memory.
    #[test]
    fn neighbours_become_one_extent_again_and_none_reaches_across_regions() {
        let (a, b) = (1 << 20, (1 << 20) + 100 * LINE_BYTES);
        let mut arena = Arena { free: [(a, 100), (b, 50)].into(), regions: [a, b].into() };
        let take = |arena: &mut Arena, lines| arena.take(lines).as_ptr() as usize;
        let parts: Vec<usize> = [30, 20, 50].map(|lines| take(&mut arena, lines)).into();
        assert_eq!(parts, [a, a + 30 * LINE_BYTES, a + 50 * LINE_BYTES]);
        assert_eq!(take(&mut arena, 10), b);
        arena.give_back(parts[0], 30);
        arena.give_back(parts[2], 50);
        assert_eq!(take(&mut arena, 40), parts[2], "the first extent that is long enough");
        arena.give_back(parts[2], 40);
        arena.give_back(parts[1], 20);
        arena.give_back(b, 10);
        assert_eq!(arena.free, [(a, 100), (b, 50)].into());
    }

    #[test]
    fn threads_never_share_memory() {
        std::thread::scope(|scope| {
            for thread in 0..4u32 {
                scope.spawn(move || {
                    for round in 0..200u32 {
                        let mut held: Vec<Buffer> =
                            (1..8).map(|i| Buffer::new(((thread + round + i) * 97 % 5000) as usize)).collect();
                        for (i, buffer) in held.iter_mut().enumerate() {
                            buffer.fill((thread * 1000 + i as u32) as f32);
                        }
                        for (i, buffer) in held.iter().enumerate() {
                            assert!(buffer.iter().all(|value| *value == (thread * 1000 + i as u32) as f32));
                        }
                    }
                });
            }
        });
    }
}
