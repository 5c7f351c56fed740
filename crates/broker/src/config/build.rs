//! What the shards and the driver are told, made of a configuration.

use super::choices::{
    AnonymousClients, DefaultWhitelists, DialectName, Driver, Permission, QueueFull,
};
use super::keys::Config;
use super::setting::{Cpus, Shards};
use crate::admin::{Doors, SOCKET};
use crate::cpus::CpuList;
use crate::durability::{self, Mode};
use crate::helpers::Rules;
use crate::helpers::roots::Roots;
use crate::helpers::signature::Signer;
use net::{DriverChoice, Tuning};
use sha2::{Digest, Sha256};
use shard::limits::QueuePolicy;
use shard::{Anonymous, Dialect, Durability, Limits, Listener, MeshConfig};
use std::fs;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use storage::Pepper;

/// So large may a file with a key or with certificates be; all public roots have a quarter of it.
const PEM_FILE_BYTES_MAX: u64 = 1_048_576;
/// What FreshBlu's own documents set its pepper to.
const FRESHBLU_PEPPER: &[u8] = b"change-me-in-production";

impl From<AnonymousClients> for Anonymous {
    fn from(those: AnonymousClients) -> Anonymous {
        match those {
            AnonymousClients::Allow => Anonymous::Allow,
            AnonymousClients::Loopback => Anonymous::Loopback,
            AnonymousClients::Deny => Anonymous::Deny,
        }
    }
}

impl From<DialectName> for Dialect {
    fn from(name: DialectName) -> Dialect {
        match name {
            DialectName::Freshblu => Dialect::Freshblu,
            DialectName::Meshblu => Dialect::Meshblu,
        }
    }
}

impl Config {
    /// How many shards, if that is said.
    pub fn shards(&self) -> Option<u16> {
        match self.general.shards {
            Shards::Auto => None,
            Shards::Count(count) => Some(count),
        }
    }

    /// On which CPUs, if that is said.
    pub fn cpus(&self) -> Option<&CpuList> {
        match &self.general.cpus {
            Cpus::Auto => None,
            Cpus::These(list) => Some(list),
        }
    }

    /// How to talk to the kernel.
    pub fn driver(&self) -> DriverChoice {
        match self.general.driver {
            Driver::Auto => DriverChoice::Auto,
            Driver::IoUring => DriverChoice::IoUring,
            Driver::Epoll => DriverChoice::Epoll,
        }
    }

    /// Everything to listen on, in order.
    pub fn listeners(&self) -> Vec<(Listener, SocketAddr)> {
        let mqtt = self
            .mqtt
            .listen
            .iter()
            .map(|&address| (Listener::Mqtt, address));
        let http = self.http.listen.iter().map(|listener| {
            let kind = match listener.dialect {
                Some(dialect) => Listener::HttpAs(dialect.into()),
                None => Listener::Http,
            };
            (kind, listener.address)
        });
        mqtt.chain(http).collect()
    }

    /// What is kept, and when it counts as kept.
    pub fn durability(&self) -> Durability {
        let section = &self.durability;
        durability::configure(section.mode, section.interval_ms, &section.prefixes)
            .expect("checked when it was loaded")
    }

    /// The pepper, if one is given.
    pub fn pepper(&self) -> Option<Pepper> {
        let text = &self.devices.pepper.0;
        (!text.is_empty()).then(|| Pepper(Sha256::digest(text).into()))
    }

    /// Whether the pepper is one that everybody can read.
    pub fn is_pepper_public(&self) -> bool {
        self.devices.pepper.0 == FRESHBLU_PEPPER
    }

    /// Who needs no credentials.
    pub fn anonymous(&self) -> Anonymous {
        self.mqtt.allow_anonymous.into()
    }

    /// Where operators come in.
    pub fn admin_doors(&self) -> Doors {
        // With a directory, there is one in it anyway.
        let is_there = |path: &PathBuf| {
            let own = self.general.data.join(SOCKET);
            self.durability.mode != Mode::Memory && resolved(path) == resolved(&own)
        };
        let socket = self.admin.socket.0.clone();
        Doors {
            addresses: self.admin.listen.clone(),
            socket: socket.filter(|path| !is_there(path)),
            token_file: self.admin.token_file.0.clone(),
            ..Doors::default()
        }
    }

