//! What `meshring serve` is told about devices, by flags and by environment variables: checked, and
//! with the defaults filled in.
//!
//! A flag counts first, then the variable that begins with MESHRING_, then the one of FreshBlu.
//! A variable that is empty says nothing. One that makes no sense is an error that names it.

use crate::arguments::ServeArguments;
use clap::{Args, ValueEnum};
use sha2::{Digest, Sha256};
use shard::{Anonymous, Dialect, MeshConfig};
use std::ffi::OsString;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::str::FromStr;
use storage::Pepper;

/// Bytes of a message: enough for any device, and no more than an MQTT packet has.
const MESSAGE_BYTES: RangeInclusive<u64> = 1_024..=268_435_455;
/// What FreshBlu's own documents set its pepper to.
const FRESHBLU_PEPPER: &[u8] = b"change-me-in-production";

/// Flags about devices.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Devices")]
pub struct DeviceArguments {
    /// Whether anybody may register a device; otherwise a device must do it for them
    /// [default: true] [env: MESHRING_OPEN_REGISTRATION, FRESHBLU_OPEN_REGISTRATION]
    #[arg(long, value_name = "BOOL")]
    pub open_registration: Option<bool>,

    /// What a device lets others do that says nothing of whitelists when it is registered
    /// [default: open] [env: MESHRING_DEFAULT_WHITELISTS]
    #[arg(long, value_enum, value_name = "WHICH")]
    pub default_whitelists: Option<DefaultWhitelists>,

    /// Whether MQTT clients may use topics that belong to no device
    /// [default: allow] [env: MESHRING_FREE_TOPICS]
    #[arg(long, value_enum, value_name = "RULE")]
    pub free_topics: Option<Permission>,

    /// Who may be an MQTT client without credentials
    /// [default: loopback with --dev, else deny] [env: MESHRING_ANONYMOUS]
    #[arg(long, value_enum, value_name = "WHO")]
    pub anonymous: Option<AnonymousClients>,

    /// How results are written where clients of FreshBlu and of Meshblu expect something else
    /// [default: freshblu] [env: MESHRING_DIALECT]
    #[arg(long, value_enum, value_name = "NAME")]
    pub dialect: Option<DialectName>,

    /// Bytes of a message's payload and fields, and of the body of a request
    /// [default: 1048576] [env: MESHRING_MAX_MESSAGE_SIZE, FRESHBLU_MAX_MESSAGE_SIZE]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(MESSAGE_BYTES))]
    pub message_bytes_max: Option<u64>,

    /// Requests that one device may make in a window
    /// [default: 1200] [env: MESHRING_RATE_LIMIT, FRESHBLU_RATE_LIMIT]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate_limit: Option<u32>,

    /// Registrations that one address may make in a window
    /// [default: 600] [env: MESHRING_REGISTRATION_LIMIT]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub registration_limit: Option<u32>,

    /// Seconds of that window [default: 60] [env: MESHRING_RATE_WINDOW, FRESHBLU_RATE_WINDOW]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate_window: Option<u32>,

    /// Whether webhooks may call this machine and addresses that only its network knows
    /// [default: deny] [env: MESHRING_WEBHOOKS_TO_PRIVATE]
    #[arg(long, value_enum, value_name = "RULE")]
    pub webhooks_to_private: Option<Permission>,

    /// What GET /publickey answers [env: MESHRING_PUBLIC_KEY, FRESHBLU_PUBLIC_KEY]
    #[arg(long, value_name = "TEXT")]
    pub public_key: Option<String>,
}

/// The value of `--default-whitelists`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DefaultWhitelists {
    /// Everything but to act as it
    Open,
    /// Nothing
    Private,
}

/// The value of `--free-topics` and `--webhooks-to-private`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Permission {
    /// They may
    Allow,
    /// They may not
    Deny,
}

