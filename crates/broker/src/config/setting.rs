//! The types of keys: how each is read, and how it is shown.
//!
//! Whoever cannot read a value says what was expected, in words that go behind the key's name.

use super::choices::{
    AnonymousClients, DefaultWhitelists, DialectName, Driver, LogFormat, Permission, QueueFull,
};
use super::raw::Raw;
use crate::cpus::CpuList;
use crate::durability::{Mode, PrefixMode};
use clap::ValueEnum;
use clap::builder::PossibleValue;
use serde_json::{Value, json};
use shard::limits::SHARDS_MAX;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// The lowest and the highest number that a key takes.
pub type Range = (i128, i128);
/// Of a key whose type says enough.
pub const ANY: Range = (i128::MIN, i128::MAX);

/// The type of a key.
pub trait Setting: Sized {
    /// Reads a value. Errs with what was expected.
    fn read(raw: &Raw, range: Range) -> Result<Self, String>;

    /// The value as JSON, which says how it is written in a file as well.
    fn show(&self) -> Value;

    /// What can be written for it, for documents; empty where the default says enough.
    fn choices() -> String {
        String::new()
    }

    /// The only words that it takes; none if others are right as well.
    fn words() -> Vec<PossibleValue> {
        Vec::new()
    }
}

macro_rules! numbers {
    ($($number:ty),+) => {$(
        impl Setting for $number {
            fn read(raw: &Raw, (low, high): Range) -> Result<$number, String> {
                let low = low.max(i128::from(<$number>::MIN));
                let high = high.min(i128::from(<$number>::MAX));
                let number = match raw {
                    Raw::Number(number) => Some(*number),
                    Raw::Word(text) => text.parse().ok(),
                    _ => None,
                };
                number
                    .filter(|number| (low..=high).contains(number))
                    .and_then(|number| <$number>::try_from(number).ok())
                    .ok_or_else(|| format!("expected a number from {low} to {high}"))
            }

            fn show(&self) -> Value {
                json!(self)
            }
        }
    )+};
}
numbers!(u16, u32, u64);

impl Setting for bool {
    fn read(raw: &Raw, _: Range) -> Result<bool, String> {
        truth(raw).ok_or_else(|| "expected true or false".to_owned())
    }

    fn show(&self) -> Value {
        json!(self)
    }

    fn choices() -> String {
        "true or false".to_owned()
    }

    fn words() -> Vec<PossibleValue> {
        vec![PossibleValue::new("true"), PossibleValue::new("false")]
    }
}

/// Whether it says yes or no, if it says either.
fn truth(raw: &Raw) -> Option<bool> {
    match raw {
        Raw::Bool(value) => Some(*value),
        Raw::Word(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// Bytes: a number, or a text such as `64 MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl Bytes {
    /// As many as memory can have.
    pub fn in_memory(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Setting for Bytes {
    fn read(raw: &Raw, range: Range) -> Result<Bytes, String> {
        let (low, high) = (range.0.max(0), range.1.min(i128::from(i64::MAX)));
        let number = match raw {
            Raw::Number(number) => Some(*number),
            _ => raw.text().and_then(bytes_of),
        };
        number
            .filter(|number| (low..=high).contains(number))
            .and_then(|number| u64::try_from(number).ok())
            .map(Bytes)
            .ok_or_else(|| {
                format!("expected a number from {low} to {high}, or one with KiB, MiB or GiB")
            })
    }

    fn show(&self) -> Value {
        json!(self.0)
    }

    fn choices() -> String {
        "a number of bytes, or a text such as \"64 MiB\"".to_owned()
    }
}

fn bytes_of(text: &str) -> Option<i128> {
    let units = [("KiB", 1_i128 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    let (digits, unit) = units
        .iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)))
        .unwrap_or((text, 1));
    let number: u64 = digits.trim().parse().ok()?;
    Some(i128::from(number) * unit)
}

/// Any text; none if it is empty.
impl Setting for String {
    fn read(raw: &Raw, _: Range) -> Result<String, String> {
        let text = raw.text().ok_or("expected a text in quotation marks")?;
        Ok(text.to_owned())
    }

    fn show(&self) -> Value {
        json!(self)
    }
}

impl Setting for PathBuf {
    fn read(raw: &Raw, _: Range) -> Result<PathBuf, String> {
        let path = match raw {
            Raw::Bytes(bytes) => Some(PathBuf::from(OsString::from_vec(bytes.clone()))),
            _ => raw.text().map(PathBuf::from),
        };
        let path = path.filter(|path| !path.as_os_str().is_empty());
        path.ok_or_else(|| "expected a path in quotation marks".to_owned())
    }

    fn show(&self) -> Value {
        json!(self.display().to_string())
    }
}

/// A path, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MaybePath(pub Option<PathBuf>);

impl Setting for MaybePath {
    fn read(raw: &Raw, range: Range) -> Result<MaybePath, String> {
        match raw.text() {
            Some("") => Ok(MaybePath(None)),
            _ => PathBuf::read(raw, range).map(|path| MaybePath(Some(path))),
        }
    }

    fn show(&self) -> Value {
        self.0.as_ref().map_or(json!(""), PathBuf::show)
    }
}

/// What is logged, as `tracing` filters it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(pub String);

impl Setting for LogFilter {
    fn read(raw: &Raw, _: Range) -> Result<LogFilter, String> {
        let text = raw.text().ok_or("expected a text in quotation marks")?;
        crate::logs::parse(text).map_err(|error| format!("{error:#}"))?;
        Ok(LogFilter(text.to_owned()))
    }

    fn show(&self) -> Value {
        json!(self.0)
    }

    fn choices() -> String {
        "error, warn, info, debug, trace, or a filter such as \"info,net=debug\"".to_owned()
    }
}

/// A secret, which is never shown; empty if there is none.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(if self.0.is_empty() { "none" } else { "masked" })
    }
}

impl Setting for Secret {
    fn read(raw: &Raw, _: Range) -> Result<Secret, String> {
        match raw {
            Raw::Bytes(bytes) => Ok(Secret(bytes.clone())),
            Raw::Text(text) | Raw::Word(text) => Ok(Secret(text.as_bytes().to_vec())),
            _ => Err("expected a text in quotation marks".to_owned()),
        }
    }

    fn show(&self) -> Value {
        json!(if self.0.is_empty() { "" } else { "********" })
    }
}

/// How many shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shards {
    /// One per CPU that can be used.
    Auto,
    /// So many.
    Count(u16),
}

