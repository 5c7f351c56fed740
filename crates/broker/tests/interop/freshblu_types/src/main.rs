//! Answers of a server, read with the types of FreshBlu's Rust crates: `freshblu-types
//! HTTP_ADDRESS`.
//!
//! FreshBlu's Rust client, freshblu-client, is in no registry. What it does is sent here, request by
//! request and frame by frame, and the answers are read into the types that it uses, of
//! freshblu-core, which are stricter than a look at single fields: each must have all that a type
//! has. Each check leaves a line, `ok NAME` or `FAIL NAME: why`, which run_freshblu.py counts.

use freshblu_core::{DeviceEvent, DeviceView, RegisterResponse, Subscription, SubscriptionType};
use serde_json::{Value, json};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use tungstenite::{Message, WebSocket, stream::MaybeTlsStream};

type Outcome<T> = Result<T, String>;

const KINDS: [SubscriptionType; 8] = [
    SubscriptionType::BroadcastSent,
    SubscriptionType::BroadcastReceived,
    SubscriptionType::ConfigureSent,
    SubscriptionType::ConfigureReceived,
    SubscriptionType::MessageSent,
    SubscriptionType::MessageReceived,
    SubscriptionType::UnregisterSent,
    SubscriptionType::UnregisterReceived,
];

fn main() -> std::process::ExitCode {
    let address = std::env::args().nth(1).expect("the address of HTTP");
    let checks: [(&str, fn(&str) -> Outcome<()>); 5] = [
        ("devices_have_every_field", devices),
        ("a_claimed_device_is_a_device", claimed),
        ("subscriptions_have_every_field", subscriptions),
        ("tokens_have_every_field", tokens),
        ("events_have_every_field", events),
    ];
    let mut failed = 0;
    for (name, check) in checks {
        let start = Instant::now();
        match check(&address) {
            Ok(()) => println!("ok freshblu rust types {name} ({:.2?})", start.elapsed()),
            Err(why) => {
                failed += 1;
                println!(
                    "FAIL freshblu rust types {name}: {}",
                    why.replace('\n', " ")
                );
            }
        }
    }
    std::process::ExitCode::from(u8::from(failed > 0))
}

/// A registered device, and how to ask for something as it.
struct Device {
    url: String,
    agent: ureq::Agent,
    registered: RegisterResponse,
}

impl Device {
    fn new(address: &str, properties: Value) -> Outcome<Self> {
        let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(20)));
        let agent = config.build().new_agent();
        let url = format!("http://{address}");
        let answer = send(
            &agent,
            "POST",
            &format!("{url}/devices"),
            None,
            Some(properties),
        )?;
        let registered = read(answer)?;
        Ok(Self {
            url,
            agent,
            registered,
        })
    }

    fn uuid(&self) -> String {
        self.registered.uuid.to_string()
    }

    /// The answer to a request of this device.
    fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Outcome<Value> {
        let url = format!("{}{path}", self.url);
        // The older of FreshBlu's two ways to say who asks.
        let credentials = (self.uuid(), self.registered.token.clone());
        send(&self.agent, method, &url, Some(credentials), body)
    }

    /// An identified WebSocket.
    fn connect(&self) -> Outcome<Socket> {
        let url = format!("{}/ws", self.url.replace("http", "ws"));
        let (mut socket, _) = tungstenite::connect(url).map_err(|error| error.to_string())?;
        if let MaybeTlsStream::Plain(tcp) = socket.get_mut() {
            let limited = tcp.set_read_timeout(Some(Duration::from_secs(20)));
            limited.map_err(|error| error.to_string())?;
        }
        let mut socket = Socket(socket);
        let (uuid, token) = (self.uuid(), &self.registered.token);
        socket.send(json!({ "event": "identity", "uuid": uuid, "token": token }))?;
        match socket.event()? {
            DeviceEvent::Ready { uuid, .. } if uuid == self.registered.uuid => Ok(socket),
            other => Err(format!("not ready: {other:?}")),
        }
    }
}

struct Socket(WebSocket<MaybeTlsStream<TcpStream>>);

impl Socket {
    fn send(&mut self, frame: Value) -> Outcome<()> {
        let sent = self.0.send(Message::text(frame.to_string()));
        sent.map_err(|error| error.to_string())
    }

    fn event(&mut self) -> Outcome<DeviceEvent> {
        loop {
            match self.0.read().map_err(|error| error.to_string())? {
                Message::Text(text) => {
                    return serde_json::from_str(&text)
                        .map_err(|error| format!("{error} in {text}"));
                }
                _ => continue,
            }
        }
    }
}

fn send(
    agent: &ureq::Agent,
    method: &str,
    url: &str,
    credentials: Option<(String, String)>,
    body: Option<Value>,
) -> Outcome<Value> {
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    request = request.header("Content-Type", "application/json");
    if let Some((uuid, token)) = credentials {
        request = request
            .header("skynet_auth_uuid", uuid)
            .header("skynet_auth_token", token);
    }
    let body = body.map_or(String::new(), |body| body.to_string());
    let request = request.body(body).map_err(|error| error.to_string())?;
    let request = match method {
        // Nobody sends a body with these.
        "GET" | "DELETE" => agent.run(request.map(|_| ())),
        _ => agent.run(request),
    };
    let mut answer = request.map_err(|error| format!("{method} {url}: {error}"))?;
    let text = answer
        .body_mut()
        .read_to_string()
        .map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| format!("{method} {url}: {error} in {text}"))
}

