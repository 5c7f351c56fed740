//! Whether an operator may do it: tens of thousands of clients through a reload, a change of the log
//! level, a drain and an upgrade, and nothing lost that was promised.
//!
//! `population` says who the clients are, `crowd` runs them on one thread, each as `client` says, over
//! `link` and `packet`; `truth` holds what was promised. `steps` are what is done meanwhile, by the
//! shell or, to a broker that the harness has started itself, by `own`. `retained` is read by a client
//! of its own. `report` judges.

mod client;
mod crowd;
mod link;
mod options;
mod own;
mod packet;
mod population;
mod report;
mod retained;
mod steps;
mod truth;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

pub use options::Options;
pub use report::{Report, Row};

use client::Common;
use crowd::Crowd;
use own::{Own, Wanted};
use population::{Population, Size};
use steps::Expects;
use truth::{Counts, TOLD_MAX, Truth};

/// Descriptors of the harness and of a broker beside those of the clients.
const FURTHER_FILES: u64 = 200;

/// Numbers the runs of this process.
static RUNS: AtomicU32 = AtomicU32::new(0);

/// A step: its name, and its work, which is done on a thread of its own.
type Step = (String, Box<dyn FnOnce() -> Result<()> + Send>);

/// Goes through all steps.
///
/// # Errors
/// When the run cannot go on: no broker, too few descriptors, clients that never arrive. Broken
/// promises are in the report instead.
pub fn run(options: &Options) -> Result<Report> {
    raise_open_files(u64::from(options.idle) + u64::from(options.active))?;
    let own = match options.addr {
        Some(_) => None,
        None => Some(Arc::new(Mutex::new(Own::start(wanted(options))?))),
    };
    let target = match (&own, options.addr) {
        (Some(own), _) => own.lock().expect("nobody has panicked with it").address,
        (None, address) => address.context("no address")?,
    };
    let mut operation = Operation::new(options, target)?;
    operation.arrive()?;
    for (name, work) in steps(options, own.as_ref()) {
        eprintln!("{name}:");
        operation.step(name, work)?;
    }
    Ok(operation.finish())
}

fn wanted(options: &Options) -> Wanted {
    let upgrade_to = options.upgrade_to.as_ref();
    Wanted {
        meshring: options.meshring.clone(),
        upgrade_to: upgrade_to.unwrap_or(&options.meshring).clone(),
        folder: options.data.clone().unwrap_or_else(std::env::temp_dir),
        driver: options.driver.clone(),
        shards: options.shards.clone(),
        durability: options.durability.clone(),
        drain_rate: options.drain_rate,
    }
}

fn steps(options: &Options, own: Option<&Arc<Mutex<Own>>>) -> Vec<Step> {
    let Some(own) = own else {
        let given = options.step.iter().cloned();
        let step =
            |given: steps::Given| -> Step { (given.name.clone(), Box::new(move || given.run())) };
        return given.map(step).collect();
    };
    let step = |name: &String| -> Step {
        let (own, word) = (Arc::clone(own), name.clone());
        let work = move || {
            let mut own = own.lock().expect("nobody has panicked with it");
            own.carry_out(&word)
        };
        (name.clone(), Box::new(work))
    };
    options.steps.iter().map(step).collect()
}

/// Makes room for so many connections, here and in a broker that inherits it.
fn raise_open_files(clients: u64) -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let needed = clients + FURTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    let has = |limit: Option<u64>| limit.is_none_or(|limit| limit >= needed);
    let maximum = if has(limit.maximum) {
        limit.maximum
    } else {
        Some(needed)
    };
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    // Refused to all but root, if it is above the hard limit: then what is in force is too low.
    let _ = setrlimit(Resource::Nofile, raised);
    let current = getrlimit(Resource::Nofile).current;
    ensure!(
        has(current),
        "{clients} clients need {needed} open files, and the limit is {current:?}: \
         `ulimit -Hn` as root, or `prlimit --nofile={needed}`, raises it"
    );
    Ok(())
}

/// The run under way.
struct Operation {
    crowd: Crowd,
    report: Report,
    pause: Duration,
    patience: Duration,
}

