//! Reads all retained messages of a run, as a client of its own that comes and goes.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::client::Common;
use super::packet::{self, Connect, Incoming, PUBACK};
use crate::wire::{self, Stamp, Version};

/// Without anything new for so long, no more will come.
const QUIET: Duration = Duration::from_secs(10);

/// Topic and stamp of `count` retained messages below the run's topics.
///
/// # Errors
/// When the broker does not let it in, or sends what is no packet.
pub fn read(common: &Common, count: usize) -> Result<BTreeMap<String, Stamp>> {
    let mut stream = TcpStream::connect(common.target).context("cannot read what is retained")?;
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    let client_id = format!("{}-reader", common.run);
    let credentials = common.credentials.as_ref();
    let mut out = Vec::new();
    Connect {
        version: Version::V5,
        client_id: &client_id,
        kept: false,
        keep_alive_s: 60,
        credentials: credentials.map(|(name, password)| (name.as_str(), password.as_str())),
        will: None,
    }
    .push(&mut out);
    // Topics are `active/N` and `kept/N`; that a wildcard finds them is a part of it.
    let filters = ["active", "kept"].map(|kind| format!("{}/{kind}/+", common.run));
    wire::subscribe(Version::V5, 1, &filters, 1, &mut out);
    stream.write_all(&out)?;
    let mut found = BTreeMap::new();
    let mut inbox = Vec::new();
    let mut moved = Instant::now();
    while found.len() < count && moved.elapsed() < QUIET {
        if !fill(&mut stream, &mut inbox)? {
            continue;
        }
        let (used, answers) = take_all(&inbox, &mut found)?;
        inbox.drain(..used);
        stream.write_all(&answers)?;
        moved = Instant::now();
    }
    stream.write_all(&wire::DISCONNECT)?;
    Ok(found)
}

/// Whether something was read.
fn fill(stream: &mut TcpStream, inbox: &mut Vec<u8>) -> Result<bool> {
    let mut buffer = [0; 16_384];
    match stream.read(&mut buffer) {
        Ok(0) => bail!("the broker closed the connection that reads what is retained"),
        Ok(count) => inbox.extend_from_slice(&buffer[..count]),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    Ok(true)
}

/// Takes whole packets; returns how many bytes those were, and what to answer.
fn take_all(inbox: &[u8], found: &mut BTreeMap<String, Stamp>) -> Result<(usize, Vec<u8>)> {
    let (mut used, mut answers) = (0, Vec::new());
    while let Some((incoming, length)) = packet::take(Version::V5, &inbox[used..])
        .map_err(|malformed| anyhow::anyhow!("what is retained came with {}", malformed.0))?
    {
        used += length;
        match incoming {
            Incoming::Connack { code: 0, .. } | Incoming::Suback { granted: true } => {}
            Incoming::Publish(publish) => {
                if publish.qos == 1 {
                    packet::push_ack(&mut answers, PUBACK, publish.packet_id);
                }
                let stamp = Stamp::read(publish.payload);
                if let (true, Some(stamp)) = (publish.retain, stamp) {
                    let topic = String::from_utf8_lossy(publish.topic).into_owned();
                    found.insert(topic, stamp);
                }
            }
            other => bail!("reading what is retained: {other:?}"),
        }
    }
    Ok((used, answers))
}
