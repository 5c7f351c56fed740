//! Bytes become packets: cutting the stream, HTTP upgrades, WebSocket frames, and what is said to
//! a peer that broke the rules.

use crate::connect::Admission;
use crate::connection::{Stage, WebSocket};
use crate::filter_tree::WARM_TOPICS;
use crate::shard::{Shard, pause};
use crate::{Close, ConnectionId, Effect, Effects, Handoff};
use http::{Opcode, WsEvent};
use mqtt_v5_codec::{
    Connack, Connect, DecodeError, Disconnect, DisconnectProperties, FixedHeader, Packet,
    PacketKind, ReasonCode, Version, connect_version, decode,
};

impl Shard {
    pub(crate) fn on_received(&mut self, id: ConnectionId, bytes: &[u8], effects: &mut Effects) {
        let Some(connection) = self.connection_mut(id) else {
            return;
        };
        let is_paused = connection.paused_for != 0;
        let stage = connection.stage;
        let is_websocket = connection.is_websocket();
        self.counters.bytes_received += bytes.len() as u64;
        match (stage, is_websocket) {
            (Stage::Http, _) => self.http_input(id, bytes, effects),
            (_, true) => self.websocket_input(id, bytes, effects),
            (_, false) if is_paused => {
                self.connection_mut(id)
                    .expect("alive")
                    .partial
                    .extend_from_slice(bytes);
            }
            (_, false) => self.mqtt_input(id, bytes, effects),
        }
        self.hand_off(id, effects);
    }

    /// Sends a connection whose CONNECT turned out to belong to another shard on its way.
    pub(crate) fn hand_off(&mut self, id: ConnectionId, effects: &mut Effects) {
        let Some(Stage::Leaving(to)) = self.connection(id).map(|c| c.stage) else {
            return;
        };
        let connection = self.remove_connection(id, effects).expect("just seen");
        let handoff = Box::new(Handoff {
            listener: connection.listener,
            peer: connection.peer,
            received: connection.partial,
            extra: connection.extra,
        });
        effects.push(Effect::Adopt {
            connection: id,
            to,
            handoff,
        });
    }

    fn mqtt_input(&mut self, id: ConnectionId, bytes: &[u8], effects: &mut Effects) {
        let connection = self
            .connection_mut(id)
            .expect("the caller has seen it alive");
        if !connection.partial.is_empty() {
            let mut partial = std::mem::take(&mut connection.partial);
            partial.extend_from_slice(bytes);
            self.packets_from(id, partial, effects);
            return;
        }
        let consumed = self.packets(id, bytes, effects);
        if consumed < bytes.len()
            && let Some(connection) = self.connection_mut(id)
        {
            connection.partial.extend_from_slice(&bytes[consumed..]);
        }
    }

    /// Handles the packets in an owned buffer and keeps what is left of it.
    pub(crate) fn packets_from(
        &mut self,
        id: ConnectionId,
        mut bytes: Vec<u8>,
        effects: &mut Effects,
    ) {
        let consumed = self.packets(id, &bytes, effects);
        if consumed < bytes.len()
            && let Some(connection) = self.connection_mut(id)
        {
            bytes.drain(..consumed);
            connection.partial = bytes;
        }
    }

    /// Handles whole packets until none is left, the connection is gone, or it is paused; returns
    /// how many bytes they had.
    fn packets(&mut self, id: ConnectionId, bytes: &[u8], effects: &mut Effects) -> usize {
        let mut consumed = 0;
        let mut warm_until = if self.subscriptions.is_large() {
            0
        } else {
            usize::MAX
        };
        while consumed < bytes.len() {
            if consumed >= warm_until {
                warm_until = consumed + self.warm(&bytes[consumed..]);
            }
            let Some(connection) = self.connection(id) else {
                break;
            };
            if connection.paused_for != 0 || matches!(connection.stage, Stage::Leaving(_)) {
                break;
            }
            let (version, stage) = (connection.version, connection.stage);
            let rest = &bytes[consumed..];
            let header = match FixedHeader::parse(rest) {
                Ok(Some(header)) => header,
                Ok(None) => break,
                Err(error) => {
                    self.fail(id, error, effects);
                    break;
                }
            };
            if header.packet_bytes() > self.announced.packet_bytes_max as usize {
                let error = DecodeError {
                    reason: ReasonCode::PacketTooLarge,
                    detail: "larger than our Maximum Packet Size",
                };
                self.fail_connect_aware(id, rest, &header, error, effects);
                break;
            }
            if stage == Stage::AwaitConnect && header.kind() != PacketKind::Connect {
                // [MQTT-3.1.0-1]
                self.fail(
                    id,
                    DecodeError::protocol("the first packet must be CONNECT"),
                    effects,
                );
                break;
            }
            let Some(whole) = rest.get(..header.packet_bytes()) else {
                break;
            };
            let body = &whole[header.header_bytes..];
            consumed += whole.len();
            self.counters.packets_received += 1;
            match decode(version, header.first, body) {
                Ok(Packet::Connect(connect)) => {
                    if self.on_connect(id, &connect, effects) != Admission::Here {
                        consumed -= whole.len(); // It will be read again.
                        break;
                    }
                }
                Ok(packet) => self.on_packet(id, packet, effects),
                Err(error) => {
                    self.fail_connect_aware(id, rest, &header, error, effects);
                    break;
                }
            }
            self.bound_output(id, effects);
        }
        let now = self.now;
        if consumed > 0
            && let Some(connection) = self.connection_mut(id)
        {
            connection.received_at = now;
        }
        consumed
    }

