//! What the specifications forbid, and the reason code it is refused with. Each list ends with
//! the nearest packets that are allowed.
#![allow(missing_docs, clippy::unwrap_used)]

use mqtt_v5_codec::ReasonCode::{MalformedPacket, ProtocolError, TopicNameInvalid};
use mqtt_v5_codec::Version::{V5, V31, V311};
use mqtt_v5_codec::*;

/// Decodes `first` and `body`, and compares the reason; `None` if they must be accepted.
fn check(version: Version, first: u8, body: &[u8], expected: Option<ReasonCode>) {
    let found = decode(version, first, body).err();
    assert_eq!(
        found.map(|error| error.reason),
        expected,
        "{version:?} {first:02X} {body:02X?} {found:?}"
    );
}

fn refused(version: Version, first: u8, reason: ReasonCode, bodies: &[&[u8]]) {
    for body in bodies {
        check(version, first, body, Some(reason));
    }
}

fn accepted(version: Version, first: u8, bodies: &[&[u8]]) {
    for body in bodies {
        check(version, first, body, None);
    }
}

/// A v5 packet whose property block is `block`, between `before` and `after`.
fn with_block(before: &[u8], block: &[u8], after: &[u8]) -> Vec<u8> {
    let mut body = before.to_vec();
    write_variable_length(&mut body, block.len());
    body.extend_from_slice(block);
    body.extend_from_slice(after);
    body
}

const CONNECT: &[u8] = b"\0\x04MQTT\x05\x02\0\0";
const WILL: &[u8] = b"\0\x04MQTT\x05\x06\0\0\0\0\x01c";

#[test]
fn flags_of_the_fixed_header_are_fixed() {
    // [MQTT-2.1.3-1]
    for first in (0..=255u8).filter(|first| first >> 4 != 3) {
        let flags = if matches!(first >> 4, 6 | 8 | 10) {
            2
        } else {
            0
        };
        if first & 15 == flags && first >> 4 != 0 {
            continue;
        }
        for version in [V311, V5] {
            check(version, first, b"", Some(MalformedPacket));
        }
    }
    // 3.1 sets DUP on what is sent again.
    accepted(V31, 0x6A, &[b"\0\x01"]);
    accepted(V31, 0x8A, &[b"\0\x01\0\x01a\0"]);
    accepted(V31, 0xAA, &[b"\0\x01\0\x01a"]);
    refused(V311, 0x6A, MalformedPacket, &[b"\0\x01"]);
    refused(V31, 0xCA, MalformedPacket, &[b""]);
    refused(V31, 0x68, MalformedPacket, &[b"\0\x01"]);
}

#[test]
fn connect_names_a_version_that_we_know() {
    let unsupported = ReasonCode::UnsupportedProtocolVersion;
    for (body, answer) in [
        (&b"\0\x04MQTT\x03\x02\0\0\0\x01c"[..], Some(V311)),
        (b"\0\x04MQTT\x06\x02\0\0\0\0\x01c", Some(V5)),
        (b"\0\x04MQTT\0\x02\0\0\0\x01c", Some(V311)),
        (b"\0\x04MQTT\x7F\x02\0\0\0\x01c", Some(V5)),
        (b"\0\x04MQTT\x84\x02\0\0\0\x01c", Some(V311)), // A bridge.
        (b"\0\x06MQIsdp\x05\x02\0\0\0\x01c", Some(V311)),
        (b"\0\x06MQIsdp\x02\x02\0\0\0\x01c", Some(V311)),
        (b"\0\x06MQIsdp\x06\x02\0\0\0\x01c", Some(V311)),
        (b"\0\x04mqtt\x04\x02\0\0\0\x01c", None),
        (b"\0\x05MQTT5\x05\x02\0\0\0\0\x01c", None),
        (b"\0\0\x04\x02\0\0\0\x01c", None),
    ] {
        check(V5, 0x10, body, Some(unsupported));
        assert_eq!(connect_version(body), answer, "{body:02X?}");
    }
    for (body, version) in [
        (&b"\0\x06MQIsdp\x03\x02\0\0\0\x01c"[..], V31),
        (b"\0\x06MQIsdp\x04\x02\0\0\0\x01c", V311),
        (b"\0\x04MQTT\x04\x02\0\0\0\x01c", V311),
        (b"\0\x04MQTT\x05\x02\0\0\0\0\x01c", V5),
    ] {
        let Ok(Packet::Connect(connect)) = decode(V311, 0x10, body) else {
            panic!("{body:02X?}");
        };
        assert_eq!(
            (connect.version, connect_version(body)),
            (version, Some(version))
        );
    }
    assert_eq!(connect_version(b""), None);
    assert_eq!(connect_version(b"\0\x04MQTT"), None);
    assert_eq!(connect_version(b"\0\x04MQTT\x05"), Some(V5));
}

