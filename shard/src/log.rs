//! What operators read in the log about a shard: lines of facts, not of text.
//!
//! A shard says *what* has happened (its [`Cause`]) and to whom; its driver writes that down, and
//! only what is wanted: so many lines per cause, and nothing of a level that is not logged. Lines
//! are about changes of state, never about messages.
//!
//! What a client chose (its identifier) and what an error says can be in a line, so both are
//! printable and short once they are in it: [`LOGGED_BYTES_MAX`]. Secrets are never in one.

use crate::mesh::mqtt::claimed_device;
use crate::shard::Shard;
use crate::{ConnectionId, DeviceId, Effects, Listener};
use mqtt_v5_codec::{Connect, FixedHeader, Packet, PacketKind, ReasonCode, Version, decode};
use std::fmt::Write;
use std::net::SocketAddr;

/// Bytes of a text in a line; what is cut off is marked with `…`.
pub const LOGGED_BYTES_MAX: usize = 256;

/// How much a log line matters; the first matters most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// It cannot go on.
    Error,
    /// Something is wrong here, or is being lost.
    Warn,
    /// A change of state, or a peer that was turned away.
    Info,
    /// What happens all the time.
    Debug,
}

/// Makes the causes, and what is known of each, out of one table.
macro_rules! causes {
    ($( $(#[doc = $doc:literal])+ $cause:ident = $name:literal, $level:ident, $message:literal; )+) => {
        /// Why there is a line. The rate is limited per cause, so that one that comes often hides
        /// no other.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Cause {
            $( $(#[doc = $doc])+ $cause, )+
        }

        impl Cause {
            /// All of them, in their order.
            pub const ALL: &[Cause] = &[$(Cause::$cause),+];

            /// Its name in logs.
            pub const fn name(self) -> &'static str {
                match self { $(Cause::$cause => $name,)+ }
            }

            /// How much its lines matter.
            pub const fn level(self) -> Level {
                match self { $(Cause::$cause => Level::$level,)+ }
            }

            /// What its lines say; the rest is in their fields.
            pub const fn message(self) -> &'static str {
                match self { $(Cause::$cause => $message,)+ }
            }
        }
    };
}

causes! {
    /// A client is in.
    ClientConnected = "client_connected", Debug, "a client has connected";
    /// A client has left, or its connection is gone.
    ClientLeft = "client_left", Debug, "a client has left";
    /// A CONNECT without the right to it.
    ConnectDenied = "connect_denied", Info, "CONNECT refused";
    /// A CONNECT that makes no sense, or wants what is not there.
    ConnectInvalid = "connect_invalid", Info, "CONNECT refused";
    /// A CONNECT that may come again later, or elsewhere.
    ConnectBusy = "connect_busy", Info, "CONNECT refused";
    /// The peer broke the rules of its protocol.
    ProtocolError = "protocol_error", Info, "connection closed";
    /// The peer was silent for too long.
    KeepAlive = "keep_alive", Info, "connection closed";
    /// Its client has come again.
    TakenOver = "taken_over", Info, "connection closed";
    /// The client has used up what it may have: its messages wait for too long, or for too much.
    Quota = "quota", Info, "connection closed";
    /// What let the client in does so no more.
    NotAuthorized = "not_authorized", Info, "connection closed";
    /// An operator has closed it.
    ClosedByOperator = "closed_by_operator", Info, "connection closed";
    /// The broker stops, or is drained.
    Leaving = "leaving", Info, "connection closed";
    /// The store cannot write.
    StoreStalled = "store_stalled", Warn, "the store cannot write: what has to be kept is refused until it can";
    /// It can again.
    StoreResumed = "store_resumed", Info, "the store writes again";
    /// The store was asked for something, and there is none.
    StoreMissing = "store_missing", Warn, "no store to load from";
    /// The shard has as many connections as it may have.
    ConnectionsFull = "connections_full", Warn, "as many connections as allowed: new ones are closed";
    /// The kernel gives no new connections.
    AcceptFailed = "accept_failed", Warn, "cannot accept; trying again in 100 ms";
    /// The kernel takes a connection and does not watch it.
    WatchFailed = "watch_failed", Warn, "a new connection cannot be watched and is closed";
    /// Which interface to the kernel was picked, and why.
    Driver = "driver", Info, "driver picked";
    /// Another one than would be best.
    DriverRefused = "driver_refused", Warn, "io_uring is refused here: epoll it is";
    /// The kernel does not give back memory at the end.
    MemoryHeld = "memory_held", Warn, "io_uring: buffers of a busy ring are leaked";
    /// A shard's thread has failed.
    ShardFailed = "shard_failed", Error, "the shard's thread ends, and with it all";
}

impl Cause {
    /// Of a CONNECT that was refused with this reason.
    fn of_refusal(reason: ReasonCode) -> Cause {
        use ReasonCode::*;
        match reason {
            BadUserNameOrPassword | NotAuthorized | Banned | BadAuthenticationMethod => {
                Cause::ConnectDenied
            }
            ServerUnavailable
            | ServerBusy
            | ServerShuttingDown
            | UseAnotherServer
            | ServerMoved
            | QuotaExceeded
            | ConnectionRateExceeded => Cause::ConnectBusy,
            _ => Cause::ConnectInvalid,
        }
    }

    /// Of a connection that we have closed with this reason.
    fn of_close(reason: ReasonCode) -> Cause {
        use ReasonCode::*;
        match reason {
            KeepAliveTimeout => Cause::KeepAlive,
            SessionTakenOver => Cause::TakenOver,
            QuotaExceeded | MessageRateTooHigh => Cause::Quota,
            NotAuthorized => Cause::NotAuthorized,
            AdministrativeAction => Cause::ClosedByOperator,
            ServerShuttingDown | UseAnotherServer | ServerMoved => Cause::Leaving,
            _ => Cause::ProtocolError,
        }
    }

    /// Of a WebSocket that we have closed with this code. RFC 6455, 7.4.1
    fn of_websocket(code: u16) -> Cause {
        match code {
            1001 => Cause::KeepAlive,
            1008 => Cause::NotAuthorized,
            _ => Cause::ProtocolError,
        }
    }
}

/// A line of the log: why there is one, and what is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Why there is a line.
    pub cause: Cause,
    /// The client's identifier, made printable.
    pub client_id: Option<Box<str>>,
    /// The device that the client is, or says it is where it is refused.
    pub device: Option<DeviceId>,
    /// The other end of the connection.
    pub peer: Option<SocketAddr>,
    /// The listener that it came by.
    pub listener: Option<Listener>,
    /// The reason code of MQTT.
    pub reason: Option<ReasonCode>,
    /// The close code of a WebSocket.
    pub close_code: Option<u16>,
    /// More, for people; printable.
    pub detail: Box<str>,
}