impl Setting for Shards {
    fn read(raw: &Raw, _: Range) -> Result<Shards, String> {
        if raw.text() == Some("auto") {
            return Ok(Shards::Auto);
        }
        let count = u16::read(raw, (1, SHARDS_MAX as i128));
        let quoted = if raw.is_of_a_file() {
            "\"auto\""
        } else {
            "auto"
        };
        count
            .map(Shards::Count)
            .map_err(|_| format!("expected {quoted} or a number from 1 to {SHARDS_MAX}"))
    }

    fn show(&self) -> Value {
        match self {
            Shards::Auto => json!("auto"),
            Shards::Count(count) => json!(count),
        }
    }

    fn choices() -> String {
        format!("\"auto\" or a number from 1 to {SHARDS_MAX}")
    }
}

/// Which CPUs shards are pinned to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cpus {
    /// The first that can be used.
    Auto,
    /// These.
    These(CpuList),
}

impl Setting for Cpus {
    fn read(raw: &Raw, _: Range) -> Result<Cpus, String> {
        match raw.text() {
            Some("auto") => Ok(Cpus::Auto),
            Some(text) => Ok(Cpus::These(text.parse()?)),
            None => {
                Err("expected \"auto\" or CPUs in quotation marks, such as \"0,2-5\"".to_owned())
            }
        }
    }

    fn show(&self) -> Value {
        match self {
            Cpus::Auto => json!("auto"),
            Cpus::These(list) => json!(list.to_string()),
        }
    }

    fn choices() -> String {
        "\"auto\" or a list such as \"0,2-5\"".to_owned()
    }
}

/// Addresses to listen on.
impl Setting for Vec<SocketAddr> {
    fn read(raw: &Raw, _: Range) -> Result<Vec<SocketAddr>, String> {
        addresses_in(raw)?.iter().map(address).collect()
    }

    fn show(&self) -> Value {
        self.iter()
            .map(|address| json!(address.to_string()))
            .collect()
    }
}

const ADDRESSES: &str =
    "an IP address and a port, such as 127.0.0.1:1883, 0.0.0.0:1883 or [::1]:1883";

/// The parts of a list of addresses; each use of a flag may have several, with commas.
fn addresses_in(raw: &Raw) -> Result<Vec<Raw>, String> {
    let parts = raw
        .parts()
        .ok_or_else(|| format!("expected a list of {ADDRESSES}"))?;
    let split = |part: Raw| match part {
        Raw::Word(_) => part.parts().unwrap_or_default(),
        other => vec![other],
    };
    Ok(parts.into_iter().flat_map(split).collect())
}

/// An address with a port. Names are not looked up: a broker should not change its listeners with
/// the weather of a name server.
fn address(raw: &Raw) -> Result<SocketAddr, String> {
    let address = raw.text().and_then(|text| text.parse().ok());
    address.ok_or_else(|| format!("expected {ADDRESSES}, found {raw}"))
}