    /// Whether webhooks may call private addresses.
    pub fn may_call_private(&self) -> bool {
        self.webhooks.to_private == Permission::Allow
    }

    /// The key that webhooks are signed with, if one is given, read now. Errs with the key of the
    /// configuration that is to blame, and why.
    fn webhook_signer(&self) -> Result<Option<Arc<Signer>>, (&'static str, String)> {
        const FILE: &str = "webhooks.private_key_file";
        const KEY: &str = "webhooks.private_key";
        let (section, text) = (&self.webhooks, &self.webhooks.private_key.0);
        let (blamed, read) = match &section.private_key_file.0 {
            Some(_) if !text.is_empty() => {
                return Err((FILE, format!("say {FILE} or {KEY}, not both")));
            }
            Some(path) => {
                let read = read_small(path).map_err(|error| error.to_string());
                let read =
                    read.and_then(|text| Signer::read(&text).map_err(|error| error.to_string()));
                (
                    FILE,
                    read.map_err(|why| format!("{FILE} = {path:?}: {why}")),
                )
            }
            None if text.is_empty() => return Ok(None),
            None => {
                let read = Signer::read(text);
                (KEY, read.map_err(|why| format!("{KEY}: {why}")))
            }
        };
        read.map(|signer| Some(Arc::new(signer)))
            .map_err(|why| (blamed, why))
    }

    /// Whom webhooks trust beside the public roots, read now. Errs with the key of the configuration
    /// that is to blame, and why.
    fn webhook_roots(&self) -> Result<Option<Arc<Roots>>, (&'static str, String)> {
        const FILE: &str = "webhooks.ca_file";
        let Some(path) = &self.webhooks.ca_file.0 else {
            return Ok(None);
        };
        let read = read_small(path).map_err(|error| error.to_string());
        let read = read.and_then(|text| Roots::read(&text).map_err(|error| error.to_string()));
        read.map(|roots| Some(Arc::new(roots)))
            .map_err(|why| (FILE, format!("{FILE} = {path:?}: {why}")))
    }

    /// What counts for webhooks, with key and roots as their files are now. Errs as
    /// [`Self::webhook_signer`] does.
    pub fn webhook_rules(&self) -> Result<Rules, (&'static str, String)> {
        Ok(Rules {
            may_call_private: self.may_call_private(),
            signer: self.webhook_signer()?,
            roots: self.webhook_roots()?,
        })
    }

    /// The Meshblu API, with neither pepper nor seed, where webhooks are signed with this.
    pub fn mesh(&self, signer: Option<&Signer>) -> MeshConfig {
        let devices = &self.devices;
        let public_key = match self.http.public_key.as_str() {
            "" => signer.map(Signer::public_key),
            text => Some(text),
        };
        MeshConfig {
            is_registration_open: devices.open_registration,
            is_private_by_default: devices.default_whitelists == DefaultWhitelists::Private,
            has_free_topics: self.mqtt.free_topics == Permission::Allow,
            metrics: self.http.metrics.into(),
            dialect: self.http.dialect.into(),
            rate_limit: devices.rate_limit,
            rate_window_s: devices.rate_window_s,
            registrations_max: devices.registration_limit,
            failed_logins_max: devices.failed_login_limit,
            message_bytes_max: devices.message_bytes_max.in_memory(),
            public_key: public_key.map(Into::into),
            ..MeshConfig::default()
        }
    }