/// The value of `--anonymous`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AnonymousClients {
    /// Everybody
    Allow,
    /// Whoever connects from this machine
    Loopback,
    /// Nobody
    Deny,
}

/// The value of `--dialect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DialectName {
    /// As FreshBlu writes them
    Freshblu,
    /// As the original does
    Meshblu,
}

/// What is known once flags and variables have been read.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The Meshblu API; neither its pepper nor its seed has been drawn.
    pub mesh: MeshConfig,
    /// The pepper, if it was given.
    pub pepper: Option<Pepper>,
    /// Whether that is the one that everybody can read in FreshBlu's documents.
    pub is_pepper_public: bool,
    /// Who needs no credentials.
    pub anonymous: Anonymous,
    /// Whether webhooks may call private addresses.
    pub may_call_private: bool,
    /// Where to listen for HTTP, if no flag says so.
    pub http_port: Option<u16>,
    /// Where to listen for MQTT, if no flag says so.
    pub mqtt_port: Option<u16>,
}

/// Gives a variable of the environment.
pub type Lookup<'a> = dyn Fn(&str) -> Option<OsString> + 'a;

impl Settings {
    /// Reads the variables that no flag overrides. Errs with the variable that makes no sense, its
    /// value, and why.
    pub fn read(arguments: &ServeArguments, lookup: &Lookup<'_>) -> Result<Settings, String> {
        let given = &arguments.devices;
        let defaults = MeshConfig::default();
        let variables = Variables { lookup };
        let dev = match arguments.dev {
            true => AnonymousClients::Loopback,
            false => AnonymousClients::Deny,
        };
        let anonymous = variables.choice(given.anonymous, "ANONYMOUS")?;
        let whitelists = variables.choice(given.default_whitelists, "DEFAULT_WHITELISTS")?;
        let free_topics = variables.choice(given.free_topics, "FREE_TOPICS")?;
        let dialect = variables.choice(given.dialect, "DIALECT")?;
        let private = variables.choice(given.webhooks_to_private, "WEBHOOKS_TO_PRIVATE")?;
        let open = variables.of_both("OPEN_REGISTRATION", given.open_registration, read_bool)?;
        let message_bytes_max =
            variables.of_both("MAX_MESSAGE_SIZE", given.message_bytes_max, |text| {
                read_number(text, MESSAGE_BYTES)
            })?;
        let count =
            |name, given| variables.of_both(name, given, |text| read_number(text, 1..=u32::MAX));
        let pepper = variables.first("PEPPER", true);
        Ok(Settings {
            mesh: MeshConfig {
                is_registration_open: open.unwrap_or(defaults.is_registration_open),
                is_private_by_default: whitelists == Some(DefaultWhitelists::Private),
                has_free_topics: free_topics != Some(Permission::Deny),
                dialect: match dialect {
                    Some(DialectName::Meshblu) => Dialect::Meshblu,
                    Some(DialectName::Freshblu) | None => Dialect::Freshblu,
                },
                rate_limit: count("RATE_LIMIT", given.rate_limit)?.unwrap_or(defaults.rate_limit),
                rate_window_s: count("RATE_WINDOW", given.rate_window)?
                    .unwrap_or(defaults.rate_window_s),
                registrations_max: variables
                    .of_ours("REGISTRATION_LIMIT", given.registration_limit, |text| {
                        read_number(text, 1..=u32::MAX)
                    })?
                    .unwrap_or(defaults.registrations_max),
                message_bytes_max: message_bytes_max
                    .map_or(defaults.message_bytes_max, |bytes| bytes as usize),
                public_key: variables
                    .of_both("PUBLIC_KEY", given.public_key.clone(), |text| {
                        Ok(text.to_owned())
                    })?
                    .map(Into::into),
                ..defaults
            },
            is_pepper_public: pepper
                .as_ref()
                .is_some_and(|(_, text)| text.as_bytes() == FRESHBLU_PEPPER),
            pepper: pepper.map(|(_, text)| Pepper(Sha256::digest(text.as_bytes()).into())),
            anonymous: match anonymous.unwrap_or(dev) {
                AnonymousClients::Allow => Anonymous::Allow,
                AnonymousClients::Loopback => Anonymous::Loopback,
                AnonymousClients::Deny => Anonymous::Deny,
            },
            may_call_private: private == Some(Permission::Allow),
            http_port: variables.of_both("HTTP_PORT", None, read_port)?,
            mqtt_port: variables.of_both("MQTT_PORT", None, read_port)?,
        })
    }
}

