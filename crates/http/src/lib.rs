//! HTTP/1.1 request heads, plain responses, the WebSocket handshake, and WebSocket frames: bytes
//! in, values out. No sockets, no clock; nothing is allocated except by what is documented so.
//!
//! A caller gathers bytes until [`parse_head`] gives a [`Head`], asks [`upgrade`] whether the
//! client wants WebSocket, answers with [`write_switching_protocols`] or [`write_json_error`],
//! and from then on hands what arrives to a [`Decoder`].
#![forbid(unsafe_code)]

mod frame;
mod head;
mod response;
mod upgrade;
mod websocket;

pub use frame::{
    CONTROL_BYTES_MAX, Opcode, write_client_frame, write_close, write_frame_header, write_pong,
};
pub use head::{Body, HEAD_BYTES_MAX, HEADERS_MAX, Head, HeadError, parse_head};
pub use response::{reason_phrase, write_json_error};
pub use upgrade::{Upgrade, upgrade, write_switching_protocols};
pub use websocket::{Decoder, WsError, WsEvent};
