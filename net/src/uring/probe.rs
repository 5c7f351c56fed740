//! Finds out at start whether io_uring can be used here, by using it.
//!
//! A version number would not tell: containers refuse the system call, sandboxes answer it
//! themselves, administrators switch it off. So a small ring is made with all that the driver
//! demands, and bytes are sent and received through it.

use super::ring::{Ring, Sending, What};
use crate::Tuning;
use shard::ConnectionId;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long the kernel may take for what it can do at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// Says what is refused, if anything is.
pub(crate) fn probe() -> Result<(), String> {
    let tuning = Tuning {
        receive_buffers: 2,
        receive_buffer_bytes: 64,
        submission_entries: 8,
        completion_entries: 16,
        ..Tuning::default()
    };
    let mut ring = Ring::new(&tuning).map_err(|error| format!("setting up a ring: {error}"))?;
    let pair = UnixStream::pair().map_err(|error| format!("making a socket: {error}"))?;
    exchange(&mut ring, &pair.0, &pair.1)
}

fn exchange(ring: &mut Ring, here: &UnixStream, there: &UnixStream) -> Result<(), String> {
    const MESSAGE: &[u8] = b"probe";
    let connection = ConnectionId {
        index: 0,
        generation: 0,
    };
    ring.receive(here.as_fd(), connection);
    ring.send(
        there.as_fd(),
        Sending {
            connection,
            output: MESSAGE.to_vec(),
            sent: 0,
        },
    );
    let (mut is_sent, mut is_received) = (false, false);
    // Each wait brings at least one of the two completions.
    for _ in 0..3 {
        ring.wait(Some(PATIENCE))
            .map_err(|error| format!("entering the ring: {error}"))?;
        ring.reap(16);
        while let Some(completion) = ring.next_completion() {
            match completion.what {
                What::Sent(_, Ok(count)) => is_sent = count == MESSAGE.len(),
                What::Sent(_, Err(error)) => return Err(refused("send", error)),
                What::Received(_, Ok(Some(filled))) => {
                    is_received = ring.bytes(&filled) == MESSAGE && !completion.is_last;
                    ring.give_back(filled);
                }
                What::Received(_, Err(error)) => return Err(refused("multishot receive", error)),
                _ => {}
            }
        }
        if is_sent && is_received {
            return Ok(());
        }
    }
    Err("a message through the ring did not arrive".to_owned())
}

fn refused(what: &str, error: i32) -> String {
    format!("{what}: {}", io::Error::from_raw_os_error(error))
}
