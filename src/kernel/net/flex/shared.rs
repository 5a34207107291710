//! Output memory that threads fill together.

use std::marker::PhantomData;

/// A slice of which threads write disjoint parts.
pub struct Shared<'a> {
    at: *mut f32,
    len: usize,
    kind: PhantomData<&'a mut [f32]>,
}

// SAFETY: the pointer is only used by way of `at` and `part`, whose contract keeps the accesses disjoint.
unsafe impl Sync for Shared<'_> {}
// SAFETY: as above.
unsafe impl Send for Shared<'_> {}

impl<'a> Shared<'a> {
    /// The slice, borrowed for as long as threads share it.
    pub fn new(slice: &'a mut [f32]) -> Self {
        Self { at: slice.as_mut_ptr(), len: slice.len(), kind: PhantomData }
    }

    /// The address of value `index`.
    ///
    /// # Safety
    /// `index` is at most the length. Values behind the address are accessed by one thread at a time, and inside the slice.
    #[inline(always)]
    pub unsafe fn at(&self, index: usize) -> *mut f32 {
        debug_assert!(index <= self.len);
        // SAFETY: the caller's.
        unsafe { self.at.add(index) }
    }

    /// Values `from .. from + len`.
    ///
    /// # Safety
    /// They lie in the slice, and nobody else accesses them for as long as the result lives.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "threads share the slice and take disjoint parts")]
    pub unsafe fn part(&self, from: usize, len: usize) -> &mut [f32] {
        assert!(from + len <= self.len, "a part beyond the end");
        // SAFETY: the caller's.
        unsafe { std::slice::from_raw_parts_mut(self.at.add(from), len) }
    }
}
