//! A running broker whose configuration is read again, with clients that must not notice.

#![allow(clippy::unwrap_used, reason = "all of this is test code")]

#[path = "admin/client.rs"]
#[allow(dead_code, reason = "what a client can do belongs together")]
mod client;
mod support;

use client::{Client, QoS};
use rumqttc::v5::mqttbytes::v5::PubAckReason;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Instant;
use support::PATIENCE;
use support::configured::{Configured, free_address};
use support::raw::{Raw, connect_packet, packet, subscribe_packet};

/// Both drivers where the kernel has both, with one shard and with two.
const KINDS: [(&str, u16); 4] = [("epoll", 1), ("epoll", 2), ("auto", 1), ("auto", 2)];

/// A file for this driver and so many shards, with what is further said of MQTT and after it.
fn file((driver, shards): (&str, u16), mqtt: &str) -> String {
    format!(
        "[general]\ndriver = \"{driver}\"\nshards = {shards}\ndata = DATA\n\
         [http]\nlisten = [\"127.0.0.1:0\"]\n[mqtt]\n{mqtt}"
    )
}

fn listen(addresses: &[SocketAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    format!("listen = {addresses:?}\n")
}

/// An address of loopback whose port nobody has at any address at this moment.
fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()))
}

/// Waits until nobody listens there any more.
#[track_caller]
fn await_refused(address: SocketAddr) {
    let end = Instant::now() + PATIENCE;
    while TcpStream::connect(address).is_ok() {
        assert!(Instant::now() < end, "{address} still listens");
        std::thread::yield_now();
    }
}

/// The message arrives, whatever else comes.
#[track_caller]
fn arrives(from: &Client, to: &Client, payload: &str) {
    assert_eq!(from.publish("steady/topic", payload), PubAckReason::Success);
    assert_eq!(
        to.message(),
        ("steady/topic".to_owned(), payload.to_owned())
    );
}

/// The answer to a request without credentials.
fn http(address: SocketAddr, method: &str, target: &str) -> String {
    http_with(address, method, target, "")
}

