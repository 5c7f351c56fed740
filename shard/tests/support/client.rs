//! One client, as a test speaks for it.

use super::bytes::{self, ConnectPacket, PublishPacket};
use super::packets::{AckGot, ConnackGot, DisconnectGot, Got, Message, SubackGot, take_packet};
use super::world::Inner;
use mqtt_v5_codec::{AckKind, ReasonCode, Version};
use shard::{Close, ConnectionId, Listener};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// What the world knows of a client.
pub struct ClientState {
    pub version: Version,
    pub id: String,
    /// Shard and connection, while connected.
    pub place: Option<(usize, ConnectionId)>,
    /// How the broker closed the last connection, if it did.
    pub closed: Option<Close>,
    /// Bytes from the broker, not yet cut into packets.
    pub received: Vec<u8>,
    pub packets: VecDeque<Got>,
    /// The client does not read.
    pub is_stalled: bool,
    /// Sent by the broker and not read by the client.
    pub withheld: Vec<u8>,
    packet_id: u16,
}

impl ClientState {
    pub fn new(version: Version, id: &str) -> ClientState {
        ClientState {
            version,
            id: id.into(),
            place: None,
            closed: None,
            received: Vec::new(),
            packets: VecDeque::new(),
            is_stalled: false,
            withheld: Vec::new(),
            packet_id: 0,
        }
    }

    pub fn on_open(&mut self, core: usize, connection: ConnectionId) {
        self.place = Some((core, connection));
        self.closed = None;
        self.received.clear();
        self.packets.clear();
        self.is_stalled = false;
        self.withheld.clear();
    }

    pub fn on_close(&mut self, how: Close) {
        self.place = None;
        self.closed = Some(how);
    }

    fn decode(&mut self) {
        while let Some(packet) = take_packet(self.version, &mut self.received) {
            self.packets.push_back(packet);
        }
    }
}

/// A handle of one client. Everything a call causes has happened when it returns.
#[derive(Clone)]
pub struct Client {
    inner: Rc<RefCell<Inner>>,
    index: usize,
}

/// Connecting and bytes.
impl Client {
    pub fn new(inner: Rc<RefCell<Inner>>, index: usize) -> Client {
        Client { inner, index }
    }

    fn state<T>(&self, read: impl FnOnce(&mut ClientState) -> T) -> T {
        read(&mut self.inner.borrow_mut().clients[self.index])
    }

    /// A topic of the device whose identifier it has.
    pub fn topic(&self, rest: &str) -> String {
        self.state(|state| format!("{}/{rest}", state.id))
    }

    /// Which of the world's clients it is.
    pub fn index(&self) -> usize {
        self.index
    }

    pub fn version(&self) -> Version {
        self.state(|state| state.version)
    }

    /// Opens a connection to the MQTT listener and sends nothing.
    pub fn open(&self) {
        self.inner.borrow_mut().accept(self.index, Listener::Mqtt);
    }

    /// Opens a connection to the HTTP listener and sends nothing.
    pub fn open_http(&self) {
        self.inner.borrow_mut().accept(self.index, Listener::Http);
    }

    /// Sends bytes as they are; lost if the connection is gone.
    pub fn send_raw(&self, bytes: &[u8]) {
        self.inner.borrow_mut().receive(self.index, bytes);
    }

    /// Sends bytes one by one.
    pub fn send_split(&self, bytes: &[u8]) {
        for byte in bytes {
            self.send_raw(&[*byte]);
        }
    }

    /// Cuts the connection without a DISCONNECT.
    pub fn cut(&self) {
        self.inner.borrow_mut().cut(self.index);
    }

    /// Stops reading from the connection.
    pub fn stall(&self) {
        self.state(|state| state.is_stalled = true);
    }

    /// Reads again.
    pub fn unstall(&self) {
        self.state(|state| state.is_stalled = false);
        self.inner.borrow_mut().unstall(self.index);
    }

    /// All bytes from the broker that have not been read as packets.
    pub fn take_raw(&self) -> Vec<u8> {
        self.state(|state| std::mem::take(&mut state.received))
    }

    /// Puts back what has been taken and not been read.
    pub fn put_back(&self, bytes: &[u8]) {
        self.state(|state| {
            state.received.splice(0..0, bytes.iter().copied());
        });
    }

    /// Whether the broker has closed the connection.
    pub fn is_closed(&self) -> bool {
        self.closed_how().is_some()
    }

    /// How the broker closed the connection, if it did.
    pub fn closed_how(&self) -> Option<Close> {
        self.state(|state| state.closed)
    }

    /// The shard that now has the connection.
    pub fn shard(&self) -> usize {
        self.state(|state| state.place.expect("the client is connected").0)
    }

    /// A plain CONNECT of this client.
    pub fn connect_packet(&self) -> ConnectPacket {
        self.state(|state| ConnectPacket::new(state.version, &state.id))
    }

