//! What publishers and subscribers have in common: one connection at a time, and a session that
//! outlives it, of which each CONNACK must tell the truth.

use crate::history::Micros;
use crate::link::Link;
use crate::truth::Truth;
use mio::{Registry, Token};
use mqtt_v5_codec::{
    Connack, Connect, ConnectProperties, Disconnect, DisconnectProperties, Packet, ReasonCode,
    Version,
};
use std::net::SocketAddr;
use std::num::NonZeroU16;

/// The longest wait for CONNACK.
const CONNACK_MAX: Micros = 30_000_000;
/// An expiry in seconds that never comes.
pub const NEVER: u32 = u32::MAX;
/// By so much earlier than its expiry, a session must still be there.
const EARLY_SLACK: Micros = 1_000_000;
/// By so much later, it must be gone.
const LATE_SLACK: Micros = 2_000_000;

/// Where the broker is, and who watches sockets.
pub struct Surroundings<'a> {
    /// Of the poll.
    pub registry: &'a Registry,
    /// Of the broker, while it listens.
    pub address: Option<SocketAddr>,
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// There is none.
    Down,
    /// CONNECT has been written.
    Connecting,
    /// CONNACK has been read.
    Up,
}

/// What CONNACK meant for the client's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// Go on where it was.
    Resumed,
    /// Begin anew.
    Fresh,
    /// Begin anew, though the broker had promised to keep it.
    Lost,
}

/// A client's connection and session.
pub struct Peer {
    /// Its client identifier.
    pub name: String,
    /// Which it speaks.
    pub version: Version,
    /// Seconds that its session outlives a connection.
    pub expiry_s: u32,
    /// v5 Receive Maximum.
    pub receive_maximum: Option<NonZeroU16>,
    /// Where the connection stands.
    pub stage: Stage,
    /// When it last changed.
    pub since: Micros,
    link: Option<Link>,
    token: Token,
    /// A CONNACK has been read: the broker has promised to keep the session.
    is_known: bool,
    /// The session may have expired, and a CONNECT without answer may have made another.
    is_doubtful: bool,
    /// When the last connection that had its CONNACK ended.
    left_first: Micros,
    /// When the last connection ended that may have reached the broker.
    left_last: Micros,
}

impl Peer {
    /// A client that has never been connected.
    pub fn new(name: &str, version: Version, token: Token) -> Peer {
        Peer {
            name: name.to_owned(),
            version,
            expiry_s: NEVER,
            receive_maximum: None,
            stage: Stage::Down,
            since: 0,
            link: None,
            token,
            is_known: false,
            is_doubtful: false,
            left_first: 0,
            left_last: 0,
        }
    }

    /// Connects, if the broker listens.
    pub fn connect(&mut self, truth: &mut Truth, surroundings: &Surroundings<'_>) {
        assert_eq!(self.stage, Stage::Down);
        let Some(address) = surroundings.address else {
            return;
        };
        let opened = Link::open(address, self.version, surroundings.registry, self.token);
        let Some(mut link) = opened else {
            return;
        };
        let clean_start = self.is_doubtful;
        let mut properties = ConnectProperties::default();
        if self.version == Version::V5 {
            properties.session_expiry_s = Some(self.expiry_s);
            properties.receive_maximum = self.receive_maximum;
        }
        link.push(&Packet::Connect(Connect {
            version: self.version,
            clean_start,
            keep_alive_s: 0,
            client_id: &self.name,
            will: None,
            user_name: None,
            password: None,
            properties,
        }));
        let what = format_args!("CONNECT clean={clean_start}");
        truth.history.line(truth.now, &self.name, what);
        if self.is_known && self.may_have_expired(truth.now) {
            self.is_doubtful = true;
        }
        self.link = Some(link);
        (self.stage, self.since) = (Stage::Connecting, truth.now);
        self.flush(truth);
    }

    fn may_have_expired(&self, now: Micros) -> bool {
        self.expiry_s != NEVER && now + EARLY_SLACK > self.left_first + self.expiry()
    }

    fn expiry(&self) -> Micros {
        Micros::from(self.expiry_s) * 1_000_000
    }

