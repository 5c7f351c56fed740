//! Who a request says it comes from: a device's UUID and token, in any of the headers that
//! FreshBlu's and Meshblu's clients send.
//!
//! Nothing is verified here. The first place that holds a pair counts, in Meshblu's order; a place
//! that cannot be read is passed over, as FreshBlu does, and remembered only if none can.

use crate::head::Head;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::fmt;

/// Pairs of headers, in the order in which they count. nginx drops names with underscores unless
/// told otherwise, so each is taken with hyphens too.
const HEADER_PAIRS: [(&str, &str); 6] = [
    ("meshblu_auth_uuid", "meshblu_auth_token"),
    ("meshblu-auth-uuid", "meshblu-auth-token"),
    ("skynet_auth_uuid", "skynet_auth_token"),
    ("skynet-auth-uuid", "skynet-auth-token"),
    ("x-meshblu-uuid", "x-meshblu-token"),
    ("x_meshblu_uuid", "x_meshblu_token"),
];

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// What a request says about its sender.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Nothing.
    None,
    /// This; neither is empty, and neither is verified.
    Pair {
        /// The device's UUID, as sent: any text.
        uuid: String,
        /// Its token.
        token: String,
    },
    /// Something, but no header holds a UUID and a token.
    Malformed,
}

/// The value of an `Authorization` header that shows a token to a webhook, as Meshblu writes it.
pub fn bearer(uuid: &str, token: &str) -> String {
    format!("Bearer {}", STANDARD.encode(format!("{uuid}:{token}")))
}

/// Reads the credentials of a request: `Authorization` with base64 of `uuid:token` behind any
/// scheme or none, else the first complete pair of headers.
pub fn credentials(head: &Head<'_>) -> Credentials {
    let mut is_anything_there = false;
    let mut authorizations = head.header_values("authorization");
    if let Some(value) = authorizations.next() {
        is_anything_there = true;
        // Of two, a proxy may have checked the other one.
        if authorizations.next().is_none()
            && let Some(pair) = from_authorization(value)
        {
            return pair;
        }
    }
    for (uuid_name, token_name) in HEADER_PAIRS {
        let (uuid, token) = (head.header(uuid_name), head.header(token_name));
        is_anything_there |= uuid.is_some() || token.is_some();
        if let (Some(uuid), Some(token)) = (uuid, token)
            && let Some(pair) = pair(uuid, token)
        {
            return pair;
        }
    }
    if is_anything_there {
        Credentials::Malformed
    } else {
        Credentials::None
    }
}

/// `Basic` and `Bearer` mean the same to Meshblu, and FreshBlu takes base64 without a scheme.
fn from_authorization(value: &str) -> Option<Credentials> {
    let value = value.trim_ascii();
    let encoded = value
        .split_once([' ', '\t'])
        .map_or(value, |(_, rest)| rest.trim_ascii());
    let engine = if encoded.contains(['-', '_']) {
        &URL_SAFE
    } else {
        &STANDARD
    };
    let decoded = String::from_utf8(engine.decode(encoded).ok()?).ok()?;
    let (uuid, token) = decoded.split_once(':')?;
    pair(uuid, token)
}

fn pair(uuid: &str, token: &str) -> Option<Credentials> {
    if uuid.is_empty() || token.is_empty() {
        return None;
    }
    Some(Credentials::Pair {
        uuid: uuid.to_owned(),
        token: token.to_owned(),
    })
}

/// Tokens are kept out of logs.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credentials::None => f.write_str("None"),
            Credentials::Pair { uuid, .. } => write!(f, "Pair {{ uuid: {uuid:?} }}"),
            Credentials::Malformed => f.write_str("Malformed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_head;

    /// `uuid:token` in base64.
    const ENCODED: &str = "dXVpZDp0b2tlbg==";

    fn read(lines: &str) -> Credentials {
        let text = format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
        credentials(&parse_head(text.as_bytes()).unwrap().unwrap())
    }

    fn check_pair(lines: &str) {
        let expected = Credentials::Pair {
            uuid: "uuid".into(),
            token: "token".into(),
        };
        assert_eq!(read(lines), expected, "{lines:?}");
    }

    #[test]
    fn authorization_is_read_with_any_scheme_and_padding() {
        for scheme in ["Basic ", "basic ", "BASIC   ", "Bearer ", "bearer\t", ""] {
            for padding in ["==", "=", ""] {
                let encoded = ENCODED.trim_end_matches('=');
                check_pair(&format!("Authorization: {scheme}{encoded}{padding}\r\n"));
            }
        }
    }

    #[test]
    fn a_token_may_hold_colons_and_either_alphabet() {
        for encoded in ["dTo/Pj8+", "dTo_Pj8-"] {
            let expected = Credentials::Pair {
                uuid: "u".into(),
                token: "?>?>".into(),
            };
            let lines = format!("Authorization: Basic {encoded}\r\n");
            assert_eq!(read(&lines), expected, "{encoded}");
        }
        let expected = Credentials::Pair {
            uuid: "a".into(),
            token: "b:c".into(),
        };
        assert_eq!(read("Authorization: Basic YTpiOmM=\r\n"), expected);
    }

    #[test]
    fn every_pair_of_headers_is_read() {
        for (uuid, token) in HEADER_PAIRS {
            check_pair(&format!("{token}: token\r\n{uuid}: uuid\r\n"));
            let upper = uuid.to_ascii_uppercase();
            check_pair(&format!("{upper}: uuid\r\n{token}: token\r\n"));
        }
    }

    #[test]
    fn the_first_complete_pair_counts() {
        let headers = "skynet_auth_uuid: other\r\nskynet_auth_token: other\r\n";
        check_pair(&format!("{headers}Authorization: Basic {ENCODED}\r\n"));
        let meshblu = "meshblu_auth_uuid: uuid\r\nmeshblu_auth_token: token\r\n";
        check_pair(&format!("{headers}{meshblu}"));
        check_pair(&format!("Authorization: Digest x\r\n{meshblu}"));
        check_pair(&format!("Authorization: Basic !!!\r\n{meshblu}"));
    }

    #[test]
    fn what_cannot_be_read_is_malformed_and_nothing_is_none() {
        assert_eq!(read(""), Credentials::None);
        let malformed = [
            "Authorization:\r\n",
            "Authorization: Basic\r\n",
            "Authorization: Basic !!!\r\n",
            "Authorization: Basic dXVpZA==\r\n",
            "Authorization: Basic dXVpZDo=\r\n",
            "Authorization: Basic OnRva2Vu\r\n",
            "Authorization: Basic //86/w==\r\n",
            "skynet_auth_uuid: uuid\r\n",
            "skynet_auth_uuid: uuid\r\nmeshblu_auth_token: token\r\n",
            "skynet_auth_uuid: uuid\r\nskynet_auth_token:\r\n",
        ];
        for lines in malformed {
            assert_eq!(read(lines), Credentials::Malformed, "{lines:?}");
        }
        let twice = format!("Authorization: Basic {ENCODED}\r\n").repeat(2);
        assert_eq!(read(&twice), Credentials::Malformed);
    }

    #[test]
    fn tokens_are_not_printed() {
        let printed = format!("{:?}", read(&format!("Authorization: {ENCODED}\r\n")));
        assert_eq!(printed, "Pair { uuid: \"uuid\" }");
    }
}
