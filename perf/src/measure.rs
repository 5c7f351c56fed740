//! Two snapshots and what lies between them: CPU time of the broker and of the generator, and what
//! else used the cores meanwhile.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::procfs::{CoreReading, CpuReading, share, softirq_thread};

/// The broker under test.
#[derive(Clone, Debug)]
pub struct Subject {
    /// What it is called in tables.
    pub name: String,
    /// Where it listens for MQTT over TCP.
    pub address: std::net::SocketAddr,
    /// Its process.
    pub pid: u32,
    /// The core that it is pinned to, if perf pinned it.
    pub core: Option<usize>,
}

/// Everything read from the kernel at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    at: Instant,
    broker: CpuReading,
    generator: CpuReading,
    core: Option<CoreReading>,
    softirq: Option<CpuReading>,
}

/// What happened between two snapshots.
#[derive(Clone, Copy, Debug)]
pub struct Interval {
    /// Wall time.
    pub elapsed: Duration,
    /// CPU nanoseconds of the broker.
    pub broker_ns: u64,
    /// `schedstat` or `stat`.
    pub cpu_source: &'static str,
    /// Part of the time that the broker was on a CPU; 1 is one whole core.
    pub broker_busy: f64,
    /// Part of the time that the broker was ready and had to wait for a CPU.
    pub broker_waiting: f64,
    /// Part of the time that the generator was on a CPU.
    pub generator_busy: f64,
    /// Part of the broker's core that the kernel's network thread used, if it is known.
    pub softirq_busy: Option<f64>,
    /// Part of the broker's core that others used, the hypervisor included; `None` if the broker
    /// has no core of its own.
    pub others_busy: Option<f64>,
}

impl Snapshot {
    /// Reads everything now.
    ///
    /// # Errors
    /// When the broker has ended.
    pub fn take(subject: &Subject) -> Result<Snapshot> {
        Ok(Snapshot {
            at: Instant::now(),
            broker: CpuReading::take(subject.pid)?,
            generator: CpuReading::take(std::process::id())?,
            core: subject.core.and_then(CoreReading::take),
            // Absent in a container that hides kernel threads.
            softirq: subject
                .core
                .and_then(softirq_thread)
                .and_then(|pid| CpuReading::take(pid).ok()),
        })
    }

    /// When it was taken.
    pub fn at(&self) -> Instant {
        self.at
    }

    /// What happened since `earlier`.
    pub fn since(&self, earlier: &Snapshot) -> Interval {
        let elapsed = self.at.duration_since(earlier.at);
        let broker = self.broker.since(&earlier.broker);
        let generator = self.generator.since(&earlier.generator);
        let others_busy = match (self.core, earlier.core) {
            (Some(now), Some(then)) => {
                let busy_ns = now.busy_ns.saturating_sub(then.busy_ns);
                Some(share(busy_ns.saturating_sub(broker.ns), elapsed))
            }
            _ => None,
        };
        Interval {
            elapsed,
            broker_ns: broker.ns,
            cpu_source: broker.source,
            broker_busy: share(broker.ns, elapsed),
            broker_waiting: share(broker.waiting_ns, elapsed),
            generator_busy: share(generator.ns, elapsed),
            softirq_busy: match (&self.softirq, &earlier.softirq) {
                (Some(now), Some(then)) => Some(share(now.since(then).ns, elapsed)),
                _ => None,
            },
            others_busy,
        }
    }
}

impl Interval {
    /// Microseconds of the broker's CPU for each of `count`.
    pub fn us_per(&self, count: u64) -> f64 {
        if count == 0 {
            f64::NAN
        } else {
            self.broker_ns as f64 / 1e3 / count as f64
        }
    }

    /// How many a second, of `count`.
    pub fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.elapsed.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(at: Instant, broker_ns: u64, core_ns: u64) -> Snapshot {
        let reading = |fine_ns| CpuReading {
            fine_ns,
            waiting_ns: 0,
            coarse_ns: 0,
        };
        let core = Some(CoreReading {
            busy_ns: core_ns,
            stolen_ns: 0,
        });
        Snapshot {
            at,
            broker: reading(broker_ns),
            generator: reading(broker_ns / 2),
            core,
            softirq: Some(reading(broker_ns / 10)),
        }
    }

    #[test]
    fn an_interval_shares_out_the_core() {
        let start = Instant::now();
        let first = snapshot(start, 1_000_000_000, 5_000_000_000);
        let second = snapshot(start + Duration::from_secs(2), 2_000_000_000, 6_500_000_000);
        let interval = second.since(&first);
        assert_eq!(interval.broker_busy, 0.5);
        assert_eq!(interval.generator_busy, 0.25);
        assert_eq!(interval.others_busy, Some(0.25));
        assert_eq!(interval.softirq_busy, Some(0.05));
        assert_eq!(interval.us_per(500_000), 2.0);
        assert_eq!(interval.per_second(500_000), 250_000.0);
        assert!(interval.us_per(0).is_nan());
    }
}
