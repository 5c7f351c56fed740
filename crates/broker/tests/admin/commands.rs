//! The commands of operators.

use crate::api::Target;
use crate::client::{Client, QoS};
use crate::support::run;
use serde_json::{Value, json};

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn what_is_there_is_listed_for_people_and_for_scripts() {
    let target = Target::start(&["--shards", "2"]);
    let mqtt = target.broker.mqtt;
    let clients: Vec<Client> = (0..5)
        .map(|n| Client::connect(mqtt, &format!("c{n}"), 60))
        .collect();
    clients[2].subscribe("a/#", QoS::AtLeastOnce);
    clients[2].retain("r/1", "payload");
    let ok = |words: &[&str]| {
        let (code, stdout, stderr) = target.command(words);
        assert_eq!((code, &*stderr), (0, ""), "{words:?}");
        stdout
    };
    let table = ok(&["clients"]);
    assert!(table.starts_with("CLIENT  CONNECTED  PROTOCOL"), "{table}");
    assert_eq!(table.lines().count(), 6);
    assert_eq!(
        lines(&ok(&["clients", "list", "--prefix", "c2", "--json"]))[0]["client"],
        "c2"
    );
    assert!(ok(&["clients", "show", "c2"]).contains("connection\n"));
    let rows = lines(&ok(&[
        "clients",
        "subscriptions",
        "--client",
        "c2",
        "--json",
    ]));
    assert_eq!(rows[0]["filter"], "a/#");
    assert_eq!(lines(&ok(&["shards", "--json"])).len(), 2);
    assert!(ok(&["retained", "list", "r/#"]).contains("r/1"));
    assert_eq!(ok(&["retained", "get", "r/1"]), "payload");
    assert_eq!(
        lines(&ok(&["retained", "delete", "#", "--json"])),
        [json!({ "deleted": 1 })]
    );
    assert_eq!(ok(&["sessions", "--json"]), "");
    assert!(ok(&["clients", "disconnect", "c2"]).contains("disconnected"));
    assert_eq!(lines(&ok(&["sessions", "--json"])).len(), 1);
    assert!(ok(&["slow"]).starts_with("CLIENT"));
    assert_eq!(
        lines(&ok(&["log", "info,net=debug", "--json"]))[0]["filter"],
        "info,net=debug"
    );
    assert!(ok(&["log"]).contains("net=debug"));
    let done = ok(&["drain", "begin", "--rate", "100", "--wait", "--json"]);
    assert_eq!(lines(&done)[0]["clients"], 0);
    assert!(ok(&["drain"]).contains("done"));
    ok(&["drain", "end"]);
}

/// Who may not open the socket hears that, and not that no broker is there. Only root can try.
fn not_for_strangers(data: &str) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    use std::os::unix::process::CommandExt;
    let mut command = crate::support::meshring();
    let output = command
        .args(["shards", "--data", data])
        .uid(65_534)
        .output();
    // The program itself may lie where that user cannot go.
    let Ok(output) = output else { return };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("not for you to open"), "{stderr}");
}

#[test]
fn failures_have_their_exit_codes() {
    let target = Target::start(&["--admin", "127.0.0.1:0"]);
    let fails = |words: &[&str], code: i32, says: &str| {
        let (got, _, stderr) = run(words);
        assert_eq!(got, code, "{words:?}: {stderr}");
        assert!(stderr.contains(says), "{stderr:?} should say {says:?}");
    };
    let data = target.data.path().to_str().unwrap();
    fails(
        &["clients", "show", "nobody", "--data", data],
        5,
        "no such client",
    );
    fails(&["log", "loud=very", "--data", data], 1, "no log filter");
    fails(&["log", "ifno", "--data", data], 1, "`ifno` is no level");
    fails(&["log", "", "--data", data], 1, "is no level");
    fails(&["clients", "--data", "/nowhere"], 3, "/nowhere/admin.sock");
    fails(&["retained", "--data", data], 2, "");
    not_for_strangers(data);
    fails(&["slow", "--limit", "0", "--data", data], 2, "");
    let admin = target.broker.admin.unwrap().to_string();
    let (code, stdout, stderr) = run(&["shards", "--data", data, "--admin", &admin]);
    assert_eq!((code, &*stderr), (0, ""), "{stdout}");
    let url = format!("http://{admin}/");
    assert_eq!(run(&["shards", "--data", data, "--admin", &url]).0, 0);
    let wrong = target.data.path().join("wrong");
    std::fs::write(&wrong, "not the right token").unwrap();
    let wrong = wrong.to_str().unwrap();
    fails(
        &["shards", "--admin", &admin, "--admin-token-file", wrong],
        4,
        "token",
    );
    fails(
        &["shards", "--admin", &admin, "--data", "/nowhere"],
        2,
        "/nowhere/admin.token",
    );
    fails(
        &["shards", "--admin", "127.0.0.1:1", "--data", data],
        3,
        "127.0.0.1:1",
    );
}