struct Variables<'a> {
    lookup: &'a Lookup<'a>,
}

impl Variables<'_> {
    /// The first that says anything: its name and what it says.
    fn first(&self, name: &str, has_freshblu: bool) -> Option<(String, OsString)> {
        let prefixes = ["MESHRING_", "FRESHBLU_"];
        let count = if has_freshblu { 2 } else { 1 };
        prefixes[..count].iter().find_map(|prefix| {
            let name = format!("{prefix}{name}");
            let text = (self.lookup)(&name).filter(|text| !text.is_empty())?;
            Some((name, text))
        })
    }

    fn read<T>(
        &self,
        name: &str,
        has_freshblu: bool,
        given: Option<T>,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        if given.is_some() {
            return Ok(given);
        }
        let Some((name, text)) = self.first(name, has_freshblu) else {
            return Ok(None);
        };
        let refused = |why: String| format!("{name}={}: {why}", text.display());
        let utf8 = text
            .to_str()
            .ok_or_else(|| refused("it is not UTF-8".to_owned()))?;
        read(utf8.trim()).map(Some).map_err(refused)
    }

    /// Of a variable that FreshBlu has as well.
    fn of_both<T>(
        &self,
        name: &str,
        given: Option<T>,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        self.read(name, true, given, read)
    }

    fn of_ours<T>(
        &self,
        name: &str,
        given: Option<T>,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        self.read(name, false, given, read)
    }

    /// One of few words.
    fn choice<T: ValueEnum>(&self, given: Option<T>, name: &str) -> Result<Option<T>, String> {
        self.of_ours(name, given, |text| {
            T::from_str(text, true).map_err(|_| {
                let names = T::value_variants().iter().filter_map(T::to_possible_value);
                let names: Vec<String> = names.map(|value| value.get_name().to_owned()).collect();
                format!("expected {}", names.join(" or "))
            })
        })
    }
}