/// Where to listen for HTTP, and how to answer there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpListener {
    /// Where.
    pub address: SocketAddr,
    /// How results are written; `http.dialect` decides where this does not.
    pub dialect: Option<DialectName>,
}

impl Setting for Vec<HttpListener> {
    fn read(raw: &Raw, _: Range) -> Result<Vec<HttpListener>, String> {
        addresses_in(raw)?.iter().map(http_listener).collect()
    }

    fn show(&self) -> Value {
        let show = |listener: &HttpListener| match listener.dialect {
            None => json!(listener.address.to_string()),
            Some(dialect) => {
                json!({"address": listener.address.to_string(), "dialect": dialect.show()})
            }
        };
        self.iter().map(show).collect()
    }

    fn choices() -> String {
        "addresses, or tables such as { address = \"0.0.0.0:3001\", dialect = \"meshblu\" }"
            .to_owned()
    }
}

fn http_listener(raw: &Raw) -> Result<HttpListener, String> {
    let Raw::Table(entries) = raw else {
        let address = address(raw)?;
        return Ok(HttpListener {
            address,
            dialect: None,
        });
    };
    let (mut found, mut dialect) = (None, None);
    for (key, value) in entries {
        match key.as_str() {
            "address" => found = Some(address(value)?),
            "dialect" => {
                let read = DialectName::read(value, ANY);
                dialect = Some(read.map_err(|why| format!("dialect: {why}, found {value}"))?);
            }
            other => {
                return Err(format!(
                    "a listener has an address and a dialect, no `{other}`"
                ));
            }
        }
    }
    let address = found.ok_or("a listener needs an address")?;
    Ok(HttpListener { address, dialect })
}

/// Topics with a durability of their own.
impl Setting for Vec<PrefixMode> {
    fn read(raw: &Raw, _: Range) -> Result<Vec<PrefixMode>, String> {
        if let Raw::Table(entries) = raw {
            let entry = |(prefix, mode): &(String, Raw)| match mode.text() {
                Some(mode) => format!("{prefix}={mode}").parse(),
                None => Err(format!("{prefix}: expected \"commit\" or \"interval\"")),
            };
            return entries.iter().map(entry).collect();
        }
        let wrong = || "expected a table such as { \"telemetry/\" = \"interval\" }".to_owned();
        let parts = raw.parts().ok_or_else(wrong)?;
        let words = parts
            .iter()
            .map(|part| part.text().ok_or_else(wrong)?.parse());
        words.collect()
    }

    fn show(&self) -> Value {
        let entry = |one: &PrefixMode| (one.prefix.clone(), one.mode.show());
        Value::Object(self.iter().map(entry).collect())
    }

    fn choices() -> String {
        "a table such as { \"telemetry/\" = \"interval\" }".to_owned()
    }
}

/// The words of an enum, as they are written in a file or elsewhere.
fn words<T: ValueEnum>(with_quotes: bool) -> String {
    let values = T::value_variants().iter().filter_map(T::to_possible_value);
    let quoted = |value: PossibleValue| match with_quotes {
        true => format!("\"{}\"", value.get_name()),
        false => value.get_name().to_owned(),
    };
    values.map(quoted).collect::<Vec<_>>().join(" or ")
}

fn read_word<T: ValueEnum>(raw: &Raw) -> Result<T, String> {
    let found = raw.text().and_then(|text| T::from_str(text, true).ok());
    found.ok_or_else(|| format!("expected {}", words::<T>(raw.is_of_a_file())))
}

fn show_word<T: ValueEnum>(value: &T) -> Value {
    let value = value.to_possible_value().expect("no variant is hidden");
    json!(value.get_name())
}

