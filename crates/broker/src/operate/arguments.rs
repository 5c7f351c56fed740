//! The command lines of those who operate a broker, and their help.

use super::place::{Place, glance};
use crate::admin::{SOCKET, token};
use crate::durability::Mode;
use clap::{Args, Subcommand};
use cli::Failure;
use std::path::PathBuf;

/// What stands below the help of a command: its examples, and where the broker is asked.
macro_rules! notes {
    ($($(#[$doc:meta])* $name:ident: $examples:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = concat!("Examples:\n", $examples, "\n\n", "\
The broker is asked through its admin.socket, or DIR/admin.sock, so run this as
the user that the broker runs as; or over the network with --admin and the token
in DIR/admin.token. Where these are is read from the broker's configuration. One
that keeps nothing (--durability memory) has a socket if admin.socket names it.
docs/admin.md describes what is asked.

Exit codes:
  0  done                          1  refused, or an answer makes no sense
  2  wrong usage                   3  the broker cannot be reached, or is busy
  4  wrong token                   5  no such client, session or message");)*
    };
}

notes! {
    /// Below the help of `meshring clients`.
    CLIENTS_NOTES: "\
\x20 meshring clients list --prefix pump --connected true
  meshring clients show pump-7
  meshring clients subscriptions --topic plant/3/heat
  meshring clients disconnect pump-7 --delete-session";
    /// Below the help of `meshring sessions`.
    SESSIONS_NOTES: "\
\x20 meshring sessions --prefix pump
  meshring sessions --json | jq -r 'select(.queue_messages > 1000).client'";
    /// Below the help of `meshring retained`.
    RETAINED_NOTES: "\
\x20 meshring retained list 'plant/#'
  meshring retained get plant/3/heat
  meshring retained delete 'plant/3/#'";
    /// Below the help of `meshring shards`.
    SHARDS_NOTES: "\
\x20 meshring shards
  meshring shards --json | jq -c '[.shard, .connections]'";
    /// Below the help of `meshring slow`.
    SLOW_NOTES: "\
\x20 meshring slow --bytes 1000000";
    /// Below the help of `meshring top`.
    TOP_NOTES: "\
\x20 meshring top
  meshring top --once --json | jq .delivery_s.p99";
    /// Below the help of `meshring drain`.
    DRAIN_NOTES: "\
\x20 meshring drain begin --rate 500 --server mqtt-2.example:1883 --wait
  meshring drain status
  meshring drain end";
    /// Below the help of `meshring trace`.
    TRACE_NOTES: "\
\x20 meshring trace --client pump-7
  meshring trace --topic 'plant/3/#' --json";
    /// Below the help of `meshring explain`.
    EXPLAIN_NOTES: "\
\x20 meshring explain --from pump-7 --topic plant/3/heat --to dashboard
  meshring explain --from pump-7 --topic plant/3/heat --to dashboard --qos 1 --bytes 50000";
    /// Below the help of `meshring log`.
    LOG_NOTES: "\
\x20 meshring log
  meshring log debug
  meshring log info,net::journal=debug";
}

/// Which broker is asked, and how its answer is written.
#[derive(Args, Clone, Debug)]
pub struct Desk {
    /// The data directory of the broker [default: ./data with --dev, else general.data of its
    /// configuration, which is /var/lib/meshring unless it says otherwise]
    #[arg(long, global = true, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// The broker's configuration, where --data does not say the directory
    /// [default: /etc/meshring/meshring.toml if it exists] [env: MESHRING_CONFIG]
    // By another name within, since the commands of the client have one, too.
    #[arg(
        id = "broker_config",
        long = "config",
        global = true,
        value_name = "FILE"
    )]
    pub config: Option<PathBuf>,

    /// The Unix socket of the broker's admin API
    /// [default: admin.socket of its configuration, else DIR/admin.sock]
    #[arg(long, global = true, value_name = "FILE")]
    pub admin_socket: Option<PathBuf>,

    /// The broker is one of `meshring serve --dev`
    #[arg(long, global = true)]
    pub dev: bool,

    /// Ask over the network instead, at this address of the broker's --admin
    #[arg(
        long,
        global = true,
        value_name = "ADDR:PORT",
        env = "MESHRING_ADMIN_URL"
    )]
    pub admin: Option<String>,

    /// The file with the token for --admin [default: DIR/admin.token]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "MESHRING_ADMIN_TOKEN_FILE",
        hide_env_values = true
    )]
    pub admin_token_file: Option<PathBuf>,

    /// JSON instead of tables: one object, or for lists one per line
    #[arg(long, global = true)]
    pub json: bool,
}

