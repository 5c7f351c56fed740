//! What the three servers share: the messages, and for the two async ones a mailbox.
//!
//! A connection says with its first byte what it is. From then on a publisher sends messages of a
//! fixed size, and every subscriber is sent each of them. One publisher and many subscribers make
//! a fan-out, many publishers and one subscriber a fan-in. Nothing is bounded here: the load keeps
//! a window.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// First byte of a connection that sends.
pub const PUBLISHER: u8 = b'P';
/// First byte of a connection that is sent to.
pub const SUBSCRIBER: u8 = b'S';
/// A length of two bytes and 64 bytes of payload.
pub const MESSAGE_BYTES: usize = 66;
/// Bytes of a server's receive buffer.
pub const BUFFER_BYTES: usize = 16 * 1_024;

/// Tells the load where the server listens.
pub fn announce(address: SocketAddr) {
    use std::io::Write;
    println!("{address}");
    std::io::stdout()
        .flush()
        .expect("whoever started us reads this");
}

/// The CPU that the first argument names, if there is one.
pub fn cpu() -> Option<usize> {
    std::env::args().nth(1).and_then(|cpu| cpu.parse().ok())
}

/// Cuts a stream into whole messages.
#[derive(Default)]
pub struct Cutter {
    rest: Vec<u8>,
}

impl Cutter {
    /// Gives `whole` all messages that are complete, as one slice, or as two if the first of them
    /// began earlier.
    pub fn cut(&mut self, mut bytes: &[u8], mut whole: impl FnMut(&[u8])) {
        if !self.rest.is_empty() {
            let missing = (MESSAGE_BYTES - self.rest.len()).min(bytes.len());
            self.rest.extend_from_slice(&bytes[..missing]);
            bytes = &bytes[missing..];
            if self.rest.len() < MESSAGE_BYTES {
                return;
            }
            whole(&self.rest);
            self.rest.clear();
        }
        let end = bytes.len() - bytes.len() % MESSAGE_BYTES;
        if end > 0 {
            whole(&bytes[..end]);
        }
        self.rest.extend_from_slice(&bytes[end..]);
    }
}

/// What waits to be sent to one subscriber, and who sends it.
#[derive(Clone, Default)]
pub struct Mailbox(Rc<RefCell<Waiting>>);

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    sender: Option<Waker>,
}

impl Mailbox {
    /// Adds to what is to be sent; one copy, as in our driver.
    pub fn put(&self, bytes: &[u8]) {
        let mut waiting = self.0.borrow_mut();
        waiting.bytes.extend_from_slice(bytes);
        if let Some(sender) = waiting.sender.take() {
            sender.wake();
        }
    }

    /// All that waits, once there is something; `spare` becomes the next buffer.
    pub async fn take(&self, mut spare: Vec<u8>) -> Vec<u8> {
        spare.clear();
        poll_fn(|context| {
            let mut waiting = self.0.borrow_mut();
            if waiting.bytes.is_empty() {
                waiting.sender = Some(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(std::mem::replace(
                &mut waiting.bytes,
                std::mem::take(&mut spare),
            ))
        })
        .await
    }
}

/// All subscribers of an async server.
pub type Subscribers = Rc<RefCell<Vec<Mailbox>>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_whole_however_the_stream_is_cut() {
        let stream: Vec<u8> = (0..MESSAGE_BYTES * 5).map(|place| place as u8).collect();
        for piece in 1..stream.len() {
            let (mut cutter, mut whole) = (Cutter::default(), Vec::new());
            for bytes in stream.chunks(piece) {
                cutter.cut(bytes, |bytes| {
                    assert_eq!(bytes.len() % MESSAGE_BYTES, 0);
                    whole.extend_from_slice(bytes);
                });
            }
            assert_eq!(whole, stream);
        }
    }
}
