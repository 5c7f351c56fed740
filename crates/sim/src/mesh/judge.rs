//! Whether an answer may be: what must be refused is refused, what is allowed is done, and nobody
//! is shown what is hidden from them.

use super::model::{LISTS, Maybe, Model, Step, Token, list, list_of};
use super::request::{Request, What, mask_of};
use anyhow::{Result, bail, ensure};
use serde_json::Value;

/// How a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was done.
    Done,
    /// The credentials are wrong.
    Unauthorized,
    /// There is no leave, or no such device.
    Denied,
    /// One of the two: a socket does not tell.
    Refused,
}

/// The conditions of a request: credentials first, then leaves.
fn conditions(model: &Model, request: &Request, a: Step, b: Step) -> (Maybe, Vec<Maybe>) {
    let credentials = match request.actor {
        Some((device, token)) if request.is_known => Maybe {
            can: true,
            must: model.is_valid(device, token, a, b).must,
        },
        Some((device, token)) => model.is_valid(device, token, a, b),
        None => Maybe::YES,
    };
    let Some(subject) = request.subject() else {
        return (credentials, Vec::new());
    };
    let allows = |device, name, actor| model.allows(device, list(name), actor, a, b);
    let mut leaves = Vec::new();
    if let (Some((actor, _)), Some(other)) = (request.actor, request.acting_as) {
        let is_broadcast = matches!(request.what, What::Broadcast | What::Message(_, true));
        let name = match request.what {
            What::Message(..) | What::Broadcast => "message.as",
            What::Whoami | What::Get(_) | What::Search | What::Subscriptions(_) => "discover.as",
            _ => "configure.as",
        };
        leaves.push(allows(other, name, actor));
        if is_broadcast {
            leaves.push(allows(other, "broadcast.as", actor));
        }
    }
    let update = |device| allows(device, "configure.update", subject);
    match &request.what {
        What::Whoami => leaves.push(model.exists(subject, a, b)),
        What::Get(device) => leaves.push(allows(*device, "discover.view", subject)),
        What::SetLists(device, _)
        | What::SetList(device, ..)
        | What::SetProperty(device, _)
        | What::Unregister(device)
        | What::Generate(device, _)
        | What::RevokeTagged(device, _)
        | What::Reset(device) => leaves.push(update(*device)),
        What::Revoke(device, token) => {
            leaves.push(update(*device));
            leaves.push(model.is_valid(*device, *token, a, b));
        }
        What::Claim(device) => {
            leaves.push(update(*device));
            leaves.push(unclaimed(model, *device, a, b));
        }
        What::Subscribe(emitter, subscriber, kind) => {
            if *subscriber != subject {
                leaves.push(update(*subscriber));
            }
            leaves.push(model.allows(*emitter, list_of(*kind), *subscriber, a, b));
        }
        What::Unsubscribe(_, subscriber, _)
        | What::UnsubscribeAll(subscriber, _)
        | What::Subscriptions(subscriber)
            if *subscriber != subject =>
        {
            leaves.push(update(*subscriber));
        }
        _ => {}
    }
    (credentials, leaves)
}

/// Whether a device has no owner.
fn unclaimed(model: &Model, device: usize, a: Step, b: Step) -> Maybe {
    let owners = model.possible(&model.devices[device].owner, a, b);
    Maybe {
        can: owners.contains(&None),
        must: owners.iter().all(Option::is_none),
    }
}

/// Whether a request may be answered like this.
///
/// # Errors
/// It may not.
pub fn judge(model: &mut Model, request: &Request, verdict: Verdict, now: Step) -> Result<()> {
    let a = model.times[request.op].from;
    // What it asks for is no leave to ask for it.
    model.times[request.op].is_void = true;
    let (credentials, leaves) = conditions(model, request, a, now);
    model.times[request.op].is_void = false;
    let can = leaves.iter().all(|leave| leave.can);
    let must = leaves.iter().all(|leave| leave.must);
    let fault = match verdict {
        Verdict::Done if !credentials.can => "done with a token that is worth nothing",
        Verdict::Done if !can => "done without leave",
        Verdict::Unauthorized if credentials.must => "unauthorized, with a good token",
        Verdict::Denied if !credentials.can => "denied only, with a token that is worth nothing",
        Verdict::Denied if must => "denied what is allowed",
        Verdict::Refused if credentials.must && must => "refused what is allowed",
        _ => return Ok(()),
    };
    bail!("request {} of step {a}: {fault}: {request:?}", request.op)
}

