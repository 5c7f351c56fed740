//! A history of a world of two shards: clients of all versions connect, send packets and nonsense,
//! stop reading and vanish; frames are late; time jumps; shards stop.
//!
//! The first byte picks the circumstances, the rest is the history. Always: nothing panics,
//! `Shard::check` holds after every event, effects name only connections that are open, what waits
//! is bounded, a deadline makes progress, and all that clients are sent can be read. In the end
//! nobody is left unread, a newcomer is served, and the shards stop.
#![no_main]

mod client;
mod packets;
mod program;
mod world;

use client::{Client, Place};
use libfuzzer_sys::fuzz_target;
use mqtt_v5_codec::{ReasonCode, Version};
use program::{Program, pick};
use shard::limits::REQUEST_LANE;
use shard::{Lane, Limits, Listener, Span};
use world::{SHARDS, Setting, World};

/// Events of one history; more would only make it slow.
const STEPS_MAX: usize = 400;
/// Bursts of one history, for the same reason.
const BURSTS_MAX: usize = 6;

/// Requests of the HTTP interface, and parts of them.
const REQUESTS: [&[u8]; 12] = [
    b"GET /status HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /openapi.json HTTP/1.1\r\nHost: h\r\n\r\n",
    b"HEAD /metrics HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"POST /devices HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /devices HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"2\r\n{}\r\n0\r\n\r\n",
    b"POST /devices HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 9\r\n\r\n",
    b"GET /subscribe HTTP/1.1\r\nHost: h\r\n",
    b"skynet_auth_uuid: 07070707-0707-0707-0707-070707070707\r\nskynet_auth_token: x\r\n",
    b"GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
      Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    b"Expect: 100-continue\r\n",
    b"\r\n",
];

fuzz_target!(|data: &[u8]| {
    let [circumstances, history @ ..] = data else {
        return;
    };
    let digest = play(*circumstances, history);
    // The same events have the same effects.
    if circumstances & 0x40 != 0 {
        assert_eq!(digest, play(*circumstances, history));
    }
});

/// Who takes part. The last one is kept for the end.
fn clients(server_bytes_max: usize) -> Vec<Client> {
    use Listener::{Http, Mqtt};
    use Version::{V5, V31, V311};
    let kinds = [
        (V5, Mqtt),
        (V311, Mqtt),
        (V5, Mqtt),
        (V31, Mqtt),
        (V5, Http),
        (V311, Http),
        (V5, Mqtt),
        (V311, Mqtt),
        (V5, Mqtt),
    ];
    kinds
        .map(|(version, listener)| Client::new(version, listener, server_bytes_max))
        .into()
}

/// Limits from generous to hardly any.
fn limits(circumstances: u8) -> Limits {
    let sys_interval_s = if circumstances & 0x20 != 0 { 10 } else { 0 };
    let defaults = Limits {
        sys_interval_s,
        ..Limits::default()
    };
    match circumstances & 3 {
        0 => defaults,
        1 => Limits {
            packet_bytes_max: 2_000,
            receive_maximum: 10,
            in_flight_max: 10,
            output_bytes_max: 20_000,
            queue_messages_max: 50,
            queue_soft_messages: 20,
            retained_messages_max: 20,
            retained_bytes_max: 5_000,
            keep_alive_max_s: Some(20),
            session_expiry_max_s: 100,
            ..defaults
        },
        2 => Limits {
            packet_bytes_max: 400,
            receive_maximum: 3,
            in_flight_max: 2,
            topic_alias_maximum: 1,
            client_alias_max: 1,
            topic_levels_max: 2,
            subscriptions_max: 3,
            output_bytes_max: 300,
            queue_messages_max: 6,
            queue_bytes_max: 1_500,
            queue_soft_messages: 2,
            queue_soft_bytes: 600,
            retained_messages_max: 2,
            retained_bytes_max: 1_000,
            sessions_max: 4,
            slow_subscriber_ms: 2_000,
            ..defaults
        },
        _ => Limits {
            receive_maximum: 65_535,
            in_flight_max: 5,
            output_bytes_max: 1_000,
            queue_bytes_max: 100_000,
            queue_soft_messages: 0,
            queue_soft_bytes: 0,
            ..defaults
        },
    }
}

fn play(circumstances: u8, history: &[u8]) -> u64 {
    let lane_frames = if circumstances & 4 != 0 {
        3
    } else {
        REQUEST_LANE
    };
    let setting = Setting {
        limits: limits(circumstances),
        lane_frames,
        is_prompt: circumstances & 8 != 0,
    };
    let bytes_max = setting.limits.packet_bytes_max as usize;
    let mut world = World::new(setting, clients(bytes_max));
    let mut program = Program::new(history);
    let mut bursts = 0;
    for _ in 0..STEPS_MAX {
        if program.is_over() {
            break;
        }
        let what = program.byte();
        let is_burst = what & 15 == 13;
        bursts += usize::from(is_burst);
        if is_burst && bursts > BURSTS_MAX {
            continue;
        }
        step(&mut world, what, &mut program);
        // Otherwise the next event is of the same turn.
        if what & 0x80 == 0 {
            (0..SHARDS).for_each(|core| world.end_turn(core));
        }
        world.after_event();
    }
    let newcomer = world.clients.len() - 1;
    world.finish(newcomer);
    world.digest()
}

