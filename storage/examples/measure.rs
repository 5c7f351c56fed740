//! Measures the store on this machine: what a commit costs by its size, and how long a large file
//! takes to open and load, in the ways in which redb can be told to recover.
//!
//! `cargo run --release -p meshring-storage --example measure -- DIR [RETAINED SESSIONS]`

use mqtt_v5_codec::{QoS, SubscriptionOptions};
use shard::{
    Change, Commit, Delivery, Message, MessageView, SessionKey, StoredQueued, StoredSession,
    StoredSubscription, SubscriptionIds, Time,
};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::{DataDirectory, MoveStep, NewDirectory, Source, Store, StoreOptions};

const SUBSCRIPTIONS_PER_SESSION: u64 = 5;
const PAYLOAD_BYTES: usize = 64;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let directory = PathBuf::from(
        arguments
            .get(1)
            .ok_or("usage: measure DIR [RETAINED SESSIONS]")?,
    );
    let number = |index: usize, default: u64| -> Result<u64, Box<dyn Error>> {
        Ok(arguments
            .get(index)
            .map_or(Ok(default), |text| text.parse())?)
    };
    let (retained, sessions) = (number(2, 1_000_000)?, number(3, 100_000)?);
    let data = directory.join("measure");
    drop(DataDirectory::open(&data, 1, NEW, &mut |_| Ok(()))?);
    let path = data.join("1/shard-000.redb");
    fill(&path, retained, sessions)?;
    for verify in [false, true] {
        let options = StoreOptions {
            verify,
            ..StoreOptions::default()
        };
        open_and_load(&path, options, &format!("closed cleanly, verify {verify}"))?;
    }
    for quick_repair in [false, true] {
        for verify in [false, true] {
            let options = StoreOptions {
                verify,
                quick_repair,
                ..StoreOptions::default()
            };
            commits(&path, options)?;
            let crashed = crash(&path, options)?;
            let text = format!("after a crash, verify {verify}, quick repair {quick_repair}");
            open_and_load(&crashed, options, &text)?;
            std::fs::remove_file(&crashed)?;
        }
    }
    for shards in [4, 3] {
        move_records(&data, shards)?;
    }
    std::fs::remove_dir_all(&data)?;
    Ok(())
}

const NEW: NewDirectory = NewDirectory {
    id: 1,
    placement_seed: 1,
    now: Time(1),
};

fn move_records(data: &Path, shards: u16) -> Result<(), Box<dyn Error>> {
    let begin = Instant::now();
    let mut last = None;
    let directory = DataDirectory::open(data, shards, NEW, &mut |now| {
        if now.step == MoveStep::Moving {
            last = Some(now);
        }
        Ok(())
    })?;
    let seconds = begin.elapsed().as_secs_f64();
    let mut blocks = 0;
    for file in directory.files() {
        blocks += std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(file)?);
    }
    println!(
        "moved to {shards} shards: {} records in {seconds:.1} s; {} MiB on disk",
        last.map_or(0, |last| last.records),
        blocks >> 11
    );
    Ok(())
}

fn fill(path: &Path, retained: u64, sessions: u64) -> Result<(), Box<dyn Error>> {
    let begin = Instant::now();
    let mut store = Store::open(path)?;
    let mut changes = Vec::new();
    for n in 0..retained {
        let message = message(&format!("site/{}/device/{n}/state", n % 100), true);
        changes.push(Change::PutRetained { message });
        flush(&mut store, &mut changes, 50_000)?;
    }
    for n in 0..sessions {
        let session = key(n);
        changes.push(Change::PutSession(Box::new(StoredSession {
            session,
            device: None,
            client_id: format!("client-{n}").into(),
            expiry_s: 3_600,
            left: Some(Time(1)),
            will: None,
        })));
        for subscription in 0..SUBSCRIPTIONS_PER_SESSION {
            changes.push(Change::PutSubscription(Box::new(StoredSubscription {
                session,
                filter: format!("site/{}/device/{n}/{subscription}", n % 100).into(),
                options: SubscriptionOptions::default(),
                subscription_id: 0,
            })));
        }
        flush(&mut store, &mut changes, 50_000)?;
    }
    flush(&mut store, &mut changes, 1)?;
    let seconds = begin.elapsed().as_secs_f64();
    let written = store.written_bytes() >> 20;
    store.close()?;
    let file = std::fs::metadata(path)?;
    println!(
        "{retained} retained of {PAYLOAD_BYTES} B, {sessions} sessions with \
         {SUBSCRIPTIONS_PER_SESSION} subscriptions: written in {seconds:.1} s, {written} MiB in \
         all; file {} MiB, on disk {} MiB",
        file.len() >> 20,
        std::os::unix::fs::MetadataExt::blocks(&file) >> 11,
    );
    Ok(())
}

