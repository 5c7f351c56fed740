//! Thousands of client connections on one thread.
//!
//! Sockets are registered once, edge-triggered, for both directions; a client holds no buffer
//! unless a packet is cut in two or the kernel's send buffer is full. Bounded by the number of
//! clients asked for: `open` refuses more than the limit on open files allows.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};

use crate::wire::{self, Packet, Version};

/// Bytes that one read may bring.
const READ_BYTES: usize = 256 * 1_024;
/// Events that one turn takes from the kernel.
const EVENTS_MAX: usize = 2_048;
/// Clients per source address, far below the 28,000 ports that one has.
const CLIENTS_PER_SOURCE: usize = 2_000;
/// Fleets of this size and above spread over source addresses.
const SPREAD_FROM: usize = 1_000;
/// Without any progress for so long, setting up has failed.
const STALL: Duration = Duration::from_secs(20);
/// Filters of one SUBSCRIBE packet.
const FILTERS_PER_SUBSCRIBE: usize = 100;
/// SUBSCRIBE packets that a client may have unacknowledged while setting up.
const SUBSCRIBES_OUTSTANDING: usize = 4;

/// Numbers the fleets of this process, so that client identifiers and source addresses differ.
static FLEETS: AtomicU32 = AtomicU32::new(0);

/// Who takes what the broker sends.
pub trait Receiver {
    /// A packet for `client`. What is appended to `replies` goes back to it.
    fn on_packet(&mut self, client: usize, packet: Packet<'_>, replies: &mut Vec<u8>);
    /// What waited for `client` has all been written; it may send again.
    fn on_writable(&mut self, _client: usize) {}
    /// A read is about to be taken apart: the moment of its arrival may be noted.
    fn on_read(&mut self) {}
    /// The broker closed `client`, or sent what is no packet.
    fn on_closed(&mut self, client: usize, why: &str);
}

#[derive(Debug)]
struct Client {
    stream: TcpStream,
    /// The front of a packet whose rest has not come.
    inbox: Vec<u8>,
    /// What the kernel would not take yet, from `outbox_at` on.
    outbox: Vec<u8>,
    outbox_at: usize,
    open: bool,
}

/// The connections of one scenario.
#[derive(Debug)]
pub struct Fleet {
    poll: Poll,
    events: Events,
    clients: Vec<Client>,
    read_buffer: Vec<u8>,
    replies: Vec<u8>,
    target: SocketAddr,
    version: Version,
    number: u32,
    names: Names,
    resumed: usize,
}

/// Who the clients of a fleet say they are.
#[derive(Debug)]
struct Names {
    /// Before the number of the client.
    prefix: String,
    /// Whether their sessions are to outlive their connections.
    kept: bool,
}

impl Fleet {
    /// A fleet without clients, for the broker at `target`.
    ///
    /// # Errors
    /// When the kernel gives no poller.
    pub fn new(target: SocketAddr, version: Version) -> Result<Fleet> {
        let number = FLEETS.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("perf-{}-{number}", std::process::id());
        let kept = false;
        Fleet::named(target, version, number, Names { prefix, kept })
    }

    /// A fleet whose sessions outlive it: another one with the same `prefix` takes them up again.
    ///
    /// # Errors
    /// When the kernel gives no poller.
    pub fn kept(target: SocketAddr, version: Version, prefix: &str) -> Result<Fleet> {
        let number = FLEETS.fetch_add(1, Ordering::Relaxed);
        let (prefix, kept) = (prefix.to_owned(), true);
        Fleet::named(target, version, number, Names { prefix, kept })
    }

    fn named(target: SocketAddr, version: Version, number: u32, names: Names) -> Result<Fleet> {
        Ok(Fleet {
            poll: Poll::new().context("no poller")?,
            events: Events::with_capacity(EVENTS_MAX),
            clients: Vec::new(),
            read_buffer: vec![0; READ_BYTES],
            replies: Vec::with_capacity(64 * 1_024),
            target,
            version,
            number,
            names,
            resumed: 0,
        })
    }

    /// Clients made so far, open or not.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there is no client.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Whether something waits to be written to `client`.
    #[inline]
    pub fn is_blocked(&self, client: usize) -> bool {
        !self.clients[client].outbox.is_empty()
    }

