//! What the kernel says about a process and the host: CPU time, resident memory, limits.
//!
//! CPU time comes from two places. `/proc/PID/stat` has user and system time of the whole process,
//! ended threads included, in ticks of 10 ms. `/proc/PID/task/*/schedstat` has nanoseconds, but
//! loses threads that have ended. Both are read; the finer one is used unless they contradict each
//! other.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

/// Nanoseconds of one tick of `/proc/PID/stat`: the kernel reports 100 a second to user space on
/// every architecture that we run on.
const TICK_NS: u64 = 10_000_000;

/// Ticks by which the coarse and the fine reading may differ before the coarse one is believed.
const TICKS_TOLERATED: u64 = 3;

/// Bytes of a page; every host that we measure on has 4 KiB pages.
const PAGE_BYTES: u64 = 4_096;

/// CPU time of a process at one moment, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuReading {
    /// On a CPU, summed over the threads alive; 0 if the kernel keeps no schedstat.
    pub fine_ns: u64,
    /// Ready but waiting for a CPU, summed over the threads alive.
    pub waiting_ns: u64,
    /// User and system time, in whole ticks.
    pub coarse_ns: u64,
}

/// CPU time that passed between two readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuSpent {
    /// Nanoseconds on a CPU.
    pub ns: u64,
    /// Nanoseconds ready but waiting for one: above a few percent, the host was not quiet.
    pub waiting_ns: u64,
    /// Where `ns` comes from: `schedstat` or `stat`.
    pub source: &'static str,
}

impl CpuReading {
    /// Reads the process `pid`.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn take(pid: u32) -> Result<CpuReading> {
        let stat = read(&format!("/proc/{pid}/stat"))?;
        let coarse_ns = parse_stat_ns(&stat).context("unreadable /proc/PID/stat")?;
        let mut reading = CpuReading {
            coarse_ns,
            ..CpuReading::default()
        };
        for task in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
            // A thread that ends between the two calls is no fault.
            let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else {
                continue;
            };
            if let Some((running_ns, waiting_ns)) = parse_schedstat(&text) {
                reading.fine_ns += running_ns;
                reading.waiting_ns += waiting_ns;
            }
        }
        Ok(reading)
    }

    /// What was spent since `earlier`.
    pub fn since(&self, earlier: &CpuReading) -> CpuSpent {
        let fine_ns = self.fine_ns.saturating_sub(earlier.fine_ns);
        let coarse_ns = self.coarse_ns.saturating_sub(earlier.coarse_ns);
        let waiting_ns = self.waiting_ns.saturating_sub(earlier.waiting_ns);
        // A thread that ended took its nanoseconds along; its ticks remain.
        if coarse_ns > fine_ns + TICKS_TOLERATED * TICK_NS {
            CpuSpent {
                ns: coarse_ns,
                waiting_ns,
                source: "stat",
            }
        } else {
            CpuSpent {
                ns: fine_ns,
                waiting_ns,
                source: "schedstat",
            }
        }
    }
}

/// User and system time in `/proc/PID/stat`, in nanoseconds.
fn parse_stat_ns(stat: &str) -> Option<u64> {
    // The name, in parentheses, may hold spaces and parentheses itself.
    let after_name = stat.get(stat.rfind(')')? + 1..)?;
    let mut fields = after_name.split_ascii_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * TICK_NS)
}

/// Nanoseconds on a CPU and nanoseconds waiting for one.
fn parse_schedstat(text: &str) -> Option<(u64, u64)> {
    let mut fields = text.split_ascii_whitespace();
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Resident memory of the process `pid`, in bytes: `smaps_rollup`, or `statm` without it.
///
/// # Errors
/// When there is no such process.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    if let Ok(rollup) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        && let Some(kib) = parse_field(&rollup, "Rss:")
    {
        return Ok(kib * 1_024);
    }
    let statm = read(&format!("/proc/{pid}/statm"))?;
    let pages = statm
        .split_ascii_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    Ok(pages.context("unreadable /proc/PID/statm")? * PAGE_BYTES)
}

/// The most resident memory that the process `pid` ever had, in bytes.
///
/// # Errors
/// When there is no such process.
pub fn peak_resident_bytes(pid: u32) -> Result<u64> {
    let status = read(&format!("/proc/{pid}/status"))?;
    let kib = parse_field(&status, "VmHWM:").context("no peak in /proc/PID/status")?;
    Ok(kib * 1_024)
}

/// Bytes that the process `pid` has caused to be written to a disk, now or later: pages that it made
/// dirty, each once per trip to the disk.
///
/// # Errors
/// When there is no such process, or it is somebody else's.
pub fn written_bytes(pid: u32) -> Result<u64> {
    let io = read(&format!("/proc/{pid}/io"))?;
    parse_field(&io, "write_bytes:").context("no bytes written in /proc/PID/io")
}

/// Unreclaimable kernel memory and socket buffers are in no process; this is `SUnreclaim` of
/// `/proc/meminfo`, in bytes.
pub fn kernel_slab_bytes() -> Option<u64> {
    parse_field(&fs::read_to_string("/proc/meminfo").ok()?, "SUnreclaim:").map(|kib| kib * 1_024)
}

