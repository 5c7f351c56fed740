//! Devices as tests speak for them: over HTTP, WebSocket, event streams and MQTT.

use crate::support::*;
use serde_json::{Value, json};

/// A registered device and its token.
#[derive(Clone, Debug)]
pub struct Device {
    pub uuid: String,
    pub token: String,
}

impl Device {
    /// The value of an `Authorization` header that shows its token.
    pub fn authorization(&self) -> String {
        http::bearer(&self.uuid, &self.token)
    }
}

/// An answer to an HTTP request.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body, which is JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.body.escape_ascii()))
    }
}

/// A request on its way.
pub struct Request<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub by: Option<&'a Device>,
    pub acting_as: Option<&'a str>,
    pub body: Option<Value>,
}

impl Request<'_> {
    /// As it is sent.
    pub fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: h\r\n", self.method, self.path);
        if let Some(device) = self.by {
            head += &format!("Authorization: {}\r\n", device.authorization());
        }
        if let Some(uuid) = self.acting_as {
            head += &format!("x-meshblu-as: {uuid}\r\n");
        }
        let body = self.body.as_ref().map(|body| body.to_string());
        let body = body.unwrap_or_default();
        if !body.is_empty() {
            head += &format!(
                "Content-Type: application/json\r\nContent-Length: {}\r\n",
                body.len()
            );
        }
        head += "\r\n";
        head += &body;
        head.into_bytes()
    }
}

/// Cuts the first answer off what a client has received; `None` if it is not whole.
pub fn take_answer(received: &mut Vec<u8>, is_head: bool) -> Option<Answer> {
    let end = received
        .windows(4)
        .position(|window| window == b"\r\n\r\n")?
        + 4;
    let head = String::from_utf8(received[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.parse::<usize>().unwrap())
    });
    let length = if is_head { 0 } else { length.unwrap_or(0) };
    let body = received.get(end..end + length)?.to_vec();
    received.drain(..end + length);
    Some(Answer { status, head, body })
}

/// The HTTP side of a world.
pub struct Mesh<'a> {
    pub world: &'a World,
    /// One connection for all requests.
    client: Client,
}

