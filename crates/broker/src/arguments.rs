//! The command line: what can be said, and the help that teaches it.

use crate::config::commands::{CONFIG_NOTES, ConfigCommand};
use crate::config::flags::{Flags, LogFlags};
use crate::config::{Environment, Sources};
use crate::doctor::{DOCTOR_NOTES, DoctorArguments};
use crate::import::{IMPORT_NOTES, ImportArguments};
use crate::operate::arguments::{
    CLIENTS_NOTES, ClientFilterArguments, ClientsArguments, DRAIN_NOTES, DrainArguments,
    EXPLAIN_NOTES, ExplainArguments, LOG_NOTES, LogArguments, Nothing, Operate, RETAINED_NOTES,
    RetainedArguments, SESSIONS_NOTES, SHARDS_NOTES, SLOW_NOTES, SlowArguments, TOP_NOTES,
    TRACE_NOTES, TopArguments, TraceArguments,
};
use crate::reload::words::RELOAD_NOTES;
use crate::upkeep::arguments::{
    BACKUP_NOTES, BackupArguments, CHECK_NOTES, CheckArguments, REPAIR_NOTES, RESTORE_NOTES,
    RepairArguments, RestoreArguments,
};
use clap::{Args, Parser, Subcommand};
use cli::arguments::PlainArguments;
use cli::pages::{COMPLETIONS_NOTES, CompletionsArguments, MAN_NOTES, ManArguments};
use cli::{ClientCommand, Connection};
use std::path::PathBuf;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "meshring",
    version = env!("MESHRING_VERSION"),
    about = "A broker for fleets of devices: MQTT 3.1, 3.1.1 and 5 over TCP and WebSocket, and its client",
    after_help = "Try it:  meshring serve --dev\n\
                  then:    mosquitto_sub -t 'garden/#' -v\n\
                  and:     mosquitto_pub -t garden/pond -m 17.5\n\
                  Devices: meshring register --type sensor && meshring whoami",
    arg_required_else_help = true
)]
pub struct Arguments {
    /// For all commands.
    #[command(flatten)]
    pub logs: LogFlags,
    /// For the commands of the client, which also take it themselves.
    #[command(flatten)]
    pub connection: Connection,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the broker until SIGTERM or SIGINT
    #[command(after_long_help = SERVE_NOTES)]
    Serve(ServeArguments),
    /// Copy what a broker keeps, while it runs or while it does not
    #[command(after_long_help = BACKUP_NOTES)]
    Backup(BackupArguments),
    /// Put a backup in the place of what a broker keeps
    #[command(after_long_help = RESTORE_NOTES)]
    Restore(RestoreArguments),
    /// Read everything that a broker keeps, and say what is damaged
    #[command(after_long_help = CHECK_NOTES)]
    Check(CheckArguments),
    /// Make damaged files usable again with what can still be read
    #[command(after_long_help = REPAIR_NOTES)]
    Repair(RepairArguments),
    /// Look at the host and the configuration, and say what stands in the way
    #[command(after_long_help = DOCTOR_NOTES)]
    Doctor(Box<DoctorArguments>),
    /// Have a running broker read its configuration again
    #[command(after_long_help = RELOAD_NOTES)]
    Reload(Operate<Nothing>),
    /// Bring devices of a FreshBlu server, with their tokens and subscriptions
    #[command(after_long_help = IMPORT_NOTES)]
    Import(ImportArguments),
    /// Show which server and credentials the client would use; check and show the broker's
    /// configuration
    #[command(after_long_help = CONFIG_NOTES)]
    Config(ConfigArguments),
    /// List, inspect and disconnect MQTT clients of a running broker
    #[command(after_long_help = CLIENTS_NOTES)]
    Clients(Operate<ClientsArguments>),
    /// List sessions whose clients are not connected
    #[command(after_long_help = SESSIONS_NOTES)]
    Sessions(Operate<ClientFilterArguments>),
    /// List, read and delete retained messages
    #[command(after_long_help = RETAINED_NOTES)]
    Retained(Operate<RetainedArguments>),
    /// Say how the shards of a running broker are
    #[command(after_long_help = SHARDS_NOTES)]
    Shards(Operate<Nothing>),
    /// List the clients for whom most is waiting
    #[command(after_long_help = SLOW_NOTES)]
    Slow(Operate<SlowArguments>),
    /// Watch a running broker: rates, latencies, shards, top talkers, slow consumers
    #[command(after_long_help = TOP_NOTES)]
    Top(Operate<TopArguments>),
    /// Take a running broker out of service gently
    #[command(after_long_help = DRAIN_NOTES)]
    Drain(Operate<DrainArguments>),
    /// Show live what happens to one client's or one topic's packets
    #[command(after_long_help = TRACE_NOTES)]
    Trace(Operate<TraceArguments>),
    /// Say why a message would or would not arrive
    #[command(after_long_help = EXPLAIN_NOTES)]
    Explain(Operate<ExplainArguments>),
    /// Change what a running broker logs
    #[command(name = "log", after_long_help = LOG_NOTES)]
    LogLevel(Operate<LogArguments>),
    /// The commands that speak to a server.
    #[command(flatten)]
    Client(ClientCommand),
    /// Write completions for a shell
    #[command(after_long_help = COMPLETIONS_NOTES)]
    Completions(CompletionsArguments),
    /// Write the manual
    #[command(after_long_help = MAN_NOTES)]
    Man(ManArguments),
}