/// The first number after `name` at the start of a line.
fn parse_field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// How many files the process `pid` may have open.
///
/// # Errors
/// When there is no such process.
pub fn open_files_max(pid: u32) -> Result<u64> {
    let limits = read(&format!("/proc/{pid}/limits"))?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_ascii_whitespace().next());
    match soft {
        Some("unlimited") => Ok(u64::MAX),
        Some(number) => Ok(number.parse()?),
        None => Err(anyhow!("no limit on open files in /proc/{pid}/limits")),
    }
}

/// The cores that the process `pid` may use, as the kernel writes them: `0`, `0-3`, …
pub fn cores_allowed(pid: u32) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    Some(line.trim().to_owned())
}

/// Time during which one core did something, in nanoseconds since the start of the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoreReading {
    /// Everything but idle and waiting for a disk.
    pub busy_ns: u64,
    /// Taken by the hypervisor; part of `busy_ns`.
    pub stolen_ns: u64,
}

impl CoreReading {
    /// Reads the core `core`; `None` if it does not exist.
    pub fn take(core: usize) -> Option<CoreReading> {
        parse_core(&fs::read_to_string("/proc/stat").ok()?, core)
    }
}

fn parse_core(stat: &str, core: usize) -> Option<CoreReading> {
    let name = format!("cpu{core} ");
    let line = stat.lines().find_map(|line| line.strip_prefix(&name))?;
    let ticks: Vec<u64> = line
        .split_ascii_whitespace()
        .map_while(|field| field.parse().ok())
        .take(8)
        .collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, stolen] = ticks[..] else {
        return None;
    };
    let busy = user + nice + system + irq + softirq + stolen;
    Some(CoreReading {
        busy_ns: busy * TICK_NS,
        stolen_ns: stolen * TICK_NS,
    })
}

/// The kernel thread that takes over network work of `core` when there is too much of it. What it
/// does for a broker is not in the broker's own CPU time.
pub fn softirq_thread(core: usize) -> Option<u32> {
    let name = format!("ksoftirqd/{core}");
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let comm = fs::read_to_string(entry.path().join("comm")).ok()?;
        (comm.trim_end() == name).then_some(pid)
    })
}

/// Raises this process's limit on open files to its hard limit, for itself and the brokers that
/// it starts. Returns the limit then in force.
pub fn raise_open_files_max() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Refusal is no fault: the old limit is then the answer.
    let _ = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Part of `of` that `part` is, from 0 up; above 1 for a process on several cores.
pub fn share(part_ns: u64, of: Duration) -> f64 {
    let whole_ns = of.as_nanos() as f64;
    if whole_ns == 0.0 {
        0.0
    } else {
        part_ns as f64 / whole_ns
    }
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_after_a_name_with_parentheses() {
        let stat = "42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 17 25 0 0 20 0 1 0 5";
        assert_eq!(parse_stat_ns(stat), Some(42 * TICK_NS));
        assert_eq!(parse_stat_ns("42 no name"), None);
        assert_eq!(parse_stat_ns("42 (x) S 1"), None);
    }

    #[test]
    fn schedstat_has_running_and_waiting_time() {
        assert_eq!(parse_schedstat("51256 17 1\n"), Some((51_256, 17)));
        assert_eq!(parse_schedstat(""), None);
    }

    #[test]
    fn the_fine_reading_is_used_unless_threads_have_ended() {
        let start = CpuReading {
            fine_ns: 1_000,
            waiting_ns: 5,
            coarse_ns: 0,
        };
        let end = CpuReading {
            fine_ns: 25_001_000,
            waiting_ns: 9,
            coarse_ns: 30_000_000,
        };
        let spent = end.since(&start);
        assert_eq!(
            (spent.ns, spent.waiting_ns, spent.source),
            (25_000_000, 4, "schedstat")
        );
        let ended = CpuReading {
            fine_ns: 0,
            waiting_ns: 0,
            coarse_ns: 80_000_000,
        };
        assert_eq!(ended.since(&start).ns, 80_000_000);
        assert_eq!(ended.since(&start).source, "stat");
    }

    #[test]
    fn a_core_is_busy_with_all_but_idling() {
        let stat = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 3 100 50 4 5 6 0 0\ncpu1 0 0 0 7 0 0 0 0\n";
        let core = parse_core(stat, 0).unwrap();
        assert_eq!(
            core,
            CoreReading {
                busy_ns: 21 * TICK_NS,
                stolen_ns: 6 * TICK_NS
            }
        );
        assert_eq!(parse_core(stat, 1), Some(CoreReading::default()));
        assert_eq!(parse_core(stat, 2), None);
    }

    #[test]
    fn this_process_can_be_read() {
        let pid = std::process::id();
        let before = CpuReading::take(pid).unwrap();
        assert!(resident_bytes(pid).unwrap() > 100_000);
        assert!(peak_resident_bytes(pid).unwrap() > 100_000);
        assert!(written_bytes(pid).is_ok());
        assert!(open_files_max(pid).unwrap() > 10);
        assert!(cores_allowed(pid).is_some());
        assert!(CpuReading::take(pid).unwrap().fine_ns >= before.fine_ns);
        assert!(CpuReading::take(u32::MAX).is_err());
    }

    #[test]
    fn a_field_is_found_at_the_start_of_its_line() {
        let rollup = "00-ff rw-p\nRss:      3372 kB\nPss_Rss:  1 kB\n";
        assert_eq!(parse_field(rollup, "Rss:"), Some(3_372));
        assert_eq!(parse_field(rollup, "Swap:"), None);
    }
}