    /// Connects with a clean start, and must succeed.
    pub fn connect(&self) -> ConnackGot {
        self.connect_with(|connect| connect)
    }

    /// Connects, and must succeed.
    pub fn connect_with(&self, change: impl FnOnce(ConnectPacket) -> ConnectPacket) -> ConnackGot {
        let connack = self.try_connect(change);
        assert_eq!(connack.reason, ReasonCode::Success, "{connack:?}");
        assert!(!self.is_closed(), "closed after a successful CONNACK");
        connack
    }

    /// Opens a connection, sends CONNECT and returns the CONNACK, whatever it says.
    pub fn try_connect(&self, change: impl FnOnce(ConnectPacket) -> ConnectPacket) -> ConnackGot {
        self.open();
        self.send_raw(&change(self.connect_packet()).build());
        self.connack()
    }

    /// Sends a normal DISCONNECT; the broker then closes.
    pub fn disconnect(&self) {
        self.send_raw(&bytes::DISCONNECT);
        self.expect_closed();
    }

    /// The next packet identifier to use.
    pub fn new_id(&self) -> u16 {
        self.state(|state| {
            state.packet_id += 1;
            state.packet_id
        })
    }
}

/// Reading.
impl Client {
    /// The next packet from the broker, if any.
    pub fn try_next(&self) -> Option<Got> {
        self.state(|state| {
            state.decode();
            state.packets.pop_front()
        })
    }

    /// The next packet from the broker, which must be there.
    pub fn next(&self) -> Got {
        let closed = self.is_closed();
        self.try_next()
            .unwrap_or_else(|| panic!("no packet (closed by the broker: {closed})"))
    }

    /// All packets from the broker so far.
    pub fn drain(&self) -> Vec<Got> {
        std::iter::from_fn(|| self.try_next()).collect()
    }

    /// All messages so far, none acknowledged; other packets must not be among them.
    pub fn drain_messages(&self) -> Vec<Message> {
        self.drain()
            .into_iter()
            .map(|got| match got {
                Got::Publish(message) => message,
                other => panic!("not a PUBLISH: {other:?}"),
            })
            .collect()
    }

    /// The next packet, which must be CONNACK.
    pub fn connack(&self) -> ConnackGot {
        match self.next() {
            Got::Connack(connack) => connack,
            other => panic!("not a CONNACK: {other:?}"),
        }
    }

    /// The next packet, which must be PUBLISH; it is not acknowledged.
    pub fn message(&self) -> Message {
        match self.next() {
            Got::Publish(message) => message,
            other => panic!("not a PUBLISH: {other:?}"),
        }
    }

    /// The next packet, which must be PUBLISH; it is acknowledged to the end.
    pub fn receive(&self) -> Message {
        let message = self.message();
        match message.qos {
            1 => self.puback(message.id()),
            2 => {
                self.pubrec(message.id());
                self.expect_ack(AckKind::Pubrel, message.id(), ReasonCode::Success);
                self.pubcomp(message.id());
            }
            _ => {}
        }
        message
    }

    /// The first SUBACK among the packets so far; messages around it stay.
    pub fn suback(&self) -> SubackGot {
        match self.pick(|got| matches!(got, Got::Suback(_))) {
            Got::Suback(suback) => suback,
            other => unreachable!("picked {other:?}"),
        }
    }

    /// The first UNSUBACK among the packets so far; messages around it stay.
    pub fn unsuback(&self) -> SubackGot {
        match self.pick(|got| matches!(got, Got::Unsuback(_))) {
            Got::Unsuback(unsuback) => unsuback,
            other => unreachable!("picked {other:?}"),
        }
    }

    /// The first PUBACK, PUBREC, PUBREL or PUBCOMP among the packets so far.
    pub fn ack(&self) -> AckGot {
        match self.pick(|got| matches!(got, Got::Ack(_))) {
            Got::Ack(ack) => ack,
            other => unreachable!("picked {other:?}"),
        }
    }

    fn pick(&self, wanted: impl Fn(&Got) -> bool) -> Got {
        self.state(|state| {
            state.decode();
            let found = state.packets.iter().position(wanted);
            let at = found.unwrap_or_else(|| panic!("not among {:?}", state.packets));
            state.packets.remove(at).expect("it was just found")
        })
    }

    /// The first acknowledgement must be this.
    #[track_caller]
    pub fn expect_ack(&self, kind: AckKind, packet_id: u16, reason: ReasonCode) {
        let ack = self.ack();
        assert_eq!(
            (ack.kind, ack.packet_id, ack.reason),
            (kind, packet_id, reason)
        );
    }

