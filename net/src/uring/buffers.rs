//! The receive buffers of one shard: memory that the kernel picks from when bytes arrive, so that a
//! connection which waits for bytes holds none.
//!
//! A buffer is the kernel's from the moment it is offered until a completion names it, and ours
//! from then until it is offered again. [`Filled`] is the proof that a buffer is ours: it comes
//! from a completion only, cannot be copied, and is used up by giving the buffer back.

use super::memory::Memory;
use io_uring::types::BufRingEntry;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

/// Bytes that the kernel has written into a buffer, which is ours until it is given back.
#[derive(Debug)]
pub(crate) struct Filled {
    buffer: u16,
    len: u32,
}

/// All receive buffers and the ring in which they are offered to the kernel.
#[derive(Debug)]
pub(crate) struct ReceiveBuffers {
    ring: Memory,
    data: Memory,
    /// How many there are, a power of two.
    count: u16,
    buffer_bytes: u32,
    /// Buffers offered since the start, wrapping; the kernel sees it after [`Self::publish`].
    tail: u16,
    /// Whether each is ours.
    is_ours: Box<[bool]>,
}

impl ReceiveBuffers {
    /// `count` buffers, a power of two up to 32,768, all offered.
    pub(crate) fn new(count: u16, buffer_bytes: u32) -> ReceiveBuffers {
        assert!(
            count.is_power_of_two() && count <= 32_768,
            "not a possible number of buffers"
        );
        assert!(buffer_bytes > 0, "buffers without room");
        let mut buffers = ReceiveBuffers {
            ring: Memory::new(usize::from(count) * size_of::<BufRingEntry>()),
            data: Memory::new(usize::from(count) * buffer_bytes as usize),
            count,
            buffer_bytes,
            tail: 0,
            is_ours: vec![true; usize::from(count)].into_boxed_slice(),
        };
        for buffer in 0..count {
            buffers.offer(buffer);
        }
        buffers.publish();
        buffers
    }

    /// The address of the ring, for its registration.
    pub(crate) fn ring_address(&self) -> u64 {
        self.ring.base().as_ptr() as u64
    }

    /// How many buffers there are.
    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// Takes possession of a buffer that a completion named, with so many bytes in it.
    pub(crate) fn take(&mut self, buffer: u16, len: u32) -> Filled {
        assert!(
            len <= self.buffer_bytes,
            "more received than a buffer holds"
        );
        let is_ours = &mut self.is_ours[usize::from(buffer)];
        assert!(
            !*is_ours,
            "the kernel named a buffer that it was not offered"
        );
        *is_ours = true;
        Filled { buffer, len }
    }

    /// What was received.
    pub(crate) fn bytes(&self, filled: &Filled) -> &[u8] {
        let begin = self.begin(filled.buffer);
        // SAFETY: the buffer is ours as `filled` proves, so the kernel does not write to it until
        // `give_back`, which needs `&mut self`; `take` checked that the bytes lie inside.
        unsafe { std::slice::from_raw_parts(begin.as_ptr(), filled.len as usize) }
    }

    /// Offers a buffer again; the kernel sees it after [`Self::publish`].
    pub(crate) fn give_back(&mut self, filled: Filled) {
        self.offer(filled.buffer);
    }

    /// Lets the kernel see what has been offered.
    pub(crate) fn publish(&self) {
        let entry = self.ring.base().cast::<BufRingEntry>();
        // SAFETY: the ring begins with an entry, whose unused field is the tail by the kernel's
        // layout; it was zeroed, which is a valid entry.
        let tail = unsafe { BufRingEntry::tail(entry.as_ptr()) };
        // SAFETY: the field is aligned for its type, lives as long as `self`, and is accessed
        // by us only here and by the kernel only atomically.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // Entries must be visible before the tail that covers them.
        tail.store(self.tail, Ordering::Release);
    }

    fn offer(&mut self, buffer: u16) {
        let is_ours = &mut self.is_ours[usize::from(buffer)];
        assert!(*is_ours, "a buffer offered twice");
        *is_ours = false;
        let address = self.begin(buffer).as_ptr() as u64;
        let place = usize::from(self.tail & (self.count - 1));
        // SAFETY: the place is below the count, and the ring has room for that many entries.
        let entry = unsafe { self.ring.base().cast::<BufRingEntry>().add(place) };
        // SAFETY: the entry lies in memory that we own and that is zeroed or was written here. The
        // kernel does not read it before the tail passes it, and has read it if it did before: no
        // more buffers are offered than there are places. The tail's field is left alone.
        let entry = unsafe { &mut *entry.as_ptr() };
        entry.set_addr(address);
        entry.set_len(self.buffer_bytes);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    fn begin(&self, buffer: u16) -> NonNull<u8> {
        assert!(buffer < self.count, "no such buffer");
        // SAFETY: the buffer is one of `count`, and the data has room for that many.
        unsafe {
            self.data
                .base()
                .add(usize::from(buffer) * self.buffer_bytes as usize)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would see: the tail, and the buffer at a place.
    fn seen(buffers: &ReceiveBuffers, place: usize) -> (u16, u16) {
        assert!(place * size_of::<BufRingEntry>() < buffers.ring.len());
        // SAFETY: the place lies in the ring as just checked.
        let entry = unsafe { buffers.ring.base().cast::<BufRingEntry>().add(place) };
        // SAFETY: the entry is initialised and nobody writes to it now.
        let buffer = unsafe { entry.as_ref() }.bid();
        // SAFETY: the base is the ring's first entry.
        let tail = unsafe { BufRingEntry::tail(buffers.ring.base().cast().as_ptr()) };
        // SAFETY: the tail is initialised and nobody writes to it now.
        (unsafe { tail.read() }, buffer)
    }

    #[test]
    fn all_are_offered_at_first() {
        let buffers = ReceiveBuffers::new(4, 100);
        for place in 0..4 {
            assert_eq!(seen(&buffers, place as usize), (4, place));
        }
    }

    #[test]
    fn a_buffer_given_back_is_offered_in_the_next_place() {
        let mut buffers = ReceiveBuffers::new(4, 100);
        let (two, one) = (buffers.take(2, 10), buffers.take(1, 100));
        assert_eq!(buffers.bytes(&one), [0; 100]);
        assert_eq!(buffers.bytes(&two).len(), 10);
        buffers.give_back(two);
        buffers.give_back(one);
        assert_eq!(
            seen(&buffers, 0),
            (4, 2),
            "not visible before it is published"
        );
        buffers.publish();
        assert_eq!(seen(&buffers, 0), (6, 2));
        assert_eq!(seen(&buffers, 1), (6, 1));
    }

    #[test]
    fn the_tail_wraps() {
        let mut buffers = ReceiveBuffers::new(2, 8);
        for _ in 0..40_000 {
            let filled = buffers.take(0, 1);
            buffers.give_back(filled);
            let filled = buffers.take(1, 1);
            buffers.give_back(filled);
        }
        buffers.publish();
        assert_eq!(seen(&buffers, 1), (80_002_u32 as u16, 1));
    }

    #[test]
    #[should_panic(expected = "not offered")]
    fn a_buffer_is_not_taken_twice() {
        let mut buffers = ReceiveBuffers::new(2, 8);
        let _first = buffers.take(0, 1);
        buffers.take(0, 1);
    }
}
