//! Page-aligned memory that the kernel may write to while we hold it.

use std::ptr::NonNull;

const PAGE_BYTES: usize = 4_096;

/// One page. Its alignment is what the kernel demands of a buffer ring.
#[derive(Clone)]
#[repr(C, align(4096))]
struct Page([u8; PAGE_BYTES]);

/// A block of whole pages, all of them present from the start, at a place that never changes.
///
/// It is reached through raw pointers only, because a reference would promise that nobody else
/// writes there.
#[derive(Debug)]
pub(crate) struct Memory {
    base: NonNull<Page>,
    pages: usize,
}

// SAFETY: a `Memory` owns its pages as a `Box` would; it is only ever used from one thread at a
// time, and nothing in it depends on which.
unsafe impl Send for Memory {}

impl Memory {
    /// At least so many bytes, all zero.
    pub(crate) fn new(bytes: usize) -> Memory {
        let pages = bytes.div_ceil(PAGE_BYTES).max(1);
        let mut block = vec![Page([0xFF; PAGE_BYTES]); pages].into_boxed_slice();
        // Written twice, so that no page is one that the kernel has yet to find.
        for page in &mut block {
            page.0.fill(0);
        }
        let base = NonNull::from(Box::leak(block)).cast();
        Memory { base, pages }
    }

    /// Where it begins.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base.cast()
    }

    /// How much there is.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.pages * PAGE_BYTES
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let block = std::ptr::slice_from_raw_parts_mut(self.base.as_ptr(), self.pages);
        // SAFETY: `new` leaked a box of exactly this place and length, and only this drop takes it
        // back. The owner has seen to it that the kernel is done with it.
        drop(unsafe { Box::from_raw(block) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_zero_and_writable_to_its_end() {
        let memory = Memory::new(3 * PAGE_BYTES - 1);
        assert_eq!(memory.len(), 3 * PAGE_BYTES);
        assert_eq!(memory.base().as_ptr() as usize % PAGE_BYTES, 0);
        for place in [0, 1, memory.len() - 1] {
            // SAFETY: the place is below the length.
            let byte = unsafe { memory.base().add(place) };
            // SAFETY: the byte belongs to `memory`, which nobody else has.
            assert_eq!(unsafe { byte.read() }, 0);
            // SAFETY: as above.
            unsafe { byte.write(7) };
        }
    }
}