fn flush(store: &mut Store, changes: &mut Vec<Change>, at: usize) -> Result<(), Box<dyn Error>> {
    if changes.len() >= at {
        store.apply(&[Commit {
            sequence: 0,
            at: Time(1),
            changes: std::mem::take(changes),
        }])?;
    }
    Ok(())
}

fn open_and_load(path: &Path, options: StoreOptions, text: &str) -> Result<(), Box<dyn Error>> {
    let begin = Instant::now();
    let store = Store::open_source(Source::file(path), options)?;
    let opened = begin.elapsed();
    // Kept, as a shard would: the memory that they take is part of the price.
    let mut kept = Vec::new();
    let loaded = store.load(&mut |change| {
        kept.push(change);
        Ok(())
    })?;
    let loaded_in = begin.elapsed() - opened;
    println!(
        "{text}: opened in {:.3} s, {} records loaded in {:.3} s",
        opened.as_secs_f64(),
        loaded.records(),
        loaded_in.as_secs_f64()
    );
    drop(kept);
    Ok(store.close()?)
}

/// Puts one message each into so many queues of sessions.
fn commits(path: &Path, options: StoreOptions) -> Result<(), Box<dyn Error>> {
    let mut store = Store::open_source(Source::file(path), options)?;
    let mut position = 0;
    for count in [1_u64, 10, 100, 1_000, 10_000] {
        let mut times = Vec::new();
        let (syncs, written) = (store.syncs(), store.written_bytes());
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(700) {
            position += 1;
            let changes = (0..count)
                .map(|n| queued(key((n * 7_919 + position * 104_729) % 100_000), position))
                .collect();
            let commit = Commit {
                sequence: position,
                at: Time(position),
                changes,
            };
            let start = Instant::now();
            store.apply(&[commit])?;
            times.push(start.elapsed());
        }
        times.sort();
        let runs = times.len() as u64;
        println!(
            "commit of {count} changes, quick repair {}: median {:.3} ms, 99 % {:.3} ms, \
             {:.1} fsyncs, {} KiB written",
            options.quick_repair,
            times[times.len() / 2].as_secs_f64() * 1_000.0,
            times[times.len() * 99 / 100].as_secs_f64() * 1_000.0,
            (store.syncs() - syncs) as f64 / runs as f64,
            (store.written_bytes() - written) / runs / 1_024,
        );
    }
    Ok(store.close()?)
}

/// A copy of the file as a killed process leaves it.
fn crash(path: &Path, options: StoreOptions) -> Result<PathBuf, Box<dyn Error>> {
    let mut store = Store::open_source(Source::file(path), options)?;
    store.apply(&[Commit {
        sequence: 1,
        at: Time(1),
        changes: vec![queued(key(1), u64::MAX)],
    }])?;
    let crashed = path.with_extension("crashed");
    std::fs::copy(path, &crashed)?;
    Ok(crashed)
}

/// Spread as session keys are, which are drawn at random.
fn key(n: u64) -> SessionKey {
    SessionKey((n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

fn message(topic: &str, retain: bool) -> Arc<Message> {
    MessageView {
        topic,
        forwarded: &[],
        payload: &[7; PAYLOAD_BYTES],
        qos: QoS::AtLeastOnce,
        retain,
        expires: None,
        publisher: None,
    }
    .to_message()
}

fn queued(session: SessionKey, position: u64) -> Change {
    Change::PutQueued(Box::new(StoredQueued {
        session,
        position,
        message: Some(message("site/1/commands", false)),
        delivery: Delivery {
            qos: QoS::AtLeastOnce,
            retain: false,
            subscription_ids: SubscriptionIds::None,
            group: None,
        },
        sent: None,
    }))
}