const SERVE_NOTES: &str = "\
Output:
  For each listener one line on stdout says what was bound, for example
  `mqtt 127.0.0.1:1883`: the kind (mqtt or http), a space, the address. The
  lines appear once all listeners are open. Logs go to stderr.

What is kept:
  Sessions that outlive their connection, their subscriptions, queues and
  QoS 2 state, wills, and retained messages, in one file per shard in --data.
  They are there again after a stop, a crash, and a power failure.
  --durability commit    A client has its acknowledgement after what it
                         promises is on disk. The default.
  --durability interval  Acknowledged means in memory; on disk within
                         --durability-interval, but QoS 2: its packets wait
                         for the disk here, too. A crash of the broker or of
                         the machine may take that much.
  --durability memory    Nothing is written.
  --durability-prefix    Makes a difference for some topics. Where several
                         prefixes fit, the longest counts.
  With another --shards than last time the files are rewritten at start.

Devices:
  A device logs in with its UUID and its token. Others may connect over MQTT
  as --anonymous says. Tokens are kept as hashes, and the key of the hashes,
  the pepper, is drawn at the first start and kept in DIR/manifest.json, and so
  in backups. MESHRING_PEPPER or FRESHBLU_PEPPER, any text, takes its place:
  then it must be the same at each start.
  A variable that makes no sense stops the start, with exit code 2.

Configuration:
  Each flag but --dev and --config is a key of the configuration as well, under
  the section it is listed in here, and there are keys that have no flag: see
  `meshring config example`. A flag counts before a variable, that before the
  file. `meshring config show` says what counts, with the same flags.

Reloading:
  SIGHUP or `meshring reload` has the file read again. What can change changes
  at once, without closing connections that are still allowed; the rest is
  named. With an error in the file everything stays as it was.

Stopping:
  SIGTERM or SIGINT stops gracefully: no new connections, MQTT 5 clients are
  told 0x8B (server shutting down), output is drained, and all is written,
  which a full disk may delay. A second signal exits at once, as a crash would.

Exit codes:
  0  stopped by a signal    1  did not start, or failed    2  wrong usage
  130, 143  a second SIGINT or SIGTERM

Not there yet:
  TLS.

Examples:
  meshring serve --dev
      One machine, for trying out: anonymous clients on loopback.
  meshring serve --dev --mqtt 127.0.0.1:0 --http 127.0.0.1:0
      The same on free ports; read them from stdout.
  meshring serve --shards 4 --cpus 2-5 --driver io_uring
      Four shards on CPUs 2 to 5; do not start where io_uring is refused.
  meshring serve --data /srv/mqtt --durability-prefix telemetry/=interval
      What is published below telemetry/ need not be on disk at once.";

/// Flags of `meshring serve`.
#[derive(Args, Debug)]
pub struct ServeArguments {
    /// Let MQTT clients on loopback in without credentials, and listen on loopback, unless told
    /// otherwise.
    #[arg(long)]
    pub dev: bool,

