//! The worker: groups, order, and what it does when the disk is full or broken.

#![allow(clippy::unwrap_used, reason = "all of this file is a test")]

mod support;
#[path = "support/disk.rs"]
mod support_disk;

use crossbeam_channel::{Receiver, unbounded};
use shard::{Change, SessionKey};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use storage::{
    Source, Store, StoreError, StoreEvent, StoreOptions, Worker, WorkerHandle, WorkerOptions,
};
use support::{commit, header, message, queued, records, session};
use support_disk::Disk;

/// Longer than anything here takes, were it not stuck.
const PATIENCE: Duration = Duration::from_secs(20);

struct Bench {
    handle: WorkerHandle,
    woken: Receiver<()>,
}

impl Bench {
    fn new(store: Store) -> Bench {
        let options = WorkerOptions {
            retry: Duration::from_millis(5),
            ..WorkerOptions::default()
        };
        let (wake, woken) = unbounded();
        let wake = move || wake.send(()).unwrap_or(());
        let handle = Worker::start(store, options, wake).unwrap();
        Bench { handle, woken }
    }

    /// The next event; waits for the wake-up only when there is none yet.
    fn next(&mut self) -> StoreEvent {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(event) = self.handle.poll() {
                return event;
            }
            self.woken
                .recv_deadline(deadline)
                .expect("an event in time");
        }
    }

    fn next_committed(&mut self) -> u64 {
        match self.next() {
            StoreEvent::Committed { sequence } => sequence,
            other => panic!("{other:?}"),
        }
    }

    fn until_committed(&mut self, until: u64) {
        while self.next_committed() < until {}
    }
}

fn store(disk: &Disk) -> Store {
    Store::create_source(disk.source(), &header(), StoreOptions::default()).unwrap()
}

fn records_of(disk: &Disk) -> Vec<String> {
    records(&Store::open_source(disk.source(), StoreOptions::default()).unwrap())
}

#[test]
fn commits_are_acknowledged_in_order_and_share_transactions() {
    let disk = Disk::default();
    let mut bench = Bench::new(store(&disk));
    for sequence in 1..=2_000 {
        let change = session(sequence, "client");
        bench.handle.submit(commit(sequence, vec![change]));
    }
    let mut last = 0;
    while last < 2_000 {
        let sequence = bench.next_committed();
        assert!(sequence > last);
        last = sequence;
    }
    let counts = bench.handle.control().counts();
    assert_eq!((counts.commits, counts.changes), (2_000, 2_000));
    assert!(counts.groups < 2_000, "{counts:?}");
    assert!(counts.fsyncs > 0 && counts.file_bytes > 0 && counts.busy_us > 0);
    // What is acknowledged is there, whether or not the file is closed.
    assert_eq!(records_of(&disk.copy()).len(), 2_000);
    bench.handle.close().unwrap();
    assert_eq!(records_of(&disk).len(), 2_000);
}

#[test]
fn closing_finishes_what_was_submitted() {
    let disk = Disk::default();
    let bench = Bench::new(store(&disk));
    for sequence in 1..=100 {
        bench
            .handle
            .submit(commit(sequence, vec![session(sequence, "client")]));
    }
    bench.handle.close().unwrap();
    assert_eq!(records_of(&disk).len(), 100);
}

#[test]
fn a_load_sees_what_was_submitted_before_it_and_nothing_after() {
    let disk = Disk::default();
    let mut bench = Bench::new(store(&disk));
    let hello = message("t", b"hello");
    for round in 0..50 {
        let [first, second] = [round * 2 + 1, round * 2 + 2];
        bench
            .handle
            .submit(commit(first, vec![queued(1, first, &hello)]));
        bench.handle.load(SessionKey(1), first - 1, 10, u32::MAX);
        bench
            .handle
            .submit(commit(second, vec![queued(1, second, &hello)]));
    }
    let mut loaded = Vec::new();
    let mut committed = 0;
    while loaded.len() < 50 || committed < 100 {
        match bench.next() {
            StoreEvent::Loaded { session, messages } => {
                assert_eq!(session, SessionKey(1));
                loaded.push(messages.iter().map(|m| m.position).collect::<Vec<_>>());
            }
            StoreEvent::Committed { sequence } => committed = sequence,
            other => panic!("{other:?}"),
        }
    }
    let expected: Vec<Vec<u64>> = (0..50).map(|round| vec![round * 2 + 1]).collect();
    assert_eq!(loaded, expected);
    assert_eq!(bench.handle.control().counts().loads, 50);
}

