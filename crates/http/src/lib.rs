//! The server's side of HTTP/1.1 and WebSocket: bytes in, values out. No sockets, no clock.
//!
//! A caller gathers bytes until [`parse_head`] gives a [`Head`] and asks [`upgrade`] whether the
//! client wants WebSocket. If so it answers with [`write_switching_protocols`] and hands all that
//! follows to a [`Decoder`]. Otherwise a [`BodyReader`] takes the body in, [`segments`], [`pairs`]
//! and [`credentials`] say what is asked by whom, and a [`Response`] or a [`BodyStream`] answers.
#![forbid(unsafe_code)]

mod body;
mod credentials;
mod frame;
mod head;
mod response;
mod stream;
mod target;
mod upgrade;
mod websocket;

pub use body::{BodyError, BodyReader, CHUNK_EXTENSION_BYTES_MAX, TRAILER_BYTES_MAX};
pub use credentials::{Credentials, bearer, credentials};
pub use frame::{
    CONTROL_BYTES_MAX, Opcode, write_client_frame, write_close, write_frame_header, write_pong,
};
pub use head::{Body, HEAD_BYTES_MAX, HEADERS_MAX, Head, HeadError, parse_head};
pub use response::{
    Response, json_error, reason_phrase, write_continue, write_json_error, write_options,
};
pub use stream::{BodyStream, EVENT_STREAM, write_event};
pub use target::{PAIRS_MAX, Pair, SEGMENTS_MAX, TargetError, pairs, segments, write_encoded};
pub use upgrade::{Upgrade, upgrade, write_switching_protocols};
pub use websocket::{Decoder, WsError, WsEvent};
