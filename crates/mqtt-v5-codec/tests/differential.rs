//! Compared with `mqttbytes`, a published codec that shares no code with ours: what we write it
//! reads, and what it then writes we read as the packet that we began with. Where it differs, the
//! function [`beyond_them`] says how.
#![allow(missing_docs, clippy::unwrap_used)]

mod generate;

use bytes::BytesMut;
use generate::packet;
use mqtt_v5_codec::*;
use proptest::prelude::*;

/// Reads one packet with their codec and writes it again.
fn rewritten(version: Version, bytes: &[u8]) -> Result<BytesMut, mqttbytes::Error> {
    let mut stream = BytesMut::from(bytes);
    let mut out = BytesMut::new();
    match version {
        Version::V5 => rewrite_v5(mqttbytes::v5::read(&mut stream, usize::MAX)?, &mut out)?,
        _ => rewrite_v4(mqttbytes::v4::read(&mut stream, usize::MAX)?, &mut out)?,
    };
    assert!(stream.is_empty(), "one packet and no more");
    Ok(out)
}

fn rewrite_v4(
    packet: mqttbytes::v4::Packet,
    out: &mut BytesMut,
) -> Result<usize, mqttbytes::Error> {
    use mqttbytes::v4::{self, Packet};
    match packet {
        Packet::Connect(packet) => packet.write(out),
        Packet::ConnAck(packet) => packet.write(out),
        Packet::Publish(packet) => packet.write(out),
        Packet::PubAck(packet) => packet.write(out),
        Packet::PubRec(packet) => packet.write(out),
        Packet::PubRel(packet) => packet.write(out),
        Packet::PubComp(packet) => packet.write(out),
        Packet::Subscribe(packet) => packet.write(out),
        Packet::SubAck(packet) => packet.write(out),
        Packet::Unsubscribe(packet) => packet.write(out),
        Packet::UnsubAck(packet) => packet.write(out),
        Packet::PingReq => v4::PingReq.write(out),
        Packet::PingResp => v4::PingResp.write(out),
        Packet::Disconnect => v4::Disconnect.write(out),
    }
}

fn rewrite_v5(
    packet: mqttbytes::v5::Packet,
    out: &mut BytesMut,
) -> Result<usize, mqttbytes::Error> {
    use mqttbytes::v5::{self, Packet};
    match packet {
        Packet::Connect(packet) => packet.write(out),
        Packet::ConnAck(packet) => packet.write(out),
        Packet::Publish(packet) => packet.write(out),
        Packet::PubAck(packet) => packet.write(out),
        Packet::PubRec(packet) => packet.write(out),
        Packet::PubRel(packet) => packet.write(out),
        Packet::PubComp(packet) => packet.write(out),
        Packet::Subscribe(packet) => packet.write(out),
        Packet::SubAck(packet) => packet.write(out),
        Packet::Unsubscribe(packet) => packet.write(out),
        Packet::UnsubAck(packet) => packet.write(out),
        Packet::PingReq => v5::PingReq.write(out),
        Packet::PingResp => v5::PingResp.write(out),
        Packet::Disconnect(packet) => packet.write(out),
    }
}

/// Packets that the other codec does not carry over, each for a fault or a limit of its own.
fn beyond_them(packet: &Packet<'_>, version: Version) -> bool {
    match packet {
        // It has no AUTH.
        Packet::Auth(_) => true,
        // In a v5 DISCONNECT it wants a property length, which may be left out (3.14.2.2.1), and
        // refuses 0x8C, which stands in table 2-6 but not in that of DISCONNECT.
        Packet::Disconnect(disconnect) => {
            let plain = disconnect.properties == DisconnectProperties::default();
            let bad_method = disconnect.reason == ReasonCode::BadAuthenticationMethod;
            version == Version::V5 && (plain || bad_method)
        }
        // It writes a v5 CONNACK without properties as 3.1.1 does, without their length.
        Packet::Connack(connack) => {
            version == Version::V5 && connack.properties == ConnackProperties::default()
        }
        // It wants a password to be text, and takes an empty one, or an empty user name, for none.
        Packet::Connect(connect) => {
            connect.user_name.is_some_and(str::is_empty)
                || connect.password.is_some_and(|password| {
                    password.is_empty() || std::str::from_utf8(password).is_err()
                })
        }
        // It counts a byte too many for each subscription identifier, and so loses what follows.
        Packet::Publish(publish) => publish.properties.subscription_id_count > 1,
        _ => false,
    }
}

fn check(packet: &Packet<'_>, version: Version) {
    let mut ours = Vec::new();
    packet.encode(version, &mut ours);
    compare(packet, version, &ours);
}

/// `bytes` are `packet` to us; that is what they must be to the other codec.
fn compare(packet: &Packet<'_>, version: Version, bytes: &[u8]) {
    if beyond_them(packet, version) {
        return;
    }
    let theirs = match rewritten(version, bytes) {
        Ok(theirs) => theirs,
        Err(error) => panic!("{error:?}: {packet:?} as {bytes:02X?}"),
    };
    let header = FixedHeader::parse(&theirs).unwrap().unwrap();
    assert_eq!(header.packet_bytes(), theirs.len(), "{packet:?}");
    let again = decode(version, header.first, &theirs[header.header_bytes..]);
    assert_eq!(again.as_ref(), Ok(packet), "{theirs:02X?}");
}

/// Never saved: a case that fails is written down as a test of its own.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    }
}

proptest! {
    #![proptest_config(cases(4_000))]

    #[test]
    fn they_read_what_we_write_in_3_1_1(packet in packet(Version::V311)) {
        check(&packet, Version::V311);
    }

    #[test]
    fn they_read_what_we_write_in_5_0(packet in packet(Version::V5)) {
        check(&packet, Version::V5);
    }
}

proptest! {
    #![proptest_config(cases(20_000))]

    #[test]
    fn they_accept_whatever_we_accept_in_3_1_1(
        packet in packet(Version::V311), at: proptest::sample::Index, flip in 1..=255u8,
    ) {
        check_altered(&packet, Version::V311, at, flip);
    }

    #[test]
    fn they_accept_whatever_we_accept_in_5_0(
        packet in packet(Version::V5), at: proptest::sample::Index, flip in 1..=255u8,
    ) {
        check_altered(&packet, Version::V5, at, flip);
    }
}

/// Alters one byte of the body; if the outcome is still a packet to us, it is the same to them.
fn check_altered(packet: &Packet<'_>, version: Version, at: proptest::sample::Index, flip: u8) {
    let (first, mut body) = generate::encoded(packet, version);
    if body.is_empty() {
        return;
    }
    let at = at.index(body.len());
    body[at] ^= flip;
    let Ok(altered) = decode(version, first, &body) else {
        return;
    };
    if matches!(&altered, Packet::Connect(connect) if connect.version != version) {
        return;
    }
    let mut bytes = vec![first];
    write_variable_length(&mut bytes, body.len());
    bytes.extend_from_slice(&body);
    compare(&altered, version, &bytes);
}