fn read<T: for<'a> serde::Deserialize<'a>>(answer: Value) -> Outcome<T> {
    let text = answer.to_string();
    serde_json::from_value(answer).map_err(|error| format!("{error} in {text}"))
}

fn that(condition: bool, what: &str) -> Outcome<()> {
    condition.then_some(()).ok_or_else(|| what.to_owned())
}

fn devices(address: &str) -> Outcome<()> {
    let device = Device::new(address, json!({ "type": "rust", "n": 1 }))?;
    that(
        device.registered.properties["n"] == 1,
        "a property is not kept",
    )?;
    let path = format!("/devices/{}", device.uuid());
    let me: DeviceView = read(device.ask("GET", "/whoami", None)?)?;
    let same: DeviceView = read(device.ask("GET", &path, None)?)?;
    that(me == same, "whoami and get differ")?;
    that(me.device_type.as_deref() == Some("rust"), "another type")?;
    let updated: DeviceView = read(device.ask("PUT", &path, Some(json!({ "n": 2 })))?)?;
    that(updated.meshblu.updated_at.is_some(), "no updatedAt")?;
    that(updated.meshblu.hash != me.meshblu.hash, "the hash stays")?;
    let query = json!({ "type": "rust", "n": 2 });
    let found: Vec<DeviceView> = read(device.ask("POST", "/devices/search", Some(query))?)?;
    that(found.contains(&updated), "not found")
}

fn claimed(address: &str) -> Outcome<()> {
    let (device, found) = (
        Device::new(address, json!({}))?,
        Device::new(address, json!({}))?,
    );
    let path = format!("/claimdevice/{}", found.uuid());
    let claimed: DeviceView = read(device.ask("POST", &path, None)?)?;
    that(
        claimed.meshblu.owner == Some(device.registered.uuid),
        "another owner",
    )?;
    let mine: Vec<DeviceView> = read(device.ask("GET", "/mydevices", None)?)?;
    that(mine.len() == 2, "not both in mydevices")
}

fn subscriptions(address: &str) -> Outcome<()> {
    let (device, emitter) = (
        Device::new(address, json!({}))?,
        Device::new(address, json!({}))?,
    );
    let path = format!("/devices/{}/subscriptions", device.uuid());
    for kind in KINDS {
        let body = json!({
            "subscriberUuid": device.uuid(),
            "emitterUuid": emitter.uuid(),
            "type": kind,
        });
        let made: Subscription = read(device.ask("POST", &path, Some(body))?)?;
        that(made.subscription_type == kind, "another type")?;
    }
    let all: Vec<Subscription> = read(device.ask("GET", &path, None)?)?;
    that(all.len() == KINDS.len(), "not all are listed")?;
    for kind in KINDS {
        // Its client writes the type as Rust does: BroadcastSent.
        let path = format!("{path}/{}/{kind:?}", emitter.uuid());
        let answer = device.ask("DELETE", &path, None)?;
        that(answer["deleted"] == true, &format!("{path}: {answer}"))?;
    }
    let none: Vec<Subscription> = read(device.ask("GET", &path, None)?)?;
    that(none.is_empty(), "not all are deleted")
}

fn tokens(address: &str) -> Outcome<()> {
    let device = Device::new(address, json!({}))?;
    for path in ["tokens", "token"] {
        let path = format!("/devices/{}/{path}", device.uuid());
        let made = device.ask("POST", &path, Some(json!({})))?;
        that(made["uuid"] == device.uuid(), "another uuid")?;
        that(made["token"].is_string(), "no token")?;
    }
    Ok(())
}

fn events(address: &str) -> Outcome<()> {
    let (one, two) = (
        Device::new(address, json!({}))?,
        Device::new(address, json!({}))?,
    );
    let (mut sender, mut receiver) = (one.connect()?, two.connect()?);
    sender.send(json!({ "event": "message", "devices": [two.uuid()], "payload": { "n": 1 } }))?;
    match receiver.event()? {
        DeviceEvent::Message(message) => {
            that(
                message.from_uuid == Some(one.registered.uuid),
                "another sender",
            )?;
            that(
                message.payload == Some(json!({ "n": 1 })),
                "another payload",
            )?;
        }
        other => return Err(format!("no message: {other:?}")),
    }
    let body = json!({
        "subscriberUuid": two.uuid(),
        "emitterUuid": one.uuid(),
        "type": "broadcast-sent",
    });
    two.ask(
        "POST",
        &format!("/devices/{}/subscriptions", two.uuid()),
        Some(body),
    )?;
    // What its client sends, and its own server passes over.
    sender.send(json!({ "event": "broadcast", "payload": 5 }))?;
    match receiver.event()? {
        DeviceEvent::Broadcast(message) => {
            that(message.payload == Some(json!(5)), "another payload")?
        }
        other => return Err(format!("no broadcast: {other:?}")),
    }
    two.ask(
        "PUT",
        &format!("/devices/{}", two.uuid()),
        Some(json!({ "n": 3 })),
    )?;
    match receiver.event()? {
        DeviceEvent::Config { device } => that(device.properties["n"] == 3, "the old device"),
        other => Err(format!("no config: {other:?}")),
    }
}
