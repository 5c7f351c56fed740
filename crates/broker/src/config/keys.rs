//! All keys: the one place that says which there are, of what type, with which default, and what
//! they mean. The structure that the program reads, the check of files, the help of the flags, the
//! shipped file and the documents are made of this table.
//!
//! Defaults suit a laptop and a host with 64 CPUs alike; where they depend on the machine they are
//! `"auto"`.

use super::choices::{
    AnonymousClients, DefaultWhitelists, DialectName, Driver, LogFormat, Permission, QueueFull,
};
use super::key::Key;
use super::setting::{Bytes, Cpus, HttpListener, LogFilter, MaybePath, Secret, Setting, Shards};
use crate::durability::{Mode, PrefixMode};
use crate::telemetry::CollectorUrl;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Port of MQTT over TCP.
const MQTT_PORT: u16 = 1_883;
/// Port of HTTP and WebSocket: where the clients of FreshBlu and ours look without a word.
const HTTP_PORT: u16 = 3_000;
/// Where durable state is, without a word.
const DATA: &str = "/var/lib/meshring";
/// The same with `--dev`.
const DATA_DEV: &str = "./data";
/// Bytes of a message at most: an MQTT packet has no more.
const PACKET_BYTES_MAX: i128 = 268_435_455;
const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
/// More than memory has.
const MANY: i128 = 1 << 40;

/// A section of the file.
#[derive(Debug)]
pub struct SectionOfKeys {
    /// Its name.
    pub name: &'static str,
    /// The line that it begins with.
    pub title: &'static str,
    /// What it is about, line by line.
    pub about: &'static [&'static str],
}