/// Flags, and the rest of a CONNECT that would suit them if they were allowed.
fn connect_with(name: &[u8], level: u8, flags: u8) -> Vec<u8> {
    let mut body = vec![0, name.len() as u8];
    body.extend_from_slice(name);
    body.extend_from_slice(&[level, flags, 0, 0]);
    let block: &[u8] = if level == 5 { &[0] } else { &[] };
    body.extend_from_slice(block);
    body.extend_from_slice(b"\0\x01c");
    if flags & 0x04 != 0 {
        body.extend_from_slice(block);
        body.extend_from_slice(b"\0\x01w\0\0");
    }
    for flag in [0x80, 0x40] {
        if flags & flag != 0 {
            body.extend_from_slice(b"\0\x01p");
        }
    }
    body
}

#[test]
fn connect_flags_agree_with_each_other() {
    for flags in 0..=255u8 {
        let (will, will_qos, will_retain) = (flags & 4 != 0, flags >> 3 & 3, flags & 0x20 != 0);
        let password_alone = flags & 0xC0 == 0x40;
        for (name, level) in [(&b"MQIsdp"[..], 3), (b"MQTT", 4), (b"MQTT", 5)] {
            // [MQTT-3.1.2-3], -12, -11, -13, and -22 of 3.1.1.
            let malformed = flags & 1 != 0 || (will && will_qos == 3);
            let no_will = !will && level > 3 && (will_qos != 0 || will_retain);
            let expected = match malformed {
                true => Some(MalformedPacket),
                false => (no_will || (level < 5 && password_alone)).then_some(ProtocolError),
            };
            check(V5, 0x10, &connect_with(name, level, flags), expected);
        }
    }
}

#[test]
fn in_3_1_the_end_of_connect_overrules_its_flags() {
    accepted(V31, 0x10, &[b"\0\x06MQIsdp\x03\xC2\0\0\0\x01c"]);
    accepted(V31, 0x10, &[b"\0\x06MQIsdp\x03\xC2\0\0\0\x01c\0\x01u"]);
    refused(
        V31,
        0x10,
        MalformedPacket,
        &[b"\0\x06MQIsdp\x03\xC2\0\0\0\x01c\0"],
    );
    refused(
        V311,
        0x10,
        MalformedPacket,
        &[b"\0\x04MQTT\x04\xC2\0\0\0\x01c"],
    );
    refused(
        V311,
        0x10,
        MalformedPacket,
        &[b"\0\x04MQTT\x04\xC2\0\0\0\x01c\0\x01u"],
    );
}

#[test]
fn nothing_is_missing_from_a_packet_and_nothing_left_over() {
    for (version, first, body) in [
        (
            V311,
            0x10,
            &b"\0\x04MQTT\x04\xC6\0\0\0\x01c\0\x01w\0\0\0\x01u\0\x01p"[..],
        ),
        (
            V5,
            0x10,
            b"\0\x04MQTT\x05\xC6\0\0\x05\x11\0\0\0\x01\0\x01c\0\0\x01w\0\0\0\x01u\0\x01p",
        ),
        (V311, 0x20, b"\0\0"),
        (V5, 0x20, b"\0\0\x03\x22\0\x01"),
        (V311, 0x40, b"\0\x01"),
        (V311, 0x62, b"\0\x01"),
        (V311, 0xB0, b"\0\x01"),
    ] {
        check(version, first, body, None);
        for count in 0..body.len() {
            check(version, first, &body[..count], Some(MalformedPacket));
        }
        check(
            version,
            first,
            &[body, b"\0"].concat(),
            Some(MalformedPacket),
        );
    }
    for first in [0xC0, 0xD0, 0xE0] {
        refused(V311, first, MalformedPacket, &[b"\0"]);
    }
    refused(V5, 0xC0, MalformedPacket, &[b"\0"]);
    refused(
        V5,
        0x40,
        MalformedPacket,
        &[b"\0\x01\0\0\0", b"\0\x01\0\x01", b"\0"],
    );
    refused(
        V5,
        0xE0,
        MalformedPacket,
        &[b"\0\0\0", b"\0\x01", b"\0\x05\x1F\0\x01x"],
    );
    accepted(V5, 0x40, &[b"\0\x01", b"\0\x01\0", b"\0\x01\0\0"]);
    accepted(V5, 0xE0, &[b"", b"\0", b"\0\0"]);
}

