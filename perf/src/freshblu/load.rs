//! The client: requests over HTTP and frames over WebSocket on non-blocking sockets, on one thread.
//!
//! A peer that asks has one request on the way; a WebSocket that sends has a window of messages on
//! the way, each opened again by its arrival at the receiver. Bytes are prepared beforehand; what
//! comes is read as far as needed to count it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mio::{Events, Interest, Poll, Token};

/// How long an answer during the preparation may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Room for what is read at once.
const READ_BYTES: usize = 65_536;

/// A registered device.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its uuid.
    pub uuid: String,
    /// Its token.
    pub token: String,
}

impl Device {
    /// Registers one.
    ///
    /// # Errors
    /// When it is refused.
    pub fn register(address: SocketAddr) -> Result<Device> {
        let body = r#"{"type":"load"}"#;
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&request("POST", "/devices", None, body))?;
        let mut read = Vec::new();
        let end = loop {
            read_some(&mut stream, &mut read)?;
            if let Some((length, status)) = response(&read)? {
                ensure!(status == 200, "registering is answered with {status}");
                break length;
            }
        };
        let start = head_end(&read).context("an answer without a head")?;
        let device: serde_json::Value = serde_json::from_slice(&read[start..end])?;
        let field = |name: &str| device[name].as_str().map(str::to_owned);
        Ok(Device {
            uuid: field("uuid").context("no uuid")?,
            token: field("token").context("no token")?,
        })
    }

    /// The header that says who asks.
    fn authorization(&self) -> String {
        let credentials = format!("{}:{}", self.uuid, self.token);
        format!(
            "Authorization: Basic {}\r\n",
            base64(credentials.as_bytes())
        )
    }
}

/// The bytes of a request.
pub fn request(method: &str, path: &str, device: Option<&Device>, body: &str) -> Vec<u8> {
    let authorization = device.map_or(String::new(), Device::authorization);
    let content = match method {
        "GET" => String::new(),
        _ => format!(
            "Content-Type: application/json\r\nContent-Length: {}\r\n",
            body.len()
        ),
    };
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{authorization}{content}\r\n{body}")
        .into_bytes()
}

/// The bytes of a text frame of a client. The masking key is zero, which is a key like any other.
pub fn frame(text: &str) -> Vec<u8> {
    let length = text.len();
    let mut bytes = vec![0x81];
    match u16::try_from(length) {
        Ok(short) if short < 126 => bytes.push(0x80 | short as u8),
        Ok(long) => {
            bytes.push(0x80 | 126);
            bytes.extend(long.to_be_bytes());
        }
        Err(_) => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(text.as_bytes());
    bytes
}

/// What a peer does when something has come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Asks again after each answer.
    Asks,
    /// Sends when told to.
    Sends,
    /// Counts what comes, and tells the peer of that number, if there is one, to send.
    Receives(Option<usize>),
}

/// One connection.
#[derive(Debug)]
struct Peer {
    stream: mio::net::TcpStream,
    role: Role,
    /// What it sends, one after the other, again and again.
    messages: Vec<Vec<u8>>,
    /// Which of them is next.
    next: usize,
    output: Vec<u8>,
    input: Vec<u8>,
}

/// What has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answers to requests.
    pub answered: u64,
    /// Messages that have arrived.
    pub delivered: u64,
}

/// The connections of a run.
#[derive(Debug)]
pub struct Load {
    address: SocketAddr,
    peers: Vec<Peer>,
    poll: Poll,
    counts: Counts,
    is_sending: bool,
    /// The uuids in answers, if they are wanted.
    uuids: Option<Vec<String>>,
    sent: u64,
}

impl Load {
    /// No connections yet.
    ///
    /// # Errors
    /// When the kernel gives no poll.
    pub fn new(address: SocketAddr) -> Result<Load> {
        Ok(Load {
            address,
            peers: Vec::new(),
            poll: Poll::new()?,
            counts: Counts::default(),
            is_sending: true,
            uuids: None,
            sent: 0,
        })
    }

    /// Adds a connection for HTTP that sends `message`; returns its number.
    ///
    /// # Errors
    /// When it cannot connect.
    pub fn add_http(&mut self, message: Vec<u8>) -> Result<usize> {
        self.add_http_in_turn(vec![message])
    }

