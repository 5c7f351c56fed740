//! The command line and the configuration file with which each broker is started.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail, ensure};

use super::{Kind, Places};

/// The command that runs `kind`, with its configuration written into `directory`.
pub(super) fn command(
    kind: Kind,
    program: &Path,
    directory: &Path,
    ports: [u16; 2],
    places: &Places,
) -> Result<Command> {
    let program = fs::canonicalize(program)?;
    let mut command = Command::new(program);
    let file = directory.join(format!("{}.toml", kind.product().name()));
    match kind.product() {
        Kind::Mosquitto => {
            fs::write(&file, mosquitto(kind, ports[0], directory))?;
            command.arg("-c").arg(&file);
        }
        Kind::Rumqttd => {
            fs::write(&file, rumqttd(ports))?;
            command.arg("-q").arg("-c").arg(&file);
        }
        Kind::Rmqtt => {
            let plugins = directory.join("plugins");
            fs::create_dir_all(&plugins)?;
            fs::write(
                plugins.join("rmqtt-session-storage.toml"),
                rmqtt_storage(directory),
            )?;
            fs::write(&file, rmqtt(kind, ports[0], ports[1], directory))?;
            command.arg("-f").arg(&file);
        }
        _ => meshring(&mut command, kind, directory, places),
    }
    ensure!(ports[0] != ports[1], "the kernel gave one port twice");
    if !directory.is_dir() {
        bail!("{} has gone", directory.display());
    }
    Ok(command)
}

fn meshring(command: &mut Command, kind: Kind, directory: &Path, places: &Places) {
    let free = "127.0.0.1:0";
    command.args(["serve", "--dev", "--mqtt", free, "--http", free]);
    let mode = match kind {
        Kind::MeshringCommit => "commit",
        Kind::MeshringInterval => "interval",
        // As mosquitto without persistence.
        _ => "memory",
    };
    // The further arguments may say otherwise, but a flag is refused when it comes twice.
    let says = |flag: &str| {
        let is_flag = |argument: &String| argument.split('=').next() == Some(flag);
        places.meshring_arguments.iter().any(is_flag)
    };
    if !says("--durability") {
        command.args(["--durability", mode]);
    }
    if !says("--data") && (mode != "memory" || says("--durability")) {
        command.arg("--data").arg(directory.join("data"));
    }
    if let Some(core) = places.broker_core {
        command.args(["--shards", "1", "--cpus", &core.to_string()]);
    }
    command.args(&places.meshring_arguments);
}

fn mosquitto(kind: Kind, port: u16, directory: &Path) -> String {
    // 0 is no limit. Started by root it would otherwise change to a user that cannot read this.
    let mut text = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 0\n\
         max_queued_messages 0\nlog_dest none\nuser root\n"
    );
    match kind {
        Kind::MosquittoPersistence | Kind::MosquittoAutosave => {
            text.push_str("persistence true\n");
            text.push_str(&format!("persistence_location {}/\n", directory.display()));
        }
        _ => text.push_str("persistence false\n"),
    }
    if kind == Kind::MosquittoAutosave {
        text.push_str("autosave_interval 1\n");
    }
    text
}

fn rumqttd(ports: [u16; 2]) -> String {
    let listener = |version: &str, port: u16| {
        format!(
            "[{version}.1]\nname = \"{version}\"\nlisten = \"127.0.0.1:{port}\"\n\
             next_connection_delay_ms = 1\n[{version}.1.connections]\n\
             connection_timeout_ms = 60000\nmax_payload_size = 1048576\n\
             max_inflight_count = 10000\ndynamic_filters = true\n"
        )
    };
    format!(
        "id = 0\n[router]\nid = 0\nmax_connections = 30000\nmax_outgoing_packet_count = 200\n\
         max_segment_size = 104857600\nmax_segment_count = 10\n{}{}",
        listener("v4", ports[0]),
        listener("v5", ports[1])
    )
}

fn rmqtt(kind: Kind, port: u16, rpc_port: u16, directory: &Path) -> String {
    let plugins = match kind {
        Kind::RmqttStorage => "\"rmqtt-session-storage\"",
        _ => "",
    };
    format!(
        "[node]\nid = 1\n[node.busy]\ncheck_enable = false\n\
         [rpc]\nserver_addr = \"127.0.0.1:{rpc_port}\"\n\
         [log]\nto = \"off\"\nlevel = \"error\"\n\
         [plugins]\ndir = \"{}/plugins/\"\ndefault_startups = [{plugins}]\n\
         disabled_default_startups = [\"rmqtt-http-api\", \"rmqtt-acl\", \"rmqtt-counter\"]\n\
         [listener.tcp.external]\naddr = \"127.0.0.1:{port}\"\nallow_anonymous = true\n\
         nodelay = true\nmax_connections = 1024000\nmax_handshaking_limit = 20000\n\
         max_inflight = 65535\nmax_mqueue_len = 1000000\nmqueue_rate_limit = \"100000000,1s\"\n",
        directory.display()
    )
}

fn rmqtt_storage(directory: &Path) -> String {
    format!(
        "[storage]\ntype = \"sled\"\n[storage.sled]\npath = \"{}/sled\"\ncache_capacity = \"1G\"\n",
        directory.display()
    )
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn each_version_of_rumqttd_has_its_listener() {
        let text = rumqttd([1_001, 1_002]);
        assert!(text.contains("[v4.1]") && text.contains("127.0.0.1:1001"));
        assert!(text.contains("[v5.1]") && text.contains("127.0.0.1:1002"));
    }

    fn arguments(kind: Kind, more: &[&str]) -> String {
        let places = Places {
            meshring: PathBuf::new(),
            peers: PathBuf::new(),
            broker_core: Some(3),
            generator_core: None,
            meshring_arguments: more.iter().map(|word| (*word).to_owned()).collect(),
            data: None,
        };
        let mut command = Command::new("meshring");
        meshring(&mut command, kind, Path::new("/d"), &places);
        let words: Vec<&str> = command
            .get_args()
            .filter_map(|word| word.to_str())
            .collect();
        words.join(" ")
    }

    #[test]
    fn ours_keeps_what_it_is_told_to_keep() {
        let memory = arguments(Kind::Meshring, &[]);
        assert!(memory.contains("--durability memory") && !memory.contains("--data"));
        let commit = arguments(Kind::MeshringCommit, &[]);
        assert!(commit.contains("--durability commit --data /d/data"));
        let told = arguments(Kind::Meshring, &["--durability", "interval"]);
        assert!(told.contains("--data /d/data") && !told.contains("memory"));
    }

    #[test]
    fn peers_keep_sessions_where_they_are_asked_to() {
        let at = Path::new("/d");
        assert!(mosquitto(Kind::Mosquitto, 1, at).contains("persistence false"));
        let saved = mosquitto(Kind::MosquittoAutosave, 1, at);
        assert!(saved.contains("persistence true") && saved.contains("autosave_interval 1"));
        assert!(rmqtt(Kind::RmqttStorage, 1, 2, at).contains("rmqtt-session-storage"));
        assert!(!rmqtt(Kind::Rmqtt, 1, 2, at).contains("rmqtt-session-storage"));
    }
}