fn read_bool(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

fn read_port(text: &str) -> Result<u16, String> {
    read_number(text, 0..=u16::MAX)
}

fn read_number<T>(text: &str, range: RangeInclusive<T>) -> Result<T, String>
where
    T: FromStr + PartialOrd + Display,
{
    let number = text.parse().ok().filter(|number| range.contains(number));
    let (low, high) = (range.start(), range.end());
    number.ok_or_else(|| format!("expected a number from {low} to {high}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{Arguments, Command};
    use clap::Parser;

    fn read(line: &str, variables: &[(&str, &str)]) -> Result<Settings, String> {
        let words = ["meshring", "serve"].into_iter();
        let words = words.chain(line.split_whitespace());
        let Command::Serve(arguments) = Arguments::try_parse_from(words).unwrap().command else {
            panic!("{line}");
        };
        Settings::read(&arguments, &|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, text)| text.into())
        })
    }

    #[test]
    fn without_a_word_everything_has_its_default() {
        let settings = read("", &[("MESHRING_RATE_LIMIT", "")]).unwrap();
        let (found, expected) = (settings.mesh, MeshConfig::default());
        assert_eq!(format!("{found:?}"), format!("{expected:?}"));
        assert_eq!(settings.anonymous, Anonymous::Deny);
        assert_eq!(settings.pepper, None);
        assert!(!settings.may_call_private);
        assert_eq!((settings.http_port, settings.mqtt_port), (None, None));
        assert_eq!(read("--dev", &[]).unwrap().anonymous, Anonymous::Loopback);
    }

    #[test]
    fn flags_count_before_our_variables_and_those_before_freshblus() {
        let names = ["MESHRING_RATE_LIMIT", "FRESHBLU_RATE_LIMIT"];
        let limit =
            |line, variables: &[(&str, &str)]| read(line, variables).unwrap().mesh.rate_limit;
        assert_eq!(limit("", &[(names[1], "7")]), 7);
        assert_eq!(limit("", &[(names[1], "7"), (names[0], "8")]), 8);
        assert_eq!(limit("", &[(names[1], "7"), (names[0], "")]), 7);
        assert_eq!(limit("--rate-limit 9", &[(names[0], "8")]), 9);
        // What is overridden is not read.
        assert_eq!(limit("--rate-limit 9", &[(names[0], "many")]), 9);
    }

    #[test]
    fn every_variable_is_read() {
        let variables = [
            ("FRESHBLU_HTTP_PORT", "8081"),
            ("FRESHBLU_MQTT_PORT", "0"),
            ("FRESHBLU_OPEN_REGISTRATION", "false"),
            ("FRESHBLU_MAX_MESSAGE_SIZE", "2048"),
            ("FRESHBLU_RATE_WINDOW", "5"),
            ("FRESHBLU_PUBLIC_KEY", "key"),
            ("FRESHBLU_PEPPER", "salt"),
            ("MESHRING_REGISTRATION_LIMIT", "6"),
            ("MESHRING_DEFAULT_WHITELISTS", "private"),
            ("MESHRING_FREE_TOPICS", "deny"),
            ("MESHRING_ANONYMOUS", "allow"),
            ("MESHRING_DIALECT", "Meshblu"),
            ("MESHRING_WEBHOOKS_TO_PRIVATE", "allow"),
        ];
        let settings = read("--dev", &variables).unwrap();
        assert_eq!(
            (settings.http_port, settings.mqtt_port),
            (Some(8081), Some(0))
        );
        assert_eq!(settings.anonymous, Anonymous::Allow);
        assert!(settings.may_call_private && !settings.is_pepper_public);
        let expected = MeshConfig {
            is_registration_open: false,
            is_private_by_default: true,
            has_free_topics: false,
            dialect: Dialect::Meshblu,
            rate_window_s: 5,
            registrations_max: 6,
            message_bytes_max: 2_048,
            public_key: Some("key".into()),
            ..MeshConfig::default()
        };
        assert_eq!(format!("{:?}", settings.mesh), format!("{expected:?}"));
        let pepper = settings.pepper.unwrap();
        assert_eq!(pepper.0, <[u8; 32]>::from(Sha256::digest("salt")));
        let public = read("", &[("FRESHBLU_PEPPER", "change-me-in-production")]);
        assert!(public.unwrap().is_pepper_public);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (name, text, words) in [
            (
                "FRESHBLU_HTTP_PORT",
                "http",
                "expected a number from 0 to 65535",
            ),
            (
                "MESHRING_MQTT_PORT",
                "65536",
                "expected a number from 0 to 65535",
            ),
            (
                "MESHRING_OPEN_REGISTRATION",
                "maybe",
                "expected true or false",
            ),
            ("MESHRING_RATE_LIMIT", "0", "expected a number from 1 to"),
            (
                "FRESHBLU_MAX_MESSAGE_SIZE",
                "-1",
                "expected a number from 1024 to",
            ),
            (
                "MESHRING_ANONYMOUS",
                "root",
                "expected allow or loopback or deny",
            ),
            ("MESHRING_DIALECT", "skynet", "expected freshblu or meshblu"),
            ("MESHRING_FREE_TOPICS", "yes", "expected allow or deny"),
        ] {
            let error = read("", &[(name, text)]).unwrap_err();
            assert_eq!(
                error.split_once(words).unwrap().0,
                format!("{name}={text}: ")
            );
        }
    }
}
