//! Who may do what: every sub-type of the whitelists, with every kind of actor, over every
//! transport on which it makes sense. The cases are generated; what is expected of each follows
//! from the actor alone.

use super::*;
use serde_json::json;

/// The sub-types of whitelists 2.0.
const ACCESS: [&str; 13] = [
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

/// Who acts, as the whitelist of the device concerned sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// The device itself.
    Oneself,
    /// Listed by name.
    Listed,
    /// Anybody, where everybody is listed.
    Anybody,
    /// Not listed here, though for everything else.
    Stranger,
    /// As somebody who is listed and lets the actor do so.
    Acting,
    /// As somebody who is listed and does not let the actor do so.
    ActingUnasked,
}

const WHO: [Who; 6] = [
    Who::Oneself,
    Who::Listed,
    Who::Anybody,
    Who::Stranger,
    Who::Acting,
    Who::ActingUnasked,
];

impl Who {
    fn may(self) -> bool {
        !matches!(self, Who::Stranger | Who::ActingUnasked)
    }

    fn acts(self) -> bool {
        matches!(self, Who::Acting | Who::ActingUnasked)
    }
}

/// A way to use a leave: whether it was given.
struct Probe {
    name: &'static str,
    access: &'static str,
    /// Whether the transport can say on whose behalf one acts.
    can_act: bool,
    run: fn(&Mesh<'_>, &Case) -> bool,
}

/// One case: the device whose leave is asked, and who asks.
struct Case {
    target: Device,
    actor: Device,
    /// On whose behalf.
    subject: Option<Device>,
}

impl Case {
    /// Who it is done by in the eyes of the target.
    fn doer(&self) -> &Device {
        self.subject.as_ref().unwrap_or(&self.actor)
    }

