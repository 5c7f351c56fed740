//! `meshring import`: what FreshBlu has kept in SQLite is there afterwards, and its devices log in
//! with the tokens that they have.

#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod support;

use rusqlite::{Connection, params};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use support::kept::{files, serve};
use support::raw::{Raw, packet};
use support::run;
use tempfile::TempDir;

const LAMP: &str = "0238237c-7090-46bc-aea2-847ee11c04a0";
const SWITCH: &str = "f3a63684-4618-4f16-ae74-ac7b92090ee0";

/// A file with FreshBlu's tables.
struct Freshblu {
    connection: Connection,
}

impl Freshblu {
    fn create(path: &Path) -> Freshblu {
        let connection = Connection::open(path).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE devices (uuid TEXT PRIMARY KEY, data TEXT NOT NULL,
                   online INTEGER NOT NULL DEFAULT 0, created_at TEXT NOT NULL, updated_at TEXT);
                 CREATE TABLE tokens (id INTEGER PRIMARY KEY AUTOINCREMENT,
                   device_uuid TEXT NOT NULL, hash TEXT NOT NULL, created_at TEXT NOT NULL,
                   expires_on INTEGER, tag TEXT);
                 CREATE TABLE subscriptions (id INTEGER PRIMARY KEY AUTOINCREMENT,
                   emitter_uuid TEXT NOT NULL, subscriber_uuid TEXT NOT NULL,
                   subscription_type TEXT NOT NULL,
                   UNIQUE(emitter_uuid, subscriber_uuid, subscription_type));",
            )
            .unwrap();
        Freshblu { connection }
    }

    fn device(&self, uuid: &str, data: &Value) {
        let line = "INSERT OR REPLACE INTO devices VALUES (?1, ?2, 1, ?3, NULL)";
        let values = params![uuid, data.to_string(), CREATED];
        self.connection.execute(line, values).unwrap();
    }

    fn token(&self, uuid: &str, token: &str, expires_on: Option<i64>, tag: Option<&str>) {
        let hash = bcrypt::hash(token, 4).unwrap();
        let line = "INSERT INTO tokens (device_uuid, hash, created_at, expires_on, tag) \
                    VALUES (?1, ?2, ?3, ?4, ?5)";
        let values = params![uuid, hash, CREATED, expires_on, tag];
        self.connection.execute(line, values).unwrap();
    }

    fn subscription(&self, emitter: &str, subscriber: &str, kind: &str) {
        let line = "INSERT INTO subscriptions (emitter_uuid, subscriber_uuid, subscription_type) \
                    VALUES (?1, ?2, ?3)";
        let values = params![emitter, subscriber, kind];
        self.connection.execute(line, values).unwrap();
    }
}

const CREATED: &str = "2026-11-22T01:36:41.422389499+00:00";

fn document(uuid: &str, name: &str) -> Value {
    json!({
        "uuid": uuid, "online": true, "type": "thing", "name": name,
        "meshblu": {
            "version": "2.0.0", "createdAt": CREATED, "hash": "2+H3V4QcPR",
            "owner": SWITCH,
            "whitelists": {"discover": {"view": [{"uuid": "*"}], "as": []}},
        },
    })
}

/// Two devices, three tokens that hold and one that is expired, three subscriptions.
fn two_devices(path: &Path) -> Freshblu {
    let freshblu = Freshblu::create(path);
    freshblu.device(LAMP, &document(LAMP, "lamp"));
    freshblu.device(SWITCH, &document(SWITCH, "switch"));
    freshblu.token(LAMP, "lamp-token", None, None);
    freshblu.token(LAMP, "lamp-session", Some(4_000_000_000), Some("session"));
    freshblu.token(LAMP, "lamp-expired", Some(1), None);
    freshblu.token(SWITCH, "switch-token", None, None);
    freshblu.subscription(LAMP, SWITCH, "broadcast.sent");
    freshblu.subscription(LAMP, SWITCH, "configure-sent");
    freshblu.subscription(SWITCH, LAMP, "message.received");
    freshblu
}

