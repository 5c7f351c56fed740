//! Whatever is encoded decodes to the same, and nothing that is decoded makes the codec panic.
#![allow(missing_docs, clippy::unwrap_used)]

mod generate;

use generate::{VERSIONS, encoded, packet};
use mqtt_v5_codec::*;
use proptest::collection::vec;
use proptest::prelude::*;

/// Decodes bytes of unknown worth. What is accepted must encode to a packet that means the same;
/// encoding walks every list in it. Returns whether they were accepted.
fn check(version: Version, first: u8, body: &[u8]) -> bool {
    let Ok(packet) = decode(version, first, body) else {
        return false;
    };
    let version = match &packet {
        Packet::Connect(connect) => connect.version,
        _ => version,
    };
    let (again_first, again_body) = encoded(&packet, version);
    let again = decode(version, again_first, &again_body);
    assert_eq!(again.as_ref(), Ok(&packet), "{first:02X} {body:02X?}");
    true
}

/// A version, and a packet of that version.
fn versioned() -> impl Strategy<Value = (Version, Packet<'static>)> {
    proptest::sample::select(&VERSIONS[..])
        .prop_flat_map(|version| packet(version).prop_map(move |packet| (version, packet)))
}

/// Never saved: a case that fails is written down as a test of its own.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    }
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn every_packet_comes_back_as_it_was((version, packet) in versioned()) {
        let (first, body) = encoded(&packet, version);
        let decoded = decode(version, first, &body);
        prop_assert_eq!(decoded.as_ref(), Ok(&packet));
    }

    #[test]
    fn older_versions_leave_out_what_they_do_not_have(packet in packet(Version::V5)) {
        for version in [Version::V31, Version::V311] {
            let mut out = Vec::new();
            packet.encode(version, &mut out);
            match &packet {
                // It goes by its own version.
                Packet::Connect(_) => {}
                Packet::Auth(_) => prop_assert!(out.is_empty()),
                _ => {
                    let header = FixedHeader::parse(&out).unwrap().unwrap();
                    let body = &out[header.header_bytes..];
                    prop_assert!(check(version, header.first, body), "{:?}", packet);
                }
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(first: u8, body in vec(any::<u8>(), 0..80)) {
        let _ = FixedHeader::parse(&body);
        let _ = connect_version(&body);
        for version in VERSIONS {
            check(version, first, &body);
        }
    }

    #[test]
    fn a_stream_in_single_bytes_has_the_same_packets(
        packets in vec(packet(Version::V5), 1..5),
    ) {
        let mut stream = Vec::new();
        for packet in &packets {
            packet.encode(Version::V5, &mut stream);
        }
        let (mut start, mut found) = (0, 0);
        for end in 0..=stream.len() {
            let Some(header) = FixedHeader::parse(&stream[start..end]).unwrap() else {
                continue;
            };
            if end - start == header.packet_bytes() {
                let body = &stream[start + header.header_bytes..end];
                let decoded = decode(Version::V5, header.first, body);
                prop_assert_eq!(decoded.as_ref(), Ok(&packets[found]));
                (start, found) = (end, found + 1);
            }
        }
        prop_assert_eq!((start, found), (stream.len(), packets.len()));
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn packets_cut_short_or_altered_do_no_harm((version, packet) in versioned(), flip: u8) {
        let (first, mut body) = encoded(&packet, version);
        for count in 0..body.len() {
            check(version, first, &body[..count]);
        }
        for at in 0..body.len() {
            let before = body[at];
            for value in [0, 1, 0x7F, 0x80, 0xFF, before ^ flip, before.wrapping_add(1)] {
                body[at] = value;
                for version in VERSIONS {
                    check(version, first, &body);
                }
            }
            body[at] = before;
        }
        for first in 0..=255 {
            check(version, first, &body);
        }
    }
}
