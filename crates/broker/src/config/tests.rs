//! Who counts, and what is refused: flags, variables and files together.

use super::choices::{AnonymousClients, DialectName, Permission};
use super::flags::LogFlags;
use super::keys::{Config, KEYS};
use super::problem::{Origin, Problem};
use super::sources::{Environment, Loaded, Sources};
use crate::arguments::{Arguments, Command};
use clap::{CommandFactory, Parser};
use sha2::{Digest, Sha256};
use shard::{Anonymous, Dialect, MeshConfig};
use std::path::PathBuf;

/// Loads a configuration from flags, variables, and the text of a file.
fn load(line: &str, variables: &[(&str, &str)], text: &str) -> Result<Loaded, Vec<Problem>> {
    let words = ["meshring", "serve"]
        .into_iter()
        .chain(line.split_whitespace());
    let Command::Serve(arguments) = Arguments::try_parse_from(words).unwrap().command else {
        panic!("{line}");
    };
    let mut sources = arguments.sources(&LogFlags::default());
    sources.environment = Environment::of(
        variables
            .iter()
            .map(|(name, value)| (name.into(), value.into())),
    );
    sources.layer(
        super::file::parse("a.toml", text),
        Some(PathBuf::from("a.toml")),
    )
}

#[track_caller]
fn loaded(line: &str, variables: &[(&str, &str)], text: &str) -> Loaded {
    load(line, variables, text).unwrap_or_else(|problems| panic!("{}", lines(&problems).join("\n")))
}

fn lines(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(Problem::to_string).collect()
}

/// All that is wrong with a file.
#[track_caller]
fn wrong(text: &str) -> Vec<String> {
    lines(&load("", &[], text).expect_err("it should be refused"))
}

#[test]
fn without_a_word_everything_has_its_default() {
    let found = loaded("", &[("MESHRING_RATE_LIMIT", "")], "");
    assert_eq!(found.config, Config::defaults(false));
    assert!(
        found
            .origins
            .iter()
            .all(|origin| *origin == Origin::Default)
    );
    assert_eq!(found.config.anonymous(), Anonymous::Deny);
    let dev = loaded("--dev", &[], "");
    assert_eq!(dev.config.anonymous(), Anonymous::Loopback);
    assert_eq!(*dev.origin("general.data"), Origin::Dev);
    assert_eq!(*dev.origin("general.shards"), Origin::Default);
}

#[test]
fn a_flag_counts_before_a_variable_and_that_before_a_file() {
    let file = "[devices]\nrate_limit = 5\n";
    let older = ["MESHRING_RATE_LIMIT", "FRESHBLU_RATE_LIMIT"];
    let ours = "MESHRING_DEVICES__RATE_LIMIT";
    for (line, variables, text, limit, origin) in [
        ("", &[][..], "", 1_200, "default"),
        ("", &[], file, 5, "a.toml:2"),
        ("", &[(older[1], "7")], file, 7, older[1]),
        ("", &[(older[1], "7"), (older[0], "8")], file, 8, older[0]),
        ("", &[(older[1], "7"), (older[0], "")], file, 7, older[1]),
        ("", &[(older[0], "8"), (ours, "9")], file, 9, ours),
        ("--rate-limit 10", &[(ours, "9")], file, 10, "--rate-limit"),
        // What is overridden is not read.
        ("--rate-limit 10", &[(ours, "many")], "", 10, "--rate-limit"),
        ("", &[(older[0], "many"), (ours, " 9 ")], "", 9, ours),
    ] {
        let found = loaded(line, variables, text);
        assert_eq!(
            found.config.devices.rate_limit, limit,
            "{line} {variables:?}"
        );
        assert_eq!(found.origin("devices.rate_limit").to_string(), origin);
    }
}

