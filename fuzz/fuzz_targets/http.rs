//! What an HTTP listener reads: request heads with targets and credentials, bodies in chunks, and
//! WebSocket frames, the latter two in pieces of random length.
//!
//! The first byte seeds the cuts, the rest is the stream. Cuts must make no difference.
#![no_main]

use http::{
    Body, BodyError, BodyReader, Credentials, Decoder, HEAD_BYTES_MAX, Upgrade, WsError, WsEvent,
    credentials, pairs, parse_head, segments, upgrade, write_encoded,
};
use libfuzzer_sys::fuzz_target;

/// Small enough to be exceeded.
const MESSAGE_BYTES_MAX: usize = 300;
/// Bytes of a request's body; small enough to be exceeded, too.
const BODY_BYTES_MAX: usize = 100;

fuzz_target!(|data: &[u8]| {
    let [seed, stream @ ..] = data else {
        return;
    };
    check_head(stream);
    let mut state = u32::from(*seed);
    let whole = read_in_pieces(stream, || stream.len());
    let cut = read_in_pieces(stream, || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        1 + (state >> 24) as usize % 17
    });
    assert_eq!(whole, cut);
    assert_eq!(whole, read_in_pieces(stream, || 1));
    let body = read_body(stream, stream.len().max(1));
    assert_eq!(body, read_body(stream, 1));
    assert_eq!(body, read_body(stream, 1 + usize::from(*seed)));
});

/// The body in chunks at the start of the stream, and what is left behind it.
fn read_body(stream: &[u8], piece: usize) -> Result<Option<(Vec<u8>, usize)>, BodyError> {
    let mut reader = BodyReader::new(Body::Chunked, BODY_BYTES_MAX)?;
    let mut read = 0;
    for mut input in stream.chunks(piece) {
        let given = input.len();
        let is_complete = reader.read(&mut input)?;
        read += given - input.len();
        assert!(reader.len() <= BODY_BYTES_MAX);
        if is_complete {
            return Ok(Some((reader.into_bytes(), stream.len() - read)));
        }
        assert!(
            input.is_empty(),
            "input is left of a body that is not whole"
        );
    }
    Ok(None)
}

/// A head that is accepted stays the same when more follows, and is incomplete when cut.
fn check_head(bytes: &[u8]) {
    let head = match parse_head(bytes) {
        Ok(Some(head)) => head,
        Ok(None) => return assert!(bytes.len() < HEAD_BYTES_MAX),
        Err(error) => return assert!((400..600).contains(&error.status())),
    };
    assert!(head.bytes <= bytes.len() && head.bytes <= HEAD_BYTES_MAX);
    assert!(head.path().len() + head.query().len() <= head.target.len() + 1);
    assert!(matches!(parse_head(&bytes[..head.bytes - 1]), Ok(None)));
    let longer = [&bytes[..head.bytes], b"GET"].concat();
    assert_eq!(
        parse_head(&longer).ok().flatten().map(|again| again.bytes),
        Some(head.bytes)
    );
    let _ = pairs(head.query());
    if let Ok(all) = segments(head.path()) {
        let mut path = String::new();
        for segment in &all {
            path.push('/');
            write_encoded(&mut path, segment);
        }
        assert_eq!(segments(&path).as_ref(), Ok(&all));
    }
    if let Credentials::Pair { uuid, token } = credentials(&head) {
        assert!(!uuid.is_empty() && !token.is_empty());
    }
    if let Upgrade::Accept { key, protocol } = upgrade(&head, &["mqtt"]) {
        assert_eq!(key.len(), 24);
        assert!(protocol.is_none_or(|protocol| protocol == "mqtt"));
    }
}

/// What becomes of the stream: events, with neighbouring pieces of a message joined, and the data.
fn read_in_pieces(
    mut stream: &[u8],
    mut length: impl FnMut() -> usize,
) -> (Vec<WsEvent>, Vec<u8>, Option<WsError>) {
    let mut decoder = Decoder::new(MESSAGE_BYTES_MAX);
    let (mut events, mut data) = (Vec::new(), Vec::new());
    while !stream.is_empty() {
        let (mut piece, rest) = stream.split_at(length().clamp(1, stream.len()));
        stream = rest;
        loop {
            match decoder.decode(&mut piece, &mut data) {
                Ok(Some(WsEvent::Data {
                    is_final: false, ..
                })) => {}
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => return (events, data, Some(error)),
            }
        }
        assert!(piece.is_empty(), "input is left without an event");
    }
    (events, data, None)
}
