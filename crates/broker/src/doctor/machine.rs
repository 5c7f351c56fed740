//! CPUs, interrupts, memory and clocks.

use super::finding::Verdict;
use super::network::sysctl;
use super::{Case, bytes};
use crate::cpus::ranges;

/// Clocks that a program reads without a system call.
const QUICK_CLOCKS: &[&str] = &[
    "tsc",
    "kvm-clock",
    "hyperv_clocksource_tsc_page",
    "arch_sys_counter",
];
/// Above this the kernel swaps programs out to keep more of files in memory.
const SWAPPINESS_MAX: u64 = 10;

pub(super) fn governor(case: &Case) -> Verdict {
    let slow = case.plan.cpus.iter().find_map(|cpu| {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
        let governor = case.host.text(&path)?;
        (governor != "performance").then_some((cpu, governor))
    });
    match slow {
        None => Verdict::fine("the CPUs of shards run at full speed, or something else decides"),
        Some((cpu, governor)) => Verdict::warning(
            format!(
                "CPU {cpu}, which has a shard, is governed by `{governor}`: it slows down between \
                 messages, and the first ones of a burst wait for it"
            ),
            "cpupower frequency-set -g performance",
        ),
    }
}

pub(super) fn siblings(case: &Case) -> Verdict {
    for cpu in &case.plan.cpus {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        let siblings = case.host.cpus(&path).unwrap_or_default();
        let other = siblings
            .iter()
            .find(|other| *other != cpu && case.plan.cpus.contains(other));
        if let Some(other) = other {
            return Verdict::notice(
                format!("the shards on CPUs {cpu} and {other} share one core"),
                "one shard per core has quicker answers, all threads more messages: --cpus with \
                 one of each pair",
            );
        }
    }
    Verdict::fine("each shard has a core of its own, as far as the host says")
}

pub(super) fn isolation(case: &Case) -> Verdict {
    let isolated = case.host.cpus("/sys/devices/system/cpu/isolated");
    let isolated = isolated.unwrap_or_default();
    if isolated.is_empty() {
        return Verdict::unknown("no CPU is isolated");
    }
    let cpus = &case.plan.cpus;
    match cpus.iter().find(|cpu| !isolated.contains(cpu)) {
        None => Verdict::fine("all shards run on isolated CPUs"),
        Some(cpu) => Verdict::notice(
            format!(
                "CPUs {} are isolated, but a shard runs on CPU {cpu}",
                ranges(&isolated)
            ),
            format!("--cpus {}", ranges(&isolated)),
        ),
    }
}

pub(super) fn interrupts(case: &Case) -> Verdict {
    let online = case.host.cpus("/sys/devices/system/cpu/online");
    let cpus = &case.plan.cpus;
    if online.is_none_or(|online| online.iter().all(|cpu| cpus.contains(cpu))) {
        return Verdict::unknown("every CPU has a shard, so interrupts have to go to one of them");
    }
    let table = case.host.text("/proc/interrupts").unwrap_or_default();
    for line in table.lines() {
        let Some((number, rest)) = line.trim().split_once(':') else {
            continue;
        };
        // Those without a number belong to the CPUs themselves; those that never came matter not.
        let counts = rest
            .split_whitespace()
            .map_while(|word| word.parse::<u64>().ok());
        let is_device = number.parse::<u32>().is_ok() && counts.sum::<u64>() > 0;
        let effective = format!("/proc/irq/{number}/effective_affinity_list");
        let allowed = format!("/proc/irq/{number}/smp_affinity_list");
        let target = case
            .host
            .cpus(&effective)
            .or_else(|| case.host.cpus(&allowed));
        let target = target.unwrap_or_default();
        let name = rest.split_whitespace().last().unwrap_or_default();
        let is_on_shards = !target.is_empty() && target.iter().all(|cpu| cpus.contains(cpu));
        if is_device && is_on_shards {
            return Verdict::notice(
                format!(
                    "interrupt {number} ({name}) goes to CPU {}, which has a shard",
                    ranges(&target)
                ),
                format!(
                    "other CPUs in /proc/irq/{number}/smp_affinity_list; irqbalance may undo it"
                ),
            );
        }
    }
    Verdict::fine("no device interrupts the shards, as far as the host says")
}