impl<'a> Mesh<'a> {
    pub fn new(world: &'a World) -> Mesh<'a> {
        let client = world.client(V5, "http");
        client.open_http();
        Mesh { world, client }
    }

    /// Sends a request and returns the answer, which must be there at once.
    #[track_caller]
    pub fn send(&self, request: &Request<'_>) -> Answer {
        if self.client.is_closed() {
            self.client.open_http();
        }
        self.client.send_raw(&request.bytes());
        let mut received = self.client.take_raw();
        let answer = take_answer(&mut received, request.method == "HEAD");
        let answer = answer.unwrap_or_else(|| panic!("no answer to {}", request.path));
        assert!(received.is_empty(), "{}", received.escape_ascii());
        answer
    }

    /// A request of a device.
    #[track_caller]
    pub fn ask(&self, by: &Device, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.send(&Request {
            method,
            path,
            by: Some(by),
            acting_as: None,
            body,
        })
    }

    /// A request of a device that acts as another.
    #[track_caller]
    pub fn ask_as(
        &self,
        by: &Device,
        acting_as: &Device,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Answer {
        self.send(&Request {
            method,
            path,
            by: Some(by),
            acting_as: Some(&acting_as.uuid),
            body,
        })
    }

    /// A request of nobody.
    #[track_caller]
    pub fn ask_unknown(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.send(&Request {
            method,
            path,
            by: None,
            acting_as: None,
            body,
        })
    }

    /// Registers a device.
    #[track_caller]
    pub fn register(&self, body: Value) -> Device {
        let answer = self.ask_unknown("POST", "/devices", Some(body));
        assert_eq!(answer.status, 200, "{}", answer.body.escape_ascii());
        let device = answer.json();
        Device {
            uuid: device["uuid"].as_str().unwrap().to_owned(),
            token: device["token"].as_str().unwrap().to_owned(),
        }
    }

    /// A device that gives leave for nothing but what is listed: pairs of a sub-type such as
    /// `message.from` and a UUID or `*`.
    #[track_caller]
    pub fn register_closed(&self, leaves: &[(&str, &str)]) -> Device {
        let mut whitelists = json!({});
        for (access, uuid) in leaves {
            let (category, name) = access.split_once('.').unwrap();
            let list = &mut whitelists[category][name];
            if list.is_null() {
                *list = json!([]);
            }
            list.as_array_mut().unwrap().push(json!({"uuid": uuid}));
        }
        self.register(json!({"meshblu": {"version": "2.0.0", "whitelists": whitelists}}))
    }

    /// Opens a WebSocket of a device, which is ready.
    #[track_caller]
    pub fn socket(&self, device: &Device) -> Socket {
        let socket = self.open_socket();
        socket.send(json!({"event": "identity", "uuid": device.uuid, "token": device.token}));
        let ready = socket.next().expect("an answer to identity");
        assert_eq!(ready["event"], "ready", "{ready}");
        socket
    }

    /// Opens a WebSocket and says nothing.
    #[track_caller]
    pub fn open_socket(&self) -> Socket {
        let client = self.world.client(V5, "socket");
        client.open_http();
        client.send_raw(
            b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        );
        let mut received = client.take_raw();
        let answer = take_answer(&mut received, false).expect("an answer to the handshake");
        assert_eq!(answer.status, 101, "{}", answer.head);
        assert!(received.is_empty());
        Socket { client }
    }

    /// Opens an event stream of a device.
    #[track_caller]
    pub fn stream(&self, device: &Device) -> Stream {
        let client = self.world.client(V5, "stream");
        client.open_http();
        let request = Request {
            method: "GET",
            path: "/subscribe",
            by: Some(device),
            acting_as: None,
            body: None,
        };
        client.send_raw(&request.bytes());
        let mut received = client.take_raw();
        let answer = take_answer(&mut received, false).expect("the head of a stream");
        assert_eq!(answer.status, 200, "{}", answer.head);
        Stream { client }
    }

    /// Connects a device with MQTT; its client identifier is its UUID.
    #[track_caller]
    pub fn mqtt(&self, device: &Device) -> Client {
        let client = self.world.client(V5, &device.uuid);
        client.connect_with(|connect| {
            connect
                .user_name(&device.uuid)
                .password(device.token.as_bytes())
        });
        client
    }
}

/// A WebSocket of FreshBlu's kind.
pub struct Socket {
    pub client: Client,
}

impl Socket {
    /// Sends a JSON text.
    pub fn send(&self, frame: Value) {
        self.send_text(&frame.to_string());
    }

    /// Sends any text.
    pub fn send_text(&self, text: &str) {
        let mut out = Vec::new();
        http::write_client_frame(&mut out, http::Opcode::Text, text.as_bytes(), [1, 2, 3, 4]);
        self.client.send_raw(&out);
    }

    /// The next event, if any.
    pub fn next(&self) -> Option<Value> {
        self.all_and_keep_rest()
    }

    /// All events that have come.
    pub fn all(&self) -> Vec<Value> {
        std::iter::from_fn(|| self.next()).collect()
    }

    fn all_and_keep_rest(&self) -> Option<Value> {
        let raw = self.client.take_raw();
        let mut decoder = http::Decoder::for_client(usize::MAX);
        let mut input = &raw[..];
        let mut payload = Vec::new();
        let found = loop {
            match decoder.decode(&mut input, &mut payload).unwrap() {
                None => break None,
                Some(http::WsEvent::Data { is_final: true, .. }) => {
                    break Some(serde_json::from_slice(&payload).unwrap());
                }
                Some(http::WsEvent::Data { .. } | http::WsEvent::Ping(_)) => {}
                Some(http::WsEvent::Pong) => {}
                Some(http::WsEvent::Close(code)) => {
                    break Some(json!({"event": "closed", "code": code}));
                }
            }
        };
        self.client.put_back(input);
        found
    }
}

/// A stream of server-sent events.
pub struct Stream {
    pub client: Client,
}

impl Stream {
    /// All events that have come.
    pub fn all(&self) -> Vec<Value> {
        let text = String::from_utf8(self.client.take_raw()).unwrap();
        let data = text
            .split("\r\n")
            .filter_map(|line| line.strip_prefix("data: "));
        data.map(|data| serde_json::from_str(data.trim_end()).unwrap())
            .collect()
    }
}
