//! Listening sockets: one per address and shard, all shards of an address on the same port. Of a
//! socket that was passed to this process there is one only, and each shard has a descriptor of it.
//!
//! They are bound when the server starts, and listen when all shards are ready.

use crate::{Passed, StartError};
use shard::Listener;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

/// Connections that the kernel completes and keeps until they are accepted, per socket; the
/// kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;

/// How long a start waits for an address that is in use.
const FREE_MAX: Duration = Duration::from_secs(1);

/// How long it waits before it looks again.
const FREE_PAUSE: Duration = Duration::from_millis(5);

/// One shard's socket of a listener.
#[derive(Debug)]
pub(crate) struct Listening {
    /// Its name; the same on all shards.
    pub(crate) number: u32,
    pub(crate) kind: Listener,
    /// Not listening before [`listen_all`].
    pub(crate) socket: TcpListener,
}

/// All that is, or will be, listened on.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Per shard, one socket per address.
    pub(crate) sockets: Vec<Vec<Listening>>,
    /// The addresses, with the ports that were picked.
    pub(crate) bound: Vec<(Listener, SocketAddr)>,
    /// So many of `bound`, the first, were passed to this process.
    passed: usize,
}

impl Opened {
    /// Gives the listeners their numbers, from this one on.
    pub(crate) fn number_from(&mut self, first: u32) {
        for sockets in &mut self.sockets {
            for (number, listening) in (first..).zip(sockets) {
                listening.number = number;
            }
        }
    }
}

/// Takes every address for every shard; connections are still refused, except on sockets that were
/// passed and listen already.
pub(crate) fn bind_all(
    addresses: &[(Listener, SocketAddr)],
    passed: &[Passed],
    shards: usize,
) -> Result<Opened, StartError> {
    let mut sockets: Vec<Vec<Listening>> = (0..shards).map(|_| Vec::new()).collect();
    let mut bound = Vec::with_capacity(passed.len() + addresses.len());
    for Passed { kind, socket } in passed {
        let address = share(socket, *kind, &mut sockets).map_err(StartError::Passed)?;
        bound.push((*kind, address));
    }
    for &(kind, address) in addresses {
        let refused = |error| StartError::Listen { address, error };
        if address.port() != 0 {
            check_unused(address)?;
        }
        // The kernel never picks a port that is shared already, so the first socket decides.
        let mut address = address;
        for sockets in &mut sockets {
            let socket = bind(address, true).map_err(refused)?;
            address = socket.local_addr().map_err(refused)?;
            sockets.push(Listening {
                number: 0,
                kind,
                socket,
            });
        }
        bound.push((kind, address));
    }
    Ok(Opened {
        sockets,
        bound,
        passed: passed.len(),
    })
}

/// As [`bind_all`], but waits [`FREE_MAX`] for what is in use: sockets that io_uring held are closed some
/// 10 to 100 ms after the end of their process, so whoever starts a broker right after one that was
/// killed would find its ports in use.
pub(crate) fn bind_when_free(
    addresses: &[(Listener, SocketAddr)],
    passed: &[Passed],
    shards: usize,
) -> Result<Opened, StartError> {
    let end = Instant::now() + FREE_MAX;
    loop {
        match bind_all(addresses, passed, shards) {
            Err(StartError::Listen { error, .. })
                if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < end =>
            {
                std::thread::sleep(FREE_PAUSE);
            }
            result => return result,
        }
    }
}

/// Gives each shard a descriptor of a socket that was passed; returns its address.
fn share(
    socket: &TcpListener,
    kind: Listener,
    sockets: &mut [Vec<Listening>],
) -> io::Result<SocketAddr> {
    // As on the sockets made here: whoever passed it may have set neither, or the opposite.
    SockRef::from(socket).set_tcp_nodelay(true)?;
    socket.set_nonblocking(false)?;
    for sockets in sockets {
        let socket = socket.try_clone()?;
        sockets.push(Listening {
            number: 0,
            kind,
            socket,
        });
    }
    socket.local_addr()
}

