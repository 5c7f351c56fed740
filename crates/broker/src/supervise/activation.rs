//! Sockets that a service manager has opened for the broker, after sd_listen_fds(3).
//!
//! A socket's name (FileDescriptorName= in a systemd socket unit) says what is spoken on it: `mqtt`,
//! `http` or `admin`. With any other name, its port decides, as the configuration has it. A socket
//! that was passed takes the place of the address that it is bound to, and of the default address of
//! its kind.

use anyhow::{Context, bail};
use listenfd::ListenFd;
use net::Passed;
use shard::Listener;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use tracing::info;

/// More sockets than anybody has listeners; bounds what a nonsensical LISTEN_FDS makes us do.
const SOCKETS_MAX: usize = 256;

/// What was passed, as yet without a meaning.
#[derive(Debug, Default)]
pub struct Activation {
    sockets: Vec<(String, Socket)>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener),
}

/// Where to listen, without what was passed.
#[derive(Debug, Default)]
pub struct Wanted {
    /// For MQTT.
    pub mqtt: Vec<SocketAddr>,
    /// Whether these are the default, and nobody's wish.
    pub is_mqtt_default: bool,
    /// For HTTP.
    pub http: Vec<SocketAddr>,
    /// Whether these are the default.
    pub is_http_default: bool,
    /// For the administrator.
    pub admin: Vec<SocketAddr>,
}

/// Where to listen, with what was passed in its place.
#[derive(Debug, Default)]
pub struct Placed {
    /// Addresses for MQTT that are still to be opened.
    pub mqtt: Vec<SocketAddr>,
    /// Addresses for HTTP that are still to be opened.
    pub http: Vec<SocketAddr>,
    /// Addresses for the administrator that are still to be opened.
    pub admin: Vec<SocketAddr>,
    /// Sockets of the shards.
    pub passed: Vec<Passed>,
    /// Sockets of the administrator over TCP.
    pub admin_tcp: Vec<TcpListener>,
    /// Sockets of the administrator in the file system.
    pub admin_unix: Vec<UnixListener>,
}

impl Activation {
    /// Takes what was passed, so that no child inherits it: descriptors are marked to be closed, and
    /// LISTEN_FDS and LISTEN_PID are removed from the environment. To be called before there is a
    /// second thread. Errs if something passed is no stream socket.
    pub fn take() -> anyhow::Result<Activation> {
        let count = std::env::var("LISTEN_FDS").unwrap_or_default();
        if !count.is_empty() && count.parse::<usize>().map_or(true, |n| n > SOCKETS_MAX) {
            bail!("LISTEN_FDS is `{count}`; up to {SOCKETS_MAX} sockets can be passed");
        }
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..passed.len() {
            let name = names.next().unwrap_or_default().to_owned();
            let socket = match passed.take_tcp_listener(index) {
                Ok(Some(socket)) => {
                    let address = socket
                        .local_addr()
                        .with_context(|| format!("the socket `{name}` that was passed"))?;
                    Socket::Tcp(socket, address)
                }
                _ => match passed.take_unix_listener(index) {
                    Ok(Some(socket)) => Socket::Unix(socket),
                    _ => bail!(
                        "descriptor {} (`{name}`), which was passed by LISTEN_FDS, is no stream \
                         socket of TCP or Unix",
                        3 + index
                    ),
                },
            };
            sockets.push((name, socket));
        }
        Ok(Activation { sockets })
    }

    /// Gives each socket its meaning. Errs if neither its name nor its port has one.
    pub fn place(self, wanted: Wanted) -> anyhow::Result<Placed> {
        let mut placed = Placed::default();
        let mut taken: Vec<(Kind, SocketAddr)> = Vec::new();
        for (name, socket) in self.sockets {
            match socket {
                Socket::Tcp(socket, address) => {
                    let kind = kind_of(&name, address, &wanted)?;
                    info!(%address, %name, kind = kind.name(), "a socket was passed");
                    taken.push((kind, address));
                    match kind.listener() {
                        Some(kind) => placed.passed.push(Passed {
                            kind,
                            socket: Arc::new(socket),
                        }),
                        None => placed.admin_tcp.push(socket),
                    }
                }
                Socket::Unix(socket) if name == Kind::Admin.name() => {
                    placed.admin_unix.push(socket);
                }
                Socket::Unix(_) => bail!(
                    "the Unix socket `{name}` that was passed has no use: only the one named \
                     `admin` (FileDescriptorName=admin) has"
                ),
            }
        }
        placed.mqtt = left(Kind::Mqtt, wanted.mqtt, wanted.is_mqtt_default, &taken);
        placed.http = left(Kind::Http, wanted.http, wanted.is_http_default, &taken);
        placed.admin = left(Kind::Admin, wanted.admin, false, &taken);
        Ok(placed)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Mqtt,
    Http,
    Admin,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Mqtt, Kind::Http, Kind::Admin];

