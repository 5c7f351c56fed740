//! Whole requests, however they are cut, and however a liar frames them.

use http::{BodyReader, Credentials, Head, credentials, pairs, parse_head, segments};
use proptest::prelude::*;

/// Room for every body here but the large ones.
const BODY_BYTES_MAX: usize = 2_000;

/// What a server understands of one request.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    method: String,
    target: String,
    body: Vec<u8>,
}

/// Reads requests one after the other from pieces as they come, as a connection does. Ends with
/// the status of what was refused, if anything was.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Seen>, Option<u16>) {
    let (mut seen, mut partial) = (Vec::new(), Vec::new());
    let mut reading: Option<(Seen, BodyReader)> = None;
    for piece in pieces {
        partial.extend_from_slice(piece);
        loop {
            let (mut request, mut reader) = match reading.take() {
                Some(reading) => reading,
                None => match begin(&mut partial) {
                    Ok(Some(begun)) => begun,
                    Ok(None) => break,
                    Err(status) => return (seen, Some(status)),
                },
            };
            let mut input = &partial[..];
            let outcome = reader.read(&mut input);
            let left = input.len();
            partial.drain(..partial.len() - left);
            match outcome {
                Ok(true) => {
                    request.body = reader.into_bytes();
                    seen.push(request);
                }
                Ok(false) => {
                    reading = Some((request, reader));
                    break;
                }
                Err(error) => return (seen, Some(error.status())),
            }
        }
    }
    (seen, None)
}

fn begin(partial: &mut Vec<u8>) -> Result<Option<(Seen, BodyReader)>, u16> {
    let Some(head) = parse_head(partial).map_err(|error| error.status())? else {
        return Ok(None);
    };
    let request = Seen {
        method: head.method.into(),
        target: head.target.into(),
        body: Vec::new(),
    };
    let reader = BodyReader::new(head.body(), BODY_BYTES_MAX).map_err(|error| error.status())?;
    let head_bytes = head.bytes;
    partial.drain(..head_bytes);
    Ok(Some((request, reader)))
}

fn read_whole(text: &str) -> (Vec<Seen>, Option<u16>) {
    let cut = read(text.as_bytes().chunks(1));
    assert_eq!(read(std::iter::once(text.as_bytes())), cut, "{text:?}");
    cut
}

/// A request to send: its target, its body, and how many bytes are in each of its chunks.
fn request() -> impl Strategy<Value = (String, Vec<u8>, Option<Vec<usize>>)> {
    (
        "/[a-z/%]{0,9}",
        prop::collection::vec(any::<u8>(), 0..90),
        prop::option::of(prop::collection::vec(1_usize..40, 1..4)),
    )
}

fn write(out: &mut Vec<u8>, target: &str, body: &[u8], chunks: Option<&[usize]>) {
    out.extend_from_slice(format!("POST {target} HTTP/1.1\r\nHost: h\r\n").as_bytes());
    let Some(chunks) = chunks else {
        out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
        return out.extend_from_slice(body);
    };
    out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
    let mut rest = body;
    for (at, &length) in chunks.iter().cycle().enumerate() {
        let (chunk, after) = rest.split_at(length.min(rest.len()));
        rest = after;
        let extension = if at % 2 == 1 { ";a=\"b;\"" } else { "" };
        out.extend_from_slice(format!("{:X}{extension}\r\n", chunk.len()).as_bytes());
        if chunk.is_empty() {
            break;
        }
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"X-Trailer: ignored\r\n\r\n");
}

