//! Tokens: how they are made, how they are kept, and what clients say about them.

use std::hint::black_box;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;

use crate::json;
use crate::record::{Reader, write_text};
use crate::refusal::Refusal;
use crate::time::Timestamp;
use crate::uuid::Uuid;

/// The longest tag of a token, in bytes.
pub const TAG_BYTES_MAX: usize = 256;

/// HMAC-SHA-256 of a device's uuid and a token, keyed with the pepper.
#[derive(Clone, Copy, Debug)]
pub struct TokenHash(pub [u8; 32]);

impl TokenHash {
    /// Whether both are the same, in a time that does not tell where they differ.
    pub fn matches(&self, other: &TokenHash) -> bool {
        let difference = self
            .0
            .iter()
            .zip(&other.0)
            .fold(0, |sum, (one, another)| black_box(sum | (one ^ another)));
        difference == 0
    }
}

/// Meant for tests and for values that are no secrets; takes the same time as
/// [`TokenHash::matches`].
impl PartialEq for TokenHash {
    fn eq(&self, other: &TokenHash) -> bool {
        self.matches(other)
    }
}

impl Eq for TokenHash {}

/// The hash under which a token of this device is kept.
pub fn keyed_hash(pepper: &[u8; 32], uuid: Uuid, token: &str) -> TokenHash {
    let mut mac = Hmac::<Sha256>::new_from_slice(pepper).expect("HMAC takes keys of any length");
    // The uuid has one length, so no two pairs of uuid and token run together to the same bytes.
    mac.update(&uuid.0);
    mac.update(token.as_bytes());
    TokenHash(mac.finalize().into_bytes().into())
}

/// A token of these 160 random bits: 40 characters of `[0-9a-f]`, within FreshBlu's alphabet, of
/// Meshblu's form, and short enough for the Arduino library's 64.
pub fn generate(bits: [u8; 20]) -> String {
    let digits = bits.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

/// How the secret of a token is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoredSecret {
    /// Of a generated token: it has bits enough for a quick hash.
    Keyed(TokenHash),
    /// Of a token that a person chose or that was imported: a bcrypt string.
    Bcrypt(Box<str>),
}

/// One token of a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token {
    /// What a presented token is compared with.
    pub secret: StoredSecret,
    /// When it was made.
    pub created: Timestamp,
    /// From this second since 1970 on it is no longer valid; `None` for never.
    pub expires_s: Option<i64>,
    /// The name that the client gave it.
    pub tag: Option<Box<str>>,
    /// Which of the device's tokens it is.
    pub id: u64,
    /// Whether it came with the registration or a reset.
    pub is_root: bool,
}

const VERSION: u8 = 1;
const IS_ROOT: u8 = 1;
const EXPIRES: u8 = 2;
const HAS_TAG: u8 = 4;
const IS_BCRYPT: u8 = 8;