/// Whatever fails first, and after however many operations, nothing acknowledged is lost and
/// everything submitted is there in the end.
#[test]
fn a_full_disk_is_waited_for() {
    type Fail = fn(&Disk, u64, ErrorKind);
    let failures: [(Fail, ErrorKind); 4] = [
        (Disk::fail_writes, ErrorKind::StorageFull),
        (Disk::fail_writes, ErrorKind::QuotaExceeded),
        (Disk::fail_writes, ErrorKind::ReadOnlyFilesystem),
        (Disk::fail_lengths, ErrorKind::StorageFull),
    ];
    let mut stalls = 0;
    for (fail, kind) in failures {
        for after in [0, 1, 2, 3, 5, 8, 13, 40] {
            let disk = Disk::default();
            let mut bench = Bench::new(store(&disk));
            let large = message("t", &[7; 20_000]);
            bench
                .handle
                .submit(commit(1, vec![queued(1, 1, &large), queued(1, 2, &large)]));
            bench.until_committed(1);
            fail(&disk, after, kind);
            let many = (1..60)
                .map(|position| queued(2, position, &large))
                .collect();
            bench.handle.submit(commit(2, many));
            let event = bench.next();
            let StoreEvent::Stalled { reason } = event else {
                // It was so many operations in all.
                assert!(
                    matches!(event, StoreEvent::Committed { sequence: 2 }),
                    "{event:?}"
                );
                continue;
            };
            stalls += 1;
            assert!(reason.contains("cannot write to disk"), "{reason}");
            assert!(bench.handle.control().counts().is_stalled);
            bench.handle.submit(commit(3, vec![queued(3, 1, &large)]));
            bench.handle.load(SessionKey(3), 0, 10, u32::MAX);
            std::thread::sleep(Duration::from_millis(20));
            assert!(
                bench.handle.poll().is_none(),
                "said once, and nothing is durable meanwhile"
            );
            disk.heal();
            assert!(matches!(bench.next(), StoreEvent::Resumed));
            bench.until_committed(3);
            let loaded = bench.next();
            assert!(matches!(&loaded, StoreEvent::Loaded { messages, .. } if messages.len() == 1));
            assert!(!bench.handle.control().counts().is_stalled);
            assert_eq!(records_of(&disk.copy()).len(), 2 + 59 + 1);
            bench.handle.close().unwrap();
            assert_eq!(records_of(&disk).len(), 2 + 59 + 1);
        }
    }
    assert!(stalls >= 16, "{stalls}");
}

#[test]
fn queues_that_wait_for_nothing_are_read_while_the_disk_is_full() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::create(&directory.path().join("a.redb"), &header()).unwrap();
    let reserve = storage::Reserve {
        bytes: u64::MAX,
        permille: 0,
    };
    let hello = message("t", b"hello");
    let mut options = WorkerOptions::default();
    let mut bench = {
        let (wake, woken) = unbounded();
        // Nothing in reserve at first, then all that there is.
        options.reserve = reserve;
        let wake = move || wake.send(()).unwrap_or(());
        let handle = Worker::start(store, options.clone(), wake).unwrap();
        Bench { handle, woken }
    };
    bench.handle.submit(commit(1, vec![queued(1, 1, &hello)]));
    assert_eq!(bench.next_committed(), 1);
    bench.handle.close().unwrap();

    let store = Store::open(&directory.path().join("a.redb")).unwrap();
    options.reserve.permille = 1_000;
    let (wake, woken) = unbounded();
    let wake = move || wake.send(()).unwrap_or(());
    let handle = Worker::start(store, options, wake).unwrap();
    bench = Bench { handle, woken };
    bench.handle.submit(commit(2, vec![queued(2, 1, &hello)]));
    let stalled = bench.next();
    assert!(
        matches!(&stalled, StoreEvent::Stalled { reason } if reason.contains("in reserve")),
        "{stalled:?}"
    );
    bench.handle.load(SessionKey(2), 0, 10, u32::MAX);
    bench.handle.load(SessionKey(1), 0, 10, u32::MAX);
    let loaded = bench.next();
    let StoreEvent::Loaded { session, messages } = loaded else {
        panic!("{loaded:?}");
    };
    assert_eq!((session, messages.len()), (SessionKey(1), 1));
    // A backup is of what is durable.
    let copy = directory.path().join("copy.redb");
    let answer = bench
        .handle
        .control()
        .backup(Source::new_file(&copy), header());
    assert_eq!(answer.recv_timeout(PATIENCE).unwrap().unwrap().queued, 1);
    assert!(matches!(bench.handle.close(), Err(StoreError::Full { .. })));
    assert_eq!(
        records(&Store::open(&directory.path().join("a.redb")).unwrap()).len(),
        1
    );
}

