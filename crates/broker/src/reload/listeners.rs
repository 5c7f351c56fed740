//! Which listeners a new configuration has come and go.
//!
//! A listener is known by the address that it was asked for with, so that one whose port was picked
//! stays. A socket that a service manager has passed is its to close: it always stays.

use crate::config::{Loaded, do_overlap};
use crate::supervise::activation::covers;
use net::{Door, Doors, StartError};
use shard::Listener;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tracing::info;

/// How long shards may take to close a listener.
const CLOSE_MAX: Duration = Duration::from_secs(2);
/// Between two looks whether they have.
const CLOSE_PAUSE: Duration = Duration::from_millis(2);

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

/// What of a plan is done, and can be undone.
#[derive(Debug, Default)]
pub struct Opened {
    doors: Vec<(Wanted, Door)>,
    /// Closed already, because they were in the way.
    gave_way: Vec<Door>,
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
        // As at the start, it stands for what it covers, too.
        let passed = self.known.iter().filter(|known| known.is_passed);
        let passed: Vec<SocketAddr> = passed.map(|known| known.door.address).collect();
        wanted.retain(|(_, address)| {
            let is_covered = passed.iter().any(|passed| covers(*passed, *address));
            !is_covered || passed.contains(address)
        });
        compare(&self.known, &wanted)
    }

    /// Opens what is to be opened. Errs, with everything as it was, if an address cannot be had.
    ///
    /// A listener that is to be closed and has a port that another one is to have is closed first, and
    /// opened again if that does not help: meanwhile whoever connects there is refused.
    pub fn open(&mut self, plan: &Plan) -> Result<Opened, String> {
        let is_in_way = |door: &Door, wanted: &Wanted| do_overlap(door.address, wanted.1);
        let (later, now): (Vec<Wanted>, Vec<Wanted>) = plan
            .open
            .iter()
            .partition(|wanted| plan.close.iter().any(|door| is_in_way(door, wanted)));
        let refused = |error: StartError| error.to_string();
        let mut opened = Opened::default();
        let doors = self.doors.open(&now).map_err(refused)?;
        opened.doors.extend(now.into_iter().zip(doors));
        let gives_way = |door: &&Door| later.iter().any(|wanted| is_in_way(door, wanted));
        for &door in plan.close.iter().filter(gives_way) {
            self.doors.close(door);
            opened.gave_way.push(door);
        }
        match self.open_when_free(&later) {
            Ok(doors) => opened.doors.extend(later.into_iter().zip(doors)),
            Err(error) => {
                let lost = self.give_up(opened);
                return Err(format!("{error}{lost}"));
            }
        }
        Ok(opened)
    }

    /// Shards close their sockets one by one.
    fn open_when_free(&self, wanted: &[Wanted]) -> Result<Vec<Door>, StartError> {
        let end = Instant::now() + CLOSE_MAX;
        loop {
            match self.doors.open(wanted) {
                Err(StartError::Listen { error, .. })
                    if error.kind() == ErrorKind::AddrInUse && Instant::now() < end =>
                {
                    std::thread::sleep(CLOSE_PAUSE);
                }
                result => return result,
            }
        }
    }

    /// Closes again what was opened, and opens what has given way. Says what could not be opened, to
    /// be put behind the reason.
    pub fn give_up(&mut self, opened: Opened) -> String {
        for (_, door) in opened.doors {
            self.doors.close(door);
        }
        let mut lost = String::new();
        for old in opened.gave_way {
            let again = self.open_when_free(&[(old.kind, old.address)]);
            match again.map(|doors| doors[0]) {
                Ok(door) => {
                    let known = self.known.iter_mut().find(|known| known.door == old);
                    known.expect("what was closed was known").door = door;
                }
                Err(error) => {
                    self.known.retain(|known| known.door != old);
                    lost.push_str(&format!(
                        "; and {} could not be opened again: {error}",
                        old.address
                    ));
                }
            }
        }
        lost
    }

    /// Does the rest of the plan.
    pub fn settle(&mut self, plan: Plan, opened: Opened) {
        for (door, kind) in plan.rename {
            self.doors.rename(door, kind);
            let known = self.known.iter_mut().find(|known| known.door == door);
            if let Some(known) = known {
                known.door.kind = kind;
                known.wanted.0 = kind;
            }
        }
        for door in plan.close {
            if !opened.gave_way.contains(&door) {
                self.doors.close(door);
            }
            self.known.retain(|known| known.door != door);
            info!(kind = name_of(door.kind), address = %door.address, "no longer listening");
        }
        for (wanted, door) in opened.doors {
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
