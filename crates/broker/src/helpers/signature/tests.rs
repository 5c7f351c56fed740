//! What is signed can be checked with the public key as it is given out; what is no key is named.

use super::*;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use std::time::Duration;

const PKCS1: &str = include_str!("../../../tests/support/keys/pkcs1.pem");
const PKCS8: &str = include_str!("../../../tests/support/keys/pkcs8.pem");
const PUBLIC: &str = include_str!("../../../tests/support/keys/public.pem");
const SHORT: &str = include_str!("../../../tests/support/keys/short.pem");
const EC: &str = include_str!("../../../tests/support/keys/ec.pem");
const EC_PKCS8: &str = include_str!("../../../tests/support/keys/ec_pkcs8.pem");
const ENCRYPTED: &str = include_str!("../../../tests/support/keys/encrypted.pem");

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_794_924_314)
}

fn headers(of: &[(&'static str, &'static str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &'static str)| {
        let name = HeaderName::from_static(name);
        (name, HeaderValue::from_static(value))
    };
    of.iter().map(pair).collect()
}

/// The signature among these parameters, if it is one of this text.
#[track_caller]
fn check(signer: &Signer, parameters: &str, text: &str) {
    let begin = "keyId=\"meshblu-webhook-key\",algorithm=\"rsa-sha256\",\
                 headers=\"date x-meshblu-uuid\",signature=\"";
    let signature = parameters.strip_prefix(begin).unwrap();
    let signature = signature.strip_suffix('"').unwrap();
    let signature = BASE64_STANDARD.decode(signature).unwrap();
    let public = signer.key.public().as_ref();
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public);
    key.verify(text.as_bytes(), &signature).unwrap();
    let forged = text.replace("one", "two");
    assert!(key.verify(forged.as_bytes(), &signature).is_err());
}

#[test]
fn date_and_device_are_signed() {
    let signer = Signer::read(PKCS8.as_bytes()).unwrap();
    let mut headers = headers(&[("x-meshblu-uuid", "one"), ("date", "yesterday")]);
    signer.sign(&mut headers, now());
    let date = headers[DATE].to_str().unwrap().to_owned();
    assert_eq!(date, "Tue, 17 Nov 2026 14:05:14 GMT");
    let credentials = headers[AUTHORIZATION].to_str().unwrap();
    let parameters = credentials.strip_prefix("Signature ").unwrap();
    check(
        &signer,
        parameters,
        &format!("date: {date}\nx-meshblu-uuid: one"),
    );
    assert!(!headers.contains_key(SIGNATURE));
}

#[test]
fn credentials_stay_and_the_signature_goes_beside_them() {
    let signer = Signer::read(PKCS8.as_bytes()).unwrap();
    let mut headers = headers(&[
        ("x-meshblu-uuid", "one"),
        ("authorization", "Bearer abc"),
        ("signature", "forged"),
    ]);
    signer.sign(&mut headers, now());
    assert_eq!(headers[AUTHORIZATION], "Bearer abc");
    let all: Vec<_> = headers.get_all(SIGNATURE).iter().collect();
    assert_eq!(all.len(), 1);
    let text = "date: Tue, 17 Nov 2026 14:05:14 GMT\nx-meshblu-uuid: one";
    check(&signer, all[0].to_str().unwrap(), text);
}

#[test]
fn a_signature_of_the_device_does_not_stand_in_for_ours() {
    let signer = Signer::read(PKCS8.as_bytes()).unwrap();
    let mut headers = headers(&[("x-meshblu-uuid", "one"), ("signature", "forged")]);
    signer.sign(&mut headers, now());
    assert!(!headers.contains_key(SIGNATURE) && headers.contains_key(AUTHORIZATION));
}

#[test]
fn keys_are_read_as_operators_have_them() {
    let base64 = BASE64_STANDARD.encode(PKCS1);
    let (first, second) = base64.split_at(100);
    let wrapped = format!("{first}\n{second}\n");
    let commented = format!("a key of ours\n\n{PKCS8}");
    for text in [PKCS1, PKCS8, &base64, &wrapped, &commented] {
        let signer = Signer::read(text.as_bytes()).unwrap();
        assert_eq!(signer.public_key(), PUBLIC);
        assert_eq!(format!("{signer:?}"), "Signer(2048 bits)");
    }
}

#[test]
fn what_is_no_key_is_named() {
    let torn = &PKCS8[..PKCS8.len() / 2];
    let damaged = PKCS1.replacen("MII", "MIJ", 1);
    let base64 = BASE64_STANDARD.encode("no key");
    for (text, why) in [
        ("", KeyError::NoKey),
        ("no key", KeyError::NoKey),
        (&base64, KeyError::NoKey),
        (PUBLIC, KeyError::NoKey),
        (torn, KeyError::NoKey),
        (&damaged, KeyError::Broken),
        (ENCRYPTED, KeyError::Encrypted),
        (SHORT, KeyError::TooSmall),
        (EC, KeyError::NotRsa),
        (EC_PKCS8, KeyError::NotRsa),
    ] {
        assert_eq!(Signer::read(text.as_bytes()).unwrap_err(), why, "{text}");
    }
}