    /// What a shard may hold.
    pub fn limits(&self) -> Limits {
        let (mqtt, limits, devices) = (&self.mqtt, &self.limits, &self.devices);
        let defaults = Limits::default();
        let queue_messages_max = mqtt.queue_messages_max as usize;
        let queue_bytes_max = mqtt.queue_bytes_max.in_memory();
        Limits {
            packet_bytes_max: mqtt.packet_bytes_max,
            receive_maximum: mqtt.receive_maximum,
            in_flight_max: mqtt.in_flight_max,
            topic_alias_maximum: mqtt.topic_alias_maximum,
            client_alias_max: mqtt.client_alias_max,
            topic_levels_max: mqtt.topic_levels_max as usize,
            subscriptions_max: mqtt.subscriptions_max as usize,
            output_bytes_max: limits.output_bytes_max.in_memory(),
            queue_messages_max,
            queue_bytes_max,
            queue_memory_messages: mqtt.queue_memory_messages as usize,
            queue_memory_bytes: mqtt.queue_memory_bytes.in_memory(),
            queue_policy: match mqtt.queue_full {
                QueueFull::DropOldest => QueuePolicy::DropOldest,
                QueueFull::DropNewest => QueuePolicy::DropNewest,
                QueueFull::Reject => QueuePolicy::Reject,
            },
            // Whoever is connected holds up its publishers before its queue is full.
            queue_soft_messages: defaults.queue_soft_messages.min(queue_messages_max / 2),
            queue_soft_bytes: defaults.queue_soft_bytes.min(queue_bytes_max / 2),
            commit_bytes_max: limits.commit_bytes_max.in_memory(),
            retained_messages_max: limits.retained_messages_max as usize,
            retained_bytes_max: limits.retained_bytes_max.in_memory(),
            sessions_max: limits.sessions_max as usize,
            connect_timeout_ms: u64::from(mqtt.connect_timeout_ms),
            slow_subscriber_ms: u64::from(mqtt.slow_subscriber_ms),
            session_expiry_max_s: mqtt.session_expiry_max_s,
            keep_alive_max_s: (mqtt.keep_alive_max_s > 0).then_some(mqtt.keep_alive_max_s),
            computes_max: limits.computes_max as usize,
            calls_max: limits.calls_max as usize,
            devices_max: limits.devices_max as usize,
            tokens_max: devices.tokens_max as usize,
            device_subscriptions_max: devices.subscriptions_max as usize,
            told_per_turn: defaults.told_per_turn,
            device_bytes_max: limits.device_bytes_max.in_memory(),
            sys_interval_s: mqtt.sys_interval_s,
        }
    }

    /// Sizes of the driver.
    pub fn tuning(&self) -> Tuning {
        let io = &self.io;
        Tuning {
            connections_max: self.limits.connections_max,
            receive_buffers: io.receive_buffers,
            receive_buffer_bytes: io.receive_buffer_bytes,
            idle_after_ms: io.idle_after_ms,
            gather_us: io.gather_us,
            flush_ms: io.flush_ms,
            linger_ms: io.linger_ms,
            stop_ms: io.stop_ms,
            ..Tuning::default()
        }
    }
}

/// The content of a file that cannot be large. A pipe or a device is not waited for.
fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut text = Vec::new();
    let file = fs::File::open(path)?;
    file.take(PEM_FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    match text.len() as u64 > PEM_FILE_BYTES_MAX {
        true => Err(io::Error::other("it is too large")),
        false => Ok(text),
    }
}

/// A path whose directory is named as it is, not by a link or from where this process is; as it is
/// written if there is no such directory.
fn resolved(path: &Path) -> PathBuf {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = fs::canonicalize(directory.unwrap_or(Path::new(".")));
    match (directory, path.file_name()) {
        (Ok(directory), Some(name)) => directory.join(name),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_of_keys_are_those_of_the_parts() {
        let config = Config::defaults(false);
        let same = |one: String, two: String| assert_eq!(one, two);
        same(
            format!("{:?}", config.limits()),
            format!("{:?}", Limits::default()),
        );
        same(
            format!("{:?}", config.mesh(None)),
            format!("{:?}", MeshConfig::default()),
        );
        same(
            format!("{:?}", config.tuning()),
            format!("{:?}", Tuning::default()),
        );
        assert_eq!(config.anonymous(), Anonymous::Deny);
        assert_eq!(config.pepper(), None);
        assert!(!config.may_call_private());
        let durability = config.durability();
        assert_eq!(durability.mode, shard::DurabilityMode::Commit);
        assert_eq!(
            (durability.interval_ms, durability.prefixes.len()),
            (200, 0)
        );
    }

    #[test]
    fn a_small_queue_holds_publishers_up_early() {
        let mut config = Config::defaults(false);
        config.mqtt.queue_messages_max = 10;
        assert_eq!(config.limits().queue_soft_messages, 5);
    }
}