impl Line {
    /// A line of which nothing is known but its cause and, if it is not empty, more of that.
    pub fn new(cause: Cause, detail: &str) -> Line {
        Line {
            cause,
            client_id: None,
            device: None,
            peer: None,
            listener: None,
            reason: None,
            close_code: None,
            detail: printable(detail),
        }
    }

    /// The number of the reason: of MQTT, or of the WebSocket's end.
    pub fn code(&self) -> Option<u16> {
        let reason = self.reason.map(|reason| reason as u16);
        reason.or(self.close_code)
    }

    fn name(&mut self, client_id: &str, device: Option<DeviceId>) {
        self.client_id = Some(printable(client_id));
        self.device = device;
    }

    /// Names a client that wants to come in.
    fn name_by(&mut self, connect: &Connect<'_>) {
        let device = claimed_device(connect).map(|(device, _)| device);
        self.name(connect.client_id, device);
    }
}

/// A text that may stand in a log: nothing in it moves a cursor, begins a line, or changes the
/// direction of what follows, and it is short.
pub fn printable(text: &str) -> Box<str> {
    let mut clean = String::new();
    for character in text.chars() {
        if clean.len() >= LOGGED_BYTES_MAX {
            clean.push('…');
            break;
        }
        match character {
            // Formatting characters of Unicode: marks and overrides of direction, and joiners.
            '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' => {
                escape(&mut clean, character);
            }
            '\u{FEFF}' => escape(&mut clean, character),
            _ if character.is_control() => escape(&mut clean, character),
            _ => clean.push(character),
        }
    }
    clean.into()
}

fn escape(into: &mut String, character: char) {
    write!(into, "\\u{{{:x}}}", character as u32).expect("a string takes all");
}

impl Shard {
    /// A client has come in.
    pub(crate) fn log_connected(&self, id: ConnectionId, effects: &mut Effects) {
        if effects.is_logged(Cause::ClientConnected) {
            effects.log(self.line_of(Cause::ClientConnected, id, ""));
        }
    }

    /// A client leaves by itself: with this DISCONNECT, or without one. Of a connection that is no
    /// client's nothing is said.
    pub(crate) fn log_left(
        &self,
        id: ConnectionId,
        reason: Option<ReasonCode>,
        effects: &mut Effects,
    ) {
        if !effects.is_logged(Cause::ClientLeft) {
            return;
        }
        let connection = self.connection(id);
        if connection.is_none_or(|connection| connection.session().is_none()) {
            return;
        }
        let detail = match reason {
            Some(_) => "",
            None => "without DISCONNECT",
        };
        let line = self.line_of(Cause::ClientLeft, id, detail);
        effects.log(Line { reason, ..line });
    }

    /// A CONNECT is refused. It is still among what was received, unless it is given here.
    pub(crate) fn log_refusal(
        &self,
        id: ConnectionId,
        connect: Option<&Connect<'_>>,
        reason: ReasonCode,
        detail: &str,
        effects: &mut Effects,
    ) {
        let cause = Cause::of_refusal(reason);
        if !effects.is_logged(cause) {
            return;
        }
        let mut line = self.line_of(cause, id, detail);
        if let Some(connect) = connect {
            line.name_by(connect);
        }
        line.reason = Some(reason);
        effects.log(line);
    }

