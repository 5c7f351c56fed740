//! The description of the HTTP interface (OpenAPI 3.1), made from the table of routes, so that it
//! names what is served and nothing else.

use super::parts::NEXT;
use super::routes::{Endpoint, Family, ROUTES, Route};
use serde_json::{Map, Value, json};
use std::sync::OnceLock;

/// The whole document as JSON.
pub(crate) fn document() -> &'static [u8] {
    static DOCUMENT: OnceLock<Vec<u8>> = OnceLock::new();
    DOCUMENT.get_or_init(|| serde_json::to_vec(&describe()).expect("JSON as text"))
}

fn describe() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(templated(route)).or_insert_with(|| json!({}));
        path[route.method.to_ascii_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Meshring",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Devices, who may do what with them, and messages between them: \
                the interface of Meshblu and FreshBlu. Where the two differ, the listener's \
                dialect decides; statuses of both are given.",
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "basic": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "UUID and token of a device.",
                },
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Base64 of UUID, colon and token.",
                },
            },
            "schemas": schemas(),
        },
    })
}

/// A path with its parameters in braces.
fn templated(route: &Route) -> String {
    let mut path = String::new();
    for part in route.segments() {
        match part.strip_prefix(':') {
            Some(name) => path.extend(["/{", name, "}"]),
            None => path.extend(["/", part]),
        }
    }
    path
}

fn operation(route: &Route) -> Value {
    let about = about(route.endpoint);
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": about.summary,
        "parameters": parameters(route, &about),
        "responses": responses(route, &about),
    });
    operation["security"] = match about.access {
        Access::Open => json!([]),
        Access::Device => json!([{ "basic": [] }, { "bearer": [] }]),
        Access::Either => json!([{}, { "basic": [] }, { "bearer": [] }]),
    };
    if let Some(body) = about.body {
        let schema = json!({ "$ref": format!("#/components/schemas/{body}") });
        operation["requestBody"] =
            json!({ "content": { "application/json": { "schema": schema } } });
    }
    if route.family == Family::Meshblu {
        operation["tags"] = json!(["meshblu"]);
    } else if route.family == Family::Freshblu {
        operation["tags"] = json!(["freshblu"]);
    }
    operation
}

/// Method and path in one word.
fn operation_id(route: &Route) -> String {
    let mut id = route.method.to_ascii_lowercase();
    for part in route.segments() {
        for word in part.split(|byte: char| !byte.is_ascii_alphanumeric()) {
            let (first, rest) = word.split_at(word.len().min(1));
            id.extend([&*first.to_ascii_uppercase(), rest]);
        }
    }
    id
}

fn parameters(route: &Route, about: &About) -> Value {
    let mut parameters = Vec::new();
    for part in route.segments() {
        let Some(name) = part.strip_prefix(':') else {
            continue;
        };
        let schema = match name {
            "uuid" | "emitter" => json!({ "type": "string", "format": "uuid" }),
            "type" => json!({ "$ref": "#/components/schemas/SubscriptionType" }),
            _ => json!({ "type": "string" }),
        };
        parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": schema }));
    }
    for (name, description) in about.query {
        let schema = json!({ "type": "string" });
        parameters.push(json!({
            "name": name, "in": "query", "required": false, "schema": schema,
            "description": description,
        }));
    }
    if about.access != Access::Open && route.endpoint != Endpoint::Authenticate {
        parameters.push(json!({
            "name": "x-meshblu-as", "in": "header", "required": false,
            "schema": { "type": "string", "format": "uuid" },
            "description": "The device to act as; it must have given its leave.",
        }));
    }
    Value::from(parameters)
}

fn responses(route: &Route, about: &About) -> Value {
    let mut responses = Map::new();
    for (status, schema) in about.successes {
        let description = http::reason_phrase(*status);
        let mut response = json!({ "description": description });
        match *schema {
            "" => {}
            "text/event-stream" | "text/plain" => {
                response["content"] = json!({ *schema: { "schema": { "type": "string" } } });
            }
            schema => {
                let schema = json!({ "$ref": format!("#/components/schemas/{schema}") });
                response["content"] = json!({ "application/json": { "schema": schema } });
            }
        }
        if about.query.contains(&AFTER) {
            response["headers"] = json!({ NEXT: {
                "schema": { "type": "string" },
                "description": "There is more; the same request with this as `after` has it.",
            } });
        }
        responses.insert(status.to_string(), response);
    }
    let mut errors = Vec::new();
    if about.access != Access::Open {
        errors.extend([401, 403, 429, 503]);
    }
    if route.path.contains(":uuid") {
        errors.extend([400, 404]);
    }
    if about.query.contains(&AFTER) {
        errors.push(422);
    }
    if about.body.is_some() {
        errors.extend([400, 413, 422]);
    }
    for status in errors {
        let schema = json!({ "$ref": "#/components/schemas/Error" });
        let response = json!({
            "description": http::reason_phrase(status),
            "content": { "application/json": { "schema": schema } },
        });
        responses.entry(status.to_string()).or_insert(response);
    }
    Value::from(responses)
}

