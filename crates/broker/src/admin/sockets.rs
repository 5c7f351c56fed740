//! Connections of devices that are no MQTT clients, as the list of clients shows them: FreshBlu's
//! WebSockets, and streams of events. Each has a name such as `$ws/0/17/3` or `$events/0/17/3`: its
//! shard, its place there, and which connection at that place.

use super::State;
use super::answers::{Failure, mistaken, moment};
use super::clients;
use serde_json::{Value, json};
use shard::console::{Question, Removal, Report, SocketKind, SocketRow};
use shard::{ConnectionId, ShardId};

/// How the names of each kind begin.
const PREFIXES: [(SocketKind, &str); 2] = [
    (SocketKind::WebSocket, "$ws/"),
    (SocketKind::Events, "$events/"),
];

/// The name of what it speaks.
pub fn protocol(kind: SocketKind) -> &'static str {
    match kind {
        SocketKind::WebSocket => "websocket",
        SocketKind::Events => "events",
    }
}

fn name(row: &SocketRow) -> String {
    let prefix = PREFIXES.iter().find(|(kind, _)| *kind == row.kind);
    let (_, prefix) = prefix.expect("each kind has a prefix");
    let ConnectionId { index, generation } = row.connection;
    format!("{prefix}{}/{index}/{generation}", row.shard.0)
}

/// Where a connection of this name is, if it is such a name.
fn place(name: &str) -> Option<(ShardId, ConnectionId)> {
    let rest = PREFIXES
        .iter()
        .find_map(|(_, prefix)| name.strip_prefix(prefix))?;
    let mut numbers = rest.split('/');
    let shard = ShardId(numbers.next()?.parse().ok()?);
    let index = numbers.next()?.parse().ok()?;
    let generation = numbers.next()?.parse().ok()?;
    let id = ConnectionId { index, generation };
    numbers.next().is_none().then_some((shard, id))
}

/// What a list says of one: as of an MQTT client.
pub fn row(row: &SocketRow) -> Value {
    json!({
        "client": name(row),
        "device": row.device.map(|device| device.to_string()),
        "connected": true,
        "connection": {
            "protocol": protocol(row.kind),
            "listener": "http",
            "peer": row.peer.to_string(),
            "since": moment(row.since),
            "keep_alive_s": 0,
            "output_bytes": row.output_bytes,
            "paused": row.is_paused,
            "traffic": clients::traffic(&row.traffic),
        },
        "expiry_s": 0,
        "expires": null,
        "subscriptions": 0,
        "in_flight": 0,
        "queue_messages": 0,
        "queue_bytes": 0,
    })
}

/// Whether the name of one begins so.
pub fn begins_with(socket: &SocketRow, prefix: &str) -> bool {
    name(socket).starts_with(prefix)
}

/// All about the one of this name, if it is there.
pub async fn describe(state: &State, name: &str) -> Result<Option<Value>, Failure> {
    let Some((shard, id)) = place(name).filter(|(shard, _)| state.consoles.has(*shard)) else {
        return Ok(None);
    };
    match state.consoles.ask(shard, Question::Socket(id)).await? {
        Report::Socket(Some(socket)) if begins_with(&socket, name) => {
            let mut all = row(&socket);
            all["shard"] = shard.0.into();
            all["last_packet"] = moment(socket.received).into();
            Ok(Some(all))
        }
        Report::Socket(_) => Ok(None),
        other => Err(mistaken(&other)),
    }
}

/// Closes the one of this name, if it is there.
pub async fn remove(state: &State, name: &str) -> Result<Option<Removal>, Failure> {
    if describe(state, name).await?.is_none() {
        return Ok(None);
    }
    let Some((shard, id)) = place(name) else {
        return Ok(None);
    };
    match state
        .consoles
        .ask(shard, Question::RemoveSocket(id))
        .await?
    {
        Report::Removed(removal) => Ok(removal.is_known.then_some(removal)),
        other => Err(mistaken(&other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_where_a_connection_is() {
        let found = place("$ws/3/17/4294967295");
        let id = ConnectionId {
            index: 17,
            generation: u32::MAX,
        };
        assert_eq!(found, Some((ShardId(3), id)));
        assert!(place("$events/0/0/0").is_some());
        for nonsense in [
            "",
            "$ws/",
            "$ws/1/2",
            "$ws/1/2/3/4",
            "$ws/-1/2/3",
            "a/1/2/3",
            "$ws/1/2/x",
        ] {
            assert_eq!(place(nonsense), None, "{nonsense}");
        }
    }
}
