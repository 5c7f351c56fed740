//! What may be true of devices, as far as somebody can know who sees only requests and answers.
//!
//! Each change has a time before which it cannot have been made (its request had not arrived) and
//! one at which it was made for sure (its answer was sent). In between, and for ever if no answer
//! came, both the old and the new value are possible; so whatever this file calls impossible is.

use std::collections::BTreeMap;

/// Steps of the world.
pub type Step = u64;
/// A change that may still happen.
pub const NEVER: Step = Step::MAX;
/// Devices of one run: they are bits of a list.
pub const DEVICES_MAX: usize = 24;
/// The bit of a list that admits everybody.
pub const EVERYONE: u32 = 1 << 31;
/// The lists that a whitelist can have, in the order that documents show them in.
pub const LISTS: [&str; 13] = [
    "discover.view",
    "discover.as",
    "configure.update",
    "configure.sent",
    "configure.received",
    "configure.as",
    "message.from",
    "message.sent",
    "message.received",
    "message.as",
    "broadcast.sent",
    "broadcast.received",
    "broadcast.as",
];
/// The kinds of subscription.
pub const KINDS: [&str; 8] = [
    "broadcast.sent",
    "broadcast.received",
    "message.sent",
    "message.received",
    "configure.sent",
    "configure.received",
    "unregister.sent",
    "unregister.received",
];

/// Whom each list admits.
pub type Lists = [u32; 13];

/// The list of that name.
pub fn list(name: &str) -> usize {
    let at = LISTS.iter().position(|known| *known == name);
    at.expect("only known names are asked for")
}

/// The list that a subscription of a kind needs to be on.
pub fn list_of(kind: usize) -> usize {
    let name = KINDS[kind].replace("unregister", "configure");
    list(&name)
}

/// Everybody may do everything, except act in the device's name.
pub fn open() -> Lists {
    std::array::from_fn(|at| match LISTS[at].ends_with(".as") {
        true => 0,
        false => EVERYONE,
    })
}

/// A request and its effect.
#[derive(Clone, Copy, Debug)]
pub struct When {
    /// Not before this step.
    pub from: Step,
    /// Not after this one.
    pub until: Step,
    /// It was made.
    pub is_sure: bool,
    /// It was not made.
    pub is_void: bool,
}

/// What is possible: that it is so, and that it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Maybe {
    /// It may be so.
    pub can: bool,
    /// It cannot be otherwise.
    pub must: bool,
}

impl Maybe {
    /// So it is.
    pub const YES: Maybe = Maybe {
        can: true,
        must: true,
    };
    /// It is not so.
    pub const NO: Maybe = Maybe {
        can: false,
        must: false,
    };

    /// Both.
    pub fn and(self, other: Maybe) -> Maybe {
        Maybe {
            can: self.can && other.can,
            must: self.must && other.must,
        }
    }
}

/// Everything that something was ever set to, and by which request.
pub type Register<T> = Vec<(usize, T)>;

/// Which tokens a request ends.
#[derive(Clone, Debug)]
pub enum Kill {
    /// This one of the device's.
    One(usize),
    /// Those with this tag; all that were generated, without one.
    Tagged(Option<u64>),
    /// All that were there before.
    All,
}

/// A token that somebody was told.
#[derive(Clone, Debug)]
pub struct Token {
    /// The token.
    pub text: String,
    /// By which request.
    pub made: usize,
    /// Its tag.
    pub tag: Option<u64>,
    /// It came with the registration or a reset.
    pub is_root: bool,
}

/// A device that somebody was told of.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its name.
    pub uuid: String,
    /// By which request.
    pub made: usize,
    /// Requests that end it.
    pub ends: Vec<usize>,
    /// Whom its lists admit.
    pub lists: Vec<Register<u32>>,
    /// A property that every update sets to the number of its request.
    pub stamp: Register<u64>,
    /// Two more, each changed by itself.
    pub properties: [Register<u64>; 2],
    /// Who has claimed it.
    pub owner: Register<Option<usize>>,
    /// Its tokens.
    pub tokens: Vec<Token>,
    /// What ends them.
    pub kills: Vec<(usize, Kill)>,
    /// Requests that claim it.
    pub claims: Vec<usize>,
}

/// Emitter, subscriber, kind.
pub type Key = (usize, usize, usize);

/// All devices, and all requests.
#[derive(Debug)]
pub struct Model {
    /// By number of request.
    pub times: Vec<When>,
    /// All that were ever told of.
    pub devices: Vec<Device>,
    by_uuid: BTreeMap<String, usize>,
    subscriptions: BTreeMap<Key, Register<bool>>,
    /// Requests that end all subscriptions of a device, or those of a kind.
    wide: Vec<(usize, usize, Option<usize>)>,
}

impl Default for Model {
    /// Without devices; request 0 is the beginning.
    fn default() -> Model {
        let beginning = When {
            from: 0,
            until: 0,
            is_sure: true,
            is_void: false,
        };
        Model {
            times: vec![beginning],
            devices: Vec::new(),
            by_uuid: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            wide: Vec::new(),
        }
    }
}

impl Model {
    /// A request is sent.
    pub fn begin(&mut self, now: Step) -> usize {
        self.times.push(When {
            from: now,
            until: NEVER,
            is_sure: false,
            is_void: false,
        });
        self.times.len() - 1
    }

    /// A request has been carried out.
    pub fn done(&mut self, op: usize, now: Step) {
        self.times[op].until = now;
        self.times[op].is_sure = true;
    }

