//! The io_uring backend.
//!
//! A connection has at most one receive or poll, one send and one cancellation in flight, each with
//! a flag in its slot; the slot is let go of when all of these flags are down. It is received from
//! while it is active, and only polled when it has been silent for a while, because a poll costs
//! the kernel less memory. The first receive is a single one: most new connections move to another
//! shard after it, and have then nothing to cancel.
//!
//! An operation that ends before its time – out of buffers, out of room for completions – leaves
//! nothing behind but a flag that is down, and is begun again when the slot is settled.

mod buffers;
mod gather;
mod memory;
mod probe;
mod ring;

pub(crate) use probe::probe;

use crate::backend::{Backend, Sent};
use crate::driver::Driver;
use crate::listen::Listening;
use crate::slots::{Flag, Phase, Slot};
use crate::token::{Kind, Token};
use crate::{Handler, Tuning};
use gather::{Gather, Rest};
use ring::{Ring, Sending, What};
use shard::{Cause, ConnectionId, Listener, Span, Time};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

/// Completions taken per turn.
const COMPLETIONS_PER_TURN: usize = 1_024;
/// How long accepting rests when there are no file descriptors left.
const ACCEPT_REST: Span = Span::from_ms(100);
/// A list of watched connections that is smaller than this is not made smaller.
const WATCHED_MIN: usize = 1_024;

/// A listener that is accepted from.
#[derive(Debug)]
struct Accepting {
    listening: Listening,
    /// It is closed after its last completion.
    is_closing: bool,
}

/// One shard's access to the kernel by io_uring.
pub(crate) struct UringBackend {
    ring: Ring,
    gather: Gather,
    /// Receives in the present turn.
    receives: u32,
    /// A connection was accepted in the present turn.
    has_accepted: bool,
    /// By the numbers that the kernel reports; `None` once accepting has been cancelled and the
    /// kernel has let go.
    listeners: Vec<Option<Accepting>>,
    /// Numbers, of the kernel's, of the listeners that rest.
    resting: Vec<u32>,
    resting_until: Option<Time>,
    wake: OwnedFd,
    idle_after_ms: u32,
    /// Milliseconds since the backend was made, at the beginning of the turn; wraps after 49 days.
    now_ms: u32,
    begin: Time,
    /// Connections that are being received from, each once, with the time to look at it again:
    /// later towards the back.
    watched: VecDeque<(u32, ConnectionId)>,
}

impl UringBackend {
    /// Begins to listen for the wake-up. To be called on the thread that will use it.
    pub(crate) fn new(
        wake: BorrowedFd<'_>,
        tuning: &Tuning,
        now: Time,
    ) -> io::Result<UringBackend> {
        let wake = wake.try_clone_to_owned()?;
        let mut ring = Ring::new(tuning)?;
        ring.watch_wake(std::os::fd::AsFd::as_fd(&wake));
        Ok(UringBackend {
            ring,
            gather: Gather::new(tuning.gather_us),
            receives: 0,
            has_accepted: false,
            listeners: Vec::new(),
            resting: Vec::new(),
            resting_until: None,
            wake,
            idle_after_ms: tuning.idle_after_ms,
            now_ms: 0,
            begin: now,
            watched: VecDeque::new(),
        })
    }

    fn accept(&mut self, number: u32) {
        if let Some(accepting) = &self.listeners[number as usize] {
            let socket = &accepting.listening.socket;
            self.ring.accept(std::os::fd::AsFd::as_fd(socket), number);
        }
    }

    /// Closes a listener, at once or after its last completion.
    fn close_listener(&mut self, place: usize) {
        let Some(accepting) = &mut self.listeners[place] else {
            return;
        };
        accepting.is_closing = true;
        let number = place as u32;
        match self.resting.iter().position(|resting| *resting == number) {
            // Of one that rests nothing is in flight.
            Some(at) => {
                self.resting.swap_remove(at);
                self.listeners[place] = None;
            }
            None => self.ring.cancel_accept(number),
        }
    }