/// The same with further lines in its head.
fn http_with(address: SocketAddr, method: &str, target: &str, heads: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\
         Content-Type: application/json\r\n{heads}\r\n{{}}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A connected client that has shown a device's token.
fn device(mqtt: SocketAddr, http_at: SocketAddr) -> Raw {
    let answer = http(http_at, "POST", "/devices");
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let device: Value = serde_json::from_str(body).unwrap();
    let (uuid, token) = (
        device["uuid"].as_str().unwrap(),
        device["token"].as_str().unwrap(),
    );
    let text = |text: &str| [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat();
    // Version 5, user name and password, clean start, a minute of keep-alive.
    let head = [&text("MQTT")[..], &[5, 0xc2, 0, 60, 0]].concat();
    let body = [head, text(uuid), text(uuid), text(token)].concat();
    let mut raw = Raw::open(mqtt);
    raw.send(&packet(0x10, &body));
    let connack = raw.packet().expect("CONNACK");
    assert_eq!((connack.first, connack.body[1]), (0x20, 0));
    raw
}

fn is_alive(raw: &mut Raw) {
    raw.send(&packet(0xc0, &[]));
    assert_eq!(raw.packet().expect("PINGRESP").first, 0xd0);
}

#[test]
fn listeners_come_and_go_and_connections_stay() {
    for kind in KINDS {
        let first = free_address();
        let loopback = "allow_anonymous = \"loopback\"\n";
        let with = |addresses: &[SocketAddr]| file(kind, &(listen(addresses) + loopback));
        let broker = Configured::start(&with(&[first]), 2);
        let steady = Client::connect(first, "steady", 0);
        steady.subscribe("steady/#", QoS::AtLeastOnce);
        let second = free_address();
        broker.write(&with(&[first, second]));
        broker.hang_up(" reloaded changed=");
        let other = Client::connect(second, "other", 0);
        arrives(&other, &steady, "by the listener that was added");
        broker.write(&with(&[second]));
        broker.hang_up(" reloaded changed=");
        await_refused(first);
        arrives(&other, &steady, "to who came by the one that was removed");
        // The port is free again, and can be had again.
        broker.write(&with(&[second, first]));
        broker.hang_up(" reloaded changed=");
        let third = Client::connect(first, "third", 0);
        arrives(&third, &steady, "again");
    }
}

#[test]
fn a_listener_takes_the_port_of_another_in_one_step() {
    for kind in KINDS {
        let first = free_port();
        let loopback = "allow_anonymous = \"loopback\"\n";
        let with = |addresses: &[SocketAddr]| file(kind, &(listen(addresses) + loopback));
        let broker = Configured::start(&with(&[first]), 2);
        let steady = Client::connect(first, "steady", 0);
        steady.subscribe("steady/#", QoS::AtLeastOnce);
        let everywhere = SocketAddr::from(([0, 0, 0, 0], first.port()));
        let elsewhere = SocketAddr::from(([127, 0, 0, 2], first.port()));
        for (listener, at) in [(everywhere, elsewhere), (first, first)] {
            broker.write(&with(&[listener]));
            broker.hang_up(" reloaded changed=");
            let other = Client::connect(at, "other", 0);
            arrives(&other, &steady, "through what has taken its place");
        }
        await_refused(elsewhere);
        // Another program is in the way of the new one: the old one is there again.
        let program = TcpListener::bind(elsewhere).unwrap();
        broker.write(&with(&[free_address(), everywhere]));
        let (code, _, stderr) = broker.reload(&[]);
        assert_eq!(code, 1, "{stderr}");
        assert!(
            stderr.contains(&format!("{everywhere}: Address")) && !stderr.contains("again"),
            "{stderr}"
        );
        let other = Client::connect(first, "other", 0);
        arrives(&other, &steady, "as before");
        drop(program);
        let (code, _, stderr) = broker.reload(&[]);
        assert_eq!(code, 0, "{stderr}");
        let other = Client::connect(elsewhere, "other", 0);
        arrives(&other, &steady, "in the end");
    }
}

#[test]
fn so_many_connections_as_are_allowed_now() {
    for driver in ["epoll", "auto"] {
        let any = "listen = [\"127.0.0.1:0\"]\nallow_anonymous = true\n";
        let with = |most: u32, sys: u32| {
            let text = file((driver, 1), &format!("{any}sys_interval_s = {sys}\n"));
            format!("{text}[limits]\nconnections_max = {most}\n")
        };
        let broker = Configured::start(&with(3, 0), 2);
        let mqtt = broker.bound[0].1;
        let mut one = Raw::connected(mqtt, "one");
        let mut two = Raw::connected(mqtt, "two");
        broker.write(&with(1, 1));
        let (_, words, _) = broker.reload(&[]);
        for line in [
            "changed: limits.connections_max: 3 -> 1\n",
            "changed: mqtt.sys_interval_s: 0 -> 1\n",
        ] {
            assert!(words.contains(line), "{words}");
        }
        is_alive(&mut one);
        is_alive(&mut two);
        // The shard hears of it a moment after the answer.
        let end = Instant::now() + PATIENCE;
        loop {
            let mut late = TcpStream::connect(mqtt).unwrap();
            // It may be closed before all is written.
            let _ = late.write_all(&connect_packet(5, "late"));
            if !matches!(late.read(&mut [0]), Ok(1)) {
                break;
            }
            assert!(Instant::now() < end, "let in");
        }
        broker.write(&with(3, 1));
        broker.hang_up(" reloaded changed=");
        let end = Instant::now() + PATIENCE;
        loop {
            let mut late = TcpStream::connect(mqtt).unwrap();
            let _ = late.write_all(&connect_packet(5, "late"));
            if matches!(late.read(&mut [0]), Ok(1)) {
                break;
            }
            assert!(Instant::now() < end, "not let in");
        }
        one.send(&subscribe_packet("$SYS/broker/uptime", 0));
        assert_eq!(one.packet().expect("SUBACK").first, 0x90);
        // What is retained, and what comes.
        for _ in 0..2 {
            assert_eq!(one.packet().expect("PUBLISH").first & 0xf0, 0x30);
        }
    }
}

/// The status of a request to the admin API with this token.
fn admin_status(address: SocketAddr, token: &str) -> String {
    let heads = format!("Authorization: Bearer {token}\r\n");
    let answer = http_with(address, "GET", "/v1/shards", &heads);
    answer.get(9..12).unwrap_or_default().to_owned()
}

#[test]
fn operators_come_in_by_other_doors() {
    let any = "listen = [\"127.0.0.1:0\"]\nallow_anonymous = true\n";
    let with = |admin: &str| file(("auto", 1), any) + "[admin]\n" + admin;
    let broker = Configured::start(&with(""), 2);
    let folder = tempfile::TempDir::new().unwrap();
    let (file, socket) = (folder.path().join("token"), folder.path().join("socket"));
    let address = free_port();
    broker.write(&with(&format!("listen = [\"{address}\"]\n")));
    broker.hang_up(" reloaded changed=");
    let drawn = std::fs::read_to_string(broker.data().join("admin.token")).unwrap();
    assert_eq!(admin_status(address, drawn.trim()), "200");
    let mut idle = TcpStream::connect(address).unwrap();
    // Another token, on all addresses, and a socket of one's own.
    std::fs::write(&file, "another token of mine").unwrap();
    let everywhere = SocketAddr::from(([0, 0, 0, 0], address.port()));
    let text = format!("listen = [\"{everywhere}\"]\ntoken_file = {file:?}\nsocket = {socket:?}\n");
    broker.write(&with(&text));
    // Asked where the broker is already, since nobody answers yet where the file says.
    let path = broker.path();
    let by_file = ["--config", path.to_str().unwrap()];
    let (code, words, stderr) = support::run(&[&["reload"], &by_file[..]].concat());
    assert!(
        code == 0 && words.contains("changed: admin.listen"),
        "{words}{stderr}"
    );
    assert_eq!(support::run(&[&["shards"], &by_file[..]].concat()).0, 0);
    assert_eq!(admin_status(address, drawn.trim()), "401");
    assert_eq!(admin_status(address, "another token of mine"), "200");
    // Whoever was connected still is.
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    assert!(matches!(idle.read(&mut [0]), Ok(1)));
    assert!(std::os::unix::net::UnixStream::connect(&socket).is_ok());
    // The token's file alone has changed.
    std::fs::write(&file, "yet another token of mine").unwrap();
    broker.hang_up(" reloaded changed=");
    assert_eq!(admin_status(address, "another token of mine"), "401");
    // Nothing changes if the token cannot be read, or an address cannot be had.
    std::fs::remove_file(&file).unwrap();
    let (code, _, stderr) = broker.reload(&[]);
    assert!(code == 1 && stderr.contains("token"), "{stderr}");
    std::fs::write(&file, "yet another token of mine").unwrap();
    let program = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = program.local_addr().unwrap();
    broker.write(&with(&format!(
        "listen = [\"{address}\", \"{taken}\"]\ntoken_file = {file:?}\n"
    )));
    let (code, _, stderr) = broker.reload(&[]);
    assert!(code == 1 && stderr.contains(&taken.to_string()), "{stderr}");
    assert_eq!(admin_status(address, "yet another token of mine"), "200");
    assert!(std::os::unix::net::UnixStream::connect(&socket).is_ok());
    // The one that is there anyway is no other.
    let kept = broker.data().join("admin.sock");
    broker.write(&with(&format!("socket = {kept:?}\n")));
    broker.hang_up(" reloaded changed=");
    await_refused(address);
    assert!(!socket.exists());
    let (code, _, stderr) = support::run(&[&["reload"], &by_file[..]].concat());
    assert_eq!(code, 0, "{stderr}");
    broker.write(&with(""));
    assert_eq!(broker.reload(&[]).0, 0);
    assert!(kept.exists());
}

#[test]
fn who_is_no_longer_allowed_is_told_so_and_devices_stay() {
    for kind in KINDS {
        let any = "listen = [\"127.0.0.1:0\"]\n";
        let with = |who: &str| file(kind, &format!("{any}allow_anonymous = \"{who}\"\n"));
        let broker = Configured::start(&with("loopback"), 2);
        let (mqtt, http_at) = (broker.bound[0].1, broker.bound[1].1);
        let mut clients: Vec<Raw> = (0..8)
            .map(|n| Raw::connected(mqtt, &format!("client-{n}")))
            .collect();
        let mut device = device(mqtt, http_at);
        broker.write(&with("deny"));
        broker.hang_up(" reloaded changed=");
        for client in &mut clients {
            let disconnect = client.packet().expect("DISCONNECT");
            assert_eq!((disconnect.first, disconnect.body[0]), (0xe0, 0x87));
            assert_eq!(client.packet(), None, "closed");
        }
        let mut late = Raw::open(mqtt);
        late.send(&connect_packet(5, "late"));
        assert_eq!(late.packet().expect("CONNACK").body[1], 0x87);
        is_alive(&mut device);
        broker.write(&with("allow"));
        broker.hang_up(" reloaded changed=");
        Raw::connected(mqtt, "welcome again");
        is_alive(&mut device);
    }
}

#[test]
fn limits_change_for_those_who_are_connected() {
    for kind in KINDS {
        let with = |further: &str| {
            let common = "listen = [\"127.0.0.1:0\"]\nallow_anonymous = true\n";
            file(kind, &format!("{common}{further}"))
        };
        let broker = Configured::start(&with(""), 2);
        let (mqtt, http_at) = (broker.bound[0].1, broker.bound[1].1);
        let mut client = Raw::connected(mqtt, "client");
        let mut subscribe = |filter: &str| {
            client.send(&subscribe_packet(filter, 1));
            *client.packet().expect("SUBACK").body.last().unwrap()
        };
        assert_eq!((subscribe("a"), subscribe("b")), (1, 1));
        assert!(http(http_at, "GET", "/whoami").starts_with("HTTP/1.1 401 "));
        let further = "subscriptions_max = 2\nfree_topics = true\n[devices]\n\
                       open_registration = false\n";
        let text = with(further).replace("[http]\n", "[http]\ndialect = \"meshblu\"\n");
        broker.write(&text);
        let (code, words, stderr) = broker.reload(&[]);
        assert_eq!((code, stderr.as_str()), (0, ""));
        for line in [
            "changed: mqtt.subscriptions_max: 1000000 -> 2\n",
            "changed: http.dialect: \"freshblu\" -> \"meshblu\"\n",
            "changed: devices.open_registration: true -> false\n",
        ] {
            assert!(words.contains(line), "{words}");
        }
        assert_eq!(subscribe("c"), 0x97);
        assert!(http(http_at, "GET", "/whoami").starts_with("HTTP/1.1 403 "));
        assert!(!http(http_at, "POST", "/devices").starts_with("HTTP/1.1 201 "));
    }
}

#[test]
fn what_needs_a_restart_is_said_and_nothing_else_is_lost() {
    let any = "listen = [\"127.0.0.1:0\"]\nallow_anonymous = true\n";
    let broker = Configured::start(&file(("auto", 1), any), 2);
    let mut client = Raw::connected(broker.bound[0].1, "client");
    let text = file(("epoll", 2), any) + "[devices]\nrate_limit = 7\npepper = \"hunter2\"\n";
    broker.write(&text);
    let (code, json, _) = broker.reload(&["--json"]);
    assert_eq!(code, 0);
    assert!(!json.contains("hunter2") && !broker.log().contains("hunter2"));
    let answer: Value = serde_json::from_str(&json).unwrap();
    let keys = |list: &str| -> Vec<String> {
        let list = answer[list].as_array().unwrap().iter();
        list.map(|one| one["key"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(keys("changed"), ["devices.rate_limit"]);
    let expected = ["general.shards", "general.driver", "devices.pepper"];
    assert_eq!(keys("needs_restart"), expected);
    assert_eq!(answer["needs_restart"][0]["old"], 1);
    assert_eq!(answer["needs_restart"][0]["new"], 2);
    assert_eq!(answer["listeners"].as_array().unwrap().len(), 2);
    assert_eq!(
        answer["listeners"][0]["address"],
        broker.bound[0].1.to_string()
    );
    is_alive(&mut client);
    // The same again: what needs a restart still does, and nothing changes.
    let (_, words, _) = broker.reload(&[]);
    assert!(
        words.contains("needs a restart: general.shards: 1 -> 2\n"),
        "{words}"
    );
    assert!(!words.contains("changed: devices"), "{words}");
}

#[test]
fn with_an_error_everything_stays_as_it_was() {
    for kind in KINDS {
        let any = "listen = [\"127.0.0.1:0\"]\nallow_anonymous = true\n";
        let broker = Configured::start(&file(kind, any), 2);
        let mqtt = broker.bound[0].1;
        let mut client = Raw::connected(mqtt, "client");
        // Half of it would be right.
        let wrong = "listen = []\nallow_anonymous = false\nreceive_maximum = 0\n";
        broker.write(&file(kind, wrong));
        broker.hang_up("not reloaded: everything is as it was");
        let line = "meshring.toml:10: mqtt.receive_maximum = 0: expected a number from 1";
        assert!(broker.log().contains(line), "{}", broker.log());
        let (code, stdout, stderr) = broker.reload(&[]);
        assert_eq!((code, stdout.as_str()), (1, ""));
        assert!(stderr.contains(line), "{stderr}");
        broker.write("[mqtt\nlisten = [");
        broker.hang_up("not reloaded: everything is as it was");
        // An address that another program has.
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = other.local_addr().unwrap();
        let text = listen(&[taken]) + "allow_anonymous = false\n";
        broker.write(&file(kind, &text));
        let (code, _, stderr) = broker.reload(&[]);
        assert!(
            code == 1 && stderr.contains(&taken.to_string()),
            "{code} {stderr}"
        );
        is_alive(&mut client);
        Raw::connected(mqtt, "another");
    }
}

#[test]
fn where_no_broker_is_nobody_reloads() {
    let folder = tempfile::TempDir::new().unwrap();
    let data = folder.path().to_str().unwrap();
    let (code, _, stderr) = support::run(&["reload", "--data", data]);
    assert!(
        code == 3 && stderr.contains("no broker answers"),
        "{stderr}"
    );
}
