//! rumqttc speaking MQTT 3.1.1.

use crate::Target;
use crate::peer::{Inbox, Message, Options, PACKET_BYTES_MAX, Peer, REQUESTS_MAX, Step};
use rumqttc::{
    Client, Connection, Event, LastWill, MqttOptions, Packet, QoS, RecvTimeoutError,
    SubscribeReasonCode,
};
use std::net::SocketAddr;
use std::time::Duration;

/// A client.
pub struct Peer3 {
    client: Client,
    inbox: Inbox<Packet>,
    session_present: bool,
}

fn qos_of(number: u8) -> QoS {
    rumqttc::qos(number).expect("0 to 2")
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

impl Peer for Peer3 {
    fn connect(address: SocketAddr, client_id: &str, options: &Options) -> Peer3 {
        let mut settings = MqttOptions::new(client_id, address.ip().to_string(), address.port());
        settings.set_clean_session(!options.is_lasting);
        settings.set_max_packet_size(PACKET_BYTES_MAX as usize, PACKET_BYTES_MAX as usize);
        if let Some(will) = &options.will {
            let qos = qos_of(will.qos);
            settings.set_last_will(LastWill::new(&will.topic, will.payload.clone(), qos, false));
        }
        let (client, mut connection) = Client::new(settings, REQUESTS_MAX);
        let mut inbox = Inbox::new(move |patience| step(&mut connection, patience));
        let session_present = inbox.await_some(|packet| match packet {
            Packet::ConnAck(connack) => Some(connack.session_present),
            _ => None,
        });
        Peer3 {
            client,
            inbox,
            session_present,
        }
    }

    fn session_present(&self) -> bool {
        self.session_present
    }

    fn subscribe(&mut self, filter: &str, qos: u8) -> Vec<u8> {
        self.client.subscribe(filter, qos_of(qos)).unwrap();
        self.inbox.await_some(|packet| match packet {
            Packet::SubAck(suback) => {
                let granted = |code: &SubscribeReasonCode| match code {
                    SubscribeReasonCode::Success(qos) => *qos as u8,
                    SubscribeReasonCode::Failure => 0x80,
                };
                Some(suback.return_codes.iter().map(granted).collect())
            }
            _ => None,
        })
    }

    fn unsubscribe(&mut self, filter: &str) {
        self.client.unsubscribe(filter).unwrap();
        self.inbox
            .await_some(|packet| matches!(packet, Packet::UnsubAck(_)).then_some(()));
    }

    fn send(&mut self, topic: &str, qos: u8, retain: bool, payload: &[u8]) {
        self.client
            .publish(topic, qos_of(qos), retain, payload)
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
                topic: publish.topic.clone(),
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
fn the_second_connection_takes_over() {
    let target = Target::find();
    let mut first: Peer3 = target.peer("rumqttc-3-takeover");
    let second: Peer3 = target.peer("rumqttc-3-takeover");
    first.inbox.await_end();
    second.leave();
}