    fn on_completion<H: Handler>(&mut self, driver: &mut Driver<H>, what: What, is_last: bool) {
        match what {
            What::Received(token, result) => {
                let connection = driver.slots.id(token.number());
                assert!(
                    token.is_of(connection),
                    "a slot was freed before its last completion"
                );
                let slot = driver.slots.at(connection.index);
                if is_last {
                    slot.clear(Flag::RECEIVING);
                    slot.clear(Flag::FRESH);
                }
                match result {
                    Ok(Some(filled)) => {
                        self.receives += 1;
                        slot.active_ms = self.now_ms;
                        self.watch(slot, connection);
                        driver.on_received(connection, self.ring.bytes(&filled));
                        self.ring.give_back(filled);
                    }
                    Ok(None) => driver.on_ended(connection),
                    Err(error) => on_receive_error(driver, connection, error),
                }
                if is_last {
                    driver.touch(connection.index);
                }
            }
            What::Sent(sending, result) => self.on_sent(driver, sending, result),
            What::Polled(token) => self.on_polled(driver, token),
            What::Cancelled(token, was_found) => on_cancelled(driver, token, was_found),
            What::Accepted(number, result) => {
                self.has_accepted = true;
                self.on_accepted(driver, number, result, is_last);
            }
            What::Woken if is_last => {
                self.ring.watch_wake(std::os::fd::AsFd::as_fd(&self.wake));
            }
            What::Woken | What::Other => {}
        }
    }

    fn on_polled<H: Handler>(&mut self, driver: &mut Driver<H>, token: Token) {
        let connection = driver.slots.id(token.number());
        assert!(
            token.is_of(connection),
            "a slot was freed before its last completion"
        );
        let slot = driver.slots.at(connection.index);
        slot.clear(Flag::POLLING);
        // Whatever the poll saw, a receive will tell.
        slot.active_ms = self.now_ms;
        self.watch(slot, connection);
        driver.touch(connection.index);
    }

    fn on_sent<H: Handler>(
        &mut self,
        driver: &mut Driver<H>,
        mut sending: Sending,
        result: Result<usize, i32>,
    ) {
        let connection = sending.connection;
        let slot = driver
            .slots
            .find(connection)
            .expect("a slot outlives its completions");
        slot.clear(Flag::SENDING);
        let accepted = match result {
            Ok(accepted) => accepted,
            // Cancelled, because the slot is leaving or closing, or to be tried again.
            Err(libc::ECANCELED | libc::EINTR | libc::EAGAIN) => 0,
            Err(_) => {
                driver.effects.recycle(sending.output);
                return driver.on_broken(connection);
            }
        };
        sending.sent += accepted;
        let is_all = sending.sent == sending.output.len();
        if is_all {
            driver.effects.recycle(std::mem::take(&mut sending.output));
        } else if matches!(slot.phase, Phase::Open | Phase::Flushing) {
            slot.set(Flag::SENDING);
            self.ring.send(slot.socket(), sending);
        } else {
            if let Some(parting) = &mut slot.parting {
                parting
                    .output
                    .extend_from_slice(&sending.output[sending.sent..]);
            }
            driver.touch(connection.index);
        }
        driver.on_sent(connection, accepted, is_all);
    }

    fn on_accepted<H: Handler>(
        &mut self,
        driver: &mut Driver<H>,
        number: u32,
        result: Result<OwnedFd, i32>,
        is_last: bool,
    ) {
        let accepting = self.listeners[number as usize].as_ref();
        let accepting = accepting.expect("a listener outlives its completions");
        let (kind, is_closing) = (accepting.listening.kind, accepting.is_closing);
        let failure = match result {
            Ok(socket) => {
                // A multishot accept has no place for the address. A peer that is gone already has
                // none.
                let peer = socket2::SockRef::from(&socket).peer_addr();
                if let Some(peer) = peer.ok().and_then(|peer| peer.as_socket()) {
                    driver.on_accepted(self, socket, kind, peer);
                }
                None
            }
            // The connection that was to be accepted is gone; the next may be well.
            Err(libc::ECONNABORTED | libc::EINTR | libc::EAGAIN | libc::EPROTO | libc::EPERM) => {
                None
            }
            Err(error) => Some(io::Error::from_raw_os_error(error)),
        };
        if !is_last {
            return;
        }
        if is_closing {
            self.listeners[number as usize] = None;
        } else if let Some(error) = failure {
            driver.log_accept(Cause::AcceptFailed, Some(&error));
            self.resting.push(number);
            self.resting_until = Some(driver.now + ACCEPT_REST);
        } else {
            self.accept(number);
        }
    }

