//! What the kernel says of this process, in the names that every Prometheus client library uses.

use procfs::WithCurrentSystemInfo;
use procfs::process::{LimitValue, Process};
use shard::metrics::{Exposition, Kind};

/// Writes what can be read; what cannot is left out.
pub fn write(out: &mut Exposition) {
    // Without /proc there is nothing to say.
    let _ = try_to_write(out);
}

fn try_to_write(out: &mut Exposition) -> procfs::ProcResult<()> {
    let process = Process::myself()?;
    let stat = process.stat()?;
    let ticks = procfs::ticks_per_second() as f64;
    out.single(
        Kind::Counter,
        "process_cpu_seconds_total",
        "CPU time spent, user and system.",
        (stat.utime + stat.stime) as f64 / ticks,
    );
    let booted = procfs::boot_time_secs()? as f64;
    for (name, help, value) in [
        (
            "process_start_time_seconds",
            "When the process was started, since the Unix epoch.",
            booted + stat.starttime as f64 / ticks,
        ),
        (
            "process_resident_memory_bytes",
            "Memory in use.",
            stat.rss_bytes().get() as f64,
        ),
        (
            "process_virtual_memory_bytes",
            "Address space in use.",
            stat.vsize as f64,
        ),
        ("process_threads", "Threads.", stat.num_threads as f64),
        (
            "process_open_fds",
            "Open file descriptors.",
            process.fd_count()? as f64,
        ),
    ] {
        out.single(Kind::Gauge, name, help, value);
    }
    if let LimitValue::Value(limit) = process.limits()?.max_open_files.soft_limit {
        out.single(
            Kind::Gauge,
            "process_max_fds",
            "How many file descriptors may be open.",
            limit,
        );
    }
    Ok(())
}
