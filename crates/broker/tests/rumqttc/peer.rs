//! What a test does with a client, whichever version it speaks, and the thread that runs it.

use crate::support::PATIENCE;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes of the largest packet of these tests; rumqttc accepts 10 KiB by default.
pub const PACKET_BYTES_MAX: u32 = 300_000;
/// Requests that may wait in a client; more than any test sends at once.
pub const REQUESTS_MAX: usize = 20_000;
/// How often the thread looks whether it is to vanish.
const LOOK: Duration = Duration::from_millis(20);

/// How a client connects.
#[derive(Default)]
pub struct Options {
    /// Keep the session for a minute after the connection has ended; else it is clean.
    pub is_lasting: bool,
    /// What to publish when the client vanishes.
    pub will: Option<Will>,
}

/// A will.
pub struct Will {
    /// Where.
    pub topic: String,
    /// 0 to 2.
    pub qos: u8,
    /// What.
    pub payload: Vec<u8>,
}

/// A message that arrived.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it was published.
    pub topic: String,
    /// 0 to 2.
    pub qos: u8,
    /// The RETAIN flag.
    pub retain: bool,
    /// What.
    pub payload: Vec<u8>,
}

/// One client. Every method waits for the broker's answer, except `send`.
pub trait Peer: Sized {
    /// Connects and waits for CONNACK.
    fn connect(address: SocketAddr, client_id: &str, options: &Options) -> Self;
    /// Whether CONNACK said that there was a session.
    fn session_present(&self) -> bool;
    /// Subscribes; what was granted.
    fn subscribe(&mut self, filter: &str, qos: u8) -> Vec<u8>;
    /// Unsubscribes.
    fn unsubscribe(&mut self, filter: &str);
    /// Publishes without waiting.
    fn send(&mut self, topic: &str, qos: u8, retain: bool, payload: &[u8]);
    /// Waits until this many messages sent with QoS 1 or 2 have been acknowledged.
    fn await_acknowledgements(&mut self, count: usize);
    /// Waits for a message.
    fn next(&mut self) -> Message;
    /// Disconnects politely.
    fn leave(self);
    /// Cuts the connection.
    fn vanish(self);

    /// Publishes and waits for the acknowledgement, if there is one.
    fn publish(&mut self, topic: &str, qos: u8, retain: bool, payload: &[u8]) {
        self.send(topic, qos, retain, payload);
        self.await_acknowledgements(usize::from(qos > 0));
    }
}

/// The packets that a client receives, in order, and the thread that receives them.
pub struct Inbox<T> {
    received: Receiver<Result<T, String>>,
    waiting: Vec<T>,
    thread: Option<JoinHandle<()>>,
    must_vanish: Arc<AtomicBool>,
}

/// What happened on a connection within a short time.
pub enum Step<T> {
    /// A packet arrived.
    Received(T),
    /// Nothing to report.
    Nothing,
    /// The connection is over, and why.
    Ended(String),
}

impl<T: Send + 'static> Inbox<T> {
    /// Runs `step`, which is given how long it may take (`None`: for as long as it takes to
    /// connect), on a thread until the connection ends or is to vanish.
    pub fn new(mut step: impl FnMut(Option<Duration>) -> Step<T> + Send + 'static) -> Inbox<T> {
        let (sender, received) = channel();
        let must_vanish = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&must_vanish);
        let thread = std::thread::spawn(move || {
            let mut patience = None;
            while !flag.load(Ordering::Relaxed) {
                if !forward(step(patience), &sender, &mut patience) {
                    break;
                }
            }
        });
        Inbox {
            received,
            waiting: Vec::new(),
            thread: Some(thread),
            must_vanish,
        }
    }

    /// The first packet for which `pick` has an answer; others stay, in order.
    pub fn await_some<U>(&mut self, mut pick: impl FnMut(&T) -> Option<U>) -> U {
        for index in 0..self.waiting.len() {
            if let Some(found) = pick(&self.waiting[index]) {
                self.waiting.remove(index);
                return found;
            }
        }
        loop {
            let packet = self
                .received
                .recv_timeout(PATIENCE)
                .expect("a packet")
                .expect("open");
            match pick(&packet) {
                Some(found) => return found,
                None => self.waiting.push(packet),
            }
        }
    }

    /// Waits for the end of the connection, and why it ended.
    pub fn await_end(&mut self) -> String {
        loop {
            if let Err(why) = self.received.recv_timeout(PATIENCE).expect("an end") {
                return why;
            }
        }
    }

    /// Drops the connection without a word.
    pub fn vanish(&mut self) {
        self.must_vanish.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the client's thread does not panic");
        }
    }
}

impl<T> Drop for Inbox<T> {
    fn drop(&mut self) {
        self.must_vanish.store(true, Ordering::Relaxed);
    }
}

/// Whether to go on.
fn forward<T>(
    step: Step<T>,
    sender: &Sender<Result<T, String>>,
    patience: &mut Option<Duration>,
) -> bool {
    match step {
        Step::Nothing => true,
        Step::Received(packet) => {
            // Once connected, waiting may be cut short without harm.
            *patience = Some(LOOK);
            sender.send(Ok(packet)).is_ok()
        }
        Step::Ended(why) => {
            let _ = sender.send(Err(why));
            false
        }
    }
}
