//! A page of retained messages that is older than what was delivered as it came.

#[path = "support/mod.rs"]
mod support;

use mqtt_v5_codec::QoS;
use shard::{
    Answer, Config, ConnectionId, Effects, Event, Frame, Lane, Listener, Message, MessageView,
    RequestId, Shard, ShardId, Time,
};
use std::sync::Arc;
use support::{ConnectPacket, Got, V5, bytes, packets::take_packet};

const HOME: ConnectionId = ConnectionId {
    index: 0,
    generation: 0,
};

fn retained(topic: &str, payload: &str) -> Arc<Message> {
    MessageView {
        topic,
        forwarded: &[],
        payload: payload.as_bytes(),
        qos: QoS::AtLeastOnce,
        retain: true,
        expires: None,
        publisher: None,
    }
    .to_message()
}

/// Shard 0 of two, and what it says to shard 1 and to one client.
struct Half {
    shard: Shard,
    effects: Effects,
}

impl Half {
    fn handle(&mut self, event: Event<'_>) {
        self.shard.handle(Time(1_000_000), event, &mut self.effects);
    }

    fn receive(&mut self, bytes: &[u8]) {
        let connection = HOME;
        self.handle(Event::Received { connection, bytes });
    }

    fn frame(&mut self, frame: Frame) {
        let from = ShardId(1);
        self.handle(Event::Frame { from, frame });
    }

    fn reply(&mut self, request: RequestId, answer: Answer) {
        self.frame(Frame::Reply { request, answer });
    }

    fn request(&mut self) -> Option<Frame> {
        self.effects.staged(ShardId(1), Lane::Request).pop_front()
    }

    fn messages(&mut self) -> Vec<String> {
        let mut output = self.effects.take_output(HOME);
        let mut messages = Vec::new();
        while let Some(packet) = take_packet(V5, &mut output) {
            if let Got::Publish(message) = packet {
                messages.push(format!("{} {}", message.topic, message.text()));
            }
        }
        messages
    }
}

#[test]
fn a_page_does_not_take_back_what_came_after_it_was_read() {
    let config = Config {
        shards: 2,
        ..Config::alone()
    };
    // A client whose home is this shard.
    let place = shard::Placement::new(2, config.placement_seed);
    let id = (0..)
        .map(|n| format!("client {n}"))
        .find(|id| place.client(id) == ShardId(0))
        .expect("there are many");
    let mut half = Half {
        shard: Shard::new(config, Time(1_000_000)),
        effects: Effects::new(2),
    };
    half.effects.open(HOME);
    half.handle(Event::Accepted {
        connection: HOME,
        listener: Listener::Mqtt,
        peer: ([127, 0, 0, 1], 9).into(),
    });
    half.receive(&ConnectPacket::new(V5, &id).build());
    half.receive(&bytes::subscribe(V5, 1, &[("t/#", 0)], &[]));
    let Some(Frame::RouteAdd { request, .. }) = half.request() else {
        panic!("a new filter is announced");
    };
    half.reply(request, Answer::RouteAdded);
    let Some(Frame::RetainedRead { request, .. }) = half.request() else {
        panic!("retained messages are read");
    };
    half.frame(Frame::Deliver {
        request: None,
        message: retained("t/1", "new"),
        once: None,
    });
    half.reply(
        request,
        Answer::RetainedPage {
            messages: vec![retained("t/1", "old"), retained("t/2", "other")],
            next: None,
        },
    );
    assert_eq!(half.messages(), ["t/1 new", "t/2 other"]);
}
