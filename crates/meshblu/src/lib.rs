//! What Meshblu and FreshBlu mean by a device, a whitelist, a subscription, a message and a token,
//! and what a query or an update asks for: JSON in, values or JSON out. No sockets, no clock, no
//! chance: time and random bits are arguments.
//!
//! A [`Device`] is a document; [`Device::register`] and [`Device::update`] make one,
//! [`Query::matches`] searches it, [`Device::allows`] says who may do what with it. An [`Outgoing`]
//! is a message with its addressees. Whatever is wrong with a request is a [`Refusal`].
//!
//! Bounded: the depth of JSON ([`json::DEPTH_MAX`]), the size of a document
//! ([`DOCUMENT_BYTES_MAX`]) and of its whitelists ([`WHITELIST_ENTRIES_MAX`]), the size and depth of
//! queries, the number of a message's addressees ([`DEVICES_MAX`]).
#![forbid(unsafe_code)]

mod access;
mod arithmetic;
mod device;
mod document;
mod forwarder;
pub mod json;
mod message;
mod operators;
mod path;
mod properties;
mod query;
mod query_parse;
mod record;
mod refusal;
mod subscription;
mod time;
mod token;
mod uuid;
mod whitelists;

pub use access::Access;
pub use device::{DOCUMENT_BYTES_MAX, DefaultWhitelists, Device, Registration};
pub use forwarder::{FORWARDERS_MAX, Forwarder, Webhook};
pub use message::{DEVICES_MAX, Outgoing};
pub use query::{
    QUERY_BYTES_MAX, QUERY_DEPTH_MAX, Query, REGEX_MEMORY_MAX, REGEX_TEXT_MAX, REGEXES_MAX,
    STEPS_MAX, TESTS_MAX,
};
pub use refusal::Refusal;
pub use subscription::Kind;
pub use time::Timestamp;
pub use token::{
    StoredSecret, TAG_BYTES_MAX, Token, TokenHash, TokenOptions, generate, keyed_hash,
};
pub use uuid::Uuid;
pub use whitelists::{WHITELIST_ENTRIES_MAX, Whitelists};
