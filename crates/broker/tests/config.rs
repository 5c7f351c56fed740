//! The configuration as its users meet it: `meshring config`, files, variables and flags of a
//! running broker, and listeners with a dialect of their own.

#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use support::raw::{Raw, connect_packet};
use support::{meshring, run};
use tempfile::TempDir;

/// A file in a folder that vanishes with the test.
fn file(text: &str) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("meshring.toml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

fn output(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn a_check_finds_all_that_is_wrong() {
    let (_folder, path) = file("[mqtt]\nlisen = []\n[general]\nshards = 0\ndriver = \"kqueue\"\n");
    let name = path.to_str().unwrap();
    let (code, stdout, stderr) = run(&["config", "check", name]);
    assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
    for words in [
        format!("{name}:2: there is no mqtt.lisen; did you mean mqtt.listen?"),
        format!("{name}:4: general.shards = 0: expected"),
        format!("{name}:5: general.driver = \"kqueue\": expected"),
    ] {
        assert!(stderr.contains(&words), "{words} in {stderr}");
    }
    // The broker does not start with it either, and says the same.
    let (code, _, said) = run(&["serve", "--dev", "--config", name]);
    assert_eq!((code, said), (2, stderr));
    let (code, _, stderr) = run(&["config", "check", "nowhere.toml"]);
    assert!(
        code == 2 && stderr.contains("nowhere.toml: cannot be read"),
        "{stderr}"
    );
}

#[test]
fn what_webhooks_need_must_be_what_it_is_called() {
    let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/keys");
    let check = |text: &str| {
        let (_folder, path) = file(&format!("[webhooks]\n{text}\n"));
        run(&["config", "check", path.to_str().unwrap()])
    };
    let in_file = |path: &Path| format!("private_key_file = {path:?}");
    for (name, why) in [
        ("short.pem", "needs 2048 bits or more"),
        ("ec.pem", "not an RSA key"),
        ("encrypted.pem", "the key is encrypted"),
        ("public.pem", "no private key in PEM"),
        ("nowhere.pem", "No such file"),
        (".", "it is no file"),
    ] {
        let (code, _, said) = check(&in_file(&keys.join(name)));
        let words = "meshring.toml:2: webhooks.private_key_file = ";
        assert!(code == 2 && said.contains(words), "{name}: {said}");
        assert!(said.contains(why), "{name}: {said}");
    }
    let (code, _, said) = check("private_key = \"a secret\"");
    assert!(
        code == 2 && said.contains("webhooks.private_key: no private key"),
        "{said}"
    );
    assert!(!said.contains("a secret"), "{said}");
    for (name, why) in [
        ("pkcs8.pem", "no certificate in PEM"),
        ("nowhere.pem", "No such file"),
    ] {
        let (code, _, said) = check(&format!("ca_file = {:?}", keys.join(name)));
        let words = "meshring.toml:2: webhooks.ca_file = ";
        assert!(code == 2 && said.contains(words), "{name}: {said}");
        assert!(said.contains(why), "{name}: {said}");
    }
    let good = in_file(&keys.join("pkcs8.pem"));
    let (code, _, said) = check(&format!("{good}\nprivate_key = \"x\""));
    assert!(code == 2 && said.contains("not both"), "{said}");
    let (code, _, said) = check(&good);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn the_example_is_well_and_says_the_defaults() {
    let (code, example, _) = run(&["config", "example"]);
    assert_eq!(code, 0);
    let (_folder, path) = file(&example);
    let (code, stdout, stderr) = run(&["config", "check", path.to_str().unwrap()]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.ends_with(": all is well\n"), "{stdout}");
}

#[test]
fn the_file_of_mcloudtt_is_understood_but_for_tls() {
    let tls = "[tls]\ncertfile = \"a.crt\"\nkeyfile = \"a.key\"\n";
    let rest = "[general]\nwebsocket = true\ntimeout = 10\n[ports]\ntcp = 1884\nws = 8081\n\
                [redis]\nhost = \"redis\"\nport = 6379\n";
    let (_folder, path) = file(&format!("{tls}{rest}"));
    let (code, _, stderr) = run(&["config", "check", path.to_str().unwrap()]);
    assert!(
        code == 2 && stderr.contains(":2: tls.certfile: this broker has no TLS"),
        "{stderr}"
    );
    std::fs::write(&path, rest).unwrap();
    let (code, shown, stderr) = run(&["config", "show", "--config", path.to_str().unwrap()]);
    assert!(
        code == 0 && stderr.contains("warning: ") && stderr.contains("Redis"),
        "{stderr}"
    );
    for line in [
        "listen = [\"0.0.0.0:1884\"]",
        "listen = [\"0.0.0.0:8081\"]",
        "keep_alive_max_s = 10",
    ] {
        assert!(shown.contains(line), "{line} in {shown}");
    }
}

#[test]
fn what_counts_is_shown_with_its_origin_and_without_secrets() {
    let (_folder, path) = file("[devices]\nrate_limit = 7\npepper = \"salt\"\n");
    let mut command = meshring();
    command
        .env("MESHRING_CONFIG", &path)
        .env("MESHRING_MQTT__FREE_TOPICS", "deny")
        .args(["config", "show", "--dev", "--shards", "3", "--log", "warn"]);
    let (code, shown, stderr) = output(&mut command);
    assert_eq!(code, 0, "{stderr}");
    assert!(!shown.contains("salt"), "{shown}");
    let line = |key: &str| {
        let found = shown
            .lines()
            .find(|line| line.starts_with(&format!("{key} = ")));
        found
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(
        line("rate_limit"),
        format!("rate_limit = 7 # {}:2", path.display())
    );
    assert_eq!(
        line("free_topics"),
        "free_topics = \"deny\" # MESHRING_MQTT__FREE_TOPICS"
    );
    assert_eq!(line("shards"), "shards = 3 # --shards");
    assert_eq!(line("log"), "log = \"warn\" # --log");
    assert_eq!(line("data"), "data = \"./data\" # default with --dev");
    let (_, json, _) = output(command.arg("--json"));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let keys = json["keys"].as_array().unwrap();
    let limit = keys
        .iter()
        .find(|key| key["key"] == "devices.rate_limit")
        .unwrap();
    assert_eq!(limit["value"], 7);
    assert_eq!(limit["origin"]["line"], 2);
}

#[test]
fn alone_config_is_about_the_client() {
    let (code, stdout, stderr) = run(&["config", "-U", "0238237c-7090-46bc-aea2-847ee11c04a0"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(
        stdout.contains("0238237c-7090-46bc-aea2-847ee11c04a0"),
        "{stdout}"
    );
}

/// A broker that is told all by a file.
struct Configured {
    child: Child,
    bound: Vec<(String, SocketAddr)>,
}

impl Configured {
    fn start(path: &Path, listeners: usize) -> Configured {
        let mut command = meshring();
        command
            .args(["serve", "--config"])
            .arg(path)
            .stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .take(listeners);
        let bound = lines.map(|line| {
            let line = line.unwrap();
            let (kind, address) = line.split_once(' ').unwrap();
            (kind.to_owned(), address.parse().unwrap())
        });
        let bound = bound.collect();
        Configured { child, bound }
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first line of the answer to whoever asks who it is without credentials.
fn stranger(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = b"GET /whoami HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap().to_owned()
}

#[test]
fn a_broker_is_what_its_file_says() {
    let (folder, path) = file("");
    let text = format!(
        "[general]\nshards = 2\ndata = {:?}\n[mqtt]\nlisten = [\"127.0.0.1:0\"]\n\
         allow_anonymous = \"loopback\"\nkeep_alive_max_s = 33\n[http]\nlisten = [\"127.0.0.1:0\", \
         {{ address = \"127.0.0.1:0\", dialect = \"meshblu\" }}]\n[devices]\nopen_registration = false\n",
        folder.path().join("data")
    );
    std::fs::write(&path, text).unwrap();
    let broker = Configured::start(&path, 3);
    let kinds: Vec<&str> = broker.bound.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["mqtt", "http", "http"]);
    let mut client = Raw::open(broker.bound[0].1);
    client.send(&connect_packet(5, "client"));
    let connack = client.packet().unwrap();
    // Server Keep Alive, 33 seconds.
    assert!(
        connack
            .body
            .windows(3)
            .any(|property| property == [0x13, 0, 33]),
        "{connack:?}"
    );
    // FreshBlu and Meshblu have different words for whoever has no credentials.
    assert_eq!(stranger(broker.bound[1].1), "HTTP/1.1 401 Unauthorized");
    assert_eq!(stranger(broker.bound[2].1), "HTTP/1.1 403 Forbidden");
    assert!(folder.path().join("data/manifest.json").exists());
}