    /// Whether `client` is connected.
    pub fn is_open(&self, client: usize) -> bool {
        self.clients[client].open
    }

    /// Connects `count` more clients, at most `at_once` of them on their way, and waits until the
    /// broker has accepted all. Returns the index of the first.
    ///
    /// # Errors
    /// When the broker refuses one, or nothing moves for 20 seconds.
    pub fn open(&mut self, count: usize, at_once: usize) -> Result<usize> {
        ensure!(at_once > 0, "at least one connection at a time");
        let first = self.clients.len();
        let spread = self.spreads(count);
        let mut setup = Setup::default();
        let mut moved = (0, Instant::now());
        while setup.done < count {
            while self.clients.len() - first < count
                && self.clients.len() - first - setup.done < at_once
            {
                self.start_client(spread)?;
            }
            self.turn(Some(Duration::from_millis(100)), &mut setup)?;
            setup.check()?;
            if setup.done > moved.0 {
                moved = (setup.done, Instant::now());
            }
            let done = setup.done;
            ensure!(
                moved.1.elapsed() < STALL,
                "{done} of {count} clients connected, then nothing"
            );
        }
        self.resumed += setup.resumed;
        Ok(first)
    }

    /// Starts `count` more clients, and leaves it to the receiver of the next turns to see what
    /// they are told.
    ///
    /// # Errors
    /// When there is no socket for one.
    pub fn begin(&mut self, count: usize) -> Result<()> {
        let spread = self.spreads(count);
        (0..count).try_for_each(|_| self.start_client(spread))
    }

    /// How many sessions the broker still knew when [`Fleet::open`] connected their clients.
    pub fn resumed(&self) -> usize {
        self.resumed
    }

    /// Whether `count` more clients need several source addresses. Those of kept sessions come in
    /// many small fleets, each of which leaves its ports behind for a minute.
    fn spreads(&self, count: usize) -> bool {
        self.names.kept || self.clients.len() + count >= SPREAD_FROM
    }

    /// Subscribes each client of `plans` (client index and its filters) with `qos`, and waits for
    /// every SUBACK.
    ///
    /// # Errors
    /// When one is refused, or nothing moves for 20 seconds.
    pub fn subscribe(&mut self, plans: &[(usize, Vec<String>)], qos: u8) -> Result<()> {
        let mut waiting: Vec<(usize, std::slice::Chunks<'_, String>)> = plans
            .iter()
            .map(|(client, filters)| (*client, filters.chunks(FILTERS_PER_SUBSCRIBE)))
            .collect();
        let packets: usize = plans
            .iter()
            .map(|(_, f)| f.len().div_ceil(FILTERS_PER_SUBSCRIBE))
            .sum();
        let mut by_client = vec![usize::MAX; self.clients.len()];
        for (index, (client, _)) in plans.iter().enumerate() {
            by_client[*client] = index;
        }
        let mut setup = Setup::default();
        let mut bytes = Vec::new();
        let mut acknowledged = vec![SUBSCRIBES_OUTSTANDING; plans.len()];
        let mut packet_id = 0u16;
        let mut moved = Instant::now();
        while setup.done < packets {
            for (index, (client, chunks)) in waiting.iter_mut().enumerate() {
                while acknowledged[index] > 0
                    && let Some(filters) = chunks.next()
                {
                    acknowledged[index] -= 1;
                    packet_id = packet_id.checked_add(1).unwrap_or(1);
                    bytes.clear();
                    wire::subscribe(self.version, packet_id, filters, qos, &mut bytes);
                    self.send(*client, &bytes);
                }
            }
            self.turn(Some(Duration::from_millis(100)), &mut setup)?;
            setup.check()?;
            for client in setup.answered.drain(..) {
                moved = Instant::now();
                if let Some(slot) = by_client.get(client).and_then(|&i| acknowledged.get_mut(i)) {
                    *slot += 1;
                }
            }
            let done = setup.done;
            ensure!(
                moved.elapsed() < STALL,
                "{done} of {packets} SUBSCRIBEs answered, then nothing"
            );
        }
        Ok(())
    }

    /// Writes `bytes` to `client` now, or keeps what the kernel does not take.
    #[inline]
    pub fn send(&mut self, client: usize, bytes: &[u8]) {
        self.clients[client].send(bytes);
    }

    /// One pass: waits for readiness, reads everything that is there, writes what waits.
    ///
    /// # Errors
    /// When the poller fails.
    pub fn turn<R: Receiver>(&mut self, wait: Option<Duration>, receiver: &mut R) -> Result<()> {
        let Fleet {
            poll,
            events,
            clients,
            read_buffer,
            replies,
            version,
            names,
            ..
        } = self;
        match poll.poll(events, wait) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            other => other.context("polling failed")?,
        }
        for event in events.iter() {
            let index = event.token().0;
            let Some(client) = clients.get_mut(index) else {
                continue;
            };
            if event.is_writable() {
                client.on_writable(index, *version, names, receiver);
            }
            if (event.is_readable() || event.is_read_closed() || event.is_error())
                && let Err(why) = client.read(index, *version, read_buffer, replies, receiver)
                && client.open
            {
                client.open = false;
                receiver.on_closed(index, &why);
            }
        }
        Ok(())
    }

