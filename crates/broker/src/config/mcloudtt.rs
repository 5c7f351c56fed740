//! The configuration of McloudTT, for those who move from there.
//!
//! What it says is taken over where this broker has the same; what there is no counterpart for is
//! said plainly. Where leaving something out would be unsafe – TLS – it is an error; where McloudTT
//! itself, as it is built without a word, leaves it out as well – Redis, BigQuery – a warning.

use super::file::Entry;
use super::keys::default_ip;
use super::problem::{Origin, Problem};
use super::raw::Raw;
use super::setting::{ANY, Setting};

/// What becomes of one of its keys.
enum Fate {
    /// It is said by another key here.
    Becomes(&'static str, fn(&Raw, bool) -> Result<Raw, String>),
    /// It asks for what is there anyway if true; if false, for a key here to be so.
    WebSocket,
    /// It cannot be had, and going on without it is not safe.
    Refused(&'static str),
    /// It cannot be had.
    Missing(&'static str),
}

const TLS: &str = "this broker has no TLS yet: it would speak to clients without encryption. Take \
                   [tls] out if that is meant, for example behind a proxy that ends TLS";
const BIGQUERY: &str = "messages are not written to BigQuery by this broker";
const REDIS: &str = "this broker does not exchange messages through Redis; what it keeps is in \
                     general.data";

/// All keys of McloudTT.
const KEYS: &[(&str, Fate)] = &[
    ("general.websocket", Fate::WebSocket),
    (
        "general.timeout",
        Fate::Becomes("mqtt.keep_alive_max_s", |raw, _| Ok(raw.clone())),
    ),
    ("tls.certfile", Fate::Refused(TLS)),
    ("tls.keyfile", Fate::Refused(TLS)),
    ("ports.tcp", Fate::Becomes("mqtt.listen", port)),
    ("ports.ws", Fate::Becomes("http.listen", port)),
    ("bigquery.project_id", Fate::Missing(BIGQUERY)),
    ("bigquery.dataset_id", Fate::Missing(BIGQUERY)),
    ("bigquery.table_id", Fate::Missing(BIGQUERY)),
    ("bigquery.credentials_path", Fate::Missing(BIGQUERY)),
    ("redis.host", Fate::Missing(REDIS)),
    ("redis.port", Fate::Missing(REDIS)),
];

/// Whether it has such a section.
pub fn has_section(section: &str) -> bool {
    KEYS.iter()
        .any(|(path, _)| path.split_once('.').is_some_and(|(own, _)| own == section))
}

/// Whether it has such a key.
pub fn has_key(path: &str) -> bool {
    KEYS.iter().any(|(known, _)| *known == path)
}

/// What a variable such as `MCLOUDTT_PORTS.TCP` is about.
pub fn path_of_variable(name: &str) -> Option<String> {
    let rest = name
        .strip_prefix("MCLOUDTT_")
        .or_else(|| name.strip_prefix("mcloudtt_"))?;
    Some(rest.to_ascii_lowercase().replace("__", "."))
}

fn port(raw: &Raw, dev: bool) -> Result<Raw, String> {
    let port = u16::read(raw, ANY)?;
    Ok(Raw::List(vec![Raw::Word(format!(
        "{}:{port}",
        default_ip(dev)
    ))]))
}

/// Puts what is said in McloudTT's words into ours. Where both are used for one thing, ours must
/// not be there.
pub fn translate(entries: Vec<Entry>, dev: bool, problems: &mut Vec<Problem>) -> Vec<Entry> {
    let (theirs, mut ours): (Vec<Entry>, Vec<Entry>) =
        entries.into_iter().partition(|entry| has_key(&entry.path));
    let mut said: Vec<&str> = Vec::new();
    let has_websocket_off = theirs
        .iter()
        .any(|entry| entry.path == "general.websocket" && bool::read(&entry.raw, ANY) == Ok(false));
    for Entry { path, raw, origin } in &theirs {
        let fate = KEYS
            .iter()
            .find(|(known, _)| known == path)
            .map(|(_, fate)| fate);
        let problem = match fate.expect("they were chosen so") {
            // Its port is closed, so it does not matter which one that is.
            Fate::Becomes("http.listen", _) if has_websocket_off => continue,
            Fate::Becomes(key, convert) => match convert(raw, dev) {
                Ok(raw) => {
                    push(&mut ours, path, key, raw, origin, problems);
                    continue;
                }
                Err(why) => Problem::error(origin.clone(), format!("{path} = {raw}: {why}")),
            },
            Fate::WebSocket => match bool::read(raw, ANY) {
                Ok(true) => continue,
                Ok(false) => {
                    push(
                        &mut ours,
                        path,
                        "http.listen",
                        Raw::List(vec![]),
                        origin,
                        problems,
                    );
                    continue;
                }
                Err(why) => Problem::error(origin.clone(), format!("{path} = {raw}: {why}")),
            },
            // Once for each section.
            Fate::Refused(why) | Fate::Missing(why) if said.contains(why) => continue,
            Fate::Refused(why) => {
                said.push(why);
                Problem::error(origin.clone(), format!("{path}: {why}"))
            }
            Fate::Missing(why) => {
                said.push(why);
                Problem::warning(origin.clone(), format!("{path}: {why}"))
            }
        };
        problems.push(problem);
    }
    if let Some(about) = lets_nobody_in(&theirs, &ours) {
        problems.push(about);
    }
    ours
}

fn push(
    ours: &mut Vec<Entry>,
    path: &str,
    key: &str,
    raw: Raw,
    origin: &Origin,
    problems: &mut Vec<Problem>,
) {
    if let Some(twice) = ours.iter().find(|entry| entry.path == key) {
        let text = format!(
            "{path}, of McloudTT, and {key} ({}) say the same; keep one",
            twice.origin
        );
        problems.push(Problem::error(origin.clone(), text));
        return;
    }
    ours.push(Entry {
        path: key.to_owned(),
        raw,
        origin: origin.clone(),
    });
}

/// McloudTT asks nobody for credentials.
fn lets_nobody_in(theirs: &[Entry], ours: &[Entry]) -> Option<Problem> {
    let ports = theirs.iter().find(|entry| entry.path == "ports.tcp")?;
    if ours
        .iter()
        .any(|entry| entry.path == "mqtt.allow_anonymous")
    {
        return None;
    }
    let text = "McloudTT lets every client in; here only devices log in unless \
                mqtt.allow_anonymous says otherwise";
    Some(Problem::warning(ports.origin.clone(), text))
}

#[cfg(test)]
mod tests {
    use super::super::file::parse;
    use super::*;

    const STOCK: &str = "[general]\nwebsocket = true\ntimeout = 10\n\n[tls]\ncertfile = \"a.crt\"\n\
                         keyfile = \"a.key\"\n\n[ports]\ntcp = 1883\nws = 8080\n\n[bigquery]\n\
                         project_id = \"p\"\ndataset_id = \"d\"\ntable_id = \"t\"\n\
                         credentials_path = \"sa.key\"\n\n[redis]\nhost = \"redis\"\nport = 6379\n";

    fn translated(text: &str) -> (Vec<String>, Vec<String>) {
        let read = parse("config.toml", text);
        let mut problems = read.problems;
        let entries = translate(read.entries, false, &mut problems);
        let mut ours: Vec<String> = entries
            .iter()
            .map(|entry| format!("{} = {}", entry.path, entry.raw))
            .collect();
        ours.sort();
        (ours, problems.iter().map(Problem::to_string).collect())
    }

    #[test]
    fn its_own_file_is_understood_word_by_word() {
        let (ours, problems) = translated(STOCK);
        let expected = [
            "http.listen = [0.0.0.0:8080]",
            "mqtt.keep_alive_max_s = 10",
            "mqtt.listen = [0.0.0.0:1883]",
        ];
        assert_eq!(ours, expected);
        let begins: Vec<&str> = problems.iter().map(|text| &text[..30]).collect();
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(
            problems
                .iter()
                .any(|text| text.starts_with("config.toml:6: tls.certfile: "))
        );
        let warned = |words: &str| {
            problems
                .iter()
                .any(|text| text.starts_with("warning: ") && text.contains(words))
        };
        assert!(warned("BigQuery") && warned("Redis"), "{begins:?}");
        assert!(warned("mqtt.allow_anonymous"));
    }

    #[test]
    fn without_websockets_nobody_listens_for_them() {
        let text = "[general]\nwebsocket = false\n[ports]\ntcp = 1884\nws = 1\n[mqtt]\n\
                    allow_anonymous = true\n";
        let (ours, problems) = translated(text);
        assert_eq!(problems, [""; 0]);
        let expected = [
            "http.listen = []",
            "mqtt.allow_anonymous = true",
            "mqtt.listen = [0.0.0.0:1884]",
        ];
        assert_eq!(ours, expected);
    }

    #[test]
    fn what_both_say_and_what_makes_no_sense_is_an_error() {
        let (_, problems) = translated("[ports]\ntcp = 1\n[mqtt]\nlisten = [\"0.0.0.0:2\"]\n");
        assert!(
            problems[0].contains("ports.tcp, of McloudTT, and mqtt.listen"),
            "{problems:?}"
        );
        let (_, problems) = translated("[ports]\nws = 70000\n[general]\nwebsocket = 1\n");
        assert!(
            problems
                .iter()
                .any(|text| text.contains("ports.ws = 70000: expected a number"))
        );
        assert!(
            problems
                .iter()
                .any(|text| text.contains("expected true or false"))
        );
        let (_, problems) = translated("[ports]\nudp = 1\n");
        assert!(
            problems[0].contains("there is no ports.udp"),
            "{problems:?}"
        );
    }

    #[test]
    fn its_variables_have_paths() {
        assert_eq!(
            path_of_variable("MCLOUDTT_PORTS.TCP").as_deref(),
            Some("ports.tcp")
        );
        assert_eq!(
            path_of_variable("mcloudtt_ports__ws").as_deref(),
            Some("ports.ws")
        );
        assert_eq!(path_of_variable("MESHRING_PORTS"), None);
    }
}