#[test]
fn a_slip_in_a_variable_is_warned_about_and_strangers_are_not() {
    for (name, meant) in [
        ("MESHRING_ANONYMUS", Some("MESHRING_ANONYMOUS")),
        ("MESHRING_MQTT_LISTEN", Some("MESHRING_MQTT__LISTEN")),
        ("MESHRING_MQTT_PORTS", Some("MESHRING_MQTT_PORT")),
        ("MESHRING_MQTT_LISTN", Some("MESHRING_MQTT__LISTEN")),
        ("MESHRING_CONFG", Some("MESHRING_CONFIG")),
        ("MESHRING_ANONYMOUS", None),
        ("MESHRING_CONFIG", None),
        ("MESHRING_ADMIN_URL", None),
        // Kubernetes makes these of a service with that name.
        ("MESHRING_PORT", None),
        ("MESHRING_SERVICE_HOST", None),
        ("MESHRING_SERVICE_PORT_MQTT", None),
    ] {
        let warnings = lines(&loaded("", &[(name, "deny")], "").warnings);
        match meant {
            Some(meant) => assert!(
                warnings.len() == 1 && warnings[0].ends_with(&format!("did you mean {meant}?")),
                "{name}: {warnings:?}"
            ),
            None => assert!(warnings.is_empty(), "{name}: {warnings:?}"),
        }
    }
}

#[test]
fn a_file_is_checked_also_where_others_count() {
    let problems = load("--rate-limit 10", &[], "[devices]\nrate_limit = 0\n").unwrap_err();
    assert!(lines(&problems)[0].starts_with("a.toml:2: devices.rate_limit = 0: expected"));
}

#[test]
fn every_older_variable_is_read() {
    let variables = [
        ("FRESHBLU_HTTP_PORT", "8081"),
        ("FRESHBLU_MQTT_PORT", "0"),
        ("FRESHBLU_OPEN_REGISTRATION", "false"),
        ("FRESHBLU_MAX_MESSAGE_SIZE", "2048"),
        ("FRESHBLU_RATE_WINDOW", "5"),
        ("FRESHBLU_PUBLIC_KEY", "key"),
        ("FRESHBLU_PEPPER", "salt"),
        ("MESHRING_REGISTRATION_LIMIT", "6"),
        ("MESHRING_DEFAULT_WHITELISTS", "private"),
        ("MESHRING_FREE_TOPICS", "deny"),
        ("MESHRING_ANONYMOUS", "allow"),
        ("MESHRING_DIALECT", "Meshblu"),
        ("MESHRING_WEBHOOKS_TO_PRIVATE", "allow"),
        ("RUST_LOG", "debug"),
    ];
    let found = loaded("--dev", &variables, "");
    let addresses: Vec<String> = found
        .config
        .listeners()
        .iter()
        .map(|(_, address)| address.to_string())
        .collect();
    assert_eq!(addresses, ["127.0.0.1:0", "127.0.0.1:8081"]);
    assert_eq!(found.config.anonymous(), Anonymous::Allow);
    assert_eq!(found.config.general.log.0, "debug");
    assert!(found.config.may_call_private() && found.warnings.is_empty());
    let expected = MeshConfig {
        is_registration_open: false,
        is_private_by_default: true,
        has_free_topics: false,
        dialect: Dialect::Meshblu,
        rate_window_s: 5,
        registrations_max: 6,
        message_bytes_max: 2_048,
        public_key: Some("key".into()),
        ..MeshConfig::default()
    };
    assert_eq!(
        format!("{:?}", found.config.mesh(None)),
        format!("{expected:?}")
    );
    let pepper = found.config.pepper().unwrap();
    assert_eq!(pepper.0, <[u8; 32]>::from(Sha256::digest("salt")));
    let public = loaded("", &[("FRESHBLU_PEPPER", "change-me-in-production")], "");
    assert!(lines(&public.warnings)[0].contains("everybody can read"));
    // Without --dev a port is one of all addresses.
    let found = loaded(
        "",
        &[("MESHRING_MQTT_PORT", "1")],
        "[mqtt]\nlisten = [\"[::1]:2\"]",
    );
    assert_eq!(found.config.mqtt.listen, ["0.0.0.0:1".parse().unwrap()]);
}

