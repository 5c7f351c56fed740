//! A stream of packets that arrives in pieces of random length, in each version.
//!
//! The first byte picks the version, the second seeds the cuts, the rest is the stream. Cuts must
//! make no difference, and what is accepted must encode to a packet that means the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mqtt_v5_codec::{DecodeError, FixedHeader, Packet, Version, decode};

fuzz_target!(|data: &[u8]| {
    let [version, seed, stream @ ..] = data else {
        return;
    };
    let version = [Version::V31, Version::V311, Version::V5][usize::from(version % 3)];
    let whole = read_in_pieces(version, stream, |_| stream.len());
    let mut state = u32::from(*seed);
    let cut = read_in_pieces(version, stream, |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        1 + (state >> 24) as usize % 17
    });
    let bytewise = read_in_pieces(version, stream, |_| 1);
    assert_eq!(whole, cut);
    assert_eq!(whole, bytewise);
});

/// How many packets were accepted, where the next one starts, and why reading ended early.
type Outcome = (usize, usize, Option<DecodeError>);

/// Reads as a connection does: as many packets as there are, each time `step` more bytes came.
fn read_in_pieces(
    version: Version,
    stream: &[u8],
    mut step: impl FnMut(usize) -> usize,
) -> Outcome {
    let (mut start, mut end, mut accepted) = (0, 0, 0);
    loop {
        let header = match FixedHeader::parse(&stream[start..end]) {
            Ok(header) => header,
            Err(error) => return (accepted, start, Some(error)),
        };
        let whole = header.filter(|header| header.packet_bytes() <= end - start);
        let Some(header) = whole else {
            if end == stream.len() {
                return (accepted, start, None);
            }
            end = stream.len().min(end + step(end));
            continue;
        };
        let body = &stream[start + header.header_bytes..start + header.packet_bytes()];
        match decode(version, header.first, body) {
            Ok(packet) => check_again(version, &packet),
            Err(error) => return (accepted, start, Some(error)),
        }
        accepted += 1;
        start += header.packet_bytes();
    }
}

fn check_again(version: Version, packet: &Packet<'_>) {
    let version = match packet {
        Packet::Connect(connect) => connect.version,
        _ => version,
    };
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes);
    let header = FixedHeader::parse(&bytes)
        .expect("is sound")
        .expect("is whole");
    assert_eq!(header.packet_bytes(), bytes.len());
    let again = decode(version, header.first, &bytes[header.header_bytes..]);
    assert_eq!(again.as_ref(), Ok(packet));
    // Once written in our order, the bytes stay as they are.
    let mut twice = Vec::new();
    packet.encode(version, &mut twice);
    assert_eq!(bytes, twice);
    for version in [Version::V31, Version::V311, Version::V5] {
        packet.encode(version, &mut twice);
    }
}
