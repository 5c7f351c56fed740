//! Few devices, then many: memory, what looking at one of them costs, and a start with all of them.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Request;
use super::load::{Device, Load, request};
use super::server::{Running, Server};
use crate::brokers::Places;
use crate::measure::Snapshot;
use crate::outcome::{Better, Outcome};
use crate::procfs;

/// Connections that register: so many registrations share a sync.
const REGISTRARS: usize = 256;
/// Looks that one connection has prepared: together far more than caches hold.
const LOOKS: usize = 20_000;
/// Looks on the way on each connection.
const LOOKS_ON_THE_WAY: usize = 8;
/// How often it is looked whether enough are registered.
const STEP: Duration = Duration::from_millis(100);
/// The longest wait for the last answers.
const PATIENCE: Duration = Duration::from_secs(30);
/// After the last registration, and after a start, memory gets steady.
const SETTLES: Duration = Duration::from_secs(2);
/// Properties of a device, in bytes, so that its document has about 500.
const FILLING: usize = 130;
const MIB: f64 = 1_048_576.0;

/// Fills the registry in two steps and looks at it after each.
///
/// # Errors
/// When the server refuses something, or has lost something.
pub fn run(
    (server, kind): (&mut Running, Server),
    options: &Request,
    places: &Places,
    outcome: &mut Outcome,
) -> Result<()> {
    let empty = procfs::resident_bytes(server.subject.pid)?;
    let actor = Device::register(server.subject.address)?;
    let mut uuids = Vec::new();
    for count in [options.devices / 1_000, options.devices] {
        fill(server, count.saturating_sub(uuids.len()), &mut uuids)?;
        std::thread::sleep(SETTLES);
        let grown = procfs::resident_bytes(server.subject.pid)?.saturating_sub(empty);
        let what = format!("{} devices", uuids.len());
        let mib = grown as f64 / MIB;
        outcome.figure(&format!("memory of {what}"), "MiB", Better::Lower, mib);
        let us = look(server, &actor, &uuids, options)?;
        outcome.figure(
            &format!("CPU of a look at one of {what}"),
            "µs",
            Better::Lower,
            us,
        );
    }
    let took = server.restart(kind, places)?;
    std::thread::sleep(SETTLES);
    let resident = procfs::resident_bytes(server.subject.pid)?;
    outcome.figure("start", "s", Better::Lower, took.as_secs_f64());
    outcome.figure(
        "memory after it",
        "MiB",
        Better::Lower,
        resident as f64 / MIB,
    );
    // They are all there, or a look would be refused.
    look(server, &actor, &uuids, options)?;
    Ok(())
}

/// Registers so many more devices.
fn fill(server: &Running, more: usize, uuids: &mut Vec<String>) -> Result<()> {
    let mut load = Load::new(server.subject.address)?;
    load.keep_uuids();
    let filling = "x".repeat(FILLING);
    let body = format!(r#"{{"type":"meter","name":"a device","filling":"{filling}"}}"#);
    for _ in 0..REGISTRARS.min(more) {
        let number = load.add_http(request("POST", "/devices", None, &body))?;
        load.send(number, 1)?;
    }
    let enough = more.saturating_sub(REGISTRARS) as u64;
    while load.run(STEP)?.answered < enough {}
    let sent = load.sent();
    let end = load.drain(PATIENCE, |counts| counts.answered >= sent)?;
    ensure!(end.answered >= sent, "registrations without an answer");
    uuids.extend(load.take_uuids());
    Ok(())
}

/// CPU time of looking at one device, in microseconds: devices are taken in no order.
fn look(server: &Running, actor: &Device, uuids: &[String], options: &Request) -> Result<f64> {
    let mut load = Load::new(server.subject.address)?;
    let mut place = 0;
    for _ in 0..options.connections {
        let looks = (0..LOOKS).map(|_| {
            place = (place + 611_953) % uuids.len();
            request(
                "GET",
                &format!("/devices/{}", uuids[place]),
                Some(actor),
                "",
            )
        });
        let number = load.add_http_in_turn(looks.collect())?;
        load.send(number, LOOKS_ON_THE_WAY)?;
    }
    let from = load.run(Duration::from_millis(700))?;
    let before = Snapshot::take(&server.subject)?;
    let to = load.run(Duration::from_secs_f64(options.seconds))?;
    let interval = Snapshot::take(&server.subject)?.since(&before);
    ensure!(to.answered > from.answered, "nothing has been looked at");
    Ok(interval.us_per(to.answered - from.answered))
}
