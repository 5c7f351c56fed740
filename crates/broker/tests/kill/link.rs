//! One TCP connection of a client, as packets; never blocks.

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use mqtt_v5_codec::{
    Ack, AckKind, AckProperties, FixedHeader, Packet, PacketId, ReasonCode, Version,
};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

/// A connection.
pub struct Link {
    stream: TcpStream,
    version: Version,
    incoming: Vec<u8>,
    /// Bytes of `incoming` that have been taken.
    taken: usize,
    outgoing: Vec<u8>,
}

impl Link {
    /// Begins to connect; `None` where that is refused at once.
    pub fn open(
        address: SocketAddr,
        version: Version,
        registry: &Registry,
        token: Token,
    ) -> Option<Link> {
        let mut stream = TcpStream::connect(address).ok()?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut stream, token, interest).unwrap();
        Some(Link {
            stream,
            version,
            incoming: Vec::new(),
            taken: 0,
            outgoing: Vec::new(),
        })
    }

    /// Adds a packet to what is sent with the next [`Link::flush`].
    pub fn push(&mut self, packet: &Packet<'_>) {
        packet.encode(self.version, &mut self.outgoing);
    }

    /// Adds one of the acknowledgements.
    pub fn push_ack(&mut self, kind: AckKind, packet_id: PacketId, reason: ReasonCode) {
        self.push(&Packet::Ack(Ack {
            kind,
            packet_id,
            reason,
            properties: AckProperties::default(),
        }));
    }

    /// For packets that have an encoder of their own.
    pub fn outgoing(&mut self) -> &mut Vec<u8> {
        &mut self.outgoing
    }

    /// Sends what the kernel takes. False if the connection is gone.
    pub fn flush(&mut self) -> bool {
        let mut sent = 0;
        let is_open = loop {
            if sent == self.outgoing.len() {
                break true;
            }
            match self.stream.write(&self.outgoing[sent..]) {
                Ok(count) => sent += count,
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    // Not connected yet, or no room.
                    ErrorKind::WouldBlock | ErrorKind::NotConnected => break true,
                    _ => break false,
                },
            }
        };
        self.outgoing.drain(..sent);
        is_open
    }

    /// Reads all there is. False if nothing more will come.
    pub fn fill(&mut self) -> bool {
        self.incoming.drain(..self.taken);
        self.taken = 0;
        let mut buffer = [0; 16_384];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => self.incoming.extend_from_slice(&buffer[..count]),
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock | ErrorKind::NotConnected => return true,
                    _ => return false,
                },
            }
        }
    }

    /// The next whole packet that has been read, as its first byte and its body.
    pub fn take(&mut self) -> Option<(u8, Vec<u8>)> {
        let rest = &self.incoming[self.taken..];
        let header = FixedHeader::parse(rest).expect("the broker sends valid packets")?;
        let body = rest.get(header.header_bytes..header.packet_bytes())?;
        let packet = (header.first, body.to_vec());
        self.taken += header.packet_bytes();
        Some(packet)
    }
}
