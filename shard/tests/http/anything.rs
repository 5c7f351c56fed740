//! Whatever a client sends, however it is cut: the same answers, and no panic.

use super::Http;
use crate::support::World;
use proptest::prelude::*;

/// Pieces of requests, sensible ones and others.
fn piece() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just("Content-Length: 2\r\n".to_owned()),
        Just("Content-Length: 0\r\n".to_owned()),
        Just("Transfer-Encoding: chunked\r\n".to_owned()),
        Just("Expect: 100-continue\r\n".to_owned()),
        Just("Connection: close\r\n".to_owned()),
        Just("Upgrade: websocket\r\nConnection: Upgrade\r\n".to_owned()),
        Just("Sec-WebSocket-Version: 13\r\n".to_owned()),
        Just("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n".to_owned()),
        Just("Sec-WebSocket-Protocol: mqtt\r\n".to_owned()),
        Just("skynet_auth_uuid: 07070707-0707-0707-0707-070707070707\r\n".to_owned()),
        Just("skynet_auth_token: x\r\n".to_owned()),
        Just("x-meshblu-as: x\r\n".to_owned()),
        "[A-Za-z-]{1,8}: ?[ -~]{0,9}\r?\n",
    ];
    let target = prop_oneof![
        Just("/devices".to_owned()),
        Just("/authenticate".to_owned()),
        Just("/devices/07070707-0707-0707-0707-070707070707/tokens/x?tag=%41".to_owned()),
        Just("/ws".to_owned()),
        Just("/subscribe".to_owned()),
        "/(devices|v2|search|messages|status)(/[a-z%0-9?&=]{0,8}){0,3}",
    ];
    let method = prop_oneof![
        Just("GET"),
        Just("HEAD"),
        Just("POST"),
        Just("PUT"),
        Just("DELETE"),
        Just("OPTIONS"),
        Just("BREW"),
    ];
    let body = prop_oneof![
        Just("{}".to_owned()),
        Just("2\r\n{}\r\n0\r\n\r\n".to_owned()),
        Just(String::new()),
        "[ -~\r\n]{0,12}",
    ];
    let lines = prop::collection::vec(line, 0..4);
    (method, target, 0..20_u8, lines, body).prop_map(|(method, target, minor, lines, body)| {
        let minor = u8::from(minor > 0);
        let lines = lines.concat();
        format!("{method} {target} HTTP/1.{minor}\r\nHost: h\r\n{lines}\r\n{body}")
    })
}

/// All that comes back, and whether the connection ends. Of what is wrong in two ways, either may
/// be found first: so nothing is given of a 400 or a 505.
fn answered(text: &str, pieces: impl Iterator<Item = usize>) -> (Vec<String>, bool) {
    let world = World::new(2);
    let http = Http::new(&world);
    let mut rest = text.as_bytes();
    for piece in pieces {
        let (now, later) = rest.split_at(piece.min(rest.len()));
        http.0.send_raw(now);
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    let raw = http.0.take_raw();
    let raw = String::from_utf8_lossy(&raw);
    let answers = raw.split("HTTP/1.1 ").skip(1).map(|answer| match answer {
        malformed if malformed.starts_with("400") => "400".to_owned(),
        unknown if unknown.starts_with("505") => "400".to_owned(),
        answer => answer.to_owned(),
    });
    (answers.collect(), http.is_closed())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_cut_gives_the_same_answers(
        requests in prop::collection::vec(piece(), 1..5),
        lengths in prop::collection::vec(1_usize..50, 1..5),
    ) {
        let text = requests.concat();
        // Whether there is time to say 100 depends on the cut.
        let text = text.replace("Expect: 100-continue\r\n", "");
        let whole = answered(&text, std::iter::once(text.len()));
        prop_assert_eq!(&answered(&text, std::iter::repeat(1)), &whole);
        prop_assert_eq!(&answered(&text, lengths.into_iter().cycle()), &whole);
    }

    #[test]
    fn nothing_panics_and_every_error_is_json(
        requests in prop::collection::vec(piece(), 1..5),
        length in 1_usize..50,
        end in any::<prop::sample::Index>(),
    ) {
        let text = requests.concat();
        let text = &text[..end.index(text.len() + 1)];
        let (answers, _) = answered(text, std::iter::repeat(length));
        for answer in &answers {
            let status: u16 = answer[..3].parse().expect("a status");
            if status == 400 {
                continue;
            }
            let (head, body) = answer.split_once("\r\n\r\n").expect("a whole head");
            if status >= 400 && !body.is_empty() {
                prop_assert!(head.contains("Content-Type: application/json\r\n"), "{}", answer);
                prop_assert!(body.starts_with("{\"error\":\""), "{}", answer);
            }
        }
    }
}
