//! A client of the Meshblu API: its connection, and what it waits for on it.
//!
//! What a shard sends counts when it sends it, not when the client gets to read it: the rules are
//! about the server, whatever the network makes of it.

use super::model::{Model, Step};
use super::request::Request;
use super::wire::Socket;
use crate::link::{Leave, LinkId};
use crate::wire::{Framer, Wish, write_subscribe};
use crate::world::{Wake, What, World};
use http::Opcode;
use mqtt_v5_codec::{
    Connect, ConnectProperties, Outgoing, Packet, PacketId, QoS, SubscriptionOptions, Version,
    encode_publish,
};
use serde_json::{Value, json};
use shard::{Listener, Time};
use std::collections::VecDeque;

/// How a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// HTTP requests of all devices.
    Http,
    /// A WebSocket of a device.
    Socket,
    /// An event stream of a device.
    Stream,
    /// MQTT of a device.
    Mqtt,
}

/// A request that is not answered.
#[derive(Debug)]
pub struct Pending {
    /// The request.
    pub request: Request,
    /// By MQTT: its packet.
    pub packet_id: u16,
    /// By a socket: an error has come.
    pub is_refused: bool,
}

/// What belongs to one connection.
#[derive(Debug, Default)]
pub struct Talk {
    /// Sent and not decoded yet.
    pub received: Vec<u8>,
    /// Of an event stream: what is not a whole event yet.
    pub text: Vec<u8>,
    /// Of a WebSocket.
    pub socket: Socket,
    /// Of MQTT.
    pub framer: Framer,
    /// In their order.
    pub queue: VecDeque<Pending>,
    /// By a socket: what was told to the request at the front.
    pub body: Value,
    /// The handshake has been answered.
    pub is_open: bool,
    /// The handshake has been refused.
    pub is_refused: bool,
    /// From here on it hears all that it must hear.
    pub ready: Option<Step>,
    /// The request that shows its token.
    pub hello: usize,
    /// Bytes written, and those that have reached a shard.
    written: u64,
    delivered: u64,
    /// Where in what was written requests end.
    marks: VecDeque<(u64, usize)>,
    last_packet: u16,
}

/// One client.
#[derive(Debug)]
pub struct Client {
    /// Its number.
    pub index: usize,
    /// How it speaks.
    pub role: Role,
    /// Its connection.
    pub link: Option<LinkId>,
    /// Of its connection: old wishes are ignored.
    pub turn: u64,
    /// Its device and token, unless it speaks for all.
    pub me: (usize, usize),
    /// About the present connection.
    pub talk: Talk,
    /// When it last sent something.
    pub sent_at: Time,
}

impl Client {
    /// A client without a connection.
    pub fn new(index: usize, role: Role) -> Client {
        Client {
            index,
            role,
            link: None,
            turn: 0,
            me: (0, 0),
            talk: Talk::default(),
            sent_at: Time(0),
        }
    }

    /// Asks to be woken.
    pub fn wake(&self, world: &mut World, delay_us: u64, wake: Wake) {
        let (client, turn) = (self.index, self.turn);
        world.schedule(delay_us, What::Wake { client, wake, turn });
    }

    /// Opens a connection; of a device, with this token.
    pub fn connect(&mut self, world: &mut World, model: &mut Model, me: (usize, usize)) {
        self.turn += 1;
        self.me = me;
        self.talk = Talk::default();
        let listener = match self.role {
            Role::Mqtt => Listener::Mqtt,
            _ => Listener::Http,
        };
        let link = world.connect_to(self.index, Version::V5, listener);
        self.link = Some(link);
        if self.role == Role::Http {
            self.talk.ready = Some(world.step);
            return;
        }
        let hello = model.begin(world.step);
        self.talk.hello = hello;
        let (uuid, token) = {
            let device = &model.devices[me.0];
            (&*device.uuid, &*device.tokens[me.1].text)
        };
        let mut out = Vec::new();
        match self.role {
            Role::Mqtt => write_connect(&mut out, &format!("mesh{}", link.0), uuid, token),
            Role::Stream => {
                let bearer = http::bearer(uuid, token);
                let head = format!(
                    "GET /subscribe HTTP/1.1\r\nHost: h\r\nAuthorization: {bearer}\r\n\r\n"
                );
                out.extend_from_slice(head.as_bytes());
            }
            _ => {
                out.extend_from_slice(UPGRADE.as_bytes());
                let identity = json!({"event": "identity", "uuid": uuid, "token": token});
                write_text(&mut out, &identity);
            }
        }
        self.write(world, &out, Some(hello));
    }

