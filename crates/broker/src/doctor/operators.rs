//! What the configuration opens to operators, and whether its ports can be had.

use super::Case;
use super::finding::Verdict;
use super::host::Host;
use crate::config::do_overlap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;

/// A listening socket in /proc/net/tcp.
const LISTENING: &str = "0A";
/// Rights of others than the owner.
const OTHERS: u32 = 0o077;

pub(super) fn exposed(case: &Case) -> Verdict {
    let plan = &case.plan;
    let Some(public) = plan
        .admin
        .iter()
        .find(|address| !address.ip().is_loopback())
    else {
        return Verdict::fine("no admin address that others reach");
    };
    let remedy = "--admin on loopback, and a proxy that ends TLS or an SSH tunnel in front of it; or \
                  a network of your own";
    match plan.has_admin_token() {
        true => Verdict::warning(
            format!(
                "the admin API at {public} is not encrypted: whoever sees its token on the way may do \
                 everything"
            ),
            remedy,
        ),
        false => Verdict::notice(
            format!("everybody who reaches {public} may read /metrics"),
            remedy,
        ),
    }
}

pub(super) fn token(case: &Case) -> Verdict {
    let plan = &case.plan;
    if plan.admin.is_empty() {
        return Verdict::fine("no admin address, so no token is needed");
    }
    let named = plan.admin_token_file.clone();
    let drawn = plan
        .data
        .as_ref()
        .map(|data| data.join(crate::admin::token::FILE));
    let (Some(path), is_named) = (named.clone().or(drawn), named.is_some()) else {
        return Verdict::notice(
            "--admin shows metrics and health alone: nothing is kept, so there is no place for a token",
            "--admin-token-file with a file of your own, or --admin-socket",
        );
    };
    let found = case.host.path(&path.to_string_lossy());
    let Ok(metadata) = std::fs::metadata(&found) else {
        return match is_named {
            false => Verdict::fine("the token is drawn at the first start"),
            true => Verdict::error(
                format!("{} is not there: the broker does not start", path.display()),
                "a file with a token of 16 characters or more, such as of `openssl rand -hex 32`",
            ),
        };
    };
    if metadata.mode() & OTHERS != 0 {
        return Verdict::warning(
            format!(
                "{} is not for its owner alone: others may read it",
                path.display()
            ),
            format!("chmod 600 {}", path.display()),
        );
    }
    match crate::admin::token::Token::read(&found) {
        Ok(_) => Verdict::fine("the token is for its owner alone"),
        Err(error) => Verdict::error(
            format!("{error:#}: the broker does not start"),
            "a token of 16 characters or more, such as of `openssl rand -hex 32`",
        ),
    }
}

pub(super) fn ports(case: &Case) -> Verdict {
    if case.process.is_broker() {
        return Verdict::unknown("a broker runs here, and has its ports");
    }
    let taken = listening(&case.host);
    let wanted = case.plan.all_addresses();
    let clash = |wanted: &SocketAddr| {
        taken
            .iter()
            .find(|taken| is_in_way(**taken, *wanted))
            .copied()
    };
    match wanted
        .into_iter()
        .find_map(|wanted| Some((wanted, clash(&wanted)?)))
    {
        None => Verdict::fine("nobody listens where the broker is to"),
        Some((wanted, taken)) => Verdict::error(
            format!("another program listens on {taken}: the broker cannot have {wanted}"),
            format!(
                "`ss -ltnp sport = :{}` says which; stop it, or another port. A socket that systemd \
                 holds for the broker is no obstacle",
                taken.port()
            ),
        ),
    }
}

/// Most programs that listen on [::] have 0.0.0.0 with it.
fn is_in_way(taken: SocketAddr, wanted: SocketAddr) -> bool {
    let is_dual = taken.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && wanted.is_ipv4();
    do_overlap(taken, wanted) || (is_dual && taken.port() == wanted.port())
}

/// Where programs of this host listen.
fn listening(host: &Host) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = host.text(file).unwrap_or_default();
        for line in text.lines().skip(1) {
            let mut words = line.split_whitespace().skip(1);
            let (local, state) = (words.next(), words.nth(1));
            if state == Some(LISTENING) {
                found.extend(local.and_then(address));
            }
        }
    }
    found
}

/// An address as the kernel writes it there: words of 32 bits in the order of this machine, in
/// hexadecimal digits.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    if !ip.len().is_multiple_of(8) {
        return None;
    }
    let words: Option<Vec<[u8; 4]>> = ip
        .as_bytes()
        .chunks(8)
        .map(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
        })
        .collect();
    let ip = match words?.as_slice() {
        [word] => IpAddr::V4(Ipv4Addr::from(*word)),
        [a, b, c, d] => {
            let bytes: Vec<u8> = [*a, *b, *c, *d].concat();
            let ip = Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?);
            ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4)
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_kernels_addresses_are_read() {
        let read = |text| address(text).map(|address| address.to_string());
        assert_eq!(read("0100007F:075B").unwrap(), "127.0.0.1:1883");
        assert_eq!(read("00000000:0BB8").unwrap(), "0.0.0.0:3000");
        let loopback = "00000000000000000000000001000000:075B";
        assert_eq!(read(loopback).unwrap(), "[::1]:1883");
        for nonsense in ["", ":", "0100007F", "0100007:1", "xx:1", "0100007F:10000"] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn who_listens_on_all_addresses_is_in_the_way_of_each() {
        let of = |text: &str| -> SocketAddr { text.parse().unwrap() };
        assert!(is_in_way(of("[::]:1883"), of("127.0.0.1:1883")));
        assert!(is_in_way(of("0.0.0.0:1883"), of("127.0.0.1:1883")));
        assert!(!is_in_way(of("[::1]:1883"), of("127.0.0.1:1883")));
        assert!(!is_in_way(of("127.0.0.2:1883"), of("127.0.0.1:1883")));
    }
}
