//! What the driver needs of a kernel interface; io_uring and epoll provide it.

use crate::Handler;
use crate::driver::Driver;
use crate::listen::Listening;
use crate::slots::Slot;
use shard::{ConnectionId, Listener, Time};
use std::io;
use std::time::Duration;

/// What became of output handed to [`Backend::send`].
#[derive(Debug)]
pub(crate) enum Sent {
    /// The kernel accepted all of it; the buffer comes back.
    All(Vec<u8>),
    /// The kernel accepted so many bytes; the backend holds the rest, and the slot is marked
    /// `SENDING` until the rest is accepted or has failed.
    Pending(usize),
    /// The connection is broken.
    Failed,
}

/// One shard's access to the kernel.
///
/// A backend reports to the driver with `on_accepted`, `on_received`, `on_sent`, `on_ended` and
/// `on_broken`, from within [`Backend::wait`] only. It keeps its marks about a connection in the
/// slot's flags.
pub(crate) trait Backend: Sized {
    /// Waits until something happens or the timeout (`None`: for ever) has passed, begins the
    /// driver's turn, and reports a bounded part of what happened. Errs if the turn cannot go on.
    fn wait<H: Handler>(
        &mut self,
        driver: &mut Driver<H>,
        timeout: Option<Duration>,
    ) -> io::Result<()>;

    /// Whether the next wait must not wait.
    fn has_work(&self) -> bool;

    /// When the next wait must end at the latest.
    fn deadline(&self) -> Option<Time>;

    /// A socket has been given this slot; reading begins with [`Backend::align_reading`].
    fn attach(&mut self, slot: &mut Slot, id: ConnectionId) -> io::Result<()>;

    /// Starts or stops reading, as [`Slot::wants_bytes`] says.
    fn align_reading(&mut self, slot: &mut Slot, id: ConnectionId);

    /// Sends output; the slot has none underway.
    fn send(&mut self, slot: &mut Slot, id: ConnectionId, output: Vec<u8>) -> Sent;

    /// Ends whatever is underway on a slot that is leaving or closing; of a leaving one, keeps
    /// what was received and not sent in `parting`. Returns whether the kernel knows nothing of
    /// the slot any more; if not, the slot is touched again once it may.
    fn detach(&mut self, slot: &mut Slot, id: ConnectionId) -> bool;

    /// Begins to accept from these, too.
    fn start_accepting(&mut self, listeners: Vec<Listening>) -> io::Result<()>;

    /// Closes the listener of this number, if there is one.
    fn stop_accepting_from(&mut self, number: u32);

    /// Who comes by the listener of this number from now on comes by one of this kind.
    fn rename_listener(&mut self, number: u32, kind: Listener);

    /// Closes the listeners.
    fn stop_accepting(&mut self);
}
