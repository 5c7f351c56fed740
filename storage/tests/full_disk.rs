//! A real file system that is full. It has to be mounted, which needs root; where that is refused
//! the test says so and stops.

#![allow(clippy::unwrap_used, reason = "all of this file is a test")]

mod support;
#[path = "support/tree.rs"]
mod tree;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use storage::{Reserve, Store, StoreEvent, StoreOptions, Worker, WorkerHandle, WorkerOptions};
use support::{commit, header, message, queued, records, session};

const PATIENCE: Duration = Duration::from_secs(20);

/// A small file system in memory, for as long as this lives.
struct SmallDisk {
    directory: tempfile::TempDir,
}

impl SmallDisk {
    fn mount() -> Option<SmallDisk> {
        let directory = tempfile::tempdir().unwrap();
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m", "meshring-test"])
            .arg(directory.path())
            .output();
        match output {
            Ok(output) if output.status.success() => Some(SmallDisk { directory }),
            refused => {
                eprintln!("NOT TESTED: a small file system cannot be mounted here: {refused:?}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut file = File::create(self.path().join("filler")).unwrap();
        while file.write_all(&[7; 4_096]).is_ok() {}
    }

    fn empty(&self) {
        std::fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

fn next(handle: &mut WorkerHandle) -> StoreEvent {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(event) = handle.poll() {
            return event;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("no event in time");
}

#[test]
fn a_full_file_system_is_waited_for() {
    let nothing_in_reserve = Reserve {
        bytes: 0,
        permille: 0,
    };
    // With the reserve the worker stops before the file system does; without, after.
    for (reserve, word) in [
        (Reserve::default(), "in reserve"),
        (nothing_in_reserve, "writing failed"),
    ] {
        let Some(disk) = SmallDisk::mount() else {
            return;
        };
        let path = disk.path().join("a.redb");
        let store = Store::create(&path, &header()).unwrap();
        let options = WorkerOptions {
            reserve,
            retry: Duration::from_millis(20),
            ..WorkerOptions::default()
        };
        let mut handle = Worker::start(store, options, || {}).unwrap();
        let large = message("t", &[7; 4_000]);
        let many = |sequence: u64| {
            let positions = sequence * 100..sequence * 100 + 100;
            commit(
                sequence,
                positions.map(|at| queued(1, at, &large)).collect(),
            )
        };
        handle.submit(many(1));
        let event = next(&mut handle);
        assert!(
            matches!(event, StoreEvent::Committed { sequence: 1 }),
            "{event:?}"
        );

        disk.fill();
        for sequence in 2..=5 {
            handle.submit(many(sequence));
        }
        let event = next(&mut handle);
        assert!(
            matches!(&event, StoreEvent::Stalled { reason } if reason.contains(word)),
            "{event:?}"
        );
        std::thread::sleep(Duration::from_millis(60));
        assert!(handle.poll().is_none(), "nothing is durable meanwhile");

        disk.empty();
        assert!(matches!(next(&mut handle), StoreEvent::Resumed));
        loop {
            let event = next(&mut handle);
            let StoreEvent::Committed { sequence } = event else {
                panic!("{event:?}");
            };
            if sequence == 5 {
                break;
            }
        }
        handle.close().unwrap();
        assert_eq!(records(&Store::open(&path).unwrap()).len(), 500);
    }
}

#[test]
fn a_move_that_finds_no_room_leaves_everything_as_it_was() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let data = disk.path().join("data");
    let directory = tree::open(&data, 1).unwrap();
    let mut store = directory.open_store(0, StoreOptions::default()).unwrap();
    let large = message("t", &[7; 4_000]);
    let mut changes = vec![session(1, "client")];
    changes.extend((0..1_000).map(|position| queued(1, position, &large)));
    store.apply(&[commit(1, changes)]).unwrap();
    store.close().unwrap();
    let expected = tree::records(&directory);
    drop(directory);
    for _ in 0..2 {
        let error = tree::open(&data, 2).unwrap_err();
        assert!(error.is_full(), "{error}");
        assert!(!data.join("2").exists(), "the room is given back");
        assert_eq!(tree::records(&tree::open(&data, 1).unwrap()), expected);
    }
}
