//! Decoders take any bytes: they give a record or an error, and never panic.

use crate::header::FileHeader;
use crate::records::{
    decode_group_queued, decode_queued, decode_retained, decode_session, decode_subscription,
    encode_queued, encode_session,
};
use crate::tables::{
    read_group_key, read_queued_key, read_received_key, read_seen_key, read_subscription_key,
};
use mqtt_v5_codec::{PacketId, QoS};
use proptest::prelude::*;
use shard::{
    Delivery, GroupKey, MessageView, SessionKey, Step, StoredQueued, StoredSession, StoredWill,
    SubscriptionIds, Time,
};
use std::sync::Arc;

const KEY: SessionKey = SessionKey(1);

fn decode_everything(bytes: &[u8]) {
    let _ = decode_session(KEY, bytes);
    let _ = decode_queued(KEY, 1, bytes, &mut None);
    let _ = decode_group_queued(bytes);
    let _ = decode_retained(b"topic", bytes);
    let _ = decode_retained(bytes, &[1, 0, 0]);
    let _ = read_group_key(bytes);
    let _ = read_subscription_key(bytes);
    let _ = FileHeader::decode(bytes);
    if let Some(key) = bytes.first_chunk() {
        let _ = decode_subscription(key);
    }
    if let Some(key) = bytes.first_chunk() {
        let _ = read_received_key(key);
    }
    if let Some(key) = bytes.first_chunk() {
        let _ = read_seen_key(key);
    }
    if let Some(key) = bytes.first_chunk() {
        let _ = read_queued_key(key);
    }
}

/// Records with every optional part.
fn full_records() -> [Vec<u8>; 2] {
    let message = MessageView {
        topic: "a/b",
        forwarded: &[1, 1],
        payload: b"payload",
        qos: QoS::ExactlyOnce,
        retain: true,
        expires: Some(Time(u64::MAX)),
        publisher: None,
    }
    .to_message();
    let session = StoredSession {
        session: KEY,
        device: Some(shard::DeviceId([7; 16])),
        client_id: "client".into(),
        expiry_s: u32::MAX,
        left: Some(Time(3)),
        will: Some(StoredWill {
            message: Arc::clone(&message),
            delay_s: 4,
            expiry_s: Some(5),
        }),
    };
    let queued = StoredQueued {
        session: KEY,
        position: 1,
        message: Some(message),
        delivery: Delivery {
            qos: QoS::AtLeastOnce,
            retain: true,
            subscription_ids: SubscriptionIds::Many([1, 268_435_455].into()),
            group: Some(Arc::new(GroupKey {
                name: "group".into(),
                filter: "a/+".into(),
            })),
        },
        sent: PacketId::new(9).map(|id| (id, Step::Released)),
    };
    let mut bytes = [Vec::new(), Vec::new()];
    encode_session(&session, &mut bytes[0]);
    encode_queued(&queued, &mut bytes[1]);
    assert_eq!(
        format!("{:?}", decode_session(KEY, &bytes[0]).unwrap()),
        format!("{session:?}")
    );
    let decoded = decode_queued(KEY, 1, &bytes[1], &mut None).unwrap();
    assert_eq!(format!("{decoded:?}"), format!("{queued:?}"));
    bytes
}

#[test]
fn cut_and_altered_records_do_not_panic() {
    for record in full_records() {
        let payload_at = record.len() - b"payload".len();
        for end in 0..record.len() {
            decode_everything(&record[..end]);
            let is_whole = |bytes: &[u8]| {
                decode_session(KEY, bytes).is_ok()
                    || decode_queued(KEY, 1, bytes, &mut None).is_ok()
            };
            assert!(
                end >= payload_at || !is_whole(&record[..end]),
                "cut at {end}"
            );
            for byte in 0..=255 {
                let mut altered = record.clone();
                altered[end] = byte;
                decode_everything(&altered);
            }
        }
    }
}

#[test]
fn what_cannot_be_is_refused() {
    assert!(decode_session(KEY, &[2]).is_err(), "an unknown encoding");
    assert!(
        decode_session(KEY, &[1, 0, 0, 0, 0, 0, 0]).is_err(),
        "no expiry"
    );
    assert!(
        decode_session(KEY, &[1, 4, 0, 0, 0, 1, 0]).is_err(),
        "expiry of no will"
    );
    assert!(
        decode_session(KEY, &[1, 0, 0, 0, 0, 1, 0, 0]).is_err(),
        "something behind it"
    );
    assert!(
        decode_queued(KEY, 1, &[1, 3, 0], &mut None).is_err(),
        "quality of service 3"
    );
    assert!(
        decode_queued(KEY, 1, &[1, 0x10, 0, 0, 0], &mut None).is_err(),
        "identifier 0"
    );
    assert!(
        decode_retained(b"a/#", &[1, 0, 0]).is_err(),
        "a filter for a topic"
    );
    assert!(decode_retained(b"", &[1, 0, 0]).is_err(), "no topic");
    assert!(decode_retained(b"\xFF", &[1, 0, 0]).is_err(), "not UTF-8");
    assert!(
        read_group_key(b"name\xFFfilter12345678").is_err(),
        "a key without its end"
    );
    assert!(read_seen_key(&[0; 18]).is_err(), "session key 0");
}

proptest! {
    #[test]
    fn any_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        decode_everything(&bytes);
    }

    /// Bytes that get past the first checks more often.
    #[test]
    fn likely_bytes_do_not_panic(
        bytes in prop::collection::vec(prop_oneof![0..8_u8, Just(0xFF), any::<u8>()], 0..80),
    ) {
        let with_version = [&[1], bytes.as_slice()].concat();
        decode_everything(&with_version);
    }
}