#[test]
fn a_failed_sync_is_final_and_so_is_a_broken_disk() {
    type Fail = fn(&Disk, u64, ErrorKind);
    let failures: [(Fail, ErrorKind); 3] = [
        (Disk::fail_syncs, ErrorKind::Other),
        // What a file system says that finds out late that it is full.
        (Disk::fail_syncs, ErrorKind::StorageFull),
        (Disk::fail_writes, ErrorKind::Other),
    ];
    for (fail, kind) in failures {
        let disk = Disk::default();
        let mut bench = Bench::new(store(&disk));
        bench.handle.submit(commit(1, vec![session(1, "a")]));
        bench.until_committed(1);
        fail(&disk, 0, kind);
        bench.handle.submit(commit(2, vec![session(2, "b")]));
        let failed = bench.next();
        assert!(matches!(&failed, StoreEvent::Failed { .. }), "{failed:?}");
        bench.handle.submit(commit(3, vec![session(3, "c")]));
        std::thread::sleep(Duration::from_millis(10));
        assert!(bench.handle.poll().is_none(), "nothing follows");
        assert!(bench.handle.close().is_err());
        disk.heal();
        let kept = records_of(&disk).len();
        assert!(
            (1..=2).contains(&kept),
            "what was acknowledged, and at most what was asked for"
        );
    }
}

#[test]
fn a_backup_is_of_one_moment_while_writing_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let mut bench = Bench::new(store(&disk));
    let hello = message("t", &[7; 100]);
    // Each commit moves the same number to two sessions: a copy in between would show.
    let step = |n: u64| commit(n, vec![queued(1, n, &hello), queued(2, n, &hello)]);
    for n in 1..=500 {
        bench.handle.submit(step(n));
    }
    let path = directory.path().join("copy.redb");
    let answer = bench
        .handle
        .control()
        .backup(Source::new_file(&path), header());
    for n in 501..=3_000 {
        bench.handle.submit(step(n));
    }
    let copied = answer.recv_timeout(PATIENCE).unwrap().unwrap();
    assert_eq!(copied.queued, 1_000);
    bench.until_committed(3_000);
    bench.handle.close().unwrap();
    let copy = Store::open(&path).unwrap();
    let loaded = copy.load(&mut |_| Ok(())).unwrap();
    assert_eq!(loaded, copied);
    assert_eq!(loaded.alive, Some(shard::Time(1_500)));
    assert_eq!(
        records(&copy),
        records_of(&disk)[..500]
            .iter()
            .chain(&records_of(&disk)[3_000..3_500])
            .cloned()
            .collect::<Vec<_>>()
    );
}

#[test]
fn threads_are_prepared_before_they_work() {
    let prepared = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&prepared);
    let options = WorkerOptions {
        on_thread_start: Arc::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        }),
        ..WorkerOptions::default()
    };
    let directory = tempfile::tempdir().unwrap();
    let handle = Worker::start(store(&Disk::default()), options, || {}).unwrap();
    let target = Source::new_file(&directory.path().join("a.redb"));
    let answer = handle.control().backup(target, header());
    answer.recv_timeout(PATIENCE).unwrap().unwrap();
    handle.close().unwrap();
    assert_eq!(prepared.load(Ordering::SeqCst), 2);
}

#[test]
fn a_change_that_is_taken_back_in_its_group_is_never_written() {
    let disk = Disk::default();
    let mut store = store(&disk);
    let large = message("t", &vec![7; 1 << 20]);
    let before = store.written_bytes();
    let remove = Change::RemoveQueued {
        session: SessionKey(1),
        position: 1,
    };
    let commits = [
        commit(1, vec![queued(1, 1, &large)]),
        commit(2, vec![remove]),
    ];
    store.apply(&commits).unwrap();
    assert!(store.written_bytes() - before < 1 << 19);
    assert!(records(&store).is_empty());
}