/// Whether a device with this token is let in.
fn is_let_in(mqtt: SocketAddr, uuid: &str, token: &str) -> bool {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 0xC2, 0, 60];
    for text in ["", uuid, token] {
        body.extend_from_slice(&(text.len() as u16).to_be_bytes());
        body.extend_from_slice(text.as_bytes());
    }
    let mut raw = Raw::open(mqtt);
    raw.send(&packet(0x10, &body));
    let connack = raw.packet().expect("CONNACK");
    assert_eq!(connack.first, 0x20);
    connack.body[1] == 0
}

/// The status of the answer when the lamp, which shows one token, revokes one.
fn revoke(http: SocketAddr, shown: &str, revoked: &str) -> u16 {
    let mut stream = TcpStream::connect(http).unwrap();
    let head = format!(
        "DELETE /devices/{LAMP}/tokens/{revoked} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\
         X-Meshblu-UUID: {LAMP}\r\nX-Meshblu-Token: {shown}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Runs an import: exit code, stdout, stderr.
fn import(file: &Path, data: &Path, more: &[&str]) -> (i32, String, String) {
    let line = ["import", text(file), "--data", text(data)];
    run(&[&line, more].concat())
}

/// How many there are of this in all files of a directory, which must be sound.
fn count(data: &Path, what: &str) -> u64 {
    let (code, stdout, stderr) = run(&["check", "--json", "--data", text(data)]);
    assert_eq!(code, 0, "{stdout}{stderr}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    let files = report["files"].as_array().unwrap();
    files.iter().map(|file| file[what].as_u64().unwrap()).sum()
}

#[test]
fn devices_log_in_with_the_tokens_that_they_have() {
    let root = TempDir::new().unwrap();
    let [file, data] = ["freshblu.db", "data"].map(|name| root.path().join(name));
    drop(two_devices(&file));
    let before = std::fs::read(&file).unwrap();
    let (code, stdout, stderr) = import(&file, &data, &[]);
    assert_eq!(code, 0, "{stderr}");
    assert!(
        stdout.starts_with("2 devices brought, with 3 tokens and 3 subscriptions; 0 devices were"),
        "{stdout}"
    );
    assert!(stdout.contains("1 expired tokens left behind; 0 things cannot"));
    assert_eq!(std::fs::read(&file).unwrap(), before, "only read");
    assert_eq!(count(&data, "devices"), 2);
    assert_eq!(count(&data, "tokens"), 3);
    assert_eq!(count(&data, "device_subscriptions"), 3);
    // With another number of shards than the import has made.
    for shards in ["3", "1"] {
        let mut broker = serve(&data, &["--shards", shards]);
        for _ in 0..2 {
            assert!(is_let_in(broker.mqtt, LAMP, "lamp-token"));
            assert!(is_let_in(broker.mqtt, LAMP, "lamp-session"));
            assert!(is_let_in(broker.mqtt, SWITCH, "switch-token"));
            assert!(!is_let_in(broker.mqtt, LAMP, "lamp-expired"));
            assert!(!is_let_in(broker.mqtt, LAMP, "switch-token"));
            assert!(!is_let_in(broker.mqtt, LAMP, ""));
        }
        if shards == "1" {
            assert_eq!(revoke(broker.http, "lamp-token", "lamp-session"), 200);
            assert!(!is_let_in(broker.mqtt, LAMP, "lamp-session"));
            assert_eq!(revoke(broker.http, "lamp-token", "lamp-session"), 404);
        }
        let (code, _, stderr) = import(&file, &data, &[]);
        assert_eq!(code, 1);
        assert!(stderr.contains("stop it first"), "{stderr}");
        broker.signal("TERM");
        assert!(broker.wait().0.success());
    }
}

#[test]
fn an_import_can_be_repeated() {
    let root = TempDir::new().unwrap();
    let [file, data] = ["freshblu.db", "data"].map(|name| root.path().join(name));
    let freshblu = two_devices(&file);
    assert_eq!(import(&file, &data, &[]).0, 0);
    // FreshBlu goes on meanwhile.
    freshblu.token(LAMP, "lamp-new", None, None);
    let third = "3c2f4291-3d98-43b4-902e-1c327e8fae3e";
    freshblu.device(third, &document(third, "third"));
    let (code, stdout, _) = import(&file, &data, &[]);
    assert_eq!(code, 0);
    assert!(
        stdout.starts_with("1 devices brought, with 0 tokens"),
        "{stdout}"
    );
    assert!(stdout.contains("2 devices were there already"), "{stdout}");
    assert_eq!((count(&data, "devices"), count(&data, "tokens")), (3, 3));
    let (code, stdout, _) = import(&file, &data, &["--replace"]);
    assert_eq!(code, 0);
    assert!(
        stdout.starts_with("3 devices brought, with 4 tokens"),
        "{stdout}"
    );
    assert_eq!((count(&data, "devices"), count(&data, "tokens")), (3, 4));
    assert_eq!(count(&data, "device_subscriptions"), 3);
    let broker = serve(&data, &[]);
    assert!(is_let_in(broker.mqtt, LAMP, "lamp-new"));
}

#[test]
fn what_cannot_be_brought_is_named_and_holds_up_nothing() {
    let root = TempDir::new().unwrap();
    let [file, data] = ["freshblu.db", "data"].map(|name| root.path().join(name));
    let freshblu = two_devices(&file);
    freshblu.device("no-uuid", &document(LAMP, "none"));
    freshblu.device("00000000-0000-0000-0000-000000000001", &json!([1, 2]));
    freshblu.subscription(LAMP, SWITCH, "gossip");
    freshblu
        .connection
        .execute(
            "UPDATE tokens SET hash = 'plain' WHERE device_uuid = ?1",
            [SWITCH],
        )
        .unwrap();
    let url = format!("sqlite://{}?mode=ro", text(&file));
    let (code, stdout, stderr) = import(Path::new(&url), &data, &[]);
    assert_eq!(code, 1);
    assert!(stdout.starts_with("2 devices brought, with 2 tokens and 3 subscriptions"));
    for words in [
        "not brought: device no-uuid: its UUID is none",
        "not brought: device 00000000-0000-0000-0000-000000000001: ",
        "of device 0238237c-7090-46bc-aea2-847ee11c04a0: the subscription \"gossip\"",
        "of device f3a63684-4618-4f16-ae74-ac7b92090ee0: a token whose hash is not bcrypt's",
    ] {
        assert!(stderr.contains(words), "{words:?} is missing in {stderr}");
    }
    assert_eq!(count(&data, "devices"), 2);
}

#[test]
fn a_dry_run_changes_nothing() {
    let root = TempDir::new().unwrap();
    let [file, data] = ["freshblu.db", "data"].map(|name| root.path().join(name));
    drop(two_devices(&file));
    let (code, stdout, _) = import(&file, &data, &["--dry-run"]);
    assert_eq!(code, 0);
    assert!(stdout.starts_with("2 devices can be brought"), "{stdout}");
    assert!(!data.exists());
    assert_eq!(import(&file, &data, &[]).0, 0);
    let before = files(&data);
    import(&file, &data, &["--dry-run"]);
    assert_eq!(files(&data), before);
}

#[test]
fn what_is_no_file_of_freshblu_is_refused() {
    let root = TempDir::new().unwrap();
    let data = root.path().join("data");
    let refused = |file: &Path, words: &str| {
        let (code, stdout, stderr) = import(file, &data, &[]);
        assert_eq!((code, &*stdout), (1, ""), "{stderr}");
        assert!(stderr.contains(words), "{words:?} is missing in {stderr}");
        assert!(!data.exists(), "nothing is made of it");
    };
    refused(&root.path().join("missing.db"), "is no file");
    refused(Path::new("postgres://host/db"), "only SQLite");
    let file = root.path().join("text.db");
    std::fs::write(&file, "dear reader, this is no database at all").unwrap();
    refused(&file, "not a database");
    let other = root.path().join("other.db");
    let connection = Connection::open(&other).unwrap();
    connection.execute_batch("CREATE TABLE a (b)").unwrap();
    refused(&other, "needs a table devices");
}