    /// Leaves its connection.
    pub fn leave(&mut self, world: &mut World, leave: Leave) {
        if let Some(link) = self.link.take()
            && world.links[link.0].left.is_none()
        {
            world.leave(link, leave);
        }
        self.turn += 1;
        self.talk = Talk::default();
    }

    /// Its connection is gone.
    pub fn on_gone(&mut self) {
        self.link = None;
        self.turn += 1;
        self.talk = Talk::default();
    }

    fn write(&mut self, world: &mut World, bytes: &[u8], op: Option<usize>) {
        let Some(link) = self.link else { return };
        self.sent_at = world.now;
        self.talk.written += bytes.len() as u64;
        let mark = op.map(|op| (self.talk.written, op));
        self.talk.marks.extend(mark);
        world.write(link, bytes);
    }

    /// Bytes have reached a shard: from now on the requests that end in them may have an effect.
    pub fn on_delivered(&mut self, bytes: usize, model: &mut Model, now: Step) {
        self.talk.delivered += bytes as u64;
        while let Some((end, op)) = self.talk.marks.front().copied()
            && end <= self.talk.delivered
        {
            model.times[op].from = now;
            self.talk.marks.pop_front();
        }
    }

    /// Whether it can put this request; if so, it does.
    pub fn send(&mut self, world: &mut World, model: &Model, request: Request) {
        let op = request.op;
        let (mut out, mut behind) = (Vec::new(), Vec::new());
        let mut packet_id = 0;
        match self.role {
            Role::Http => out = request.http(model),
            Role::Stream => unreachable!("an event stream asks for nothing more"),
            Role::Socket => {
                let frame = request.frame(model).expect("chosen to be possible");
                write_text(&mut out, &frame);
                // What goes well is not answered; but this is, once it is its turn.
                write_text(&mut behind, &json!({"event": "ping"}));
            }
            Role::Mqtt => {
                let (name, payload) = request.publish(model).expect("chosen to be possible");
                packet_id = self.talk.last_packet % 60_000 + 1;
                self.talk.last_packet = packet_id;
                let topic = format!("{}/{name}", model.devices[self.me.0].uuid);
                write_publish(&mut out, packet_id, &topic, &payload);
            }
        }
        self.talk.queue.push_back(Pending {
            request,
            packet_id,
            is_refused: false,
        });
        self.write(world, &out, Some(op));
        self.write(world, &behind, None);
    }

    /// Answers a ping of the server's.
    pub fn pong(&mut self, world: &mut World) {
        let mut out = Vec::new();
        http::write_client_frame(&mut out, Opcode::Pong, b"", MASK);
        self.write(world, &out, None);
    }

    /// Acknowledges a PUBLISH.
    pub fn acknowledge(&mut self, world: &mut World, packet_id: PacketId) {
        let [high, low] = packet_id.number().to_be_bytes();
        self.write(world, &[0x40, 2, high, low], None);
    }

    /// Subscribes to all that its device hears.
    pub fn listen(&mut self, world: &mut World, model: &Model) {
        let wish = Wish {
            filter: format!("{}/+", model.devices[self.me.0].uuid),
            options: SubscriptionOptions {
                qos: QoS::AtLeastOnce,
                ..SubscriptionOptions::default()
            },
        };
        let mut out = Vec::new();
        let packet_id = PacketId::new(60_001).expect("above 0");
        write_subscribe(&mut out, Version::V5, packet_id, None, &[wish]);
        self.write(world, &out, None);
    }
}

const MASK: [u8; 4] = [1, 2, 3, 4];
const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";

fn write_text(out: &mut Vec<u8>, frame: &Value) {
    http::write_client_frame(out, Opcode::Text, frame.to_string().as_bytes(), MASK);
}

fn write_connect(out: &mut Vec<u8>, client_id: &str, uuid: &str, token: &str) {
    let connect = Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive_s: 0,
        client_id,
        will: None,
        user_name: Some(uuid),
        password: Some(token.as_bytes()),
        properties: ConnectProperties::default(),
    };
    Packet::Connect(connect).encode(Version::V5, out);
}

fn write_publish(out: &mut Vec<u8>, packet_id: u16, topic: &str, payload: &[u8]) {
    encode_publish(
        out,
        &Outgoing {
            version: Version::V5,
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic,
            packet_id: PacketId::new(packet_id),
            topic_alias: None,
            message_expiry_s: None,
            subscription_ids: &[],
            forwarded: &[],
            payload,
        },
    );
}
