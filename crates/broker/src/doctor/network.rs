//! What the kernel does with connections: queues, tables, ports, buffers.

use super::finding::Verdict;
use super::{Case, bytes};

/// The backlog that the broker asks for.
const BACKLOG: u64 = 4_096;
/// Entries of conntrack's table per connection: it keeps closed ones for a while.
const TRACKED_PER_CONNECTION: u64 = 2;
/// Kernel memory that a connection may take in its buffers while it is slow.
const BUFFERS_PER_CONNECTION: u64 = 8 * 1_024;
/// Room that a socket should be able to grow to, for fans of messages.
const WRITE_BUFFER_MIN: u64 = 256 * 1_024;
const PAGE: u64 = 4_096;

pub(super) fn accept_queue(case: &Case) -> Verdict {
    sysctl_at_least(
        case,
        "net.core.somaxconn",
        BACKLOG,
        "connections that may wait to be accepted: when all clients come back at once, some have \
         to try again after a second",
    )
}

pub(super) fn syn_queue(case: &Case) -> Verdict {
    sysctl_at_least(
        case,
        "net.ipv4.tcp_max_syn_backlog",
        BACKLOG,
        "handshakes that may be under way: when all clients come back at once, some are dropped",
    )
}

fn sysctl_at_least(case: &Case, name: &str, least: u64, what: &str) -> Verdict {
    match case.host.number(&sysctl(name)) {
        None => Verdict::unknown(format!("{name} cannot be read")),
        Some(value) if value >= least => Verdict::fine(format!("{name} = {value}")),
        Some(value) => Verdict::warning(
            format!("{name} is {value}, the number of {what}"),
            format!("sysctl {name}={least}, and the same in /etc/sysctl.d/"),
        ),
    }
}

/// The file of a sysctl.
pub(super) fn sysctl(name: &str) -> String {
    format!("/proc/sys/{}", name.replace('.', "/"))
}

/// Whether waits look at the network card before they sleep, which the io_uring driver's do not.
pub(super) fn busy_polling(case: &Case) -> Verdict {
    const NAMES: [&str; 2] = ["net.core.busy_poll", "net.core.busy_read"];
    let [Some(poll), Some(read)] = NAMES.map(|name| case.host.number(&sysctl(name))) else {
        return Verdict::unknown(format!("{} cannot be read", NAMES.join(" and ")));
    };
    if poll == 0 && read == 0 {
        return Verdict::fine("off: who waits sleeps");
    }
    let has_isolated = case
        .host
        .text("/sys/devices/system/cpu/isolated")
        .is_some_and(|list| !list.trim().is_empty());
    if case.plan.is_epoll && has_isolated {
        return Verdict::fine(format!("{} = {poll}, {} = {read}", NAMES[0], NAMES[1]));
    }
    Verdict::notice(
        format!(
            "{} is {poll} and {} is {read}: whoever waits by epoll or reads looks at the network card \
             for so many microseconds and burns CPU time; the io_uring driver gains nothing from it",
            NAMES[0], NAMES[1]
        ),
        "sysctl net.core.busy_poll=0 net.core.busy_read=0; or isolated CPUs and --driver epoll",
    )
}

pub(super) fn local_ports(case: &Case) -> Verdict {
    const NAME: &str = "net.ipv4.ip_local_port_range";
    let Some([first, last]) = case
        .host
        .numbers(&sysctl(NAME))
        .and_then(|numbers| <[u64; 2]>::try_from(numbers).ok())
    else {
        return Verdict::unknown(format!("{NAME} cannot be read"));
    };
    let reserved = case.host.text(&sysctl("net.ipv4.ip_local_reserved_ports"));
    let reserved = reserved.unwrap_or_default();
    let is_reserved = |port: u64| {
        reserved.split(',').any(|part| {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            let bounds = (low.trim().parse::<u64>(), high.trim().parse::<u64>());
            matches!(bounds, (Ok(low), Ok(high)) if (low..=high).contains(&port))
        })
    };
    let ports = case
        .plan
        .all_addresses()
        .into_iter()
        .map(|address| u64::from(address.port()));
    let inside: Vec<u64> = ports
        .filter(|port| (first..=last).contains(port) && !is_reserved(*port))
        .collect();
    match inside.first() {
        None => Verdict::fine(format!("{NAME} = {first} {last}")),
        Some(port) => Verdict::warning(
            format!(
                "port {port} is one that the kernel may give to any outgoing connection \
                 ({NAME} is {first} {last}): then the broker cannot start"
            ),
            format!("sysctl net.ipv4.ip_local_reserved_ports={port}, or another range"),
        ),
    }
}

