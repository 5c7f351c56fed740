//! One shard of two, and what may overtake what on its way from the other: a page of retained
//! messages what is delivered as it came, and news of a request the answer that it will come.

#[path = "support/mod.rs"]
mod support;

use mqtt_v5_codec::{QoS, ReasonCode};
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

    fn packets(&mut self) -> Vec<Got> {
        let mut output = self.effects.take_output(HOME);
        std::iter::from_fn(|| take_packet(V5, &mut output)).collect()
    }

    fn messages(&mut self) -> Vec<String> {
        let packets = self.packets().into_iter();
        let messages = packets.filter_map(|packet| match packet {
            Got::Publish(message) => Some(format!("{} {}", message.topic, message.text())),
            _ => None,
        });
        messages.collect()
    }

    /// With one client.
    fn new() -> Half {
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
        half
    }
}

#[test]
fn news_of_a_request_may_overtake_the_answer_that_it_will_come() {
    for is_overtaking in [false, true] {
        let mut half = Half::new();
        half.frame(Frame::RouteAdd {
            request: RequestId(7),
            filters: vec!["t/#".into()],
        });
        let message = bytes::PublishPacket::new("t/1", "m").qos(1).id(5);
        half.receive(&message.build(V5));
        let Some(Frame::Deliver { request, .. }) = half.request() else {
            panic!("a message is delivered");
        };
        let request = request.expect("at QoS 1");
        let settled = Frame::Settled {
            request,
            matched: true,
            is_refused: true,
        };
        half.packets();
        match is_overtaking {
            true => {
                half.frame(settled);
                half.shard.check();
                assert!(half.packets().is_empty(), "its credit is not free");
                half.reply(request, Answer::Later);
            }
            false => {
                half.reply(request, Answer::Later);
                half.frame(settled);
            }
        }
        half.shard.check();
        let packets = half.packets();
        assert!(
            matches!(&packets[..], [Got::Ack(ack)] if ack.reason == ReasonCode::QuotaExceeded),
            "{packets:?}"
        );
    }
}

#[test]
fn a_page_does_not_take_back_what_came_after_it_was_read() {
    let mut half = Half::new();
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
        is_will: false,
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
