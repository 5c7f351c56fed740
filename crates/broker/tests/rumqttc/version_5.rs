//! rumqttc speaking MQTT 5, and what came with that version.

use crate::Target;
use crate::peer::{Inbox, Message, Options, PACKET_BYTES_MAX, Peer, REQUESTS_MAX, Step};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAckProperties, ConnectProperties, Filter, LastWill, Packet, PubAckReason,
    PublishProperties, SubscribeProperties, SubscribeReasonCode,
};
use rumqttc::v5::{Client, Connection, Event, MqttOptions, RecvTimeoutError};
use std::net::SocketAddr;
use std::time::Duration;

/// A client.
pub struct Peer5 {
    client: Client,
    inbox: Inbox<Packet>,
    session_present: bool,
    connack: ConnAckProperties,
}

fn qos_of(number: u8) -> QoS {
    rumqttc::v5::mqttbytes::qos(number).expect("0 to 2")
}

fn step(connection: &mut Connection, patience: Option<Duration>) -> Step<Packet> {
    let event = match patience {
        None => connection
            .recv()
            .map_err(|_| RecvTimeoutError::Disconnected),
        Some(patience) => connection.recv_timeout(patience),
    };
    match event {
        Ok(Ok(Event::Incoming(packet))) => Step::Received(packet),
        Ok(Ok(Event::Outgoing(_))) | Err(RecvTimeoutError::Timeout) => Step::Nothing,
        Ok(Err(error)) => Step::Ended(error.to_string()),
        Err(RecvTimeoutError::Disconnected) => Step::Ended("left".to_owned()),
    }
}

impl Peer5 {
    fn start(
        address: SocketAddr,
        client_id: &str,
        options: &Options,
        properties: ConnectProperties,
    ) -> Peer5 {
        let mut settings = MqttOptions::new(client_id, address.ip().to_string(), address.port());
        settings.set_clean_start(!options.is_lasting);
        settings.set_connect_properties(ConnectProperties {
            session_expiry_interval: options.is_lasting.then_some(60),
            max_packet_size: Some(PACKET_BYTES_MAX),
            ..properties
        });
        if let Some(will) = &options.will {
            let qos = qos_of(will.qos);
            settings.set_last_will(LastWill::new(
                &will.topic,
                will.payload.clone(),
                qos,
                false,
                None,
            ));
        }
        let (client, mut connection) = Client::new(settings, REQUESTS_MAX);
        let mut inbox = Inbox::new(move |patience| step(&mut connection, patience));
        let (session_present, connack) = inbox.await_some(|packet| match packet {
            Packet::ConnAck(connack) => Some((connack.session_present, connack.properties.clone())),
            _ => None,
        });
        Peer5 {
            client,
            inbox,
            session_present,
            connack: connack.expect("properties in CONNACK"),
        }
    }

    fn send_with(
        &mut self,
        topic: &str,
        payload: &str,
        properties: PublishProperties,
    ) -> PubAckReason {
        let payload = payload.to_owned();
        self.client
            .publish_with_properties(topic, QoS::AtLeastOnce, false, payload, properties)
            .unwrap();
        self.inbox.await_some(|packet| match packet {
            Packet::PubAck(puback) => Some(puback.reason),
            _ => None,
        })
    }

    fn await_suback(&mut self) -> Vec<u8> {
        self.inbox.await_some(|packet| match packet {
            Packet::SubAck(suback) => {
                let granted = |code: &SubscribeReasonCode| match code {
                    SubscribeReasonCode::Success(qos) => *qos as u8,
                    _ => 0x80,
                };
                Some(suback.return_codes.iter().map(granted).collect())
            }
            _ => None,
        })
    }

    /// The next message, as received.
    fn next_publish(&mut self) -> (String, String, PublishProperties) {
        self.inbox.await_some(|packet| match packet {
            Packet::Publish(publish) => {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                let properties = publish.properties.clone().unwrap_or_default();
                Some((text(&publish.topic), text(&publish.payload), properties))
            }
            _ => None,
        })
    }
}

impl Peer for Peer5 {
    fn connect(address: SocketAddr, client_id: &str, options: &Options) -> Peer5 {
        Peer5::start(address, client_id, options, ConnectProperties::new())
    }

    fn session_present(&self) -> bool {
        self.session_present
    }

    fn subscribe(&mut self, filter: &str, qos: u8) -> Vec<u8> {
        self.client.subscribe(filter, qos_of(qos)).unwrap();
        self.await_suback()
    }

    fn unsubscribe(&mut self, filter: &str) {
        self.client.unsubscribe(filter).unwrap();
        self.inbox
            .await_some(|packet| matches!(packet, Packet::UnsubAck(_)).then_some(()));
    }

    fn send(&mut self, topic: &str, qos: u8, retain: bool, payload: &[u8]) {
        self.client
            .publish(topic, qos_of(qos), retain, payload.to_vec())
            .unwrap();
    }

    fn await_acknowledgements(&mut self, count: usize) {
        for _ in 0..count {
            self.inbox.await_some(|packet| {
                matches!(packet, Packet::PubAck(_) | Packet::PubComp(_)).then_some(())
            });
        }
    }