#[test]
fn a_variable_that_makes_no_sense_is_named() {
    for (name, text, words) in [
        (
            "FRESHBLU_HTTP_PORT",
            "http",
            "expected a number from 0 to 65535",
        ),
        (
            "MESHRING_MQTT_PORT",
            "65536",
            "expected a number from 0 to 65535",
        ),
        (
            "MESHRING_OPEN_REGISTRATION",
            "maybe",
            "expected true or false",
        ),
        ("MESHRING_RATE_LIMIT", "0", "expected a number from 1 to"),
        (
            "FRESHBLU_MAX_MESSAGE_SIZE",
            "-1",
            "expected a number from 1024 to",
        ),
        (
            "MESHRING_ANONYMOUS",
            "root",
            "expected allow or loopback or deny",
        ),
        ("MESHRING_DIALECT", "skynet", "expected freshblu or meshblu"),
        ("MESHRING_FREE_TOPICS", "yes", "expected allow or deny"),
        (
            "MESHRING_GENERAL__SHARDS",
            "none",
            "expected auto or a number from 1 to 128",
        ),
        (
            "MESHRING_MQTT__LISTEN",
            "localhost:1",
            "expected an IP address and a port",
        ),
        ("MESHRING_GENERAL__LOG", "a=b=c", "`a=b=c` is no log filter"),
    ] {
        let error = lines(&load("", &[(name, text)], "").unwrap_err()).remove(0);
        assert_eq!(
            error.split_once(words).unwrap().0,
            format!("{name}={text}: ")
        );
    }
    // That one is for all programs, and others read more in it.
    let loaded = loaded("", &[("RUST_LOG", "my_tool")], "");
    assert!(lines(&loaded.warnings)[0].contains("RUST_LOG=my_tool: `my_tool` is no level"));
    assert_eq!(
        loaded.config.general.log,
        Config::defaults(false).general.log
    );
    let unknown = load(
        "",
        &[("MESHRING_MQTT__LISTN", "x"), ("MESHRING_SERVER", "x")],
        "",
    );
    assert_eq!(
        lines(&unknown.unwrap_err()),
        ["MESHRING_MQTT__LISTN: there is no such setting; did you mean MESHRING_MQTT__LISTEN?"]
    );
}

#[test]
fn every_key_has_its_variable() {
    let variables: Vec<(String, String)> = KEYS
        .iter()
        .filter(|key| !key.is_secret)
        .map(|key| {
            let plain = super::flags::plain(&(key.show)(&Config::default()));
            (key.variable(), plain)
        })
        .collect();
    let variables: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let found = loaded("", &variables, "");
    assert_eq!(found.config, Config::default());
    let lists = [
        ("MESHRING_MQTT__LISTEN", "0.0.0.0:1883, [::]:1883"),
        ("MESHRING_DURABILITY__PREFIXES", "a/=interval,b/=commit"),
        ("MESHRING_DEVICES__PEPPER", " not trimmed "),
    ];
    let found = loaded("", &lists, "");
    assert_eq!(found.config.mqtt.listen.len(), 2);
    assert_eq!(found.config.durability.prefixes.len(), 2);
    assert_eq!(found.config.devices.pepper.0, b" not trimmed ");
}

#[test]
fn flags_and_keys_are_the_same_in_both_directions() {
    let command = Arguments::command();
    let serve = command.find_subcommand("serve").unwrap();
    let known: Vec<&str> = KEYS
        .iter()
        .filter_map(|key| key.flag.map(|(flag, _)| flag))
        .collect();
    let flags: Vec<&str> = serve
        .get_arguments()
        .filter_map(|arg| arg.get_long())
        .collect();
    for flag in &flags {
        assert!(
            known.contains(flag) || ["dev", "config"].contains(flag),
            "--{flag} is no key"
        );
    }
    for flag in known {
        assert!(flags.contains(&flag), "--{flag} is no flag");
    }
}

