//! `/v1/clients`: who is there.

use super::answers::{Answer, Cursor, Failure, mistaken, moment};
use super::{State, lists, sockets};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Shared};
use serde::Deserialize;
use serde_json::{Value, json};
use shard::console::{
    ClientConnection, ClientFilter, ClientRow, Question, Report, SocketKind, SocketRow, Traffic,
    Version,
};
use shard::{DeviceId, Listener};
use std::net::IpAddr;
use std::sync::Arc;

/// Which clients are wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    prefix: Option<String>,
    device: Option<String>,
    peer: Option<String>,
    protocol: Option<String>,
    connected: Option<bool>,
    limit: Option<u32>,
    after: Option<String>,
}

/// `GET /v1/clients`
pub async fn list(
    Shared(state): Shared<Arc<State>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Answer {
    let Query(wanted) = wanted?;
    let (rows, next) = clients(&state, &wanted).await?;
    Ok(Json(json!({ "clients": rows, "next": next })))
}

/// `GET /v1/sessions`: the same, for those without a connection.
pub async fn sessions(
    Shared(state): Shared<Arc<State>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Answer {
    let Query(mut wanted) = wanted?;
    wanted.connected.get_or_insert(false);
    let (rows, next) = clients(&state, &wanted).await?;
    Ok(Json(json!({ "sessions": rows, "next": next })))
}

/// Before the number in a cursor that is among the sockets of a shard, which come behind its sessions.
const AMONG_SOCKETS: &str = "s";

/// MQTT clients, and the sockets of devices.
async fn clients(state: &State, wanted: &Wanted) -> Result<(Vec<Value>, Option<String>), Failure> {
    let kind = wanted.protocol.as_deref().and_then(socket_kind);
    let filter = filter(wanted)?;
    let has_sessions = kind.is_none();
    let has_sockets = filter.is_connected != Some(false) && filter.version.is_none();
    let question = |cursor: &Cursor, limit| {
        let filter = filter.clone();
        let from = match cursor.rest.strip_prefix(AMONG_SOCKETS) {
            Some(_) => cursor.number_behind(AMONG_SOCKETS)?,
            None if has_sessions => {
                let from = cursor.number()?;
                return Ok(Question::Clients {
                    from,
                    limit,
                    filter,
                });
            }
            None => 0,
        };
        Ok(Question::Sockets {
            from,
            limit,
            kind,
            filter,
        })
    };
    let is_named = |socket: &&SocketRow| {
        let prefix = filter.prefix.as_deref();
        prefix.is_none_or(|prefix| sockets::begins_with(socket, prefix))
    };
    let among_sockets = |next: u32| format!("{AMONG_SOCKETS}{next}");
    let page = |report| match report {
        Report::Clients(found) => {
            let next = found.next.map(|next| next.to_string());
            let next = next.or_else(|| has_sockets.then(|| among_sockets(0)));
            Ok((found.rows.iter().map(row).collect(), next))
        }
        Report::Sockets(_) if !has_sockets => Ok((Vec::new(), None)),
        Report::Sockets(found) => {
            let rows = found.rows.iter().filter(is_named).map(sockets::row);
            Ok((rows.collect(), found.next.map(among_sockets)))
        }
        other => Err(mistaken(&other)),
    };
    let after = wanted.after.as_deref();
    lists::read(state, wanted.limit, after, question, page).await
}

fn socket_kind(protocol: &str) -> Option<SocketKind> {
    let mut kinds = [SocketKind::WebSocket, SocketKind::Events].into_iter();
    kinds.find(|kind| sockets::protocol(*kind) == protocol)
}

fn filter(wanted: &Wanted) -> Result<ClientFilter, Failure> {
    let device = wanted
        .device
        .as_deref()
        .map(|text| DeviceId::parse(text).ok_or_else(|| Failure::wrong("device: not a UUID")));
    let peer = wanted.peer.as_deref().map(|text| {
        text.parse::<IpAddr>()
            .map_err(|_| Failure::wrong("peer: not an IP address"))
    });
    let version = wanted.protocol.as_deref().map(|text| match text {
        "3.1" => Ok(Some(Version::V31)),
        "3.1.1" => Ok(Some(Version::V311)),
        "5" => Ok(Some(Version::V5)),
        _ if socket_kind(text).is_some() => Ok(None),
        _ => {
            let what = "protocol: 3.1, 3.1.1, 5, websocket or events";
            Err(Failure::wrong(what))
        }
    });
    Ok(ClientFilter {
        prefix: wanted.prefix.as_deref().map(Into::into),
        device: device.transpose()?,
        peer: peer.transpose()?,
        version: version.transpose()?.flatten(),
        is_connected: wanted.connected,
        waiting_bytes_min: 0,
    })
}

/// What a list says of a client.
pub fn row(client: &ClientRow) -> Value {
    json!({
        "client": client.client_id,
        "device": client.device.map(|device| device.to_string()),
        "connected": client.connection.is_some(),
        "connection": client.connection.as_ref().map(connection),
        // For ever is told apart from a long time by being none.
        "expiry_s": (client.expiry_s != u32::MAX).then_some(client.expiry_s),
        "expires": client.expires.map(moment),
        "subscriptions": client.subscriptions,
        "in_flight": client.in_flight,
        "queue_messages": client.queue_messages,
        "queue_bytes": client.queue_bytes,
    })
}

fn connection(connection: &ClientConnection) -> Value {
    json!({
        "protocol": protocol(connection.version),
        "listener": match connection.listener {
            Listener::Mqtt => "mqtt",
            _ => "websocket",
        },
        "peer": connection.peer.to_string(),
        "since": moment(connection.since),
        "keep_alive_s": connection.keep_alive_s,
        "output_bytes": connection.output_bytes,
        "paused": connection.is_paused,
        "traffic": traffic(&connection.traffic),
    })
}

/// What a connection has carried.
pub fn traffic(traffic: &Traffic) -> Value {
    json!({
        "received_messages": traffic.received,
        "received_bytes": traffic.received_bytes,
        "sent_messages": traffic.sent,
        "sent_bytes": traffic.sent_bytes,
        "dropped_messages": traffic.dropped,
    })
}

/// The name of a version of MQTT.
pub fn protocol(version: Version) -> &'static str {
    match version {
        Version::V31 => "3.1",
        Version::V311 => "3.1.1",
        Version::V5 => "5",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_and_nonsense_is_not() {
        let wanted = Wanted {
            peer: Some("::1".to_owned()),
            protocol: Some("5".to_owned()),
            ..Wanted::default()
        };
        let read = filter(&wanted).unwrap();
        assert_eq!(read.version, Some(Version::V5));
        assert!(read.peer.is_some());
        for wrong in [
            Wanted {
                peer: Some("host".to_owned()),
                ..Wanted::default()
            },
            Wanted {
                protocol: Some("4".to_owned()),
                ..Wanted::default()
            },
            Wanted {
                device: Some("x".to_owned()),
                ..Wanted::default()
            },
        ] {
            assert!(filter(&wrong).is_err(), "{wrong:?}");
        }
    }
}