    /// A request has been refused.
    pub fn void(&mut self, op: usize, now: Step) {
        self.times[op].until = now;
        self.times[op].is_void = true;
    }

    /// What has had no effect by now will have none: nothing is under way.
    pub fn settle(&mut self, now: Step) {
        for when in &mut self.times {
            when.until = when.until.min(now);
        }
    }

    /// The device of that name.
    pub fn find(&self, uuid: &str) -> Option<usize> {
        self.by_uuid.get(uuid).copied()
    }

    /// A request made a device.
    pub fn add(&mut self, op: usize, uuid: &str, token: &str, lists: &Lists) -> usize {
        let root = Token {
            text: token.to_owned(),
            made: op,
            tag: None,
            is_root: true,
        };
        self.devices.push(Device {
            uuid: uuid.to_owned(),
            made: op,
            ends: Vec::new(),
            lists: lists.iter().map(|mask| vec![(op, *mask)]).collect(),
            stamp: vec![(op, op as u64)],
            properties: [vec![(op, 0)], vec![(op, 0)]],
            owner: vec![(op, None)],
            tokens: vec![root],
            kills: Vec::new(),
            claims: Vec::new(),
        });
        let device = self.devices.len() - 1;
        self.by_uuid.insert(uuid.to_owned(), device);
        device
    }

    /// Whether a request was over before another began.
    fn is_before(&self, one: usize, other: usize) -> bool {
        self.times[one].until < self.times[other].from
    }

    /// What a register may have held at some moment of these steps.
    pub fn possible<T: Copy>(&self, register: &Register<T>, a: Step, b: Step) -> Vec<T> {
        let is_over = |op: usize| {
            register.iter().any(|(other, _)| {
                let when = &self.times[*other];
                when.is_sure && when.until < a && self.is_before(op, *other)
            })
        };
        let values = register.iter().filter(|(op, _)| {
            let when = &self.times[*op];
            !when.is_void && when.from <= b && !is_over(*op)
        });
        values.map(|(_, value)| *value).collect()
    }

    /// Whether a device is there.
    pub fn exists(&self, device: usize, a: Step, b: Step) -> Maybe {
        let device = &self.devices[device];
        let made = &self.times[device.made];
        let ends = || device.ends.iter().map(|op| &self.times[*op]);
        Maybe {
            can: made.from <= b && !ends().any(|when| when.is_sure && when.until < a),
            must: made.until < a && !ends().any(|when| !when.is_void && when.from <= b),
        }
    }

    /// Whether a device gives somebody this leave.
    pub fn allows(&self, device: usize, list: usize, actor: usize, a: Step, b: Step) -> Maybe {
        let exists = self.exists(device, a, b);
        exists.and(self.admits(device, list, actor, a, b))
    }

    /// The same, if the device is there.
    pub fn admits(&self, device: usize, list: usize, actor: usize, a: Step, b: Step) -> Maybe {
        if device == actor {
            return Maybe::YES;
        }
        let masks = self.possible(&self.devices[device].lists[list], a, b);
        let admits = |mask: &u32| mask & (EVERYONE | 1 << actor) != 0;
        Maybe {
            can: masks.iter().any(admits),
            must: masks.iter().all(admits),
        }
    }

    /// Whether a token is worth something.
    pub fn is_valid(&self, device: usize, token: usize, a: Step, b: Step) -> Maybe {
        let owner = &self.devices[device];
        let known = &owner.tokens[token];
        let is_meant = |(op, kill): &&(usize, Kill)| match kill {
            _ if *op == known.made => false,
            Kill::One(one) => *one == token,
            Kill::Tagged(tag) => !known.is_root && (tag.is_none() || *tag == known.tag),
            Kill::All => true,
        };
        let kills = || owner.kills.iter().filter(is_meant).map(|(op, _)| *op);
        let is_dead = kills().any(|op| {
            let when = &self.times[op];
            when.is_sure && when.until < a && self.is_before(known.made, op)
        });
        let may_be_dead = kills().any(|op| {
            let when = &self.times[op];
            !when.is_void && when.from <= b && !self.is_before(op, known.made)
        });
        self.exists(device, a, b).and(Maybe {
            can: !is_dead,
            must: !may_be_dead,
        })
    }

    /// A request sets a subscription.
    pub fn subscribe(&mut self, key: Key, op: usize, value: bool) {
        let wide = &self.wide;
        let register = self.subscriptions.entry(key).or_insert_with(|| {
            let others = wide.iter().filter(|(_, subscriber, kind)| {
                *subscriber == key.1 && kind.is_none_or(|kind| kind == key.2)
            });
            let others = others.map(|(op, ..)| (*op, false));
            std::iter::once((0, false)).chain(others).collect()
        });
        register.push((op, value));
    }

    /// A request ends all subscriptions of a device, or those of a kind.
    pub fn unsubscribe_all(&mut self, subscriber: usize, kind: Option<usize>, op: usize) {
        self.wide.push((op, subscriber, kind));
        for (key, register) in &mut self.subscriptions {
            if key.1 == subscriber && kind.is_none_or(|kind| kind == key.2) {
                register.push((op, false));
            }
        }
    }

    /// Whether a device hears of another.
    pub fn hears(&self, key: Key, a: Step, b: Step) -> Maybe {
        let Some(register) = self.subscriptions.get(&key) else {
            return Maybe::NO;
        };
        let values = self.possible(register, a, b);
        Maybe {
            can: values.contains(&true),
            must: values.iter().all(|value| *value),
        }
    }

    /// Subscriptions that anybody has ever asked for.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.subscriptions.keys().copied()
    }
}
