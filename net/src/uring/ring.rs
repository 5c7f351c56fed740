//! One io_uring instance, its operations in safe form.
//!
//! What the kernel reads or writes while an operation is in flight – output being sent, receive
//! buffers – is owned here and out of anybody's reach until the completion. A ring that is dropped
//! with operations still in flight leaks that memory rather than let the kernel use it after its
//! death. Bounded by: one receive or poll, one send and one cancellation per connection.

use super::buffers::{Filled, ReceiveBuffers};
use crate::token::{Kind, Token};
use crate::{Tuning, journal};
use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use shard::{Cause, ConnectionId};
use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// The only group of provided buffers.
const BUFFER_GROUP: u16 = 0;
/// `IORING_ENTER_GETEVENTS`.
const GETEVENTS: u32 = 1;
/// `IORING_ENTER_EXT_ARG`: the argument is a [`SubmitArgs`].
const EXT_ARG: u32 = 1 << 3;
/// `IORING_ENTER_NO_IOWAIT`: a waiting shard is idle, and should not look like a busy disk.
const NO_IOWAIT: u32 = 1 << 7;
/// How often a dying ring waits 100 ms for the last completions.
const LAST_WAITS: usize = 10;

/// Output in the hands of the kernel.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(crate) connection: ConnectionId,
    pub(crate) output: Vec<u8>,
    /// How much of it has been accepted.
    pub(crate) sent: usize,
}

/// The end of an operation, or of one round of it if `is_last` is false.
#[derive(Debug)]
pub(crate) struct Completion {
    pub(crate) what: What,
    pub(crate) is_last: bool,
}

/// What was completed. Errors are positive `errno` values.
#[derive(Debug)]
pub(crate) enum What {
    /// A connection, by the number of its listener.
    Accepted(u32, Result<OwnedFd, i32>),
    /// Another shard woke us.
    Woken,
    /// Bytes, or `None` at the end of the stream.
    Received(Token, Result<Option<Filled>, i32>),
    /// There may be something to receive.
    Polled(Token),
    /// Output is back, with how many bytes more were accepted.
    Sent(Sending, Result<usize, i32>),
    /// A cancellation; `false` if it did not find anything, or not for certain.
    Cancelled(Token, bool),
    /// Nothing that matters.
    Other,
}

/// One io_uring instance.
pub(crate) struct Ring {
    uring: ManuallyDrop<IoUring>,
    buffers: ManuallyDrop<ReceiveBuffers>,
    /// Output in flight, by the number in its token.
    sending: ManuallyDrop<Vec<Option<Sending>>>,
    sending_free: Vec<u32>,
    /// Operations submitted, or about to be, whose last completion is still to come.
    in_flight: usize,
    /// Entries in the submission queue.
    queued: usize,
    /// Entries that found the submission queue full and the kernel unwilling.
    backlog: VecDeque<squeue::Entry>,
    /// Completions taken from the kernel and not yet given out, last first.
    reaped: Vec<cqueue::Entry>,
    has_more: bool,
}

impl Ring {
    /// To be called on the thread that will use it. Errs with what the kernel refuses.
    pub(crate) fn new(tuning: &Tuning) -> io::Result<Ring> {
        let uring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(tuning.completion_entries.max(tuning.submission_entries))
            .build(tuning.submission_entries)?;
        if !uring.params().is_feature_nodrop() || !uring.params().is_feature_ext_arg() {
            return Err(io::Error::other("the kernel is too old"));
        }
        let buffers = ReceiveBuffers::new(tuning.receive_buffers, tuning.receive_buffer_bytes);
        // SAFETY: the ring of buffers has exactly that many entries and lives until the kernel has
        // no operation in flight any more, or for ever (see `drop`).
        let registered = unsafe {
            uring.submitter().register_buf_ring_with_flags(
                buffers.ring_address(),
                buffers.count(),
                BUFFER_GROUP,
                0,
            )
        };
        registered?;
        Ok(Ring {
            uring: ManuallyDrop::new(uring),
            buffers: ManuallyDrop::new(buffers),
            sending: ManuallyDrop::default(),
            sending_free: Vec::new(),
            in_flight: 0,
            queued: 0,
            backlog: VecDeque::new(),
            reaped: Vec::new(),
            has_more: false,
        })
    }

