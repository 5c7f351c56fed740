//! Feeds the service manager's watchdog while every shard takes turns, and only then.
//!
//! Each period the shards are asked to turn, those that sleep are woken for it, and when all have
//! turned since the last feed, the next is due. A single shard that hangs starves the watchdog, and
//! the service manager ends and restarts the broker.

use net::Pulse;
use shard::ShardId;
use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use tracing::{error, info};

/// Looks per interval of the watchdog: a feed comes at the latest after two looks of a shard that is
/// well, which leaves half of the interval for turns that take long.
const LOOKS: u32 = 4;

/// Feeds until it is dropped.
#[derive(Debug)]
pub struct Watchdog {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Feeds the watchdog of the service manager, if that has one for this process
    /// (WATCHDOG_USEC). Errs if there is no thread for it: then the broker would be ended soon.
    pub fn start(pulse: Pulse) -> io::Result<Option<Watchdog>> {
        match sd_notify::watchdog_enabled() {
            Some(interval) if !interval.is_zero() => {
                info!(interval_ms = interval.as_millis(), "watchdog");
                Watchdog::every(interval / LOOKS, pulse, super::feed).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Looks once per period, and feeds when all shards have turned.
    fn every(
        period: Duration,
        mut pulse: Pulse,
        feed: impl Fn() + Send + 'static,
    ) -> io::Result<Watchdog> {
        let (stop, stopped) = channel::<()>();
        let watch = move || {
            let mut said = Vec::new();
            while stopped.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
                let still = pulse.standing_still();
                if still.is_empty() {
                    feed();
                }
                say(&still, &mut said);
            }
        };
        let thread = Builder::new().name("watchdog".to_owned()).spawn(watch)?;
        Ok(Watchdog {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of it has been reported, and it holds nothing that matters.
            let _ = thread.join();
        }
    }
}

/// Says which shards have not turned for two looks, once for each time that they hang.
fn say(still: &[ShardId], said: &mut Vec<(ShardId, u32)>) {
    said.retain(|(shard, looks)| {
        let hangs = still.contains(shard);
        if !hangs && *looks > 1 {
            info!(shard = shard.0, "the shard turns again");
        }
        hangs
    });
    for &shard in still {
        match said.iter_mut().find(|(known, _)| *known == shard) {
            Some((_, looks)) => {
                *looks = looks.saturating_add(1);
                if *looks == 2 {
                    error!(
                        shard = shard.0,
                        "the shard hangs: the watchdog is not fed until it turns again"
                    );
                }
            }
            None => said.push((shard, 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use net::{DriverChoice, Handler, ServerConfig, Tuning};
    use shard::{Effect, Effects, Event, Time};
    use std::io::Write;
    use std::net::TcpStream;
    use std::sync::mpsc::Receiver;
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Hangs when it receives something, until it is told to go on.
    struct Hanging(Arc<Mutex<Receiver<()>>>, Sender<()>);

    impl Handler for Hanging {
        fn handle(&mut self, _now: Time, event: Event<'_>, effects: &mut Effects) {
            match event {
                Event::Received { .. } => {
                    self.1.send(()).unwrap();
                    self.0.lock().unwrap().recv_timeout(PATIENCE).unwrap();
                }
                Event::Accepted { connection, .. } => {
                    effects.outbox(connection).extend_from_slice(b"hello");
                }
                Event::Stop => effects.push(Effect::Stopped),
                _ => {}
            }
        }

        fn next_deadline(&self) -> Option<Time> {
            None
        }
    }

    #[test]
    fn the_watchdog_is_fed_unless_a_shard_hangs() {
        let (go_on, told) = channel();
        let (hangs, is_hanging) = channel();
        let told = Arc::new(Mutex::new(told));
        let config = ServerConfig {
            shards: 2,
            cpus: Vec::new(),
            driver: DriverChoice::Epoll,
            mqtt: vec!["127.0.0.1:0".parse().unwrap()],
            http: Vec::new(),
            further: Vec::new(),
            passed: Vec::new(),
            shard: shard::Config::alone(),
            tuning: Tuning {
                stop_ms: 20,
                ..Tuning::default()
            },
        };
        let make = move |_, _| Hanging(Arc::clone(&told), hangs.clone());
        let server = net::start_with(config, make).unwrap();
        let (feed, fed) = channel();
        let period = Duration::from_millis(20);
        let give = move || feed.send(Instant::now()).unwrap();
        let watchdog = Watchdog::every(period, server.pulse(), give).unwrap();
        for _ in 0..3 {
            fed.recv_timeout(PATIENCE).unwrap();
        }

        let mut client = TcpStream::connect(server.listeners()[0].1).unwrap();
        client.write_all(b"hang").unwrap();
        is_hanging.recv_timeout(PATIENCE).unwrap();
        // The turn in which it hangs counts as one, so one more feed may be due.
        let silence = (0..3).any(|_| fed.recv_timeout(period * 10).is_err());
        assert!(silence, "fed although a shard hangs");
        assert!(fed.recv_timeout(period * 10).is_err(), "fed again");

        go_on.send(()).unwrap();
        fed.recv_timeout(PATIENCE).unwrap();
        drop(watchdog);
        drop(client);
        server.stop();
        // The connection was never let go of, so the shard may be abandoned.
        let _ = server.join();
    }
}
