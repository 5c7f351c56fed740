//! Requests of the Meshblu API: what they change in the model, and how they are written for HTTP,
//! a WebSocket, and MQTT.

use super::happening::{Event, Happening};
use super::model::{EVERYONE, KINDS, Kill, LISTS, Lists, Model, Step};
use serde_json::{Map, Value, json};

/// What is asked.
#[derive(Clone, Debug)]
pub enum What {
    /// One's own document.
    Whoami,
    /// A document.
    Get(usize),
    /// All that one may see.
    Search,
    /// A new device.
    Register(Box<Lists>),
    /// Another document: all lists.
    SetLists(usize, Box<Lists>),
    /// One list, by an operator.
    SetList(usize, usize, u32),
    /// One of the two properties.
    SetProperty(usize, usize),
    /// The end of a device.
    Unregister(usize),
    /// A new owner.
    Claim(usize),
    /// A message.
    Message(Vec<usize>, bool),
    /// A broadcast, by its own route.
    Broadcast,
    /// Emitter, subscriber, kind.
    Subscribe(usize, usize, usize),
    /// The opposite.
    Unsubscribe(usize, usize, usize),
    /// All subscriptions of a device, or those of a kind.
    UnsubscribeAll(usize, Option<usize>),
    /// What a device hears of.
    Subscriptions(usize),
    /// One more token, with a tag.
    Generate(usize, Option<u64>),
    /// One token less.
    Revoke(usize, usize),
    /// All tokens with a tag less.
    RevokeTagged(usize, Option<u64>),
    /// A new token instead of all others.
    Reset(usize),
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its number.
    pub op: usize,
    /// Who asks: a device and one of its tokens.
    pub actor: Option<(usize, usize)>,
    /// As whom.
    pub acting_as: Option<usize>,
    /// What.
    pub what: What,
    /// It is a publish on a connection that has shown its token before. The shard that has the
    /// connection hears of the token's end a moment after whoever has ended it.
    pub is_known: bool,
}

impl Request {
    /// The request that is about to be sent, with its number, and what others will hear of it.
    pub fn new(model: &mut Model, now: Step, probe: Request) -> (Request, Option<Happening>) {
        let me = probe.actor.map(|(device, _)| device);
        let request = Request {
            op: model.begin(now),
            acting_as: probe.acting_as.filter(|other| me != Some(*other)),
            ..probe
        };
        request.enter(model);
        let happening = request.happening();
        (request, happening)
    }

    /// In whose name.
    pub fn subject(&self) -> Option<usize> {
        self.acting_as.or(self.actor.map(|(device, _)| device))
    }

    /// What it changes is possible from now on.
    fn enter(&self, model: &mut Model) {
        let op = self.op;
        let stamp = |model: &mut Model, device: usize| {
            model.devices[device].stamp.push((op, op as u64));
        };
        match &self.what {
            What::SetLists(device, lists) => {
                stamp(model, *device);
                let known = model.devices[*device].lists.iter_mut();
                known
                    .zip(**lists)
                    .for_each(|(list, mask)| list.push((op, mask)));
            }
            What::SetList(device, list, mask) => {
                stamp(model, *device);
                model.devices[*device].lists[*list].push((op, *mask));
            }
            What::SetProperty(device, which) => {
                stamp(model, *device);
                model.devices[*device].properties[*which].push((op, op as u64));
            }
            What::Unregister(device) => model.devices[*device].ends.push(op),
            What::Claim(device) => {
                let owner = self.subject().expect("somebody claims");
                let claimed = &mut model.devices[*device];
                claimed.claims.push(op);
                claimed.owner.push((op, Some(owner)));
                for (list, name) in claimed.lists.iter_mut().zip(LISTS) {
                    let mask = if name.ends_with(".as") { 0 } else { 1 << owner };
                    list.push((op, mask));
                }
            }
            What::Subscribe(emitter, subscriber, kind) => {
                model.subscribe((*emitter, *subscriber, *kind), op, true);
            }
            What::Unsubscribe(emitter, subscriber, kind) => {
                model.subscribe((*emitter, *subscriber, *kind), op, false);
            }
            What::UnsubscribeAll(subscriber, kind) => model.unsubscribe_all(*subscriber, *kind, op),
            What::Revoke(device, token) => {
                model.devices[*device].kills.push((op, Kill::One(*token)));
            }
            What::RevokeTagged(device, tag) => {
                model.devices[*device].kills.push((op, Kill::Tagged(*tag)));
            }
            What::Reset(device) => model.devices[*device].kills.push((op, Kill::All)),
            _ => {}
        }
    }

