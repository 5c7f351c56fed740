//! The codec: what one packet costs to read and to write.
#![allow(missing_docs)]

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mqtt_v5_codec::*;
use std::hint::black_box;

/// 20 bytes, as long as a short path of a device.
const TOPIC: &str = "site/7/meter/42/volt";

/// A PUBLISH as a name and its parts.
struct Sample {
    name: &'static str,
    version: Version,
    qos: QoS,
    payload_bytes: usize,
    forwarded: Vec<u8>,
    message_expiry_s: Option<u32>,
}

fn samples() -> Vec<Sample> {
    let mut properties = PublishProperties::default();
    properties.payload_format = Some(1);
    properties.content_type = Some("application/json");
    properties.response_topic = Some("site/7/answers");
    properties.correlation_data = Some(b"\x01\x02\x03\x04");
    properties.user_properties = UserProperties::Pairs(&[("unit", "V"), ("source", "probe")]);
    let mut forwarded = Vec::new();
    properties.encode_forwarded(&mut forwarded);
    let plain = |name, version, qos, payload_bytes| Sample {
        name,
        version,
        qos,
        payload_bytes,
        forwarded: Vec::new(),
        message_expiry_s: None,
    };
    vec![
        plain("v311_qos0_64", Version::V311, QoS::AtMostOnce, 64),
        plain("v5_qos0_64", Version::V5, QoS::AtMostOnce, 64),
        plain("v5_qos1_64", Version::V5, QoS::AtLeastOnce, 64),
        plain("v5_qos0_1024", Version::V5, QoS::AtMostOnce, 1024),
        plain("v5_qos1_1024", Version::V5, QoS::AtLeastOnce, 1024),
        Sample {
            forwarded: forwarded.clone(),
            message_expiry_s: Some(60),
            ..plain("v5_qos0_64_properties", Version::V5, QoS::AtMostOnce, 64)
        },
        Sample {
            forwarded,
            message_expiry_s: Some(60),
            ..plain(
                "v5_qos1_1024_properties",
                Version::V5,
                QoS::AtLeastOnce,
                1024,
            )
        },
    ]
}

fn outgoing<'a>(sample: &'a Sample, payload: &'a [u8]) -> Outgoing<'a> {
    Outgoing {
        version: sample.version,
        dup: false,
        qos: sample.qos,
        retain: false,
        topic: TOPIC,
        packet_id: PacketId::new(17).filter(|_| sample.qos != QoS::AtMostOnce),
        topic_alias: None,
        message_expiry_s: sample.message_expiry_s,
        subscription_ids: &[],
        forwarded: &sample.forwarded,
        payload,
    }
}

/// Header and body, as a connection reads them from its buffer.
fn read(version: Version, bytes: &[u8]) -> Packet<'_> {
    let header = FixedHeader::parse(bytes)
        .expect("is sound")
        .expect("is whole");
    decode(
        version,
        header.first,
        &bytes[header.header_bytes..header.packet_bytes()],
    )
    .expect("is valid")
}

fn publish(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode_publish");
    for sample in samples() {
        let mut bytes = Vec::new();
        let payload = vec![b'x'; sample.payload_bytes];
        encode_publish(&mut bytes, &outgoing(&sample, &payload));
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(sample.name), |b| {
            b.iter(|| {
                let packet = read(sample.version, black_box(&bytes));
                let Packet::Publish(publish) = &packet else {
                    unreachable!("is a PUBLISH")
                };
                black_box((
                    publish.topic.len(),
                    publish.payload.len(),
                    publish.packet_id,
                ))
            });
        });
    }
    group.finish();
    let mut group = c.benchmark_group("encode_publish");
    for sample in samples() {
        let payload = vec![b'x'; sample.payload_bytes];
        let outgoing = outgoing(&sample, &payload);
        let mut out = Vec::with_capacity(4096);
        let layout = encode_publish(&mut out, &outgoing);
        group.throughput(Throughput::Bytes(layout.bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(sample.name), |b| {
            b.iter(|| {
                out.clear();
                black_box(encode_publish(&mut out, black_box(&outgoing)))
            });
        });
    }
    group.finish();
}

fn acknowledgement(c: &mut Criterion) {
    let id = PacketId::new(17).expect("is not 0");
    let mut out = Vec::with_capacity(64);
    c.bench_function("encode_puback", |b| {
        b.iter(|| {
            out.clear();
            encode_ack(
                &mut out,
                Version::V5,
                AckKind::Puback,
                black_box(id),
                ReasonCode::Success,
            );
        });
    });
    let bytes = out.clone();
    c.bench_function("decode_puback", |b| {
        b.iter(|| {
            let packet = read(Version::V5, black_box(&bytes));
            let Packet::Ack(ack) = &packet else {
                unreachable!("is a PUBACK")
            };
            black_box((ack.packet_id, ack.reason))
        });
    });
}

fn connect(c: &mut Criterion) {
    let connect = Packet::Connect(Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive_s: 60,
        client_id: "meter-42-of-site-7",
        will: None,
        user_name: Some("meter-42"),
        password: Some(b"correct horse battery staple"),
        properties: ConnectProperties {
            session_expiry_s: Some(3600),
            receive_maximum: std::num::NonZeroU16::new(100),
            ..ConnectProperties::default()
        },
    });
    let mut bytes = Vec::new();
    connect.encode(Version::V5, &mut bytes);
    c.bench_function("decode_connect", |b| {
        b.iter(|| {
            let packet = read(Version::V5, black_box(&bytes));
            let Packet::Connect(connect) = &packet else {
                unreachable!("is a CONNECT")
            };
            black_box((connect.client_id.len(), connect.keep_alive_s))
        });
    });
    c.bench_function("encode_connect", |b| {
        b.iter_batched_ref(
            || Vec::with_capacity(256),
            |out| connect.encode(Version::V5, out),
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, publish, acknowledgement, connect);
criterion_main!(benches);
