//! One TCP connection of a client; never blocks.
//!
//! Bounded: what waits to be written is what the client has in flight and its answers; what has been
//! read is taken apart at once, but for the front of a packet whose rest has not come.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use socket2::{Domain, Protocol, Socket, Type};

/// Clients per source address, far below the 28,000 ports that one has: those that are turned away
/// while a broker drains use up one port after the other.
const CLIENTS_PER_SOURCE: usize = 1_000;

/// A connection.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
    /// The front of a packet.
    inbox: Vec<u8>,
    /// What the kernel has not taken.
    outbox: Vec<u8>,
    is_connected: bool,
    was_reset: bool,
}

impl Link {
    /// Begins to connect, from an address of its own where the target is on loopback.
    ///
    /// # Errors
    /// When there is no socket, or nobody listens.
    pub fn open(target: SocketAddr, client: usize, registry: &Registry) -> Result<Link> {
        let socket = Socket::new(
            Domain::for_address(target),
            Type::STREAM,
            Some(Protocol::TCP),
        )
        .context("no socket: is the limit on open files reached?")?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if target.ip().is_loopback() && target.is_ipv4() {
            // Else the kernel looks here for a port that nobody has, which takes the longer the more
            // connections have ended of late: a crowd that was turned away would never come back.
            nix::sys::socket::setsockopt(&socket, IpBindAddressNoPort, &true)?;
            socket.bind(&source_address(client).into())?;
        }
        match socket.connect(&target.into()) {
            Ok(()) => {}
            Err(error)
                if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error.into()),
        }
        let mut stream = TcpStream::from_std(socket.into());
        let both = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut stream, Token(client), both)?;
        Ok(Link {
            stream,
            inbox: Vec::new(),
            outbox: Vec::new(),
            is_connected: false,
            was_reset: false,
        })
    }

    /// Whether the other side has accepted, which is looked up until it has.
    pub fn is_connected(&mut self) -> bool {
        self.is_connected = self.is_connected || self.stream.peer_addr().is_ok();
        self.is_connected
    }

    /// Whether the connection has ended with a reset.
    pub fn was_reset(&self) -> bool {
        self.was_reset
    }

    /// Writes `bytes` now, or keeps what the kernel does not take. That a connection is broken is
    /// noticed when it is read.
    pub fn send(&mut self, bytes: &[u8]) {
        if self.outbox.is_empty() {
            let written = self.stream.write(bytes);
            // The kernel tells of a reset once, to whoever comes first.
            let is_reset = |error: &Error| error.kind() == ErrorKind::ConnectionReset;
            self.was_reset |= written.as_ref().is_err_and(is_reset);
            let written = written.unwrap_or(0);
            self.outbox.extend_from_slice(&bytes[written..]);
        } else {
            self.outbox.extend_from_slice(bytes);
        }
    }

    /// Writes what waits, as far as the kernel takes it.
    pub fn flush(&mut self) {
        while !self.outbox.is_empty() {
            match self.stream.write(&self.outbox) {
                Ok(0) => return,
                Ok(written) => drop(self.outbox.drain(..written)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.was_reset |= error.kind() == ErrorKind::ConnectionReset;
                    return;
                }
            }
        }
        self.outbox = Vec::new();
    }

    /// Reads once into `buffer`, behind what was left over. Returns how many bytes are there, 0 when
    /// the kernel has no more; `None` at the end of the connection, which may come right behind the
    /// last bytes and is announced only once.
    pub fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let kept = self.inbox.len();
        assert!(kept < buffer.len(), "a packet of a stamp fits the buffer");
        buffer[..kept].copy_from_slice(&self.inbox);
        loop {
            match self.stream.read(&mut buffer[kept..]) {
                Ok(0) => return None,
                Ok(count) => {
                    self.inbox = Vec::new();
                    return Some(kept + count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.was_reset |= error.kind() == ErrorKind::ConnectionReset;
                    let is_open = matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::NotConnected
                    );
                    return is_open.then_some(0);
                }
            }
        }
    }

    /// Keeps the front of a packet until the rest comes.
    pub fn keep(&mut self, front: &[u8]) {
        self.inbox = front.to_vec();
    }
}

/// The loopback address from which a client connects.
fn source_address(client: usize) -> SocketAddr {
    let process = (std::process::id() % 250) as u8;
    let host = (1 + client / CLIENTS_PER_SOURCE % 250) as u8;
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 1, process, host)), 0)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_source_has_far_fewer_clients_than_ports() {
        assert_eq!(source_address(0), source_address(CLIENTS_PER_SOURCE - 1));
        assert_ne!(source_address(0), source_address(CLIENTS_PER_SOURCE));
        assert!(source_address(20_999).ip().is_loopback());
    }

    #[test]
    fn a_reset_is_no_orderly_end() {
        for is_reset in [false, true] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let poll = mio::Poll::new().unwrap();
            let address = listener.local_addr().unwrap();
            let mut link = Link::open(address, 0, poll.registry()).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            let accepted = Socket::from(accepted);
            if is_reset {
                accepted.set_linger(Some(Duration::ZERO)).unwrap();
            }
            drop(accepted);
            let mut buffer = [0; 16];
            let begun = Instant::now();
            while link.read(&mut buffer).is_some() {
                assert!(begun.elapsed() < Duration::from_secs(10), "it never ends");
            }
            assert_eq!(link.was_reset(), is_reset);
        }
    }
}