impl Operation {
    fn new(options: &Options, target: std::net::SocketAddr) -> Result<Operation> {
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        let credentials = options.username.clone().zip(options.password.clone());
        let common = Common {
            target,
            // Runs against one broker must not meet.
            run: format!("operate-{:x}-{number:x}", std::process::id()),
            keep_alive_s: options.keep_alive,
            backoff_max_ns: u64::from(options.backoff_max) * 1_000_000_000,
            credentials,
        };
        let size = Size {
            idle: options.idle as usize,
            active: options.active as usize,
            retained: options.retained as usize,
            rate: options.rate.clamp(1.0, 1_000_000.0),
        };
        let mut truth = Truth::default();
        let population = Population::new(size, &common.run, &mut truth);
        Ok(Operation {
            crowd: Crowd::new(population, truth, common, options.arrivals)?,
            report: Report::default(),
            pause: Duration::from_secs_f64(options.seconds.clamp(0.1, 3_600.0)),
            patience: Duration::from_secs_f64(options.patience.clamp(1.0, 3_600.0)),
        })
    }

    /// Everybody connects and subscribes, and what is to be retained is written.
    fn arrive(&mut self) -> Result<()> {
        let begun = Instant::now();
        let is_here = self.crowd.turn_until(self.patience, |crowd| {
            let standing = crowd.standing();
            standing.ready == standing.all
        })?;
        let (standing, counts) = (self.crowd.standing(), &self.crowd.truth.counts);
        ensure!(
            is_here,
            "{} of {} clients arrived; {} attempts were refused, {} failed, {} had no answer",
            standing.ready,
            standing.all,
            counts.refused,
            counts.failed,
            counts.timed_out
        );
        self.report.clients = standing.all;
        self.report.arrival_s = begun.elapsed().as_secs_f64();
        eprintln!("{} clients in {:.1?}", standing.all, begun.elapsed());
        self.crowd.is_busy = true;
        let retained = self.crowd.retained.clone();
        let is_written = self.crowd.turn_until(self.patience, |crowd| {
            let mut streams = retained.clone();
            streams.all(|stream| crowd.truth.streams[stream as usize].sent > 0)
        })?;
        ensure!(
            is_written,
            "what is to be retained could not be written in time"
        );
        Ok(())
    }

    fn step(
        &mut self,
        name: String,
        work: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let expects = Expects::of(&name).expect("names are checked where they come in");
        self.crowd.truth.counts = Counts::default();
        self.crowd.is_busy = true;
        self.crowd.turn_until(self.pause, |_| false)?;
        let before = self.crowd.standing();
        self.crowd.cut_mortals();
        self.crowd.step_began_ns = self.crowd.now_ns();
        let begun = Instant::now();
        let mut away = Away::default();
        let (worked, work_s) = self.watch(work, &mut away)?;
        if let Err(error) = worked {
            self.crowd.truth.fault(|| format!("{name}: {error:#}"));
        }
        self.crowd.turn_until(self.pause, |crowd| {
            away.look(crowd);
            false
        })?;
        if expects == Expects::Emptied {
            self.crowd
                .turn_until(self.patience, |crowd| crowd.standing().ready == 0)?;
        } else {
            self.settle(&name, expects, &mut away)?;
        }
        let after = self.crowd.standing();
        let row = Row {
            name,
            work_s,
            away_s: away.seconds(begun, expects),
            ready: [before.ready - self.mortals_held(&before), after.ready],
            counts: self.crowd.truth.counts.clone(),
        };
        for complaint in row.complaints(expects) {
            self.crowd.truth.fault(|| complaint);
        }
        let counts = self.crowd.truth.counts.clone();
        eprintln!(
            "    {work_s:.2} s, {} closed, {} delivered, {} faults",
            counts.closed, counts.delivered, counts.faults
        );
        self.report.steps.push(Row { counts, ..row });
        Ok(())
    }

    /// Mortals that were ready before a step and have been cut for it.
    fn mortals_held(&self, before: &crowd::Standing) -> usize {
        let mortals = self.crowd.clients.iter().filter(|c| c.plan.is_mortal);
        mortals.count().min(before.ready)
    }

    /// Runs the work on a thread of its own while the clients go on; returns how it ended, and after
    /// how many seconds.
    fn watch(
        &mut self,
        work: impl FnOnce() -> Result<()> + Send + 'static,
        away: &mut Away,
    ) -> Result<(Result<()>, f64)> {
        let begun = Instant::now();
        let thread = std::thread::spawn(work);
        let worked = self.attend(thread, |crowd| away.look(crowd))?;
        Ok((worked, begun.elapsed().as_secs_f64()))
    }

