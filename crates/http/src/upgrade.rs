//! The server's side of the WebSocket handshake (RFC 6455, section 4.2).

use crate::head::{Body, Head};
use crate::response::write_status_line;
use tungstenite::handshake::derive_accept_key;

/// What a request's head says about WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade<'a> {
    /// An ordinary request.
    NotAsked,
    /// A valid handshake, to be answered by [`write_switching_protocols`].
    Accept {
        /// The client's `Sec-WebSocket-Key`.
        key: &'a str,
        /// The first of our subprotocols that the client offers; `None` if it offers none of
        /// ours.
        protocol: Option<&'a str>,
    },
    /// An invalid handshake, to be answered with an error. A 426 carries
    /// `Sec-WebSocket-Version: 13`, which [`Upgrade::refusal_headers`] gives.
    Refuse {
        /// 400, 405 or 426.
        status: u16,
        /// For people.
        reason: &'static str,
    },
}

/// Judges the handshake in a request's head. `supported` are our subprotocols; they are compared
/// exactly, and our order decides.
pub fn upgrade<'a>(head: &Head<'a>, supported: &[&str]) -> Upgrade<'a> {
    if !head.has_token("upgrade", "websocket") {
        return Upgrade::NotAsked;
    }
    if head.method != "GET" {
        return Upgrade::Refuse {
            status: 405,
            reason: "a WebSocket handshake is a GET",
        };
    }
    let refuse = |reason| Upgrade::Refuse {
        status: 400,
        reason,
    };
    if head.minor < 1 {
        return refuse("a WebSocket handshake needs HTTP/1.1");
    }
    if !head.has_token("connection", "upgrade") {
        return refuse("Connection does not name Upgrade");
    }
    if head.body() != Body::None {
        return refuse("a WebSocket handshake has no body");
    }
    if head.header("sec-websocket-version") != Some("13") {
        return Upgrade::Refuse {
            status: 426,
            reason: "unsupported WebSocket version",
        };
    }
    match head.header("sec-websocket-key") {
        Some(key) if is_base64_of_16_bytes(key) => Upgrade::Accept {
            key,
            protocol: choose_protocol(head, supported),
        },
        _ => refuse("Sec-WebSocket-Key is not the base64 of 16 bytes"),
    }
}

impl Upgrade<'_> {
    /// The headers that the answer to a refused handshake carries.
    pub fn refusal_headers(&self) -> &'static [(&'static str, &'static str)] {
        match self {
            Upgrade::Refuse { status: 426, .. } => {
                &[("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
            }
            Upgrade::Refuse { status: 405, .. } => &[("Allow", "GET")],
            _ => &[],
        }
    }
}

/// Appends the response that accepts a handshake; `protocol` is one that the client offered.
/// Frames follow. Allocates.
pub fn write_switching_protocols(out: &mut Vec<u8>, key: &str, protocol: Option<&str>) {
    write_status_line(out, 101);
    out.extend_from_slice(b"Upgrade: websocket\r\nConnection: Upgrade\r\n");
    write_header(
        out,
        "Sec-WebSocket-Accept",
        &derive_accept_key(key.as_bytes()),
    );
    if let Some(protocol) = protocol {
        write_header(out, "Sec-WebSocket-Protocol", protocol);
    }
    out.extend_from_slice(b"\r\n");
}

fn write_header(out: &mut Vec<u8>, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// The first of ours that the client offers: who offers `mqtt` among others is given it, since that
/// name alone is right for 3.1.1 and 5. [MQTT-6.0.0-4]
fn choose_protocol<'a>(head: &Head<'a>, supported: &[&str]) -> Option<&'a str> {
    let offered = || {
        head.header_values("sec-websocket-protocol")
            .flat_map(|value| value.split(','))
            .map(str::trim_ascii)
    };
    supported
        .iter()
        .find_map(|ours| offered().find(|theirs| theirs == ours))
}

fn is_base64_of_16_bytes(key: &str) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    match key.as_bytes() {
        [digits @ .., b'=', b'='] => digits.len() == 22 && digits.iter().all(is_digit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_head;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const UPGRADE: &str = "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n";

    /// Checks what comes of a request line and headers; `Host` is added.
    fn check(line: &str, headers: &str, expected: Upgrade<'_>) {
        let text = format!("{line}\r\nHost: h\r\n{headers}\r\n");
        let head = parse_head(text.as_bytes()).unwrap().unwrap();
        assert_eq!(upgrade(&head, &["mqtt", "mqttv3.1"]), expected, "{text}");
    }

    fn check_status(line: &str, headers: &str, expected: u16) {
        let text = format!("{line}\r\nHost: h\r\n{headers}\r\n");
        let head = parse_head(text.as_bytes()).unwrap().unwrap();
        match upgrade(&head, &["mqtt"]) {
            Upgrade::Refuse { status, .. } => assert_eq!(status, expected, "{text}"),
            other => panic!("{other:?} for {text}"),
        }
    }

    fn check_protocol(headers: &str, expected: Option<&str>) {
        let headers =
            format!("{UPGRADE}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{headers}");
        let accepted = Upgrade::Accept {
            key: KEY,
            protocol: expected,
        };
        check("GET /mqtt HTTP/1.1", &headers, accepted);
    }

    #[test]
    fn ordinary_requests_and_other_upgrades_are_left_alone() {
        check("GET / HTTP/1.1", "", Upgrade::NotAsked);
        check(
            "GET / HTTP/1.1",
            "Upgrade: h2c\r\nConnection: Upgrade\r\n",
            Upgrade::NotAsked,
        );
    }

    #[test]
    fn our_preference_decides_the_subprotocol() {
        check_protocol("", None);
        check_protocol("Sec-WebSocket-Protocol: chat\r\n", None);
        check_protocol("Sec-WebSocket-Protocol: mqttv3.1, mqtt\r\n", Some("mqtt"));
        check_protocol(
            "Sec-WebSocket-Protocol: chat,mqtt,mqttv3.1\r\n",
            Some("mqtt"),
        );
        check_protocol("Sec-WebSocket-Protocol: MQTT\r\n", None);
        let two = "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: mqtt\r\n";
        check_protocol(two, Some("mqtt"));
    }

    #[test]
    fn invalid_handshakes_are_refused() {
        let key = format!("Sec-WebSocket-Key: {KEY}\r\n");
        let version = "Sec-WebSocket-Version: 13\r\n";
        let valid = format!("{UPGRADE}{version}{key}");
        let get = "GET / HTTP/1.1";
        check_status("POST / HTTP/1.1", &valid, 405);
        check_status("GET / HTTP/1.0", &valid, 400);
        check_status(get, &format!("Upgrade: websocket\r\n{version}{key}"), 400);
        check_status(get, &format!("{UPGRADE}{version}"), 400);
        check_status(get, &format!("{valid}{key}"), 400);
        check_status(
            get,
            &format!("{UPGRADE}{version}Sec-WebSocket-Key: short==\r\n"),
            400,
        );
        check_status(get, &format!("{valid}Content-Length: 1\r\n"), 400);
        check_status(get, &format!("{UPGRADE}{key}"), 426);
        check_status(
            get,
            &format!("{UPGRADE}{key}Sec-WebSocket-Version: 8\r\n"),
            426,
        );
    }

    #[test]
    fn the_answer_names_the_protocol_only_if_one_was_chosen() {
        let mut out = Vec::new();
        write_switching_protocols(&mut out, KEY, None);
        assert!(!String::from_utf8(out).unwrap().contains("Protocol:"));
    }
}
