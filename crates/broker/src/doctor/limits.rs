//! Limits of the process and of its group: files, locked memory, CPU time, memory; io_uring.

use super::finding::Verdict;
use super::host::cpu_list;
use super::{Case, SHARD_DESCRIPTORS, bytes};

/// Ring memory of one shard, where the kernel counts it as locked.
const SHARD_LOCKED_BYTES: u64 = 512 * 1_024;
/// The first kernel that counts the memory of rings otherwise.
const LOCKED_UNTIL: (u64, u64) = (5, 12);
/// The first kernel with all that the driver uses.
const IO_URING_SINCE: (u64, u64) = (6, 0);
/// What a broker of no connections needs, and each connection.
const MEMORY_MIN: u64 = 64 << 20;
const MEMORY_PER_SHARD: u64 = 16 << 20;
const MEMORY_PER_CONNECTION: u64 = 4 * 1_024;

pub(super) fn open_files(case: &Case) -> Verdict {
    let Some((soft, hard)) = case.process.limit(&case.host, "Max open files") else {
        return Verdict::unknown("the limits of the process cannot be read");
    };
    let plan = &case.plan;
    let needed = plan.connections + plan.shards as u64 * SHARD_DESCRIPTORS;
    if hard >= needed {
        return Verdict::fine(format!(
            "up to {hard} open files (soft {soft}, raised at start)"
        ));
    }
    Verdict::error(
        format!(
            "{} may have {hard} files open; {} connections need about {needed}",
            case.process.name(),
            plan.connections
        ),
        "LimitNOFILE=1048576 in the unit, `ulimit -Hn`, or --ulimit nofile= (Docker)",
    )
}

pub(super) fn locked_memory(case: &Case) -> Verdict {
    let (Some(kernel), Some((_, hard))) = (
        case.kernel(),
        case.process.limit(&case.host, "Max locked memory"),
    ) else {
        return Verdict::unknown(
            "the limits of the process or the kernel's version cannot be read",
        );
    };
    let needed = case.plan.shards as u64 * SHARD_LOCKED_BYTES;
    if kernel >= LOCKED_UNTIL || hard >= needed {
        return Verdict::fine("enough for the rings of io_uring");
    }
    Verdict::warning(
        format!(
            "{} may lock {} of memory, and this kernel counts the rings of io_uring, {}, as such",
            case.process.name(),
            bytes(hard),
            bytes(needed)
        ),
        "LimitMEMLOCK=256M in the unit, or a kernel from 5.12 on",
    )
}

pub(super) fn io_uring(case: &Case) -> Verdict {
    const REMEDY: &str = "sysctl kernel.io_uring_disabled=0, a seccomp profile that allows \
                          io_uring_setup, io_uring_enter and io_uring_register, or live with epoll";
    if case.plan.is_epoll {
        return Verdict::unknown("epoll is configured");
    }
    match case.host.number("/proc/sys/kernel/io_uring_disabled") {
        Some(2) => return Verdict::warning("kernel.io_uring_disabled is 2: epoll is used", REMEDY),
        Some(1) => {
            return Verdict::warning(
                "kernel.io_uring_disabled is 1: only members of kernel.io_uring_group may use \
                 io_uring, and the others use epoll",
                "sysctl kernel.io_uring_disabled=0, or put the broker's group number into \
                 kernel.io_uring_group",
            );
        }
        _ => {}
    }
    let Some(kernel) = case.kernel() else {
        return Verdict::unknown("the kernel's version cannot be read");
    };
    if kernel < IO_URING_SINCE {
        return Verdict::warning(
            format!(
                "Linux {}.{} lacks a part of io_uring that the driver uses: epoll is used",
                kernel.0, kernel.1
            ),
            "a kernel from 6.0 on",
        );
    }
    if !case.host.is_real() {
        return Verdict::fine("not disabled");
    }
    match net::probe_io_uring() {
        Ok(()) => Verdict::fine("works"),
        Err(why) => Verdict::warning(format!("refused here ({why}): epoll is used"), REMEDY),
    }
}