/// How many entries of a list an answer has.
const LIMIT: (&str, &str) = (
    "limit",
    "Entries at most, 1 to 10000. An answer ends with 16 MiB of documents, too.",
);
/// Where a list goes on.
const AFTER: (&str, &str) = (
    "after",
    "What X-Next-After of the answer before has said; good until the next start of the server.",
);
/// Of a list that may be long.
const PART: &[(&str, &str)] = &[LIMIT, AFTER];

/// Whom an endpoint serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// Everybody.
    Open,
    /// Devices that show a token.
    Device,
    /// Everybody or devices alone, as the operator has it.
    Either,
}

/// What the document says of an endpoint.
struct About {
    summary: &'static str,
    access: Access,
    /// The schema of the body.
    body: Option<&'static str>,
    /// Names and descriptions.
    query: &'static [(&'static str, &'static str)],
    /// Statuses with the schema or the media type of their bodies.
    successes: &'static [(u16, &'static str)],
}

fn about(endpoint: Endpoint) -> About {
    let open = |summary, successes| About {
        summary,
        access: Access::Open,
        body: None,
        query: &[],
        successes,
    };
    let device = |summary, successes| About {
        access: Access::Device,
        ..open(summary, successes)
    };
    let with = |body, about| About {
        body: Some(body),
        ..about
    };
    match endpoint {
        Endpoint::Status => open("Whether the server runs", &[(200, "Object")]),
        Endpoint::Healthcheck => open(
            "Whether requests are served",
            &[(200, "Object"), (503, "Error")],
        ),
        Endpoint::ServerKey => open("The server's public key", &[(200, "PublicKey")]),
        Endpoint::Metrics => open("Counters, for Prometheus", &[(200, "text/plain")]),
        Endpoint::OpenApi => open("This document", &[(200, "Object")]),
        Endpoint::Address => open("The address the request came from", &[(200, "Object")]),
        Endpoint::DeviceKey => open("A device's public key", &[(200, "PublicKey")]),
        Endpoint::Socket => open("A WebSocket of JSON events", &[(101, "")]),
        Endpoint::Authenticate => with(
            "Credentials",
            About {
                access: Access::Either,
                ..open("Whether credentials are right", &[(200, "Uuid"), (204, "")])
            },
        ),
        Endpoint::AuthenticateDevice => About {
            query: &[("token", "The device's token.")],
            ..open("Whether a token is right", &[(200, "Object")])
        },
        Endpoint::Register => with(
            "Device",
            About {
                access: Access::Either,
                ..open(
                    "Register a device",
                    &[(200, "Registered"), (201, "Registered")],
                )
            },
        ),
        Endpoint::List => About {
            query: &[
                (
                    "type",
                    "Any property but limit and after may be given: devices must have them all.",
                ),
                LIMIT,
                AFTER,
            ],
            ..device("Devices with given properties", &[(200, "Devices")])
        },
        Endpoint::Search => with(
            "Query",
            About {
                query: PART,
                ..device("Search devices", &[(200, "Devices")])
            },
        ),
        Endpoint::Whoami => device("One's own document", &[(200, "Device")]),
        Endpoint::MyDevices => About {
            query: PART,
            ..device("Oneself and the devices one owns", &[(200, "Devices")])
        },
        Endpoint::Get => device("A device's document", &[(200, "Device")]),
        Endpoint::Put => with(
            "Device",
            device("Update a device", &[(200, "Device"), (204, "")]),
        ),
        Endpoint::Patch => with("Device", device("Update properties", &[(204, "")])),
        Endpoint::FindAndUpdate => with(
            "Object",
            device(
                "Update by operators; answers what was before",
                &[(200, "Device")],
            ),
        ),
        Endpoint::Unregister => device("Unregister a device", &[(200, "Uuid")]),
        Endpoint::Claim => device("Own a device", &[(200, "Device"), (204, "")]),
        _ => about_more(endpoint, device, with),
    }
}

