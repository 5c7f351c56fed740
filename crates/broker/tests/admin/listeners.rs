//! Who may ask, and what becomes of nonsense.

use crate::api::{Target, call_at, mode, raw};
use crate::support::{Broker, PATIENCE, SERVE, run};
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Instant;

#[test]
fn the_socket_is_for_its_owner_and_goes_with_the_broker() {
    let mut target = Target::start(&[]);
    assert_eq!(mode(&target.socket()), 0o600);
    assert_eq!(target.call("GET", "/healthz", "").body, "ok\n");
    assert_eq!(target.call("GET", "/readyz", "").body, "ready\n");
    // Nobody has asked for an address, so there is no token.
    assert!(!target.data.path().join("admin.token").exists());
    target.broker.signal("TERM");
    assert!(target.broker.wait().0.success());
    assert!(!target.socket().exists());
}

#[test]
fn strangers_at_the_address_keep_nobody_from_the_socket() {
    let target = Target::start(&["--admin", "127.0.0.1:0"]);
    let address = target.broker.admin.unwrap();
    let mut idle: Vec<TcpStream> = Vec::new();
    for _ in 0..128 {
        idle.push(TcpStream::connect(address).unwrap());
    }
    // The next one finds no room: it is closed without a word.
    let mut next = TcpStream::connect(address).unwrap();
    next.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut word = [0];
    let read = next.read(&mut word).map_err(|error| error.kind());
    assert!(
        matches!(read, Ok(0) | Err(ErrorKind::ConnectionReset)),
        "{read:?}"
    );
    assert_eq!(target.call("GET", "/v1/shards", "").status, 200);
    drop(idle);
}

#[test]
fn an_address_wants_the_token_for_all_but_metrics_and_health() {
    let target = Target::start(&["--admin", "127.0.0.1:0", "--shards", "2"]);
    let address = target.broker.admin.unwrap();
    let file = target.data.path().join("admin.token");
    assert_eq!(mode(&file), 0o600);
    let token = std::fs::read_to_string(&file).unwrap();
    let token = token.trim();
    for open in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(call_at(address, "GET", open, "").status, 200, "{open}");
    }
    let metrics = call_at(address, "GET", "/metrics", "").body;
    assert!(
        metrics.contains("meshring_mqtt_connects_total"),
        "{metrics}"
    );
    let wrong = format!("{}0", &token[1..]);
    for heads in [
        String::new(),
        "Authorization: Bearer\r\n".to_owned(),
        "Authorization: Bearer \r\n".to_owned(),
        format!("Authorization: Bearer {wrong}\r\n"),
        format!("Authorization: Bearer {token}x\r\n"),
        format!("Authorization: Basic {token}\r\n"),
        format!("Authorization: {token}\r\n"),
    ] {
        for (method, closed) in [
            ("GET", "/v1/clients"),
            ("GET", "/v1/shards"),
            ("PUT", "/v1/log"),
            ("GET", "/v1/nonsense"),
            ("DELETE", "/"),
        ] {
            let got = call_at(address, method, closed, &heads);
            assert!(got.error(401).contains("token"), "{heads}{closed}");
        }
    }
    let right = format!("Authorization: bearer {token}\r\n");
    assert_eq!(call_at(address, "GET", "/v1/clients", &right).status, 200);
    call_at(address, "GET", "/v1/nonsense", &right).error(404);
    call_at(address, "POST", "/v1/clients", &right).error(405);
}

#[test]
fn a_token_of_ones_own_is_used() {
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "a token of my own\n").unwrap();
    let file = file.to_str().unwrap();
    let flags = [
        "--admin",
        "127.0.0.1:0",
        "--admin-token-file",
        file,
        "--durability",
        "memory",
    ];
    let broker = Broker::start(&[&flags[..], &["--log", "warn"]].concat());
    let address = broker.admin.unwrap();
    let heads = "Authorization: Bearer a token of my own\r\n";
    assert_eq!(call_at(address, "GET", "/v1/shards", heads).status, 200);
    call_at(address, "GET", "/v1/shards", "").error(401);
    drop(broker);
    // Without a directory there is nowhere to keep a token.
    let flags = [
        "--admin",
        "127.0.0.1:0",
        "--durability",
        "memory",
        "--log",
        "error",
    ];
    let broker = Broker::start(&flags);
    let address = broker.admin.unwrap();
    assert_eq!(call_at(address, "GET", "/metrics", "").status, 200);
    let why = call_at(address, "GET", "/v1/shards", heads).error(403);
    assert!(why.contains("--admin-token-file"), "{why}");
}