#[test]
fn strings_are_clean_utf8_wherever_they_stand() {
    // [MQTT-1.5.4-1], [MQTT-1.5.4-2]
    for bad in [
        &b"\0"[..],
        b"\x01",
        b"\x7F",
        b"\xC2\x80",
        b"\xEF\xBF\xBF",
        b"\xFF",
        b"\xED\xA0\x80",
    ] {
        let string = [&[0, bad.len() as u8], bad].concat();
        let connect = [CONNECT, b"\0", &string].concat();
        let will = [WILL, b"\0", &string, b"\0\0"].concat();
        let user_name = [b"\0\x04MQTT\x04\x82\0\0\0\x01c", &string[..]].concat();
        for body in [connect, will, user_name] {
            check(V5, 0x10, &body, Some(MalformedPacket));
        }
        check(
            V5,
            0x30,
            &[&string[..], b"\0"].concat(),
            Some(MalformedPacket),
        );
        check(
            V311,
            0x82,
            &[b"\0\x01", &string[..], b"\0"].concat(),
            Some(MalformedPacket),
        );
        check(
            V311,
            0xA2,
            &[b"\0\x01", &string[..]].concat(),
            Some(MalformedPacket),
        );
        for id in [0x03, 0x08] {
            let body = with_block(b"\0\x01t", &[&[id], &string[..]].concat(), b"");
            check(V5, 0x30, &body, Some(MalformedPacket));
        }
        for pair in [
            [&string[..], b"\0\0"].concat(),
            [b"\0\0", &string[..]].concat(),
        ] {
            let body = with_block(b"\0\x01t", &[b"\x26", &pair[..]].concat(), b"");
            check(V5, 0x30, &body, Some(MalformedPacket));
        }
        // Binary data is no string.
        accepted(
            V5,
            0x30,
            &[&with_block(
                b"\0\x01t",
                &[b"\x09", &string[..]].concat(),
                bad,
            )],
        );
    }
}

#[test]
fn a_topic_name_has_no_wildcard_and_is_not_empty() {
    // [MQTT-3.3.2-2], [MQTT-4.7.3-1]
    for topic in [
        "#",
        "+",
        "a/#",
        "a/+/b",
        "long/enough/for/words/+",
        "+long/enough/for/words",
    ] {
        let string = [&[0, topic.len() as u8], topic.as_bytes()].concat();
        refused(V311, 0x30, TopicNameInvalid, &[&string]);
        refused(
            V5,
            0x30,
            TopicNameInvalid,
            &[&[&string[..], b"\0"].concat()],
        );
        let will = [WILL, b"\0", &string[..], b"\0\0"].concat();
        refused(V5, 0x10, TopicNameInvalid, &[&will]);
        // [MQTT-3.3.2-14]
        let body = with_block(b"\0\x01t", &[b"\x08", &string[..]].concat(), b"");
        refused(V5, 0x30, ProtocolError, &[&body]);
    }
    refused(V311, 0x30, ProtocolError, &[b"\0\0"]);
    refused(V5, 0x30, ProtocolError, &[b"\0\0\0", b"\0\0\x02\x01\x01"]);
    refused(
        V5,
        0x10,
        TopicNameInvalid,
        &[&[WILL, b"\0\0\0\0\0"].concat()],
    );
    refused(V5, 0x30, ProtocolError, &[b"\0\x01t\x03\x08\0\0"]);
    // Wildcards do not hide that a string is ill-formed.
    refused(
        V5,
        0x30,
        MalformedPacket,
        &[b"\0\x02+\xFF\0", b"\0\x02#\x01\0"],
    );
    accepted(
        V5,
        0x30,
        &[
            b"\0\0\x03\x23\0\x01",
            b"\0\0\x03\x23\0\0",
            b"\0\x01/\0",
            b"\0\x02\xC3\xBC\0",
        ],
    );
    accepted(V311, 0x30, &[b"\0\x02$S", b"\0\x01 "]);
}