    /// What others hear of it.
    fn happening(&self) -> Option<Happening> {
        let subject = self.subject();
        let (from, event) = match &self.what {
            What::Message(direct, is_broadcast) => (
                subject?,
                Event::Message {
                    direct: direct.clone(),
                    is_broadcast: *is_broadcast,
                },
            ),
            What::Broadcast => (
                subject?,
                Event::Message {
                    direct: Vec::new(),
                    is_broadcast: true,
                },
            ),
            What::SetLists(device, _)
            | What::SetList(device, ..)
            | What::SetProperty(device, _)
            | What::Claim(device) => (*device, Event::Config),
            What::Unregister(device) => (*device, Event::Unregistered),
            _ => return None,
        };
        Some(Happening {
            op: self.op,
            from,
            event,
        })
    }

    /// Method, target, and body.
    fn parts(&self, model: &Model) -> (&'static str, String, Option<Value>) {
        let uuid = |device: &usize| &*model.devices[*device].uuid;
        let path = |device: &usize| format!("/devices/{}", uuid(device));
        match &self.what {
            What::Whoami => ("GET", "/whoami".into(), None),
            What::Get(device) => ("GET", path(device), None),
            What::Search => ("POST", "/devices/search".into(), Some(json!({}))),
            What::Register(_) => ("POST", "/devices".into(), self.body(model)),
            What::SetLists(device, _) | What::SetProperty(device, _) => {
                ("PUT", path(device), self.body(model))
            }
            What::SetList(device, ..) => ("PUT", path(device), self.body(model)),
            What::Unregister(device) => ("DELETE", path(device), None),
            What::Claim(device) => ("POST", format!("/claimdevice/{}", uuid(device)), None),
            What::Message(..) => ("POST", "/messages".into(), self.body(model)),
            What::Broadcast => ("POST", "/broadcasts".into(), self.body(model)),
            What::Subscribe(_, subscriber, _) => {
                let target = format!("{}/subscriptions", path(subscriber));
                ("POST", target, self.body(model))
            }
            What::Unsubscribe(emitter, subscriber, kind) => {
                let (emitter, kind) = (uuid(emitter), KINDS[*kind]);
                let target = format!("{}/subscriptions/{emitter}/{kind}", path(subscriber));
                ("DELETE", target, None)
            }
            What::UnsubscribeAll(subscriber, kind) => {
                let target = format!("/v2{}/subscriptions", path(subscriber));
                let body = match kind {
                    Some(kind) => json!({"type": KINDS[*kind]}),
                    None => json!({}),
                };
                ("DELETE", target, Some(body))
            }
            What::Subscriptions(device) => ("GET", format!("{}/subscriptions", path(device)), None),
            What::Generate(device, tag) => {
                let body = match tag {
                    Some(tag) => json!({"tag": format!("t{tag}")}),
                    None => json!({}),
                };
                ("POST", format!("{}/tokens", path(device)), Some(body))
            }
            What::Revoke(device, token) => {
                let token = &model.devices[*device].tokens[*token].text;
                ("DELETE", format!("{}/tokens/{token}", path(device)), None)
            }
            What::RevokeTagged(device, tag) => {
                let query = tag.map(|tag| format!("?tag=t{tag}")).unwrap_or_default();
                ("DELETE", format!("{}/tokens{query}", path(device)), None)
            }
            What::Reset(device) => ("POST", format!("{}/token", path(device)), None),
        }
    }