    fn end_rest(&mut self, now: Time) {
        if self.resting_until.is_some_and(|until| now >= until) {
            self.resting_until = None;
            for number in std::mem::take(&mut self.resting) {
                self.accept(number);
            }
        }
    }

    /// Has the connection looked at again when it may have been silent for long enough.
    fn watch(&mut self, slot: &mut Slot, connection: ConnectionId) {
        slot.clear(Flag::IDLE);
        if !slot.has(Flag::WATCHED) {
            slot.set(Flag::WATCHED);
            let due_ms = self.now_ms.wrapping_add(self.idle_after_ms);
            self.watched.push_back((due_ms, connection));
        }
    }

    /// Looks at the watched connections whose time has come.
    fn find_idle<H: Handler>(&mut self, driver: &mut Driver<H>) {
        while let Some(&(due_ms, connection)) = self.watched.front() {
            if (due_ms.wrapping_sub(self.now_ms) as i32) > 0 {
                break;
            }
            self.watched.pop_front();
            let Some(slot) = driver.slots.find(connection) else {
                continue;
            };
            slot.clear(Flag::WATCHED);
            let silent_ms = self.now_ms.wrapping_sub(slot.active_ms);
            if silent_ms < self.idle_after_ms {
                self.watch(slot, connection);
            } else {
                slot.set(Flag::IDLE);
                driver.touch(connection.index);
            }
        }
        if self.watched.capacity() > WATCHED_MIN.max(self.watched.len() * 4) {
            self.watched.shrink_to(self.watched.len() * 2);
        }
    }
}

fn on_receive_error<H: Handler>(driver: &mut Driver<H>, connection: ConnectionId, error: i32) {
    match error {
        // Begun again, if it is still wanted, when the slot is settled. With ENOBUFS that is after
        // the buffers of this turn have been given back; the bytes wait in the socket.
        libc::ECANCELED | libc::ENOBUFS | libc::EINTR | libc::EAGAIN => {}
        _ => driver.on_broken(connection),
    }
}

fn on_cancelled<H: Handler>(driver: &mut Driver<H>, token: Token, was_found: bool) {
    let connection = driver.slots.id(token.number());
    assert!(
        token.is_of(connection),
        "a slot was freed before its last completion"
    );
    let slot = driver.slots.at(connection.index);
    slot.clear(Flag::CANCELLING);
    let is_awaited = match slot.phase {
        Phase::Leaving | Phase::Closing => is_busy(slot),
        _ => slot.has(Flag::RECEIVING) || slot.has(Flag::POLLING),
    };
    // If something was found, its own completion settles the slot, unless that has come already.
    if !was_found || !is_awaited {
        driver.touch(connection.index);
    }
}

/// Whether the kernel knows anything of the slot.
fn is_busy(slot: &Slot) -> bool {
    [
        Flag::RECEIVING,
        Flag::POLLING,
        Flag::SENDING,
        Flag::CANCELLING,
    ]
    .into_iter()
    .any(|flag| slot.has(flag))
}

impl Backend for UringBackend {
    fn wait<H: Handler>(
        &mut self,
        driver: &mut Driver<H>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        let before = driver.now;
        let rest = self.gather.rest(timeout);
        match rest {
            Rest::Wait => self.ring.wait(timeout)?,
            Rest::Window(window, enough) => self.ring.gather(window, enough)?,
            Rest::Nap(nap) => {
                std::thread::sleep(nap);
                self.ring.wait(Some(Duration::ZERO))?;
            }
        }
        driver.begin();
        self.receives = 0;
        self.has_accepted = false;
        self.now_ms = (driver.now.since(self.begin).0 / 1_000) as u32;
        self.end_rest(driver.now);
        self.find_idle(driver);
        self.ring.reap(COMPLETIONS_PER_TURN);
        while let Some(completion) = self.ring.next_completion() {
            self.on_completion(driver, completion.what, completion.is_last);
        }
        let since_us = driver.now.since(before).0;
        self.gather
            .observe(since_us, self.receives, self.has_accepted, rest);
        self.ring.publish_buffers();
        Ok(())
    }