impl Desk {
    /// The sockets to ask, the next if nobody answers at one: as given, or as the broker's
    /// configuration says; whose `admin.socket` may be newer than the broker is. Errs if that cannot be
    /// read.
    pub fn sockets(&self) -> Result<Vec<Place>, Failure> {
        if let Some(path) = &self.admin_socket {
            return Ok(vec![Place::new(path, "--admin-socket")]);
        }
        if let Some(data) = &self.data {
            return Ok(vec![Place::new(&data.join(SOCKET), "--data")]);
        }
        let loaded = glance(self.config.as_deref(), self.dev).map_err(Failure::Usage)?;
        let config = &loaded.config;
        let kept = config.general.data.join(SOCKET);
        let kept = Place::new(&kept, &loaded.blame("general.data"));
        Ok(match &config.admin.socket.0 {
            Some(path) => {
                let named = Place::new(path, &loaded.blame("admin.socket"));
                // Where another broker may be, nobody is asked.
                let has_directory = config.durability.mode != Mode::Memory && loaded.names_data();
                [named]
                    .into_iter()
                    .chain(has_directory.then_some(kept))
                    .collect()
            }
            None => vec![kept],
        })
    }

    /// The file with the token: as given, or as the broker's configuration says. Errs if that cannot
    /// be read.
    pub fn token_file(&self) -> Result<PathBuf, Failure> {
        if let Some(path) = &self.admin_token_file {
            return Ok(path.clone());
        }
        if let Some(data) = &self.data {
            return Ok(data.join(token::FILE));
        }
        let loaded = glance(self.config.as_deref(), self.dev).map_err(Failure::Usage)?;
        let named = loaded.config.admin.token_file.0.clone();
        Ok(named.unwrap_or_else(|| loaded.config.general.data.join(token::FILE)))
    }
}

/// A command and the broker that it is for.
#[derive(Args, Debug)]
pub struct Operate<T: Args> {
    /// Which broker.
    #[command(flatten)]
    pub desk: Desk,
    /// What.
    #[command(flatten)]
    pub what: T,
}

/// Nothing more to say.
#[derive(Args, Debug)]
pub struct Nothing {}

/// `meshring clients`
#[derive(Args, Debug)]
pub struct ClientsArguments {
    /// What to do; without a word, `list`.
    #[command(subcommand)]
    pub command: Option<ClientsCommand>,
}

/// What to do about clients.
#[derive(Debug, Subcommand)]
pub enum ClientsCommand {
    /// List MQTT clients, connected or with a session, and the sockets of devices
    List(ClientFilterArguments),
    /// Say everything about one client
    Show {
        /// Its client identifier
        id: String,
    },
    /// Close a client's connection (MQTT 5: 0x98, administrative action)
    Disconnect {
        /// Its client identifier
        id: String,
        /// End its session, too
        #[arg(long)]
        delete_session: bool,
    },
    /// List subscriptions
    Subscriptions {
        /// Those of this client
        #[arg(long, value_name = "ID")]
        client: Option<String>,
        /// With exactly this topic filter
        #[arg(long, value_name = "FILTER")]
        filter: Option<String>,
        /// That match this topic
        #[arg(long, value_name = "TOPIC")]
        topic: Option<String>,
    },
}