#[test]
fn publish_has_a_sound_first_byte() {
    for version in [V31, V311, V5] {
        // [MQTT-3.3.1-4]
        refused(version, 0x36, MalformedPacket, &[b"\0\x01t\0\x01\0"]);
        refused(version, 0x3F, MalformedPacket, &[b"\0\x01t\0\x01\0"]);
    }
    // [MQTT-3.3.1-2]
    refused(V311, 0x38, ProtocolError, &[b"\0\x01t"]);
    refused(V5, 0x39, ProtocolError, &[b"\0\x01t\0"]);
    let Ok(Packet::Publish(publish)) = decode(V31, 0x38, b"\0\x01t") else {
        panic!("3.1 does not forbid it");
    };
    assert!(!publish.dup);
    accepted(V5, 0x3A, &[b"\0\x01t\0\x01\0"]);
}

#[test]
fn a_packet_identifier_is_not_0() {
    // [MQTT-2.2.1-3]
    refused(V311, 0x32, ProtocolError, &[b"\0\x01t\0\0"]);
    refused(V5, 0x34, ProtocolError, &[b"\0\x01t\0\0\0"]);
    for first in [0x40, 0x50, 0x62, 0x70, 0x82, 0x90, 0xA2, 0xB0] {
        refused(V311, first, ProtocolError, &[b"\0\0\0\x01a\0"]);
        refused(V5, first, ProtocolError, &[b"\0\0\0\0\x01a\0"]);
    }
}

#[test]
fn subscribe_and_unsubscribe_have_filters() {
    // [MQTT-3.8.3-2], [MQTT-3.10.3-2]
    for first in [0x82, 0xA2] {
        refused(V31, first, ProtocolError, &[b"\0\x01"]);
        refused(V311, first, ProtocolError, &[b"\0\x01"]);
        refused(V5, first, ProtocolError, &[b"\0\x01\0"]);
        refused(V5, first, MalformedPacket, &[b"\0\x01"]);
    }
    refused(
        V311,
        0x82,
        MalformedPacket,
        &[b"\0\x01\0\x01a", b"\0\x01\0\x01a\0\0"],
    );
    refused(
        V311,
        0xA2,
        MalformedPacket,
        &[b"\0\x01\0\x01a\0", b"\0\x01\0\x02a"],
    );
    // A bad filter is refused in SUBACK, not here.
    accepted(V311, 0x82, &[b"\0\x01\0\0\0", b"\0\x01\0\x02#a\0"]);
    accepted(V311, 0xA2, &[b"\0\x01\0\0", b"\0\x01\0\x02#a"]);
}

#[test]
fn subscription_options_are_judged_bit_by_bit() {
    for bits in 0..=255u8 {
        let body = |block: &[u8]| [b"\0\x01", block, b"\0\x01a", &[bits]].concat();
        let v5 = match bits {
            0x40.. => Some(MalformedPacket), // [MQTT-3.8.3-5]
            _ if bits & 3 == 3 || bits >> 4 == 3 => Some(ProtocolError),
            _ => None,
        };
        check(V5, 0x82, &body(b"\0"), v5);
        let v311 = match bits {
            0x04.. => Some(MalformedPacket), // [MQTT-3.8.3-4] of 3.1.1
            3 => Some(ProtocolError),
            _ => None,
        };
        check(V311, 0x82, &body(b""), v311);
        check(
            V31,
            0x82,
            &body(b""),
            (bits & 3 == 3).then_some(ProtocolError),
        );
    }
}