    fn has_work(&self) -> bool {
        self.ring.has_work()
    }

    fn deadline(&self) -> Option<Time> {
        let look_at = self.watched.front().map(|&(due_ms, _)| {
            let wait_ms = due_ms.wrapping_sub(self.now_ms) as i32;
            // The turn's time, rounded down as `now_ms` is.
            self.begin
                + Span::from_ms(u64::from(self.now_ms))
                + Span::from_ms(wait_ms.max(0) as u64)
        });
        [look_at, self.resting_until].into_iter().flatten().min()
    }

    fn attach(&mut self, slot: &mut Slot, id: ConnectionId) -> io::Result<()> {
        slot.set(Flag::FRESH);
        slot.active_ms = self.now_ms;
        self.watch(slot, id);
        Ok(())
    }

    fn align_reading(&mut self, slot: &mut Slot, id: ConnectionId) {
        let wants_poll = slot.wants_bytes() && slot.phase == Phase::Open && slot.has(Flag::IDLE);
        let wants_receive = slot.wants_bytes() && !wants_poll;
        let (is_receiving, is_polling) = (slot.has(Flag::RECEIVING), slot.has(Flag::POLLING));
        if slot.has(Flag::CANCELLING) {
            // Its completion settles the slot again.
        } else if is_receiving && !wants_receive {
            slot.set(Flag::CANCELLING);
            self.ring.cancel(Kind::Receive, id);
        } else if is_polling && !wants_poll {
            slot.set(Flag::CANCELLING);
            self.ring.cancel(Kind::Poll, id);
        } else if wants_receive && !is_receiving {
            slot.set(Flag::RECEIVING);
            if slot.has(Flag::FRESH) {
                self.ring.receive_once(slot.socket(), id);
            } else {
                self.ring.receive(slot.socket(), id);
            }
        } else if wants_poll && !is_polling {
            slot.set(Flag::POLLING);
            self.ring.poll(slot.socket(), id);
        }
    }

    fn send(&mut self, slot: &mut Slot, connection: ConnectionId, output: Vec<u8>) -> Sent {
        slot.set(Flag::SENDING);
        self.ring.send(
            slot.socket(),
            Sending {
                connection,
                output,
                sent: 0,
            },
        );
        Sent::Pending(0)
    }

    fn detach(&mut self, slot: &mut Slot, id: ConnectionId) -> bool {
        if !is_busy(slot) {
            return true;
        }
        if !slot.has(Flag::CANCELLING) {
            slot.set(Flag::CANCELLING);
            self.ring.cancel_all(slot.socket(), id);
        }
        false
    }

    fn start_accepting(&mut self, listeners: Vec<Listening>) -> io::Result<()> {
        for listening in listeners {
            let free = self.listeners.iter().position(Option::is_none);
            let place = free.unwrap_or(self.listeners.len());
            let accepting = Some(Accepting {
                listening,
                is_closing: false,
            });
            match self.listeners.get_mut(place) {
                Some(free) => *free = accepting,
                None => self.listeners.push(accepting),
            }
            self.accept(place as u32);
        }
        Ok(())
    }

    fn stop_accepting_from(&mut self, number: u32) {
        let is_it = |accepting: &Option<Accepting>| {
            let accepting = accepting.as_ref();
            accepting.is_some_and(|open| open.listening.number == number)
        };
        if let Some(place) = self.listeners.iter().position(is_it) {
            self.close_listener(place);
        }
    }

    fn rename_listener(&mut self, number: u32, kind: Listener) {
        for accepting in self.listeners.iter_mut().flatten() {
            if accepting.listening.number == number {
                accepting.listening.kind = kind;
            }
        }
    }

    fn stop_accepting(&mut self) {
        for place in 0..self.listeners.len() {
            self.close_listener(place);
        }
        self.resting_until = None;
    }
}