    /// Looks ahead at the topics of the next packets, so that matching them misses the caches side
    /// by side; returns how many bytes it looked at. Nothing is judged here.
    fn warm(&self, bytes: &[u8]) -> usize {
        let mut topics = [&[][..]; WARM_TOPICS];
        let mut at = 0;
        for topic in &mut topics {
            let Ok(Some(header)) = FixedHeader::parse(&bytes[at..]) else {
                break;
            };
            let Some(packet) = bytes.get(at..at + header.packet_bytes()) else {
                break;
            };
            at += packet.len();
            let body = &packet[header.header_bytes..];
            if header.kind() == PacketKind::Publish
                && let [high, low, rest @ ..] = body
            {
                let topic_bytes = usize::from(u16::from_be_bytes([*high, *low]));
                *topic = rest.get(..topic_bytes).unwrap_or_default();
            }
        }
        self.subscriptions.warm(&topics);
        at.max(1)
    }

    /// A client that does not read what it asked for is not read either.
    pub(crate) fn bound_output(&mut self, id: ConnectionId, effects: &mut Effects) {
        if self.connection(id).is_some()
            && effects.pending_bytes(id) > self.config.limits.output_bytes_max
        {
            effects.want_writable(id);
            self.pause(id, pause::OUTPUT, effects);
        }
    }

    fn on_packet(&mut self, id: ConnectionId, packet: Packet<'_>, effects: &mut Effects) {
        match packet {
            Packet::Publish(publish) => self.on_publish(id, publish, effects),
            Packet::Ack(ack) => self.on_ack(id, ack, effects),
            Packet::Pingreq => {
                // [MQTT-3.12.4-1]
                self.send(id, &Packet::Pingresp, effects);
            }
            Packet::Subscribe(subscribe) => self.on_subscribe(id, &subscribe, effects),
            Packet::Unsubscribe(unsubscribe) => self.on_unsubscribe(id, &unsubscribe, effects),
            Packet::Disconnect(disconnect) => self.on_disconnect(id, &disconnect, effects),
            Packet::Auth(_) => {
                // No authentication method was agreed, so there is nothing to continue.
                self.fail(id, DecodeError::protocol("AUTH without a method"), effects);
            }
            Packet::Connect(_)
            | Packet::Connack(_)
            | Packet::Suback(_)
            | Packet::Unsuback(_)
            | Packet::Pingresp => {
                self.fail(
                    id,
                    DecodeError::protocol("only a server sends this packet"),
                    effects,
                );
            }
        }
    }

    /// Sends one packet to a connection that may or may not be alive. Returns whether it was sent:
    /// one that is larger than the client allows is not. [MQTT-3.1.2-24]
    pub(crate) fn send(
        &mut self,
        id: ConnectionId,
        packet: &Packet<'_>,
        effects: &mut Effects,
    ) -> bool {
        let Some(connection) = self.connection(id) else {
            return false;
        };
        let (version, is_websocket) = (connection.version, connection.is_websocket());
        let bytes_max = connection.packet_bytes_max as usize;
        if !is_websocket {
            let out = effects.outbox(id);
            let before = out.len();
            packet.encode(version, out);
            let bytes = out.len() - before;
            if bytes > bytes_max {
                out.truncate(before);
                return false;
            }
            self.counters.packets_sent += 1;
            self.counters.bytes_sent += bytes as u64;
            return true;
        }
        self.scratch.clear();
        packet.encode(version, &mut self.scratch);
        if self.scratch.len() > bytes_max {
            return false;
        }
        self.counters.packets_sent += 1;
        self.counters.bytes_sent += self.scratch.len() as u64;
        let out = effects.outbox(id);
        http::write_frame_header(out, Opcode::Binary, self.scratch.len());
        out.extend_from_slice(&self.scratch);
        true
    }