    /// Accepts connections until cancelled or failed.
    pub(crate) fn accept(&mut self, listener: BorrowedFd<'_>, number: u32) {
        let entry = opcode::AcceptMulti::new(fd(listener))
            .flags(libc::SOCK_CLOEXEC)
            .build();
        self.push(entry, Token::numbered(Kind::Listener, number));
    }

    /// Completes whenever another shard wakes us.
    pub(crate) fn watch_wake(&mut self, wake: BorrowedFd<'_>) {
        let entry = opcode::PollAdd::new(fd(wake), libc::POLLIN as u32)
            .multi(true)
            .build();
        self.push(entry, Token::numbered(Kind::Wake, 0));
    }

    /// Receives until cancelled, failed, or out of buffers.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>, connection: ConnectionId) {
        let entry = opcode::RecvMulti::new(fd(socket), BUFFER_GROUP).build();
        self.push(entry, Token::of(Kind::Receive, connection));
    }

    /// Receives once.
    pub(crate) fn receive_once(&mut self, socket: BorrowedFd<'_>, connection: ConnectionId) {
        // A length of zero takes that of the buffer.
        let entry = opcode::Recv::new(fd(socket), std::ptr::null_mut(), 0)
            .buf_group(BUFFER_GROUP)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT);
        self.push(entry, Token::of(Kind::Receive, connection));
    }

    /// Completes once when there is something to receive.
    pub(crate) fn poll(&mut self, socket: BorrowedFd<'_>, connection: ConnectionId) {
        let bits = (libc::POLLIN | libc::POLLRDHUP) as u32;
        let entry = opcode::PollAdd::new(fd(socket), bits).build();
        self.push(entry, Token::of(Kind::Poll, connection));
    }

    /// Sends what of the output has not been sent, which is not nothing.
    pub(crate) fn send(&mut self, socket: BorrowedFd<'_>, sending: Sending) {
        let rest = &sending.output[sending.sent..];
        debug_assert!(!rest.is_empty(), "nothing to send");
        let len = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        // The bytes stay where they are: the vector goes into `sending` and is not touched there
        // until the completion takes it out.
        let entry = opcode::Send::new(fd(socket), rest.as_ptr(), len)
            .flags(libc::MSG_NOSIGNAL)
            .build();
        let number = self.sending_free.pop().unwrap_or_else(|| {
            self.sending.push(None);
            (self.sending.len() - 1) as u32
        });
        let place = &mut self.sending[number as usize];
        assert!(place.is_none(), "two sends under one number");
        *place = Some(sending);
        self.push(entry, Token::numbered(Kind::Send, number));
    }

    /// Cancels one operation; `kind` is `Receive` or `Poll`.
    pub(crate) fn cancel(&mut self, kind: Kind, connection: ConnectionId) {
        let which = CancelBuilder::user_data(Token::of(kind, connection).0);
        self.push(
            opcode::AsyncCancel2::new(which).build(),
            Token::of(Kind::Cancel, connection),
        );
    }

    /// Cancels everything that is in flight on a connection's socket.
    pub(crate) fn cancel_all(&mut self, socket: BorrowedFd<'_>, connection: ConnectionId) {
        let which = CancelBuilder::fd(fd(socket)).all();
        let token = Token::of(Kind::CancelAll, connection);
        self.push(opcode::AsyncCancel2::new(which).build(), token);
    }

    /// Cancels accepting.
    pub(crate) fn cancel_accept(&mut self, number: u32) {
        let which = CancelBuilder::user_data(Token::numbered(Kind::Listener, number).0);
        let token = Token::numbered(Kind::Ignore, number);
        self.push(opcode::AsyncCancel2::new(which).build(), token);
    }

    /// Whether an entry waits to be submitted or a completion to be given out.
    pub(crate) fn has_work(&self) -> bool {
        self.queued > 0 || !self.backlog.is_empty() || !self.reaped.is_empty() || self.has_more
    }

    fn push(&mut self, entry: squeue::Entry, token: Token) {
        self.in_flight += 1;
        let entry = entry.user_data(token.0);
        if self.backlog.is_empty() && self.try_push(&entry) {
            return;
        }
        self.submit_backlog();
        if !(self.backlog.is_empty() && self.try_push(&entry)) {
            self.backlog.push_back(entry);
        }
    }

    fn try_push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: the entry was made by one of the methods above. What it points to is owned by
        // `self`: output by `sending`, buffers by `buffers`; both outlive the operation.
        let is_pushed = unsafe { self.uring.submission().push(entry) }.is_ok();
        self.queued += usize::from(is_pushed);
        is_pushed
    }

    /// Makes room in the submission queue, and moves the backlog there as far as it goes.
    fn submit_backlog(&mut self) {
        // What stays is tried again by the next wait, which reports what is wrong.
        let _ = self.enter(Some(Duration::ZERO), 1);
        while let Some(entry) = self.backlog.pop_front() {
            if !self.try_push(&entry) {
                self.backlog.push_front(entry);
                return;
            }
        }
    }

    /// Submits everything, lets the kernel do its part, and waits for a completion at most so long
    /// (`None`: for ever). One call of the kernel.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if !self.backlog.is_empty() {
            self.submit_backlog();
        }
        self.enter(timeout, 1)
    }

    /// Like [`Ring::wait`], but returns only after the whole window, or when so many completions
    /// are there. There may be none.
    pub(crate) fn gather(&mut self, window: Duration, enough: u32) -> io::Result<()> {
        if !self.backlog.is_empty() {
            self.submit_backlog();
        }
        self.enter(Some(window), enough)
    }

    fn enter(&mut self, timeout: Option<Duration>, enough: u32) -> io::Result<()> {
        let queue = self.uring.submission();
        let (len, is_due) = (queue.len() as u32, queue.taskrun() || queue.cq_overflow());
        drop(queue);
        let wanted = if timeout == Some(Duration::ZERO) {
            0
        } else {
            enough
        };
        if len == 0 && wanted == 0 && !is_due {
            return Ok(());
        }
        // Deferred work, most of all receives, is done only if events are asked for.
        let mut flags = GETEVENTS;
        if self.uring.params().is_feature_no_iowait() {
            flags |= NO_IOWAIT;
        }
        let submitter = self.uring.submitter();
        let result = match timeout {
            None | Some(Duration::ZERO) => {
                // SAFETY: every entry in the queue was pushed by `try_push` and is sound as said
                // there; no argument is passed.
                unsafe { submitter.enter::<libc::sigset_t>(len, wanted, flags, None) }
            }
            Some(timeout) => {
                let timeout = Timespec::from(timeout);
                let arguments = SubmitArgs::new().timespec(&timeout);
                // SAFETY: as above; the argument is what the flag says, and outlives the call.
                unsafe { submitter.enter(len, wanted, flags | EXT_ARG, Some(&arguments)) }
            }
        };
        self.queued = self.uring.submission().len();
        match result {
            Ok(_) => Ok(()),
            // Time out, a signal, or completions that must be taken first: all in a day's work.
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Takes at most so many completions from the kernel; returns how many there are.
    pub(crate) fn reap(&mut self, completions_max: usize) -> usize {
        let mut queue = self.uring.completion();
        queue.sync();
        self.reaped.extend(queue.by_ref().take(completions_max));
        self.has_more = !queue.is_empty();
        drop(queue);
        self.reaped.reverse();
        self.reaped.len()
    }

    /// The next completion that was reaped.
    pub(crate) fn next_completion(&mut self) -> Option<Completion> {
        let entry = self.reaped.pop()?;
        let is_last = !cqueue::more(entry.flags());
        if is_last {
            self.in_flight -= 1;
        }
        let token = Token(entry.user_data());
        let what = match token.kind() {
            Some(Kind::Receive) => What::Received(token, self.received(&entry)),
            Some(Kind::Send) => {
                let place = &mut self.sending[token.number() as usize];
                let sending = place.take().expect("a send completes once");
                self.sending_free.push(token.number());
                What::Sent(sending, result(&entry).map(|count| count as usize))
            }
            Some(Kind::Poll) => What::Polled(token),
            Some(Kind::Cancel) => What::Cancelled(token, entry.result() >= 0),
            // With "all", the result is how many were found.
            Some(Kind::CancelAll) => What::Cancelled(token, entry.result() > 0),
            Some(Kind::Listener) => {
                let socket = result(&entry).map(|descriptor| {
                    // SAFETY: the kernel has just made this descriptor for us, and this completion
                    // is the only one that names it.
                    unsafe { OwnedFd::from_raw_fd(descriptor as i32) }
                });
                What::Accepted(token.number(), socket)
            }
            Some(Kind::Wake) => What::Woken,
            Some(Kind::Ignore | Kind::Connection) | None => What::Other,
        };
        Some(Completion { what, is_last })
    }

    fn received(&mut self, entry: &cqueue::Entry) -> Result<Option<Filled>, i32> {
        let len = result(entry);
        let filled = cqueue::buffer_select(entry.flags())
            .map(|buffer| self.buffers.take(buffer, len.unwrap_or(0)));
        match (len, filled) {
            (Ok(0), None) => Ok(None),
            (Ok(0), Some(filled)) => {
                self.buffers.give_back(filled);
                Ok(None)
            }
            (Ok(_), filled) => Ok(Some(filled.expect("bytes are received into a buffer"))),
            (Err(error), filled) => {
                if let Some(filled) = filled {
                    self.buffers.give_back(filled);
                }
                Err(error)
            }
        }
    }

    /// What was received.
    pub(crate) fn bytes(&self, filled: &Filled) -> &[u8] {
        self.buffers.bytes(filled)
    }

    /// Offers a buffer again; the kernel sees it after [`Ring::publish_buffers`].
    pub(crate) fn give_back(&mut self, filled: Filled) {
        self.buffers.give_back(filled);
    }

    /// Lets the kernel see the buffers that were given back.
    pub(crate) fn publish_buffers(&mut self) {
        self.buffers.publish();
    }

    /// Cancels everything and waits for the last completions; returns whether they all came.
    fn wind_up(&mut self) -> bool {
        // An error leaves operations in flight, which the count then shows.
        let _ = self
            .uring
            .submitter()
            .register_sync_cancel(None, CancelBuilder::any());
        for _ in 0..LAST_WAITS {
            while self.reap(usize::MAX) > 0 {
                while let Some(completion) = self.next_completion() {
                    if let What::Received(_, Ok(Some(filled))) = completion.what {
                        self.give_back(filled);
                    }
                }
            }
            if self.in_flight == 0 {
                return true;
            }
            if self.wait(Some(Duration::from_millis(100))).is_err() {
                return false;
            }
        }
        self.in_flight == 0
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let is_quiet = self.wind_up();
        // SAFETY: dropped once, here, and not used after.
        unsafe { ManuallyDrop::drop(&mut self.uring) };
        if !is_quiet {
            let detail = format!("{} operations in flight", self.in_flight);
            journal::note(Cause::MemoryHeld, None, &detail);
            return;
        }
        // SAFETY: as above; and the kernel is done with them, for nothing is in flight.
        unsafe { ManuallyDrop::drop(&mut self.buffers) };
        // SAFETY: as above.
        unsafe { ManuallyDrop::drop(&mut self.sending) };
    }
}

fn fd(fd: BorrowedFd<'_>) -> Fd {
    Fd(fd.as_raw_fd())
}

fn result(entry: &cqueue::Entry) -> Result<u32, i32> {
    u32::try_from(entry.result()).map_err(|_| -entry.result())
}