macro_rules! keys {
    ($(
        $(#[doc = $about:literal])+
        [$section:ident] $Section:ident {
            $(
                $(#[doc = $doc:literal])+
                $key:ident: $type:ty = $default:expr $(=> $($property:ident($($argument:expr),*)),+)?;
            )+
        }
    )+) => {
        /// Everything that can be configured, with a value for each key.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config {
            $( $(#[doc = $about])+ pub $section: $Section, )+
        }

        $(
            $(#[doc = $about])+
            #[derive(Clone, Debug, PartialEq)]
            pub struct $Section {
                $( $(#[doc = $doc])+ pub $key: $type, )+
            }
        )+

        impl Default for Config {
            fn default() -> Config {
                Config { $( $section: $Section { $( $key: $default, )+ }, )+ }
            }
        }

        /// The sections in order.
        pub const SECTIONS: &[SectionOfKeys] = &[
            $(
                SectionOfKeys {
                    name: stringify!($section),
                    title: concat!("[", stringify!($section), "]"),
                    about: &[$($about),+],
                },
            )+
        ];

        /// All keys, in the order of their sections.
        pub static KEYS: &[Key] = &[
            $( $(
                Key::new(
                    (stringify!($section), stringify!($key)),
                    &[$($doc),+],
                    |config, raw, range| {
                        config.$section.$key = <$type as Setting>::read(raw, range)?;
                        Ok(())
                    },
                    |config| config.$section.$key.show(),
                    |one, two| one.$section.$key == two.$section.$key,
                    |into, from| into.$section.$key.clone_from(&from.$section.$key),
                    (<$type as Setting>::choices, <$type as Setting>::words),
                )$( $(.$property($($argument),*))+ )?,
            )+ )+
        ];
    };
}

keys! {
    /// The process as a whole.
    [general] General {
        /// How many shards, each a thread pinned to a CPU; more shards than CPUs take turns.
        /// "auto" is one per usable CPU, as far as a CPU quota pays for them, 128 at most.
        shards: Shards = Shards::Auto => flag("shards", "N"), restart();
        /// The CPUs that shards are pinned to, in order; "auto" is the first usable ones.
        cpus: Cpus = Cpus::Auto => flag("cpus", "LIST"), restart();
        /// How to talk to the kernel: "auto" is io_uring where it allows it, else epoll.
        driver: Driver = Driver::Auto => flag("driver", "DRIVER"), restart();
        /// The directory for what is kept; made, for its owner alone, if there is none.
        data: PathBuf = PathBuf::from(DATA) => flag("data", "DIR"), dev("\"./data\""), path_name(), restart();
        /// What to log.
        log: LogFilter = LogFilter("info".to_owned()) => or(&["RUST_LOG"]);
        /// How log lines are written: "text" for people, "json" for programs, an object per line;
        /// "auto" is JSON where systemd's journal reads along.
        log_format: LogFormat = LogFormat::Auto => or(&["MESHRING_LOG_FORMAT"]), restart();
    }

    /// MQTT clients and their sessions.
    [mqtt] Mqtt {
        /// Where to listen for MQTT over TCP; port 0 picks a free one.
        listen: Vec<SocketAddr> = vec![everywhere(MQTT_PORT)]
            => flags("mqtt", "ADDR:PORT"), port(&["MESHRING_MQTT_PORT", "FRESHBLU_MQTT_PORT"]),
               dev("[\"127.0.0.1:1883\"]");
        /// Who may be a client without credentials. true is "allow", false is "deny".
        allow_anonymous: AnonymousClients = AnonymousClients::Deny
            => flag("anonymous", "WHO"), or(&["MESHRING_ANONYMOUS"]), dev("\"loopback\"");
        /// Whether clients may use topics that belong to no device. While it is "deny",
        /// subscriptions to such topics stay and hear nothing.
        free_topics: Permission = Permission::Allow
            => flag("free-topics", "RULE"), or(&["MESHRING_FREE_TOPICS"]);
        /// Messages that one session may have waiting.
        queue_messages_max: u32 = 100_000
            => flag("queue-messages", "N"), range(1, u32::MAX as i128);
        /// Bytes of messages that one session may have waiting.
        queue_bytes_max: Bytes = Bytes(64 * MIB)
            => flag("queue-bytes", "BYTES"), range(1_024, MANY);
        /// What becomes of a message for an offline session whose queue is full.
        queue_full: QueueFull = QueueFull::DropOldest => flag("queue-full", "POLICY");
        /// Messages of one kept session's queue that are in memory; further ones are on disk alone.
        queue_memory_messages: u32 = 8_192 => range(1, u32::MAX as i128);
        /// Bytes of one kept session's queue that are in memory; further ones are on disk alone.
        queue_memory_bytes: Bytes = Bytes(4 * MIB) => range(1_024, MANY);
        /// Bytes of a packet from a client (MQTT's Maximum Packet Size).
        packet_bytes_max: u32 = 1_048_576 => range(1_024, PACKET_BYTES_MAX);
        /// QoS 1 and 2 messages that a client may have unacknowledged (its Receive Maximum).
        receive_maximum: u16 = 1_024 => range(1, 65_535);
        /// Messages that may be unacknowledged at a client, if its own Receive Maximum allows.
        in_flight_max: u16 = 8_192 => range(1, 65_535);
        /// Topic aliases that a client may use.
        topic_alias_maximum: u16 = 32 => range(0, 65_535);
        /// Topic aliases used towards one client, if its own maximum allows.
        client_alias_max: u16 = 32 => range(0, 65_535);
        /// Levels of a topic or a filter.
        topic_levels_max: u32 = 128 => range(1, 32_768);
        /// Subscriptions of one session.
        subscriptions_max: u32 = 1_000_000 => range(1, u32::MAX as i128);
        /// Seconds: what clients are told to use that ask for a longer keep-alive or for none.
        /// 0: each as it likes.
        keep_alive_max_s: u16 = 0 => range(0, 65_535);
        /// Seconds: a session that is to be kept for longer is kept for this. 4294967295: for ever,
        /// if its client wants that.
        session_expiry_max_s: u32 = u32::MAX;
        /// Milliseconds from a connection to its complete CONNECT.
        connect_timeout_ms: u32 = 10_000 => range(100, 3_600_000);
        /// Milliseconds that a client with a full queue may make publishers wait before it is
        /// disconnected.
        slow_subscriber_ms: u32 = 20_000 => range(100, 3_600_000);
        /// Seconds between two publications below $SYS; 0: none.
        sys_interval_s: u32 = 10 => range(0, 86_400);
    }

    /// HTTP, WebSocket, and MQTT over WebSocket.
    [http] Http {
        /// Where to listen for HTTP and for MQTT over WebSocket; port 0 picks a free one.
        listen: Vec<HttpListener> = vec![http(everywhere(HTTP_PORT))]
            => flags("http", "ADDR:PORT"), port(&["MESHRING_HTTP_PORT", "FRESHBLU_HTTP_PORT"]),
               dev("[\"127.0.0.1:3000\"]");
        /// How results are written where clients of FreshBlu and of Meshblu expect something else.
        dialect: DialectName = DialectName::Freshblu
            => flag("dialect", "NAME"), or(&["MESHRING_DIALECT"]);
        /// Who may read GET /metrics here, where nobody is asked for credentials. Whoever comes
        /// through a proxy that says so is not of this machine. The admin listener shows it, and
        /// more, in any case.
        metrics: AnonymousClients = AnonymousClients::Loopback => flag("http-metrics", "WHO");
        /// What GET /publickey answers; nothing if it is empty.
        public_key: String = String::new()
            => flag("public-key", "TEXT"), or(&["MESHRING_PUBLIC_KEY", "FRESHBLU_PUBLIC_KEY"]);
    }

    /// When something counts as kept.
    [durability] DurabilitySection {
        /// What an acknowledgement promises. "commit": on disk. "interval": in memory, and on disk
        /// within the interval. "memory": nothing is written.
        mode: Mode = Mode::Commit => flag("durability", "MODE"), restart();
        /// Milliseconds after which what need not be on disk at once is written.
        interval_ms: u32 = 200 => flag("durability-interval", "MS"), range(1, 3_600_000);
        /// Another mode, "commit" or "interval", for topics that begin so; the longest that fits
        /// counts.
        prefixes: Vec<PrefixMode> = Vec::new() => flags("durability-prefix", "PREFIX=MODE");
    }

    /// Devices, their tokens and their messages.
    [devices] Devices {
        /// Whether anybody may register a device; otherwise a device must do it for them.
        open_registration: bool = true
            => flag("open-registration", "BOOL"),
               or(&["MESHRING_OPEN_REGISTRATION", "FRESHBLU_OPEN_REGISTRATION"]);
        /// What a device lets others do that says nothing of whitelists when it is registered:
        /// "open": everything but to act as it, "private": nothing.
        default_whitelists: DefaultWhitelists = DefaultWhitelists::Open
            => flag("default-whitelists", "WHICH"), or(&["MESHRING_DEFAULT_WHITELISTS"]);
        /// Bytes of a message's payload and fields, and of the body of a request.
        message_bytes_max: Bytes = Bytes(1_048_576)
            => flag("message-bytes-max", "BYTES"), range(1_024, PACKET_BYTES_MAX),
               or(&["MESHRING_MAX_MESSAGE_SIZE", "FRESHBLU_MAX_MESSAGE_SIZE"]);
        /// Requests that one device may make in a window.
        rate_limit: u32 = 1_200
            => flag("rate-limit", "N"), range(1, u32::MAX as i128),
               or(&["MESHRING_RATE_LIMIT", "FRESHBLU_RATE_LIMIT"]);
        /// Registrations that one address may make in a window.
        registration_limit: u32 = 600
            => flag("registration-limit", "N"), range(1, u32::MAX as i128),
               or(&["MESHRING_REGISTRATION_LIMIT"]);
        /// Logins with a wrong token that one address may make in a window, at each shard; 0: any
        /// number. After that only logins are served that cost little: tokens that this broker has
        /// made, and imported ones that have been right before.
        failed_login_limit: u32 = 100
            => flag("failed-login-limit", "N"), or(&["MESHRING_FAILED_LOGIN_LIMIT"]);
        /// Seconds of that window.
        rate_window_s: u32 = 60
            => flag("rate-window", "S"), range(1, u32::MAX as i128),
               or(&["MESHRING_RATE_WINDOW", "FRESHBLU_RATE_WINDOW"]);
        /// Tokens of one device.
        tokens_max: u32 = 1_000 => range(1, 1_000_000);
        /// Subscriptions to one device, and of one device to those of one shard.
        subscriptions_max: u32 = 10_000 => range(1, 1_000_000);
        /// The key of the hashes of all tokens, any text. Once given it must always be given: with
        /// another one no device can log in. Without it, one is drawn at the first start and kept
        /// in the data directory.
        pepper: Secret = Secret::default()
            => or(&["MESHRING_PEPPER", "FRESHBLU_PEPPER"]), secret(), restart();
    }

    /// Calls that the broker makes for devices.
    [webhooks] Webhooks {
        /// Whether webhooks may call this machine, and addresses that only its network knows.
        to_private: Permission = Permission::Deny
            => flag("webhooks-to-private", "RULE"), or(&["MESHRING_WEBHOOKS_TO_PRIVATE"]);
        /// A file with certificates in PEM that webhooks trust over TLS beside the public roots, such
        /// as the one of an authority of your own.
        ca_file: MaybePath = MaybePath::default()
            => flag("webhooks-ca-file", "FILE"), or(&["MESHRING_WEBHOOKS_CA_FILE"]), path_name();
        /// The file with the private RSA key that webhooks with "signRequest" are signed with: PEM,
        /// PKCS#8 or PKCS#1, 2048 to 4096 bits. Without a key those webhooks are not called. GET
        /// /publickey answers the public half, unless http.public_key says something else.
        private_key_file: MaybePath = MaybePath::default()
            => flag("webhooks-private-key-file", "FILE"),
               or(&["MESHRING_WEBHOOKS_PRIVATE_KEY_FILE"]), path_name();
        /// That key itself instead of a file with it: PEM, or the base64 of PEM.
        private_key: Secret = Secret::default()
            => or(&["MESHRING_WEBHOOKS_PRIVATE_KEY", "PRIVATE_KEY_BASE64"]), secret();
    }

    /// Operators: metrics, health, and the admin API. Where there is a data directory, the admin API
    /// is on DIR/admin.sock in any case.
    [admin] AdminSection {
        /// Where to listen for metrics, health and, with the token, the admin API; port 0 picks a
        /// free one.
        listen: Vec<SocketAddr> = Vec::new()
            => flags("admin", "ADDR:PORT"), or(&["MESHRING_ADMIN"]);
        /// The file with the token of the admin API; if it is empty, DIR/admin.token, drawn at the
        /// first start with an address.
        token_file: MaybePath = MaybePath::default()
            => flag("admin-token-file", "FILE"), or(&["MESHRING_ADMIN_TOKEN_FILE"]), path_name();
        /// A further Unix socket for the admin API, for its owner alone, in a directory that exists;
        /// none if it is empty. With durability.mode = "memory" it is the only one.
        socket: MaybePath = MaybePath::default()
            => flag("admin-socket", "FILE"), or(&["MESHRING_ADMIN_SOCKET"]), path_name();
    }

    /// Traces of the control plane, for OpenTelemetry: starts, reloads, requests of operators, drains,
    /// backups; never messages.
    [telemetry] Telemetry {
        /// The collector that takes them, as OTLP over HTTP: http://localhost:4318 for one on this
        /// machine. /v1/traces is added unless it ends so. If it is empty, none are made. What is
        /// to be in the heads of requests stands in OTEL_EXPORTER_OTLP_HEADERS.
        endpoint: CollectorUrl = CollectorUrl::default()
            => flag("otlp-endpoint", "URL"),
               or(&["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"]),
               restart();
        /// What this broker is called there.
        service_name: String = "meshring".to_owned() => or(&["OTEL_SERVICE_NAME"]), restart();
    }

    /// What one shard may hold. The process may hold as much for each of its shards.
    [limits] LimitsSection {
        /// Connections at a time; further ones are closed as they arrive. Those that are there when
        /// it becomes less stay.
        connections_max: u32 = 1_000_000 => range(1, 100_000_000);
        /// Sessions, connected or not.
        sessions_max: u32 = 10_000_000 => range(1, u32::MAX as i128);
        /// Retained messages.
        retained_messages_max: u32 = 10_000_000 => range(0, u32::MAX as i128);
        /// Bytes of retained messages.
        retained_bytes_max: Bytes = Bytes(4 * GIB) => range(0, MANY);
        /// Devices.
        devices_max: u32 = 10_000_000 => range(0, u32::MAX as i128);
        /// Bytes of the documents of devices.
        device_bytes_max: Bytes = Bytes(8 * GIB) => range(0, MANY);
        /// Bytes of output that may wait for one connection before messages of QoS 0 are dropped.
        output_bytes_max: Bytes = Bytes(MIB) => range(1_024, MANY);
        /// Bytes of changes that may wait for the disk before publishers have to wait.
        commit_bytes_max: Bytes = Bytes(32 * MIB) => range(65_536, MANY);
        /// Requests of devices under way.
        calls_max: u32 = 16_384 => range(1, 10_000_000);
        /// Slow tasks, which are webhooks and slow hashes, that helper threads have.
        computes_max: u32 = 1_024 => range(2, 1_000_000);
    }

    /// How a shard's thread works with its sockets; the defaults suit everybody who has not
    /// measured otherwise.
    [io] Io {
        /// Microseconds for which messages that come in a stream may gather, so that a shard wakes
        /// for several at a time (io_uring; 0: not at all). It is the most that one message is
        /// delayed, and saves CPU time while the broker is neither idle nor saturated. A message
        /// after a silence never waits.
        gather_us: u32 = net::Tuning::default().gather_us => flag("gather", "US"), range(0, 10_000), restart();
        /// Receive buffers of a shard (io_uring); a power of two.
        receive_buffers: u16 = 256 => range(1, 32_768), restart();
        /// Bytes of one receive buffer.
        receive_buffer_bytes: u32 = 16_384 => range(512, 1_048_576), restart();
        /// Milliseconds of silence after which a connection costs less memory and a little more
        /// time when it speaks again (io_uring).
        idle_after_ms: u32 = 5_000 => range(1, 3_600_000), restart();
        /// Milliseconds that a client may take to accept the rest of what it is sent when its
        /// connection is closed.
        flush_ms: u32 = 10_000 => range(1, 3_600_000), restart();
        /// Milliseconds for which what it still sends is read and thrown away after that.
        linger_ms: u32 = 1_000 => range(0, 3_600_000), restart();
        /// Milliseconds that a graceful stop may take.
        stop_ms: u32 = 30_000 => range(1, 3_600_000), restart();
    }
}

impl Config {
    /// The defaults, with `--dev` or without.
    pub fn defaults(dev: bool) -> Config {
        let mut config = Config::default();
        if dev {
            let loopback = |port| SocketAddr::from((default_ip(true), port));
            config.general.data = PathBuf::from(DATA_DEV);
            config.mqtt.listen = vec![loopback(MQTT_PORT)];
            config.mqtt.allow_anonymous = AnonymousClients::Loopback;
            config.http.listen = vec![http(loopback(HTTP_PORT))];
        }
        config
    }
}

/// Where to listen if only a port is said.
pub fn default_ip(dev: bool) -> Ipv4Addr {
    match dev {
        true => Ipv4Addr::LOCALHOST,
        false => Ipv4Addr::UNSPECIFIED,
    }
}

/// The key of this path.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path() == path)
}

fn everywhere(port: u16) -> SocketAddr {
    SocketAddr::from((default_ip(false), port))
}

fn http(address: SocketAddr) -> HttpListener {
    HttpListener {
        address,
        dialect: None,
    }
}
