//! All clients on one thread: sockets, timers, and who does what when.
//!
//! Bounded: one connection per client, one timer of each kind per client.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mio::{Events, Poll};

use super::client::{Client, Common, Outcome, Phase};
use super::population::{PATIENT_S, Population};
use super::truth::Truth;

/// Bytes that one read may bring.
const READ_BYTES: usize = 64 * 1_024;
/// Events that one turn takes from the kernel.
const EVENTS_MAX: usize = 2_048;
/// Timers that one turn sees to: while many are due, what has come is read in between.
const TIMERS_MAX: usize = 256;
/// An attempt to connect ends after this without CONNACK.
const GREETING_NS: u64 = 20_000_000_000;
/// Who cannot publish looks again after this.
const BLOCKED_NS: u64 = 20_000_000;
/// A mortal that is held looks again after this.
const HELD_NS: u64 = 100_000_000;

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// To come back.
    Connect,
    /// This connection should have its CONNACK by now.
    Greeting(u32),
    Ping,
    Publish,
}

/// How many clients are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// At work.
    pub ready: usize,
    /// Cut by the harness, and to stay away for now.
    pub held: usize,
    /// Everybody.
    pub all: usize,
}

/// Everybody.
pub struct Crowd {
    /// What was promised.
    pub truth: Truth,
    /// By number.
    pub clients: Vec<Client>,
    /// What they have in common.
    pub common: Common,
    /// Whether new messages are published.
    pub is_busy: bool,
    /// When the work of this step began.
    pub step_began_ns: u64,
    /// Streams that are written once.
    pub retained: std::ops::Range<u32>,
    poll: Poll,
    events: Events,
    timers: BinaryHeap<Reverse<(u64, u32, Timer)>>,
    buffer: Vec<u8>,
    epoch: Instant,
    now_ns: u64,
    chance: u64,
}

impl Crowd {
    /// Everybody, of whom nobody has connected yet, and so many begin to in each second.
    ///
    /// # Errors
    /// When the kernel gives no poller.
    pub fn new(
        population: Population,
        truth: Truth,
        common: Common,
        arrivals_per_s: u32,
    ) -> Result<Crowd> {
        let keep_alive_ns = u64::from(common.keep_alive_s) * 1_000_000_000;
        let mut timers = BinaryHeap::new();
        let mut clients = Vec::with_capacity(population.plans.len());
        for (number, plan) in population.plans.into_iter().enumerate() {
            let (number, at) = (number as u32, number as u64);
            timers.push(Reverse((
                at * 1_000_000_000 / u64::from(arrivals_per_s.max(1)),
                number,
                Timer::Connect,
            )));
            let ping_ns = at * 7_919_000_000 % keep_alive_ns.max(1);
            timers.push(Reverse((ping_ns, number, Timer::Ping)));
            if let Some(sends) = &plan.sends {
                let first_ns = at * 104_729_000 % sends.interval_ns.max(1);
                timers.push(Reverse((first_ns, number, Timer::Publish)));
            }
            clients.push(Client::new(number, plan));
        }
        Ok(Crowd {
            truth,
            clients,
            common,
            is_busy: false,
            step_began_ns: 0,
            retained: population.retained,
            poll: Poll::new().context("no poller")?,
            events: Events::with_capacity(EVENTS_MAX),
            timers,
            buffer: vec![0; READ_BYTES],
            epoch: Instant::now(),
            now_ns: 0,
            chance: 1,
        })
    }

    /// Nanoseconds since the beginning.
    pub fn now_ns(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// One pass: what the sockets bring, then what is due; waits for 5 ms at most.
    ///
    /// # Errors
    /// When the poller fails.
    pub fn turn(&mut self) -> Result<()> {
        match self
            .poll
            .poll(&mut self.events, Some(Duration::from_millis(5)))
        {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            other => other.context("polling failed")?,
        }
        self.now_ns = self.now_ns();
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            let number = event.token().0;
            if event.is_writable() {
                self.clients[number].on_writable(&self.common);
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                self.on_readable(number);
            }
        }
        self.events = events;
        for _ in 0..TIMERS_MAX {
            let due = self.timers.peek().copied();
            let Some(Reverse((at, number, timer))) = due.filter(|due| due.0.0 <= self.now_ns)
            else {
                break;
            };
            self.timers.pop();
            self.on_timer(at, number, timer);
        }
        Ok(())
    }

