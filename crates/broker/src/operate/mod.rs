//! The commands of those who operate a broker: `meshring clients`, `retained`, `drain` and so on.
//! Each is a request to the admin API, and its answer written for people or for scripts.

pub mod arguments;
mod call;
pub mod place;
mod table;
pub mod top;

use crate::reload::words::words as reload_words;
use arguments::{
    ClientFilterArguments, ClientsArguments, ClientsCommand, Desk, DrainArguments, DrainCommand,
    ExplainArguments, LogArguments, RetainedArguments, RetainedCommand, SlowArguments,
    TraceArguments,
};
use call::{Broker, quoted, with_query};
use cli::Failure;
use hyper::Method;
use serde_json::{Value, json};
use std::io::{ErrorKind, Write, stdout};
use std::process::ExitCode;
use std::time::Duration;
use table::{Column, Table, described};

/// Rows that are asked for at a time.
const PAGE: u32 = 1_000;
/// How often `drain begin --wait` looks.
const LOOK: Duration = Duration::from_millis(500);

const CLIENTS: &[Column] = &[
    ("CLIENT", "/client"),
    ("CONNECTED", "/connected"),
    ("PROTOCOL", "/connection/protocol"),
    ("PEER", "/connection/peer"),
    ("SINCE", "/connection/since"),
    ("SUBSCRIPTIONS", "/subscriptions"),
    ("IN-FLIGHT", "/in_flight"),
    ("QUEUED", "/queue_messages"),
];
const SESSIONS: &[Column] = &[
    ("CLIENT", "/client"),
    ("EXPIRES", "/expires"),
    ("SUBSCRIPTIONS", "/subscriptions"),
    ("IN-FLIGHT", "/in_flight"),
    ("QUEUED", "/queue_messages"),
    ("BYTES", "/queue_bytes"),
];
const SUBSCRIPTIONS: &[Column] = &[
    ("CLIENT", "/client"),
    ("CONNECTED", "/connected"),
    ("SHARE", "/share"),
    ("FILTER", "/filter"),
    ("QOS", "/qos"),
    ("NO-LOCAL", "/no_local"),
    ("ID", "/id"),
];
const RETAINED: &[Column] = &[
    ("TOPIC", "/topic"),
    ("BYTES", "/payload_bytes"),
    ("QOS", "/qos"),
    ("EXPIRES", "/expires"),
];
const SHARDS: &[Column] = &[
    ("SHARD", "/shard"),
    ("CONNECTIONS", "/connections"),
    ("CLIENTS", "/clients"),
    ("SESSIONS", "/sessions"),
    ("SUBSCRIPTIONS", "/subscriptions"),
    ("RETAINED", "/retained"),
    ("STORED", "/stored_messages"),
    ("RING", "/ring_waiting"),
    ("PAUSED", "/connections_paused"),
    ("COMMITTING", "/committing"),
    ("STALLED", "/store_stalled"),
];
const SLOW: &[Column] = &[
    ("CLIENT", "/client"),
    ("WAITING-BYTES", "/waiting_bytes"),
    ("QUEUED", "/queue_messages"),
    ("IN-FLIGHT", "/in_flight"),
    ("OUTPUT-BYTES", "/connection/output_bytes"),
    ("PEER", "/connection/peer"),
];

const CHECKS: &[Column] = &[("CHECK", "/check"), ("OK", "/ok"), ("DETAIL", "/detail")];

/// A command of an operator.
#[derive(Debug)]
pub enum Command {
    /// `meshring clients`
    Clients(ClientsArguments),
    /// `meshring sessions`
    Sessions(ClientFilterArguments),
    /// `meshring retained`
    Retained(RetainedArguments),
    /// `meshring shards`
    Shards,
    /// `meshring slow`
    Slow(SlowArguments),
    /// `meshring drain`
    Drain(DrainArguments),
    /// `meshring explain`
    Explain(ExplainArguments),
    /// `meshring trace`
    Trace(TraceArguments),
    /// `meshring log`
    Log(LogArguments),
    /// `meshring reload`
    Reload,
}

