//! How long a start takes with much on disk, and how much memory.
//!
//! The broker is filled by clients, killed and started again three times; the medians count. What it
//! has recovered is looked at through clients too, so that a quick start with nothing is no success.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::Bench;
use super::retained;
use crate::brokers::{self, Kind, Places, Running};
use crate::comparison::median;
use crate::fleet::Fleet;
use crate::options::Options;
use crate::outcome::{Better, Outcome};
use crate::procfs::{peak_resident_bytes, resident_bytes, written_bytes};

/// Retained messages, and durable sessions, in the full measure; a tenth is measured first.
const RETAINED: usize = 1_000_000;
const SESSIONS: usize = 100_000;
/// Subscriptions of each session.
const FILTERS: usize = 5;
/// Sessions that connect at a time to subscribe.
const BATCH: usize = 1_000;
/// Every so-manieth batch comes back to be looked at.
const LOOKED_AT: usize = 10;
/// Starts of each filled directory.
const STARTS: usize = 3;
/// Without a byte written for so long, all has been written.
const STILL: Duration = Duration::from_millis(1_500);
/// The longest wait for that.
const STILL_MAX: Duration = Duration::from_secs(120);
/// After a start, memory is steady.
const STEADY: Duration = Duration::from_secs(2);
const MIB: f64 = 1_048_576.0;

/// What a directory is filled with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Retained,
    Sessions,
    /// Both in one directory: so many retained messages, and a tenth as many sessions.
    Both,
}

impl Content {
    fn name(self) -> &'static str {
        match self {
            Content::Retained => "retained messages",
            Content::Sessions => "sessions",
            Content::Both => "retained messages and a tenth as many sessions",
        }
    }
}

/// Runs every content in a tenth and in full, with one shard and with two where the broker has any.
///
/// # Errors
/// When the broker does not start, refuses clients, or has lost something.
pub fn recovery(kind: Kind, places: &Places, options: &Options) -> Result<Outcome> {
    let mut outcome = Outcome::new("recovery", kind.name());
    let shards: &[usize] = match kind.product() {
        Kind::Meshring => &[1, 2],
        Kind::Mosquitto => &[1],
        _ => bail!("{} is not filled by this scenario", kind.name()),
    };
    ensure!(kind != kind.product(), "{} keeps nothing", kind.name());
    outcome.parameter("payload bytes", options.payload(64));
    outcome.parameter("filters per session", FILTERS);
    for &shards in shards {
        for content in [Content::Retained, Content::Sessions, Content::Both] {
            let full = match content {
                Content::Retained | Content::Both => options.count.unwrap_or(RETAINED),
                Content::Sessions => options.count.unwrap_or(RETAINED) * SESSIONS / RETAINED,
            };
            for count in [full / 10, full] {
                let what = format!("{count} {}, {shards} shards", content.name());
                one(
                    kind,
                    &with_shards(places, shards),
                    options,
                    (content, count, &what),
                    &mut outcome,
                )
                .with_context(|| what.clone())?;
            }
        }
    }
    Ok(outcome)
}

/// One shard has the broker's core; two have both cores, and perf waits meanwhile.
fn with_shards(places: &Places, shards: usize) -> Places {
    let mut places = places.clone();
    if shards > 1 {
        places.broker_core = None;
        places.generator_core = None;
        let flags = ["--shards".to_owned(), shards.to_string()];
        places.meshring_arguments.extend(flags);
    }
    places
}