    fn name(self) -> &'static str {
        match self {
            Kind::Mqtt => "mqtt",
            Kind::Http => "http",
            Kind::Admin => "admin",
        }
    }

    fn listener(self) -> Option<Listener> {
        match self {
            Kind::Mqtt => Some(Listener::Mqtt),
            Kind::Http => Some(Listener::Http),
            Kind::Admin => None,
        }
    }

    fn addresses(self, wanted: &Wanted) -> &[SocketAddr] {
        match self {
            Kind::Mqtt => &wanted.mqtt,
            Kind::Http => &wanted.http,
            Kind::Admin => &wanted.admin,
        }
    }
}

fn kind_of(name: &str, address: SocketAddr, wanted: &Wanted) -> anyhow::Result<Kind> {
    let has_port = |kind: &Kind| {
        let addresses = kind.addresses(wanted);
        addresses.iter().any(|one| one.port() == address.port())
    };
    let by_name = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    by_name
        .or_else(|| Kind::ALL.into_iter().find(has_port))
        .with_context(|| {
            format!(
                "the socket {address} that was passed: neither its name, `{name}`, nor its port \
                 says what it is for; name it mqtt, http or admin (FileDescriptorName=)"
            )
        })
}

/// Whether a socket that was passed takes the place of an address of the configuration.
pub fn covers(passed: SocketAddr, address: SocketAddr) -> bool {
    let is_everywhere = passed.ip().is_unspecified();
    passed.port() == address.port() && (is_everywhere || passed.ip() == address.ip())
}

/// The addresses that no socket has taken the place of.
fn left(
    kind: Kind,
    wanted: Vec<SocketAddr>,
    is_default: bool,
    taken: &[(Kind, SocketAddr)],
) -> Vec<SocketAddr> {
    if is_default && taken.iter().any(|&(of, _)| of == kind) {
        return Vec::new();
    }
    let is_taken = |address: &SocketAddr| taken.iter().any(|(_, passed)| covers(*passed, *address));
    let is_left = |address: &SocketAddr| !is_taken(address);
    wanted.into_iter().filter(is_left).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(name: &str) -> (String, Socket) {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        (name.to_owned(), Socket::Tcp(socket, address))
    }

    fn address_of((_, socket): &(String, Socket)) -> SocketAddr {
        match socket {
            Socket::Tcp(_, address) => *address,
            Socket::Unix(_) => panic!("not of TCP"),
        }
    }

    fn defaults() -> Wanted {
        Wanted {
            mqtt: vec!["0.0.0.0:1883".parse().unwrap()],
            is_mqtt_default: true,
            http: vec!["0.0.0.0:3000".parse().unwrap()],
            is_http_default: true,
            admin: Vec::new(),
        }
    }

    #[test]
    fn names_decide_and_stand_in_for_the_default_of_their_kind() {
        let sockets = vec![tcp("http"), tcp("admin")];
        let placed = Activation { sockets }.place(defaults()).unwrap();
        assert_eq!(placed.passed.len(), 1);
        assert_eq!(placed.passed[0].kind, Listener::Http);
        assert_eq!((placed.http.len(), placed.admin_tcp.len()), (0, 1));
        assert_eq!(placed.mqtt, defaults().mqtt, "nobody passed one");
    }

    #[test]
    fn without_a_name_the_configured_port_decides() {
        let socket = tcp("meshring.socket");
        let other: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let wanted = Wanted {
            mqtt: vec![address_of(&socket), other],
            is_mqtt_default: false,
            ..defaults()
        };
        let sockets = vec![socket];
        let placed = Activation { sockets }.place(wanted).unwrap();
        assert_eq!(placed.passed[0].kind, Listener::Mqtt);
        assert_eq!(placed.mqtt, [other], "what was asked for besides is opened");
        assert_eq!(placed.http, defaults().http);
    }

    #[test]
    fn what_has_no_meaning_is_refused() {
        let sockets = vec![tcp("mqtts")];
        let error = Activation { sockets }.place(defaults()).unwrap_err();
        assert!(error.to_string().contains("FileDescriptorName="), "{error}");

        let directory = tempfile::tempdir().unwrap();
        let unix = |name: &str| {
            let socket = UnixListener::bind(directory.path().join(name)).unwrap();
            vec![(name.to_owned(), Socket::Unix(socket))]
        };
        let sockets = unix("mqtt");
        let error = Activation { sockets }.place(defaults()).unwrap_err();
        assert!(error.to_string().contains("`mqtt`"), "{error}");
        let sockets = unix("admin");
        let placed = Activation { sockets }.place(defaults()).unwrap();
        assert_eq!(placed.admin_unix.len(), 1);
    }

    #[test]
    fn a_socket_of_all_addresses_covers_each() {
        let any: SocketAddr = "[::]:1883".parse().unwrap();
        let taken = [(Kind::Mqtt, any)];
        let wanted: Vec<SocketAddr> = ["127.0.0.1:1883", "127.0.0.1:1884"]
            .map(|address| address.parse().unwrap())
            .into();
        let left = left(Kind::Mqtt, wanted.clone(), false, &taken);
        assert_eq!(left, wanted[1..]);
    }
}
