//! Structs become property blocks, without the length that stands before a block.

use super::*;
use crate::text::write_binary;
use crate::write_variable_length;

/// A value in the form in which a property carries it.
trait Value {
    fn write(self, out: &mut Vec<u8>);
}

impl Value for u8 {
    fn write(self, out: &mut Vec<u8>) {
        out.push(self);
    }
}

impl Value for bool {
    fn write(self, out: &mut Vec<u8>) {
        out.push(self.into());
    }
}

impl Value for QoS {
    fn write(self, out: &mut Vec<u8>) {
        out.push(self as u8);
    }
}

impl Value for u16 {
    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_be_bytes());
    }
}

impl Value for NonZeroU16 {
    fn write(self, out: &mut Vec<u8>) {
        self.get().write(out);
    }
}

impl Value for u32 {
    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_be_bytes());
    }
}

impl Value for &str {
    fn write(self, out: &mut Vec<u8>) {
        write_binary(out, self.as_bytes());
    }
}

impl Value for &[u8] {
    fn write(self, out: &mut Vec<u8>) {
        write_binary(out, self);
    }
}

fn write(out: &mut Vec<u8>, id: u8, value: Option<impl Value>) {
    if let Some(value) = value {
        out.push(id);
        value.write(out);
    }
}

fn write_subscription_id(out: &mut Vec<u8>, number: u32) {
    out.push(id::SUBSCRIPTION_ID);
    write_variable_length(out, number as usize);
}

impl UserProperties<'_> {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for (name, value) in self.iter() {
            out.push(id::USER_PROPERTY);
            write_binary(out, name.as_bytes());
            write_binary(out, value.as_bytes());
        }
    }
}

impl ConnectProperties<'_> {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        write(out, id::SESSION_EXPIRY, self.session_expiry_s);
        write(out, id::RECEIVE_MAXIMUM, self.receive_maximum);
        write(out, id::MAXIMUM_PACKET_SIZE, self.maximum_packet_size);
        write(out, id::TOPIC_ALIAS_MAXIMUM, self.topic_alias_maximum);
        write(
            out,
            id::REQUEST_RESPONSE_INFORMATION,
            self.request_response_information,
        );
        write(
            out,
            id::REQUEST_PROBLEM_INFORMATION,
            self.request_problem_information,
        );
        write(out, id::AUTHENTICATION_METHOD, self.authentication_method);
        write(out, id::AUTHENTICATION_DATA, self.authentication_data);
        self.user_properties.encode(out);
    }
}

impl ConnackProperties<'_> {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        write(out, id::SESSION_EXPIRY, self.session_expiry_s);
        write(out, id::RECEIVE_MAXIMUM, self.receive_maximum);
        // 2 is what absence means, and may not be written. (3.2.2.3.4)
        let maximum_qos = self.maximum_qos.filter(|qos| *qos != QoS::ExactlyOnce);
        write(out, id::MAXIMUM_QOS, maximum_qos);
        write(out, id::RETAIN_AVAILABLE, self.retain_available);
        write(out, id::MAXIMUM_PACKET_SIZE, self.maximum_packet_size);
        write(out, id::ASSIGNED_CLIENT_ID, self.assigned_client_id);
        write(out, id::TOPIC_ALIAS_MAXIMUM, self.topic_alias_maximum);
        write(out, id::REASON_STRING, self.reason_string);
        write(
            out,
            id::WILDCARD_SUBSCRIPTION_AVAILABLE,
            self.wildcard_subscription_available,
        );
        write(
            out,
            id::SUBSCRIPTION_IDS_AVAILABLE,
            self.subscription_identifiers_available,
        );
        write(
            out,
            id::SHARED_SUBSCRIPTION_AVAILABLE,
            self.shared_subscription_available,
        );
        write(out, id::SERVER_KEEP_ALIVE, self.server_keep_alive_s);
        write(out, id::RESPONSE_INFORMATION, self.response_information);
        write(out, id::SERVER_REFERENCE, self.server_reference);
        write(out, id::AUTHENTICATION_METHOD, self.authentication_method);
        write(out, id::AUTHENTICATION_DATA, self.authentication_data);
        self.user_properties.encode(out);
    }
}

impl PublishProperties<'_> {
    /// Appends to `out` the encoded properties that a server passes on unaltered: payload format,
    /// response topic, correlation data, content type and user properties, the latter in the order
    /// received ([MQTT-3.3.2-4], -15, -16, -17, -18, -20). No length prefix. Alias, expiry and
    /// subscription identifiers are left out: they are the server's to write.
    pub fn encode_forwarded(&self, out: &mut Vec<u8>) {
        write(out, id::PAYLOAD_FORMAT, self.payload_format);
        write(out, id::RESPONSE_TOPIC, self.response_topic);
        write(out, id::CORRELATION_DATA, self.correlation_data);
        write(out, id::CONTENT_TYPE, self.content_type);
        self.user_properties.encode(out);
    }

    /// Whether [`PublishProperties::encode_forwarded`] would write nothing.
    pub fn forwards_nothing(&self) -> bool {
        self.payload_format.is_none()
            && self.response_topic.is_none()
            && self.correlation_data.is_none()
            && self.content_type.is_none()
            && self.user_properties.is_empty()
    }

    /// The whole block of a PUBLISH.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        write_publish_head(out, self.topic_alias, self.message_expiry_s);
        for number in self.subscription_ids() {
            write_subscription_id(out, number);
        }
        self.encode_forwarded(out);
    }

    /// The block of a will.
    pub(crate) fn encode_will(&self, delay_s: u32, out: &mut Vec<u8>) {
        write(out, id::WILL_DELAY, (delay_s > 0).then_some(delay_s));
        write(out, id::MESSAGE_EXPIRY, self.message_expiry_s);
        self.encode_forwarded(out);
    }
}

/// The properties of a PUBLISH that the sender of each copy decides.
pub(crate) fn write_publish_head(
    out: &mut Vec<u8>,
    topic_alias: Option<u16>,
    message_expiry_s: Option<u32>,
) {
    write(out, id::TOPIC_ALIAS, topic_alias);
    write(out, id::MESSAGE_EXPIRY, message_expiry_s);
}

/// One property each.
pub(crate) fn write_subscription_ids(out: &mut Vec<u8>, numbers: &[u32]) {
    for number in numbers {
        write_subscription_id(out, *number);
    }
}

impl AckProperties<'_> {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        write(out, id::REASON_STRING, self.reason_string);
        self.user_properties.encode(out);
    }
}

impl SubscribeProperties<'_> {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        if let Some(number) = self.subscription_id {
            write_subscription_id(out, number);
        }
        self.user_properties.encode(out);
    }
}

impl DisconnectProperties<'_> {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        write(out, id::SESSION_EXPIRY, self.session_expiry_s);
        write(out, id::REASON_STRING, self.reason_string);
        write(out, id::SERVER_REFERENCE, self.server_reference);
        self.user_properties.encode(out);
    }
}

impl AuthProperties<'_> {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        write(out, id::AUTHENTICATION_METHOD, self.authentication_method);
        write(out, id::AUTHENTICATION_DATA, self.authentication_data);
        write(out, id::REASON_STRING, self.reason_string);
        self.user_properties.encode(out);
    }
}
