//! The server on our driver. `meshring CPU [epoll|io_uring][:BUFFERSxBYTES]`

use net::{DriverChoice, Handler, ServerConfig, Tuning};
use runtimes::{Cutter, PUBLISHER, SUBSCRIBER, announce, cpu};
use shard::{ConnectionId, Effect, Effects, Event, Time};

/// What a connection turned out to be.
enum Role {
    Unknown,
    Publisher(Cutter),
    Subscriber,
}

#[derive(Default)]
struct FanOut {
    /// By the index of the connection.
    roles: Vec<Option<Role>>,
    subscribers: Vec<ConnectionId>,
}

impl FanOut {
    fn on_received(&mut self, connection: ConnectionId, bytes: &[u8], effects: &mut Effects) {
        let role = self.roles[connection.index as usize]
            .as_mut()
            .expect("open");
        let mut bytes = bytes;
        if let Role::Unknown = role {
            match bytes[0] {
                PUBLISHER => *role = Role::Publisher(Cutter::default()),
                SUBSCRIBER => {
                    *role = Role::Subscriber;
                    self.subscribers.push(connection);
                    effects.outbox(connection).push(SUBSCRIBER);
                }
                other => panic!("the load does not send {other}"),
            }
            bytes = &bytes[1..];
        }
        if let Role::Publisher(cutter) = role {
            let subscribers = &self.subscribers;
            cutter.cut(bytes, |whole| {
                for &subscriber in subscribers {
                    effects.outbox(subscriber).extend_from_slice(whole);
                }
            });
        }
    }
}

impl Handler for FanOut {
    fn handle(&mut self, _now: Time, event: Event<'_>, effects: &mut Effects) {
        match event {
            Event::Accepted { connection, .. } => {
                let index = connection.index as usize;
                if index >= self.roles.len() {
                    self.roles.resize_with(index + 1, || None);
                }
                self.roles[index] = Some(Role::Unknown);
            }
            Event::Received { connection, bytes } => self.on_received(connection, bytes, effects),
            Event::Closed { connection } => {
                self.roles[connection.index as usize] = None;
                self.subscribers
                    .retain(|&subscriber| subscriber != connection);
            }
            Event::Stop => effects.push(Effect::Stopped),
            _ => {}
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        None
    }
}

fn main() {
    let argument = std::env::args().nth(2).unwrap_or_default();
    let (driver, buffers) = argument.split_once(':').unwrap_or((&argument, ""));
    let mut tuning = Tuning::default();
    if let Some((count, bytes)) = buffers.split_once('x') {
        tuning.receive_buffers = count.parse().expect("a number of buffers");
        tuning.receive_buffer_bytes = bytes.parse().expect("bytes of a buffer");
    }
    let config = ServerConfig {
        shards: 1,
        cpus: cpu().into_iter().collect(),
        driver: if driver == "epoll" {
            DriverChoice::Epoll
        } else {
            DriverChoice::IoUring
        },
        mqtt: vec!["127.0.0.1:0".parse().expect("an address")],
        further: Vec::new(),
        http: Vec::new(),
        passed: Vec::new(),
        shard: shard::Config::alone(),
        tuning,
    };
    let server = net::start_with(config, |_, _| FanOut::default()).expect("the server starts");
    announce(server.listeners()[0].1);
    server.join().expect("the server runs until it is killed");
}
