//! Copies of a data directory, and what is made of them.

#![allow(clippy::unwrap_used, reason = "all of this file is a test")]

mod support;
#[path = "support/tree.rs"]
mod tree;

use shard::Time;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};
use storage::{
    DataDirectory, Manifest, Pepper, StoreError, StoreEvent, StoreOptions, Worker, WorkerHandle,
    WorkerOptions, backup_at_rest, backup_running, check, restore,
};
use support::{commit, message, queued, session};
use tree::{changes, copy, fill, open, records};

const NOW: Time = Time(5);

#[test]
fn a_backup_at_rest_has_everything_and_can_be_restored() {
    let parent = tempfile::tempdir().unwrap();
    let [data, backup, restored] = ["data", "backup", "restored"].map(|n| parent.path().join(n));
    fill(&open(&data, 3).unwrap(), changes(200));
    let expected = records(&open(&data, 3).unwrap());
    let loaded = backup_at_rest(&data, NOW, &backup).unwrap();
    assert_eq!(
        loaded.iter().map(|l| l.records()).sum::<u64>(),
        expected.len() as u64
    );
    assert!(check(&backup).unwrap().is_sound());
    assert_eq!(restore(&backup, &restored, false, NOW).unwrap(), loaded);
    assert_eq!(records(&open(&restored, 3).unwrap()), expected);
    // With another number of shards right away, and in place of something else.
    fill(&open(&restored, 2).unwrap(), changes(300));
    assert_ne!(records(&open(&restored, 2).unwrap()), expected);
    assert!(matches!(
        restore(&backup, &restored, false, NOW),
        Err(StoreError::NotEmpty { .. })
    ));
    restore(&backup, &restored, true, NOW).unwrap();
    assert_eq!(records(&open(&restored, 5).unwrap()), expected);
}

#[test]
fn the_pepper_stays_and_goes_wherever_the_tokens_go() {
    let parent = tempfile::tempdir().unwrap();
    let [data, backup, restored] = ["data", "backup", "restored"].map(|n| parent.path().join(n));
    let first = Pepper([7; 32]);
    let mut directory = open(&data, 1).unwrap();
    assert_eq!(directory.pepper(first).unwrap(), first);
    assert_eq!(directory.pepper(Pepper([8; 32])).unwrap(), first);
    fill(&directory, changes(10));
    drop(directory);
    // Written, and for nobody else.
    let manifest = data.join("manifest.json");
    let mode = std::fs::metadata(&manifest).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(format!("{first:?}"), "Pepper(…)", "not for logs");
    backup_at_rest(&data, NOW, &backup).unwrap();
    restore(&backup, &restored, false, NOW).unwrap();
    for path in [&data, &backup, &restored] {
        let mut directory = open(path, 3).unwrap();
        assert_eq!(directory.pepper(Pepper([9; 32])).unwrap(), first);
    }
    // Without it the tokens are worth nothing, and that is said.
    let text = std::fs::read_to_string(&manifest).unwrap();
    let (before, _) = text.split_once(",\n  \"pepper\"").unwrap();
    std::fs::write(&manifest, format!("{before}\n}}\n")).unwrap();
    let error = open(&data, 3).unwrap().pepper(first).unwrap_err();
    assert!(error.to_string().contains("has no pepper"), "{error}");
    for wrong in [
        "",
        "00",
        "zz",
        &"0".repeat(63),
        &"é".repeat(32),
        &"+".repeat(64),
    ] {
        let text = format!("{before},\n  \"pepper\": \"{wrong}\"\n}}\n");
        std::fs::write(&manifest, text).unwrap();
        let error = open(&data, 3).unwrap_err().to_string();
        assert!(error.contains("pepper is none"), "{error}");
    }
}

#[test]
fn a_backup_overwrites_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let [data, backup] = ["data", "backup"].map(|name| parent.path().join(name));
    drop(open(&data, 1).unwrap());
    std::fs::create_dir(&backup).unwrap();
    std::fs::write(backup.join("letter.txt"), "dear").unwrap();
    let again = |result: Result<_, StoreError>| {
        assert!(matches!(result, Err(StoreError::NotEmpty { .. })));
    };
    again(backup_at_rest(&data, NOW, &backup).map(drop));
    std::fs::remove_file(backup.join("letter.txt")).unwrap();
    backup_at_rest(&data, NOW, &backup).unwrap();
    again(backup_at_rest(&data, NOW, &backup).map(drop));
    // A broker that runs is asked, not copied behind its back.
    let held = open(&data, 1).unwrap();
    let other = parent.path().join("other");
    assert!(matches!(
        backup_at_rest(&data, NOW, &other),
        Err(StoreError::InUse { .. })
    ));
    drop(held);
}