    /// The same with several messages that take turns.
    ///
    /// # Errors
    /// When it cannot connect.
    pub fn add_http_in_turn(&mut self, messages: Vec<Vec<u8>>) -> Result<usize> {
        let stream = TcpStream::connect(self.address)?;
        self.add(stream, Role::Asks, messages, Vec::new())
    }

    /// Messages that have been sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// From now on the uuids in answers are kept.
    pub fn keep_uuids(&mut self) {
        self.uuids.get_or_insert_default();
    }

    /// The uuids that have been kept.
    pub fn take_uuids(&mut self) -> Vec<String> {
        self.uuids.take().unwrap_or_default()
    }

    /// Adds a WebSocket of `device`, identified; returns its number.
    ///
    /// # Errors
    /// When it cannot connect, or is refused.
    pub fn add_websocket(
        &mut self,
        device: &Device,
        role: Role,
        message: Vec<u8>,
    ) -> Result<usize> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(
            b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )?;
        let mut input = Vec::new();
        let end = loop {
            read_some(&mut stream, &mut input)?;
            if let Some(end) = head_end(&input) {
                break end;
            }
        };
        ensure!(input.starts_with(b"HTTP/1.1 101"), "no WebSocket at /ws");
        input.drain(..end);
        let Device { uuid, token } = device;
        let identity = format!(r#"{{"event":"identity","uuid":"{uuid}","token":"{token}"}}"#);
        stream.write_all(&frame(&identity))?;
        loop {
            if let Some((length, content)) = server_frame(&input)? {
                let text = String::from_utf8_lossy(&input[content..length]).into_owned();
                ensure!(!text.contains("notReady"), "refused: {text}");
                input.drain(..length);
                if text.contains("ready") {
                    break;
                }
                continue;
            }
            read_some(&mut stream, &mut input)?;
        }
        self.add(stream, role, vec![message], input)
    }

    fn add(
        &mut self,
        stream: TcpStream,
        role: Role,
        messages: Vec<Vec<u8>>,
        input: Vec<u8>,
    ) -> Result<usize> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = mio::net::TcpStream::from_std(stream);
        let number = self.peers.len();
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut stream, Token(number), interest)?;
        self.peers.push(Peer {
            stream,
            role,
            messages,
            next: 0,
            output: Vec::new(),
            input,
        });
        Ok(number)
    }

    /// The peers that send.
    pub fn senders(&self) -> Vec<usize> {
        let all = 0..self.peers.len();
        all.filter(|&number| !matches!(self.peers[number].role, Role::Receives(_)))
            .collect()
    }

    /// Makes `peer` send its message `count` times.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn send(&mut self, peer: usize, count: usize) -> Result<()> {
        self.sent += count as u64;
        let peer = &mut self.peers[peer];
        for _ in 0..count {
            peer.output.extend_from_slice(&peer.messages[peer.next]);
            peer.next = (peer.next + 1) % peer.messages.len();
        }
        peer.flush()
    }

    /// Goes on for `time`; returns the counts since the beginning.
    ///
    /// # Errors
    /// When a connection breaks, or an answer is a refusal.
    pub fn run(&mut self, time: Duration) -> Result<Counts> {
        let end = Instant::now() + time;
        let mut events = Events::with_capacity(1_024);
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.poll.poll(&mut events, Some(left))?;
            for event in &events {
                let peer = event.token().0;
                if event.is_writable() {
                    self.peers[peer].flush()?;
                }
                if event.is_readable() {
                    self.take(peer)?;
                }
            }
        }
        Ok(self.counts)
    }

    /// Sends nothing more and waits until `is_done` or `patience` has passed.
    ///
    /// # Errors
    /// As [`Load::run`].
    pub fn drain(
        &mut self,
        patience: Duration,
        is_done: impl Fn(Counts) -> bool,
    ) -> Result<Counts> {
        self.is_sending = false;
        let end = Instant::now() + patience;
        while !is_done(self.counts) && Instant::now() < end {
            self.run(Duration::from_millis(20))?;
        }
        Ok(self.counts)
    }

    /// Takes in what has come to `number`.
    fn take(&mut self, number: usize) -> Result<()> {
        let peer = &mut self.peers[number];
        let units = peer.receive(self.uuids.as_mut())?;
        let sender = match peer.role {
            Role::Asks => {
                self.counts.answered += units;
                Some(number)
            }
            Role::Receives(sender) => {
                self.counts.delivered += units;
                sender
            }
            Role::Sends => None,
        };
        match sender {
            Some(sender) if self.is_sending && units > 0 => self.send(sender, units as usize),
            _ => Ok(()),
        }
    }
}