    /// Turns until `is_over`, or until the time is up; returns whether it was over.
    ///
    /// # Errors
    /// As [`Crowd::turn`].
    pub fn turn_until(
        &mut self,
        time: Duration,
        mut is_over: impl FnMut(&mut Crowd) -> bool,
    ) -> Result<bool> {
        let begun = Instant::now();
        while !is_over(self) {
            if begun.elapsed() > time {
                return Ok(false);
            }
            self.turn()?;
        }
        Ok(true)
    }

    /// How many are where.
    pub fn standing(&self) -> Standing {
        let ready = |client: &&Client| client.phase == Phase::Ready;
        Standing {
            ready: self.clients.iter().filter(ready).count(),
            held: self.clients.iter().filter(|client| client.is_held).count(),
            all: self.clients.len(),
        }
    }

    /// Messages without their final acknowledgement.
    pub fn in_flight(&self) -> usize {
        self.clients.iter().map(Client::in_flight).sum()
    }

    /// Cuts the connections of all mortals, whose wills are then owed.
    pub fn cut_mortals(&mut self) {
        for number in 0..self.clients.len() {
            let client = &mut self.clients[number];
            if client.plan.is_mortal && client.phase == Phase::Ready {
                client.is_held = true;
                // Both watchers get it.
                self.truth.counts.wills_owed += 2;
                self.leave(number);
            }
        }
    }

    /// Judges the wills that came, and lets those mortals back of whom all watchers have heard.
    pub fn release_mortals(&mut self) -> bool {
        let watchers = self.clients.iter().filter(|c| c.plan.watches);
        let watchers: Vec<u32> = watchers.map(|c| c.number).collect();
        let wills = &self.truth.wills;
        for client in self.clients.iter_mut().filter(|c| c.is_held) {
            let came =
                |watcher: &u32| wills.contains_key(&(client.number, client.incarnation, *watcher));
            client.is_held = !watchers.iter().all(came);
        }
        !self.clients.iter().any(|client| client.is_held)
    }

    /// What the wills of this step mean; they are forgotten then.
    pub fn judge_wills(&mut self) {
        for ((number, incarnation, watcher), times) in std::mem::take(&mut self.truth.wills) {
            let Some(client) = self.clients.get(number as usize) else {
                self.truth.fault(|| format!("the will of nobody: {number}"));
                continue;
            };
            self.truth.counts.wills_came += 1;
            let is_here = client.phase == Phase::Ready && client.incarnation == incarnation;
            let is_patient = client.plan.will_delay_s == Some(PATIENT_S);
            if is_here || is_patient || incarnation > client.incarnation {
                let why = if is_here {
                    "is connected"
                } else {
                    "was back in time"
                };
                self.truth
                    .fault(|| format!("the will of client {number} came, who {why}"));
            }
            if times > 1 {
                let times = format!("came {times} times to {watcher}");
                self.truth
                    .fault(|| format!("a will of client {number} {times}"));
            }
        }
        for client in self.clients.iter_mut().filter(|c| c.is_held) {
            client.is_held = false;
            let number = client.number;
            self.truth
                .fault(|| format!("the will of client {number} did not come"));
        }
    }

