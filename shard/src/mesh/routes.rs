//! Which requests the HTTP interface serves: one table, read by the server, by `Allow`, and by the
//! OpenAPI document.
//!
//! Always: a method and a path match at most one row. Paths are compared exactly: with case, and
//! without tolerance for slashes at their ends.

use std::borrow::Cow;

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// That we run, and how many devices are connected.
    Status,
    /// That requests are served.
    Healthcheck,
    /// Our public key.
    ServerKey,
    /// What has been counted.
    Metrics,
    /// The description of this interface.
    OpenApi,
    /// The address that the request came from.
    Address,
    /// Whether credentials are right.
    Authenticate,
    /// The same, for those in the target.
    AuthenticateDevice,
    /// A new device.
    Register,
    /// Devices that match the query in the target.
    List,
    /// Devices that match the query in the body.
    Search,
    /// One's own document.
    Whoami,
    /// Oneself and what one owns.
    MyDevices,
    /// A device's document.
    Get,
    /// A changed document, properties or operators.
    Put,
    /// A changed document, properties.
    Patch,
    /// A changed document, operators, and how it was before.
    FindAndUpdate,
    /// The end of a device.
    Unregister,
    /// A new owner.
    Claim,
    /// A device's public key.
    DeviceKey,
    /// A message to devices.
    Message,
    /// A message to all who listen.
    Broadcast,
    /// Events as they happen.
    Stream,
    /// A device hears of another, as the body says.
    Subscribe,
    /// The same, as the target says.
    SubscribeTo,
    /// What a device hears of.
    Subscriptions,
    /// A device hears no more of another, as the target says.
    Unsubscribe,
    /// The same, as the body says.
    UnsubscribeAll,
    /// One more token.
    GenerateToken,
    /// A new token instead of all others.
    ResetToken,
    /// One token less.
    RevokeToken,
    /// All tokens with a tag less.
    RevokeTokens,
    /// One's own tokens.
    SearchTokens,
    /// FreshBlu's WebSocket.
    Socket,
}

/// Whose clients send a request, where their answers differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// FreshBlu's alone.
    Freshblu,
    /// The original's alone.
    Meshblu,
    /// Both: the listener's dialect decides.
    Both,
}

/// A row: a method on a path.
#[derive(Debug)]
pub(crate) struct Route {
    /// `GET` stands for `HEAD`, too.
    pub method: &'static str,
    /// Segments that begin with a colon are parameters.
    pub path: &'static str,
    /// What it is about.
    pub endpoint: Endpoint,
    /// Whose clients send it.
    pub family: Family,
}

/// What a method and a path come to.
#[derive(Debug, PartialEq)]
pub(crate) enum Found<'a> {
    /// This row, with the values of its parameters in order.
    Route(&'static Route, Vec<Cow<'a, str>>),
    /// The path takes these methods only, as `Allow` has them.
    OtherMethods(String),
    /// No such path.
    Nothing,
}

/// Two rows are the same row.
impl PartialEq for Route {
    fn eq(&self, other: &Route) -> bool {
        self.method == other.method && self.path == other.path
    }
}

const fn row(
    family: Family,
    method: &'static str,
    path: &'static str,
    endpoint: Endpoint,
) -> Route {
    Route {
        method,
        path,
        endpoint,
        family,
    }
}

const fn both(method: &'static str, path: &'static str, endpoint: Endpoint) -> Route {
    row(Family::Both, method, path, endpoint)
}

const fn freshblu(method: &'static str, path: &'static str, endpoint: Endpoint) -> Route {
    row(Family::Freshblu, method, path, endpoint)
}

const fn meshblu(method: &'static str, path: &'static str, endpoint: Endpoint) -> Route {
    row(Family::Meshblu, method, path, endpoint)
}

