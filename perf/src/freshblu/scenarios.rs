//! What is measured.

use std::time::Duration;

use anyhow::Result;

use super::Request;
use super::load::{Device, Load, Role, frame, request};
use super::registry;
use super::server::{Running, Server};
use crate::brokers::Places;
use crate::measure::Snapshot;
use crate::outcome::{Better, Outcome};
use crate::procfs;

/// Before the measurement: connections and caches get warm.
const WARM_UP: Duration = Duration::from_millis(700);
/// The longest wait for messages on their way at the end.
const PATIENCE: Duration = Duration::from_secs(10);
/// After the last idle WebSocket, until memory is read.
const SETTLES: Duration = Duration::from_millis(500);
/// What every message has in it.
const PAYLOAD: &str = r#"{"temperature":21.5,"humidity":40,"sequence":1234567}"#;

/// The scenarios.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// GET /status, which asks for nothing.
    Status,
    /// GET /whoami, with credentials.
    Whoami,
    /// POST /messages, each to a device with a WebSocket.
    Post,
    /// From WebSocket to WebSocket.
    Websocket,
    /// POST /devices.
    Register,
    /// Identified WebSockets without traffic.
    Idle,
    /// Few devices and many: memory, what looking at one costs, and a start with them.
    Registry,
}

impl Scenario {
    fn name(self) -> &'static str {
        match self {
            Scenario::Status => "status",
            Scenario::Whoami => "whoami",
            Scenario::Post => "post to WebSocket",
            Scenario::Websocket => "WebSocket to WebSocket",
            Scenario::Register => "register",
            Scenario::Idle => "idle WebSocket",
            Scenario::Registry => "registry",
        }
    }
}

/// Runs `scenario` against a server that nothing else runs against.
///
/// # Errors
/// When the server refuses something, or ends.
pub fn run(
    scenario: Scenario,
    (server, kind): (&mut Running, Server),
    options: &Request,
    places: &Places,
) -> Result<Outcome> {
    let mut outcome = Outcome::new(scenario.name(), &server.subject.name);
    outcome.parameter("connections", options.connections);
    match scenario {
        Scenario::Idle => idle(server, options, &mut outcome)?,
        Scenario::Registry => registry::run((server, kind), options, places, &mut outcome)?,
        _ => flow(scenario, server, options, &mut outcome)?,
    }
    Ok(outcome)
}

/// A closed loop: warm-up, measurement, end.
fn flow(
    scenario: Scenario,
    server: &Running,
    options: &Request,
    outcome: &mut Outcome,
) -> Result<()> {
    let mut load = Load::new(server.subject.address)?;
    prepare(scenario, server, options, &mut load)?;
    let from = load.run(WARM_UP)?;
    let before = Snapshot::take(&server.subject)?;
    let to = load.run(Duration::from_secs_f64(options.seconds))?;
    let after = Snapshot::take(&server.subject)?;
    let interval = after.since(&before);
    let count = match scenario {
        Scenario::Websocket => to.delivered - from.delivered,
        _ => to.answered - from.answered,
    };
    outcome.figure("CPU each", "µs", Better::Lower, interval.us_per(count));
    outcome.figure("rate", "/s", Better::Higher, interval.per_second(count));
    outcome.interval(&interval);
    if scenario == Scenario::Post {
        let end = load.drain(PATIENCE, |counts| counts.delivered >= counts.answered)?;
        // One request of each sender may have been on its way.
        if end.delivered < end.answered {
            let (delivered, answered) = (end.delivered, end.answered);
            outcome
                .faults
                .push(format!("{delivered} delivered of {answered} sent"));
        }
    }
    if count == 0 {
        outcome.faults.push("nothing has happened".to_owned());
    }
    Ok(())
}

/// Registers devices, connects, and sends what is the first to be on its way.
fn prepare(scenario: Scenario, server: &Running, options: &Request, load: &mut Load) -> Result<()> {
    let address = server.subject.address;
    for _ in 0..options.connections {
        match scenario {
            Scenario::Status => load.add_http(request("GET", "/status", None, ""))?,
            Scenario::Register => load.add_http(request(
                "POST",
                "/devices",
                None,
                r#"{"type":"load","name":"x"}"#,
            ))?,
            Scenario::Whoami => {
                let device = Device::register(address)?;
                load.add_http(request("GET", "/whoami", Some(&device), ""))?
            }
            Scenario::Post => {
                let (sender, receiver) = (Device::register(address)?, Device::register(address)?);
                load.add_websocket(&receiver, Role::Receives(None), Vec::new())?;
                let body = message("", &receiver);
                load.add_http(request("POST", "/messages", Some(&sender), &body))?
            }
            Scenario::Websocket => {
                let (sender, receiver) = (Device::register(address)?, Device::register(address)?);
                let text = message(r#""event":"message","#, &receiver);
                let number = load.add_websocket(&sender, Role::Sends, frame(&text))?;
                load.add_websocket(&receiver, Role::Receives(Some(number)), Vec::new())?;
                number
            }
            Scenario::Idle | Scenario::Registry => unreachable!("it has no flow"),
        };
    }
    let numbers: Vec<usize> = load.senders();
    for number in numbers {
        let count = match scenario {
            Scenario::Websocket => options.window,
            _ => 1,
        };
        load.send(number, count)?;
    }
    Ok(())
}

fn message(event: &str, to: &Device) -> String {
    let uuid = &to.uuid;
    format!(r#"{{{event}"devices":["{uuid}"],"payload":{PAYLOAD}}}"#)
}

fn idle(server: &Running, options: &Request, outcome: &mut Outcome) -> Result<()> {
    let mut load = Load::new(server.subject.address)?;
    let registered = (0..options.idle).map(|_| Device::register(server.subject.address));
    let devices: Vec<Device> = registered.collect::<Result<_>>()?;
    // The first ones pay for tables and buffers that all share.
    let (first, rest) = devices.split_at(devices.len() / 10);
    for device in first {
        load.add_websocket(device, Role::Receives(None), Vec::new())?;
    }
    std::thread::sleep(SETTLES);
    let before = procfs::resident_bytes(server.subject.pid)?;
    for device in rest {
        load.add_websocket(device, Role::Receives(None), Vec::new())?;
    }
    std::thread::sleep(SETTLES);
    let grown = procfs::resident_bytes(server.subject.pid)?.saturating_sub(before);
    outcome.parameter("WebSockets", rest.len());
    let each = grown as f64 / rest.len() as f64;
    outcome.figure("resident each", "B", Better::Lower, each);
    Ok(())
}