    /// The file with the configuration [default: /etc/meshring/meshring.toml if it exists, and none
    /// with --dev] [env: MESHRING_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// One for each key that has a flag.
    #[command(flatten)]
    pub flags: Flags,
}

/// `meshring config`, alone or with a command.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ConfigArguments {
    /// Alone it is about the client.
    #[command(flatten)]
    pub client: PlainArguments,
    /// About the broker.
    #[command(subcommand)]
    pub command: Option<ConfigCommand>,
}

impl Command {
    /// Whether traces may be made of what it does: of what takes time, on this machine.
    pub fn has_traces(&self) -> bool {
        matches!(
            self,
            Command::Serve(_)
                | Command::Backup(_)
                | Command::Restore(_)
                | Command::Check(_)
                | Command::Repair(_)
                | Command::Import(_)
        )
    }
}

impl Arguments {
    /// Why the command line makes no sense although each word of it does.
    pub fn contradiction(&self) -> Option<&'static str> {
        let is_for_client = match &self.command {
            Command::Client(_) => true,
            Command::Config(arguments) => arguments.command.is_none(),
            _ => false,
        };
        let has_connection = self.connection != Connection::default();
        (has_connection && !is_for_client)
            .then_some("flags about server and credentials are for the commands of the client")
    }
}

impl ServeArguments {
    /// All who may say something of the configuration; `logs` are flags that all commands have.
    pub fn sources(&self, logs: &LogFlags) -> Sources {
        let mut flags = self.flags.0.clone();
        flags.extend(logs.said());
        Sources {
            dev: self.dev,
            file: self.config.clone(),
            environment: Environment::of_process(),
            flags,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use net::DriverChoice;

    fn serve(line: &str) -> ServeArguments {
        let words = ["meshring", "serve"]
            .into_iter()
            .chain(line.split_whitespace());
        match Arguments::try_parse_from(words).unwrap().command {
            Command::Serve(arguments) => arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    fn loaded(line: &str) -> Config {
        let arguments = serve(line);
        let sources = Sources {
            dev: arguments.dev,
            flags: arguments.flags.0,
            file: None,
            environment: Environment::default(),
        };
        sources.load_without_file().unwrap().config
    }

    #[test]
    fn dev_listens_on_loopback_unless_told_otherwise() {
        let text = |line: &str| {
            let listeners = loaded(line).listeners();
            let addresses = listeners.iter().map(|(_, address)| address.to_string());
            addresses.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(text("--dev"), "127.0.0.1:1883 127.0.0.1:3000");
        assert_eq!(text(""), "0.0.0.0:1883 0.0.0.0:3000");
        let given = text("--dev --mqtt 0.0.0.0:1 --mqtt [::1]:2");
        assert_eq!(given, "0.0.0.0:1 [::1]:2 127.0.0.1:3000");
    }

    #[test]
    fn client_flags_are_for_client_commands() {
        let parse = |line: &str| {
            let words = ["meshring"].into_iter().chain(line.split_whitespace());
            Arguments::try_parse_from(words).unwrap()
        };
        assert_eq!(parse("-U a whoami -T b").contradiction(), None);
        assert!(parse("-U a serve").contradiction().is_some());
        let whoami = ["meshring", "serve", "-U", "a"];
        assert!(Arguments::try_parse_from(whoami).is_err());
    }

    #[test]
    fn drivers_have_the_names_of_the_help() {
        let driver = |line: &str| loaded(line).driver();
        assert_eq!(driver(""), DriverChoice::Auto);
        assert_eq!(driver("--driver io_uring"), DriverChoice::IoUring);
        assert_eq!(driver("--driver io-uring"), DriverChoice::IoUring);
        assert_eq!(driver("--driver epoll"), DriverChoice::Epoll);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "--mqtt 1883",
            "--mqtt localhost:1883",
            "--shards 0",
            "--shards many",
            "--cpus 3-1",
            "--driver kqueue",
            "--durability sometimes",
            "--durability-interval 0",
            "--durability-prefix telemetry",
            "--durability-prefix telemetry=memory",
            "--nonsense",
        ] {
            let words = ["meshring", "serve"]
                .into_iter()
                .chain(line.split_whitespace());
            assert!(Arguments::try_parse_from(words).is_err(), "{line}");
        }
    }
}