    fn ask(
        &self,
        mesh: &Mesh<'_>,
        method: &str,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> Answer {
        mesh.send(&Request {
            method,
            path,
            by: Some(&self.actor),
            acting_as: self.subject.as_ref().map(|subject| &*subject.uuid),
            body,
        })
    }
}

/// A leave is given or not; anything but these two answers is a mistake.
#[track_caller]
fn given(answer: &Answer, denial: u16) -> bool {
    let body = answer.body.escape_ascii();
    assert!(
        answer.status == 200 || answer.status == denial || answer.status == 403,
        "{} {body}",
        answer.status
    );
    answer.status == 200
}

fn subscribe(mesh: &Mesh<'_>, case: &Case, kind: &str) -> bool {
    let doer = case.doer();
    let path = format!("/devices/{}/subscriptions", doer.uuid);
    let body = json!({
        "emitterUuid": case.target.uuid, "subscriberUuid": doer.uuid, "type": kind,
    });
    given(&case.ask(mesh, "POST", &path, Some(body)), 403)
}

fn subscribe_by_socket(mesh: &Mesh<'_>, case: &Case, kind: &str) -> bool {
    let socket = mesh.socket(&case.actor);
    socket.send(json!({"event": "subscribe", "emitterUuid": case.target.uuid, "type": kind}));
    socket.send(json!({"event": "ping"}));
    let first = socket.next().unwrap();
    socket.client.cut();
    first["event"] == "pong"
}

/// What a target hears while something is done.
fn hears(mesh: &Mesh<'_>, case: &Case, act: impl Fn()) -> bool {
    let socket = mesh.socket(&case.target);
    act();
    let heard = socket.all();
    socket.client.cut();
    heard.iter().any(|event| event["event"] == "message")
}

fn one_more_device(mesh: &Mesh<'_>, case: &Case) -> String {
    // As the target is, but to be used up.
    let path = format!("/devices/{}", case.target.uuid);
    let view = mesh.ask(&case.target, "GET", &path, None).json();
    let lists = &view["meshblu"]["whitelists"];
    let meshblu = json!({"version": "2.0.0", "whitelists": lists});
    match case.doer().uuid == case.target.uuid {
        true => case.target.uuid.clone(),
        false => mesh.register(json!({"meshblu": meshblu})).uuid,
    }
}

macro_rules! subscriptions {
    ($($access:literal),*) => {
        [$(
            Probe {
                name: concat!("HTTP subscription to ", $access),
                access: $access,
                can_act: true,
                run: |mesh, case| subscribe(mesh, case, $access),
            },
            Probe {
                name: concat!("socket subscription to ", $access),
                access: $access,
                can_act: false,
                run: |mesh, case| subscribe_by_socket(mesh, case, $access),
            },
        )*]
    };
}

fn probes() -> Vec<Probe> {
    let mut probes = vec![
        Probe {
            name: "GET /devices/:uuid",
            access: "discover.view",
            can_act: true,
            run: |mesh, case| {
                given(
                    &case.ask(mesh, "GET", &format!("/devices/{}", case.target.uuid), None),
                    404,
                )
            },
        },
        Probe {
            name: "POST /devices/search",
            access: "discover.view",
            can_act: true,
            run: |mesh, case| {
                let query = json!({"uuid": case.target.uuid});
                let answer = case.ask(mesh, "POST", "/devices/search", Some(query));
                given(&answer, 403) && answer.json().as_array().unwrap().len() == 1
            },
        },
        Probe {
            name: "GET /whoami as",
            access: "discover.as",
            can_act: false,
            run: |mesh, case| {
                given(
                    &mesh.ask_as(&case.actor, &case.target, "GET", "/whoami", None),
                    403,
                )
            },
        },
        Probe {
            name: "PUT /devices/:uuid as",
            access: "configure.as",
            can_act: false,
            run: |mesh, case| {
                let path = format!("/devices/{}", case.target.uuid);
                let body = Some(json!({"x": 1}));
                given(
                    &mesh.ask_as(&case.actor, &case.target, "PUT", &path, body),
                    403,
                )
            },
        },
        Probe {
            name: "POST /messages as",
            access: "message.as",
            can_act: false,
            run: |mesh, case| {
                let body = Some(json!({"devices": [], "payload": 1}));
                given(
                    &mesh.ask_as(&case.actor, &case.target, "POST", "/messages", body),
                    403,
                )
            },
        },
        Probe {
            name: "socket message as",
            access: "message.as",
            can_act: false,
            run: |mesh, case| {
                let socket = mesh.socket(&case.actor);
                let subject = &case.target.uuid;
                socket.send(json!({
                    "event": "message", "x-meshblu-as": subject, "devices": [], "payload": 1,
                }));
                let heard = socket.all();
                socket.client.cut();
                !heard.iter().any(|event| event["event"] == "error")
            },
        },
        Probe {
            name: "MQTT message as",
            access: "message.as",
            can_act: false,
            run: |mesh, case| {
                let client = mesh.mqtt(&case.actor);
                let topic = format!("{}/message", case.target.uuid);
                let mut all = [1, 2]
                    .into_iter()
                    .map(|qos| client.publish(&topic, "{\"devices\":[],\"payload\":1}", qos));
                let given = all.all(|reason| {
                    assert!(matches!(
                        reason,
                        ReasonCode::Success | ReasonCode::NotAuthorized
                    ));
                    reason == ReasonCode::Success
                });
                client.disconnect();
                given
            },
        },
        Probe {
            name: "MQTT broadcast as",
            access: "broadcast.as",
            can_act: false,
            run: |mesh, case| {
                let client = mesh.mqtt(&case.actor);
                let topic = format!("{}/broadcast", case.target.uuid);
                let reason = client.publish(&topic, "{\"x\":1}", 1);
                client.disconnect();
                reason == ReasonCode::Success
            },
        },
        Probe {
            name: "POST /broadcasts as",
            access: "broadcast.as",
            can_act: false,
            run: |mesh, case| {
                let body = Some(json!({"payload": 1}));
                given(
                    &mesh.ask_as(&case.actor, &case.target, "POST", "/broadcasts", body),
                    403,
                )
            },
        },
        Probe {
            name: "PUT /devices/:uuid",
            access: "configure.update",
            can_act: true,
            run: |mesh, case| {
                let path = format!("/devices/{}", case.target.uuid);
                given(&case.ask(mesh, "PUT", &path, Some(json!({"x": 1}))), 403)
            },
        },
        Probe {
            name: "POST /devices/:uuid/tokens",
            access: "configure.update",
            can_act: true,
            run: |mesh, case| {
                let path = format!("/devices/{}/tokens", case.target.uuid);
                given(&case.ask(mesh, "POST", &path, None), 403)
            },
        },
        Probe {
            name: "GET /devices/:uuid/subscriptions",
            access: "configure.update",
            can_act: true,
            run: |mesh, case| {
                let path = format!("/devices/{}/subscriptions", case.target.uuid);
                given(&case.ask(mesh, "GET", &path, None), 403)
            },
        },
        Probe {
            name: "POST /claimdevice/:uuid",
            access: "configure.update",
            can_act: true,
            run: |mesh, case| {
                let path = format!("/claimdevice/{}", one_more_device(mesh, case));
                given(&case.ask(mesh, "POST", &path, None), 403)
            },
        },
        Probe {
            name: "DELETE /devices/:uuid",
            access: "configure.update",
            can_act: true,
            run: |mesh, case| {
                let path = format!("/devices/{}", one_more_device(mesh, case));
                given(&case.ask(mesh, "DELETE", &path, None), 403)
            },
        },
        Probe {
            name: "socket unregister",
            access: "configure.update",
            can_act: false,
            run: |mesh, case| {
                let uuid = one_more_device(mesh, case);
                let socket = mesh.socket(&case.actor);
                socket.send(json!({"event": "unregister", "uuid": uuid}));
                let heard = socket.all();
                socket.client.cut();
                !heard.iter().any(|event| event["event"] == "error")
            },
        },
        Probe {
            name: "POST /messages",
            access: "message.from",
            can_act: true,
            run: |mesh, case| {
                let mut is_sent = true;
                let is_heard = hears(mesh, case, || {
                    let body = json!({"devices": [case.target.uuid], "payload": 1});
                    let answer = case.ask(mesh, "POST", "/messages", Some(body));
                    assert!(answer.status == 200 || case.subject.is_some());
                });
                is_sent &= is_heard;
                is_sent
            },
        },
        Probe {
            name: "socket message",
            access: "message.from",
            can_act: false,
            run: |mesh, case| {
                hears(mesh, case, || {
                    let socket = mesh.socket(&case.actor);
                    let devices = [&case.target.uuid];
                    socket.send(json!({"event": "message", "devices": devices, "payload": 1}));
                    socket.client.cut();
                })
            },
        },
        Probe {
            name: "MQTT message",
            access: "message.from",
            can_act: false,
            run: |mesh, case| {
                hears(mesh, case, || {
                    let client = mesh.mqtt(&case.actor);
                    let topic = format!("{}/message", case.actor.uuid);
                    let body = json!({"devices": [case.target.uuid], "payload": 1});
                    let reason = client.publish(&topic, &body.to_string(), 1);
                    assert_eq!(reason, ReasonCode::Success);
                    client.disconnect();
                })
            },
        },
    ];
    probes.extend(subscriptions!(
        "configure.sent",
        "configure.received",
        "message.sent",
        "message.received",
        "broadcast.sent",
        "broadcast.received"
    ));
    probes
}

/// What else the device must allow for the probe to be about this leave alone.
fn also_needed(access: &str) -> &'static [&'static str] {
    match access {
        "broadcast.as" => &["message.as"],
        _ => &[],
    }
}

fn case(mesh: &Mesh<'_>, access: &str, who: Who) -> Case {
    let nobody = mesh.register(json!({}));
    let actor = mesh.register_closed(&[]);
    let subject = who.acts().then(|| {
        let leaves: Vec<(&str, &str)> = ACCESS
            .iter()
            .filter(|access| access.ends_with(".as"))
            .map(|access| (*access, &*actor.uuid))
            .collect();
        match who {
            Who::Acting => mesh.register_closed(&leaves),
            _ => mesh.register_closed(&[]),
        }
    });
    let doer = subject.as_ref().unwrap_or(&actor);
    let mut leaves: Vec<(&str, &str)> = Vec::new();
    match who {
        Who::Oneself => {}
        Who::Anybody => leaves.push((access, "*")),
        Who::Listed | Who::Acting | Who::ActingUnasked => leaves.push((access, &doer.uuid)),
        Who::Stranger => {
            leaves.push((access, &nobody.uuid));
            let others = ACCESS.iter().filter(|other| **other != access);
            leaves.extend(others.map(|other| (*other, &*doer.uuid)));
        }
    }
    if who != Who::Oneself {
        leaves.extend(also_needed(access).iter().map(|also| (*also, "*")));
    }
    let target = mesh.register_closed(&leaves);
    let actor = match who {
        Who::Oneself => target.clone(),
        _ => actor,
    };
    Case {
        target,
        actor,
        subject,
    }
}

#[test]
fn every_leave_is_given_to_those_listed_and_to_nobody_else() {
    for shards in [1, 3] {
        let w = World::with(shards, |config| config.mesh.registrations_max = u32::MAX);
        let mesh = Mesh::new(&w);
        let mut tried = std::collections::BTreeSet::new();
        for probe in probes() {
            for who in WHO {
                if who.acts() && !probe.can_act {
                    continue;
                }
                let case = case(&mesh, probe.access, who);
                let given = (probe.run)(&mesh, &case);
                let (name, access) = (probe.name, probe.access);
                assert_eq!(
                    given,
                    who.may(),
                    "{name} ({access}) by {who:?}, {shards} shards"
                );
            }
            tried.insert(probe.access);
        }
        assert!(
            tried
                .iter()
                .eq(ACCESS.iter().collect::<std::collections::BTreeSet<_>>())
        );
    }
}