/// Whether a document may look like this.
///
/// # Errors
/// It may not.
pub fn check_view(model: &Model, view: &Value, a: Step, b: Step) -> Result<usize> {
    let uuid = view["uuid"].as_str().unwrap_or_default();
    let Some(device) = model.find(uuid) else {
        bail!("a document of nobody: {view}")
    };
    ensure!(view.get("token").is_none(), "a document with a token");
    let known = &model.devices[device];
    for (name, register) in [
        ("stamp", &known.stamp),
        ("p0", &known.properties[0]),
        ("p1", &known.properties[1]),
    ] {
        let possible = model.possible(register, a, b);
        let is_possible = view[name].as_u64().is_some_and(|it| possible.contains(&it));
        let shown = &view[name];
        ensure!(
            is_possible,
            "device {device}: {name} is {shown}, not one of {possible:?}"
        );
    }
    for (at, name) in LISTS.iter().enumerate() {
        let (category, short) = name.split_once('.').expect("all names have two parts");
        let shown = &view["meshblu"]["whitelists"][category][short];
        let possible = model.possible(&known.lists[at], a, b);
        ensure!(
            mask_of(model, shown).is_some_and(|mask| possible.contains(&mask)),
            "device {device}: {name} is {shown}, not one of {possible:x?}"
        );
    }
    Ok(device)
}

/// Takes in what an answer tells beside that it was done.
///
/// # Errors
/// It tells what cannot be, or what is hidden.
pub fn learn(model: &mut Model, request: &Request, body: &Value, now: Step) -> Result<()> {
    let a = model.times[request.op].from;
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    match &request.what {
        What::Whoami => {
            let shown = check_view(model, body, a, now)?;
            ensure!(Some(shown) == request.subject(), "somebody else's document");
        }
        What::Get(device) => {
            let shown = check_view(model, body, a, now)?;
            ensure!(shown == *device, "another device's document");
        }
        What::SetLists(device, _) | What::SetProperty(device, _) if body.is_object() => {
            let shown = check_view(model, body, a, now)?;
            ensure!(shown == *device, "another device's document");
            let is_own = body["stamp"] == request.op as u64;
            ensure!(is_own, "the answer to update {} is {body}", request.op);
        }
        What::Search => check_search(model, request, body, a, now)?,
        What::Subscriptions(device) => check_subscriptions(model, *device, body, a, now)?,
        What::Register(lists) => {
            let (uuid, token) = (text("uuid"), text("token"));
            ensure!(token.len() == 40 && uuid.len() == 36, "no device: {body}");
            ensure!(model.find(&uuid).is_none(), "a UUID for the second time");
            model.add(request.op, &uuid, &token, lists);
        }
        What::Generate(device, _) | What::Reset(device) => {
            let (token, uuid) = (text("token"), text("uuid"));
            ensure!(token.len() == 40, "no token: {body}");
            let owner = &mut model.devices[*device];
            ensure!(uuid == owner.uuid, "a token of somebody else");
            let is_root = matches!(request.what, What::Reset(_));
            let tag = match &request.what {
                What::Generate(_, tag) => *tag,
                _ => None,
            };
            owner.tokens.push(Token {
                text: token,
                made: request.op,
                tag,
                is_root,
            });
        }
        _ => {}
    }
    Ok(())
}

fn check_search(model: &Model, request: &Request, body: &Value, a: Step, b: Step) -> Result<()> {
    let subject = request.subject().expect("somebody searches");
    let Some(views) = body.as_array() else {
        bail!("no documents: {body}")
    };
    let visible = |device| model.allows(device, list("discover.view"), subject, a, b);
    let mut shown = Vec::new();
    for view in views {
        let uuid = view["uuid"].as_str().unwrap_or_default();
        if model.find(uuid).is_none() {
            // Registered, but nobody was told yet, or ever.
            let op = view["stamp"].as_u64().unwrap_or(0) as usize;
            let when = model.times.get(op).filter(|_| op != 0);
            ensure!(
                when.is_some_and(|when| !when.is_void && !when.is_sure),
                "a document of nobody: {view}"
            );
            continue;
        }
        let device = check_view(model, view, a, b)?;
        ensure!(
            visible(device).can,
            "device {device} is hidden from {subject}"
        );
        ensure!(!shown.contains(&device), "device {device} is found twice");
        shown.push(device);
    }
    for device in 0..model.devices.len() {
        ensure!(
            shown.contains(&device) || !visible(device).must,
            "device {device} is not found by {subject}"
        );
    }
    Ok(())
}

fn check_subscriptions(
    model: &Model,
    subscriber: usize,
    body: &Value,
    a: Step,
    b: Step,
) -> Result<()> {
    let Some(listed) = body.as_array() else {
        bail!("no subscriptions: {body}")
    };
    let uuid = |device: usize| &*model.devices[device].uuid;
    for key in model.keys().filter(|key| key.1 == subscriber) {
        let is_listed = listed.iter().any(|one| {
            one["emitterUuid"] == uuid(key.0)
                && one["subscriberUuid"] == uuid(key.1)
                && one["type"] == super::model::KINDS[key.2]
        });
        let hears = model.hears(key, a, b);
        let there = model.exists(key.0, a, b).and(model.exists(key.1, a, b));
        let is_right = match is_listed {
            true => hears.can && model.exists(key.0, a, b).can,
            false => !(hears.must && there.must),
        };
        ensure!(is_right, "subscription {key:?}: listed {is_listed}");
    }
    let known = model.keys().filter(|key| key.1 == subscriber).count();
    ensure!(listed.len() <= known, "unknown subscriptions: {body}");
    Ok(())
}
