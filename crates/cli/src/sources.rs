//! Where the address of the server and the credentials may come from: flags, the environment, a
//! file. Each becomes a [`Layer`]; [`Settings`](crate::settings::Settings) lays them over each
//! other.

use crate::Connection;
use crate::failure::Failure;
use crate::server::Server;
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// The longest file with credentials that is read, in bytes.
pub const FILE_BYTES_MAX: u64 = 65_536;

/// The files that are looked for in the current directory, the first one that is there counts.
pub const FILES: [&str; 3] = ["meshring.json", "freshblu.json", "meshblu.json"];

/// What the names of variables begin with, the first one that is set counts.
const PREFIXES: [&str; 3] = ["MESHRING", "FRESHBLU", "MESHBLU"];

/// What one source says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    /// What it is called in `meshring config`.
    pub name: String,
    /// The address of the server.
    pub server: Option<String>,
    /// The device to log in as.
    pub uuid: Option<String>,
    /// Its token.
    pub token: Option<String>,
}

/// All sources, the strongest first: flags, variables, a file. The file that `--config` names may
/// be missing only if `may_be_missing`.
///
/// # Errors
///
/// [`Failure::Usage`] if that file is missing, or the file that counts cannot be read.
pub fn layers(connection: &Connection, may_be_missing: bool) -> Result<Vec<Layer>, Failure> {
    let mut layers = vec![Layer {
        name: "command line".to_owned(),
        server: connection.server.clone(),
        uuid: connection.uuid.clone(),
        token: connection.token.clone(),
    }];
    let variable = |name: &str| std::env::var(name).ok();
    layers.extend(PREFIXES.map(|prefix| of_environment(prefix, variable)));
    match &connection.config {
        Some(path) => match of_file(path)? {
            None if !may_be_missing => {
                let why = format!("{}: there is no such file", path.display());
                return Err(Failure::Usage(why));
            }
            file => layers.extend(file),
        },
        None => layers.extend(first_file(Path::new(""))?),
    }
    Ok(layers)
}

/// The first of [`FILES`] that is in `folder`.
fn first_file(folder: &Path) -> Result<Option<Layer>, Failure> {
    for name in FILES {
        if let Some(layer) = of_file(&folder.join(name))? {
            return Ok(Some(layer));
        }
    }
    Ok(None)
}

/// What variables such as `MESHRING_UUID` say; a variable that is empty says nothing.
fn of_environment(prefix: &str, variable: impl Fn(&str) -> Option<String>) -> Layer {
    let get = |name: &str| variable(&format!("{prefix}_{name}")).filter(|value| !value.is_empty());
    let port = get("PORT").and_then(|port| port.parse().ok());
    // Meshblu's clients know the host under both names.
    let host = get("SERVER").or_else(|| get("HOSTNAME"));
    Layer {
        name: format!("environment, {prefix}_*"),
        server: host.map(|host| Server::from_parts(&host, port, get("PROTOCOL").as_deref())),
        uuid: get("UUID"),
        token: get("TOKEN"),
    }
}

/// Reads a file with credentials; `None` if there is none.
fn of_file(path: &Path) -> Result<Option<Layer>, Failure> {
    let bad = |why: String| Failure::Usage(format!("{}: {why}", path.display()));
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(bad(error.to_string())),
    };
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| bad(error.to_string()))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(bad(format!("longer than {FILE_BYTES_MAX} bytes")));
    }
    let fields: Map<String, Value> =
        serde_json::from_str(&text).map_err(|error| bad(format!("no JSON object: {error}")))?;
    let layer = of_fields(path.display().to_string(), &fields).map_err(bad)?;
    Ok(Some(layer))
}

