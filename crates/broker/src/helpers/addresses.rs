//! Which addresses a webhook may reach. Its URL comes from whoever owns a device, so it must not
//! be a way into the broker's own machine or network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// Whether anybody on the internet could be reached at this address: no loopback, private,
/// link-local (and so no cloud's metadata), shared, documentation, test, multicast or reserved
/// address, in whatever form it is written.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = match a {
        // "This" network, loopback, multicast, reserved, broadcast.
        0 | 127 | 224.. => true,
        10 => true,
        // Shared with the provider's network.
        100 => (64..128).contains(&b),
        // Link-local, and metadata.
        169 => b == 254,
        172 => (16..32).contains(&b),
        // Protocol assignments, documentation, the relays of 6to4, private.
        192 => (b == 0 && (c == 0 || c == 2)) || (b == 88 && c == 99) || b == 168,
        // Benchmarks, documentation.
        198 => b == 18 || b == 19 || (b == 51 && c == 100),
        203 => b == 0 && c == 113,
        _ => false,
    };
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(inner) = address.to_ipv4_mapped() {
        return is_public_v4(inner);
    }
    let segments = address.segments();
    let [.., high, low] = segments;
    let last = Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match segments {
        // Translated to IPv4.
        [0x64, 0xFF9B, 0, 0, 0, 0, ..] => is_public_v4(last),
        // Teredo and other protocol assignments, documentation, 6to4.
        [0x2001, 0..=0x1FF, ..] | [0x2001, 0xDB8, ..] | [0x2002, ..] => false,
        [0x3FFF, 0..=0xFFF, ..] => false,
        // All that is given out so far.
        [first, ..] => first >> 13 == 1,
    }
}

/// Whether the address is one of this machine: what is bound here is here.
pub fn is_own(address: IpAddr) -> bool {
    // Some systems let anybody bind to anything; then this says nothing.
    const NOBODYS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let can_bind = |address: IpAddr| UdpSocket::bind((address, 0)).is_ok();
    can_bind(address) && !can_bind(NOBODYS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_public_is_public() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in [
            "1.1.1.1",
            "100.63.0.1",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.1.2.3",
            "223.255.255.1",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2001:4860:4860::8888",
            "2606:4700::1111",
            "2a00::1",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn a_machine_knows_its_own_addresses() {
        assert!(is_own("127.0.0.1".parse().unwrap()));
        assert!(!is_own("1.1.1.1".parse().unwrap()));
    }
}