#[test]
fn a_start_that_cannot_listen_says_why() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    let serve = [&SERVE[..], &["--durability", "memory", "--admin"]].concat();
    let check = |flags: &[&str], code: i32, words: &[&str]| {
        let (got, _, stderr) = run(&[&serve[..], flags].concat());
        assert_eq!(got, code, "{stderr}");
        for word in words {
            assert!(stderr.contains(word), "{stderr:?} should say {word:?}");
        }
    };
    check(&[&taken], 1, &["--admin", &taken, "in use"]);
    drop(listener);
    check(
        &["127.0.0.1:0", "--admin-token-file", "/nowhere/token"],
        1,
        &["--admin-token-file", "/nowhere/token"],
    );
    check(&["nonsense"], 2, &["--admin", "nonsense"]);
}

#[test]
fn nonsense_is_answered_or_closed_and_hurts_nobody() {
    let target = Target::start(&[]);
    let connect = || UnixStream::connect(target.socket()).unwrap();
    assert_eq!(raw(connect(), "nonsense\r\n\r\n").status, 400);
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(1 << 20));
    let status = {
        use std::io::{Read, Write};
        let mut stream = connect();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // It may be closed before all is written.
        let _ = stream.write_all(long.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    assert!(status.is_empty() || status.contains(" 4"), "{status}");
    for (method, path, body, code) in [
        ("GET", "/v1/clients?limit=0", "", 400),
        ("GET", "/v1/clients?limit=many", "", 400),
        ("GET", "/v1/clients?after=x", "", 400),
        ("GET", "/v1/clients?after=0.x", "", 400),
        ("GET", "/v1/clients?colour=red", "", 400),
        ("GET", "/v1/clients?connected=perhaps", "", 400),
        ("PUT", "/v1/log", "{", 400),
        ("PUT", "/v1/log", "{}", 422),
        ("PUT", "/v1/log", r#"{"filter":"loud=very"}"#, 400),
        ("GET", "/v2", "", 404),
    ] {
        let got = target.call(method, path, body);
        assert!(!got.error(code).is_empty(), "{method} {path}");
    }
    // A cursor behind the end is an end.
    assert_eq!(
        target.get("/v1/clients?after=77.5")["next"],
        serde_json::Value::Null
    );
    let body = "x".repeat(100_000);
    target.call("PUT", "/v1/log", &body).error(413);
    assert_eq!(target.get("/v1/log")["filter"], "warn");
}

#[test]
fn many_idle_connections_do_not_lock_operators_out_for_ever() {
    let target = Target::start(&["--admin", "127.0.0.1:0"]);
    let address = target.broker.admin.unwrap();
    let begin = Instant::now();
    let idle: Vec<TcpStream> = (0..200)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    // Those that sent nothing are closed after some seconds.
    loop {
        let mut stream = UnixStream::connect(target.socket()).unwrap();
        use std::io::{Read, Write};
        let mut answer = String::new();
        let sent =
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        if sent.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.ends_with("ok\n") {
            break;
        }
        assert!(begin.elapsed() < PATIENCE, "locked out");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    drop(idle);
}

#[test]
fn a_broker_that_keeps_nothing_has_a_socket_where_one_is_named() {
    let folder = tempfile::TempDir::new().unwrap();
    let (socket, file) = (folder.path().join("socket"), folder.path().join("m.toml"));
    let path = socket.to_str().unwrap();
    let flags = ["--durability", "memory", "--admin-socket", path];
    let mut broker = Broker::start(&[&flags[..], &["--log", "error"]].concat());
    assert_eq!(mode(&socket), 0o600);
    let (code, stdout, stderr) = run(&["shards", "--admin-socket", path]);
    assert!(code == 0 && stdout.contains("SHARD"), "{stderr}");
    // The configuration may say where it is.
    let words = format!("[durability]\nmode = \"memory\"\n[admin]\nsocket = {socket:?}\n");
    std::fs::write(&file, words).unwrap();
    let (code, _, stderr) = run(&["shards", "--config", file.to_str().unwrap()]);
    assert_eq!(code, 0, "{stderr}");
    // Nobody takes it from a broker that runs.
    let (code, _, stderr) = run(&[&SERVE[..], &flags].concat());
    assert!(code == 1 && stderr.contains("admin.socket"), "{stderr}");
    let other = folder.path().join("file");
    std::fs::write(&other, "precious").unwrap();
    let named = [
        "--durability",
        "memory",
        "--admin-socket",
        other.to_str().unwrap(),
    ];
    let (code, _, stderr) = run(&[&SERVE[..], &named].concat());
    assert!(code == 1 && stderr.contains("no socket"), "{stderr}");
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "precious");
    broker.signal("TERM");
    assert!(broker.wait().0.success());
    assert!(!socket.exists());
    // One that was killed leaves its socket behind, and is in nobody's way.
    let mut broker = Broker::start(&[&flags[..], &["--log", "error"]].concat());
    broker.kill();
    assert!(socket.exists());
    let (code, _, stderr) = run(&["shards", "--admin-socket", path]);
    assert!(code == 3 && stderr.contains("--admin-socket"), "{stderr}");
    let _broker = Broker::start(&[&flags[..], &["--log", "error"]].concat());
    assert_eq!(run(&["shards", "--admin-socket", path]).0, 0);
}