    /// Like [`Shard::fail`], for a packet that may be a CONNECT whose version is not known yet.
    fn fail_connect_aware(
        &mut self,
        id: ConnectionId,
        packet: &[u8],
        header: &FixedHeader,
        error: DecodeError,
        effects: &mut Effects,
    ) {
        let Some(connection) = self.connection_mut(id) else {
            return;
        };
        if connection.stage == Stage::AwaitConnect && header.kind() == PacketKind::Connect {
            let body = &packet[header.header_bytes..];
            if let Some(version) = connect_version(body) {
                connection.version = version;
                let is_answered = version == Version::V5
                    || error.reason == ReasonCode::UnsupportedProtocolVersion;
                if is_answered {
                    self.count_fault(error.reason);
                    self.refuse(id, None, error.reason, error.detail, effects);
                    return;
                }
            }
        }
        self.fail(id, error, effects);
    }

    fn count_fault(&mut self, reason: ReasonCode) {
        match reason {
            ReasonCode::MalformedPacket => self.counters.malformed_packets += 1,
            _ => self.counters.protocol_errors += 1,
        }
    }

    /// The peer broke the rules: tells a v5 client why [MQTT-4.13.1-1], and closes.
    pub(crate) fn fail(&mut self, id: ConnectionId, error: DecodeError, effects: &mut Effects) {
        self.count_fault(error.reason);
        self.disconnect(id, error.reason, error.detail, effects);
    }

    /// Closes a connection from our side, with the reason for a v5 client that is connected.
    pub(crate) fn disconnect(
        &mut self,
        id: ConnectionId,
        reason: ReasonCode,
        detail: &str,
        effects: &mut Effects,
    ) {
        let Some(connection) = self.connection(id) else {
            return;
        };
        self.log_close(id, reason, detail, effects);
        if connection.version == Version::V5 && connection.session().is_some() {
            let server = self.other_server(reason);
            let properties = DisconnectProperties {
                reason_string: Some(detail),
                server_reference: server.as_deref(),
                ..Default::default()
            };
            let packet = Packet::Disconnect(Disconnect { reason, properties });
            // [MQTT-3.14.2-3]: no reason string if the packet would be too large.
            if !self.send(id, &packet, effects) {
                let properties = DisconnectProperties::default();
                let packet = Packet::Disconnect(Disconnect { reason, properties });
                self.send(id, &packet, effects);
            }
        }
        self.close_frame(id, effects);
        self.close(id, Close::Flush, true, effects);
    }

    /// Answers CONNECT with an error and closes. The packet is given where it has been taken out of
    /// what was received. [MQTT-3.1.4-2], [MQTT-3.2.2-7]
    pub(crate) fn refuse(
        &mut self,
        id: ConnectionId,
        connect: Option<&Connect<'_>>,
        reason: ReasonCode,
        detail: &str,
        effects: &mut Effects,
    ) {
        self.counters.connects_refused += 1;
        self.log_refusal(id, connect, reason, detail, effects);
        let server = self.other_server(reason);
        let properties = mqtt_v5_codec::ConnackProperties {
            reason_string: Some(detail),
            server_reference: server.as_deref(),
            ..Default::default()
        };
        let connack = |properties| {
            Packet::Connack(Connack {
                session_present: false,
                reason,
                properties,
            })
        };
        // [MQTT-3.2.2-19]: no reason string if the packet would be too large.
        if !self.send(id, &connack(properties), effects) {
            self.send(id, &connack(Default::default()), effects);
        }
        self.close_frame(id, effects);
        self.close(id, Close::Flush, true, effects);
    }

    /// The end of a WebSocket, after whatever MQTT had to say; nothing for other connections.
    fn close_frame(&mut self, id: ConnectionId, effects: &mut Effects) {
        if self
            .connection(id)
            .is_some_and(|connection| connection.is_websocket())
        {
            http::write_close(effects.outbox(id), 1000, "");
        }
    }

    /// Makes a connection one of MQTT over WebSocket: frames follow, and `rest` has come already.
    pub(crate) fn open_mqtt_websocket(
        &mut self,
        id: ConnectionId,
        rest: &[u8],
        effects: &mut Effects,
    ) {
        let connection = self.connection_mut(id).expect("the caller has seen it");
        connection.stage = Stage::AwaitConnect;
        self.counters.http_connections -= 1;
        let connection = self.connection_mut(id).expect("just seen");
        // Messages are a stream here; the packets in it have a limit of their own.
        let decoder = http::Decoder::new(usize::MAX);
        connection.extra_mut().websocket = Some(WebSocket {
            decoder,
            undecoded: Vec::new(),
        });
        self.websocket_input(id, rest, effects);
    }