/// The fields of meshring.json, freshblu.json and meshblu.json alike.
fn of_fields(name: String, fields: &Map<String, Value>) -> Result<Layer, String> {
    let text = |name: &str| match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
        Some(_) => Err(format!("`{name}` is no text")),
    };
    let port = match fields.get("port") {
        None | Some(Value::Null) => None,
        // Meshblu's tools write either.
        Some(Value::Number(port)) => Some(port.to_string()),
        Some(Value::String(port)) => Some(port.clone()),
        Some(_) => return Err("`port` is no number".to_owned()),
    };
    let port = port
        .map(|port| {
            port.parse::<u16>()
                .map_err(|_| format!("`port` is no port: {port}"))
        })
        .transpose()?;
    let host = match text("server")? {
        Some(host) => Some(host),
        None => text("hostname")?,
    };
    let protocol = text("protocol")?;
    Ok(Layer {
        name,
        server: host.map(|host| Server::from_parts(&host, port, protocol.as_deref())),
        uuid: text("uuid")?,
        token: text("token")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Result<Layer, String> {
        of_fields("file".to_owned(), &serde_json::from_str(text).unwrap())
    }

    #[test]
    fn files_of_three_families_are_understood() {
        let layer = fields(r#"{"uuid":"u","token":"t","server":"http://a:3000"}"#).unwrap();
        assert_eq!(layer.server.as_deref(), Some("http://a:3000"));
        assert_eq!(
            (layer.uuid.as_deref(), layer.token.as_deref()),
            (Some("u"), Some("t"))
        );
        for meshblu in [
            r#"{"uuid":"u","token":"t","server":"meshblu.org","port":443}"#,
            r#"{"hostname":"meshblu.org","port":"443","protocol":"https"}"#,
        ] {
            let server = fields(meshblu).unwrap().server;
            assert_eq!(server.as_deref(), Some("https://meshblu.org:443"));
        }
        assert_eq!(fields("{}").unwrap().server, None);
        let nothing = fields(r#"{"uuid":null,"token":""}"#).unwrap();
        assert_eq!((nothing.uuid, nothing.token), (None, None));
    }

    #[test]
    fn a_file_that_makes_no_sense_is_not_passed_over() {
        for text in [
            r#"{"uuid":7}"#,
            r#"{"port":"http"}"#,
            r#"{"port":99999}"#,
            r#"{"port":[]}"#,
        ] {
            assert!(fields(text).is_err(), "{text}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("meshring.json");
        for text in ["", "[]", "{\"uuid\":", &" ".repeat(70_000)] {
            std::fs::write(&path, text).unwrap();
            let failure = first_file(folder.path()).unwrap_err();
            assert_eq!(failure.exit_code(), 2, "{text:.20}");
        }
    }

    #[test]
    fn the_first_file_counts() {
        let folder = tempfile::tempdir().unwrap();
        let uuid = || {
            first_file(folder.path())
                .unwrap()
                .and_then(|layer| layer.uuid)
        };
        assert_eq!(uuid(), None);
        for name in FILES.iter().rev() {
            let text = format!("{{\"uuid\":\"{name}\"}}");
            std::fs::write(folder.path().join(name), text).unwrap();
            assert_eq!(uuid().as_deref(), Some(*name));
        }
    }

    #[test]
    fn variables_of_three_families_are_understood() {
        let of = |prefix: &str, variables: &[(&str, &str)]| {
            of_environment(prefix, |name| {
                let found = variables.iter().find(|(given, _)| *given == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        let layer = of(
            "FRESHBLU",
            &[("FRESHBLU_SERVER", "http://a"), ("FRESHBLU_UUID", "u")],
        );
        assert_eq!(layer.server.as_deref(), Some("http://a"));
        assert_eq!((layer.uuid.as_deref(), layer.token), (Some("u"), None));
        let parts = [
            ("MESHBLU_HOSTNAME", "a"),
            ("MESHBLU_PORT", "443"),
            ("MESHBLU_UUID", ""),
        ];
        let layer = of("MESHBLU", &parts);
        assert_eq!(layer.server.as_deref(), Some("https://a:443"));
        assert_eq!(layer.uuid, None);
        assert_eq!(
            of("MESHRING", &parts),
            Layer {
                name: "environment, MESHRING_*".into(),
                ..Layer::default()
            }
        );
    }

    #[test]
    fn a_file_that_is_named_must_be_there() {
        let connection = Connection {
            config: Some("no/such/file.json".into()),
            ..Connection::default()
        };
        assert_eq!(layers(&connection, false).unwrap_err().exit_code(), 2);
        assert_eq!(layers(&connection, true).unwrap().len(), 4);
    }
}
