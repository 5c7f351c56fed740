//! The epoll backend: for hosts that refuse io_uring.
//!
//! A connection is registered once, edge-triggered, for everything; what the edge said is kept in
//! its slot until reading or sending has met `EAGAIN`. All sockets are in blocking mode and every
//! call says that it will not wait, so that a socket suits either backend.

use crate::Handler;
use crate::backend::{Backend, Sent};
use crate::driver::Driver;
use crate::listen::Listening;
use crate::slots::{Flag, Phase, Slot};
use crate::sys::{self, Epoll};
use crate::token::{Kind, Token};
use shard::{Cause, ConnectionId, Listener, Span, Time};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// Reports taken per turn.
const REPORTS_PER_TURN: usize = 1_024;
/// Connections accepted per turn and listener.
const ACCEPTS_PER_TURN: usize = 64;
/// Receives per turn and connection.
const RECEIVES_PER_TURN: usize = 4;
/// How long a listener rests when there are no file descriptors left.
const ACCEPT_REST: Span = Span::from_ms(100);

const CONNECTION_BITS: i32 = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;

/// Output that the kernel did not accept.
#[derive(Debug, Default)]
struct Blocked {
    output: Vec<u8>,
    sent: usize,
}

/// One shard's access to the kernel by epoll.
#[derive(Debug)]
pub(crate) struct EpollBackend {
    epoll: Epoll,
    /// By the numbers that the kernel reports; those that were closed are `None`.
    listeners: Vec<Option<Listening>>,
    /// When the listeners that rest are watched again.
    resting_until: Option<Time>,
    buffer: Box<[u8]>,
    /// Connections to read from, in the order they became readable.
    queue: VecDeque<ConnectionId>,
    /// Named by `Slot::blocked` while the slot is `SENDING`.
    blocked: Vec<Blocked>,
    blocked_free: Vec<u32>,
}

impl EpollBackend {
    /// Watches the wake-up.
    pub(crate) fn new(
        wake: BorrowedFd<'_>,
        receive_buffer_bytes: usize,
    ) -> io::Result<EpollBackend> {
        let epoll = Epoll::new(REPORTS_PER_TURN)?;
        epoll.add(
            wake,
            libc::EPOLLIN | libc::EPOLLET,
            Token::numbered(Kind::Wake, 0).0,
        )?;
        Ok(EpollBackend {
            epoll,
            listeners: Vec::new(),
            resting_until: None,
            buffer: vec![0; receive_buffer_bytes].into_boxed_slice(),
            queue: VecDeque::new(),
            blocked: Vec::new(),
            blocked_free: Vec::new(),
        })
    }

    fn on_report<H: Handler>(&mut self, driver: &mut Driver<H>, token: Token, bits: i32) {
        match token.kind() {
            Some(Kind::Listener) => self.accept(driver, token.number() as usize),
            Some(Kind::Connection) => self.on_ready(driver, token, bits),
            _ => {}
        }
    }

    fn on_ready<H: Handler>(&mut self, driver: &mut Driver<H>, token: Token, bits: i32) {
        let connection = driver.slots.id(token.number());
        if !token.is_of(connection) || driver.slots.find(connection).is_none() {
            return;
        }
        let slot = driver.slots.at(connection.index);
        if bits & (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) != 0 {
            slot.set(Flag::HUNG_UP);
            slot.set(Flag::READABLE);
        }
        if bits & libc::EPOLLIN != 0 {
            slot.set(Flag::READABLE);
        }
        self.align_reading(slot, connection);
        if slot.has(Flag::SENDING) && bits & (libc::EPOLLOUT | libc::EPOLLERR) != 0 {
            self.send_more(driver, connection);
        }
    }

