//! Signatures of webhooks, as Meshblu has npm's `http-signature` make them: the HTTP signatures of
//! draft-cavage-http-signatures, RSA with PKCS#1 v1.5 padding and SHA-256, over the date and the
//! device.
//!
//! Always: the key has 2,048 to 4,096 bits, and leaves this file in its public half only.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::rand::SystemRandom;
use ring::rsa::KeyPair;
use ring::signature::RSA_PKCS1_SHA256;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use std::fmt;
use std::time::SystemTime;
use ureq::http::header::{AUTHORIZATION, DATE, HeaderMap, HeaderName, HeaderValue};

/// What receivers look the key up by; Meshblu's word.
const KEY_ID: &str = "meshblu-webhook-key";
/// Which device the request is about.
const DEVICE: HeaderName = HeaderName::from_static("x-meshblu-uuid");
/// Carries a signature where `Authorization` carries something else, draft-cavage §4.
const SIGNATURE: HeaderName = HeaderName::from_static("signature");
/// Characters of a line of PEM.
const PEM_LINE: usize = 64;
/// The algorithm identifier of an RSA key, RFC 3279 §2.3.1: rsaEncryption without parameters.
const RSA_ENCRYPTION: [u8; 15] = [
    0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];

/// Signs requests with one key.
pub struct Signer {
    key: KeyPair,
    public_key: Box<str>,
    random: SystemRandom,
}

/// Why a text is no key to sign with.
#[derive(Debug, PartialEq, Eq)]
pub enum KeyError {
    /// It holds no private key in PEM, nor the base64 of one.
    NoKey,
    /// It needs a passphrase.
    Encrypted,
    /// It is a key for something else.
    NotRsa,
    /// It has fewer bits than are safe.
    TooSmall,
    /// It has more bits than anybody can check quickly.
    TooLarge,
    /// Its numbers do not belong together.
    Broken,
}

impl fmt::Display for KeyError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            KeyError::NoKey => "no private key in PEM (PKCS#8 or PKCS#1), nor the base64 of one",
            KeyError::Encrypted => {
                "the key is encrypted; write it without its passphrase, as `openssl pkey` does"
            }
            KeyError::NotRsa => "the key is not an RSA key",
            KeyError::TooSmall => "the RSA key is too short; it needs 2048 bits or more",
            KeyError::TooLarge => "the RSA key is too long; it may have 4096 bits",
            KeyError::Broken => "the key is damaged",
        })
    }
}

impl std::error::Error for KeyError {}

impl fmt::Debug for Signer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Signer({} bits)", self.key.public().modulus_len() * 8)
    }
}

impl PartialEq for Signer {
    fn eq(&self, other: &Signer) -> bool {
        self.public_key == other.public_key
    }
}

impl Signer {
    /// Of a private RSA key: PEM, or the base64 of that, as it stands in variables.
    pub fn read(text: &[u8]) -> Result<Signer, KeyError> {
        let is_pem = text.windows(5).any(|part| part == b"-----");
        if is_pem {
            return Signer::of_pem(text);
        }
        let digits: Vec<u8> = text
            .iter()
            .copied()
            .filter(|byte| !byte.is_ascii_whitespace())
            .collect();
        let pem = BASE64_STANDARD.decode(digits);
        Signer::of_pem(&pem.map_err(|_| KeyError::NoKey)?)
    }

    fn of_pem(pem: &[u8]) -> Result<Signer, KeyError> {
        let is_encrypted = |words: &[u8]| pem.windows(words.len()).any(|part| part == words);
        if is_encrypted(b"ENCRYPTED PRIVATE KEY") || is_encrypted(b"Proc-Type: 4,ENCRYPTED") {
            return Err(KeyError::Encrypted);
        }
        let key = match PrivateKeyDer::from_pem_slice(pem).map_err(|_| KeyError::NoKey)? {
            PrivateKeyDer::Pkcs1(der) => KeyPair::from_der(der.secret_pkcs1_der()),
            PrivateKeyDer::Pkcs8(der) => KeyPair::from_pkcs8(der.secret_pkcs8_der()),
            _ => return Err(KeyError::NotRsa),
        };
        // The reasons of `ring` are documented as words to show, and these are among them.
        let key = key.map_err(|why| match why.to_string().as_str() {
            "WrongAlgorithm" => KeyError::NotRsa,
            "TooSmall" => KeyError::TooSmall,
            "TooLarge" => KeyError::TooLarge,
            _ => KeyError::Broken,
        })?;
        Ok(Signer {
            public_key: public_pem(key.public().as_ref()).into(),
            key,
            random: SystemRandom::new(),
        })
    }

    /// The public half in PEM (SubjectPublicKeyInfo), which is what receivers check with.
    pub fn public_key(&self) -> &str {
        &self.public_key
    }

    /// Signs a request that is sent now: sets its date, and its signature in `Authorization`, or
    /// in `Signature` where the request has credentials already.
    pub fn sign(&self, headers: &mut HeaderMap, now: SystemTime) {
        let date = httpdate::fmt_http_date(now);
        let device = headers.get(&DEVICE).map_or(&b""[..], HeaderValue::as_bytes);
        let mut text = format!("date: {date}\n{DEVICE}: ").into_bytes();
        text.extend_from_slice(device);
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &self.random, &text, &mut signature)
            .expect("the signature has the length of the modulus, and the system has random bytes");
        let signature = BASE64_STANDARD.encode(signature);
        let parameters = format!(
            "keyId=\"{KEY_ID}\",algorithm=\"rsa-sha256\",headers=\"date {DEVICE}\",\
             signature=\"{signature}\""
        );
        let ascii = |text: &str| HeaderValue::from_str(text).expect("all of it is ASCII");
        headers.insert(DATE, ascii(&date));
        headers.remove(&SIGNATURE);
        match headers.contains_key(AUTHORIZATION) {
            true => headers.insert(SIGNATURE, ascii(&parameters)),
            false => headers.insert(AUTHORIZATION, ascii(&format!("Signature {parameters}"))),
        };
    }
}

/// SubjectPublicKeyInfo in PEM, of an RSAPublicKey in DER (RFC 5280 §4.1, RFC 7468 §13).
fn public_pem(rsa_public_key: &[u8]) -> String {
    let bits = [&[0], rsa_public_key].concat();
    let bits = der(0x03, &bits);
    let info = der(0x30, &[&RSA_ENCRYPTION, &bits[..]].concat());
    let digits = BASE64_STANDARD.encode(info);
    let mut pem = "-----BEGIN PUBLIC KEY-----\n".to_owned();
    for line in digits.as_bytes().chunks(PEM_LINE) {
        pem.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        pem.push('\n');
    }
    pem.push_str("-----END PUBLIC KEY-----\n");
    pem
}

/// One value of DER: its tag, its length, its content.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let zeros = length.iter().take_while(|&&byte| byte == 0).count();
    let length = &length[zeros..];
    let mut value = vec![tag];
    if content.len() >= 0x80 {
        value.push(0x80 | u8::try_from(length.len()).expect("a length has at most 8 bytes"));
    }
    value.extend_from_slice(length);
    value.extend_from_slice(content);
    value
}

#[cfg(test)]
mod tests;