    fn attend<T>(
        &mut self,
        thread: JoinHandle<Result<T>>,
        mut look: impl FnMut(&Crowd),
    ) -> Result<Result<T>> {
        while !thread.is_finished() {
            self.crowd.turn()?;
            look(&self.crowd);
        }
        let joined = thread.join();
        Ok(joined.unwrap_or_else(|_| Err(anyhow::anyhow!("the work panicked"))))
    }

    /// No new messages until all is back, answered and delivered; then what is missing is lost.
    fn settle(&mut self, name: &str, expects: Expects, away: &mut Away) -> Result<()> {
        self.crowd.turn_until(self.patience, |crowd| {
            away.look(crowd);
            let standing = crowd.standing();
            standing.ready + standing.held == standing.all
        })?;
        away.looked = None;
        away.look(&self.crowd);
        self.crowd.is_busy = false;
        let mut looked = Instant::now();
        self.crowd.turn_until(self.patience, |crowd| {
            // All edges are gone through: not at every turn.
            if looked.elapsed() < Duration::from_millis(50) {
                return false;
            }
            looked = Instant::now();
            crowd.release_mortals() && crowd.in_flight() == 0 && crowd.truth.missing() == 0
        })?;
        // A copy too many may still be on its way, and mortals come back.
        let quiet = self.pause.min(Duration::from_secs(2));
        self.crowd.turn_until(quiet, |_| false)?;
        self.crowd.turn_until(self.patience, |crowd| {
            let standing = crowd.standing();
            standing.ready + standing.held == standing.all
        })?;
        let standing = self.crowd.standing();
        let missing = standing.all - standing.held - standing.ready;
        if missing > 0 {
            let what = format!("{name}: {missing} clients are not back");
            self.crowd.truth.fault(|| what);
        }
        self.crowd.judge_wills();
        self.crowd.truth.counts.unanswered = self.crowd.in_flight() as u64;
        self.crowd.truth.settle(expects == Expects::Kept);
        self.compare_retained()
    }

    /// Each topic has the message that was sent last, above QoS 0.
    fn compare_retained(&mut self) -> Result<()> {
        let common = self.crowd.common.clone();
        let streams = self.crowd.truth.streams.iter().enumerate();
        let expected: Vec<(u32, String, u32)> = streams
            .filter(|(_, stream)| stream.retain && stream.qos > 0 && stream.sent > 0)
            .map(|(index, stream)| (index as u32, stream.topic.clone(), stream.sent - 1))
            .collect();
        let all = self.crowd.truth.streams.iter();
        let count = all
            .filter(|stream| stream.retain && stream.sent > 0)
            .count();
        let thread = std::thread::spawn(move || retained::read(&common, count));
        let found = match self.attend(thread, |_| {})? {
            Ok(found) => found,
            Err(error) => {
                self.crowd.truth.fault(|| format!("{error:#}"));
                return Ok(());
            }
        };
        for (stream, topic, sequence) in expected {
            let stamp = found
                .get(&topic)
                .map(|stamp| (stamp.publisher, stamp.sequence));
            if stamp == Some((stream, sequence)) {
                self.crowd.truth.counts.retained += 1;
                continue;
            }
            let what = format!("retained on {topic}: {stamp:?} instead of message {sequence}");
            self.crowd.truth.fault(|| what);
        }
        Ok(())
    }

    fn finish(self) -> Report {
        let mut report = self.report;
        report.faults = self.crowd.truth.faults;
        report.told = self.crowd.truth.told;
        report.told.truncate(TOLD_MAX);
        report
    }
}

/// When the first client went, and when the last was back.
#[derive(Debug, Default)]
struct Away {
    since: Option<Instant>,
    until: Option<Instant>,
    looked: Option<Instant>,
}

impl Away {
    /// Looks every few milliseconds: everybody is counted.
    fn look(&mut self, crowd: &Crowd) {
        let now = Instant::now();
        if self
            .looked
            .is_some_and(|looked| now - looked < Duration::from_millis(10))
        {
            return;
        }
        self.looked = Some(now);
        let standing = crowd.standing();
        if standing.ready + standing.held == standing.all {
            self.until = self.until.or(self.since.map(|_| now));
        } else {
            (self.since, self.until) = (self.since.or(Some(now)), None);
        }
    }

    fn seconds(&self, begun: Instant, expects: Expects) -> f64 {
        match (self.since, self.until) {
            (Some(since), Some(until)) if expects == Expects::Returned => {
                // After a drain they have all been away already.
                (until - since.max(begun)).as_secs_f64()
            }
            _ => 0.0,
        }
    }
}