    /// The body of what has one in every transport.
    fn body(&self, model: &Model) -> Option<Value> {
        let op = self.op;
        let uuid = |device: &usize| &*model.devices[*device].uuid;
        // Nobody believes this.
        let forged = "00000000-0000-4000-8000-000000000000";
        Some(match &self.what {
            What::Register(lists) => {
                let lists = lists_json(model, lists);
                json!({
                    "stamp": op, "p0": 0, "p1": 0,
                    "meshblu": {"version": "2.0.0", "whitelists": lists},
                })
            }
            What::SetLists(_, lists) => {
                json!({"stamp": op, "meshblu": {"whitelists": lists_json(model, lists)}})
            }
            What::SetList(_, list, mask) => {
                let name = format!("meshblu.whitelists.{}", LISTS[*list]);
                json!({"$set": {name: list_json(model, *mask), "stamp": op}})
            }
            What::SetProperty(_, which) => json!({"stamp": op, format!("p{which}"): op}),
            What::Message(direct, is_broadcast) => {
                let mut devices: Vec<&str> = direct.iter().map(uuid).collect();
                devices.extend(is_broadcast.then_some("*"));
                json!({
                    "devices": devices, "payload": {"id": op}, "x": op,
                    "fromUuid": forged, "metadata": {"route": [forged]},
                })
            }
            What::Broadcast => json!({"payload": {"id": op}, "x": op, "fromUuid": forged}),
            What::Subscribe(emitter, subscriber, kind)
            | What::Unsubscribe(emitter, subscriber, kind) => {
                json!({
                    "emitterUuid": uuid(emitter), "subscriberUuid": uuid(subscriber),
                    "type": KINDS[*kind],
                })
            }
            _ => return None,
        })
    }

    /// As it is sent by HTTP.
    pub fn http(&self, model: &Model) -> Vec<u8> {
        let (method, target, body) = self.parts(model);
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: h\r\n");
        if let Some((device, token)) = self.actor {
            let device = &model.devices[device];
            let value = http::bearer(&device.uuid, &device.tokens[token].text);
            head += &format!("Authorization: {value}\r\n");
        }
        if let Some(other) = self.acting_as {
            head += &format!("x-meshblu-as: {}\r\n", model.devices[other].uuid);
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        if !body.is_empty() {
            let bytes = body.len();
            head += &format!("Content-Type: application/json\r\nContent-Length: {bytes}\r\n");
        }
        (head + "\r\n" + &body).into_bytes()
    }

    /// The frame that asks the same by a WebSocket of a device, if there is one.
    pub fn frame(&self, model: &Model) -> Option<Value> {
        let me = self.actor?.0;
        let event = match &self.what {
            What::Whoami => return Some(json!({"event": "whoami"})),
            What::Unregister(device) => {
                return Some(json!({"event": "unregister", "uuid": model.devices[*device].uuid}));
            }
            What::Register(_) => "register",
            What::SetLists(device, _)
            | What::SetProperty(device, _)
            | What::SetList(device, ..)
                if *device == me =>
            {
                "update"
            }
            What::Message(..) => "message",
            What::Broadcast => "broadcast",
            What::Subscribe(_, subscriber, _) if *subscriber == me => "subscribe",
            What::Unsubscribe(_, subscriber, _) if *subscriber == me => "unsubscribe",
            _ => return None,
        };
        let mut frame = self.body(model)?;
        frame["event"] = event.into();
        Some(frame)
    }

    /// What a device publishes for it, and the last level of its topic.
    pub fn publish(&self, model: &Model) -> Option<(&'static str, Vec<u8>)> {
        match &self.what {
            What::Message(..) => Some(("message", self.body(model)?.to_string().into_bytes())),
            What::Broadcast => {
                let payload = json!({"id": self.op});
                Some(("broadcast", payload.to_string().into_bytes()))
            }
            _ => None,
        }
    }
}

/// One list, as documents have it.
fn list_json(model: &Model, mask: u32) -> Value {
    if mask & EVERYONE != 0 {
        return json!([{"uuid": "*"}]);
    }
    let devices = model.devices.iter().enumerate();
    let admitted = devices.filter(|(at, _)| mask & 1 << at != 0);
    Value::Array(admitted.map(|(_, one)| json!({"uuid": one.uuid})).collect())
}

/// All lists that admit anybody.
fn lists_json(model: &Model, lists: &Lists) -> Value {
    let mut categories = Map::new();
    for (name, mask) in LISTS.iter().zip(lists) {
        let (category, name) = name.split_once('.').expect("all names have two parts");
        if *mask != 0 {
            let lists = categories.entry(category).or_insert_with(|| json!({}));
            lists[name] = list_json(model, *mask);
        }
    }
    Value::Object(categories)
}

/// What a list of a document admits; `None` if it names somebody whom nobody knows.
pub fn mask_of(model: &Model, list: &Value) -> Option<u32> {
    let entries = list.as_array()?.iter();
    let bits = entries.map(|entry| match entry["uuid"].as_str()? {
        "*" => Some(EVERYONE),
        uuid => Some(1 << model.find(uuid)?),
    });
    bits.sum()
}