/// Messages, subscriptions and tokens.
fn about_more(
    endpoint: Endpoint,
    device: impl Fn(&'static str, &'static [(u16, &'static str)]) -> About,
    with: impl Fn(&'static str, About) -> About,
) -> About {
    match endpoint {
        Endpoint::Message => with(
            "Message",
            device("Send a message to devices", &[(200, "Object"), (204, "")]),
        ),
        Endpoint::Broadcast => with(
            "Message",
            device(
                "Send a message to all who listen",
                &[(200, "Object"), (204, "")],
            ),
        ),
        Endpoint::Stream => device("Events as they happen", &[(200, "text/event-stream")]),
        Endpoint::Subscribe => with(
            "Subscription",
            device("Subscribe to another device", &[(200, "Subscription")]),
        ),
        Endpoint::SubscribeTo => device("Subscribe to another device", &[(204, "")]),
        Endpoint::Subscriptions => About {
            query: PART,
            ..device("A device's subscriptions", &[(200, "Subscriptions")])
        },
        Endpoint::Unsubscribe => device("End a subscription", &[(200, "Object"), (204, "")]),
        Endpoint::UnsubscribeAll => with("Subscription", device("End subscriptions", &[(204, "")])),
        Endpoint::GenerateToken => with(
            "TokenOptions",
            device("One more token", &[(200, "Token"), (201, "Token")]),
        ),
        Endpoint::ResetToken => device("A new token instead of all others", &[(200, "Token")]),
        Endpoint::RevokeToken => device("Revoke a token", &[(200, "Object"), (204, "")]),
        Endpoint::RevokeTokens => About {
            query: &[("tag", "Of the tokens to revoke; all without it.")],
            ..device("Revoke tokens", &[(204, "")])
        },
        Endpoint::SearchTokens => with(
            "TokenOptions",
            device("One's own tokens", &[(200, "Tokens")]),
        ),
        other => unreachable!("described above: {other:?}"),
    }
}

fn schemas() -> Value {
    let uuid = json!({ "type": "string", "format": "uuid" });
    let object = json!({ "type": "object", "additionalProperties": true });
    let reference = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    let list = |name: &str| json!({ "type": "array", "items": reference(name) });
    let device = json!({
        "type": "object",
        "description": "A document of any shape.",
        "properties": {
            "uuid": uuid, "online": { "type": "boolean" }, "type": { "type": "string" },
            "meshblu": object,
        },
        "additionalProperties": true,
    });
    json!({
        "Object": object,
        "Uuid": { "type": "object", "properties": { "uuid": uuid }, "required": ["uuid"] },
        "Error": {
            "type": "object",
            "properties": { "error": { "type": "string" } },
            "required": ["error"],
        },
        "Device": device,
        "Registered": {
            "allOf": [reference("Device"), {
                "type": "object",
                "properties": { "token": { "type": "string" } },
                "required": ["uuid", "token"],
            }],
        },
        "Devices": {
            "oneOf": [list("Device"), {
                "type": "object",
                "properties": { "devices": list("Device") },
                "required": ["devices"],
            }],
        },
        "Query": {
            "type": "object",
            "description": "Properties to be equal, or operators such as $gt and $in.",
            "additionalProperties": true,
        },
        "Credentials": {
            "type": "object",
            "properties": { "uuid": uuid, "token": { "type": "string" } },
        },
        "Message": {
            "type": "object",
            "properties": {
                "devices": {
                    "description": "UUIDs, or * for all who listen.",
                    "oneOf": [
                        { "type": "string" },
                        { "type": "array", "items": { "type": "string" } },
                    ],
                },
                "topic": { "type": "string" },
                "payload": {},
            },
            "additionalProperties": true,
        },
        "SubscriptionType": {
            "type": "string",
            "enum": meshblu::Kind::ALL.map(|kind| kind.dotted()),
            "description": "Hyphens will do for the dots.",
        },
        "Subscription": {
            "type": "object",
            "properties": {
                "emitterUuid": uuid, "subscriberUuid": uuid,
                "type": reference("SubscriptionType"),
            },
        },
        "Subscriptions": list("Subscription"),
        "PublicKey": {
            "type": "object",
            "properties": { "uuid": uuid, "publicKey": { "type": ["string", "null"] } },
            "required": ["publicKey"],
        },
        "TokenOptions": {
            "type": "object",
            "properties": {
                "expiresOn": { "type": "integer", "description": "Seconds since 1970." },
                "tag": { "type": "string" },
            },
        },
        "Token": {
            "type": "object",
            "properties": {
                "uuid": uuid, "token": { "type": "string" },
                "createdAt": { "type": "string", "format": "date-time" },
            },
            "required": ["uuid", "token"],
        },
        "Tokens": { "type": "array", "items": object },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn parsed() -> Value {
        serde_json::from_slice(document()).unwrap()
    }

    #[test]
    fn the_document_names_exactly_the_routes() {
        let document = parsed();
        let mut described = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                described.insert(format!("{} {path}", method.to_uppercase()));
            }
        }
        let served: BTreeSet<_> = ROUTES
            .iter()
            .map(|route| format!("{} {}", route.method, templated(route)))
            .collect();
        assert_eq!(described, served);
    }

    #[test]
    fn parameters_of_a_path_are_described() {
        let document = parsed();
        for (path, methods) in document["paths"].as_object().unwrap() {
            let named: Vec<_> = path
                .split('/')
                .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
                .collect();
            for operation in methods.as_object().unwrap().values() {
                let parameters = operation["parameters"].as_array().unwrap();
                let in_path = parameters.iter().filter(|given| given["in"] == "path");
                let names: Vec<_> = in_path
                    .map(|given| given["name"].as_str().unwrap())
                    .collect();
                assert_eq!(names, named, "{path}");
            }
        }
    }

    #[test]
    fn references_lead_somewhere_and_names_are_unique() {
        let document = parsed();
        let text = std::str::from_utf8(super::document()).unwrap();
        for rest in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
            let name = rest.split('"').next().unwrap();
            assert!(!document["components"]["schemas"][name].is_null(), "{name}");
        }
        let mut ids = BTreeSet::new();
        for rest in text.split("\"operationId\":\"").skip(1) {
            assert!(ids.insert(rest.split('"').next().unwrap()), "{rest:.40}");
        }
        assert_eq!(ids.len(), ROUTES.len());
    }
}