/// Lets connections come in.
pub(crate) fn listen_all(opened: &Opened) -> Result<(), StartError> {
    // Sockets that are bound and do not listen are no obstacle to each other, so another program
    // may have come first since.
    for &(_, address) in &opened.bound[opened.passed..] {
        check_unused(address)?;
    }
    for sockets in &opened.sockets {
        for (listening, &(_, address)) in sockets.iter().zip(&opened.bound) {
            let refused = |error| StartError::Listen { address, error };
            let socket = SockRef::from(&listening.socket);
            // One that was passed keeps the backlog that it was given.
            if !socket.is_listener().map_err(refused)? {
                socket.listen(BACKLOG).map_err(refused)?;
            }
        }
    }
    Ok(())
}

/// Errs if any process listens there. With SO_REUSEPORT, which this does without, a second broker
/// of the same user would silently share the port.
fn check_unused(address: SocketAddr) -> Result<(), StartError> {
    match bind(address, false) {
        Ok(_) => Ok(()),
        Err(error) => Err(StartError::Listen { address, error }),
    }
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        // So that 0.0.0.0 and [::] can be listened on side by side.
        socket.set_only_v6(true)?;
    }
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn any() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    #[test]
    fn all_shards_share_the_port_that_was_picked() {
        let opened = bind_all(&[(Listener::Mqtt, any()), (Listener::Http, any())], &[], 3).unwrap();
        listen_all(&opened).unwrap();
        let Opened { sockets, bound, .. } = opened;
        assert_eq!(bound.len(), 2);
        assert_ne!(bound[0].1, bound[1].1);
        for sockets in sockets {
            for (listening, (kind, address)) in sockets.iter().zip(&bound) {
                assert_eq!(listening.kind, *kind);
                assert_eq!(listening.socket.local_addr().unwrap(), *address);
            }
        }
    }

    #[test]
    fn a_port_in_use_is_refused_even_to_ourselves() {
        let opened = bind_all(&[(Listener::Mqtt, any())], &[], 2).unwrap();
        listen_all(&opened).unwrap();
        let taken = opened.bound[0].1;
        let error = bind_all(&[(Listener::Mqtt, taken)], &[], 2).unwrap_err();
        assert!(matches!(error, StartError::Listen { address, .. } if address == taken));
    }

    #[test]
    fn a_start_waits_for_a_port_that_is_about_to_be_free() {
        let old = TcpListener::bind(any()).unwrap();
        let taken = [(Listener::Mqtt, old.local_addr().unwrap())];
        let begin = Instant::now();
        let error = bind_when_free(&taken, &[], 2).unwrap_err();
        assert!(matches!(error, StartError::Listen { error, .. }
            if error.kind() == io::ErrorKind::AddrInUse));
        assert!(begin.elapsed() >= FREE_MAX);
        let closing = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            drop(old);
        });
        bind_when_free(&taken, &[], 2).unwrap();
        closing.join().unwrap();
    }

    #[test]
    fn what_is_only_bound_refuses_connections() {
        let opened = bind_all(&[(Listener::Mqtt, any())], &[], 2).unwrap();
        let address = opened.bound[0].1;
        let refused = std::net::TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        listen_all(&opened).unwrap();
        std::net::TcpStream::connect(address).unwrap();
    }

    #[test]
    fn of_two_that_begin_at_the_same_time_the_later_is_refused() {
        let first = bind_all(&[(Listener::Mqtt, any())], &[], 2).unwrap();
        let second = bind_all(&[(Listener::Mqtt, first.bound[0].1)], &[], 2).unwrap();
        listen_all(&first).unwrap();
        let error = listen_all(&second).unwrap_err();
        assert!(matches!(error, StartError::Listen { error, .. }
            if error.kind() == io::ErrorKind::AddrInUse));
    }

    #[test]
    fn a_passed_socket_is_shared_and_keeps_who_waits_on_it() {
        let socket = Arc::new(TcpListener::bind(any()).unwrap());
        let address = socket.local_addr().unwrap();
        let early = std::net::TcpStream::connect(address).unwrap();
        let passed = Passed {
            kind: Listener::Http,
            socket,
        };
        let opened = bind_all(&[(Listener::Mqtt, any())], &[passed], 3).unwrap();
        assert_eq!(opened.bound[0], (Listener::Http, address));
        listen_all(&opened).unwrap();
        let (_, peer) = opened.sockets[2][0].socket.accept().unwrap();
        assert_eq!(peer, early.local_addr().unwrap());
    }
}