    /// From 0 to 1, the same for each run.
    fn chance(&mut self) -> f64 {
        // SplitMix64.
        self.chance = self.chance.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed >> 11) as f64 / (1u64 << 53) as f64
    }

    fn leave(&mut self, number: usize) {
        let chance = self.chance();
        let pause_ns = self.clients[number].leave(&self.common, chance);
        let at = self.now_ns + pause_ns;
        self.timers
            .push(Reverse((at, number as u32, Timer::Connect)));
    }

    fn on_readable(&mut self, number: usize) {
        let client = &mut self.clients[number];
        match client.on_readable(&mut self.buffer, self.now_ns, &mut self.truth) {
            Outcome::Open => {}
            Outcome::Refused => self.leave(number),
            Outcome::Closed => {
                client.on_closed(self.now_ns, &mut self.truth);
                self.leave(number);
            }
        }
    }

    fn on_timer(&mut self, at: u64, number: u32, timer: Timer) {
        let index = number as usize;
        let client = &mut self.clients[index];
        match timer {
            Timer::Connect if client.is_held => {
                self.timers
                    .push(Reverse((self.now_ns + HELD_NS, number, timer)));
            }
            Timer::Connect => {
                if client.connect(&self.common, self.poll.registry(), self.now_ns) {
                    let greeting = Timer::Greeting(client.incarnation);
                    self.timers
                        .push(Reverse((self.now_ns + GREETING_NS, number, greeting)));
                } else {
                    self.truth.counts.failed += 1;
                    self.leave(index);
                }
            }
            Timer::Greeting(incarnation) => {
                if client.phase != Phase::Ready && client.incarnation == incarnation {
                    // As in `on_ping`.
                    self.on_readable(index);
                }
                let client = &mut self.clients[index];
                let is_late = matches!(
                    client.phase,
                    Phase::Connecting | Phase::Greeting | Phase::Subscribing
                );
                if is_late && client.incarnation == incarnation {
                    self.truth.counts.timed_out += 1;
                    self.leave(index);
                }
            }
            Timer::Ping => self.on_ping(index),
            Timer::Publish => self.on_publish(at, index),
        }
    }

    fn on_ping(&mut self, index: usize) {
        if self.clients[index].pinged_ns.is_some() {
            // Where there is too much to do, the answer may wait to be read.
            self.on_readable(index);
        }
        let client = &mut self.clients[index];
        if client.phase == Phase::Ready && !client.ping(self.now_ns) {
            // The kernel of a broker that is gone has said so, once, and that was lost.
            let is_old = client.connected_ns < self.step_began_ns;
            let which = if is_old {
                ", connected before this step"
            } else {
                ""
            };
            self.truth
                .fault(|| format!("client {index} got no PINGRESP for a keep-alive time{which}"));
            self.leave(index);
        }
        // Three quarters of what was agreed, as clients do.
        let interval_ns = u64::from(self.common.keep_alive_s) * 750_000_000;
        let timer = Reverse((self.now_ns + interval_ns, index as u32, Timer::Ping));
        self.timers.push(timer);
    }

    fn on_publish(&mut self, at: u64, index: usize) {
        let client = &mut self.clients[index];
        let sends = client
            .plan
            .sends
            .as_mut()
            .expect("a timer for who publishes");
        let interval_ns = sends.interval_ns;
        let due_ns = sends.late_since_ns.take().unwrap_or(at);
        let mut wait_ns = interval_ns;
        if self.is_busy && !client.publish(due_ns, &mut self.truth) {
            let sends = client.plan.sends.as_mut().expect("as above");
            sends.late_since_ns = Some(due_ns);
            wait_ns = BLOCKED_NS;
        }
        let timer = Reverse((self.now_ns + wait_ns, index as u32, Timer::Publish));
        self.timers.push(timer);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::super::population::Size;
    use super::*;

    /// A crowd whose first client is at work, and the broker's side of its connection.
    fn crowd() -> (Crowd, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let common = Common {
            target: listener.local_addr().unwrap(),
            run: "r".to_owned(),
            keep_alive_s: 60,
            backoff_max_ns: 1,
            credentials: None,
        };
        let size = Size {
            idle: 1,
            active: 20,
            retained: 0,
            rate: 1.0,
        };
        let mut truth = Truth::default();
        let population = Population::new(size, &common.run, &mut truth);
        let mut crowd = Crowd::new(population, truth, common, 1).unwrap();
        let is_connecting = crowd.clients[0].connect(&crowd.common, crowd.poll.registry(), 0);
        assert!(is_connecting);
        let (accepted, _) = listener.accept().unwrap();
        crowd.clients[0].phase = Phase::Ready;
        (crowd, accepted)
    }

    #[test]
    fn an_answer_that_waits_to_be_read_is_not_missing() {
        let (mut crowd, mut broker) = crowd();
        crowd.on_ping(0);
        broker.write_all(&[0xD0, 0]).unwrap();
        crowd.on_ping(0);
        assert_eq!(crowd.truth.faults, 0);
        // That was the answer to the first.
        crowd.on_ping(0);
        assert_eq!(crowd.truth.faults, 1, "{:?}", crowd.truth.told);
        assert_eq!(crowd.clients[0].phase, Phase::Away);
    }

    #[test]
    fn a_close_that_waits_to_be_read_is_no_missing_answer() {
        let (mut crowd, broker) = crowd();
        crowd.on_ping(0);
        drop(broker);
        crowd.on_ping(0);
        assert_eq!((crowd.truth.faults, crowd.truth.counts.closed), (0, 1));
        assert_eq!(crowd.clients[0].phase, Phase::Away);
    }
}