    /// Takes WebSocket frames apart and handles the MQTT packets in them. Does nothing for other
    /// connections.
    pub(crate) fn websocket_input(
        &mut self,
        id: ConnectionId,
        bytes: &[u8],
        effects: &mut Effects,
    ) {
        let Some(connection) = self.connection_mut(id) else {
            return;
        };
        let is_paused = connection.paused_for != 0;
        let Some(websocket) = connection.extra.as_mut().and_then(|e| e.websocket.as_mut()) else {
            return;
        };
        let mut raw = std::mem::take(&mut websocket.undecoded);
        raw.extend_from_slice(bytes);
        if is_paused {
            websocket.undecoded = raw;
            return;
        }
        let mut input = &raw[..];
        loop {
            let Some(connection) = self.connection_mut(id) else {
                return;
            };
            let is_paused =
                connection.paused_for != 0 || matches!(connection.stage, Stage::Leaving(_));
            let Some(websocket) = connection.extra.as_mut().and_then(|e| e.websocket.as_mut())
            else {
                return;
            };
            if is_paused {
                websocket.undecoded = input.to_vec();
                return;
            }
            let event = websocket
                .decoder
                .decode(&mut input, &mut connection.partial);
            match event {
                Ok(Some(event)) => self.on_websocket_event(id, event, effects),
                Ok(None) => break,
                Err(error) => {
                    self.counters.malformed_packets += 1;
                    let (code, why) = (error.close_code(), error.to_string());
                    self.close_websocket(id, code, &why, effects);
                    return;
                }
            }
        }
        if let Some(connection) = self.connection_mut(id)
            && let Some(websocket) = connection.extra.as_mut().and_then(|e| e.websocket.as_mut())
        {
            websocket.undecoded = input.to_vec();
        }
    }

    fn on_websocket_event(&mut self, id: ConnectionId, event: WsEvent, effects: &mut Effects) {
        let now = self.now;
        if let Some(connection) = self.connection_mut(id)
            && connection.stage == Stage::Socket
        {
            connection.received_at = now; // A pong is a sign of life, too.
        }
        match event {
            // [MQTT-6.0.0-1]
            WsEvent::Data { is_text, is_final } if self.is_socket(id) => {
                self.on_socket_data(id, is_text, is_final, effects);
            }
            WsEvent::Data { is_text: true, .. } => {
                self.counters.protocol_errors += 1;
                self.close_websocket(id, 1003, "MQTT needs binary frames", effects);
            }
            WsEvent::Data { .. } => {
                let connection = self
                    .connection_mut(id)
                    .expect("the caller has seen it alive");
                let partial = std::mem::take(&mut connection.partial);
                self.packets_from(id, partial, effects);
            }
            WsEvent::Ping(payload) => {
                http::write_pong(effects.outbox(id), &payload);
                self.bound_output(id, effects);
            }
            WsEvent::Pong => {}
            WsEvent::Close(code) => {
                http::write_close(effects.outbox(id), code.unwrap_or(1000), "");
                self.close(id, Close::Flush, true, effects);
            }
        }
    }

    pub(crate) fn close_websocket(
        &mut self,
        id: ConnectionId,
        code: u16,
        why: &str,
        effects: &mut Effects,
    ) {
        self.log_websocket_close(id, code, why, effects);
        self.end_websocket(id, code, why, effects);
    }

    /// The same for whoever has said in the log why.
    pub(crate) fn end_websocket(
        &mut self,
        id: ConnectionId,
        code: u16,
        why: &str,
        effects: &mut Effects,
    ) {
        http::write_close(effects.outbox(id), code, why);
        self.close(id, Close::Flush, true, effects);
    }

    /// Whether a connection is a WebSocket of FreshBlu's kind.
    fn is_socket(&self, id: ConnectionId) -> bool {
        self.connection(id)
            .is_some_and(|connection| connection.stage == Stage::Socket)
    }

    /// Part of a message of a FreshBlu socket, which is in `partial`.
    fn on_socket_data(
        &mut self,
        id: ConnectionId,
        is_text: bool,
        is_final: bool,
        effects: &mut Effects,
    ) {
        if !is_final {
            return;
        }
        let connection = self.connection_mut(id).expect("the caller has seen it");
        let text = std::mem::take(&mut connection.partial);
        match is_text {
            true => self.on_socket_text(id, &text, effects),
            false => self.close_websocket(id, 1003, "JSON comes in text frames", effects),
        }
    }
}