    /// Judges a CONNACK.
    pub fn on_connack(&mut self, connack: &Connack<'_>, truth: &mut Truth) -> Session {
        let present = connack.session_present;
        let what = format_args!("CONNACK {:?} present={present}", connack.reason);
        truth.history.line(truth.now, &self.name, what);
        if connack.reason != ReasonCode::Success {
            let what = format!("{}: {:?}", self.name, connack.reason);
            truth.violation("CONNECT refused", what);
        }
        let session = self.judge(present, truth);
        (self.stage, self.since) = (Stage::Up, truth.now);
        self.is_known = true;
        self.is_doubtful = false;
        session
    }

    fn judge(&self, present: bool, truth: &mut Truth) -> Session {
        if !self.is_known {
            // An earlier CONNECT may have come through without an answer.
            return Session::Fresh;
        }
        let is_due =
            self.expiry_s != NEVER && self.left_last + self.expiry() + LATE_SLACK < self.since;
        let connected_after = self.since.saturating_sub(self.left_first);
        match present {
            true if is_due && !self.is_doubtful => {
                let what = format!("{} after {connected_after} us", self.name);
                truth.violation("session present though expired", what);
                Session::Resumed
            }
            true => {
                truth.counts.sessions_present += 1;
                Session::Resumed
            }
            false if self.may_have_expired(truth.now) => {
                truth.counts.sessions_expired += 1;
                Session::Fresh
            }
            false => {
                let what = format!("{} after {connected_after} us", self.name);
                truth.violation("session lost", what);
                Session::Lost
            }
        }
    }

    /// Judges a DISCONNECT of the broker's; the end of the connection follows.
    pub fn on_disconnect(&mut self, disconnect: &Disconnect<'_>, truth: &mut Truth) {
        let line = format_args!("DISCONNECT {:?}", disconnect.reason);
        truth.history.line(truth.now, &self.name, line);
        match disconnect.reason {
            // SIGTERM.
            ReasonCode::ServerShuttingDown => {}
            // By a connection of our own that we gave up before its CONNACK: its CONNECT may be
            // read after that of the next.
            ReasonCode::SessionTakenOver => {}
            reason => {
                let why = disconnect.properties.reason_string;
                let what = format!("{}: {reason:?} {why:?}", self.name);
                truth.violation("disconnected by the broker", what);
            }
        }
    }

    /// Reads all there is. False if nothing more will come; what has been read can be taken.
    pub fn fill(&mut self) -> bool {
        self.link.as_mut().is_none_or(Link::fill)
    }

    /// The next packet.
    pub fn take(&mut self) -> Option<(u8, Vec<u8>)> {
        self.link.as_mut()?.take()
    }

    /// The connection, while there is one.
    pub fn link(&mut self) -> Option<&mut Link> {
        self.link.as_mut()
    }

    /// Sends what is waiting; notices the end of the connection.
    pub fn flush(&mut self, truth: &mut Truth) {
        if self.link.as_mut().is_some_and(|link| !link.flush()) {
            self.drop_link(truth, "lost");
        }
    }

    /// Leaves, with DISCONNECT or without.
    pub fn leave(&mut self, truth: &mut Truth, is_polite: bool) {
        if let Some(link) = self.link.as_mut().filter(|_| is_polite) {
            link.push(&Packet::Disconnect(Disconnect {
                reason: ReasonCode::Success,
                properties: DisconnectProperties::default(),
            }));
            // If the connection has gone there is nobody to tell.
            let _ = link.flush();
        }
        let how = if is_polite { "left" } else { "vanished" };
        self.drop_link(truth, how);
    }

    /// The connection is gone.
    pub fn drop_link(&mut self, truth: &mut Truth, how: &str) {
        truth.history.line(truth.now, &self.name, how);
        self.link = None;
        if self.stage == Stage::Up {
            self.left_first = truth.now;
        }
        self.left_last = truth.now;
        (self.stage, self.since) = (Stage::Down, truth.now);
    }

    /// Complains if an answer to CONNECT is long overdue.
    pub fn check_patience(&mut self, truth: &mut Truth) {
        if self.stage == Stage::Connecting && truth.now > self.since + CONNACK_MAX {
            truth.violation("no CONNACK", &self.name);
            self.drop_link(truth, "gave up");
        }
    }
}
