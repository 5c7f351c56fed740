//! Which listeners a new configuration has come and go.
//!
//! A listener is known by the address that it was asked for with, so that one whose port was picked
//! stays. A socket that a service manager has passed is its to close: it always stays.

use crate::config::Loaded;
use net::{Door, Doors};
use shard::Listener;
use std::net::SocketAddr;
use tracing::info;

/// Where to listen, and what for.
type Wanted = (Listener, SocketAddr);

/// The listeners of a running broker.
pub struct Listeners {
    doors: Doors,
    known: Vec<Known>,
}

#[derive(Clone, Debug, PartialEq)]
struct Known {
    wanted: Wanted,
    door: Door,
    is_passed: bool,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Not there yet.
    open: Vec<Wanted>,
    /// Not wanted any more.
    close: Vec<Door>,
    /// There, but for another purpose.
    rename: Vec<(Door, Listener)>,
}

impl Listeners {
    /// As a server has just opened them: first so many that were passed, then these.
    pub fn new(doors: Doors, passed: usize, asked: &[Wanted]) -> Listeners {
        let all = doors.all();
        let known = all.iter().enumerate().map(|(place, &door)| {
            let is_passed = place < passed;
            let wanted = match is_passed {
                true => (door.kind, door.address),
                false => asked[place - passed],
            };
            Known {
                wanted,
                door,
                is_passed,
            }
        });
        Listeners {
            known: known.collect(),
            doors,
        }
    }

    /// What another configuration changes.
    pub fn plan(&self, loaded: &Loaded) -> Plan {
        let mut wanted = loaded.config.listeners();
        // A socket that was passed takes the place of the default of its kind.
        wanted.retain(|(kind, _)| {
            let path = if *kind == Listener::Mqtt {
                "mqtt.listen"
            } else {
                "http.listen"
            };
            let is_passed =
                |known: &Known| known.is_passed && name_of(known.door.kind) == name_of(*kind);
            !(loaded.is_default(path) && self.known.iter().any(is_passed))
        });
        compare(&self.known, &wanted)
    }

    /// Opens what is to be opened. Errs, and opens nothing, if an address cannot be had.
    pub fn open(&self, plan: &Plan) -> Result<Vec<Door>, String> {
        let opened = self.doors.open(&plan.open);
        opened.map_err(|error| match plan.close.is_empty() {
            true => error.to_string(),
            false => format!(
                "{error}; if a listener that is to be closed is in the way, reload without it first"
            ),
        })
    }

    /// Closes again what was opened.
    pub fn give_up(&self, opened: Vec<Door>) {
        for door in opened {
            self.doors.close(door);
        }
    }

    /// Does the rest of the plan.
    pub fn settle(&mut self, plan: Plan, opened: Vec<Door>) {
        for (door, kind) in plan.rename {
            self.doors.rename(door, kind);
            let known = self.known.iter_mut().find(|known| known.door == door);
            if let Some(known) = known {
                known.door.kind = kind;
                known.wanted.0 = kind;
            }
        }
        for door in plan.close {
            self.doors.close(door);
            self.known.retain(|known| known.door != door);
            info!(kind = name_of(door.kind), address = %door.address, "no longer listening");
        }
        for (wanted, door) in plan.open.into_iter().zip(opened) {
            info!(kind = name_of(door.kind), address = %door.address, "listening");
            self.known.push(Known {
                wanted,
                door,
                is_passed: false,
            });
        }
    }

    /// All that is open: kind and address.
    pub fn all(&self) -> Vec<(&'static str, String)> {
        let door = |known: &Known| (name_of(known.door.kind), known.door.address.to_string());
        self.known.iter().map(door).collect()
    }
}

fn name_of(kind: Listener) -> &'static str {
    match kind {
        Listener::Mqtt => "mqtt",
        Listener::Http | Listener::HttpAs(_) => "http",
    }
}

/// Finds for each that is wanted one that is there: of its kind first, else at its address.
fn compare(known: &[Known], wanted: &[Wanted]) -> Plan {
    let mut plan = Plan::default();
    let mut left: Vec<&Known> = known.iter().collect();
    let mut unmatched = Vec::new();
    for &one in wanted {
        match left.iter().position(|known| known.wanted == one) {
            Some(at) => drop(left.remove(at)),
            None => unmatched.push(one),
        }
    }
    for (kind, address) in unmatched {
        let fits = |known: &&Known| {
            // Of those with picked ports, one is as good as another only for the same protocol.
            let may_serve = address.port() != 0 || name_of(known.wanted.0) == name_of(kind);
            known.wanted.1 == address && may_serve
        };
        match left.iter().position(fits) {
            Some(at) => plan.rename.push((left.remove(at).door, kind)),
            None => plan.open.push((kind, address)),
        }
    }
    let closing = left.iter().filter(|known| !known.is_passed);
    plan.close.extend(closing.map(|known| known.door));
    plan
}
