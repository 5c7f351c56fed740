//! What each command asks of the server, as values; nothing is sent here.

use crate::arguments::{ClientCommand, TokenCommand};
use crate::failure::Failure;
use crate::settings::Settings;
use serde_json::{Map, Value, json};
use std::io::Read;

/// The longest JSON that is read from a file or stdin, in bytes; servers take less.
const DATA_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A request.
#[derive(Debug, PartialEq)]
pub struct Call {
    /// GET, POST, PUT or DELETE.
    pub method: &'static str,
    /// The path, escaped.
    pub path: String,
    /// The body.
    pub body: Option<Value>,
    /// Whether it is refused without credentials before it is sent.
    pub needs_credentials: bool,
}

impl Call {
    fn new(method: &'static str, segments: &[&str], body: Option<Value>) -> Self {
        let path = segments
            .iter()
            .map(|segment| format!("/{}", escape(segment)));
        Self {
            method,
            path: path.collect(),
            body,
            needs_credentials: true,
        }
    }

    /// A request that needs no credentials; they are sent if there are any.
    pub fn open(method: &'static str, segments: &[&str], body: Option<Value>) -> Self {
        Self {
            needs_credentials: false,
            ..Self::new(method, segments, body)
        }
    }
}

/// The one request that carries out `command`. Those that are more than a request are not for here.
pub fn call(command: &ClientCommand, settings: &Settings) -> Result<Call, Failure> {
    let own_unless = |device: &Option<String>| match device {
        Some(device) => Ok(device.clone()),
        None => settings.own_uuid().map(str::to_owned),
    };
    let get = |segments: &[&str]| Call::new("GET", segments, None);
    let post = |segments: &[&str], body| Call::new("POST", segments, body);
    let delete = |segments: &[&str]| Call::new("DELETE", segments, None);
    Ok(match command {
        ClientCommand::Whoami(_) => get(&["whoami"]),
        ClientCommand::Mydevices(_) => get(&["mydevices"]),
        ClientCommand::Status(_) => Call::open("GET", &["status"], None),
        ClientCommand::Get(named) => get(&["devices", &named.device]),
        ClientCommand::Claim(named) => post(&["claimdevice", &named.device], None),
        ClientCommand::Unregister(about) => delete(&["devices", &own_unless(&about.device)?]),
        ClientCommand::Update(update) => {
            let body = object(&update.data)?;
            Call::new(
                "PUT",
                &["devices", &own_unless(&update.device)?],
                Some(body),
            )
        }
        ClientCommand::Search(search) => post(&["devices", "search"], Some(object(&search.data)?)),
        ClientCommand::Message(message) => post(&["messages"], Some(message_of(&message.data)?)),
        ClientCommand::Subscriptions(about) => {
            get(&["devices", &own_unless(&about.device)?, "subscriptions"])
        }
        ClientCommand::Subscribe(subscribe) => {
            let (own, kind) = (settings.own_uuid()?, subscribe.kind.hyphenated());
            let body = json!({
                "emitterUuid": subscribe.emitter,
                "subscriberUuid": own,
                "type": kind,
            });
            post(&["devices", own, "subscriptions"], Some(body))
        }
        ClientCommand::Unsubscribe(ended) => {
            let kind = ended.kind.hyphenated();
            let own = settings.own_uuid()?;
            delete(&["devices", own, "subscriptions", &ended.emitter, &kind])
        }
        ClientCommand::Token(token) => match token {
            TokenCommand::Generate(wanted) => {
                let body = present([
                    ("expiresOn", wanted.expires_on.map(Value::from)),
                    ("tag", wanted.tag.clone().map(Value::from)),
                ]);
                post(
                    &["devices", &own_unless(&wanted.device)?, "tokens"],
                    Some(body),
                )
            }
            TokenCommand::List(list) => {
                let body = present([("tag", list.tag.clone().map(Value::from))]);
                post(&["search", "tokens"], Some(body))
            }
            TokenCommand::Revoke(revoke) => {
                let device = own_unless(&revoke.device)?;
                delete(&["devices", &device, "tokens", &revoke.revoked])
            }
            TokenCommand::Reset(about) => {
                post(&["devices", &own_unless(&about.device)?, "token"], None)
            }
        },
        ClientCommand::Register(_) | ClientCommand::Config(_) => {
            unreachable!("these are more than a request")
        }
    })
}

/// An object of those fields that have a value.
fn present<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let fields = fields.into_iter();
    let present = fields.filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(present.collect())
}

/// What `-d` says: text, `@FILE`, or `-` for stdin. It must be a JSON object.
pub fn object(data: &str) -> Result<Value, Failure> {
    let (name, text) = match data.strip_prefix('@') {
        _ if data == "-" => ("stdin", read("stdin", Ok(std::io::stdin()))?),
        Some(path) => (path, read(path, std::fs::File::open(path))?),
        None => ("--data", data.to_owned()),
    };
    let object: Result<Map<String, Value>, _> = serde_json::from_str(&text);
    let bad = |error| Failure::Usage(format!("{name}: expected a JSON object: {error}"));
    object.map(Value::Object).map_err(bad)
}

