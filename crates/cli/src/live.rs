//! `meshring subscribe`: a subscription, and the events of a WebSocket, one after the other.
//!
//! The WebSocket is identified before the subscription is made, so that no event is missed in
//! between. A connection that says nothing for [`SILENCE`] is asked whether it is still there; if
//! it says nothing to that either, it is lost.

use crate::api::{Api, CONNECT_TIMEOUT, trusted_certificates};
use crate::arguments::SubscribeArguments;
use crate::calls::Call;
use crate::failure::Failure;
use crate::output::{self, harmless};
use crate::settings::Settings;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tungstenite::error::TlsError;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Connector, Error, HandshakeError, Message, WebSocket};

/// How long a connection may say nothing before it is asked, and again before it is lost.
const SILENCE: Duration = Duration::from_secs(30);

/// The longest event, in bytes; servers allow far less.
const EVENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What the server says that is no event of a device.
const ANSWERS: [&str; 3] = ["pong", "ready", "whoami"];

/// Subscribes with the request `call`, and shows events until there were `--count`, or for ever.
pub fn subscribe(
    arguments: &SubscribeArguments,
    call: &Call,
    settings: &Settings,
) -> Result<(), Failure> {
    let api = Api::new(settings)?;
    if arguments.no_wait {
        return output::show(&api.send(call)?, settings.format());
    }
    let mut stream = Stream::open(settings)?;
    api.send(call)?;
    let kind = arguments.kind.hyphenated().replace('-', ".");
    eprintln!("subscribed to {kind} of {}", harmless(&arguments.emitter));
    let mut left = arguments.count;
    while left != Some(0) {
        let event = stream.event()?;
        output::show(&event, settings.format_of_events())?;
        left = left.map(|left| left - 1);
    }
    stream.close();
    Ok(())
}

/// An identified WebSocket.
struct Stream {
    socket: WebSocket<MaybeTlsStream<TcpStream>>,
    server: String,
}

impl Stream {
    /// Connects and logs in.
    fn open(settings: &Settings) -> Result<Self, Failure> {
        let (uuid, token) = settings.required_credentials()?;
        let deadline = Instant::now() + settings.timeout;
        let mut stream = Self::connect(settings)?;
        let identity = json!({ "event": "identity", "uuid": uuid, "token": token });
        stream.send(identity.to_string())?;
        while Instant::now() < deadline {
            let Some(text) = stream.read()? else { continue };
            let frame: Value = serde_json::from_str(&text).unwrap_or_default();
            match frame["event"].as_str() {
                Some("ready") => {
                    stream.patience(SILENCE)?;
                    return Ok(stream);
                }
                Some("notReady") => {
                    let said = frame["reason"].as_str().unwrap_or("unauthorized");
                    let said = harmless(said);
                    return Err(Failure::Refused { status: 401, said });
                }
                _ => {}
            }
        }
        Err(stream.lost("it does not answer in time"))
    }

    fn connect(settings: &Settings) -> Result<Self, Failure> {
        let server = settings.server.to_string();
        let unreachable =
            |why: &str| Failure::Unreachable(format!("cannot reach {server}: {}", harmless(why)));
        let timeout = CONNECT_TIMEOUT.min(settings.timeout);
        let tcp = connect_tcp(settings.server.host_and_port(), timeout);
        let tcp = tcp.map_err(|error| unreachable(&error.to_string()))?;
        // While it has not logged in, a silence is a failure; `patience` is for afterwards.
        let limited = tcp.set_read_timeout(Some(settings.timeout));
        let limited = limited.and_then(|()| tcp.set_write_timeout(Some(settings.timeout)));
        limited.map_err(|error| unreachable(&error.to_string()))?;
        let connector = match settings.server.is_secure() {
            true => Connector::Rustls(Arc::new(tls_config()?)),
            false => Connector::Plain,
        };
        let limits = WebSocketConfig::default()
            .max_message_size(Some(EVENT_BYTES_MAX))
            .max_frame_size(Some(EVENT_BYTES_MAX));
        let address = settings.server.websocket();
        let opened =
            tungstenite::client_tls_with_config(address, tcp, Some(limits), Some(connector));
        match opened {
            Ok((socket, _)) => Ok(Self { socket, server }),
            Err(HandshakeError::Failure(Error::Http(answer))) => Err(Failure::Refused {
                status: answer.status().as_u16(),
                said: "the server has no WebSocket at /ws".to_owned(),
            }),
            Err(HandshakeError::Interrupted(_)) => Err(unreachable("it does not answer in time")),
            Err(HandshakeError::Failure(error)) => Err(unreachable(&words(&error))),
        }
    }

