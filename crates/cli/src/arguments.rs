//! The command line of the client commands, and the help that teaches it.

use crate::failure::EXIT_CODES;
use clap::{Args, Subcommand, ValueEnum};
use std::path::{Path, PathBuf};

/// How long an answer may take, in seconds, if nothing was said.
const TIMEOUT_S: u64 = 30;

const HEADING: &str = "Server and credentials";

/// Who speaks to which server. The same flags before and after a command.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// The server [default: http://127.0.0.1:3000]
    #[arg(short = 'S', long, value_name = "URL", help_heading = HEADING)]
    pub server: Option<String>,
    /// The device to log in as
    #[arg(short = 'U', long, value_name = "UUID", help_heading = HEADING)]
    pub uuid: Option<String>,
    /// Its token; others on this machine can see command lines, not variables and files
    #[arg(short = 'T', long, value_name = "TOKEN", help_heading = HEADING)]
    pub token: Option<String>,
    /// The file with server and credentials
    /// [default: the first of meshring.json, freshblu.json, meshblu.json in this directory]
    #[arg(short = 'c', long, value_name = "FILE", help_heading = HEADING)]
    pub config: Option<PathBuf>,
    /// Act as another device, which must allow it
    #[arg(long = "as", value_name = "UUID", help_heading = HEADING)]
    pub acting_as: Option<String>,
    /// How to write answers [default: pretty; json for events]
    #[arg(short = 'f', long, value_enum, help_heading = HEADING)]
    pub format: Option<Format>,
    /// How long an answer may take [default: 30]
    #[arg(long, value_name = "SECONDS", help_heading = HEADING,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: Option<u64>,
}

impl Connection {
    /// Fills in what `outer`, the same flags before the command, says besides.
    pub fn or(&self, outer: Self) -> Self {
        let own = self.clone();
        Self {
            server: own.server.or(outer.server),
            uuid: own.uuid.or(outer.uuid),
            token: own.token.or(outer.token),
            config: own.config.or(outer.config),
            acting_as: own.acting_as.or(outer.acting_as),
            format: own.format.or(outer.format),
            timeout: own.timeout.or(outer.timeout),
        }
    }

    /// How long an answer may take, in seconds.
    pub fn timeout_s(&self) -> u64 {
        self.timeout.unwrap_or(TIMEOUT_S)
    }
}

/// How JSON is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// On one line
    Json,
    /// Indented
    Pretty,
}

/// The commands that speak to a server.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Register a new device and keep its credentials
    #[command(after_long_help = register_notes())]
    Register(RegisterArguments),
    /// Show the device that logs in
    #[command(after_long_help = notes("meshring whoami\nmeshring whoami -f json | jq .online"))]
    Whoami(PlainArguments),
    /// Show a device
    #[command(after_long_help = notes("meshring get 0238237c-7090-46bc-aea2-847ee11c04a0"))]
    Get(NamedArguments),
    /// Change properties of a device
    #[command(after_long_help = notes(UPDATE_EXAMPLES))]
    Update(UpdateArguments),
    /// Delete a device
    #[command(after_long_help = notes("meshring unregister\nmeshring unregister 0238237c-7090-46bc-aea2-847ee11c04a0"))]
    Unregister(DeviceArguments),
    /// Find devices by their properties
    #[command(after_long_help = notes(SEARCH_EXAMPLES))]
    Search(SearchArguments),
    /// List the devices that belong to the one that logs in
    #[command(after_long_help = notes("meshring mydevices"))]
    Mydevices(PlainArguments),
    /// Become the owner of a device
    #[command(after_long_help = notes("meshring claim 0238237c-7090-46bc-aea2-847ee11c04a0"))]
    Claim(NamedArguments),
    /// Send a message to devices, or to everybody who subscribes
    #[command(after_long_help = notes(MESSAGE_EXAMPLES))]
    Message(MessageArguments),
    /// Subscribe to a device and show what comes, until Ctrl-C
    #[command(after_long_help = subscribe_notes())]
    Subscribe(SubscribeArguments),
    /// End a subscription
    #[command(after_long_help = notes("meshring unsubscribe 0238237c-7090-46bc-aea2-847ee11c04a0 broadcast.sent"))]
    Unsubscribe(UnsubscribeArguments),
    /// List the subscriptions of a device
    #[command(after_long_help = notes("meshring subscriptions"))]
    Subscriptions(DeviceArguments),
    /// Generate, list, revoke and reset tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Show whether the server is well
    #[command(after_long_help = notes("meshring status --server https://mesh.example.org"))]
    Status(PlainArguments),
    /// The program, which has more to say about configurations, parses this one.
    #[command(skip)]
    Config(PlainArguments),
}

/// The commands about tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make another token for a device
    #[command(after_long_help = notes("meshring token generate --tag laptop\nmeshring token generate --expires-on $(date -d tomorrow +%s)"))]
    Generate(GenerateArguments),
    /// List one's own tokens; the tokens themselves are not shown, nobody keeps them
    #[command(after_long_help = notes("meshring token list --tag laptop"))]
    List(ListArguments),
    /// Make a token useless, at once
    #[command(after_long_help = notes("meshring token revoke TOKEN\nmeshring token revoke 0238237c-7090-46bc-aea2-847ee11c04a0 TOKEN"))]
    Revoke(RevokeArguments),
    /// Make all tokens of a device useless, and one new token
    #[command(after_long_help = notes("meshring token reset"))]
    Reset(DeviceArguments),
}