fn one(
    kind: Kind,
    places: &Places,
    options: &Options,
    (content, count, what): (Content, usize, &str),
    outcome: &mut Outcome,
) -> Result<()> {
    let mut running = brokers::start(kind, places, options.version())?;
    let began = Instant::now();
    let sessions = match content {
        Content::Retained => 0,
        Content::Sessions => count,
        Content::Both => count * SESSIONS / RETAINED,
    };
    if content != Content::Sessions {
        retained::fill(&mut bench(&running, options), count)?;
    }
    fill_sessions(&running, options, sessions)?;
    let filled = began.elapsed();
    wait_until_written(&running)?;
    let (mut seconds, mut peaks, mut steadies) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STARTS {
        running.kill();
        seconds.push(running.start_again(places)?.as_secs_f64());
        peaks.push(peak_resident_bytes(running.subject.pid)? as f64 / MIB);
        std::thread::sleep(STEADY);
        steadies.push(resident_bytes(running.subject.pid)? as f64 / MIB);
    }
    let file = directory_bytes(running.directory())? as f64 / MIB;
    let found = match content {
        Content::Sessions => None,
        _ => retained::missing(&mut bench(&running, options), count)?,
    };
    let found = found.or(resumed(&running, options, sessions)?);
    eprintln!(
        "  recovery {}: {what}: starts {seconds:.2?} s, peaks {peaks:.0?}, steady {steadies:.0?}, \
         file {file:.0} MiB, filled in {filled:.1?}",
        kind.name()
    );
    for (name, unit, mut values) in [
        ("start", "s", seconds),
        ("peak memory", "MiB", peaks),
        ("steady memory", "MiB", steadies),
    ] {
        values.sort_by(f64::total_cmp);
        let value = median(&values).unwrap_or(f64::NAN);
        outcome.figure(&format!("{name}, {what}"), unit, Better::Lower, value);
    }
    outcome.figure(&format!("files, {what}"), "MiB", Better::Lower, file);
    if let Some(missing) = found {
        outcome.faults.push(format!("LOST: {what}: {missing}"));
    }
    Ok(())
}

fn bench<'a>(running: &'a Running, options: &'a Options) -> Bench<'a> {
    Bench {
        subject: &running.subject,
        options,
        outcome: Outcome::new("recovery", running.kind().name()),
    }
}

fn prefix(batch: usize) -> String {
    format!("session-{batch:03}")
}

/// The filters of one session: its own, so that all are different.
fn filters(batch: usize, index: usize) -> Vec<String> {
    let filter = |number: usize| format!("site/{batch:03}/device/{index:04}/in/{number}");
    (0..FILTERS).map(filter).collect()
}

fn batches(count: usize) -> impl Iterator<Item = (usize, usize)> {
    let size = move |batch: usize| (count - batch * BATCH).min(BATCH);
    (0..count.div_ceil(BATCH)).map(move |batch| (batch, size(batch)))
}

fn fill_sessions(running: &Running, options: &Options, count: usize) -> Result<()> {
    for (batch, size) in batches(count) {
        let (address, version) = (running.subject.address, options.version());
        let mut fleet = Fleet::kept(address, version, &prefix(batch))?;
        fleet.open(size, options.at_once.max(1))?;
        let plans: Vec<_> = (0..size)
            .map(|index| (index, filters(batch, index)))
            .collect();
        fleet.subscribe(&plans, 1)?;
        fleet.close();
    }
    Ok(())
}

/// Comes back as some of the sessions; says what is missing.
fn resumed(running: &Running, options: &Options, count: usize) -> Result<Option<String>> {
    let (mut asked, mut present) = (0, 0);
    for (batch, size) in batches(count).step_by(LOOKED_AT) {
        let (address, version) = (running.subject.address, options.version());
        let mut fleet = Fleet::kept(address, version, &prefix(batch))?;
        fleet.open(size, options.at_once.max(1))?;
        asked += size;
        present += fleet.resumed();
        fleet.close();
    }
    Ok((present < asked).then(|| format!("{} of {asked} sessions", asked - present)))
}

/// Waits until nothing more goes to the disk; mosquitto is told to save.
fn wait_until_written(running: &Running) -> Result<()> {
    if running.kind().product() == Kind::Mosquitto {
        running.tell_to_save()?;
    }
    let began = Instant::now();
    let mut moved = (written_bytes(running.subject.pid)?, Instant::now());
    while moved.1.elapsed() < STILL {
        ensure!(began.elapsed() < STILL_MAX, "it never stops writing");
        std::thread::sleep(Duration::from_millis(100));
        let written = written_bytes(running.subject.pid)?;
        // A shard says that it is alive every 10 s; that is less than this.
        if written > moved.0 + 65_536 {
            moved = (written, Instant::now());
        }
    }
    Ok(())
}

/// Bytes of everything in `directory` but what the broker printed.
fn directory_bytes(directory: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        total += if metadata.is_dir() {
            directory_bytes(&entry.path())?
        } else {
            metadata.len()
        };
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_cover_every_session_once() {
        let all: Vec<_> = batches(2_500).collect();
        assert_eq!(all, [(0, 1_000), (1, 1_000), (2, 500)]);
        assert_eq!(batches(100).collect::<Vec<_>>(), [(0, 100)]);
        assert_ne!(filters(1, 2), filters(2, 1));
    }
}