    /// A connection is closed from our side.
    pub(crate) fn log_close(
        &self,
        id: ConnectionId,
        reason: ReasonCode,
        detail: &str,
        effects: &mut Effects,
    ) {
        let cause = Cause::of_close(reason);
        if effects.is_logged(cause) {
            let mut line = self.line_of(cause, id, detail);
            line.reason = Some(reason);
            effects.log(line);
        }
    }

    /// A WebSocket is closed from our side.
    pub(crate) fn log_websocket_close(
        &self,
        id: ConnectionId,
        code: u16,
        detail: &str,
        effects: &mut Effects,
    ) {
        let cause = Cause::of_websocket(code);
        if effects.is_logged(cause) {
            let mut line = self.line_of(cause, id, detail);
            line.close_code = Some(code);
            effects.log(line);
        }
    }

    /// A line with all that is known of a connection.
    fn line_of(&self, cause: Cause, id: ConnectionId, detail: &str) -> Line {
        let mut line = Line::new(cause, detail);
        let Some(connection) = self.connection(id) else {
            return line;
        };
        line.peer = Some(connection.peer);
        line.listener = Some(connection.listener);
        line.device = self.mesh.identity(id).map(|identity| identity.device);
        if let Some(session) = connection.session() {
            let session = self.sessions.at(session.index);
            line.name(&session.client_id, session.device.as_deref().copied());
        } else if let Some(connect) = waiting_connect(&connection.partial) {
            line.name_by(&connect);
        } else if let Some((_, client_id, device)) = self.claiming(id) {
            line.name(client_id, Some(*device));
        }
        line
    }

    fn claiming(&self, id: ConnectionId) -> Option<&(ConnectionId, Box<str>, DeviceId)> {
        let claiming = self.mesh.claiming.as_ref();
        claiming.filter(|(connection, ..)| *connection == id)
    }
}

/// The CONNECT that these bytes begin with, if they do.
fn waiting_connect(bytes: &[u8]) -> Option<Connect<'_>> {
    let header = FixedHeader::parse(bytes).ok()??;
    if header.kind() != PacketKind::Connect {
        return None;
    }
    let body = bytes.get(header.header_bytes..header.packet_bytes())?;
    // A CONNECT says its version itself.
    match decode(Version::V311, header.first, body).ok()? {
        Packet::Connect(connect) => Some(connect),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_numbers_are_places() {
        for (place, cause) in Cause::ALL.iter().enumerate() {
            assert_eq!(*cause as usize, place);
            let same = Cause::ALL.iter().filter(|c| c.name() == cause.name());
            assert_eq!(same.count(), 1, "{cause:?}");
        }
    }

    #[test]
    fn what_nobody_wants_is_not_made() {
        let mut effects = Effects::new(1);
        let made = |effects: &mut Effects| {
            for &cause in Cause::ALL {
                effects.log(Line::new(cause, ""));
            }
            let mut list = Vec::new();
            effects.take_list(&mut list);
            list.len()
        };
        let up_to = |level| Cause::ALL.iter().filter(|c| c.level() <= level).count();
        assert_eq!(made(&mut effects), up_to(Level::Info));
        assert!(!effects.is_logged(Cause::ClientConnected));
        for level in [Level::Error, Level::Warn, Level::Debug] {
            effects.log_up_to(level);
            assert_eq!(made(&mut effects), up_to(level));
        }
        assert_eq!(up_to(Level::Debug), Cause::ALL.len());
    }

    #[test]
    fn what_is_logged_is_printable_and_short() {
        let check = |text: &str, expected: &str| assert_eq!(&*printable(text), expected);
        check("pump-7 ü 泵", "pump-7 ü 泵");
        check("a\nb\r\0", "a\\u{a}b\\u{d}\\u{0}");
        check("\u{1b}[2J\u{9b}31m\u{7f}", "\\u{1b}[2J\\u{9b}31m\\u{7f}");
        check("\u{202e}live\u{2066}", "\\u{202e}live\\u{2066}");
        let long = printable(&"泵".repeat(30_000));
        assert!(long.ends_with('…') && long.len() <= LOGGED_BYTES_MAX + 8);
        let escaped = printable(&"\n".repeat(30_000));
        assert!(escaped.len() <= LOGGED_BYTES_MAX + 16);
    }

    #[test]
    fn an_unfinished_connect_names_nobody() {
        let connect = b"\x10\x0e\0\x04MQTT\x04\x02\0\0\0\x02ab";
        let found = waiting_connect(connect);
        assert_eq!(found.map(|connect| connect.client_id), Some("ab"));
        for end in 0..connect.len() {
            assert!(waiting_connect(&connect[..end]).is_none());
        }
        assert!(waiting_connect(b"\xc0\0").is_none());
    }
}
