//! Reason codes of MQTT 5.0 (section 2.4), which the 3.x return codes are derived from.

/// A v5 reason code. Several names share a number in the specification (0x00 is Success, Normal
/// disconnection, and Granted QoS 0); here the number has one name.
#[allow(missing_docs)] // The specification's own names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ReasonCode {
    Success = 0x00,
    GrantedQoS1 = 0x01,
    GrantedQoS2 = 0x02,
    DisconnectWithWill = 0x04,
    NoMatchingSubscribers = 0x10,
    NoSubscriptionExisted = 0x11,
    ContinueAuthentication = 0x18,
    Reauthenticate = 0x19,
    UnspecifiedError = 0x80,
    MalformedPacket = 0x81,
    ProtocolError = 0x82,
    ImplementationSpecificError = 0x83,
    UnsupportedProtocolVersion = 0x84,
    ClientIdentifierNotValid = 0x85,
    BadUserNameOrPassword = 0x86,
    NotAuthorized = 0x87,
    ServerUnavailable = 0x88,
    ServerBusy = 0x89,
    Banned = 0x8A,
    ServerShuttingDown = 0x8B,
    BadAuthenticationMethod = 0x8C,
    KeepAliveTimeout = 0x8D,
    SessionTakenOver = 0x8E,
    TopicFilterInvalid = 0x8F,
    TopicNameInvalid = 0x90,
    PacketIdentifierInUse = 0x91,
    PacketIdentifierNotFound = 0x92,
    ReceiveMaximumExceeded = 0x93,
    TopicAliasInvalid = 0x94,
    PacketTooLarge = 0x95,
    MessageRateTooHigh = 0x96,
    QuotaExceeded = 0x97,
    AdministrativeAction = 0x98,
    PayloadFormatInvalid = 0x99,
    RetainNotSupported = 0x9A,
    QoSNotSupported = 0x9B,
    UseAnotherServer = 0x9C,
    ServerMoved = 0x9D,
    SharedSubscriptionsNotSupported = 0x9E,
    ConnectionRateExceeded = 0x9F,
    MaximumConnectTime = 0xA0,
    SubscriptionIdentifiersNotSupported = 0xA1,
    WildcardSubscriptionsNotSupported = 0xA2,
}

impl ReasonCode {
    /// The code with this number, or `None` if the specification has none.
    #[inline]
    pub fn from_byte(byte: u8) -> Option<ReasonCode> {
        BY_BYTE[usize::from(byte)]
    }

    /// Whether the code reports a failure: 0x80 and above.
    pub fn is_error(self) -> bool {
        self as u8 >= 0x80
    }
}

/// Every code at its number.
const BY_BYTE: [Option<ReasonCode>; 256] = {
    use ReasonCode::*;
    let all = [
        Success,
        GrantedQoS1,
        GrantedQoS2,
        DisconnectWithWill,
        NoMatchingSubscribers,
        NoSubscriptionExisted,
        ContinueAuthentication,
        Reauthenticate,
        UnspecifiedError,
        MalformedPacket,
        ProtocolError,
        ImplementationSpecificError,
        UnsupportedProtocolVersion,
        ClientIdentifierNotValid,
        BadUserNameOrPassword,
        NotAuthorized,
        ServerUnavailable,
        ServerBusy,
        Banned,
        ServerShuttingDown,
        BadAuthenticationMethod,
        KeepAliveTimeout,
        SessionTakenOver,
        TopicFilterInvalid,
        TopicNameInvalid,
        PacketIdentifierInUse,
        PacketIdentifierNotFound,
        ReceiveMaximumExceeded,
        TopicAliasInvalid,
        PacketTooLarge,
        MessageRateTooHigh,
        QuotaExceeded,
        AdministrativeAction,
        PayloadFormatInvalid,
        RetainNotSupported,
        QoSNotSupported,
        UseAnotherServer,
        ServerMoved,
        SharedSubscriptionsNotSupported,
        ConnectionRateExceeded,
        MaximumConnectTime,
        SubscriptionIdentifiersNotSupported,
        WildcardSubscriptionsNotSupported,
    ];
    let mut table = [None; 256];
    let mut index = 0;
    while index < all.len() {
        table[all[index] as usize] = Some(all[index]);
        index += 1;
    }
    table
};

impl ReasonCode {
    /// CONNACK (3.2.2.2).
    pub(crate) fn fits_connack(self) -> bool {
        matches!(
            self as u8,
            0x00 | 0x80..=0x8A | 0x8C | 0x90 | 0x95 | 0x97 | 0x99..=0x9D | 0x9F
        )
    }

    /// PUBACK and PUBREC (3.4.2.1, 3.5.2.1).
    pub(crate) fn fits_receipt(self) -> bool {
        matches!(
            self as u8,
            0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99
        )
    }

    /// PUBREL and PUBCOMP (3.6.2.1, 3.7.2.1).
    pub(crate) fn fits_release(self) -> bool {
        matches!(self as u8, 0x00 | 0x92)
    }

    /// SUBACK (3.9.3).
    pub(crate) fn fits_suback(self) -> bool {
        matches!(
            self as u8,
            0x00..=0x02 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91 | 0x97 | 0x9E | 0xA1 | 0xA2
        )
    }

    /// UNSUBACK (3.11.3).
    pub(crate) fn fits_unsuback(self) -> bool {
        matches!(self as u8, 0x00 | 0x11 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91)
    }

    /// DISCONNECT from either side (3.14.2.1); 0x8C stands only in the table of 2.4.
    pub(crate) fn fits_disconnect(self) -> bool {
        matches!(
            self as u8,
            0x00 | 0x04 | 0x80..=0x83 | 0x87 | 0x89 | 0x8B..=0x90 | 0x93..=0xA2
        )
    }

    /// AUTH (3.15.2.1).
    pub(crate) fn fits_auth(self) -> bool {
        matches!(self as u8, 0x00 | 0x18 | 0x19)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_stands_at_its_number() {
        let known = (0..=255).filter_map(|byte| {
            let code = ReasonCode::from_byte(byte)?;
            assert_eq!(code as u8, byte);
            Some(code)
        });
        assert_eq!(known.count(), 43);
    }
}
