//! What devices are to hear: messages, broadcasts, changed documents, and the end of a device; by
//! how many ways each of them may reach a device, and by how many it must.

use super::model::{Key, Maybe, Model, Step, list, list_of};

/// What kind of thing happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message.
    Message {
        /// To these devices.
        direct: Vec<usize>,
        /// And to all who listen.
        is_broadcast: bool,
    },
    /// A document has changed.
    Config,
    /// A device is no more.
    Unregistered,
}

/// Something that a request makes happen.
#[derive(Clone, Debug)]
pub struct Happening {
    /// The request.
    pub op: usize,
    /// To or by which device.
    pub from: usize,
    /// What.
    pub event: Event,
}

/// The names of events, as receivers see them.
pub const NAMES: [&str; 4] = ["message", "broadcast", "config", "unregistered"];
/// For each name, the kinds of subscription to what is sent and to what is received.
const KINDS_OF: [(usize, usize); 4] = [(2, 3), (0, 1), (4, 5), (6, 7)];

/// How often something reaches a device: at least and at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copies {
    /// At least.
    pub min: u32,
    /// At most.
    pub max: u32,
}

impl Copies {
    fn count(&mut self, way: Maybe) {
        self.min += u32::from(way.must);
        self.max += u32::from(way.can);
    }

    /// Of both.
    pub fn plus(self, other: Copies) -> Copies {
        Copies {
            min: self.min + other.min,
            max: self.max + other.max,
        }
    }
}

impl Happening {
    /// How many copies under this name (an index into [`NAMES`]) a device hears, when all that
    /// decides it was looked up within these steps.
    pub fn copies(&self, model: &Model, hearer: usize, name: usize, a: Step, b: Step) -> Copies {
        let mut copies = Copies::default();
        let (sent, received) = KINDS_OF[name];
        let there = model.exists(hearer, a, b);
        let heard = |key: Key| {
            let leave = model.allows(key.0, list_of(key.2), key.1, a, b);
            model.hears(key, a, b).and(leave)
        };
        // Those that it reaches as their own, so that others hear of it by them.
        let mut reached: Vec<(usize, Maybe)> = Vec::new();
        match (&self.event, name) {
            (Event::Message { direct, .. }, 0) => {
                let may = |to: &usize| model.allows(*to, list("message.from"), self.from, a, b);
                reached.extend(direct.iter().map(|to| (*to, may(to))));
                copies.count(heard((self.from, hearer, sent)).and(there));
            }
            (Event::Message { is_broadcast, .. }, 1) if *is_broadcast => {
                let all = 0..model.devices.len();
                reached.extend(all.map(|to| (to, heard((self.from, to, sent)))));
            }
            (Event::Config, 2) | (Event::Unregistered, 3) => {
                let itself = match name {
                    // It is the end of the device that hears of it.
                    3 => Maybe::YES,
                    _ => model.exists(self.from, a, b),
                };
                reached.push((self.from, itself));
                let all = 0..model.devices.len();
                reached.extend(
                    all.map(|to| (to, heard_at_end(model, (self.from, to, sent), a, b, name))),
                );
            }
            _ => return copies,
        }
        for (to, way) in reached {
            if !way.can {
                continue;
            }
            if to == hearer {
                let there = if to == self.from && name == 3 {
                    Maybe::YES
                } else {
                    there
                };
                copies.count(way.and(there));
            }
            let onward = heard_at_end(model, (to, hearer, received), a, b, name);
            let way = match to == self.from {
                true => way,
                false => way.and(model.exists(to, a, b)),
            };
            copies.count(way.and(onward).and(there));
        }
        copies
    }
}

/// As any subscription is judged; but at the end of the emitter its leave is asked for the last
/// time, although afterwards it is not there.
fn heard_at_end(model: &Model, key: Key, a: Step, b: Step, name: usize) -> Maybe {
    let leave = match name {
        3 => model.admits(key.0, list_of(key.2), key.1, a, b),
        _ => model.allows(key.0, list_of(key.2), key.1, a, b),
    };
    model.hears(key, a, b).and(leave)
}
