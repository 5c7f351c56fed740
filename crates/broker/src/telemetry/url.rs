//! The address of a collector.

use crate::config::{Raw, Setting, SettingRange};
use serde_json::{Value, json};
use ureq::http::Uri;

/// Where a collector takes traces, below what its address says. OTLP/HTTP, *Endpoint URLs*
const TRACES: &str = "/v1/traces";
/// Bytes of an address.
const BYTES_MAX: usize = 2_048;

/// The address of a collector that takes OTLP over HTTP; empty if there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollectorUrl(String);

impl CollectorUrl {
    /// Where traces go, if they go anywhere. OTLP/HTTP has the path added to what is given.
    pub fn traces(&self) -> Option<String> {
        let base = self.0.trim_end_matches('/');
        match base {
            "" => None,
            _ if base.ends_with(TRACES) => Some(base.to_owned()),
            _ => Some(format!("{base}{TRACES}")),
        }
    }

    fn parse(text: &str) -> Option<CollectorUrl> {
        let is_url = || {
            let url: Uri = text.parse().ok()?;
            let authority = url.authority()?;
            let is_plain = url.query().is_none() && !text.contains('#');
            // They would be shown with the address.
            let has_no_credentials = !authority.as_str().contains('@');
            let is_http = matches!(url.scheme_str(), Some("http" | "https"));
            let is_right = is_http && is_plain && has_no_credentials;
            (is_right && !authority.host().is_empty() && text.len() <= BYTES_MAX).then_some(())
        };
        (text.is_empty() || is_url().is_some()).then(|| CollectorUrl(text.to_owned()))
    }
}

impl Setting for CollectorUrl {
    fn read(raw: &Raw, _: SettingRange) -> Result<CollectorUrl, String> {
        let url = raw.text().and_then(CollectorUrl::parse);
        url.ok_or_else(|| {
            "expected an address such as http://localhost:4318, without credentials".to_owned()
        })
    }

    fn show(&self) -> Value {
        json!(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_added() {
        let check = |text: &str, expected: Option<&str>| {
            let url = CollectorUrl::parse(text).unwrap();
            assert_eq!(url.traces().as_deref(), expected, "{text}");
        };
        check("", None);
        check("http://[::1]:4318", Some("http://[::1]:4318/v1/traces"));
        check(
            "https://otel.example/",
            Some("https://otel.example/v1/traces"),
        );
        check("http://a/api/otel", Some("http://a/api/otel/v1/traces"));
        check("http://a/v1/traces", Some("http://a/v1/traces"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "localhost:4318",
            "localhost",
            "grpc://localhost:4317",
            "http://",
            "http://user:secret@localhost:4318",
            "http://a/?key=secret",
            "http://a b",
            "http://a\n",
            "/v1/traces",
        ] {
            assert_eq!(CollectorUrl::parse(text), None, "{text}");
        }
        let long = format!("http://a/{}", "x".repeat(BYTES_MAX));
        assert_eq!(CollectorUrl::parse(&long), None);
    }
}
