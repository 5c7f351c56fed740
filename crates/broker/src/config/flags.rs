//! The flags of keys, made of the table of keys: their help, their defaults and their variables
//! cannot differ from what a file is told.

use super::choices::LogFormat;
use super::key::Key;
use super::keys::{Config, KEYS, SECTIONS};
use super::raw::Raw;
use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser, ValueParser};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches, ValueEnum};
use serde_json::Value;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// What flags say, in the order of the keys.
#[derive(Clone, Debug, Default)]
pub struct Flags(pub Vec<(&'static Key, Raw)>);

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        let flags = KEYS.iter().filter_map(|key| Some((key, key.flag?)));
        flags.fold(command, |command, (key, (flag, value_name))| {
            command.arg(arg(key, flag, value_name))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Flags::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Flags, Error> {
        let mut said = Vec::new();
        for key in KEYS {
            let Some(uses) = key
                .flag
                .and_then(|(flag, _)| matches.get_many::<OsString>(flag))
            else {
                continue;
            };
            let mut words = uses.map(word);
            let raw = match key.is_list {
                true => Some(Raw::List(words.collect())),
                false => words.next(),
            };
            said.extend(raw.map(|raw| (key, raw)));
        }
        Ok(Flags(said))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Flags::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Flags about the log, which all commands have.
#[derive(Args, Clone, Debug, Default)]
pub struct LogFlags {
    /// What to log on stderr: error, warn, info, debug, trace, or a filter such as
    /// `info,net=debug`. Without it the environment variable RUST_LOG decides, then `general.log`
    /// in the broker's configuration, and without those it is `info`
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log: Option<String>,
    /// How lines are written on stderr. Without it the environment variable MESHRING_LOG_FORMAT
    /// decides, then `general.log_format` in the broker's configuration, and without those it is
    /// `auto`
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

impl LogFlags {
    /// What they say of their keys.
    pub fn said(&self) -> impl Iterator<Item = (&'static Key, Raw)> + use<> {
        let format = self
            .log_format
            .and_then(|format| format.to_possible_value());
        let format = format.map(|format| format.get_name().to_owned());
        let said = [
            ("general.log", self.log.clone()),
            ("general.log_format", format),
        ];
        said.into_iter().filter_map(|(path, text)| {
            let key = super::keys::find(path).expect("there is such a key");
            Some((key, Raw::Word(text?)))
        })
    }
}

fn word(value: &OsString) -> Raw {
    match value.to_str() {
        Some(text) => Raw::Word(text.to_owned()),
        None => Raw::Bytes(value.clone().into_vec()),
    }
}

fn arg(key: &'static Key, flag: &'static str, value_name: &'static str) -> Arg {
    let heading = SECTIONS.iter().find(|section| section.name == key.section);
    let action = if key.is_list {
        ArgAction::Append
    } else {
        ArgAction::Set
    };
    Arg::new(flag)
        .long(flag)
        .value_name(value_name)
        .action(action)
        .help(help(key))
        .help_heading(heading.map(|section| section.title))
        .value_parser(parser(key))
}

/// Where only few words are right, shells can complete them.
fn parser(key: &'static Key) -> ValueParser {
    let words = (key.words)();
    if !words.is_empty() {
        return PossibleValuesParser::new(words).map(OsString::from).into();
    }
    let check = move |value: OsString| -> Result<OsString, String> {
        let one = match key.is_list {
            true => Raw::List(vec![word(&value)]),
            false => word(&value),
        };
        key.read(&mut Config::default(), &one)?;
        Ok(value)
    };
    OsStringValueParser::new().try_map(check).into()
}

fn help(key: &Key) -> String {
    let several = if key.is_list {
        " (several times allowed)"
    } else {
        ""
    };
    let text = key
        .doc
        .iter()
        .map(|line| line.trim())
        .collect::<Vec<_>>()
        .join(" ");
    let text = text.trim_end_matches('.');
    let default = plain(&(key.show)(&Config::defaults(false)));
    let default = match key.dev {
        Some(_) => format!(
            "{} with --dev, else {default}",
            plain(&(key.show)(&Config::defaults(true)))
        ),
        None if default.is_empty() => "none".to_owned(),
        None => default,
    };
    let older = key.variables.iter().map(|name| (*name).to_owned());
    let ports = key.ports.iter().map(|name| format!("{name} (a port)"));
    let names: Vec<String> = [key.variable()]
        .into_iter()
        .chain(older)
        .chain(ports)
        .collect();
    format!(
        "{text}{several} [default: {default}] [env: {}]",
        names.join(", ")
    )
}

/// A value as a flag says it.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(plain).collect::<Vec<_>>().join(","),
        Value::Object(entries) => {
            let entry = |(key, value): (&String, &Value)| format!("{key}={}", plain(value));
            entries.iter().map(entry).collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}
