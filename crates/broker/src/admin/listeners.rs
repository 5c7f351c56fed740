//! Where operators come in, and how that changes while the broker runs.
//!
//! Always: a listener that is closed keeps its connections; what cannot be opened leaves everything
//! as it was. Sockets that a service manager passed, and the one in the data directory, stay.

use super::server::{self, Order, Socket};
use crate::config::do_overlap;
use crate::supervise::activation::covers;
use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tracing::{info, warn};

/// How long the server's thread may take to close a listener.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// Where one listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the network, with the token.
    Address(SocketAddr),
    /// At a Unix socket, where who may open it may do everything.
    File(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Address(address) => address.fmt(f),
            Place::File(path) => path.display().fmt(f),
        }
    }
}

/// One listener.
#[derive(Clone, Debug)]
struct Known {
    number: u64,
    /// As it was asked for.
    place: Place,
    /// With the port that was picked.
    bound: Option<SocketAddr>,
    /// It is not the configuration's.
    stays: bool,
}

/// All listeners.
#[derive(Debug)]
pub struct Listeners {
    known: Vec<Known>,
    next: u64,
    orders: UnboundedSender<Order>,
}

/// A change that has been begun: to be settled, or given up.
#[derive(Debug, Default)]
pub struct Change {
    opened: Vec<u64>,
    close: Vec<Known>,
    /// Closed already, because they were in the way.
    gave_way: Vec<Place>,
}

impl Listeners {
    /// None yet; the server's thread takes the orders.
    pub fn new(orders: UnboundedSender<Order>) -> Listeners {
        Listeners {
            known: Vec::new(),
            next: 0,
            orders,
        }
    }

    /// Addresses, with the ports that were picked.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.known.iter().filter_map(|known| known.bound).collect()
    }

    /// Accepts from a socket that is not the configuration's.
    pub fn keep(&mut self, socket: Socket, place: Place) -> Result<(), String> {
        self.add(socket, place, true).map(drop)
    }

    fn add(&mut self, socket: Socket, place: Place, stays: bool) -> Result<u64, String> {
        let made = match &socket {
            Socket::Tcp(listener) => listener
                .set_nonblocking(true)
                .and_then(|()| listener.local_addr().map(Some)),
            Socket::Unix(listener) => listener.set_nonblocking(true).map(|()| None),
        };
        let bound = made.map_err(|error| format!("cannot listen on {place} (--admin): {error}"))?;
        let number = self.next;
        self.next += 1;
        // The thread runs until the process ends.
        let _ = self.orders.send(Order::Open(number, socket));
        self.known.push(Known {
            number,
            place,
            bound,
            stays,
        });
        Ok(number)
    }

    /// Opens a listener of the configuration. Errs with words for people.
    fn open(&mut self, place: &Place) -> Result<u64, String> {
        let opened = match place {
            Place::Address(address) => TcpListener::bind(address).map(Socket::Tcp),
            Place::File(path) => server::bind_at(path).map(Socket::Unix),
        };
        let name = match place {
            Place::Address(_) => "--admin",
            Place::File(_) => "admin.socket",
        };
        match opened {
            Ok(socket) => self.add(socket, place.clone(), false),
            Err(error) => Err(format!("cannot listen on {place} ({name}): {error}")),
        }
    }

    /// Closes a listener; returns when its address is free.
    fn close(&mut self, number: u64) {
        let Some(at) = self.known.iter().position(|known| known.number == number) else {
            return;
        };
        let known = self.known.remove(at);
        let (done, is_done) = channel();
        let _ = self.orders.send(Order::Close(number, done));
        if is_done.recv_timeout(CLOSE_MAX).is_err() {
            warn!(place = %known.place, "closing an admin listener takes long");
        }
        if let Place::File(path) = &known.place {
            // Nobody answers there any more, so whether it goes does not matter.
            let _ = std::fs::remove_file(path);
        }
    }

    /// Opens what is wanted and not there. What is there and not wanted is closed when the change is
    /// settled; only what is in the way of a new address is closed first, and opened again if that
    /// does not help.
    pub fn begin(&mut self, wanted: &[Place]) -> Result<Change, String> {
        let mut left: Vec<Known> = self.known.clone();
        let mut new: Vec<&Place> = Vec::new();
        let passed: Vec<SocketAddr> = left
            .iter()
            .filter_map(|known| known.bound.filter(|_| known.stays))
            .collect();
        for place in wanted {
            // As at the start, a socket that was passed stands for what it covers.
            if let Place::Address(address) = place
                && passed.iter().any(|passed| covers(*passed, *address))
            {
                continue;
            }
            match left.iter().position(|known| known.place == *place) {
                Some(at) => drop(left.remove(at)),
                None => new.push(place),
            }
        }
        left.retain(|known| !known.stays);
        let mut change = Change {
            close: left,
            ..Change::default()
        };
        // What has nothing in its way comes first: it may fail, and has cost nothing.
        new.sort_by_key(|place| change.close.iter().any(|old| is_in_way(old, place)));
        for place in new {
            self.make_way(place, &mut change);
            match self.open(place) {
                Ok(number) => change.opened.push(number),
                Err(why) => {
                    self.give_up(change);
                    return Err(why);
                }
            }
        }
        Ok(change)
    }

    fn make_way(&mut self, place: &Place, change: &mut Change) {
        let is_in_way = |old: &Known| is_in_way(old, place);
        while let Some(at) = change.close.iter().position(is_in_way) {
            let old = change.close.remove(at);
            self.close(old.number);
            change.gave_way.push(match old.bound {
                Some(address) => Place::Address(address),
                None => old.place,
            });
        }
    }

    /// Closes what is not wanted any more.
    pub fn settle(&mut self, change: Change) {
        for known in &change.close {
            self.close(known.number);
            info!(place = %known.place, "no longer listening for operators");
        }
        for place in &change.gave_way {
            info!(%place, "no longer listening for operators");
        }
        let opened = |known: &&Known| change.opened.contains(&known.number);
        for known in self.known.iter().filter(opened) {
            let address = known.bound.map(tracing::field::display);
            info!(place = %known.place, address, "listening for operators");
        }
    }

    /// Everything is as it was again.
    pub fn give_up(&mut self, change: Change) {
        for number in change.opened {
            self.close(number);
        }
        for place in change.gave_way {
            if let Err(error) = self.open(&place) {
                warn!(error, "an admin listener could not be opened again");
            }
        }
    }

    /// Removes the files of Unix sockets that the configuration has named.
    pub fn remove_files(&self) {
        for known in self.known.iter().filter(|known| !known.stays) {
            if let Place::File(path) = &known.place {
                // The next start does it otherwise.
                let _ = std::fs::remove_file(path);
            }
        }
    }

    /// Whether there is an address to come in by.
    pub fn has_addresses(&self) -> bool {
        self.known.iter().any(|known| known.bound.is_some())
    }
}

fn is_in_way(old: &Known, place: &Place) -> bool {
    match (old.bound, place) {
        (Some(old), Place::Address(new)) => do_overlap(old, *new),
        _ => false,
    }
}

/// The places of a configuration.
pub fn places(addresses: &[SocketAddr], socket: Option<&Path>) -> Vec<Place> {
    let addresses = addresses.iter().map(|&address| Place::Address(address));
    let file = socket.map(|path| Place::File(path.to_owned()));
    addresses.chain(file).collect()
}
