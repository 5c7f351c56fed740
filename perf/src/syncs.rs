//! How often a broker asks the kernel to have its data on disk, counted from outside.
//!
//! `perf stat` of the Linux tools counts the calls as tracepoints, so the broker is not stopped at
//! each of its system calls as `strace` would do. Still a traced kernel takes longer for every call,
//! so what is counted is never what is timed.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The calls that wait for a disk.
const CALLS: [&str; 5] = ["fsync", "fdatasync", "msync", "sync_file_range", "syncfs"];

/// Counts in one process for a set time.
#[derive(Debug)]
pub struct Counting {
    child: Child,
    window: Duration,
}

impl Counting {
    /// Counts in process `pid` for `window`; `None` where the tool or the right to use it is missing.
    pub fn start(pid: u32, window: Duration) -> Option<Counting> {
        let events: Vec<String> = CALLS
            .iter()
            .map(|call| format!("syscalls:sys_enter_{call}"))
            .collect();
        let child = Command::new("perf")
            .args(["stat", "-x", ",", "-e", &events.join(",")])
            .args(["-p", &pid.to_string()])
            .args(["--timeout", &window.as_millis().max(10).to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        Some(Counting { child, window })
    }

    /// Whether the time is over.
    pub fn is_over(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Calls a second; `None` if nothing could be counted.
    pub fn per_second(self) -> Option<f64> {
        let window_s = self.window.as_secs_f64();
        let output = self.child.wait_with_output().ok()?;
        let calls = total(&String::from_utf8_lossy(&output.stderr))?;
        Some(calls as f64 / window_s)
    }
}

/// The sum of the counts in what `perf stat -x,` prints; `None` if a call could not be counted.
fn total(output: &str) -> Option<u64> {
    let counts: Vec<u64> = output
        .lines()
        .filter(|line| line.contains("syscalls:sys_enter_"))
        .map(|line| line.split(',').next().and_then(|count| count.parse().ok()))
        .collect::<Option<_>>()?;
    (counts.len() == CALLS.len()).then(|| counts.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_summed_and_missing_ones_are_noticed() {
        let line = |count: &str, call: &str| {
            format!("{count},,syscalls:sys_enter_{call},2088009584,100.00,,\n")
        };
        let whole: String = CALLS.iter().map(|call| line("12", call)).collect();
        assert_eq!(total(&whole), Some(60));
        let refused: String = CALLS
            .iter()
            .map(|call| line("<not supported>", call))
            .collect();
        assert_eq!(total(&refused), None);
        assert_eq!(total(&line("3", "fsync")), None);
        assert_eq!(total("perf: not permitted"), None);
    }
}