    fn next(&mut self) -> Message {
        self.inbox.await_some(|packet| match packet {
            Packet::Publish(publish) => Some(Message {
                topic: String::from_utf8(publish.topic.to_vec()).unwrap(),
                qos: publish.qos as u8,
                retain: publish.retain,
                payload: publish.payload.to_vec(),
            }),
            _ => None,
        })
    }

    fn leave(mut self) {
        self.client.disconnect().unwrap();
        self.inbox.await_end();
    }

    fn vanish(mut self) {
        self.inbox.vanish();
    }
}

#[test]
fn properties_travel_unchanged() {
    let target = Target::find();
    let mut peer: Peer5 = target.peer("rumqttc-5-properties");
    peer.subscribe("rumqttc/properties", 1);
    let sent = PublishProperties {
        payload_format_indicator: Some(1),
        message_expiry_interval: Some(100),
        response_topic: Some("answers/here".to_owned()),
        correlation_data: Some(vec![0, 1, 255].into()),
        user_properties: vec![
            ("first".to_owned(), "1".to_owned()),
            ("second".to_owned(), "2".to_owned()),
            ("first".to_owned(), "again".to_owned()),
        ],
        content_type: Some("text/plain".to_owned()),
        ..PublishProperties::default()
    };
    let reason = peer.send_with("rumqttc/properties", "text", sent.clone());
    assert_eq!(reason, PubAckReason::Success);
    let (_, payload, mut found) = peer.next_publish();
    assert_eq!(payload, "text");
    let left = found.message_expiry_interval.take().unwrap();
    assert!((90..=100).contains(&left), "{left} s are left of 100");
    assert_eq!(
        found,
        PublishProperties {
            message_expiry_interval: None,
            ..sent
        }
    );
}

#[test]
fn subscription_identifiers_come_back() {
    let target = Target::find();
    let mut peer: Peer5 = target.peer("rumqttc-5-identifiers");
    let properties = SubscribeProperties {
        id: Some(4_321),
        user_properties: Vec::new(),
    };
    let filter = "rumqttc/identifiers/+";
    peer.client
        .subscribe_with_properties(filter, QoS::AtLeastOnce, properties)
        .unwrap();
    assert_eq!(peer.await_suback(), [1]);
    peer.publish("rumqttc/identifiers/a", 1, false, b"x");
    assert_eq!(peer.next_publish().2.subscription_identifiers, [4_321]);
}

#[test]
fn topic_aliases_work_both_ways() {
    let target = Target::find();
    let properties = ConnectProperties {
        topic_alias_max: Some(2),
        ..ConnectProperties::new()
    };
    let options = Options::default();
    let mut peer = Peer5::start(target.address(), "rumqttc-5-aliases", &options, properties);
    assert!(
        peer.connack
            .topic_alias_max
            .is_some_and(|maximum| maximum >= 1)
    );
    peer.subscribe("rumqttc/aliases/#", 1);
    let alias = || PublishProperties {
        topic_alias: Some(1),
        ..PublishProperties::default()
    };
    peer.send_with("rumqttc/aliases/one", "first", alias());
    // The topic is left out: the alias stands for it.
    peer.send_with("", "second", alias());
    let mut names = [const { String::new() }; 3];
    for expected in ["first", "second"] {
        let (topic, payload, properties) = peer.next_publish();
        // The client hands packets out as received; towards it the broker may use aliases too.
        let topic = match properties.topic_alias {
            Some(alias) if topic.is_empty() => names[alias as usize].clone(),
            Some(alias) => {
                names[alias as usize].clone_from(&topic);
                topic
            }
            None => topic,
        };
        assert_eq!(
            (topic.as_str(), payload.as_str()),
            ("rumqttc/aliases/one", expected)
        );
    }
}

#[test]
fn no_local_keeps_own_messages_away() {
    let target = Target::find();
    let mut peer: Peer5 = target.peer("rumqttc-5-local");
    let mut other: Peer5 = target.peer("rumqttc-5-local-other");
    let mut filter = Filter::new("rumqttc/local", QoS::AtLeastOnce);
    filter.nolocal = true;
    peer.client.subscribe_many([filter]).unwrap();
    assert_eq!(peer.await_suback(), [1]);
    peer.publish("rumqttc/local", 1, false, b"own");
    other.publish("rumqttc/local", 1, false, b"other's");
    assert_eq!(peer.next().payload, b"other's");
}

#[test]
fn nobody_listening_is_said() {
    let target = Target::find();
    let mut peer: Peer5 = target.peer("rumqttc-5-nobody");
    let reason = peer.send_with("rumqttc/nobody", "x", PublishProperties::default());
    assert_eq!(reason, PubAckReason::NoMatchingSubscribers);
}

#[test]
fn the_second_connection_takes_over() {
    let target = Target::find();
    let mut first: Peer5 = target.peer("rumqttc-5-takeover");
    let second: Peer5 = target.peer("rumqttc-5-takeover");
    let why = first.inbox.await_end();
    assert!(why.contains("SessionTakenOver"), "{why}");
    second.leave();
}