proptest! {
    #[test]
    fn any_cut_gives_the_same_requests(
        requests in prop::collection::vec(request(), 1..5),
        piece in 1_usize..60,
    ) {
        let (mut out, mut expected) = (Vec::new(), Vec::new());
        for (target, body, chunks) in &requests {
            write(&mut out, target, body, chunks.as_deref());
            let (method, target) = ("POST".into(), target.clone());
            expected.push(Seen { method, target, body: body.clone() });
        }
        let expected = (expected, None);
        prop_assert_eq!(&read(std::iter::once(&out[..])), &expected);
        prop_assert_eq!(&read(out.chunks(1)), &expected);
        prop_assert_eq!(&read(out.chunks(piece)), &expected);
    }

    #[test]
    fn a_changed_byte_never_panics_and_any_cut_agrees_on_it(
        requests in prop::collection::vec(request(), 1..4),
        at: prop::sample::Index,
        byte: u8,
        piece in 1_usize..60,
    ) {
        let mut out = Vec::new();
        for (target, body, chunks) in &requests {
            write(&mut out, target, body, chunks.as_deref());
        }
        let at = at.index(out.len());
        out[at] = byte;
        let whole = read(std::iter::once(&out[..]));
        prop_assert_eq!(&whole, &read(out.chunks(1)));
        prop_assert_eq!(&whole, &read(out.chunks(piece)));
    }

    #[test]
    fn arbitrary_chunks_never_panic_nor_exceed_the_limit(bytes in "[0-9a-fA-F;=\r\nx ]{0,80}") {
        let mut reader = BodyReader::new(http::Body::Chunked, 20).expect("no length is announced");
        let _ = reader.read(&mut bytes.as_bytes());
        prop_assert!(reader.len() <= 20);
    }

    #[test]
    fn arbitrary_targets_and_credentials_never_panic(
        target in "/[ -\u{ff}]{0,30}",
        authorization in "((Basic|bearer|X) )?[ -~]{0,40}",
    ) {
        let _ = (segments(&target), pairs(&target));
        let text = format!("GET / HTTP/1.1\r\nHost: h\r\nAuthorization: {authorization}\r\n\r\n");
        if let Ok(Some(head)) = parse_head(text.as_bytes()) {
            let head: Head<'_> = head;
            prop_assert_ne!(credentials(&head), Credentials::None);
        }
    }
}

#[test]
fn a_request_cannot_be_hidden_in_the_body_of_another() {
    let hidden = "GET /hidden HTTP/1.1\r\nHost: h\r\n\r\n";
    let framings = [
        // Two lengths, in all the ways in which one of two readers can miss one.
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "Content-Length: 0\r\nContent-Length: 44\r\n\r\n",
        "Content-Length: 0, 44\r\n\r\n",
        "Transfer-Encoding: identity\r\nContent-Length: 0\r\n\r\n",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
        " Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "X: 1\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "X: 1\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "X: 1\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "X: 1\0\r\nContent-Length: 0\r\n\r\n",
        "Content-Length: -0\r\n\r\n",
        "Content-Length: 0 0\r\n\r\n",
        "Content-Length: 0;44\r\n\r\n",
        // Chunks that another reader might see end elsewhere.
        "Transfer-Encoding: chunked\r\n\r\n0 \r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\n\n",
        "Transfer-Encoding: chunked\r\n\r\n0;\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\n",
        "Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n-0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n1\r\na\n0\r\n\r\n",
    ];
    for framing in framings {
        let text = format!("POST / HTTP/1.1\r\nHost: h\r\n{framing}{hidden}");
        let (seen, status) = read_whole(&text);
        assert_eq!(seen, [], "{framing:?}");
        assert!(
            matches!(status, Some(400 | 413 | 501)),
            "{framing:?}: {status:?}"
        );
    }
}

#[test]
fn what_is_too_large_is_refused_with_its_status() {
    let post = "POST / HTTP/1.1\r\nHost: h\r\n";
    let length = format!("{post}Content-Length: {}\r\n\r\n", BODY_BYTES_MAX + 1);
    assert_eq!(read_whole(&length).1, Some(413));
    let chunk = format!("{post}Transfer-Encoding: chunked\r\n\r\nfff\r\n");
    assert_eq!(read_whole(&chunk).1, Some(413));
    let head = format!("{post}X: {}\r\n\r\n", "x".repeat(http::HEAD_BYTES_MAX));
    assert_eq!(read(std::iter::once(head.as_bytes())).1, Some(431));
}