impl Token {
    /// Whether it is no longer valid at this moment.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        let now_s = i64::try_from(now.seconds()).unwrap_or(i64::MAX);
        self.expires_s.is_some_and(|expires_s| expires_s <= now_s)
    }

    /// What is kept of it.
    pub fn to_record(&self) -> Vec<u8> {
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        let is_bcrypt = matches!(self.secret, StoredSecret::Bcrypt(_));
        let flags = flag(self.is_root, IS_ROOT)
            | flag(self.expires_s.is_some(), EXPIRES)
            | flag(self.tag.is_some(), HAS_TAG)
            | flag(is_bcrypt, IS_BCRYPT);
        let mut out = vec![VERSION, flags];
        out.extend_from_slice(&self.id.to_le_bytes());
        out.extend_from_slice(&self.created.0.to_le_bytes());
        if let Some(expires_s) = self.expires_s {
            out.extend_from_slice(&expires_s.to_le_bytes());
        }
        if let Some(tag) = &self.tag {
            write_text(tag, &mut out);
        }
        match &self.secret {
            StoredSecret::Keyed(hash) => out.extend_from_slice(&hash.0),
            StoredSecret::Bcrypt(text) => write_text(text, &mut out),
        }
        out
    }

    /// Reads a record; `None` if it is damaged or of a later version.
    pub fn from_record(bytes: &[u8]) -> Option<Token> {
        let mut reader = Reader(bytes);
        let (version, flags) = (reader.u8()?, reader.u8()?);
        if version != VERSION || flags >= IS_BCRYPT << 1 {
            return None;
        }
        let has = |flag| flags & flag != 0;
        let (id, created) = (reader.u64()?, reader.timestamp()?);
        let expires_s = has(EXPIRES).then(|| reader.array().map(i64::from_le_bytes));
        let expires_s = expires_s.map_or(Some(None), |given| given.map(Some))?;
        let tag = has(HAS_TAG).then(|| reader.text().map(Box::from));
        let tag = tag.map_or(Some(None), |given| given.map(Some))?;
        let secret = if has(IS_BCRYPT) {
            StoredSecret::Bcrypt(reader.text()?.into())
        } else {
            StoredSecret::Keyed(TokenHash(reader.array()?))
        };
        reader.is_at_end().then_some(Token {
            secret,
            created,
            expires_s,
            tag,
            id,
            is_root: has(IS_ROOT),
        })
    }

    /// Appends what `/search/tokens` shows: `uuid`, `createdAt`, `expiresOn` and `tag`, the last
    /// two null when there is none. Never the secret.
    pub fn write_search_json(&self, uuid: Uuid, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"uuid\":");
        uuid.write_json(out);
        out.extend_from_slice(b",\"createdAt\":");
        json::write_string(&self.created.rfc3339(), out);
        out.extend_from_slice(b",\"expiresOn\":");
        json::write_value(&self.expires_s.map_or(Value::Null, Value::from), out);
        out.extend_from_slice(b",\"tag\":");
        json::write_value(&self.tag.as_deref().map_or(Value::Null, Value::from), out);
        out.push(b'}');
    }

    /// Bytes of memory beside the value itself.
    pub fn heap_bytes(&self) -> usize {
        let secret = match &self.secret {
            StoredSecret::Keyed(_) => 0,
            StoredSecret::Bcrypt(text) => text.len(),
        };
        secret + self.tag.as_ref().map_or(0, |tag| tag.len())
    }
}

/// What a client asks of a token that is made for it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TokenOptions {
    /// `expiresOn`: the second since 1970 from which on it is no longer valid.
    pub expires_s: Option<i64>,
    /// `tag`: at most [`TAG_BYTES_MAX`] bytes.
    pub tag: Option<Box<str>>,
}

impl TokenOptions {
    /// Reads `{"expiresOn":1999999999,"tag":"session"}`; empty input is `{}`, and null is as good
    /// as nothing. `expiresOn` may also be an RFC 3339 text, as Meshblu's dates are. A moment that
    /// is past makes a token that is expired at once, as FreshBlu has it.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] for what is not JSON, [`Refusal::Invalid`] for wrong types: a token
    /// that silently never expires is not what was asked for.
    pub fn parse(body: &[u8]) -> Result<TokenOptions, Refusal> {
        let options = json::parse_object(body)?;
        let expires_s = match options.get("expiresOn") {
            None | Some(Value::Null) => None,
            Some(given) => Some(read_expiry(given)?),
        };
        let tag = match options.get("tag") {
            None | Some(Value::Null) => None,
            Some(Value::String(tag)) if tag.len() <= TAG_BYTES_MAX => Some(tag.as_str().into()),
            Some(_) => {
                let detail = format!("tag must be a string of at most {TAG_BYTES_MAX} bytes");
                return Err(Refusal::Invalid(detail));
            }
        };
        Ok(TokenOptions { expires_s, tag })
    }
}

