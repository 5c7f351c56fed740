//! What the broker is to do, as far as the host matters: from the flags, variables and
//! configuration that it would be started with.

use super::host::{Host, cpu_list};
use crate::arguments::ServeArguments;
use crate::config::flags::LogFlags;
use crate::cpus;
use crate::durability::Mode;
use anyhow::anyhow;
use net::DriverChoice;
use shard::Anonymous;
use std::net::SocketAddr;
use std::path::PathBuf;

/// What the broker is to do.
#[derive(Debug)]
pub struct Plan {
    /// Connections that it is to hold.
    pub connections: u64,
    /// Shards.
    pub shards: usize,
    /// The CPUs that they run on.
    pub cpus: Vec<usize>,
    /// Whether io_uring is not wanted.
    pub is_epoll: bool,
    /// Where it keeps what it keeps; none if it keeps nothing.
    pub data: Option<PathBuf>,
    /// Where it listens for MQTT.
    pub mqtt: Vec<SocketAddr>,
    /// Where it listens for HTTP.
    pub http: Vec<SocketAddr>,
    /// Where it listens for operators.
    pub admin: Vec<SocketAddr>,
    /// The file with their token, if one is named.
    pub admin_token_file: Option<PathBuf>,
    /// Who needs no credentials.
    pub anonymous: Anonymous,
    /// Whether the pepper is one that everybody can read.
    pub is_pepper_public: bool,
    /// Length of the pepper, if one is given.
    pub pepper_bytes: Option<usize>,
}

impl Plan {
    /// From what `meshring serve` would be told, on this host. Errs if that makes no sense.
    pub fn make(arguments: &ServeArguments, connections: u64, host: &Host) -> anyhow::Result<Plan> {
        let loaded = arguments
            .sources(&LogFlags::default())
            .load()
            .map_err(|problems| {
                let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
                anyhow!(lines.join("\n"))
            })?;
        let config = &loaded.config;
        let cpus = cpus::place(config.shards(), config.cpus(), &usable(host))?;
        let is_kept = config.durability.mode != Mode::Memory;
        let data = is_kept
            .then(|| std::path::absolute(&config.general.data))
            .transpose()?;
        let token_file = config.admin.token_file.0.as_ref();
        Ok(Plan {
            connections,
            shards: cpus.len(),
            cpus,
            is_epoll: config.driver() == DriverChoice::Epoll,
            data,
            mqtt: config.mqtt.listen.clone(),
            http: config
                .http
                .listen
                .iter()
                .map(|listener| listener.address)
                .collect(),
            admin: config.admin.listen.clone(),
            admin_token_file: token_file.map(std::path::absolute).transpose()?,
            anonymous: config.anonymous(),
            is_pepper_public: config.is_pepper_public(),
            pepper_bytes: Some(config.devices.pepper.0.len()).filter(|bytes| *bytes > 0),
        })
    }

    /// All addresses that clients and operators come in by.
    pub fn all_addresses(&self) -> Vec<SocketAddr> {
        self.addresses().chain(&self.admin).copied().collect()
    }

    /// Whether there is a token that opens the admin API on an address.
    pub fn has_admin_token(&self) -> bool {
        self.data.is_some() || self.admin_token_file.is_some()
    }

    /// All addresses that clients come in by.
    pub fn addresses(&self) -> impl Iterator<Item = &SocketAddr> {
        self.mqtt.iter().chain(&self.http)
    }
}

/// The CPUs that a broker on this host could use.
fn usable(host: &Host) -> Vec<usize> {
    let of_process = host.process().status(host, "Cpus_allowed_list");
    let usable = of_process.as_deref().and_then(cpu_list);
    usable.unwrap_or_else(cpus::usable)
}
