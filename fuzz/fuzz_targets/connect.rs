//! The body of a CONNECT: the first thing a stranger may send.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mqtt_v5_codec::{
    FixedHeader, Packet, ReasonCode, Version, connect_version, decode, topic_is_valid,
};

fuzz_target!(|body: &[u8]| {
    let answer = connect_version(body);
    let connect = match decode(Version::V5, 0x10, body) {
        Ok(Packet::Connect(connect)) => connect,
        Ok(other) => panic!("not a CONNECT: {other:?}"),
        Err(error) => {
            assert!(error.reason.is_error() && !error.detail.is_empty());
            // Whoever spoke of a version that we lack can be told so, unless it is not MQTT.
            if error.reason == ReasonCode::UnsupportedProtocolVersion {
                assert_ne!(answer, Some(Version::V31));
            }
            return;
        }
    };
    assert_eq!(answer, Some(connect.version));
    if connect.version < Version::V5 {
        assert!(connect.password.is_none() || connect.user_name.is_some());
        assert_eq!(connect.properties, Default::default());
    }
    if let Some(will) = &connect.will {
        assert!(topic_is_valid(will.topic));
        assert_eq!(will.properties.topic_alias, None);
        assert_eq!(will.properties.subscription_ids().count(), 0);
    }
    let packet = Packet::Connect(connect);
    let mut bytes = Vec::new();
    packet.encode(Version::V5, &mut bytes);
    let header = FixedHeader::parse(&bytes)
        .expect("is sound")
        .expect("is whole");
    let again = decode(Version::V5, header.first, &bytes[header.header_bytes..]);
    assert_eq!(again.as_ref(), Ok(&packet));
});
