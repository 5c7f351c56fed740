//! Webhooks, from a device's document to the server that is called, and to those that must not be;
//! and their signatures. `interop/` has them checked by the package of npm that Meshblu uses.

#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod support;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::configured::Configured;
use support::{Broker, PATIENCE};

/// Two keys, and what is none.
const KEYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/keys");

/// The body of a message, or what else follows a head that says its length.
fn read_message(stream: &TcpStream) -> (String, String) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let begin = head.len();
        assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
        let line = head[begin..].to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}

/// A request to the broker; gives the answer's body.
fn ask(broker: SocketAddr, line: &str, headers: &str, body: &Value) -> String {
    let body = body.to_string();
    let mut stream = TcpStream::connect(broker).unwrap();
    let length = body.len();
    write!(
        stream,
        "{line} HTTP/1.1\r\nHost: broker\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n{headers}\r\n{body}"
    )
    .unwrap();
    let (head, body) = read_message(&stream);
    assert!(head.starts_with("HTTP/1.1 200"), "{line}: {head}{body}");
    body
}

/// Registers a device that wants its messages told to this address, and sends it one.
fn send_a_message(broker: SocketAddr, told: SocketAddr) -> Value {
    let hook = json!({
        "type": "webhook", "url": format!("http://{told}/hook"), "method": "PUT",
        "generateAndForwardMeshbluCredentials": true,
    });
    send_with(broker, &hook)
}

/// Registers a device with this webhook, and sends it a message.
fn send_with(broker: SocketAddr, hook: &Value) -> Value {
    let body = json!({"meshblu": {"forwarders": {"message": {"received": [hook]}}}});
    let device = ask(broker, "POST /devices", "", &body);
    let device: Value = serde_json::from_str(&device).unwrap();
    let [uuid, token] = ["uuid", "token"].map(|name| device[name].as_str().unwrap());
    let headers = format!("meshblu_auth_uuid: {uuid}\r\nmeshblu_auth_token: {token}\r\n");
    let body = json!({"devices": [uuid], "payload": {"degrees": 21}});
    ask(broker, "POST /messages", &headers, &body);
    device
}

#[test]
fn a_message_is_told_to_the_server_that_its_device_names() {
    let broker = Broker::start(&["--shards", "2", "--webhooks-to-private", "allow"]);
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let device = send_a_message(broker.http, server.local_addr().unwrap());
    let (mut stream, _) = server.accept().unwrap();
    let (head, body) = read_message(&stream);
    assert!(head.starts_with("PUT /hook HTTP/1.1\r\n"), "{head}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["payload"]["degrees"], 21, "{body}");
    let head = head.to_ascii_lowercase();
    let uuid = device["uuid"].as_str().unwrap();
    assert!(
        head.contains(&format!("x-meshblu-uuid: {uuid}\r\n")),
        "{head}"
    );
    assert!(head.contains("authorization: bearer "), "{head}");
    stream
        .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
        .unwrap();
    await_metric(broker.http, "webhooks_sent_total 1");
}

#[test]
fn the_brokers_own_machine_is_not_called_unless_that_is_allowed() {
    let broker = Broker::start(&["--shards", "1"]);
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    send_a_message(broker.http, server.local_addr().unwrap());
    await_metric(broker.http, "webhooks_failed_total 1");
    let nobody = server.accept().map(drop).unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::WouldBlock);
}

/// The value of a header, by its name in lower case.
#[track_caller]
fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let found = head.lines().find_map(|line| {
        let (known, value) = line.split_once(": ")?;
        (known.to_ascii_lowercase() == name).then_some(value)
    });
    found.unwrap_or_else(|| panic!("no {name} in {head}"))
}

/// The RSAPublicKey in what `GET /publickey` answers.
fn public_key(broker: SocketAddr) -> (String, Vec<u8>) {
    let answer: Value =
        serde_json::from_str(&ask(broker, "GET /publickey", "", &Value::Null)).unwrap();
    let pem = answer["publicKey"].as_str().unwrap().to_owned();
    let digits: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let info = BASE64_STANDARD.decode(digits).unwrap();
    // Of 2,048 bits: behind the two heads, the algorithm and the head of the bits.
    (pem, info[24..].to_vec())
}

/// The signature among these parameters, if it is of this head.
#[track_caller]
fn check_signature(head: &str, parameters: &str, key: &[u8]) {
    let (_, signature) = parameters.split_once("signature=\"").unwrap();
    let signature = BASE64_STANDARD.decode(signature.trim_end_matches('"'));
    let (date, uuid) = (header(head, "date"), header(head, "x-meshblu-uuid"));
    let text = format!("date: {date}\nx-meshblu-uuid: {uuid}");
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key);
    key.verify(text.as_bytes(), &signature.unwrap()).unwrap();
}