/// Every property once, with a value that is allowed.
const PROPERTIES: [&[u8]; 27] = [
    b"\x01\x01",
    b"\x02\0\0\0\0",
    b"\x03\0\x01c",
    b"\x08\0\x01r",
    b"\x09\0\x01\xFF",
    b"\x0B\x01",
    b"\x11\0\0\0\x01",
    b"\x12\0\x01i",
    b"\x13\0\0",
    b"\x15\0\x01m",
    b"\x16\0\x01\xFF",
    b"\x17\x01",
    b"\x18\0\0\0\x01",
    b"\x19\0",
    b"\x1A\0\0",
    b"\x1C\0\0",
    b"\x1F\0\0",
    b"\x21\0\x01",
    b"\x22\0\0",
    b"\x23\0\0",
    b"\x24\x01",
    b"\x25\0",
    b"\x26\0\0\0\0",
    b"\x27\0\0\0\x01",
    b"\x28\x01",
    b"\x29\x01",
    b"\x2A\0",
];

/// A packet's first byte, what stands before and after the part in question, and what that part
/// may be.
type Place = (u8, &'static [u8], &'static [u8], &'static [u8]);

/// Packets around a property block, and the properties it may have (table 2-4).
/// AUTH and the packets with authentication data always carry a method besides.
const PLACES: [Place; 15] = [
    (
        0x10,
        CONNECT,
        b"\0\x01c",
        b"\x11\x15\x16\x17\x19\x21\x22\x26\x27",
    ),
    (0x10, WILL, b"\0\x01w\0\0", b"\x01\x02\x03\x08\x09\x18\x26"),
    (
        0x20,
        b"\0\0",
        b"",
        b"\x11\x12\x13\x15\x16\x1A\x1C\x1F\x21\x22\x24\x25\x26\x27\x28\x29\x2A",
    ),
    (0x30, b"\0\x01t", b"p", b"\x01\x02\x03\x08\x09\x0B\x23\x26"),
    (
        0x32,
        b"\0\x01t\0\x01",
        b"p",
        b"\x01\x02\x03\x08\x09\x0B\x23\x26",
    ),
    (0x40, b"\0\x01\0", b"", b"\x1F\x26"),
    (0x50, b"\0\x01\0", b"", b"\x1F\x26"),
    (0x62, b"\0\x01\0", b"", b"\x1F\x26"),
    (0x70, b"\0\x01\0", b"", b"\x1F\x26"),
    (0x82, b"\0\x01", b"\0\x01f\0", b"\x0B\x26"),
    (0x90, b"\0\x01", b"\0", b"\x1F\x26"),
    (0xA2, b"\0\x01", b"\0\x01f", b"\x26"),
    (0xB0, b"\0\x01", b"\0", b"\x1F\x26"),
    (0xE0, b"\0", b"", b"\x11\x1C\x1F\x26"),
    (0xF0, b"\0", b"", b"\x15\x16\x1F\x26"),
];

/// What must stand beside `property` in this place.
fn companion(first: u8, property: &[u8]) -> &'static [u8] {
    let needed = property[0] == 0x16 || first == 0xF0;
    if needed && property[0] != 0x15 {
        b"\x15\0\x01m"
    } else {
        b""
    }
}

#[test]
fn a_property_stands_only_where_it_may_and_once() {
    for (first, before, after, allowed) in PLACES {
        for property in PROPERTIES {
            let beside = companion(first, property);
            let once = with_block(before, &[beside, property].concat(), after);
            let may = allowed.contains(&property[0]);
            check(V5, first, &once, (!may).then_some(MalformedPacket));
            if !may {
                continue;
            }
            let twice = with_block(before, &[beside, property, property].concat(), after);
            let repeats = property[0] == 0x26 || (property[0] == 0x0B && first >> 4 == 3);
            check(V5, first, &twice, (!repeats).then_some(ProtocolError));
            // A property cut short is malformed, however the block's length is stated.
            for count in 1..property.len() {
                let cut = with_block(before, &[beside, &property[..count]].concat(), after);
                check(V5, first, &cut, Some(MalformedPacket));
            }
        }
        for unknown in (0..=255u8).filter(|id| PROPERTIES.iter().all(|known| known[0] != *id)) {
            let body = with_block(before, &[unknown, 0, 0, 0, 0, 0], after);
            check(V5, first, &body, Some(MalformedPacket));
        }
    }
}