/// Every row. Those with fewer parameters stand before those that would match as well.
#[rustfmt::skip]
pub(crate) const ROUTES: &[Route] = &[
    both("GET", "/status", Endpoint::Status),
    both("GET", "/healthcheck", Endpoint::Healthcheck),
    meshblu("GET", "/ping", Endpoint::Healthcheck),
    meshblu("GET", "/proofoflife", Endpoint::Healthcheck),
    both("GET", "/publickey", Endpoint::ServerKey),
    both("GET", "/metrics", Endpoint::Metrics),
    both("GET", "/openapi.json", Endpoint::OpenApi),
    meshblu("GET", "/ipaddress", Endpoint::Address),
    both("POST", "/authenticate", Endpoint::Authenticate),
    meshblu("GET", "/authenticate/:uuid", Endpoint::AuthenticateDevice),
    both("POST", "/devices", Endpoint::Register),
    both("POST", "/v2/devices", Endpoint::Register),
    meshblu("GET", "/devices", Endpoint::List),
    meshblu("GET", "/v2/devices", Endpoint::List),
    both("POST", "/devices/search", Endpoint::Search),
    both("POST", "/v2/devices/search", Endpoint::Search),
    meshblu("POST", "/search/devices", Endpoint::Search),
    both("GET", "/whoami", Endpoint::Whoami),
    both("GET", "/v2/whoami", Endpoint::Whoami),
    both("GET", "/mydevices", Endpoint::MyDevices),
    both("GET", "/devices/:uuid", Endpoint::Get),
    both("GET", "/v2/devices/:uuid", Endpoint::Get),
    both("GET", "/v3/devices/:uuid", Endpoint::Get),
    both("PUT", "/devices/:uuid", Endpoint::Put),
    both("PUT", "/v2/devices/:uuid", Endpoint::Put),
    meshblu("PATCH", "/devices/:uuid", Endpoint::Patch),
    meshblu("PATCH", "/v2/devices/:uuid", Endpoint::Patch),
    meshblu("PUT", "/v2/devices/:uuid/find-and-update", Endpoint::FindAndUpdate),
    both("DELETE", "/devices/:uuid", Endpoint::Unregister),
    both("DELETE", "/v2/devices/:uuid", Endpoint::Unregister),
    both("POST", "/claimdevice/:uuid", Endpoint::Claim),
    meshblu("PUT", "/claimdevice/:uuid", Endpoint::Claim),
    both("GET", "/devices/:uuid/publickey", Endpoint::DeviceKey),
    both("POST", "/messages", Endpoint::Message),
    both("POST", "/v2/messages", Endpoint::Message),
    both("POST", "/broadcasts", Endpoint::Broadcast),
    both("GET", "/subscribe", Endpoint::Stream),
    freshblu("POST", "/devices/:uuid/subscriptions", Endpoint::Subscribe),
    freshblu("GET", "/devices/:uuid/subscriptions", Endpoint::Subscriptions),
    freshblu("DELETE", "/devices/:uuid/subscriptions/:emitter/:type", Endpoint::Unsubscribe),
    meshblu("POST", "/v2/devices/:uuid/subscriptions/:emitter/:type", Endpoint::SubscribeTo),
    meshblu("GET", "/v2/devices/:uuid/subscriptions", Endpoint::Subscriptions),
    meshblu("DELETE", "/v2/devices/:uuid/subscriptions", Endpoint::UnsubscribeAll),
    meshblu("DELETE", "/v2/devices/:uuid/subscriptions/:emitter/:type", Endpoint::Unsubscribe),
    both("POST", "/devices/:uuid/tokens", Endpoint::GenerateToken),
    both("DELETE", "/devices/:uuid/tokens/:token", Endpoint::RevokeToken),
    meshblu("DELETE", "/devices/:uuid/tokens", Endpoint::RevokeTokens),
    both("POST", "/devices/:uuid/token", Endpoint::ResetToken),
    both("POST", "/search/tokens", Endpoint::SearchTokens),
    freshblu("GET", "/ws", Endpoint::Socket),
    freshblu("GET", "/socket.io", Endpoint::Socket),
];

/// Finds the row for a method and the decoded segments of a path.
pub(crate) fn find<'a>(method: &str, segments: &[Cow<'a, str>]) -> Found<'a> {
    let asked = if method == "HEAD" { "GET" } else { method };
    let mut is_known = false;
    for route in ROUTES {
        if let Some(parameters) = route.matches(segments) {
            if route.method == asked {
                return Found::Route(route, parameters);
            }
            is_known = true;
        }
    }
    if is_known {
        Found::OtherMethods(methods(segments))
    } else {
        Found::Nothing
    }
}