macro_rules! choices {
    ($($choice:ty $(: $yes:expr, $no:expr)?);+ $(;)?) => {$(
        impl Setting for $choice {
            fn read(raw: &Raw, _: Range) -> Result<$choice, String> {
                $(
                    if let Some(value) = truth(raw) {
                        return Ok(if value { $yes } else { $no });
                    }
                )?
                read_word(raw)
            }

            fn show(&self) -> Value {
                show_word(self)
            }

            fn choices() -> String {
                words::<$choice>(true)
            }

            fn words() -> Vec<PossibleValue> {
                <$choice>::value_variants().iter().filter_map(ValueEnum::to_possible_value).collect()
            }
        }
    )+};
}
choices! {
    Mode;
    QueueFull;
    Driver;
    LogFormat;
    DefaultWhitelists;
    DialectName;
    Permission: Permission::Allow, Permission::Deny;
    AnonymousClients: AnonymousClients::Allow, AnonymousClients::Deny;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Raw {
        Raw::Word(text.to_owned())
    }

    fn text(text: &str) -> Raw {
        Raw::Text(text.to_owned())
    }

    #[test]
    fn numbers_have_ranges() {
        let read = |raw: &Raw| u16::read(raw, (1, 1_000_000));
        assert_eq!(read(&Raw::Number(65_535)), Ok(65_535));
        assert_eq!(read(&word("1")), Ok(1));
        for wrong in [
            Raw::Number(0),
            Raw::Number(65_536),
            word("x"),
            text("1"),
            Raw::Bool(true),
        ] {
            assert_eq!(
                read(&wrong),
                Err("expected a number from 1 to 65535".to_owned())
            );
        }
    }

    #[test]
    fn bytes_may_have_a_unit() {
        let read = |raw: &Raw| Bytes::read(raw, (1_024, 4 << 30)).map(|bytes| bytes.0);
        assert_eq!(read(&Raw::Number(2_048)), Ok(2_048));
        assert_eq!(read(&text("64 MiB")), Ok(64 << 20));
        assert_eq!(read(&word("1KiB")), Ok(1_024));
        assert_eq!(read(&word("4GiB")), Ok(4 << 30));
        for wrong in [
            text("64 MB"),
            text("5 GiB"),
            text("-1 KiB"),
            text("1 B"),
            text(""),
        ] {
            assert!(
                read(&wrong)
                    .unwrap_err()
                    .starts_with("expected a number from 1024 to")
            );
        }
    }

    #[test]
    fn words_are_listed_as_they_are_written_there() {
        let read = |raw: &Raw| AnonymousClients::read(raw, ANY);
        assert_eq!(read(&text("Loopback")), Ok(AnonymousClients::Loopback));
        assert_eq!(read(&Raw::Bool(true)), Ok(AnonymousClients::Allow));
        assert_eq!(read(&Raw::Bool(false)), Ok(AnonymousClients::Deny));
        let wrong = read(&word("root")).unwrap_err();
        assert_eq!(wrong, "expected allow or loopback or deny");
        let wrong = read(&text("root")).unwrap_err();
        assert_eq!(wrong, r#"expected "allow" or "loopback" or "deny""#);
        assert!(Driver::read(&Raw::Bool(true), ANY).is_err());
    }

    #[test]
    fn listeners_are_addresses_or_tables() {
        let listener = |entries: &[(&str, Raw)]| {
            let entries = entries
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.clone()));
            Vec::<HttpListener>::read(&Raw::List(vec![Raw::Table(entries.collect())]), ANY)
        };
        let address = || ("address", text("127.0.0.1:1"));
        let read = listener(&[address(), ("dialect", text("meshblu"))]).unwrap();
        assert_eq!(read[0].dialect, Some(DialectName::Meshblu));
        let shown = json!([{"address": "127.0.0.1:1", "dialect": "meshblu"}]);
        assert_eq!(read.show(), shown);
        assert_eq!(
            listener(&[address()]).unwrap().show(),
            json!(["127.0.0.1:1"])
        );
        for (wrong, words) in [
            (listener(&[]), "needs an address"),
            (
                listener(&[address(), ("port", Raw::Number(1))]),
                "no `port`",
            ),
            (
                listener(&[address(), ("dialect", text("x"))]),
                "dialect: expected",
            ),
            (
                listener(&[("address", text("localhost:1"))]),
                "found \"localhost:1\"",
            ),
            (
                Vec::<HttpListener>::read(&Raw::Number(1), ANY),
                "expected a list",
            ),
        ] {
            let why = wrong.unwrap_err();
            assert!(why.contains(words), "{why}");
        }
    }

    #[test]
    fn prefixes_are_a_table_or_words() {
        let table = vec![("a/".to_owned(), text("interval"))];
        let read = |raw: &Raw| Vec::<PrefixMode>::read(raw, ANY);
        let one = read(&Raw::Table(table)).unwrap();
        assert_eq!(one, read(&word("a/=interval")).unwrap());
        assert_eq!(one.show(), json!({"a/": "interval"}));
        for wrong in [
            Raw::Table(vec![("a".to_owned(), text("memory"))]),
            Raw::Table(vec![("".to_owned(), text("commit"))]),
            Raw::Table(vec![("a".to_owned(), Raw::Number(1))]),
            Raw::List(vec![Raw::Number(1)]),
            Raw::Bool(true),
        ] {
            assert!(read(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let secret = Secret::read(&text("hunter2"), ANY).unwrap();
        assert_eq!(secret.0, b"hunter2");
        assert_eq!(
            (secret.show(), format!("{secret:?}")),
            (json!("********"), "masked".into())
        );
        assert_eq!(Secret::default().show(), json!(""));
    }
}