/// Which clients.
#[derive(Args, Debug, Default)]
pub struct ClientFilterArguments {
    /// Whose identifier begins so
    #[arg(long, value_name = "TEXT")]
    pub prefix: Option<String>,
    /// That are this device
    #[arg(long, value_name = "UUID")]
    pub device: Option<String>,
    /// From this IP address
    #[arg(long, value_name = "ADDR")]
    pub peer: Option<String>,
    /// That speak this: 3.1, 3.1.1 or 5 of MQTT, websocket (FreshBlu's), or events (/subscribe)
    #[arg(long, value_name = "VERSION")]
    pub protocol: Option<String>,
    /// That are connected (true), or are not (false)
    #[arg(long, value_name = "BOOL")]
    pub connected: Option<bool>,
}

/// `meshring retained`
#[derive(Args, Debug)]
pub struct RetainedArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: RetainedCommand,
}

/// What to do about retained messages.
#[derive(Debug, Subcommand)]
pub enum RetainedCommand {
    /// List topics with a retained message
    List {
        /// A topic filter
        #[arg(default_value = "#")]
        filter: String,
    },
    /// Write the payload of a topic's retained message to stdout, as it is
    Get {
        /// The topic
        topic: String,
    },
    /// Delete retained messages; done when that is on disk
    Delete {
        /// A topic filter
        filter: String,
    },
}

/// `meshring slow`
#[derive(Args, Debug)]
pub struct SlowArguments {
    /// For whom so many bytes wait at least
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub bytes: u64,
    /// So many clients, the slowest first
    #[arg(long, value_name = "N", default_value_t = 20,
          value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub limit: u32,
}

/// `meshring top`
#[derive(Args, Debug)]
pub struct TopArguments {
    /// Write what one interval has brought, and end
    #[arg(long)]
    pub once: bool,
    /// Seconds between two looks
    #[arg(long, value_name = "S", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub interval: u32,
}

/// `meshring drain`
#[derive(Args, Debug)]
pub struct DrainArguments {
    /// What to do; without a word, `status`.
    #[command(subcommand)]
    pub command: Option<DrainCommand>,
}

/// What to do about draining.
#[derive(Debug, Subcommand)]
pub enum DrainCommand {
    /// Turn new clients away, close those that are here a few at a time, and keep their sessions
    Begin {
        /// Clients closed per second
        #[arg(long, value_name = "N", default_value_t = 1_000)]
        rate: u32,
        /// Tell clients of MQTT 5 to use this server (0x9C)
        #[arg(long, value_name = "HOST:PORT")]
        server: Option<String>,
        /// Return when no client is connected any more
        #[arg(long)]
        wait: bool,
    },
    /// Say how far it is
    Status,
    /// Welcome clients again
    End,
}

/// `meshring log`
#[derive(Args, Debug)]
pub struct LogArguments {
    /// A filter, such as info or info,net=debug; without one, the present one is shown
    pub filter: Option<String>,
}

/// `meshring explain`
#[derive(Args, Debug)]
pub struct ExplainArguments {
    /// The client identifier of the publisher
    #[arg(long, value_name = "ID")]
    pub from: String,
    /// The topic
    #[arg(long, value_name = "TOPIC")]
    pub topic: String,
    /// The client identifier of the subscriber
    #[arg(long, value_name = "ID")]
    pub to: String,
    /// Quality of service of the message
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(..=2))]
    pub qos: u8,
    /// Bytes of its payload
    #[arg(long, value_name = "N")]
    pub bytes: Option<u64>,
}

/// `meshring trace`
#[derive(Args, Debug)]
#[group(id = "subject", required = true, multiple = false)]
pub struct TraceArguments {
    /// What this client sends and is sent
    #[arg(long, value_name = "ID")]
    pub client: Option<String>,
    /// What is published to topics that match this filter
    #[arg(long, value_name = "FILTER")]
    pub topic: Option<String>,
}
