//! Whatever clients of any version do, in whatever order: no shard panics, `Shard::check` holds
//! after every event, and who comes afterwards is served.

mod support;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest};
use support::{AckKind, Client, Got, PublishPacket, V5, V31, V311, WillPacket, World, bytes};

const FILTERS: [&str; 9] = [
    "a",
    "a/b",
    "a/+",
    "#",
    "+/b",
    "$share/g/a/b",
    "$share/g/#",
    "$own/#",
    "a/#/b",
];
const TOPICS: [&str; 6] = ["a", "a/b", "b/b", "$own/b", "$SYS/a", "c"];
const CLIENTS: usize = 4;

/// Something that one client does.
#[derive(Clone, Debug)]
enum Act {
    Connect {
        clean: bool,
        keep_alive_s: u16,
        will: Option<u8>,
        window: u16,
    },
    Cut,
    Disconnect,
    Subscribe {
        filters: Vec<(usize, u8)>,
        id: u16,
    },
    Unsubscribe {
        filter: usize,
        id: u16,
    },
    Publish {
        topic: usize,
        qos: u8,
        retain: bool,
        dup: bool,
        id: u16,
        bytes: usize,
    },
    Ack {
        kind: u8,
        id: u16,
    },
    AckAll,
    Ping,
    Stall,
    Unstall,
    Raw(Vec<u8>),
    Wait {
        ms: u64,
    },
}

fn id() -> impl Strategy<Value = u16> {
    1_u16..6
}

fn act() -> impl Strategy<Value = Act> {
    let connect = (any::<bool>(), 0_u16..4, prop::option::of(0_u8..3), 1_u16..4).prop_map(
        |(clean, keep_alive_s, will, window)| Act::Connect {
            clean,
            keep_alive_s,
            will,
            window,
        },
    );
    let subscribe = (
        prop::collection::vec((0..FILTERS.len(), 0_u8..3), 1..4),
        id(),
    )
        .prop_map(|(filters, id)| Act::Subscribe { filters, id });
    let publish = (
        0..TOPICS.len(),
        0_u8..3,
        any::<bool>(),
        any::<bool>(),
        id(),
        0_usize..600,
    )
        .prop_map(|(topic, qos, retain, dup, id, bytes)| {
            let dup = dup && qos > 0;
            Act::Publish {
                topic,
                qos,
                retain,
                dup,
                id,
                bytes,
            }
        });
    prop_oneof![
        6 => connect,
        2 => Just(Act::Cut),
        1 => Just(Act::Disconnect),
        6 => subscribe,
        2 => (0..FILTERS.len(), id()).prop_map(|(filter, id)| Act::Unsubscribe { filter, id }),
        12 => publish,
        4 => (4_u8..8, id()).prop_map(|(kind, id)| Act::Ack { kind, id }),
        4 => Just(Act::AckAll),
        1 => Just(Act::Ping),
        1 => Just(Act::Stall),
        1 => Just(Act::Unstall),
        1 => prop::collection::vec(any::<u8>(), 1..12).prop_map(Act::Raw),
        2 => (0_u64..30_000).prop_map(|ms| Act::Wait { ms }),
    ]
}

fn connect(client: &Client, clean: bool, keep_alive_s: u16, will: Option<u8>, window: u16) {
    client.cut();
    client.open();
    let mut packet = client
        .connect_packet()
        .clean_start(clean)
        .keep_alive(keep_alive_s);
    if let Some(qos) = will {
        packet = packet.will(WillPacket::new("a/b", "will").qos(qos));
    }
    if client.version() == V5 {
        packet = packet.session_expiry(20).receive_maximum(window);
    }
    client.send_raw(&packet.build());
}

/// Acknowledges whatever has arrived, as a well-behaved client would.
fn acknowledge_all(client: &Client) {
    for got in client.drain() {
        match got {
            Got::Publish(message) if message.qos == 1 => client.puback(message.id()),
            Got::Publish(message) if message.qos == 2 => client.pubrec(message.id()),
            Got::Ack(ack) if ack.kind == AckKind::Pubrec => client.pubrel(ack.packet_id),
            Got::Ack(ack) if ack.kind == AckKind::Pubrel => client.pubcomp(ack.packet_id),
            _ => {}
        }
    }
}

fn perform(w: &World, client: &Client, act: &Act) {
    let version = client.version();
    match act {
        Act::Connect {
            clean,
            keep_alive_s,
            will,
            window,
        } => {
            connect(client, *clean, *keep_alive_s, *will, *window);
        }
        Act::Cut => client.cut(),
        Act::Disconnect => client.send_raw(&bytes::DISCONNECT),
        Act::Subscribe { filters, id } => {
            let filters: Vec<(&str, u8)> = filters
                .iter()
                .map(|(filter, qos)| (FILTERS[*filter], *qos))
                .collect();
            client.send_raw(&bytes::subscribe(version, *id, &filters, &[]));
        }
        Act::Unsubscribe { filter, id } => {
            client.send_raw(&bytes::unsubscribe(version, *id, &[FILTERS[*filter]], &[]));
        }
        Act::Publish {
            topic,
            qos,
            retain,
            dup,
            id,
            bytes,
        } => {
            let mut publish = PublishPacket::new(TOPICS[*topic], vec![b'x'; *bytes]).qos(*qos);
            publish.packet_id = (*qos > 0).then_some(*id);
            publish.retain = *retain;
            publish.dup = *dup;
            client.send_raw(&publish.build(version));
        }
        Act::Ack { kind, id } => client.send_raw(&bytes::ack(*kind, *id, 0)),
        Act::AckAll => acknowledge_all(client),
        Act::Ping => client.send_raw(&bytes::PINGREQ),
        Act::Stall => client.stall(),
        Act::Unstall => client.unstall(),
        Act::Raw(bytes) => client.send_raw(bytes),
        Act::Wait { ms } => w.advance_ms(*ms),
    }
}

fn play(shards: u16, acts: &[(usize, Act)]) {
    let w = World::with_limits(shards, |limits| {
        limits.in_flight_max = 3;
        limits.receive_maximum = 3;
        limits.output_bytes_max = 2_000;
        limits.queue_messages_max = 8;
        limits.sessions_max = 5;
        limits.retained_messages_max = 3;
    });
    let versions = [V311, V5, V31, V311];
    // Two of them share a client identifier, so that they take over from each other.
    let ids = ["p", "q", "r", "p"];
    let clients: Vec<Client> = versions
        .iter()
        .zip(ids)
        .map(|(v, id)| w.client(*v, id))
        .collect();
    for (who, act) in acts {
        perform(&w, &clients[*who], act);
    }
    clients.iter().for_each(Client::cut);
    w.advance(3_600);
    // A shard that is full of lasting sessions refuses others, but "r" has, or may have, its own.
    let last = w.client(V31, "r");
    last.connect_with(|c| c.clean_start(true));
    assert_eq!(last.subscribe("end", 1), 1);
    last.publish_with(PublishPacket::new("end", "x").qos(1));
    let got = last.drain();
    assert!(
        got.iter()
            .any(|got| matches!(got, Got::Publish(m) if m.topic == "end")),
        "{got:?}"
    );
    last.disconnect();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_history_of_clients_harms_a_shard(
        shards in prop::sample::select(vec![1_u16, 2, 3]),
        acts in prop::collection::vec((0..CLIENTS, act()), 1..120),
    ) {
        play(shards, &acts);
    }
}