    /// Says goodbye on every connection and closes it.
    pub fn close(mut self) {
        for client in &mut self.clients {
            if client.open {
                client.send(&wire::DISCONNECT);
            }
        }
    }

    fn start_client(&mut self, spread: bool) -> Result<()> {
        let index = self.clients.len();
        let socket = Socket::new(
            Domain::for_address(self.target),
            Type::STREAM,
            Some(Protocol::TCP),
        )
        .context("no socket: is the limit on open files reached?")?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if spread && self.target.ip().is_loopback() && self.target.is_ipv4() {
            socket.bind(&source_address(self.number, index).into())?;
        }
        match socket.connect(&self.target.into()) {
            Ok(()) => {}
            Err(error)
                if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(anyhow!(error).context("cannot connect")),
        }
        let mut stream = TcpStream::from_std(socket.into());
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut stream, Token(index), both)?;
        let (inbox, outbox) = (Vec::new(), Vec::new());
        self.clients.push(Client {
            stream,
            inbox,
            outbox,
            outbox_at: 0,
            open: false,
        });
        Ok(())
    }
}

/// The loopback address from which client `index` of a fleet connects.
fn source_address(fleet: u32, index: usize) -> SocketAddr {
    let process = std::process::id();
    let network = 1 + (process.wrapping_mul(31).wrapping_add(fleet)) % 250;
    let host = 1 + (index / CLIENTS_PER_SOURCE) % 250;
    SocketAddr::new(
        IpAddr::V4(Ipv4Addr::new(127, 0, network as u8, host as u8)),
        0,
    )
}

impl Client {
    #[inline]
    fn send(&mut self, bytes: &[u8]) {
        if !self.outbox.is_empty() {
            self.outbox.extend_from_slice(bytes);
            return;
        }
        // A broken connection is noticed when it is read.
        let written = self.stream.write(bytes).unwrap_or(0);
        if written < bytes.len() {
            self.outbox.extend_from_slice(&bytes[written..]);
        }
    }

