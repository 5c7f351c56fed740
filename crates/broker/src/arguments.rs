//! The command line: what can be said, and the help that teaches it.

use crate::admin::AdminSettings;
use crate::cpus::CpuList;
use crate::doctor::{DOCTOR_NOTES, DoctorArguments};
use crate::durability::{Mode, PrefixMode};
use crate::import::{IMPORT_NOTES, ImportArguments};
use crate::settings::{DeviceArguments, Settings};
use crate::upkeep::arguments::{
    BACKUP_NOTES, BackupArguments, CHECK_NOTES, CheckArguments, REPAIR_NOTES, RESTORE_NOTES,
    RepairArguments, RestoreArguments,
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use cli::pages::{COMPLETIONS_NOTES, CompletionsArguments, MAN_NOTES, ManArguments};
use cli::{ClientCommand, Connection};
use net::Tuning;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Port of MQTT over TCP.
const MQTT_PORT: u16 = 1_883;
/// Port of HTTP and WebSocket: where the clients of FreshBlu and ours look without a word.
const HTTP_PORT: u16 = 3_000;
/// Where durable state is, without a word.
pub const DATA: &str = "/var/lib/meshring";
/// The same with `--dev`.
const DATA_DEV: &str = "./data";

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
    /// What to log on stderr: error, warn, info, debug, trace, or a filter such as
    /// `info,net=debug`. Without it the environment variable RUST_LOG decides, and without that
    /// it is `info`
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log: Option<String>,
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
    /// Bring devices of a FreshBlu server, with their tokens and subscriptions
    #[command(after_long_help = IMPORT_NOTES)]
    Import(ImportArguments),
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
                         --durability-interval. A crash of the broker or of
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

    /// Listen for MQTT over TCP (several times allowed; port 0 picks a free one)
    /// [default: 127.0.0.1:1883 with --dev, else 0.0.0.0:1883]
    /// [env: MESHRING_MQTT_PORT, FRESHBLU_MQTT_PORT, a port]
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_address)]
    pub mqtt: Vec<SocketAddr>,

    /// Listen for HTTP and for MQTT over WebSocket (several times allowed; port 0 picks a free
    /// one) [default: 127.0.0.1:3000 with --dev, else 0.0.0.0:3000]
    /// [env: MESHRING_HTTP_PORT, FRESHBLU_HTTP_PORT, a port]
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_address)]
    pub http: Vec<SocketAddr>,

    /// The directory for what is kept; made, for its owner alone, if there is none
    /// [default: ./data with --dev, else /var/lib/meshring]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// What an acknowledgement promises
    #[arg(long, value_enum, value_name = "MODE", default_value_t = Mode::Commit)]
    pub durability: Mode,

    /// Milliseconds after which what need not be on disk at once is written
    #[arg(long, value_name = "MS", default_value_t = 200,
          value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    pub durability_interval: u64,

    /// Another mode, commit or interval, for topics that begin so (several times allowed)
    #[arg(long, value_name = "PREFIX=MODE")]
    pub durability_prefix: Vec<PrefixMode>,

    /// Messages that one session may have waiting
    #[arg(long, value_name = "N", default_value_t = 100_000,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub queue_messages: u32,

    /// Bytes of messages that one session may have waiting; of a session that is kept, those
    /// beyond 4 MiB are on disk alone
    #[arg(long, value_name = "BYTES", default_value_t = 67_108_864,
          value_parser = clap::value_parser!(u64).range(1_024..))]
    pub queue_bytes: u64,

    /// What becomes of a message for an offline session whose queue is full
    #[arg(long, value_enum, value_name = "POLICY", default_value_t = QueueFull::DropOldest)]
    pub queue_full: QueueFull,

    /// How many shards, each a thread pinned to a CPU; more shards than CPUs take turns
    /// [default: one per usable CPU, 128 at most]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub shards: Option<u16>,

    /// The CPUs that shards are pinned to, in order, such as `0,2-5`
    /// [default: the first usable ones]
    #[arg(long, value_name = "LIST")]
    pub cpus: Option<CpuList>,

    /// How to talk to the kernel
    #[arg(long, value_enum, default_value_t = Driver::Auto)]
    pub driver: Driver,

    /// Microseconds for which messages that come in a stream may gather, so that a shard wakes for
    /// several at a time (io_uring; 0: not at all)
    ///
    /// It is the most that one message is delayed, and saves CPU time while the broker is neither
    /// idle nor saturated. A message after a silence never waits.
    #[arg(long, value_name = "US", default_value_t = Tuning::default().gather_us,
          value_parser = clap::value_parser!(u32).range(..=10_000))]
    pub gather: u32,

    /// Where operators look in.
    #[command(flatten)]
    pub admin: AdminSettings,

    /// About devices.
    #[command(flatten)]
    pub devices: DeviceArguments,
}

