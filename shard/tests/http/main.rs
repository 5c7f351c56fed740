//! The HTTP interface as its clients see it: bytes in, answers out, over one shard and over
//! several.

mod anything;
mod api;
mod connection;
mod dialects;
#[path = "../support/mod.rs"]
mod support;

use serde_json::Value;
use shard::DeviceId;
use support::{Client, V5, World};

/// An HTTP client with one connection.
pub struct Http(Client);

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Of its first line.
    pub status: u16,
    /// Lines of the head behind the first.
    pub head: String,
    /// As long as its length says.
    pub body: Vec<u8>,
}

/// A device and what shows that one is it.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its UUID.
    pub uuid: String,
    /// Its token.
    pub token: String,
}

impl Http {
    /// Connects.
    pub fn new(world: &World) -> Http {
        let client = world.client(V5, "http");
        client.open_http();
        Http(client)
    }

    /// Sends bytes as they are.
    pub fn send(&self, text: &str) {
        self.0.send_raw(text.as_bytes());
    }

    /// Sends a request and returns its answer.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str, lines: &str, body: &str) -> Answer {
        let length = match body.is_empty() {
            true => String::new(),
            false => format!("Content-Length: {}\r\n", body.len()),
        };
        self.send(&format!(
            "{method} {path} HTTP/1.1\r\nHost: h\r\n{lines}{length}\r\n{body}"
        ));
        let mut answers = self.answers(method == "HEAD");
        assert_eq!(answers.len(), 1, "{method} {path}: {answers:?}");
        answers.remove(0)
    }

    /// The same on behalf of a device.
    #[track_caller]
    pub fn call(&self, device: &Known, method: &str, path: &str, body: &str) -> Answer {
        self.request(method, path, &device.lines(), body)
    }

    /// Registers a device.
    #[track_caller]
    pub fn register(&self, document: &str) -> Known {
        let answer = self.request("POST", "/devices", "", document);
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
        let view = answer.json();
        let text = |name: &str| view[name].as_str().expect("a text").to_owned();
        Known {
            uuid: text("uuid"),
            token: text("token"),
        }
    }

    /// All whole answers that have come; nothing else may have.
    #[track_caller]
    pub fn answers(&self, is_head: bool) -> Vec<Answer> {
        let raw = self.0.take_raw();
        let (mut rest, mut answers) = (&raw[..], Vec::new());
        while !rest.is_empty() {
            answers.push(Answer::take(&mut rest, is_head));
        }
        answers
    }

    /// What has come, as it is.
    pub fn raw(&self) -> String {
        String::from_utf8(self.0.take_raw()).expect("text")
    }

    /// Whether the server has closed the connection.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

impl Known {
    /// A header that shows who it is.
    pub fn lines(&self) -> String {
        let (uuid, token) = (&self.uuid, &self.token);
        format!("meshblu_auth_uuid: {uuid}\r\nmeshblu_auth_token: {token}\r\n")
    }
}

impl Answer {
    #[track_caller]
    fn take(rest: &mut &[u8], is_head: bool) -> Answer {
        let end = rest.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no head: {}", String::from_utf8_lossy(rest)));
        let text = std::str::from_utf8(&rest[..end + 2]).expect("text");
        let (line, head) = text.split_once("\r\n").expect("a status line");
        let status = line.strip_prefix("HTTP/1.1 ").expect("a status line")[..3].parse();
        let head = head.to_owned();
        *rest = &rest[end + 4..];
        let mut answer = Answer {
            status: status.expect("a status"),
            head,
            body: Vec::new(),
        };
        if let (false, Some(length)) = (is_head, answer.header("content-length")) {
            let (body, left) = rest.split_at(length.parse().expect("a length"));
            answer.body = body.to_vec();
            *rest = left;
        }
        answer
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    /// The body, which must be JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// An error must be of this status and say why in JSON.
    #[track_caller]
    pub fn expect_error(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        let body = self.json();
        let object = body.as_object().expect("an object");
        assert_eq!(object.len(), 1, "{body}");
        body["error"].as_str().expect("a text").to_owned()
    }
}

/// The UUID of no device.
pub fn nobody() -> String {
    DeviceId([7; 16]).to_string()
}