/// Flags of `register`.
#[derive(Args, Debug)]
pub struct RegisterArguments {
    #[command(flatten)]
    connection: Connection,
    /// Properties, a JSON object: text, `@FILE`, or `-` for stdin
    #[arg(short, long, value_name = "JSON", default_value = "{}")]
    pub data: String,
    /// What kind of device it is
    #[arg(short = 't', long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// Where uuid, token and server are kept [default: --config, or meshring.json]
    #[arg(long, value_name = "FILE")]
    pub save: Option<Option<PathBuf>>,
    /// Keep them nowhere
    #[arg(long, conflicts_with = "save")]
    pub no_save: bool,
    /// Overwrite the credentials that are in the file
    #[arg(long)]
    pub force: bool,
}

impl RegisterArguments {
    /// The file that `--config` names.
    pub fn config(&self) -> Option<&Path> {
        self.connection.config.as_deref()
    }
}

/// Flags of a command that needs no others.
#[derive(Args, Debug)]
pub struct PlainArguments {
    #[command(flatten)]
    connection: Connection,
}

/// Flags of a command about one device.
#[derive(Args, Debug)]
pub struct NamedArguments {
    #[command(flatten)]
    connection: Connection,
    /// The device
    #[arg(value_name = "UUID")]
    pub device: String,
}

/// Flags of a command about a device, which may be one's own.
#[derive(Args, Debug)]
pub struct DeviceArguments {
    #[command(flatten)]
    connection: Connection,
    /// The device [default: the one that logs in]
    #[arg(value_name = "UUID")]
    pub device: Option<String>,
}

/// Flags of `update`.
#[derive(Args, Debug)]
pub struct UpdateArguments {
    #[command(flatten)]
    connection: Connection,
    /// The device [default: the one that logs in]
    #[arg(value_name = "UUID")]
    pub device: Option<String>,
    /// What to change, a JSON object: text, `@FILE`, or `-` for stdin
    #[arg(short, long, value_name = "JSON")]
    pub data: String,
}

/// Flags of `search`.
#[derive(Args, Debug)]
pub struct SearchArguments {
    #[command(flatten)]
    connection: Connection,
    /// What they must have, a JSON object: text, `@FILE`, or `-` for stdin
    #[arg(
        short,
        long,
        value_name = "JSON",
        default_value = "{}",
        alias = "query"
    )]
    pub data: String,
}

/// Flags of `message`.
#[derive(Args, Debug)]
pub struct MessageArguments {
    #[command(flatten)]
    connection: Connection,
    /// The message, a JSON object with `devices`: text, `@FILE`, or `-` for stdin
    #[arg(short, long, value_name = "JSON")]
    pub data: String,
}

/// Flags of `subscribe`.
#[derive(Args, Debug)]
pub struct SubscribeArguments {
    #[command(flatten)]
    connection: Connection,
    /// The device whose events are wanted
    #[arg(value_name = "EMITTER")]
    pub emitter: String,
    /// Which events
    #[arg(value_name = "TYPE", value_enum)]
    pub kind: SubscriptionKind,
    /// Stop after so many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Only subscribe; do not wait for events
    #[arg(long, conflicts_with = "count")]
    pub no_wait: bool,
}

/// Flags of `unsubscribe`.
#[derive(Args, Debug)]
pub struct UnsubscribeArguments {
    #[command(flatten)]
    connection: Connection,
    /// The device that was subscribed to
    #[arg(value_name = "EMITTER")]
    pub emitter: String,
    /// Which events
    #[arg(value_name = "TYPE", value_enum)]
    pub kind: SubscriptionKind,
}

/// Flags of `token generate`.
#[derive(Args, Debug)]
pub struct GenerateArguments {
    #[command(flatten)]
    connection: Connection,
    /// The device [default: the one that logs in]
    #[arg(value_name = "UUID")]
    pub device: Option<String>,
    /// When it ends, in seconds since 1970
    #[arg(long, value_name = "EPOCH")]
    pub expires_on: Option<u64>,
    /// A word to find it by
    #[arg(long)]
    pub tag: Option<String>,
}

/// Flags of `token list`.
#[derive(Args, Debug)]
pub struct ListArguments {
    #[command(flatten)]
    connection: Connection,
    /// Only those with this tag
    #[arg(long)]
    pub tag: Option<String>,
}

/// Flags of `token revoke`.
#[derive(Args, Debug)]
#[command(allow_missing_positional = true)]
pub struct RevokeArguments {
    #[command(flatten)]
    connection: Connection,
    /// The device [default: the one that logs in]
    #[arg(value_name = "UUID")]
    pub device: Option<String>,
    /// The token, whole
    #[arg(value_name = "TOKEN", required = true)]
    pub revoked: String,
}