/// What may be done at a path, as `Allow` has it.
pub(crate) fn methods(segments: &[Cow<'_, str>]) -> String {
    let mut methods = String::new();
    for route in ROUTES {
        if route.matches(segments).is_some() {
            let also = if route.method == "GET" { ", HEAD" } else { "" };
            methods.extend([route.method, also, ", "]);
        }
    }
    methods.push_str("OPTIONS");
    methods
}

impl Route {
    /// The values of its parameters, if these are its segments.
    fn matches<'a>(&self, segments: &[Cow<'a, str>]) -> Option<Vec<Cow<'a, str>>> {
        let mut left = segments.iter();
        for part in self.segments() {
            let segment = left.next()?;
            let is_match = match part.strip_prefix(':') {
                Some(_) => !segment.is_empty(),
                None => part == segment,
            };
            if !is_match {
                return None;
            }
        }
        if left.next().is_some() {
            return None;
        }
        let parameters = self.segments().zip(segments);
        let parameters = parameters.filter(|(part, _)| part.starts_with(':'));
        Some(parameters.map(|(_, segment)| segment.clone()).collect())
    }

    /// The segments of its path, parameters with their colon.
    pub fn segments(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').skip(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: &str, path: &str) -> Found<'static> {
        let segments: Vec<_> = http::segments(path)
            .unwrap()
            .into_iter()
            .map(|segment| Cow::Owned(segment.into_owned()))
            .collect();
        find(method, &segments)
    }

    fn check(method: &str, path: &str, endpoint: Endpoint, expected: &[&str]) {
        let Found::Route(route, parameters) = found(method, path) else {
            panic!("{method} {path} is not served");
        };
        assert_eq!(route.endpoint, endpoint, "{method} {path}");
        assert_eq!(parameters, expected, "{method} {path}");
    }

    #[test]
    fn parameters_come_in_order() {
        check("GET", "/devices/a", Endpoint::Get, &["a"]);
        check("GET", "/v3/devices/a%2Fb", Endpoint::Get, &["a/b"]);
        let path = "/devices/a/subscriptions/b/broadcast.sent";
        check(
            "DELETE",
            path,
            Endpoint::Unsubscribe,
            &["a", "b", "broadcast.sent"],
        );
        check(
            "DELETE",
            "/devices/a/tokens/t",
            Endpoint::RevokeToken,
            &["a", "t"],
        );
        check("POST", "/devices/search", Endpoint::Search, &[]);
    }

    #[test]
    fn head_is_served_where_get_is() {
        check("HEAD", "/status", Endpoint::Status, &[]);
        assert_eq!(
            found("HEAD", "/messages"),
            Found::OtherMethods("POST, OPTIONS".into())
        );
    }

    #[test]
    fn another_method_is_told_which_there_are() {
        let allowed = "GET, HEAD, PUT, PATCH, DELETE, OPTIONS";
        assert_eq!(
            found("POST", "/devices/a"),
            Found::OtherMethods(allowed.into())
        );
        assert_eq!(
            found("get", "/status"),
            Found::OtherMethods("GET, HEAD, OPTIONS".into())
        );
    }

    #[test]
    fn paths_are_exact() {
        for path in [
            "/",
            "/Status",
            "/status/",
            "//status",
            "/v1/devices",
            "/devices/",
            "/devices//tokens",
            "/devices/a/b",
            "/v3/whoami",
            "/socket.io/",
        ] {
            assert_eq!(found("GET", path), Found::Nothing, "{path}");
        }
    }

    #[test]
    fn every_row_is_found_by_its_own_path() {
        for route in ROUTES {
            let path = route.path.replace(':', "x");
            let Found::Route(found, parameters) = found(route.method, &path) else {
                panic!("{} {path} is not served", route.method);
            };
            assert_eq!(found, route);
            let expected = route.segments().filter(|part| part.starts_with(':'));
            assert_eq!(parameters.len(), expected.count());
        }
    }
}