    fn accept<H: Handler>(&mut self, driver: &mut Driver<H>, number: usize) {
        for _ in 0..ACCEPTS_PER_TURN {
            // It may have been closed since.
            let Some(Some(listening)) = self.listeners.get(number) else {
                return;
            };
            match listening.socket.accept() {
                Ok((socket, peer)) => {
                    let kind = listening.kind;
                    driver.on_accepted(self, socket.into(), kind, peer);
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                        return self.rest(driver, &error);
                    }
                    _ if error.kind() == io::ErrorKind::WouldBlock => return,
                    // The connection that was to be accepted is gone; the next may be well.
                    _ => {}
                },
            }
        }
    }

    /// Stops accepting for a moment: there is nothing to be gained from trying at once.
    fn rest<H: Handler>(&mut self, driver: &mut Driver<H>, error: &io::Error) {
        driver.log_accept(Cause::AcceptFailed, Some(error));
        self.resting_until = Some(driver.now + ACCEPT_REST);
        self.watch_listeners(0);
    }

    fn watch_listeners(&mut self, bits: i32) {
        for (number, listening) in self.listeners.iter().enumerate() {
            let Some(listening) = listening else {
                continue;
            };
            let token = Token::numbered(Kind::Listener, number as u32);
            let changed = self.epoll.change(listening.socket.as_fd(), bits, token.0);
            // Only fails for a descriptor that was never added.
            debug_assert!(changed.is_ok(), "listener not watched");
        }
    }

    /// Reads from those that were readable when the turn began.
    fn receive_queued<H: Handler>(&mut self, driver: &mut Driver<H>) {
        for _ in 0..self.queue.len() {
            let Some(connection) = self.queue.pop_front() else {
                break;
            };
            let Some(slot) = driver.slots.find(connection) else {
                continue;
            };
            slot.clear(Flag::QUEUED);
            self.receive(driver, connection);
            self.align_reading(driver.slots.at(connection.index), connection);
        }
    }

    fn receive<H: Handler>(&mut self, driver: &mut Driver<H>, connection: ConnectionId) {
        for _ in 0..RECEIVES_PER_TURN {
            let slot = driver.slots.at(connection.index);
            if !slot.wants_bytes() {
                return;
            }
            match sys::receive(slot.socket(), &mut self.buffer) {
                Ok(0) => return driver.on_ended(connection),
                Ok(count) => {
                    // Less than was asked for: the next bytes will be an edge of their own. The
                    // end of the stream has had its edge, so that is read up to.
                    if count < self.buffer.len() && !slot.has(Flag::HUNG_UP) {
                        slot.clear(Flag::READABLE);
                    }
                    driver.on_received(connection, &self.buffer[..count]);
                    if !driver.slots.at(connection.index).has(Flag::READABLE) {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return slot.clear(Flag::READABLE);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return driver.on_broken(connection),
            }
        }
    }

    /// Goes on with output that the kernel did not accept before.
    fn send_more<H: Handler>(&mut self, driver: &mut Driver<H>, connection: ConnectionId) {
        let slot = driver.slots.at(connection.index);
        let blocked = &mut self.blocked[slot.blocked as usize];
        let (accepted, error) = send_all(slot.socket(), &blocked.output[blocked.sent..]);
        blocked.sent += accepted;
        let is_all = blocked.sent == blocked.output.len();
        if is_all || error.is_some() {
            let buffer = self.take_blocked(slot).output;
            driver.effects.recycle(buffer);
        }
        if accepted > 0 {
            driver.on_sent(connection, accepted, is_all);
        }
        if error.is_some() {
            driver.on_broken(connection);
        }
    }

    fn take_blocked(&mut self, slot: &mut Slot) -> Blocked {
        slot.clear(Flag::SENDING);
        self.blocked_free.push(slot.blocked);
        std::mem::take(&mut self.blocked[slot.blocked as usize])
    }

    fn hold_blocked(&mut self, slot: &mut Slot, blocked: Blocked) {
        slot.set(Flag::SENDING);
        slot.blocked = self.blocked_free.pop().unwrap_or_else(|| {
            self.blocked.push(Blocked::default());
            (self.blocked.len() - 1) as u32
        });
        self.blocked[slot.blocked as usize] = blocked;
    }
}

/// Sends until all is accepted, the kernel has no room, or the connection proves broken, which is
/// the error that is returned.
fn send_all(socket: BorrowedFd<'_>, bytes: &[u8]) -> (usize, Option<io::Error>) {
    let mut accepted = 0;
    while accepted < bytes.len() {
        match sys::send(socket, &bytes[accepted..]) {
            Ok(count) => accepted += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (accepted, Some(error)),
        }
    }
    (accepted, None)
}

/// Closes a listener. That alone would not end the watch: of a socket that was passed to this process
/// other shards have descriptors, too.
fn close(epoll: &Epoll, listening: Option<Listening>) {
    if let Some(listening) = listening {
        let removed = epoll.remove(listening.socket.as_fd());
        debug_assert!(removed.is_ok(), "listener not watched");
    }
}

impl Backend for EpollBackend {
    fn wait<H: Handler>(
        &mut self,
        driver: &mut Driver<H>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        let reports = self.epoll.wait(timeout)?;
        driver.begin();
        if self.resting_until.is_some_and(|until| driver.now >= until) {
            self.resting_until = None;
            self.watch_listeners(libc::EPOLLIN);
        }
        for index in 0..reports {
            let report = self.epoll.report(index);
            self.on_report(driver, Token(report.token), report.bits as i32);
        }
        self.receive_queued(driver);
        Ok(())
    }

    fn has_work(&self) -> bool {
        !self.queue.is_empty()
    }

    fn deadline(&self) -> Option<Time> {
        self.resting_until
    }

    fn attach(&mut self, slot: &mut Slot, id: ConnectionId) -> io::Result<()> {
        self.epoll.add(
            slot.socket(),
            CONNECTION_BITS,
            Token::of(Kind::Connection, id).0,
        )
    }

    fn align_reading(&mut self, slot: &mut Slot, id: ConnectionId) {
        if slot.has(Flag::READABLE) && slot.wants_bytes() && !slot.has(Flag::QUEUED) {
            slot.set(Flag::QUEUED);
            self.queue.push_back(id);
        }
    }

    fn send(&mut self, slot: &mut Slot, _id: ConnectionId, output: Vec<u8>) -> Sent {
        let (sent, error) = send_all(slot.socket(), &output);
        if error.is_some() {
            Sent::Failed
        } else if sent == output.len() {
            Sent::All(output)
        } else {
            self.hold_blocked(slot, Blocked { output, sent });
            Sent::Pending(sent)
        }
    }

    fn detach(&mut self, slot: &mut Slot, _id: ConnectionId) -> bool {
        if slot.has(Flag::SENDING) {
            let blocked = self.take_blocked(slot);
            if let Some(parting) = &mut slot.parting {
                parting
                    .output
                    .extend_from_slice(&blocked.output[blocked.sent..]);
            }
        }
        if slot.phase == Phase::Leaving {
            let removed = self.epoll.remove(slot.socket());
            debug_assert!(removed.is_ok(), "connection not watched");
        }
        true
    }

    fn start_accepting(&mut self, listeners: Vec<Listening>) -> io::Result<()> {
        for listening in listeners {
            listening.socket.set_nonblocking(true)?;
            let free = self.listeners.iter().position(Option::is_none);
            let place = free.unwrap_or(self.listeners.len());
            let token = Token::numbered(Kind::Listener, place as u32);
            self.epoll
                .add(listening.socket.as_fd(), libc::EPOLLIN, token.0)?;
            match self.listeners.get_mut(place) {
                Some(free) => *free = Some(listening),
                None => self.listeners.push(Some(listening)),
            }
        }
        Ok(())
    }

    fn stop_accepting_from(&mut self, number: u32) {
        let is_it = |listening: &&mut Option<Listening>| {
            listening.as_ref().is_some_and(|open| open.number == number)
        };
        if let Some(place) = self.listeners.iter_mut().find(is_it) {
            close(&self.epoll, place.take());
        }
    }

    fn rename_listener(&mut self, number: u32, kind: Listener) {
        for listening in self.listeners.iter_mut().flatten() {
            if listening.number == number {
                listening.kind = kind;
            }
        }
    }

    fn stop_accepting(&mut self) {
        for listening in self.listeners.drain(..) {
            close(&self.epoll, listening);
        }
        self.resting_until = None;
    }
}