/// What of a device one can subscribe to: what it sends, or what it receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the names say it; help shows the names")]
pub enum SubscriptionKind {
    #[value(name = "broadcast.sent", alias = "broadcast-sent")]
    BroadcastSent,
    #[value(name = "broadcast.received", alias = "broadcast-received")]
    BroadcastReceived,
    #[value(name = "message.sent", alias = "message-sent")]
    MessageSent,
    #[value(name = "message.received", alias = "message-received")]
    MessageReceived,
    #[value(name = "configure.sent", alias = "configure-sent")]
    ConfigureSent,
    #[value(name = "configure.received", alias = "configure-received")]
    ConfigureReceived,
    #[value(name = "unregister.sent", alias = "unregister-sent")]
    UnregisterSent,
    #[value(name = "unregister.received", alias = "unregister-received")]
    UnregisterReceived,
}

impl SubscriptionKind {
    /// Its name in the spelling that every server understands.
    pub fn hyphenated(self) -> String {
        let value = self.to_possible_value();
        let value = value.expect("no kind is hidden from the command line");
        value.get_name().replace('.', "-")
    }
}

impl ClientCommand {
    /// The flags about server and credentials.
    pub fn connection(&mut self) -> &mut Connection {
        match self {
            Self::Register(RegisterArguments { connection, .. })
            | Self::Whoami(PlainArguments { connection })
            | Self::Mydevices(PlainArguments { connection })
            | Self::Status(PlainArguments { connection })
            | Self::Config(PlainArguments { connection })
            | Self::Get(NamedArguments { connection, .. })
            | Self::Claim(NamedArguments { connection, .. })
            | Self::Unregister(DeviceArguments { connection, .. })
            | Self::Subscriptions(DeviceArguments { connection, .. })
            | Self::Update(UpdateArguments { connection, .. })
            | Self::Search(SearchArguments { connection, .. })
            | Self::Message(MessageArguments { connection, .. })
            | Self::Subscribe(SubscribeArguments { connection, .. })
            | Self::Unsubscribe(UnsubscribeArguments { connection, .. })
            | Self::Token(
                TokenCommand::Generate(GenerateArguments { connection, .. })
                | TokenCommand::List(ListArguments { connection, .. })
                | TokenCommand::Revoke(RevokeArguments { connection, .. })
                | TokenCommand::Reset(DeviceArguments { connection, .. }),
            ) => connection,
        }
    }
}

const SOURCES: &str = "\
Server and credentials:
  What a flag says counts first, then the environment (MESHRING_SERVER,
  MESHRING_UUID, MESHRING_TOKEN, or the same with FRESHBLU_ or MESHBLU_), then
  the file. A token that belongs to another device is passed over. See what
  would be used with `meshring config`. For HTTPS, SSL_CERT_FILE can name the
  certificates to trust.";

const UPDATE_EXAMPLES: &str = "\
meshring update -d '{\"firmware\":\"2.0\"}'
meshring update 0238237c-7090-46bc-aea2-847ee11c04a0 -d @properties.json";

const SEARCH_EXAMPLES: &str = "\
meshring search -d '{\"type\":\"sensor\"}'
meshring search -d '{\"type\":\"sensor\",\"online\":true}' -f json | jq -r '.[].uuid'";

const MESSAGE_EXAMPLES: &str = "\
meshring message -d '{\"devices\":[\"*\"],\"payload\":{\"temp\":72}}'
    To everybody who subscribes to broadcast.sent of this device.
meshring message -d '{\"devices\":[\"0238237c-7090-46bc-aea2-847ee11c04a0\"],\"payload\":\"hi\"}'
    To one device.
sensors -j | jq '{devices:[\"*\"],payload:.}' | meshring message -d -";

/// The notes of a command: its examples, and what is the same for all.
fn notes(examples: &str) -> String {
    let examples = examples.replace('\n', "\n  ");
    format!("Examples:\n  {examples}\n\n{SOURCES}\n\n{EXIT_CODES}")
}

fn register_notes() -> String {
    let examples = notes(
        "meshring register\n\
         meshring register -t sensor -d '{\"name\":\"pond\"}'\n\
         meshring register --save pond.json && meshring -c pond.json whoami\n\
         meshring register --no-save -f json | jq -r .token",
    );
    format!(
        "What is kept:\n  The server tells the token once, now. It is written to the file, readable \
         for\n  you alone, with uuid and server; other commands read it there. A file that has\n  \
         credentials is not overwritten without --force.\n\n{examples}"
    )
}

fn subscribe_notes() -> String {
    let examples = notes(
        "meshring subscribe 0238237c-7090-46bc-aea2-847ee11c04a0 broadcast.sent\n\
         meshring subscribe $(jq -r .uuid meshring.json) message.received --count 1",
    );
    format!(
        "Output:\n  One line of JSON per event; besides those subscribed to also messages to \
         the\n  device itself and changes of it. A line on stderr says when it begins.\n  The \
         subscription stays after the command has ended; `meshring unsubscribe`\n  ends \
         it.\n\n{examples}"
    )
}