fn read(name: &str, source: std::io::Result<impl Read>) -> Result<String, Failure> {
    let mut text = String::new();
    let result = source.and_then(|source| source.take(DATA_BYTES_MAX).read_to_string(&mut text));
    let bad = |error| Failure::Usage(format!("{name}: {error}"));
    result.map(|_| text).map_err(bad)
}

/// What `message -d` says. To leave `devices` out is the usual mistake, and worth its own words.
fn message_of(data: &str) -> Result<Value, Failure> {
    let message = object(data)?;
    if message["devices"].is_array() {
        return Ok(message);
    }
    let why = "--data: a message needs `devices`, an array of uuids, or of \"*\" for everybody who \
               subscribes: '{\"devices\":[\"*\"],\"payload\":1}'";
    Err(Failure::Usage(why.to_owned()))
}

/// Escapes what has a meaning in a path. A uuid or a token has nothing of it; whatever else is
/// given as one must not become another route.
fn escape(segment: &str) -> String {
    let mut escaped = String::with_capacity(segment.len());
    for &byte in segment.as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Connection;
    use crate::sources::Layer;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        command: ClientCommand,
    }

    fn call_of(line: &[&str]) -> Result<Call, Failure> {
        let layer = Layer {
            uuid: Some("me".to_owned()),
            ..Layer::default()
        };
        let settings = Settings::resolve(&Connection::default(), &[layer]).unwrap();
        let words = ["meshring"].iter().chain(line);
        call(&Line::try_parse_from(words).unwrap().command, &settings)
    }

    #[track_caller]
    fn check(line: &[&str], expected: &str) {
        let call = call_of(line).unwrap();
        let body = call.body.map_or(String::new(), |body| format!(" {body}"));
        assert_eq!(format!("{} {}{body}", call.method, call.path), expected);
    }

    #[test]
    fn commands_become_requests() {
        check(&["whoami"], "GET /whoami");
        check(&["mydevices"], "GET /mydevices");
        check(&["status"], "GET /status");
        check(&["get", "a"], "GET /devices/a");
        check(&["claim", "a"], "POST /claimdevice/a");
        check(&["unregister"], "DELETE /devices/me");
        check(&["unregister", "a"], "DELETE /devices/a");
        check(
            &["update", "-d", r#"{"x":1}"#],
            r#"PUT /devices/me {"x":1}"#,
        );
        check(&["update", "a", "-d", "{}"], "PUT /devices/a {}");
        check(&["search"], "POST /devices/search {}");
        check(
            &["search", "--query", r#"{"x":1}"#],
            r#"POST /devices/search {"x":1}"#,
        );
        check(
            &["message", "-d", r#"{"devices":["*"]}"#],
            r#"POST /messages {"devices":["*"]}"#,
        );
        check(&["subscriptions"], "GET /devices/me/subscriptions");
        let subscribed = r#"{"emitterUuid":"a","subscriberUuid":"me","type":"message-sent"}"#;
        for kind in ["message.sent", "message-sent"] {
            let expected = format!("POST /devices/me/subscriptions {subscribed}");
            check(&["subscribe", "a", kind], &expected);
            let expected = "DELETE /devices/me/subscriptions/a/message-sent";
            check(&["unsubscribe", "a", kind], expected);
        }
    }

    #[test]
    fn commands_about_tokens_become_requests() {
        check(&["token", "generate"], "POST /devices/me/tokens {}");
        let options = ["token", "generate", "a", "--expires-on", "7", "--tag", "t"];
        check(
            &options,
            r#"POST /devices/a/tokens {"expiresOn":7,"tag":"t"}"#,
        );
        check(&["token", "list"], "POST /search/tokens {}");
        check(
            &["token", "list", "--tag", "t"],
            r#"POST /search/tokens {"tag":"t"}"#,
        );
        check(&["token", "revoke", "t"], "DELETE /devices/me/tokens/t");
        check(&["token", "revoke", "a", "t"], "DELETE /devices/a/tokens/t");
        check(&["token", "reset"], "POST /devices/me/token");
    }

    #[test]
    fn nothing_that_is_given_becomes_another_route() {
        check(
            &["get", "a/../../status?x#y"],
            "GET /devices/a%2F%2E%2E%2F%2E%2E%2Fstatus%3Fx%23y",
        );
        check(&["get", ".."], "GET /devices/%2E%2E");
        check(
            &["token", "revoke", "é b"],
            "DELETE /devices/me/tokens/%C3%A9%20b",
        );
    }

    #[test]
    fn data_must_be_an_object() {
        for data in ["", "{", "[]", "7", "@no/such/file", "{} {}"] {
            let failure = call_of(&["update", "-d", data]).unwrap_err();
            assert_eq!(failure.exit_code(), 2, "{data}");
        }
        for data in [r#"{"payload":1}"#, r#"{"devices":"*"}"#] {
            let failure = call_of(&["message", "-d", data]).unwrap_err();
            assert!(failure.to_string().contains("needs `devices`"));
        }
    }

    #[test]
    fn data_may_be_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("properties.json");
        std::fs::write(&path, "{\"x\": 1}\n").unwrap();
        let data = format!("@{}", path.display());
        check(&["update", "-d", &data], r#"PUT /devices/me {"x":1}"#);
    }

    #[test]
    fn the_flags_are_sound() {
        use clap::CommandFactory;
        Line::command().debug_assert();
    }
}
