//! Listening sockets: one per address and shard, all shards of an address on the same port.

use crate::StartError;
use shard::Listener;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Connections that the kernel completes and keeps until they are accepted, per socket; the
/// kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;

/// One shard's socket of a listener.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) kind: Listener,
    pub(crate) socket: TcpListener,
}

/// All that is listened on.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Per shard, one socket per address.
    pub(crate) sockets: Vec<Vec<Listening>>,
    /// The addresses, with the ports that were picked.
    pub(crate) bound: Vec<(Listener, SocketAddr)>,
}

/// Opens every address for every shard.
pub(crate) fn open(
    addresses: &[(Listener, SocketAddr)],
    shards: usize,
) -> Result<Opened, StartError> {
    let mut sockets: Vec<Vec<Listening>> = (0..shards).map(|_| Vec::new()).collect();
    let mut bound = Vec::with_capacity(addresses.len());
    for &(kind, address) in addresses {
        let refused = |error| StartError::Listen { address, error };
        if address.port() != 0 {
            // Without SO_REUSEPORT this fails if any process listens there: with it, a second
            // broker of the same user would silently share the port.
            bind(address, false).map_err(refused)?;
        }
        // The kernel never picks a port that is shared already, so the first socket decides.
        let mut address = address;
        for sockets in &mut sockets {
            let socket = bind(address, true).map_err(refused)?;
            address = socket.local_addr().map_err(refused)?;
            sockets.push(Listening { kind, socket });
        }
        bound.push((kind, address));
    }
    Ok(Opened { sockets, bound })
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
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    #[test]
    fn all_shards_share_the_port_that_was_picked() {
        let Opened { sockets, bound } =
            open(&[(Listener::Mqtt, any()), (Listener::Http, any())], 3).unwrap();
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
        let Opened {
            sockets: _held,
            bound,
        } = open(&[(Listener::Mqtt, any())], 2).unwrap();
        let error = open(&[(Listener::Mqtt, bound[0].1)], 2).unwrap_err();
        assert!(matches!(error, StartError::Listen { address, .. } if address == bound[0].1));
    }
}