fn read_expiry(given: &Value) -> Result<i64, Refusal> {
    let seconds = match given {
        Value::String(text) => {
            Timestamp::parse(text).and_then(|moment| i64::try_from(moment.seconds()).ok())
        }
        other => other.as_i64(),
    };
    seconds.ok_or_else(|| Refusal::invalid("expiresOn must be whole seconds since 1970"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Uuid = Uuid([0xaa; 16]);

    fn token() -> Token {
        Token {
            secret: StoredSecret::Keyed(TokenHash([7; 32])),
            created: Timestamp(1_795_311_401_422_389),
            expires_s: Some(1_999_999_999),
            tag: Some("session".into()),
            id: 3,
            is_root: false,
        }
    }

    #[test]
    fn generated_tokens_have_forty_characters_and_all_their_bits() {
        let mut bits = [0xff; 20];
        bits[0] = 0x0a;
        let token = generate(bits);
        assert_eq!(token, format!("0a{}", "f".repeat(38)));
    }

    #[test]
    fn hashes_differ_by_pepper_device_and_token() {
        let hash = keyed_hash(&[1; 32], A, "token");
        assert!(hash.matches(&keyed_hash(&[1; 32], A, "token")));
        for other in [
            keyed_hash(&[2; 32], A, "token"),
            keyed_hash(&[1; 32], Uuid([0xab; 16]), "token"),
            keyed_hash(&[1; 32], A, "tokem"),
            keyed_hash(&[1; 32], A, ""),
        ] {
            assert!(!hash.matches(&other));
        }
    }

    #[test]
    fn the_keyed_hash_is_hmac_sha_256() {
        // RFC 4231, 4.3, cannot be used: the message begins with a uuid. The key is 32 bytes of
        // 0x0b, the message 16 bytes of 0xaa and "Hi There"; computed with Python's hmac.
        let hash = keyed_hash(&[0x0b; 32], A, "Hi There");
        let text: String = hash.0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            text,
            "90f794114e51d2a709624faffe21c547662580ebe5255163754c2cc427d7d5df"
        );
    }

    #[test]
    fn records_are_read_back_or_refused() {
        let bcrypt = Token {
            secret: StoredSecret::Bcrypt("$2b$10$abc".into()),
            expires_s: None,
            tag: None,
            is_root: true,
            ..token()
        };
        for token in [token(), bcrypt] {
            let record = token.to_record();
            assert_eq!(Token::from_record(&record), Some(token));
            for end in 0..record.len() {
                assert_eq!(Token::from_record(&record[..end]), None);
            }
            assert_eq!(Token::from_record(&[&record[..], b"x"].concat()), None);
        }
    }

    #[test]
    fn a_token_expires_with_its_second() {
        let at = |seconds| token().is_expired(Timestamp::from_seconds(seconds));
        assert!(!at(1_999_999_998) && at(1_999_999_999));
        let for_ever = Token {
            expires_s: None,
            ..token()
        };
        assert!(!for_ever.is_expired(Timestamp(u64::MAX)));
    }

    #[test]
    fn searches_show_no_secret() {
        let show = |token: Token| {
            let mut out = Vec::new();
            token.write_search_json(A, &mut out);
            String::from_utf8(out).unwrap()
        };
        let start = format!(r#"{{"uuid":"{A}","createdAt":"2026-11-22T01:36:41.422389Z","#);
        let expected = format!(r#"{start}"expiresOn":1999999999,"tag":"session"}}"#);
        assert_eq!(show(token()), expected);
        let root = Token {
            expires_s: None,
            tag: None,
            ..token()
        };
        assert_eq!(
            show(root),
            format!(r#"{start}"expiresOn":null,"tag":null}}"#)
        );
    }

    #[test]
    fn bad_options_are_refused() {
        let parse = |body: &str| TokenOptions::parse(body.as_bytes());
        let options = |expires_s, tag: Option<&str>| TokenOptions {
            expires_s,
            tag: tag.map(Box::from),
        };
        for (body, expected) in [
            ("", options(None, None)),
            ("{}", options(None, None)),
            (
                r#"{"expiresOn":null,"tag":null,"more":1}"#,
                options(None, None),
            ),
            (
                r#"{"expiresOn":1999999999,"tag":"a"}"#,
                options(Some(1_999_999_999), Some("a")),
            ),
            (
                r#"{"expiresOn":"2033-05-18T03:33:19Z"}"#,
                options(Some(1_999_999_999), None),
            ),
        ] {
            assert_eq!(parse(body), Ok(expected), "{body}");
        }
        let long = format!(r#"{{"tag":"{}"}}"#, "x".repeat(TAG_BYTES_MAX + 1));
        for body in [
            r#"{"expiresOn":"x"}"#,
            r#"{"expiresOn":1.5}"#,
            r#"{"expiresOn":99999999999999999999}"#,
            r#"{"expiresOn":true}"#,
            r#"{"tag":5}"#,
            "[]",
            &long,
        ] {
            assert_eq!(
                parse(body).map_err(|refusal| refusal.status()),
                Err(422),
                "{body}"
            );
        }
        assert_eq!(parse("{").map_err(|refusal| refusal.status()), Err(400));
    }
}