    /// How long a read may wait.
    fn patience(&self, timeout: Duration) -> Result<(), Failure> {
        let tcp = match self.socket.get_ref() {
            MaybeTlsStream::Plain(tcp) => tcp,
            MaybeTlsStream::Rustls(tls) => tls.get_ref(),
            _ => unreachable!("no other kind of TLS is compiled in"),
        };
        tcp.set_read_timeout(Some(timeout))
            .map_err(|error| self.lost(&error.to_string()))
    }

    /// The next event of a device, as the server has written it.
    fn event(&mut self) -> Result<String, Failure> {
        let mut is_asked = false;
        loop {
            let Some(text) = self.read()? else {
                if is_asked {
                    return Err(self.lost("it does not answer any more"));
                }
                is_asked = true;
                self.send(json!({ "event": "ping" }).to_string())?;
                continue;
            };
            is_asked = false;
            let frame: Value = serde_json::from_str(&text).unwrap_or_default();
            match frame["event"].as_str() {
                Some(name) if !ANSWERS.contains(&name) => return Ok(text),
                _ => {}
            }
        }
    }

    /// The next text, or `None` after a silence.
    fn read(&mut self) -> Result<Option<String>, Failure> {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => return Ok(Some(text.as_str().to_owned())),
                // The server asks too; that was answered, and shows that it is there.
                Ok(_) => {}
                Err(Error::Io(error))
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return Ok(None);
                }
                Err(Error::ConnectionClosed) => return Err(self.lost("it has closed it")),
                Err(error) => return Err(self.lost(&words(&error))),
            }
        }
    }

    fn send(&mut self, text: String) -> Result<(), Failure> {
        let sent = self.socket.send(Message::text(text));
        sent.map_err(|error| self.lost(&words(&error)))
    }

    /// Takes leave, so that the server sees the end of this connection as one that was meant. What
    /// it says to that no longer matters.
    fn close(mut self) {
        if self.socket.close(None).is_ok() && self.patience(Duration::from_secs(2)).is_ok() {
            while self.socket.read().is_ok() {}
        }
    }

    fn lost(&self, why: &str) -> Failure {
        let (server, why) = (&self.server, harmless(why));
        Failure::Unreachable(format!("the connection to {server} is lost: {why}"))
    }
}

/// Tries all addresses of a host, one after the other.
fn connect_tcp((host, port): (String, u16), timeout: Duration) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::new(ErrorKind::NotFound, "there is no such host");
    for address in (host.as_str(), port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(tcp) => {
                tcp.set_nodelay(true)?;
                return Ok(tcp);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn tls_config() -> Result<ClientConfig, Failure> {
    let mut roots = RootCertStore::empty();
    let trusted = trusted_certificates()?;
    // One that rustls does not understand is no reason to trust none of the others.
    roots.add_parsable_certificates(trusted.into_iter().map(Into::into));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let versions = versions.expect("ring knows the default versions");
    Ok(versions.with_root_certificates(roots).with_no_client_auth())
}

/// An error without the layers of names around it.
fn words(error: &Error) -> String {
    match error {
        Error::Io(error) => error.to_string(),
        Error::Tls(TlsError::Rustls(error)) => error.to_string(),
        other => other.to_string(),
    }
}