#[test]
fn a_webhook_is_signed_with_the_key_that_everybody_may_read() {
    let file = format!("{KEYS}/pkcs1.pem");
    let broker = Broker::start(&[
        "--webhooks-to-private",
        "allow",
        "--webhooks-private-key-file",
        &file,
    ]);
    let (pem, key) = public_key(broker.http);
    let expected = std::fs::read_to_string(format!("{KEYS}/public.pem")).unwrap();
    assert_eq!(pem, expected);
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", server.local_addr().unwrap());
    for has_credentials in [false, true] {
        // What the device says of itself does not count.
        let device = send_with(
            broker.http,
            &json!({
                "type": "webhook", "url": url, "signRequest": true,
                "generateAndForwardMeshbluCredentials": has_credentials,
                "headers": {"X-MESHBLU-UUID": "another", "Date": "yesterday"},
            }),
        );
        let (mut stream, _) = server.accept().unwrap();
        let (head, _) = read_message(&stream);
        let answer = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
        stream.write_all(answer).unwrap();
        assert_eq!(device["uuid"], header(&head, "x-meshblu-uuid"));
        let credentials = header(&head, "authorization");
        let parameters = if has_credentials {
            assert!(credentials.starts_with("Bearer "), "{head}");
            header(&head, "signature")
        } else {
            credentials.strip_prefix("Signature ").unwrap()
        };
        check_signature(&head, parameters, &key);
    }
}

#[test]
fn an_authority_of_the_operators_is_trusted_beside_the_public_ones() {
    // An authority, and a server that it vouches for.
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let authority = CertifiedIssuer::self_signed(authority, authority_key).unwrap();
    let names = vec!["127.0.0.1".to_owned()];
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(names).unwrap();
    let server = server.signed_by(&key, &authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![server.der().clone()], key.into())
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let hook = json!({"type": "webhook", "url": url});
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("authority.pem");
    std::fs::write(&file, authority.pem()).unwrap();
    let base = "[general]\ndata = DATA\n[mqtt]\nlisten = []\n[http]\nlisten = [\"127.0.0.1:0\"]\n\
                [webhooks]\nto_private = \"allow\"\n";
    let broker = Configured::start(base, 1);
    let http = broker.bound[0].1;
    let serving = std::thread::spawn(move || {
        let mut told = Vec::new();
        // Refused by whoever does not trust it, as often as that tries.
        while told.is_empty() {
            let (mut tcp, _) = listener.accept().unwrap();
            let mut tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
            let mut byte = [0];
            while !told.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                told.push(byte[0]);
            }
            if !told.is_empty() {
                let answer = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
                stream.write_all(answer).unwrap();
            }
        }
        String::from_utf8(told).unwrap()
    });
    send_with(http, &hook);
    await_metric(http, "webhooks_failed_total 1");
    broker.write(&format!("{base}ca_file = {file:?}\n"));
    let (code, _, said) = broker.reload(&[]);
    assert_eq!(code, 0, "{said}");
    let device = send_with(http, &hook);
    await_metric(http, "webhooks_sent_total 1");
    let head = serving.join().unwrap();
    assert_eq!(header(&head, "x-meshblu-uuid"), device["uuid"]);
}

#[test]
fn a_key_comes_and_goes_while_the_broker_runs() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("key.pem");
    let base = "[general]\ndata = DATA\n[mqtt]\nlisten = []\n[http]\nlisten = [\"127.0.0.1:0\"]\n\
                [webhooks]\nto_private = \"allow\"\n";
    let with_key = format!("{base}private_key_file = {file:?}\n");
    let broker = Configured::start(base, 1);
    let http = broker.bound[0].1;
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", server.local_addr().unwrap());
    let hook = json!({"type": "webhook", "url": url, "signRequest": true});
    // Without a key nobody is called.
    send_with(http, &hook);
    await_metric(http, "webhooks_failed_total 1");
    let said = broker.log();
    assert!(said.contains("set webhooks.private_key_file"), "{said}");
    server.set_nonblocking(true).unwrap();
    assert_eq!(server.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    server.set_nonblocking(false).unwrap();
    // A key that is none changes nothing.
    std::fs::copy(format!("{KEYS}/short.pem"), &file).unwrap();
    broker.write(&with_key);
    let (code, _, said) = broker.reload(&[]);
    assert!(code == 1 && said.contains("too short"), "{code}: {said}");
    let none = ask(http, "GET /publickey", "", &Value::Null);
    assert_eq!(none, "{\"publicKey\":null}");
    std::fs::copy(format!("{KEYS}/pkcs8.pem"), &file).unwrap();
    let (code, _, said) = broker.reload(&[]);
    assert_eq!(code, 0, "{said}");
    let (first, key) = public_key(http);
    send_with(http, &hook);
    let (stream, _) = server.accept().unwrap();
    let (head, _) = read_message(&stream);
    let credentials = header(&head, "authorization");
    let parameters = credentials.strip_prefix("Signature ").unwrap();
    check_signature(&head, parameters, &key);
    // The same file with another key in it.
    std::fs::copy(format!("{KEYS}/other.pem"), &file).unwrap();
    assert_eq!(broker.reload(&[]).0, 0);
    assert_ne!(public_key(http).0, first);
}

/// Waits until the broker counts so.
fn await_metric(broker: SocketAddr, words: &str) {
    let end = Instant::now() + PATIENCE;
    loop {
        let metrics = ask(broker, "GET /metrics", "", &Value::Null);
        if metrics.lines().any(|line| line.ends_with(words)) {
            return;
        }
        assert!(Instant::now() < end, "no {words:?} in {metrics}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
