//! One request, one answer, over HTTP.

use crate::calls::Call;
use crate::failure::Failure;
use crate::output::harmless;
use crate::settings::Settings;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use ureq::http::{Request, Response};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

/// The longest answer that is taken, in bytes.
pub const ANSWER_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// How long a connection may take to come about.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends requests to one server.
pub struct Api<'a> {
    settings: &'a Settings,
    agent: Agent,
}

impl<'a> Api<'a> {
    /// Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] if the server wants TLS and this machine trusts no certificates.
    pub fn new(settings: &'a Settings) -> Result<Self, Failure> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // Where a redirect leads, credentials must not follow, and a POST becomes a GET.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT.min(settings.timeout)))
            .timeout_global(Some(settings.timeout))
            .user_agent(concat!("meshring/", env!("CARGO_PKG_VERSION")));
        if settings.server.is_secure() {
            let trusted = trusted_certificates()?;
            let trusted = trusted
                .iter()
                .map(|der| Certificate::from_der(der).to_owned());
            let roots = RootCerts::Specific(Arc::new(trusted.collect()));
            config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        Ok(Self {
            settings,
            agent: config.build().new_agent(),
        })
    }

    /// Sends `call` and returns the JSON text of the answer, which is empty if the answer is.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] if credentials are needed and missing; else what became of the request.
    pub fn send(&self, call: &Call) -> Result<String, Failure> {
        let mut request = Request::builder()
            .method(call.method)
            .uri(self.settings.server.http(&call.path))
            .header("Accept", "application/json");
        let credentials = match call.needs_credentials {
            true => Some(self.settings.required_credentials()?),
            false => self.settings.credentials(),
        };
        if let Some((uuid, token)) = credentials {
            let basic = STANDARD.encode(format!("{uuid}:{token}"));
            request = request.header("Authorization", format!("Basic {basic}"));
        }
        if let Some(device) = &self.settings.acting_as {
            request = request.header("x-meshblu-as", device);
        }
        let unusable = |error| Failure::Usage(format!("this cannot be sent: {error}"));
        let answer = match &call.body {
            Some(body) => {
                let request = request.header("Content-Type", "application/json");
                self.agent
                    .run(request.body(body.to_string()).map_err(unusable)?)
            }
            // A length of zero, not no length, where a body would be usual.
            None if call.method == "POST" => self
                .agent
                .run(request.body(String::new()).map_err(unusable)?),
            None => self.agent.run(request.body(()).map_err(unusable)?),
        };
        self.read(answer.map_err(|error| self.unreachable(&error))?)
    }

    fn read(&self, answer: Response<Body>) -> Result<String, Failure> {
        let status = answer.status().as_u16();
        let location = answer.headers().get("Location").cloned();
        let mut body = answer.into_body();
        let text = body.with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        let text = text.map_err(|error| self.unreachable(&error))?;
        if (200..300).contains(&status) {
            return Ok(text);
        }
        let said = match location {
            Some(location) => {
                let location = String::from_utf8_lossy(location.as_bytes());
                format!("the server is at {}", harmless(&location))
            }
            None => reason(&text),
        };
        Err(Failure::Refused { status, said })
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let server = &self.settings.server;
        let why = match error {
            ureq::Error::Io(error) => error.to_string(),
            ureq::Error::Timeout(_) => "it does not answer in time".to_owned(),
            ureq::Error::HostNotFound => "there is no such host".to_owned(),
            other => other.to_string(),
        };
        Failure::Unreachable(format!("cannot reach {server}: {}", harmless(&why)))
    }
}

/// What the body of a refusal says: the text under `error` or `message`, or all of it.
fn reason(body: &str) -> String {
    let parsed: Value = serde_json::from_str(body).unwrap_or_default();
    let said = parsed["error"].as_str().or(parsed["message"].as_str());
    // Meshblu refuses with `null`.
    let all = if body.trim() == "null" {
        ""
    } else {
        body.trim()
    };
    harmless(said.unwrap_or(all))
}

/// The certificates that this machine trusts, or those that SSL_CERT_FILE names, each in DER.
///
/// # Errors
///
/// [`Failure::Usage`] if there are none.
pub fn trusted_certificates() -> Result<Vec<Vec<u8>>, Failure> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let why = found.errors.first().map(ToString::to_string);
        let why = why.unwrap_or("none are installed".to_owned());
        let advice = "install them (Debian: ca-certificates) or name a file in SSL_CERT_FILE";
        let text = format!("this machine trusts no certificates: {why}; {advice}");
        return Err(Failure::Usage(text));
    }
    Ok(found.certs.iter().map(|der| der.to_vec()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_said_in_the_words_of_the_server() {
        assert_eq!(reason(r#"{"error":"forbidden"}"#), "forbidden");
        assert_eq!(reason(r#"{"message":"no"}"#), "no");
        assert_eq!(reason("Bad\nGateway "), "Bad Gateway");
        assert_eq!(reason("null"), "");
        assert_eq!(reason(r#"{"error":{}}"#), r#"{"error":{}}"#);
    }
}
