//! Whatever arrives, however it is cut.

use http::{Decoder, Opcode, WsError, WsEvent, parse_head, upgrade, write_client_frame};
use proptest::prelude::*;

/// A frame to send.
#[derive(Clone, Debug)]
enum Sent {
    /// A message in fragments; possibly with a ping after the first.
    Message {
        is_text: bool,
        fragments: Vec<Vec<u8>>,
        ping: Option<Vec<u8>>,
    },
    Ping(Vec<u8>),
    Pong,
}

/// What a receiver of whole messages sees.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Message { is_text: bool, payload: Vec<u8> },
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..max)
}

fn sent() -> impl Strategy<Value = Sent> {
    let message = (
        any::<bool>(),
        prop::collection::vec(bytes(300), 1..4),
        prop::option::of(bytes(9)),
    )
        .prop_map(|(is_text, fragments, ping)| Sent::Message {
            is_text,
            fragments,
            ping,
        });
    prop_oneof![4 => message, 1 => bytes(126).prop_map(Sent::Ping), 1 => Just(Sent::Pong)]
}

fn write(all: &[Sent], mask: [u8; 4]) -> (Vec<u8>, Vec<Seen>) {
    let (mut out, mut seen) = (Vec::new(), Vec::new());
    for sent in all {
        match sent {
            Sent::Message {
                is_text,
                fragments,
                ping,
            } => {
                for (at, fragment) in fragments.iter().enumerate() {
                    let opcode = match (at, is_text) {
                        (0, true) => Opcode::Text,
                        (0, false) => Opcode::Binary,
                        _ => Opcode::Continuation,
                    };
                    let start = out.len();
                    write_client_frame(&mut out, opcode, fragment, mask);
                    if at + 1 < fragments.len() {
                        out[start] &= 0x7f;
                    }
                    if let (0, Some(ping)) = (at, ping) {
                        write_client_frame(&mut out, Opcode::Ping, ping, mask);
                    }
                }
                let message = Seen::Message {
                    is_text: *is_text,
                    payload: fragments.concat(),
                };
                let ping = ping.clone().map(Seen::Ping);
                // A ping within the message is seen before the message is whole.
                if fragments.len() > 1 {
                    seen.extend(ping);
                    seen.push(message);
                } else {
                    seen.push(message);
                    seen.extend(ping);
                }
            }
            Sent::Ping(payload) => {
                write_client_frame(&mut out, Opcode::Ping, payload, mask);
                seen.push(Seen::Ping(payload.clone()));
            }
            Sent::Pong => {
                write_client_frame(&mut out, Opcode::Pong, b"", mask);
                seen.push(Seen::Pong);
            }
        }
    }
    write_client_frame(&mut out, Opcode::Close, &1000_u16.to_be_bytes(), mask);
    seen.push(Seen::Close(Some(1000)));
    (out, seen)
}

/// Decodes pieces as they come.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Seen>, WsError> {
    let mut decoder = Decoder::new(10_000);
    let (mut data, mut seen) = (Vec::new(), Vec::new());
    for mut piece in pieces {
        while let Some(event) = decoder.decode(&mut piece, &mut data)? {
            match event {
                WsEvent::Data {
                    is_text,
                    is_final: true,
                } => {
                    seen.push(Seen::Message {
                        is_text,
                        payload: std::mem::take(&mut data),
                    });
                }
                WsEvent::Data {
                    is_final: false, ..
                } => {}
                WsEvent::Ping(payload) => seen.push(Seen::Ping(payload)),
                WsEvent::Pong => seen.push(Seen::Pong),
                WsEvent::Close(code) => seen.push(Seen::Close(code)),
            }
        }
        assert!(piece.is_empty(), "None, but input is left");
    }
    Ok(seen)
}

/// Cuts `bytes` into pieces of these lengths, over and over.
fn cut<'a>(bytes: &'a [u8], lengths: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = bytes;
    lengths.iter().cycle().map_while(move |&length| {
        let (piece, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

proptest! {
    #[test]
    fn any_cut_decodes_the_same(
        all in prop::collection::vec(sent(), 0..6),
        mask: [u8; 4],
        lengths in prop::collection::vec(1_usize..40, 1..6),
    ) {
        let (frames, expected) = write(&all, mask);
        prop_assert_eq!(&read(std::iter::once(&frames[..])), &Ok(expected.clone()));
        prop_assert_eq!(&read(cut(&frames, &[1])), &Ok(expected.clone()));
        prop_assert_eq!(&read(cut(&frames, &lengths)), &Ok(expected));
    }

    #[test]
    fn a_changed_byte_never_panics_and_any_cut_agrees_on_it(
        all in prop::collection::vec(sent(), 0..4),
        mask: [u8; 4],
        at: prop::sample::Index,
        byte: u8,
    ) {
        let (mut frames, _) = write(&all, mask);
        let at = at.index(frames.len());
        frames[at] = byte;
        prop_assert_eq!(read(std::iter::once(&frames[..])), read(cut(&frames, &[1])));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in bytes(200), lengths in prop::collection::vec(1_usize..40, 1..6)) {
        let _ = read(cut(&bytes, &lengths));
        if let Ok(Some(head)) = parse_head(&bytes) {
            let _ = upgrade(&head, &["mqtt"]);
        }
    }

    #[test]
    fn heads_of_arbitrary_lines_never_panic(
        target in "/[ -~]{0,20}",
        lines in prop::collection::vec("[A-Za-z-]{1,20}:[ -~\\t\u{80}-\u{2ff}]{0,40}(\r\n|\n|\r)", 0..8),
    ) {
        let text = format!("GET {target} HTTP/1.1\r\nHost: h\r\n{}\r\n", lines.concat());
        if let Ok(Some(head)) = parse_head(text.as_bytes()) {
            prop_assert!(head.bytes <= text.len());
            prop_assert!(head.path().len() + head.query().len() <= head.target.len() + 1);
            let _ = upgrade(&head, &["mqtt"]);
        }
    }
}