    fn on_writable<R: Receiver>(
        &mut self,
        index: usize,
        version: Version,
        names: &Names,
        receiver: &mut R,
    ) {
        if !self.open && self.outbox.is_empty() {
            if self.stream.peer_addr().is_err() {
                return;
            }
            self.open = true;
            let mut bytes = Vec::with_capacity(64);
            let id = format!("{}-{index}", names.prefix);
            wire::connect(version, &id, names.kept, &mut bytes);
            self.send(&bytes);
            return;
        }
        while self.outbox_at < self.outbox.len() {
            match self.stream.write(&self.outbox[self.outbox_at..]) {
                Ok(0) => return,
                Ok(written) => self.outbox_at += written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
        self.outbox.clear();
        self.outbox_at = 0;
        receiver.on_writable(index);
    }

    /// Reads until the kernel has no more; with edge triggers a short read says so as well.
    fn read<R: Receiver>(
        &mut self,
        index: usize,
        version: Version,
        buffer: &mut [u8],
        replies: &mut Vec<u8>,
        receiver: &mut R,
    ) -> Result<(), String> {
        loop {
            let count = match self.stream.read(buffer) {
                Ok(0) => return Err("closed by the broker".to_owned()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.to_string()),
            };
            receiver.on_read();
            replies.clear();
            if self.inbox.is_empty() {
                let used = feed(index, version, &buffer[..count], replies, receiver)?;
                self.inbox.extend_from_slice(&buffer[used..count]);
            } else {
                self.inbox.extend_from_slice(&buffer[..count]);
                let used = feed(index, version, &self.inbox, replies, receiver)?;
                self.inbox.drain(..used);
            }
            if self.inbox.is_empty() && self.inbox.capacity() > 4_096 {
                self.inbox = Vec::new();
            }
            if !replies.is_empty() {
                self.send(replies);
            }
            if count < buffer.len() {
                return Ok(());
            }
        }
    }
}

/// Hands over every whole packet in `bytes`; returns how many bytes those were.
fn feed<R: Receiver>(
    client: usize,
    version: Version,
    bytes: &[u8],
    replies: &mut Vec<u8>,
    receiver: &mut R,
) -> Result<usize, String> {
    let mut used = 0;
    loop {
        match wire::take(version, &bytes[used..]) {
            Ok(Some((packet, length))) => {
                receiver.on_packet(client, packet, replies);
                used += length;
            }
            Ok(None) => return Ok(used),
            Err(malformed) => return Err(format!("malformed: {}", malformed.0)),
        }
    }
}

/// Counts answers while clients connect and subscribe.
#[derive(Debug, Default)]
struct Setup {
    done: usize,
    resumed: usize,
    answered: Vec<usize>,
    failed: Option<String>,
}

impl Setup {
    fn check(&self) -> Result<()> {
        match &self.failed {
            Some(why) => bail!("setting up failed: {why}"),
            None => Ok(()),
        }
    }
}

impl Receiver for Setup {
    fn on_packet(&mut self, client: usize, packet: Packet<'_>, replies: &mut Vec<u8>) {
        match packet {
            Packet::Connack {
                code: 0,
                session_present,
            } => {
                self.done += 1;
                self.resumed += usize::from(session_present);
            }
            Packet::Suback { granted: true } => {
                self.done += 1;
                self.answered.push(client);
            }
            Packet::Connack { code, .. } => {
                self.failed = Some(format!("CONNACK with code {code}"));
            }
            Packet::Suback { .. } => self.failed = Some("a filter was refused".to_owned()),
            // Retained messages may come before setting up is over.
            Packet::Publish {
                packet_id: Some(packet_id),
                ..
            } => wire::puback(packet_id, replies),
            _ => {}
        }
    }

    fn on_closed(&mut self, client: usize, why: &str) {
        self.failed = Some(format!("client {client}: {why}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Count(Vec<u16>);

    impl Receiver for Count {
        fn on_packet(&mut self, _client: usize, packet: Packet<'_>, _replies: &mut Vec<u8>) {
            if let Packet::Puback(packet_id) = packet {
                self.0.push(packet_id);
            }
        }
        fn on_closed(&mut self, _client: usize, _why: &str) {}
    }

    #[test]
    fn feeding_stops_at_a_cut_packet() {
        let mut bytes = Vec::new();
        for packet_id in 1..=5 {
            wire::puback(packet_id, &mut bytes);
        }
        bytes.truncate(18);
        let mut count = Count::default();
        let used = feed(0, Version::V311, &bytes, &mut Vec::new(), &mut count).unwrap();
        assert_eq!((used, count.0), (16, vec![1, 2, 3, 4]));
    }

    #[test]
    fn source_addresses_are_loopback_and_change_with_the_index() {
        let first = source_address(3, 0);
        assert!(first.ip().is_loopback());
        assert_eq!(first, source_address(3, CLIENTS_PER_SOURCE - 1));
        assert_ne!(first, source_address(3, CLIENTS_PER_SOURCE));
        assert_ne!(first, source_address(4, 0));
    }
}