pub(super) fn tracked_connections(case: &Case) -> Verdict {
    const NAME: &str = "net.netfilter.nf_conntrack_max";
    let Some(most) = case.host.number(&sysctl(NAME)) else {
        return Verdict::fine("connections are not tracked (no nf_conntrack)");
    };
    let needed = case.plan.connections * TRACKED_PER_CONNECTION;
    if most >= needed {
        return Verdict::fine(format!("{NAME} = {most}"));
    }
    Verdict::warning(
        format!(
            "{NAME} is {most}; {} connections need about {needed}: beyond it packets are dropped",
            case.plan.connections
        ),
        format!("sysctl {NAME}={needed}, or a NOTRACK rule for the broker's ports"),
    )
}

pub(super) fn tcp_memory(case: &Case) -> Verdict {
    const NAME: &str = "net.ipv4.tcp_mem";
    let Some([_, _, most]) = case
        .host
        .numbers(&sysctl(NAME))
        .and_then(|numbers| <[u64; 3]>::try_from(numbers).ok())
    else {
        return Verdict::unknown(format!("{NAME} cannot be read"));
    };
    let needed = case.plan.connections * BUFFERS_PER_CONNECTION;
    let most_bytes = most.saturating_mul(PAGE);
    if most_bytes >= needed {
        return Verdict::fine(format!("{NAME} allows {}", bytes(most_bytes)));
    }
    Verdict::warning(
        format!(
            "{NAME} allows {} for all connections together; {} connections with full buffers need \
             {}, and beyond it the kernel drops what arrives",
            bytes(most_bytes),
            case.plan.connections,
            bytes(needed)
        ),
        format!(
            "the third number of {NAME} at {} or more",
            needed.div_ceil(PAGE)
        ),
    )
}

pub(super) fn tcp_buffers(case: &Case) -> Verdict {
    const NAMES: [&str; 2] = ["net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"];
    for name in NAMES {
        let Some([_, _, most]) = case
            .host
            .numbers(&sysctl(name))
            .and_then(|numbers| <[u64; 3]>::try_from(numbers).ok())
        else {
            return Verdict::unknown(format!("{name} cannot be read"));
        };
        if most < WRITE_BUFFER_MIN {
            return Verdict::warning(
                format!(
                    "{name} lets a socket's buffer grow to {} only: fast publishers and slow links \
                     are held up",
                    bytes(most)
                ),
                format!("the third number of {name} at {WRITE_BUFFER_MIN} or more"),
            );
        }
    }
    Verdict::fine("buffers of sockets may grow")
}

pub(super) fn receive_steering(case: &Case) -> Verdict {
    const MANY_CPUS: usize = 4;
    let usable = case.host.cpus("/sys/devices/system/cpu/online");
    if usable.is_none_or(|cpus| cpus.len() < MANY_CPUS) {
        return Verdict::unknown("few CPUs: nothing to spread packets over");
    }
    for interface in case.host.names("/sys/class/net") {
        let queues = format!("/sys/class/net/{interface}/queues");
        let is_device = case.host.has(&format!("/sys/class/net/{interface}/device"));
        let receiving: Vec<String> = case
            .host
            .names(&queues)
            .into_iter()
            .filter(|queue| queue.starts_with("rx-"))
            .collect();
        let [queue] = &receiving[..] else { continue };
        let mask = case.host.text(&format!("{queues}/{queue}/rps_cpus"));
        let is_off = mask.is_some_and(|mask| mask.chars().all(|one| "0,".contains(one)));
        if is_device && is_off {
            return Verdict::notice(
                format!(
                    "{interface} has one receive queue and no packet steering: one CPU handles all \
                     packets"
                ),
                format!("a mask of CPUs in {queues}/{queue}/rps_cpus (RPS), or more queues"),
            );
        }
    }
    Verdict::fine("packets are spread, or there is no device to say so")
}