pub(super) fn huge_pages(case: &Case) -> Verdict {
    let path = |name: &str| format!("/sys/kernel/mm/transparent_hugepage/{name}");
    let chosen = |name: &str| {
        let text = case.host.text(&path(name))?;
        let (_, rest) = text.split_once('[')?;
        Some(rest.split_once(']')?.0.to_owned())
    };
    match (chosen("enabled"), chosen("defrag")) {
        (None, _) => Verdict::unknown("no transparent huge pages"),
        (Some(enabled), Some(defrag)) if enabled == "always" && defrag == "always" => {
            Verdict::warning(
                "transparent huge pages are `always`, and made on the spot (`defrag` is `always`): \
                 programs stall for it. The broker refuses them for itself; what runs beside it \
                 does not",
                format!("echo madvise > {}", path("defrag")),
            )
        }
        (Some(enabled), _) => Verdict::fine(format!("`{enabled}`; the broker does without")),
    }
}

pub(super) fn swap(case: &Case) -> Verdict {
    let swapped = case.process.status(&case.host, "VmSwap");
    let swapped = swapped.and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    if let Some(kib) = swapped.filter(|&kib| kib > 0 && case.process.is_running()) {
        return Verdict::warning(
            format!(
                "{} of the running broker is swapped out",
                bytes(kib * 1_024)
            ),
            "more memory, or MemorySwapMax=0 in the unit; then restart the broker",
        );
    }
    let areas = case.host.text("/proc/swaps").unwrap_or_default();
    let swappiness = case.host.number(&sysctl("vm.swappiness"));
    match swappiness {
        _ if areas.lines().count() < 2 => Verdict::fine("no swap"),
        Some(value) if value > SWAPPINESS_MAX => Verdict::warning(
            format!(
                "there is swap, and vm.swappiness is {value}: parts of an idle broker are swapped \
                 out, and its clients wait for them"
            ),
            format!("sysctl vm.swappiness={SWAPPINESS_MAX}, or MemorySwapMax=0 in the unit"),
        ),
        _ => Verdict::fine("swap is a last resort"),
    }
}

pub(super) fn nodes(case: &Case) -> Verdict {
    const NODES: &str = "/sys/devices/system/node";
    if let Some(mode) = case.host.number(&sysctl("vm.zone_reclaim_mode"))
        && mode != 0
    {
        return Verdict::warning(
            format!(
                "vm.zone_reclaim_mode is {mode}: memory is reclaimed while another node has some"
            ),
            "sysctl vm.zone_reclaim_mode=0",
        );
    }
    let names = case.host.names(NODES);
    let used: Vec<&String> = names
        .iter()
        .filter(|name| {
            let number = name.strip_prefix("node").map(str::parse::<u32>);
            let cpus = case.host.cpus(&format!("{NODES}/{name}/cpulist"));
            let has_shard =
                cpus.is_some_and(|cpus| cpus.iter().any(|cpu| case.plan.cpus.contains(cpu)));
            matches!(number, Some(Ok(_))) && has_shard
        })
        .collect();
    if used.len() < 2 {
        return Verdict::fine("all shards are on one NUMA node, or there is one only");
    }
    Verdict::notice(
        format!("the shards are spread over {} NUMA nodes", used.len()),
        "--cpus with the CPUs of the node that the network card is on, if they are enough",
    )
}

pub(super) fn clock(case: &Case) -> Verdict {
    const PATH: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    match case.host.text(PATH) {
        None => Verdict::unknown("the clock source cannot be read"),
        Some(source) if QUICK_CLOCKS.contains(&&*source) => Verdict::fine(source),
        Some(source) => Verdict::warning(
            format!("the clock source is `{source}`: each look at the clock is a system call"),
            "clocksource=tsc on the kernel's command line, if the log says why it was left \
             (journalctl -k -g clocksource)",
        ),
    }
}

pub(super) fn time_is_set(case: &Case) -> Verdict {
    const SIGNS: [&str; 5] = [
        "/run/systemd/timesync/synchronized",
        "/run/chrony/chronyd.pid",
        "/run/chronyd.pid",
        "/run/ntpd.pid",
        "/run/openntpd.pid",
    ];
    match SIGNS.into_iter().find(|sign| case.host.has(sign)) {
        Some(sign) => Verdict::fine(sign),
        None => Verdict::notice(
            "nothing seems to set the clock: times in messages and logs drift",
            "systemd-timesyncd or chrony, if the machine's host does not do it",
        ),
    }
}

pub(super) fn kernel_age(case: &Case) -> Verdict {
    const OLDEST: (u64, u64) = (5, 10);
    match case.kernel() {
        None => Verdict::unknown("the kernel's version cannot be read"),
        Some(kernel) if kernel >= OLDEST => {
            Verdict::fine(format!("Linux {}.{}", kernel.0, kernel.1))
        }
        Some((major, minor)) => Verdict::warning(
            format!("Linux {major}.{minor} is older than what the broker is tested on"),
            "a kernel from 5.10 on; from 6.0 on for io_uring",
        ),
    }
}
