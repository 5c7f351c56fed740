//! Shards, clients and time for conformance tests, so that a test reads as a script:
//!
//! ```ignore
//! let w = World::new(2);
//! let a = w.client(V5, "a");
//! a.connect_with(|c| c.clean_start(false).session_expiry(60));
//! a.subscribe("t/#", 1);
//! w.connected(V5, "b").publish("t/1", "x", 1);
//! assert_eq!(a.receive().text(), "x");
//! a.send_raw(&[0x00, 0x00]);
//! a.expect_disconnect(ReasonCode::MalformedPacket);
//! ```
//!
//! [`World`] plays the driver of every shard, in one thread and in virtual time, by the contract
//! of `shard::{Event, Effect}`: after each call everything that follows from it has happened.
//! [`Client`] speaks for one client; [`bytes`] writes its packets without our codec, so that a
//! mistake of the codec cannot hide itself; [`packets`] holds what the client was sent.
//! `Shard::check` runs after every event.
#![allow(dead_code, unused_imports)] // Each test binary uses a part.

pub mod bytes;
mod client;
pub mod computes;
mod core;
pub mod packets;
pub mod store;
mod world;

pub use bytes::{ConnectPacket, PublishPacket, WillPacket, packet, prop, string};
pub use client::Client;
pub use mqtt_v5_codec::{AckKind, PacketId, QoS, ReasonCode, Version};
pub use packets::{AckGot, ConnackGot, DisconnectGot, Got, Message, SubackGot};
pub use world::World;

/// MQTT 5.0.
pub const V5: Version = Version::V5;
/// MQTT 3.1.1.
pub const V311: Version = Version::V311;
/// MQTT 3.1.
pub const V31: Version = Version::V31;
