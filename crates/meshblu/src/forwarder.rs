//! What a device wants done with its events beside delivering them: `meshblu.forwarders`.

use serde_json::Value;

/// The most forwarders of one event that are used; FreshBlu's limit.
pub const FORWARDERS_MAX: usize = 10;

/// The most headers of a webhook that are used, and how long they are together.
pub const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 16_384;

/// One entry of `meshblu.forwarders.<event>`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Forwarder {
    /// `{"type":"webhook",…}`: a request to a URL.
    Webhook(Webhook),
    /// `{"type":"meshblu"}`: the device sends on what it hears.
    Meshblu,
}

/// Where a webhook's request goes, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Webhook {
    /// As it was given; not checked.
    pub url: String,
    /// `GET`, `POST`, `PUT`, `PATCH` or `DELETE`; `POST` if it was anything else.
    pub method: &'static str,
    /// Names and values as they were given; not checked.
    pub headers: Vec<(String, String)>,
    /// Whether the request carries credentials of the device, made for it.
    pub generate_credentials: bool,
    /// Whether the request is to be signed.
    pub sign_request: bool,
}

/// The forwarders of an event, from `{"message":{"sent":[…]}}` or `{"message.sent":[…]}`; both
/// if there are both. Entries of other types and without a URL are passed over.
pub(crate) fn of_event(forwarders: &Value, event: &str) -> Vec<Forwarder> {
    let dotted = forwarders.get(event);
    let nested = event
        .split_once('.')
        .and_then(|(category, name)| forwarders.get(category)?.get(name));
    [dotted, nested]
        .into_iter()
        .flatten()
        .flat_map(entries)
        .filter_map(read)
        .take(FORWARDERS_MAX)
        .collect()
}

/// The entries of an array; one entry alone is taken, too.
fn entries(list: &Value) -> &[Value] {
    match list {
        Value::Array(entries) => entries,
        other => std::slice::from_ref(other),
    }
}

fn read(entry: &Value) -> Option<Forwarder> {
    match entry.get("type")?.as_str()? {
        "meshblu" => Some(Forwarder::Meshblu),
        "webhook" => {
            let is_set = |name: &str| entry.get(name).and_then(Value::as_bool) == Some(true);
            Some(Forwarder::Webhook(Webhook {
                url: entry.get("url")?.as_str()?.to_owned(),
                method: method(entry.get("method").and_then(Value::as_str)),
                headers: headers(entry.get("headers")),
                generate_credentials: is_set("generateAndForwardMeshbluCredentials"),
                sign_request: is_set("signRequest"),
            }))
        }
        _ => None,
    }
}

fn method(given: Option<&str>) -> &'static str {
    const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];
    let given = given.unwrap_or_default();
    let known = METHODS
        .into_iter()
        .find(|name| name.eq_ignore_ascii_case(given));
    known.unwrap_or("POST")
}

fn headers(given: Option<&Value>) -> Vec<(String, String)> {
    let members = given.and_then(Value::as_object).into_iter().flatten();
    let mut bytes = 0;
    members
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .take(HEADERS_MAX)
        .take_while(|(name, value)| {
            bytes += name.len() + value.len();
            bytes <= HEADER_BYTES_MAX
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_ways_of_storing_are_read() {
        let hook = json!({"type": "webhook", "url": "http://a/", "method": "put",
            "headers": {"a": "b", "c": 1}, "signRequest": true});
        let expected = Forwarder::Webhook(Webhook {
            url: "http://a/".to_owned(),
            method: "PUT",
            headers: vec![("a".to_owned(), "b".to_owned())],
            generate_credentials: false,
            sign_request: true,
        });
        for forwarders in [
            json!({"message.sent": [hook]}),
            json!({"message": {"sent": [hook]}}),
            json!({"message": {"sent": hook}}),
            json!({"message": {"sent": [1, {"type": "x"}, {"type": "webhook"}, hook]}}),
        ] {
            assert_eq!(
                of_event(&forwarders, "message.sent"),
                std::slice::from_ref(&expected)
            );
            assert_eq!(of_event(&forwarders, "message.received"), []);
        }
        let old = json!({"received": [{"type": "meshblu"}]});
        assert_eq!(of_event(&old, "received"), [Forwarder::Meshblu]);
        assert_eq!(of_event(&json!("no"), "received"), []);
    }

    #[test]
    fn headers_are_bounded_in_number_and_length() {
        let many = |count: usize, value: &str| -> Value {
            let names = (0..count).map(|number| (format!("x{number}"), Value::from(value)));
            names.collect()
        };
        assert_eq!(headers(Some(&many(30_000, ""))).len(), HEADERS_MAX);
        let long = "v".repeat(HEADER_BYTES_MAX / 2);
        assert_eq!(headers(Some(&many(3, &long))).len(), 1);
        assert_eq!(headers(Some(&many(3, "v"))).len(), 3);
    }

    #[test]
    fn there_are_at_most_ten() {
        let many = json!({"a.b": vec![json!({"type": "meshblu"}); 11]});
        assert_eq!(of_event(&many, "a.b").len(), FORWARDERS_MAX);
    }
}