/// The value of `--queue-full`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum QueueFull {
    /// The oldest message in the queue makes room for it
    DropOldest,
    /// It is dropped, and its publisher told that it was taken
    DropNewest,
    /// Its publisher is told 0x97 (quota exceeded); one of MQTT 3.x is closed unacknowledged
    Reject,
}

/// The value of `--driver`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Driver {
    /// io_uring where the kernel allows it, else epoll; the log says which and why
    Auto,
    /// io_uring, or do not start
    #[value(name = "io_uring", alias = "io-uring")]
    IoUring,
    /// epoll
    Epoll,
}

impl Arguments {
    /// Why the command line makes no sense although each word of it does.
    pub fn contradiction(&self) -> Option<&'static str> {
        let is_for_client = matches!(self.command, Command::Client(_));
        let has_connection = self.connection != Connection::default();
        (has_connection && !is_for_client)
            .then_some("flags about server and credentials are for the commands of the client")
    }
}

impl ServeArguments {
    /// The directory for what is kept: as given, or the default.
    pub fn data_directory(&self) -> PathBuf {
        let default = || PathBuf::from(if self.dev { DATA_DEV } else { DATA });
        self.data.clone().unwrap_or_else(default)
    }

    /// Where neither flag nor default says where to listen, variables may.
    pub fn with_ports(mut self, settings: &Settings) -> ServeArguments {
        if let Some(port) = settings.mqtt_port.filter(|_| self.mqtt.is_empty()) {
            self.mqtt = self.addresses(&[], port);
        }
        if let Some(port) = settings.http_port.filter(|_| self.http.is_empty()) {
            self.http = self.addresses(&[], port);
        }
        self
    }

    /// The addresses for MQTT: as given, or the default.
    pub fn mqtt_addresses(&self) -> Vec<SocketAddr> {
        self.addresses(&self.mqtt, MQTT_PORT)
    }

    /// The addresses for HTTP: as given, or the default.
    pub fn http_addresses(&self) -> Vec<SocketAddr> {
        self.addresses(&self.http, HTTP_PORT)
    }

    fn addresses(&self, given: &[SocketAddr], port: u16) -> Vec<SocketAddr> {
        if !given.is_empty() {
            return given.to_vec();
        }
        let ip = if self.dev {
            [127, 0, 0, 1]
        } else {
            [0, 0, 0, 0]
        };
        vec![SocketAddr::from((ip, port))]
    }
}

/// An address with a port. Names are not looked up: a broker should not change its listeners with
/// the weather of a name server.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "expected an IP address and a port, such as 127.0.0.1:1883, 0.0.0.0:1883 or [::1]:1883"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn dev_listens_on_loopback_unless_told_otherwise() {
        let text = |addresses: Vec<SocketAddr>| {
            addresses
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(text(serve("--dev").mqtt_addresses()), "127.0.0.1:1883");
        assert_eq!(text(serve("--dev").http_addresses()), "127.0.0.1:3000");
        assert_eq!(text(serve("").mqtt_addresses()), "0.0.0.0:1883");
        assert_eq!(text(serve("").http_addresses()), "0.0.0.0:3000");
        let given = serve("--dev --mqtt 0.0.0.0:1 --mqtt [::1]:2");
        assert_eq!(text(given.mqtt_addresses()), "0.0.0.0:1 [::1]:2");
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
        assert_eq!(serve("").driver, Driver::Auto);
        assert_eq!(serve("--driver io_uring").driver, Driver::IoUring);
        assert_eq!(serve("--driver io-uring").driver, Driver::IoUring);
        assert_eq!(serve("--driver epoll").driver, Driver::Epoll);
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