impl Peer {
    /// Reads all that is there; returns how many answers or messages are whole.
    fn receive(&mut self, mut uuids: Option<&mut Vec<String>>) -> Result<u64> {
        let mut buffer = [0; READ_BYTES];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => bail!("the server has closed a connection"),
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        let (mut units, mut at) = (0, 0);
        loop {
            let rest = &self.input[at..];
            let length = match self.role {
                Role::Asks => response(rest)?.map(|(length, status)| (length, status == 200)),
                _ => server_frame(rest)?.map(|(length, _)| (length, rest[0] == 0x81)),
            };
            let Some((length, counts)) = length else {
                break;
            };
            ensure!(
                counts || self.role != Role::Asks,
                "a refusal: {}",
                String::from_utf8_lossy(rest)
            );
            if let Some(uuids) = &mut uuids
                && let Some(body) = head_end(rest)
                && let Some(uuid) = rest[body..length].strip_prefix(b"{\"uuid\":\"")
            {
                uuids.push(std::str::from_utf8(&uuid[..36])?.to_owned());
            }
            units += u64::from(counts);
            at += length;
        }
        self.input.drain(..at);
        Ok(units)
    }

    fn flush(&mut self) -> Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn read_some(stream: &mut TcpStream, into: &mut Vec<u8>) -> Result<()> {
    let mut buffer = [0; 4_096];
    let count = stream.read(&mut buffer)?;
    ensure!(count > 0, "the server has closed a connection");
    into.extend_from_slice(&buffer[..count]);
    Ok(())
}

/// Where the body begins.
fn head_end(bytes: &[u8]) -> Option<usize> {
    let found = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    found.map(|at| at + 4)
}

/// The length and the status of a whole answer at the beginning of `bytes`.
fn response(bytes: &[u8]) -> Result<Option<(usize, u16)>> {
    let Some(body) = head_end(bytes) else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..body])?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let status = status.and_then(|status| status.parse().ok());
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then_some(value.trim())
    });
    let length: usize = length
        .context("an answer without Content-Length")?
        .parse()?;
    let whole = body + length;
    let status = status.context("an answer without a status")?;
    Ok((bytes.len() >= whole).then_some((whole, status)))
}

/// The length of a whole frame of a server at the beginning of `bytes`, and where its content is.
fn server_frame(bytes: &[u8]) -> Result<Option<(usize, usize)>> {
    let [_, second, ..] = bytes else {
        return Ok(None);
    };
    ensure!(second & 0x80 == 0, "a server has masked a frame");
    let (head, length) = match second {
        127 if bytes.len() >= 10 => {
            let length = bytes[2..10].try_into().expect("eight bytes");
            (10, u64::from_be_bytes(length) as usize)
        }
        126 if bytes.len() >= 4 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
        126 | 127 => return Ok(None),
        short => (2, usize::from(*short)),
    };
    let whole = head + length;
    Ok((bytes.len() >= whole).then_some((whole, head)))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let is_there = digit <= chunk.len();
            let value = DIGITS[(bits >> (18 - 6 * digit) & 63) as usize];
            text.push(if is_there { char::from(value) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_padded() {
        for (text, expected) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ] {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }

    #[test]
    fn answers_are_counted_when_they_are_whole() {
        let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        for cut in 0..whole.len() {
            assert_eq!(response(&whole[..cut]).unwrap(), None);
        }
        assert_eq!(response(whole).unwrap(), Some((whole.len(), 200)));
        assert_eq!(
            response(&[whole.as_slice(), whole].concat()).unwrap(),
            Some((whole.len(), 200))
        );
        assert!(response(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn frames_are_counted_when_they_are_whole() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let mut bytes = frame(&"x".repeat(length));
            // As a server sends it: without mask.
            bytes[1] &= 0x7f;
            let content = bytes.len() - length;
            bytes.drain(content - 4..content);
            let whole = bytes.len();
            assert_eq!(server_frame(&bytes[..whole - 1]).unwrap(), None);
            assert_eq!(server_frame(&bytes).unwrap(), Some((whole, content - 4)));
        }
    }
}
