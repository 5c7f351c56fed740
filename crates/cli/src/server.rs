//! Where the server is: what a person writes, as the addresses of its HTTP and WebSocket.

use crate::failure::Failure;
use ureq::http::Uri;

/// The port of FreshBlu's clients and of `meshring serve`, at an address that needs no /etc/hosts.
pub const DEFAULT: &str = "http://127.0.0.1:3000";

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    is_secure: bool,
    /// Host and port, as in the `Host` header.
    authority: String,
    /// What stands before every path, without a slash at its end; mostly nothing.
    prefix: String,
}

impl Server {
    /// Reads an address: `http`, `https`, `ws` or `wss`, a host, perhaps a port and a path. Without
    /// a scheme it is `http`.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let bad = |why: &str| Failure::Usage(format!("server `{text}`: {why}"));
        let whole = match text.contains("://") {
            true => text.to_owned(),
            false => format!("http://{text}"),
        };
        let uri: Uri = whole
            .parse()
            .map_err(|_| bad("expected an address such as http://localhost:3000"))?;
        let is_secure = match uri.scheme_str() {
            Some("http" | "ws") => false,
            Some("https" | "wss") => true,
            _ => return Err(bad("the scheme is http or https")),
        };
        let Some(authority) = uri.authority().filter(|name| !name.host().is_empty()) else {
            return Err(bad("it names no host"));
        };
        if authority.as_str().contains('@') {
            return Err(bad("credentials belong in --uuid and --token"));
        }
        if uri.query().is_some() {
            return Err(bad("it must not have a query"));
        }
        Ok(Self {
            is_secure,
            authority: authority.to_string(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// Puts together what Meshblu's configuration says in parts. Without a protocol it is HTTPS on
    /// port 443 and HTTP on any other.
    pub fn from_parts(host: &str, port: Option<u16>, protocol: Option<&str>) -> String {
        if host.contains("://") {
            return host.to_owned();
        }
        let scheme = match protocol {
            Some(protocol) => protocol,
            None if port == Some(443) => "https",
            None => "http",
        };
        let scheme = match scheme {
            "websocket" => "ws",
            other => other,
        };
        match port {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        }
    }

    /// The address of an HTTP route; `path` begins with a slash.
    pub fn http(&self, path: &str) -> String {
        let scheme = if self.is_secure { "https" } else { "http" };
        let Self {
            authority, prefix, ..
        } = self;
        format!("{scheme}://{authority}{prefix}{path}")
    }

    /// The address of the WebSocket.
    pub fn websocket(&self) -> String {
        let scheme = if self.is_secure { "wss" } else { "ws" };
        let Self {
            authority, prefix, ..
        } = self;
        format!("{scheme}://{authority}{prefix}/ws")
    }

    /// Host and port for connecting, the port being that of the scheme if none is given.
    pub fn host_and_port(&self) -> (String, u16) {
        let authority: Option<ureq::http::uri::Authority> = self.authority.parse().ok();
        let authority = authority.expect("it was part of a URI");
        let port = authority.port_u16();
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        (host, port.unwrap_or(if self.is_secure { 443 } else { 80 }))
    }

    /// Whether it is spoken to over TLS.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.http(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, http: &str, websocket: &str, host: &str, port: u16) {
        let server = Server::parse(text).unwrap();
        assert_eq!(server.http("/status"), http);
        assert_eq!(server.websocket(), websocket);
        assert_eq!(server.host_and_port(), (host.to_owned(), port));
    }

    #[test]
    fn addresses_are_what_people_write() {
        let (http, websocket) = ("http://localhost:3000/status", "ws://localhost:3000/ws");
        for text in [
            "http://localhost:3000",
            "localhost:3000",
            "ws://localhost:3000/",
        ] {
            check(text, http, websocket, "localhost", 3000);
        }
        check(
            "https://a.org",
            "https://a.org/status",
            "wss://a.org/ws",
            "a.org",
            443,
        );
        check(
            "http://a.org",
            "http://a.org/status",
            "ws://a.org/ws",
            "a.org",
            80,
        );
        check(
            "[::1]:81",
            "http://[::1]:81/status",
            "ws://[::1]:81/ws",
            "::1",
            81,
        );
        check(
            "https://a.org/mesh/",
            "https://a.org/mesh/status",
            "wss://a.org/mesh/ws",
            "a.org",
            443,
        );
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "http://",
            "mqtt://a.org",
            "a b",
            "http://u:t@a.org",
            "http://a.org/?x=1",
        ] {
            assert_eq!(Server::parse(text).unwrap_err().exit_code(), 2, "{text}");
        }
    }

    #[test]
    fn meshblu_says_where_the_server_is_in_parts() {
        let parts = Server::from_parts;
        assert_eq!(parts("a.org", None, None), "http://a.org");
        assert_eq!(parts("a.org", Some(443), None), "https://a.org:443");
        assert_eq!(parts("a.org", Some(3000), None), "http://a.org:3000");
        assert_eq!(parts("a.org", Some(80), Some("https")), "https://a.org:80");
        assert_eq!(parts("a.org", None, Some("websocket")), "ws://a.org");
        assert_eq!(
            parts("https://a.org", Some(80), Some("http")),
            "https://a.org"
        );
    }
}
