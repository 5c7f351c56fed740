//! An MQTT 5 client of rumqttc, on a thread of its own.

use crate::support::PATIENCE;
use rumqttc::v5::mqttbytes::v5::{ConnectProperties, Packet, PubAckReason};
use rumqttc::v5::{Client as Inner, Event, MqttOptions};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};

pub use rumqttc::v5::mqttbytes::QoS;

/// A client.
pub struct Client {
    inner: Inner,
    packets: Receiver<Packet>,
    /// Why the connection has ended, once it has.
    end: Arc<Mutex<String>>,
}

impl Client {
    /// Connects with a session of this many seconds, 0 for a clean one, and waits for CONNACK.
    #[track_caller]
    pub fn connect(address: SocketAddr, id: &str, expiry_s: u32) -> Client {
        let client = Client::try_connect(address, id, expiry_s);
        client.wait(|packet| matches!(packet, Packet::ConnAck(_)).then_some(()));
        client
    }

    /// Connects, and waits for nothing.
    pub fn try_connect(address: SocketAddr, id: &str, expiry_s: u32) -> Client {
        let mut options = MqttOptions::new(id, address.ip().to_string(), address.port());
        options.set_clean_start(expiry_s == 0);
        options.set_connect_properties(ConnectProperties {
            session_expiry_interval: (expiry_s > 0).then_some(expiry_s),
            ..ConnectProperties::new()
        });
        let (inner, mut connection) = Inner::new(options, 1_000);
        let (sender, packets) = channel();
        let end = Arc::new(Mutex::new(String::new()));
        let why = Arc::clone(&end);
        std::thread::spawn(move || {
            for event in connection.iter() {
                let is_over = match event {
                    Ok(Event::Incoming(packet)) => sender.send(packet).is_err(),
                    Ok(Event::Outgoing(_)) => false,
                    Err(error) => {
                        *why.lock().unwrap() = format!("{error:?}");
                        true
                    }
                };
                if is_over {
                    return;
                }
            }
        });
        Client {
            inner,
            packets,
            end,
        }
    }

    /// Waits for what this finds; other packets are passed over.
    #[track_caller]
    pub fn wait<T>(&self, find: impl Fn(&Packet) -> Option<T>) -> T {
        loop {
            let packet = match self.packets.recv_timeout(PATIENCE) {
                Ok(packet) => packet,
                Err(error) => panic!("{error}: {}", self.end.lock().unwrap()),
            };
            if let Some(found) = find(&packet) {
                return found;
            }
        }
    }

    /// Subscribes, and waits for SUBACK.
    #[track_caller]
    pub fn subscribe(&self, filter: &str, qos: QoS) {
        self.inner.subscribe(filter, qos).unwrap();
        self.wait(|packet| matches!(packet, Packet::SubAck(_)).then_some(()));
    }

    /// Publishes with QoS 1, and waits for PUBACK.
    #[track_caller]
    pub fn publish(&self, topic: &str, payload: &str) -> PubAckReason {
        self.publish_as(topic, payload, false)
    }

    /// The same, retained.
    pub fn retain(&self, topic: &str, payload: &str) -> PubAckReason {
        self.publish_as(topic, payload, true)
    }

    #[track_caller]
    fn publish_as(&self, topic: &str, payload: &str, retain: bool) -> PubAckReason {
        let payload = payload.to_owned();
        self.inner
            .publish(topic, QoS::AtLeastOnce, retain, payload)
            .unwrap();
        self.wait(|packet| match packet {
            Packet::PubAck(puback) => Some(puback.reason),
            _ => None,
        })
    }

    /// The next message: topic and payload.
    #[track_caller]
    pub fn message(&self) -> (String, String) {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        self.wait(|packet| match packet {
            Packet::Publish(publish) => Some((text(&publish.topic), text(&publish.payload))),
            _ => None,
        })
    }

    /// Waits until the broker says goodbye, and returns what rumqttc says of it.
    pub fn goodbye(&self) -> String {
        loop {
            match self.packets.recv_timeout(PATIENCE) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return self.end.lock().unwrap().clone(),
                Err(RecvTimeoutError::Timeout) => panic!("no goodbye"),
            }
        }
    }

    /// Whether the connection ends before it is accepted.
    pub fn ends_without_connack(&self) -> bool {
        loop {
            match self.packets.recv_timeout(PATIENCE) {
                Ok(Packet::ConnAck(connack)) if connack.code as u8 == 0 => return false,
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => panic!("neither accepted nor closed"),
            }
        }
    }

    /// Leaves as one should.
    pub fn leave(self) {
        self.inner.disconnect().unwrap();
        while self.packets.recv_timeout(PATIENCE).is_ok() {}
    }
}
