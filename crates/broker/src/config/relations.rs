//! What keys must be to each other, and what may surprise though each is right.

use super::choices::AnonymousClients;
use super::keys::{Config, KEYS};
use super::problem::{Origin, Problem};
use crate::durability::{self, Mode};
use std::net::SocketAddr;

fn origin_of(origins: &[Origin], path: &str) -> Origin {
    let place = KEYS.iter().position(|key| key.path() == path);
    origins[place.expect("the key is in the table")].clone()
}

/// How strong a source is.
fn rank(origin: &Origin) -> u8 {
    match origin {
        Origin::Default | Origin::Dev => 0,
        Origin::File { .. } => 1,
        Origin::Variable(_) => 2,
        Origin::Flag(_) => 3,
    }
}

/// Takes back what a stronger source has made pointless: prefixes of a file, where a flag or a
/// variable has nothing kept at all.
pub fn settle(config: &mut Config, origins: &mut [Origin]) {
    let place = KEYS
        .iter()
        .position(|key| key.path() == "durability.prefixes");
    let place = place.expect("the key is in the table");
    let mode = rank(&origin_of(origins, "durability.mode"));
    if config.durability.mode == Mode::Memory && rank(&origins[place]) < mode {
        config.durability.prefixes.clear();
        origins[place] = Origin::Default;
    }
}

/// What is wrong with the whole although each part is right.
pub fn problems(config: &Config, origins: &[Origin]) -> Vec<Problem> {
    let mut found = Vec::new();
    let at = |path| origin_of(origins, path);
    let durability = &config.durability;
    if let Err(why) = durability::configure(
        durability.mode,
        durability.interval_ms,
        &durability.prefixes,
    ) {
        found.push(Problem::error(at("durability.prefixes"), why));
    }
    if !config.io.receive_buffers.is_power_of_two() {
        let text = format!(
            "io.receive_buffers = {}: expected a power of two",
            config.io.receive_buffers
        );
        found.push(Problem::error(at("io.receive_buffers"), text));
    }
    found.extend(overlapping(config, origins));
    if let Err((blamed, why)) = config.webhook_rules() {
        found.push(Problem::error(at(blamed), why));
    }
    if config.mqtt.listen.is_empty() && config.http.listen.is_empty() {
        let text = "mqtt.listen and http.listen are both empty: nobody can connect";
        found.push(Problem::warning(at("mqtt.listen"), text));
    }
    if config.is_pepper_public() {
        let text = "the pepper is the one of FreshBlu's documents, which everybody can read";
        found.push(Problem::warning(at("devices.pepper"), text));
    }
    if config.mqtt.allow_anonymous == AnonymousClients::Loopback
        && at("mqtt.allow_anonymous") == Origin::Dev
        && config
            .mqtt
            .listen
            .iter()
            .any(|address| !address.ip().is_loopback())
    {
        let text = "--dev lets in clients on loopback alone; others need credentials";
        found.push(Problem::warning(Origin::Default, text));
    }
    if durability.mode == Mode::Memory && rank(&at("general.data")) > 0 {
        let text = "--data is not used with --durability memory";
        found.push(Problem::warning(Origin::Default, text));
    }
    found
}

/// Listeners that cannot both be had.
fn overlapping(config: &Config, origins: &[Origin]) -> Option<Problem> {
    let admin = config
        .admin
        .listen
        .iter()
        .map(|address| ("admin.listen", *address));
    let mqtt = config
        .mqtt
        .listen
        .iter()
        .map(|address| ("mqtt.listen", *address));
    let http = config
        .http
        .listen
        .iter()
        .map(|listener| ("http.listen", listener.address));
    let all: Vec<(&str, SocketAddr)> = mqtt.chain(http).chain(admin).collect();
    for (place, (path, address)) in all.iter().enumerate() {
        for (other, before) in &all[..place] {
            if do_overlap(*address, *before) {
                let text = format!("{path}: {address} and {before} ({other}) are the same port");
                return Some(Problem::error(origin_of(origins, path), text));
            }
        }
    }
    None
}

/// Whether only one of two addresses can be listened on.
pub fn do_overlap(one: SocketAddr, two: SocketAddr) -> bool {
    let is_any = |address: SocketAddr| address.ip().is_unspecified();
    let is_same_ip = one.ip() == two.ip() || is_any(one) || is_any(two);
    one.port() != 0 && one.port() == two.port() && one.is_ipv4() == two.is_ipv4() && is_same_ip
}