    /// Nothing was sent, and the connection is open.
    #[track_caller]
    pub fn expect_nothing(&self) {
        assert_eq!(self.drain(), [], "the client was sent something");
        assert!(!self.is_closed(), "the connection is closed");
        self.state(|state| assert!(state.received.is_empty(), "part of a packet"));
    }

    /// The broker closed, without another packet.
    #[track_caller]
    pub fn expect_closed(&self) {
        assert_eq!(self.drain(), [], "packets before the close");
        assert!(self.is_closed(), "the connection is open");
    }

    /// The broker sent DISCONNECT as its last packet and closed.
    #[track_caller]
    pub fn expect_disconnect(&self, reason: ReasonCode) -> DisconnectGot {
        match self.try_next() {
            Some(Got::Disconnect(disconnect)) => {
                assert_eq!(disconnect.reason, reason, "{disconnect:?}");
                self.expect_closed();
                disconnect
            }
            other => panic!("not a DISCONNECT {reason:?}: {other:?}"),
        }
    }

    /// The broker answers PINGREQ: the connection lives, and nothing else was pending.
    #[track_caller]
    pub fn expect_alive(&self) {
        self.send_raw(&bytes::PINGREQ);
        assert_eq!(self.try_next(), Some(Got::Pingresp), "PINGRESP expected");
    }
}

/// Packets.
impl Client {
    /// Subscribes to one filter; the options are the byte on the wire (the QoS, for 3.x). Returns
    /// the code of SUBACK.
    pub fn subscribe(&self, filter: &str, options: u8) -> u8 {
        self.subscribe_all(&[(filter, options)], &[]).reasons[0]
    }

    /// Subscribes with a subscription identifier (v5).
    pub fn subscribe_with_id(&self, filter: &str, options: u8, subscription_id: usize) -> u8 {
        let properties = bytes::prop::subscription_id(subscription_id);
        self.subscribe_all(&[(filter, options)], &properties)
            .reasons[0]
    }

    /// Subscribes to several filters with raw properties (v5).
    pub fn subscribe_all(&self, filters: &[(&str, u8)], properties: &[u8]) -> SubackGot {
        let id = self.new_id();
        self.send_raw(&bytes::subscribe(self.version(), id, filters, properties));
        let suback = self.suback();
        assert_eq!(suback.packet_id, id);
        suback
    }

    /// Unsubscribes; the codes of UNSUBACK (none for 3.x).
    pub fn unsubscribe(&self, filters: &[&str]) -> Vec<u8> {
        let id = self.new_id();
        self.send_raw(&bytes::unsubscribe(self.version(), id, filters, &[]));
        let unsuback = self.unsuback();
        assert_eq!(unsuback.packet_id, id);
        unsuback.reasons
    }

    /// Publishes and completes the exchange; the code of PUBACK or PUBREC, `Success` for QoS 0.
    pub fn publish(&self, topic: &str, payload: &str, qos: u8) -> ReasonCode {
        self.publish_all(PublishPacket::new(topic, payload).qos(qos))
    }

    /// Publishes a retained message and completes the exchange.
    pub fn publish_retained(&self, topic: &str, payload: &str, qos: u8) -> ReasonCode {
        self.publish_all(PublishPacket::new(topic, payload).qos(qos).retain())
    }

    /// Publishes and completes the exchange; the code of PUBACK or PUBREC, `Success` for QoS 0.
    pub fn publish_all(&self, publish: PublishPacket) -> ReasonCode {
        let qos = publish.qos;
        let id = self.publish_with(publish);
        if qos == 0 {
            return ReasonCode::Success;
        }
        let ack = self.ack();
        let kind = if qos == 1 {
            AckKind::Puback
        } else {
            AckKind::Pubrec
        };
        assert_eq!((ack.kind, ack.packet_id), (kind, id));
        if qos == 2 && !ack.reason.is_error() {
            self.pubrel(id);
            self.expect_ack(AckKind::Pubcomp, id, ReasonCode::Success);
        }
        ack.reason
    }

    /// Sends PUBLISH and leaves the answer to be read; the packet identifier, 0 for QoS 0.
    pub fn publish_with(&self, mut publish: PublishPacket) -> u16 {
        if publish.qos > 0 && publish.packet_id.is_none() {
            publish.packet_id = Some(self.new_id());
        }
        self.send_raw(&publish.build(self.version()));
        publish.packet_id.unwrap_or(0)
    }

    pub fn puback(&self, packet_id: u16) {
        self.send_raw(&bytes::ack(4, packet_id, 0));
    }

    pub fn pubrec(&self, packet_id: u16) {
        self.send_raw(&bytes::ack(5, packet_id, 0));
    }

    pub fn pubrel(&self, packet_id: u16) {
        self.send_raw(&bytes::ack(6, packet_id, 0));
    }

    pub fn pubcomp(&self, packet_id: u16) {
        self.send_raw(&bytes::ack(7, packet_id, 0));
    }
}
