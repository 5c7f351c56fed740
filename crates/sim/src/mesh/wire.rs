//! What shards send to clients of the Meshblu API, cut into answers and events.

use anyhow::{Context, Result, bail, ensure};
use http::{Decoder, WsEvent};
use serde_json::Value;

/// An answer to an HTTP request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// The body follows in chunks, without end.
    pub is_stream: bool,
    /// The connection is closed behind it.
    pub is_last: bool,
    /// Its body, or null.
    pub body: Value,
}

/// Cuts the first answer off; `None` if it is not whole.
///
/// # Errors
/// It is no answer.
pub fn take_answer(received: &mut Vec<u8>) -> Result<Option<Answer>> {
    let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&received[..end]).context("a head that is no text")?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status: u16 = status.with_context(|| format!("no status: {head}"))?;
    let header = |wanted: &str| {
        head.split("\r\n").skip(1).find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case(wanted).then_some(value)
        })
    };
    let is_stream = header("content-type").is_some_and(|it| it.starts_with("text/event-stream"));
    let is_last = header("connection").is_some_and(|it| it.eq_ignore_ascii_case("close"));
    let length = header("content-length").map_or(Ok(0), str::parse::<usize>)?;
    let begin = end + 4;
    let Some(body) = received.get(begin..begin + length) else {
        return Ok(None);
    };
    let body = match body {
        [] => Value::Null,
        text => serde_json::from_slice(text).context("a body that is no JSON")?,
    };
    received.drain(..begin + length);
    Ok(Some(Answer {
        status,
        is_stream,
        is_last,
        body,
    }))
}

/// Takes whole chunks off an event stream, and the events out of them.
///
/// # Errors
/// They are none.
pub fn take_events(received: &mut Vec<u8>, text: &mut Vec<u8>) -> Result<Vec<Value>> {
    while let Some(end) = received.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&received[..end])?;
        let size = usize::from_str_radix(size, 16).context("no size of a chunk")?;
        let whole = end + 2 + size + 2;
        if received.len() < whole {
            break;
        }
        text.extend_from_slice(&received[end + 2..whole - 2]);
        received.drain(..whole);
    }
    let mut events = Vec::new();
    while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
        let line: Vec<u8> = text.drain(..=end).collect();
        if let Some(data) = line.strip_prefix(b"data: ") {
            events.push(serde_json::from_slice(data)?);
        }
    }
    Ok(events)
}

/// What a server sends by a WebSocket.
#[derive(Debug)]
pub enum Frame {
    /// A JSON text.
    Text(Value),
    /// It asks whether we are there.
    Ping,
    /// It closes.
    Close,
}

/// A WebSocket at its client's end.
#[derive(Debug)]
pub struct Socket {
    decoder: Decoder,
    text: Vec<u8>,
}

impl Default for Socket {
    fn default() -> Socket {
        Socket {
            decoder: Decoder::for_client(usize::MAX),
            text: Vec::new(),
        }
    }
}

impl Socket {
    /// All that is whole in these bytes, which follow what came before.
    ///
    /// # Errors
    /// They are no frames.
    pub fn take(&mut self, received: &mut Vec<u8>) -> Result<Vec<Frame>> {
        let mut frames = Vec::new();
        let mut input = &received[..];
        while let Some(event) = self.decode(&mut input)? {
            match event {
                WsEvent::Data { is_final, is_text } => {
                    ensure!(is_text, "a binary frame");
                    if is_final {
                        frames.push(Frame::Text(serde_json::from_slice(&self.text)?));
                        self.text.clear();
                    }
                }
                WsEvent::Ping(_) => frames.push(Frame::Ping),
                WsEvent::Pong => {}
                WsEvent::Close(_) => {
                    frames.push(Frame::Close);
                    break;
                }
            }
        }
        let rest = input.to_vec();
        *received = rest;
        Ok(frames)
    }

    fn decode(&mut self, input: &mut &[u8]) -> Result<Option<WsEvent>> {
        match self.decoder.decode(input, &mut self.text) {
            Ok(event) => Ok(event),
            Err(error) => bail!("a frame that is none: {error}"),
        }
    }
}