/// One thing that happens; the high bits of `what` say to whom.
fn step(world: &mut World, what: u8, program: &mut Program<'_>) {
    let client = usize::from(what >> 4 & 7);
    let version = world.clients[client].version;
    let packet = match what & 15 {
        0 => {
            if what & 0x80 != 0 {
                world.cut(client);
            }
            world.open(client);
            packets::connect(program, version)
        }
        1 | 2 => packets::publish(program, version),
        3 | 4 => packets::subscribe(program, version),
        5 => packets::unsubscribe(program, version),
        6 => packets::stray_ack(program, version),
        7 => acknowledge(world, client, program),
        8 => packets::other(program, version),
        9 => return raw(world, client, program),
        10 => return hold_up(world, client, program),
        11 => return lanes(world, program),
        12 => return time(world, program),
        13 => packets::burst(program, version),
        14 => return world.cut(client),
        _ => return rare(world, client, program),
    };
    if matches!(world.clients[client].place, Place::Closed) {
        return;
    }
    world.clients[client].send(&packet);
    if !world.clients[client].is_held {
        world.read(client, usize::MAX, false);
    }
}

/// The first acknowledgements that a client owes.
fn acknowledge(world: &mut World, client: usize, program: &mut Program<'_>) -> Vec<u8> {
    let a = program.byte();
    let state = &mut world.clients[client];
    let count = usize::from(a & 0x7F).min(state.owes.len());
    let reason = if a & 0x80 == 0 {
        ReasonCode::Success
    } else {
        ReasonCode::UnspecifiedError
    };
    let version = state.version;
    let owed: Vec<_> = state.owes.drain(..count).collect();
    let acks = owed
        .into_iter()
        .map(|(kind, id)| packets::ack(version, kind, id, reason));
    acks.collect::<Vec<_>>().concat()
}

/// Bytes that may mean nothing, in WebSocket frames or below them, or requests of HTTP.
fn raw(world: &mut World, client: usize, program: &mut Program<'_>) {
    let a = program.byte();
    let bytes = program.take(usize::from(a & 31) + 1);
    world.open(client);
    let state = &mut world.clients[client];
    if a & 0x20 != 0 && state.listener == Listener::Http {
        // Instead of the handshake, if that has not been read.
        if a & 0x40 != 0 {
            state.up.clear();
        }
        if a & 0x80 != 0 {
            for at in bytes {
                state.send_raw(REQUESTS[usize::from(*at) % REQUESTS.len()]);
            }
        }
        state.send_raw(bytes);
    } else {
        state.send(bytes);
    }
    if !state.is_held {
        world.read(client, usize::MAX, false);
    }
}

/// A client's bytes come late or in pieces, or it reads late or in pieces.
fn hold_up(world: &mut World, client: usize, program: &mut Program<'_>) {
    let a = program.byte();
    let bytes_max = usize::from(a >> 2) + 1;
    let state = &mut world.clients[client];
    match a & 3 {
        0 => {
            state.is_held = a & 4 == 0;
            if !state.is_held {
                world.read(client, usize::MAX, false);
            }
        }
        1 => world.read(client, bytes_max, a & 0x80 != 0),
        2 => {
            state.is_stalled = a & 4 == 0;
            if !state.is_stalled {
                world.accept_output(client, usize::MAX);
            }
        }
        _ => world.accept_output(client, bytes_max),
    }
}

/// Frames and connections arrive at a shard.
fn lanes(world: &mut World, program: &mut Program<'_>) {
    let a = program.byte();
    let core = usize::from(a & 1);
    let count = pick(a, 4, &[1, 1, 2, 3, 5, 20, 500, usize::MAX]);
    match a >> 1 & 7 {
        0..=2 => drop(world.take_frames(core, Lane::Request, count)),
        3 | 4 => drop(world.take_frames(core, Lane::Reply, count)),
        5 => drop(world.own_events(core)),
        6 => world.settle(),
        _ => world.adopt(usize::from(a >> 4 & 7)),
    }
}

/// Time passes, and shards may be told so.
fn time(world: &mut World, program: &mut Program<'_>) {
    let a = program.byte();
    match a & 15 {
        0 => world.pass_to_deadline(usize::from(a >> 4 & 1)),
        1 => world.pass(Span(1)),
        2 => world.pass(Span::from_ms(100)),
        3..=5 => world.pass(Span::from_s(1)),
        6..=8 => world.pass(Span::from_s(10)),
        9 | 10 => world.pass(Span::from_s(61)),
        11 => world.pass(Span::from_s(3_600)),
        12 => world.pass(Span::from_s(86_400)),
        13 => world.pass(Span::from_s(30 * 86_400)),
        14 => world.pass(Span::from_s(u64::from(a >> 4))),
        _ => {}
    }
    for core in 0..SHARDS {
        if a & (0x40 << core) != 0 {
            world.own_events(core);
        }
    }
}

/// What should not happen in most histories.
fn rare(world: &mut World, client: usize, program: &mut Program<'_>) {
    match program.byte() {
        a @ 0xF8..=0xFF => world.stop(usize::from(a & 1)),
        0..0x80 => world.settle(),
        a => {
            // A silent client, or a head of HTTP that comes in pieces.
            world.open(client);
            world.read(client, usize::from(a & 0x7F), false);
        }
    }
}