#[test]
fn keys_have_names_of_their_own() {
    let mut names: Vec<String> = KEYS
        .iter()
        .flat_map(|key| [key.path(), key.variable()])
        .collect();
    let older = KEYS
        .iter()
        .flat_map(|key| key.variables.iter().chain(key.ports));
    names.extend(older.map(|name| (*name).to_owned()));
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn all_bad_values_of_a_file_are_found_at_once() {
    let text = r#"
[general]
shards = 129
cpus = "3-1"
driver = true
data = ""
log = "a=b=c"
[mqtt]
listen = ["localhost:1883"]
allow_anonymous = "root"
queue_full = "drop"
receive_maximum = 65536
packet_bytes_max = "1 MiB"
queue_bytes_max = "1 XB"
[http]
listen = "0.0.0.0:1"
dialect = 5
[durability]
interval_ms = 0
prefixes = { "a" = "memory" }
[devices]
open_registration = "yes"
rate_limit = 1.5
pepper = 5
"#;
    let found = wrong(text);
    for (line, words) in [
        (
            3,
            "general.shards = 129: expected \"auto\" or a number from 1 to 128",
        ),
        (4, "general.cpus = \"3-1\": `3-1` counts down"),
        (
            5,
            "general.driver = true: expected \"auto\" or \"io_uring\" or \"epoll\"",
        ),
        (6, "general.data = \"\": expected a path"),
        (7, "general.log = \"a=b=c\": `a=b=c` is no log filter"),
        (
            9,
            "mqtt.listen = [\"localhost:1883\"]: expected an IP address and a port",
        ),
        (10, "mqtt.allow_anonymous = \"root\": expected \"allow\""),
        (11, "mqtt.queue_full = \"drop\": expected \"drop-oldest\""),
        (
            12,
            "mqtt.receive_maximum = 65536: expected a number from 1 to 65535",
        ),
        (
            13,
            "mqtt.packet_bytes_max = \"1 MiB\": expected a number from 1024",
        ),
        (
            14,
            "mqtt.queue_bytes_max = \"1 XB\": expected a number from 1024",
        ),
        (16, "http.listen = \"0.0.0.0:1\": expected a list"),
        (17, "http.dialect = 5: expected \"freshblu\""),
        (19, "durability.interval_ms = 0: expected a number from 1"),
        (
            20,
            "durability.prefixes = { \"a\" = \"memory\" }: memory is possible",
        ),
        (
            22,
            "devices.open_registration = \"yes\": expected true or false",
        ),
        (
            23,
            "devices.rate_limit = a number with a fraction: expected a number",
        ),
        (24, "devices.pepper = …: expected a text"),
    ] {
        let expected = format!("a.toml:{line}: {words}");
        assert!(
            found.iter().any(|text| text.starts_with(&expected)),
            "{expected} in {found:#?}"
        );
    }
    assert_eq!(found.len(), 18, "{found:#?}");
}

#[test]
fn what_does_not_fit_together_is_found() {
    let at = |text: &str| wrong(text).remove(0);
    let found = at("[durability]\nmode = \"memory\"\nprefixes = { a = \"commit\" }\n");
    assert!(
        found.starts_with("a.toml:3: ") && found.contains("keeps nothing"),
        "{found}"
    );
    let found = at("[io]\nreceive_buffers = 100\n");
    assert!(found.contains("expected a power of two"), "{found}");
    let found = at("[mqtt]\nlisten = [\"0.0.0.0:1\", \"127.0.0.1:1\"]\n");
    assert!(
        found.starts_with("a.toml:2: mqtt.listen: 127.0.0.1:1 and 0.0.0.0:1"),
        "{found}"
    );
    let found = at("[http]\nlisten = [\"0.0.0.0:1883\"]\n");
    assert!(found.contains("(mqtt.listen) are the same port"), "{found}");
    loaded(
        "",
        &[],
        "[mqtt]\nlisten = [\"0.0.0.0:1\", \"[::]:1\", \"[::1]:0\", \"[::1]:0\"]\n",
    );
    // A stronger source makes prefixes pointless; of the same it is a contradiction.
    let prefixes = "[durability]\nprefixes = { a = \"commit\" }\n";
    let found = loaded("--durability memory", &[], prefixes);
    assert!(found.config.durability.prefixes.is_empty());
    let line = "--durability memory --durability-prefix a=commit";
    assert!(load(line, &[], "").is_err());
    let line = "--durability-prefix a=commit --durability-prefix a=interval";
    assert!(lines(&load(line, &[], "").unwrap_err())[0].contains("twice"));
}

#[test]
fn everything_in_a_file_is_taken_over() {
    let text = r#"
[general]
shards = 64
cpus = "2-5"
[mqtt]
listen = ["127.0.0.1:1"]
allow_anonymous = true
free_topics = false
keep_alive_max_s = 60
queue_bytes_max = "2 GiB"
[http]
listen = ["127.0.0.1:2", { address = "127.0.0.1:3", dialect = "meshblu" }]
[durability.prefixes]
"telemetry/" = "interval"
[limits]
sessions_max = 1_000
"#;
    let found = loaded("", &[], text);
    let config = &found.config;
    assert_eq!(
        (config.shards(), config.cpus().unwrap().to_string()),
        (Some(64), "2,3,4,5".into())
    );
    assert_eq!(config.mqtt.allow_anonymous, AnonymousClients::Allow);
    assert_eq!(config.mqtt.free_topics, Permission::Deny);
    assert_eq!(config.http.listen[1].dialect, Some(DialectName::Meshblu));
    assert_eq!(config.durability().prefixes.len(), 1);
    let limits = config.limits();
    assert_eq!(
        (limits.keep_alive_max_s, limits.sessions_max),
        (Some(60), 1_000)
    );
    assert_eq!(limits.queue_bytes_max, 2 << 30);
    assert_eq!(found.blame("http.listen"), "http.listen in a.toml:12");
}

#[test]
fn a_password_in_an_address_is_not_shown() {
    let name = "MESHRING_TELEMETRY__ENDPOINT";
    let value = "http://me:hunter2@localhost:4318";
    let sources = Sources {
        environment: Environment::of([(name.into(), value.into())]),
        ..Sources::default()
    };
    let problems = sources.load().unwrap_err();
    let text = problems.iter().map(ToString::to_string).collect::<String>();
    assert!(text.contains(name) && !text.contains("hunter2"), "{text}");
}

#[test]
fn a_secret_that_everybody_may_read_is_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("meshring.toml");
    std::fs::write(&file, "[devices]\npepper = \"salt\"\n").unwrap();
    let warnings = |mode| {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let sources = Sources {
            file: Some(file.clone()),
            ..Sources::default()
        };
        lines(&sources.load().unwrap().warnings)
    };
    assert!(warnings(0o644)[0].contains("everybody may read devices.pepper"));
    assert_eq!(warnings(0o640), [""; 0]);
}