/// The directory of the process's group in a hierarchy: that of version 2, or of this controller in
/// version 1.
fn group(case: &Case, controller: &str) -> Option<(bool, String)> {
    let text = case.host.text(&case.process.file("cgroup"))?;
    let path_of = |wanted: &dyn Fn(&str) -> bool| {
        text.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            wanted(controllers).then(|| path.trim_end_matches('/').to_owned())
        })
    };
    let has = |controllers: &str| controllers.split(',').any(|one| one == controller);
    if let Some(path) = path_of(&has) {
        return Some((false, format!("/sys/fs/cgroup/{controller}{path}")));
    }
    path_of(&str::is_empty).map(|path| (true, format!("/sys/fs/cgroup{path}")))
}

pub(super) fn cpu_quota(case: &Case) -> Verdict {
    let Some((is_second, group)) = group(case, "cpu") else {
        return Verdict::unknown("no control group");
    };
    let read = |name: &str| case.host.text(&format!("{group}/{name}"));
    let pair = match is_second {
        true => read("cpu.max"),
        false => read("cpu.cfs_quota_us")
            .zip(read("cpu.cfs_period_us"))
            .map(|(a, b)| a + " " + &b),
    };
    let Some(pair) = pair else {
        return Verdict::fine("no CPU quota");
    };
    let mut numbers = pair.split_whitespace().map(|word| word.parse::<f64>());
    let (Some(Ok(quota)), Some(Ok(period))) = (numbers.next(), numbers.next()) else {
        return Verdict::fine("no CPU quota");
    };
    if quota <= 0.0 || period <= 0.0 || quota / period >= case.plan.shards as f64 {
        return Verdict::fine("no CPU quota, or one that pays for all shards");
    }
    Verdict::warning(
        format!(
            "the CPU quota of the control group pays for {:.1} CPUs, and there are {} shards: they \
             are stopped in turns",
            quota / period,
            case.plan.shards
        ),
        "CPUQuota= of the unit or the container's limit raised, or --shards lowered",
    )
}

pub(super) fn memory_limit(case: &Case) -> Verdict {
    let Some((is_second, group)) = group(case, "memory") else {
        return Verdict::unknown("no control group");
    };
    let name = if is_second {
        "memory.max"
    } else {
        "memory.limit_in_bytes"
    };
    let Some(limit) = case.host.number(&format!("{group}/{name}")) else {
        return Verdict::fine("no memory limit");
    };
    let plan = &case.plan;
    let needed = MEMORY_MIN
        + plan.shards as u64 * MEMORY_PER_SHARD
        + plan.connections * MEMORY_PER_CONNECTION;
    if limit >= needed {
        return Verdict::fine("no memory limit, or one that is high enough");
    }
    Verdict::warning(
        format!(
            "the control group may use {} of memory; {} shards and {} connections need about {}, \
             without what they have queued",
            bytes(limit),
            plan.shards,
            plan.connections,
            bytes(needed)
        ),
        "MemoryMax= of the unit or the container's limit raised",
    )
}

pub(super) fn shards_and_cpus(case: &Case) -> Verdict {
    let allowed = case.process.status(&case.host, "Cpus_allowed_list");
    let Some(cpus) = allowed.as_deref().and_then(cpu_list) else {
        return Verdict::unknown("which CPUs are usable cannot be read");
    };
    let shards = case.plan.shards;
    if shards <= cpus.len() {
        return Verdict::fine(format!("{shards} shards, {} usable CPUs", cpus.len()));
    }
    Verdict::warning(
        format!(
            "{shards} shards take turns on {} usable CPUs: each waits for others",
            cpus.len()
        ),
        "--shards auto, or AllowedCPUs= and CPUAffinity= of the unit widened",
    )
}
