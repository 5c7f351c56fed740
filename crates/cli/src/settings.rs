//! What a command works with: the sources laid over each other.

use crate::Connection;
use crate::arguments::Format;
use crate::failure::Failure;
use crate::server::{self, Server};
use crate::sources::Layer;
use serde_json::{Value, json};
use std::time::Duration;

/// How many characters of a token `meshring config` shows.
const TOKEN_SHOWN: usize = 4;

/// The server, the credentials, and how to ask and answer.
#[derive(Debug)]
pub struct Settings {
    /// The server.
    pub server: Server,
    /// The device to log in as, and its token.
    uuid: Option<String>,
    token: Option<String>,
    /// The device to act as.
    pub acting_as: Option<String>,
    /// How long an answer may take.
    pub timeout: Duration,
    format: Option<Format>,
    /// Which layers said so: server, uuid, token.
    said_by: [Option<String>; 3],
}

impl Settings {
    /// Lays `layers` over each other, the strongest being first. Server and uuid come from the
    /// first layer that names one. So does the token, but never one that a weaker layer says to
    /// belong to another device: `-U` with the uuid of one device must not send the token of the
    /// device in a file.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] if the address of the server makes no sense.
    pub fn resolve(connection: &Connection, layers: &[Layer]) -> Result<Self, Failure> {
        let server = layers.iter().find(|layer| layer.server.is_some());
        let address = server.and_then(|layer| layer.server.as_deref());
        let uuid_at = layers.iter().position(|layer| layer.uuid.is_some());
        let uuid = uuid_at.and_then(|at| layers[at].uuid.clone());
        let token = layers.iter().enumerate().find(|(at, layer)| {
            let is_of_this_device = uuid_at.is_none_or(|uuid_at| *at <= uuid_at)
                || layer.uuid.is_none()
                || layer.uuid == uuid;
            layer.token.is_some() && is_of_this_device
        });
        let name = |layer: Option<&Layer>| layer.map(|layer| layer.name.clone());
        Ok(Self {
            server: Server::parse(address.unwrap_or(server::DEFAULT))?,
            token: token.and_then(|(_, layer)| layer.token.clone()),
            acting_as: connection.acting_as.clone(),
            timeout: Duration::from_secs(connection.timeout_s()),
            format: connection.format,
            said_by: [
                name(server),
                name(uuid_at.map(|at| &layers[at])),
                name(token.map(|(_, layer)| layer)),
            ],
            uuid,
        })
    }

    /// The device that this is about if none is named: the one that logs in.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] if nobody logs in.
    pub fn own_uuid(&self) -> Result<&str, Failure> {
        let missing = || {
            let why = "which device? Name it, or say who you are: --uuid, MESHRING_UUID, or \
                       meshring.json, which `meshring register` writes";
            Failure::Usage(why.to_owned())
        };
        self.uuid.as_deref().ok_or_else(missing)
    }

    /// Uuid and token, if both are known.
    pub fn credentials(&self) -> Option<(&str, &str)> {
        Some((self.uuid.as_deref()?, self.token.as_deref()?))
    }

    /// Uuid and token.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] if one of them is not known.
    pub fn required_credentials(&self) -> Result<(&str, &str), Failure> {
        let uuid = self.own_uuid()?;
        let missing = || {
            let why = format!("no token for {uuid}: --token, MESHRING_TOKEN, or meshring.json");
            Failure::Usage(why)
        };
        Ok((uuid, self.token.as_deref().ok_or_else(missing)?))
    }

    /// How answers are written: for people, if nothing was said.
    pub fn format(&self) -> Format {
        self.format.unwrap_or(Format::Pretty)
    }

    /// How events are written: a line each, if nothing was said.
    pub fn format_of_events(&self) -> Format {
        self.format.unwrap_or(Format::Json)
    }

    /// What `meshring config` shows; of the token only its beginning.
    pub fn describe(&self) -> String {
        let beginning = |token: &String| {
            let shown: String = token.chars().take(TOKEN_SHOWN).collect();
            format!("{shown}…")
        };
        let [server, uuid, token] = self.said_by.clone().map(Value::from);
        let described = json!({
            "server": self.server.to_string(),
            "uuid": self.uuid,
            "token": self.token.as_ref().map(beginning),
            "from": {
                "server": if server.is_null() { Value::from("default") } else { server },
                "uuid": uuid,
                "token": token,
            },
        });
        described.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `server|uuid|token` per layer, a dash for what it does not say; the same of the outcome.
    #[track_caller]
    fn check(layers: &[&str], expected: &str) {
        let layers: Vec<Layer> = layers.iter().map(|text| layer(text)).collect();
        let settings = Settings::resolve(&Connection::default(), &layers).unwrap();
        let or_dash = |text: &Option<String>| text.clone().unwrap_or("-".to_owned());
        let outcome = [
            settings.server.to_string(),
            or_dash(&settings.uuid),
            or_dash(&settings.token),
        ];
        assert_eq!(outcome.join("|"), expected, "{layers:?}");
    }

    fn layer(text: &str) -> Layer {
        let parts: Vec<_> = text.split('|').map(str::to_owned).collect();
        let part = |at: usize| Some(parts[at].clone()).filter(|part| part != "-");
        Layer {
            name: text.to_owned(),
            server: part(0),
            uuid: part(1),
            token: part(2),
        }
    }

    #[test]
    fn the_stronger_layer_counts() {
        check(&[], "http://127.0.0.1:3000|-|-");
        check(&["-|-|-", "b|u|t", "c|v|w"], "http://b|u|t");
        check(&["a|-|-", "-|u|t"], "http://a|u|t");
        check(&["-|-|-", "b|-|-", "c|u|t"], "http://b|u|t");
    }

    #[test]
    fn a_token_is_never_sent_for_another_device() {
        check(&["-|u|-", "-|v|w"], "http://127.0.0.1:3000|u|-");
        check(&["-|u|-", "-|v|w", "-|u|t"], "http://127.0.0.1:3000|u|t");
        check(&["-|u|-", "-|-|t"], "http://127.0.0.1:3000|u|t");
        check(&["-|-|t", "-|u|w"], "http://127.0.0.1:3000|u|t");
    }

    #[test]
    fn what_is_missing_is_named() {
        let with = |text| Settings::resolve(&Connection::default(), &[layer(text)]).unwrap();
        let why = |settings: &Settings| settings.required_credentials().unwrap_err().to_string();
        assert!(why(&with("-|-|t")).contains("--uuid"));
        assert!(why(&with("-|u|-")).contains("no token for u"));
        assert_eq!(with("-|u|t").required_credentials().unwrap(), ("u", "t"));
        assert_eq!(with("-|u|-").credentials(), None);
    }

    #[test]
    fn the_token_is_not_shown() {
        let mut layers = [layer("a|u|secret-token")];
        layers[0].name = "file".to_owned();
        let settings = Settings::resolve(&Connection::default(), &layers).unwrap();
        let shown = settings.describe();
        assert!(
            shown.contains("\"secr…\"") && !shown.contains("secret"),
            "{shown}"
        );
        assert!(shown.contains("\"server\":\"http://a\""), "{shown}");
    }
}