#[test]
fn the_file_is_the_one_that_is_named() {
    let folder = tempfile::TempDir::new().unwrap();
    let write = |name: &str, limit: u32| {
        let file = folder.path().join(name);
        std::fs::write(&file, format!("[devices]\nrate_limit = {limit}\n")).unwrap();
        file
    };
    let (one, two) = (write("one", 1), write("two", 2));
    let limit = |file: Option<&PathBuf>, variable: Option<&PathBuf>| {
        let variables = variable.map(|file| ("MESHRING_CONFIG".into(), file.into()));
        let environment = Environment::of(variables);
        let sources = Sources {
            dev: true,
            file: file.cloned(),
            environment,
            flags: Vec::new(),
        };
        sources.load().unwrap().config.devices.rate_limit
    };
    assert_eq!(limit(None, None), 1_200);
    assert_eq!(limit(None, Some(&two)), 2);
    assert_eq!(limit(Some(&one), Some(&two)), 1);
    let missing = folder.path().join("missing");
    let sources = Sources {
        file: Some(missing),
        ..Sources::default()
    };
    assert!(lines(&sources.load().unwrap_err())[0].contains("cannot be read"));
}

#[test]
fn variables_of_mcloudtt_are_understood_or_named() {
    let found = loaded("", &[("MCLOUDTT_PORTS.TCP", "1884")], "");
    assert_eq!(found.config.mqtt.listen, ["0.0.0.0:1884".parse().unwrap()]);
    let found = loaded("", &[("MCLOUDTT_COLOUR", "red")], "");
    assert!(lines(&found.warnings)[0].starts_with("warning: MCLOUDTT_COLOUR: "));
    assert!(load("", &[("MCLOUDTT_TLS.CERTFILE", "a")], "").is_err());
}