/// Carries out a command, and says what was wrong if it fails.
pub fn run(desk: &Desk, command: &Command) -> ExitCode {
    match Operation::new(desk).and_then(|operation| operation.carry_out(command)) {
        Ok(()) | Err(Failure::NobodyReads) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("meshring: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

struct Operation {
    broker: Broker,
    is_json: bool,
}

impl Operation {
    fn new(desk: &Desk) -> Result<Operation, Failure> {
        let broker = Broker::new(desk)?;
        let is_json = desk.json;
        Ok(Operation { broker, is_json })
    }

    fn carry_out(&self, command: &Command) -> Result<(), Failure> {
        match command {
            Command::Clients(arguments) => self.clients(arguments),
            Command::Sessions(filter) => {
                self.list(SESSIONS, "sessions", "/v1/sessions", client_query(filter))
            }
            Command::Retained(arguments) => self.retained(&arguments.command),
            Command::Shards => {
                let answer = self.broker.json(Method::GET, "/v1/shards", None)?;
                self.write_rows(&mut Table::new(SHARDS), &answer["shards"])
            }
            Command::Slow(arguments) => self.slow(arguments),
            Command::Drain(arguments) => self.drain(arguments.command.as_ref()),
            Command::Explain(arguments) => self.explain(arguments),
            Command::Reload => {
                let answer = self.broker.json(Method::POST, "/v1/reload", None)?;
                match self.is_json {
                    true => self.write(&answer),
                    false => print(reload_words(&answer).as_bytes()),
                }
            }
            Command::Trace(arguments) => self.trace(arguments),
            Command::Log(LogArguments { filter }) => {
                let answer = match filter {
                    Some(filter) => {
                        let body = json!({ "filter": filter });
                        self.broker.json(Method::PUT, "/v1/log", Some(body))?
                    }
                    None => self.broker.json(Method::GET, "/v1/log", None)?,
                };
                self.write(&answer)
            }
        }
    }

    fn clients(&self, arguments: &ClientsArguments) -> Result<(), Failure> {
        let none = ClientFilterArguments::default();
        let (method, target) = match &arguments.command {
            None => return self.list(CLIENTS, "clients", "/v1/clients", client_query(&none)),
            Some(ClientsCommand::List(filter)) => {
                return self.list(CLIENTS, "clients", "/v1/clients", client_query(filter));
            }
            Some(ClientsCommand::Subscriptions {
                client,
                filter,
                topic,
            }) => {
                let query = vec![
                    ("client", client.clone()),
                    ("filter", filter.clone()),
                    ("topic", topic.clone()),
                ];
                return self.list(SUBSCRIPTIONS, "subscriptions", "/v1/subscriptions", query);
            }
            Some(ClientsCommand::Show { id }) => (Method::GET, path_of("clients", id)),
            Some(ClientsCommand::Disconnect { id, delete_session }) => {
                let session = delete_session.then(|| "delete".to_owned());
                let path = path_of("clients", id);
                (Method::DELETE, with_query(&path, &[("session", session)]))
            }
        };
        self.write(&self.broker.json(method, &target, None)?)
    }

    fn retained(&self, command: &RetainedCommand) -> Result<(), Failure> {
        match command {
            RetainedCommand::List { filter } => {
                let query = vec![("filter", Some(filter.clone()))];
                self.list(RETAINED, "retained", "/v1/retained", query)
            }
            RetainedCommand::Get { topic } => {
                let target = path_of("retained", topic);
                let payload = self.broker.bytes(Method::GET, &target, None)?;
                print(&payload)
            }
            RetainedCommand::Delete { filter } => {
                let target = with_query("/v1/retained", &[("filter", Some(filter.clone()))]);
                self.write(&self.broker.json(Method::DELETE, &target, None)?)
            }
        }
    }

    fn slow(&self, arguments: &SlowArguments) -> Result<(), Failure> {
        let query = [
            ("bytes", Some(arguments.bytes.to_string())),
            ("limit", Some(arguments.limit.to_string())),
        ];
        let target = with_query("/v1/slow", &query);
        let answer = self.broker.json(Method::GET, &target, None)?;
        if answer["whole"] == json!(false) {
            eprintln!("meshring: there are more sessions than were looked at");
        }
        self.write_rows(&mut Table::new(SLOW), &answer["slow"])
    }

    /// Writes what happens until nobody reads it or the broker ends.
    fn trace(&self, arguments: &TraceArguments) -> Result<(), Failure> {
        let query = [
            ("client", arguments.client.clone()),
            ("topic", arguments.topic.clone()),
        ];
        self.broker
            .follow(&with_query("/v1/trace", &query), |step| {
                let line = match self.is_json {
                    true => step.to_string(),
                    false => in_words(&step),
                };
                print(format!("{line}\n").as_bytes())
            })
    }

    fn explain(&self, arguments: &ExplainArguments) -> Result<(), Failure> {
        let query = [
            ("from", Some(arguments.from.clone())),
            ("topic", Some(arguments.topic.clone())),
            ("to", Some(arguments.to.clone())),
            ("qos", Some(arguments.qos.to_string())),
            ("bytes", arguments.bytes.map(|bytes| bytes.to_string())),
        ];
        let target = with_query("/v1/explain", &query);
        let answer = self.broker.json(Method::GET, &target, None)?;
        if self.is_json {
            return self.write(&answer);
        }
        let verdict = match answer["arrives"].as_bool() {
            Some(true) => "yes",
            Some(false) => "no",
            None => "it depends",
        };
        let why = table::printable(answer["why"].as_str().unwrap_or_default());
        print(format!("{verdict}: {why}\n\n").as_bytes())?;
        self.write_rows(&mut Table::new(CHECKS), &answer["checks"])
    }

    fn drain(&self, command: Option<&DrainCommand>) -> Result<(), Failure> {
        let status = || self.broker.json(Method::GET, "/v1/drain", None);
        match command {
            None | Some(DrainCommand::Status) => self.write(&status()?),
            Some(DrainCommand::End) => {
                self.write(&self.broker.json(Method::DELETE, "/v1/drain", None)?)
            }
            Some(DrainCommand::Begin { rate, server, wait }) => {
                let body = json!({ "clients_per_s": rate, "server": server });
                let mut answer = self.broker.json(Method::POST, "/v1/drain", Some(body))?;
                while *wait && answer["done"] != json!(true) {
                    if answer["draining"] != json!(true) {
                        let what = "somebody has ended the drain";
                        return Err(Failure::Nonsense(what.to_owned()));
                    }
                    std::thread::sleep(LOOK);
                    answer = status()?;
                }
                self.write(&answer)
            }
        }
    }

    /// Reads a list to its end, and writes it page by page.
    fn list(
        &self,
        columns: &'static [Column],
        name: &str,
        path: &str,
        mut query: Vec<(&'static str, Option<String>)>,
    ) -> Result<(), Failure> {
        let mut table = Table::new(columns);
        query.push(("limit", Some(PAGE.to_string())));
        query.push(("after", None));
        loop {
            let answer = self
                .broker
                .json(Method::GET, &with_query(path, &query), None)?;
            self.write_rows(&mut table, &answer[name])?;
            match answer["next"].as_str() {
                Some(next) => query.last_mut().expect("just pushed").1 = Some(next.to_owned()),
                None => return Ok(()),
            }
        }
    }

    fn write_rows(&self, table: &mut Table, rows: &Value) -> Result<(), Failure> {
        let Some(rows) = rows.as_array() else {
            let what = "the broker's answer is not a list";
            return Err(Failure::Nonsense(what.to_owned()));
        };
        if !self.is_json {
            return print(table.lines(rows).as_bytes());
        }
        let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
        print(lines.as_bytes())
    }

    fn write(&self, answer: &Value) -> Result<(), Failure> {
        match self.is_json {
            true => print(format!("{answer}\n").as_bytes()),
            false => print(described(answer, 0).as_bytes()),
        }
    }
}

fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => Failure::NobodyReads,
            _ => Failure::Output(error),
        })
}

/// A step of a trace, as a line for people.
fn in_words(step: &Value) -> String {
    if let Some(count) = step["left_out"].as_u64() {
        return format!("({count} steps were left out)");
    }
    let text = |name: &str| table::printable(step[name].as_str().unwrap_or("-"));
    let mut line = format!(
        "{} {} {:12} {} QoS {}",
        text("at"),
        text("client"),
        text("what"),
        text("topic"),
        step["qos"]
    );
    if let Some(bytes) = step["payload_bytes"].as_u64() {
        line.push_str(&format!(", {bytes} bytes"));
    }
    if let Some(filters) = step["filters"].as_array() {
        let filters: Vec<&str> = filters.iter().filter_map(Value::as_str).collect();
        line.push_str(&format!(", by {}", table::printable(&filters.join(" "))));
    }
    if step["reason"].is_string() {
        line.push_str(&format!(": {}", text("reason")));
    }
    line
}

fn path_of(kind: &str, name: &str) -> String {
    format!("/v1/{kind}/{}", quoted(name))
}

fn client_query(filter: &ClientFilterArguments) -> Vec<(&'static str, Option<String>)> {
    vec![
        ("prefix", filter.prefix.clone()),
        ("device", filter.device.clone()),
        ("peer", filter.peer.clone()),
        ("protocol", filter.protocol.clone()),
        ("connected", filter.connected.map(|is| is.to_string())),
    ]
}