#[test]
fn a_damaged_backup_is_not_restored() {
    let parent = tempfile::tempdir().unwrap();
    let [data, backup, restored] = ["data", "backup", "restored"].map(|n| parent.path().join(n));
    fill(&open(&data, 2).unwrap(), changes(200));
    backup_at_rest(&data, NOW, &backup).unwrap();
    fill(&open(&restored, 1).unwrap(), changes(10));
    let before = records(&open(&restored, 1).unwrap());
    let file = backup.join("1/shard-001.redb");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let result = restore(&backup, &restored, true, NOW);
    assert!(matches!(result, Err(StoreError::Damaged { .. })));
    std::fs::remove_file(&file).unwrap();
    assert!(restore(&backup, &restored, true, NOW).is_err());
    std::fs::write(&file, &bytes).unwrap();
    std::fs::remove_file(backup.join("manifest.json")).unwrap();
    let result = restore(&backup, &restored, true, NOW);
    assert!(matches!(result, Err(StoreError::Missing { .. })));
    assert_eq!(records(&open(&restored, 1).unwrap()), before);
}

fn workers(directory: &DataDirectory) -> Vec<WorkerHandle> {
    (0..directory.manifest().shards)
        .map(|shard| {
            let store = directory
                .open_store(shard, StoreOptions::default())
                .unwrap();
            Worker::start(store, WorkerOptions::default(), || {}).unwrap()
        })
        .collect()
}

fn until_committed(handle: &mut WorkerHandle, until: u64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        match handle.poll() {
            Some(StoreEvent::Committed { sequence }) if sequence >= until => return,
            Some(StoreEvent::Committed { .. }) => {}
            Some(other) => panic!("{other:?}"),
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    panic!("not in time");
}

#[test]
fn a_running_broker_is_backed_up_while_it_goes_on() {
    let parent = tempfile::tempdir().unwrap();
    let [data, backup] = ["data", "backup"].map(|name| parent.path().join(name));
    let directory = open(&data, 2).unwrap();
    let mut handles = workers(&directory);
    let hello = message("t", &[7; 100]);
    let placement = shard::Placement::new(2, directory.manifest().placement_seed);
    let clients: Vec<String> = (0..2_u16)
        .map(|shard| {
            let mut names = (0..).map(|n| format!("client-{n}"));
            names
                .find(|name| placement.client(name).0 == shard)
                .unwrap()
        })
        .collect();
    for (key, (handle, client)) in (1..).zip(handles.iter().zip(&clients)) {
        handle.submit(commit(1, vec![session(key, client)]));
        // Pairs that belong together: a copy must never have one of them alone.
        for n in 2..=400_u64 {
            handle.submit(commit(
                n,
                vec![queued(key, 2 * n, &hello), queued(key, 2 * n + 1, &hello)],
            ));
        }
    }
    let controls: Vec<_> = handles.iter().map(WorkerHandle::control).collect();
    let loaded = std::thread::scope(|scope| {
        let manifest = directory.manifest();
        let backup = &backup;
        let thread = scope.spawn(move || backup_running(manifest, &controls, NOW, backup));
        for (key, handle) in (1..).zip(&handles) {
            for n in 401..=2_000_u64 {
                handle.submit(commit(
                    n,
                    vec![queued(key, 2 * n, &hello), queued(key, 2 * n + 1, &hello)],
                ));
            }
        }
        thread.join().unwrap().unwrap()
    });
    for handle in &mut handles {
        until_committed(handle, 2_000);
    }
    for loaded in &loaded {
        assert!(
            loaded.queued >= 2 * 399 && loaded.queued.is_multiple_of(2),
            "{loaded:?}"
        );
    }
    assert!(check(&backup).unwrap().is_sound());
    let copied = Manifest::read(&backup).unwrap().unwrap();
    assert_eq!(copied, *directory.manifest());
    handles
        .into_iter()
        .for_each(|handle| handle.close().unwrap());
    drop(directory);
    let restored = parent.path().join("restored");
    restore(&backup, &restored, false, NOW).unwrap();
    let all: u64 = loaded.iter().map(|l| l.records()).sum();
    assert_eq!(records(&open(&restored, 3).unwrap()).len() as u64, all);
}

#[test]
fn a_backup_of_a_broker_that_has_failed_leaves_no_manifest() {
    let parent = tempfile::tempdir().unwrap();
    let [data, backup] = ["data", "backup"].map(|name| parent.path().join(name));
    let directory = open(&data, 1).unwrap();
    let handles = workers(&directory);
    let controls: Vec<_> = handles.iter().map(WorkerHandle::control).collect();
    handles
        .into_iter()
        .for_each(|handle| handle.close().unwrap());
    assert!(backup_running(directory.manifest(), &controls, NOW, &backup).is_err());
    assert!(!backup.join("manifest.json").exists());
    // It may be tried again at once.
    drop(directory);
    backup_at_rest(&data, NOW, &backup).unwrap();
}

/// A restore that is killed before it is done has changed nothing.
#[test]
fn a_restore_that_was_interrupted_is_cleaned_up() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    fill(&open(&data, 1).unwrap(), changes(20));
    let expected = records(&open(&data, 1).unwrap());
    // What it leaves: files of the next generation, of which the manifest does not know.
    copy(&data.join("1"), &data.join("2"));
    let report = check(&data).unwrap();
    assert!(report.is_sound());
    assert_eq!(report.notes.len(), 1);
    assert_eq!(records(&open(&data, 1).unwrap()), expected);
    assert!(!data.join("2").exists());
}