#[test]
fn values_of_properties_are_in_range() {
    for (first, before, after, allowed) in PLACES {
        for bad in [
            &b"\x01\x02"[..],
            b"\x0B\0",
            b"\x17\x02",
            b"\x19\x02",
            b"\x21\0\0",
            b"\x24\x02",
            b"\x25\x02",
            b"\x27\0\0\0\0",
            b"\x28\x02",
            b"\x29\xFF",
            b"\x2A\x02",
        ] {
            if allowed.contains(&bad[0]) {
                check(
                    V5,
                    first,
                    &with_block(before, bad, after),
                    Some(ProtocolError),
                );
            }
        }
        if allowed.contains(&0x0B) {
            for overlong in [&b"\x0B\x81\0"[..], b"\x0B\x80\x80\x80\x80\x01"] {
                let body = with_block(before, overlong, after);
                check(V5, first, &body, Some(MalformedPacket));
            }
        }
    }
}

#[test]
fn authentication_data_needs_a_method() {
    let data = b"\x16\0\x01d";
    refused(
        V5,
        0x10,
        ProtocolError,
        &[&with_block(CONNECT, data, b"\0\x01c")],
    );
    refused(V5, 0x20, ProtocolError, &[&with_block(b"\0\0", data, b"")]);
    refused(
        V5,
        0xF0,
        ProtocolError,
        &[&with_block(b"\x18", data, b""), b"\x18", b"\0\0", b"\0"],
    );
    accepted(
        V5,
        0xF0,
        &[b"", b"\x18\x04\x15\0\x01m", b"\0\x04\x15\0\x01m"],
    );
    for version in [V31, V311] {
        refused(
            version,
            0xF0,
            MalformedPacket,
            &[b"", b"\x18\x04\x15\0\x01m"],
        );
    }
}

#[test]
fn reason_codes_belong_to_their_packet() {
    // 2.4, and the table of each packet.
    let places: [Place; 9] = [
        (0x20, b"\0", b"\0", b"\0\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8A\x8C\x90\x95\x97\x99\x9A\x9B\x9C\x9D\x9F"),
        (0x40, b"\0\x01", b"", b"\0\x10\x80\x83\x87\x90\x91\x97\x99"),
        (0x50, b"\0\x01", b"", b"\0\x10\x80\x83\x87\x90\x91\x97\x99"),
        (0x62, b"\0\x01", b"", b"\0\x92"),
        (0x70, b"\0\x01", b"", b"\0\x92"),
        (0x90, b"\0\x01\0", b"\0", b"\0\x01\x02\x80\x83\x87\x8F\x91\x97\x9E\xA1\xA2"),
        (0xB0, b"\0\x01\0", b"\0", b"\0\x11\x80\x83\x87\x8F\x91"),
        (0xE0, b"", b"\0", b"\0\x04\x80\x81\x82\x83\x87\x89\x8B\x8C\x8D\x8E\x8F\x90\x93\x94\x95\x96\x97\x98\x99\x9A\x9B\x9C\x9D\x9E\x9F\xA0\xA1\xA2"),
        (0xF0, b"", b"\x04\x15\0\x01m", b"\0\x18\x19"),
    ];
    for (first, before, after, allowed) in places {
        for code in 0..=255u8 {
            let body = [before, &[code], after].concat();
            let expected = (!allowed.contains(&code)).then_some(ProtocolError);
            check(V5, first, &body, expected);
        }
    }
    for code in 0..=255u8 {
        let connack = (code > 5).then_some(ProtocolError);
        check(V311, 0x20, &[0, code], connack);
        let suback = (code > 2 && code != 0x80).then_some(ProtocolError);
        check(V311, 0x90, &[0, 1, code], suback);
    }
    refused(V311, 0x90, ProtocolError, &[b"\0\x01"]);
    refused(V5, 0x90, ProtocolError, &[b"\0\x01\0"]);
    refused(V5, 0xB0, ProtocolError, &[b"\0\x01\0"]);
}

#[test]
fn connack_flags_are_sound() {
    // [MQTT-3.2.2-1], [MQTT-3.2.2-6]
    refused(V311, 0x20, MalformedPacket, &[b"\x02\0", b"\x80\0"]);
    refused(V311, 0x20, ProtocolError, &[b"\x01\x05"]);
    refused(V5, 0x20, ProtocolError, &[b"\x01\x80\0"]);
    accepted(V311, 0x20, &[b"\x01\0", b"\0\x05"]);
    // 3.1 does not use the byte.
    accepted(V31, 0x20, &[b"\xFF\0", b"\x01\x05"]);
}
