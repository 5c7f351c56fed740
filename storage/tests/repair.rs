//! Damage: it is noticed, nothing starts with less, and a repair saves what is whole.

#![allow(clippy::unwrap_used, reason = "all of this file is a test")]

mod support;
#[path = "support/tree.rs"]
mod tree;

use shard::Time;
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use storage::{Store, StoreError, check, repair};
use tree::{changes, copy, fill, open};

const NOW: Time = Time(1_700_000_000_000_000);

/// A directory of two shards, and the records of each.
fn sound(path: &Path) -> [BTreeSet<String>; 2] {
    fill(&open(path, 2).unwrap(), changes(400));
    [0, 1].map(|shard| records(&file(path, shard)).unwrap())
}

fn file(path: &Path, shard: u16) -> std::path::PathBuf {
    path.join(format!("1/shard-{shard:03}.redb"))
}

fn records(path: &Path) -> Result<BTreeSet<String>, StoreError> {
    let store = Store::open(path)?;
    let mut records = BTreeSet::new();
    store.load(&mut |change| {
        records.insert(format!("{change:?}"));
        Ok(())
    })?;
    Ok(records)
}

#[test]
fn a_sound_directory_is_left_as_it_is() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("data");
    sound(&path);
    let before = [0, 1].map(|shard| std::fs::read(file(&path, shard)).unwrap());
    let report = check(&path).unwrap();
    assert!(report.is_sound(), "{report}");
    assert!(report.to_string().ends_with("no damage found"));
    assert_eq!(
        report
            .files
            .iter()
            .map(|file| file.counts.sessions)
            .sum::<u64>(),
        400
    );
    assert!(repair(&path, NOW).unwrap().is_empty());
    assert_eq!(
        [0, 1].map(|shard| std::fs::read(file(&path, shard)).unwrap()),
        before
    );
    let held = open(&path, 2).unwrap();
    assert!(matches!(check(&path), Err(StoreError::InUse { .. })));
    assert!(matches!(repair(&path, NOW), Err(StoreError::InUse { .. })));
    drop(held);
    assert!(matches!(
        check(&path.join("nothing")),
        Err(StoreError::Missing { .. })
    ));
}

#[test]
fn a_file_that_was_not_closed_is_sound_and_stays_so() {
    let parent = tempfile::tempdir().unwrap();
    let [path, killed] = ["data", "killed"].map(|name| parent.path().join(name));
    let directory = open(&path, 1).unwrap();
    let mut store = directory
        .open_store(0, storage::StoreOptions::default())
        .unwrap();
    store.apply(&[support::commit(1, changes(50))]).unwrap();
    copy(&path, &killed);
    let before = std::fs::read(file(&killed, 0)).unwrap();
    let report = check(&killed).unwrap();
    assert!(report.is_sound(), "{report}");
    assert_eq!(report.files[0].counts.sessions, 50);
    assert_eq!(
        std::fs::read(file(&killed, 0)).unwrap(),
        before,
        "a check changes nothing"
    );
}

/// One byte is turned over, in each page of a file in turn. Either it is noticed, or it was in a
/// place that holds nothing; and then a repair brings back all but what stood near it.
#[test]
fn turned_bytes_are_noticed_and_the_rest_is_saved() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("data");
    let [expected, other] = sound(&path);
    let bytes = std::fs::read(file(&path, 0)).unwrap();
    let (mut noticed, mut saved_most) = (0, 0);
    let pages = bytes.len() / 4_096;
    // The header's fields, then a place in each of many pages.
    let header = (0..320).step_by(7);
    let places = header.chain(
        (1..pages)
            .step_by(3)
            .map(|page| page * 4_096 + page % 61 * 3),
    );
    for (number, at) in places.enumerate() {
        let damaged = parent.path().join(format!("damaged-{number}"));
        copy(&path, &damaged);
        let target = OpenOptions::new()
            .write(true)
            .open(file(&damaged, 0))
            .unwrap();
        target.write_all_at(&[bytes[at] ^ 0x55], at as u64).unwrap();
        drop(target);
        let report = check(&damaged).unwrap();
        let read = records(&file(&damaged, 0));
        if let Ok(read) = read {
            assert_eq!(read, expected, "byte {at}: a start with less");
            assert!(report.is_sound(), "byte {at}: {report}");
            std::fs::remove_dir_all(&damaged).unwrap();
            continue;
        }
        noticed += 1;
        let error = read.unwrap_err().to_string();
        assert!(
            error.contains("shard-000.redb is damaged"),
            "byte {at}: {error}"
        );
        assert!(error.contains("`meshring repair`"), "{error}");
        assert!(!report.is_sound(), "byte {at}: {error}");
        assert_eq!(records(&file(&damaged, 1)).unwrap(), other);

        let kept_bytes = std::fs::read(file(&damaged, 0)).unwrap();
        let repaired = repair(&damaged, NOW).unwrap();
        assert_eq!(repaired.len(), 1, "byte {at}: {report}");
        let kept = repaired[0].kept.as_ref().unwrap();
        assert_eq!(*kept, damaged.join("shard-000.redb.damaged-1700000000"));
        // Opening it had put it in order where that went, so compare what cannot have changed.
        assert_eq!(
            std::fs::metadata(kept).unwrap().len(),
            kept_bytes.len() as u64
        );
        let saved = records(&file(&damaged, 0)).unwrap();
        assert!(
            saved.is_subset(&expected),
            "byte {at}: something that never was"
        );
        assert_eq!(saved.len() as u64, repaired[0].records);
        assert!(
            saved == expected || !repaired[0].dropped.is_empty(),
            "byte {at}: lost and not said"
        );
        saved_most += u64::from(saved.len() * 2 > expected.len());
        let after = check(&damaged).unwrap();
        assert!(after.is_sound(), "byte {at}: {after}");
        open(&damaged, 2).unwrap();
        std::fs::remove_dir_all(&damaged).unwrap();
    }
    assert!(noticed > 20, "{noticed}");
    assert!(saved_most * 2 > noticed, "{saved_most} of {noticed}");
}

#[test]
fn what_is_cut_off_is_noticed_and_the_rest_is_saved() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("data");
    let [expected, _] = sound(&path);
    let length = std::fs::metadata(file(&path, 0)).unwrap().len();
    let mut saved_some = 0;
    for part in 0..16 {
        let damaged = parent.path().join(format!("damaged-{part}"));
        copy(&path, &damaged);
        let target = OpenOptions::new()
            .write(true)
            .open(file(&damaged, 0))
            .unwrap();
        target.set_len(length * part / 16).unwrap();
        drop(target);
        let error = records(&file(&damaged, 0)).unwrap_err();
        assert!(
            matches!(error, StoreError::Damaged { .. }),
            "{part}/16: {error}"
        );
        assert!(!check(&damaged).unwrap().is_sound());
        let repaired = repair(&damaged, NOW).unwrap();
        assert_eq!(repaired.len(), 1);
        let saved = records(&file(&damaged, 0)).unwrap();
        assert!(saved.is_subset(&expected));
        assert!(saved.len() == expected.len() || !repaired[0].dropped.is_empty());
        saved_some += u64::from(!saved.is_empty());
        assert!(check(&damaged).unwrap().is_sound());
    }
    assert!(saved_some > 0);
}

#[test]
fn rubbish_and_nothing_are_replaced_by_empty_files() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("data");
    let [_, other] = sound(&path);
    let rubbish: Vec<u8> = (0..50_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let like_redb = [b"redb\x1A\x0A\xA9\x0D\x0A".as_slice(), &rubbish].concat();
    for (name, bytes) in [
        ("rubbish", Some(rubbish.as_slice())),
        ("like redb", Some(like_redb.as_slice())),
        ("empty", Some([].as_slice())),
        ("missing", None),
    ] {
        let damaged = parent.path().join(name);
        copy(&path, &damaged);
        match bytes {
            Some(bytes) => std::fs::write(file(&damaged, 0), bytes).unwrap(),
            None => std::fs::remove_file(file(&damaged, 0)).unwrap(),
        }
        assert!(!check(&damaged).unwrap().is_sound());
        let repaired = repair(&damaged, NOW).unwrap();
        assert_eq!(repaired[0].kept.is_some(), bytes.is_some());
        assert!(!repaired[0].dropped.is_empty(), "{}", repaired[0]);
        assert!(records(&file(&damaged, 0)).unwrap().is_empty());
        assert_eq!(records(&file(&damaged, 1)).unwrap(), other);
        assert!(check(&damaged).unwrap().is_sound());
    }
}

#[test]
fn records_that_contradict_each_other_are_found() {
    let parent = tempfile::tempdir().unwrap();
    let directory = open(parent.path(), 1).unwrap();
    let mut store = directory
        .open_store(0, storage::StoreOptions::default())
        .unwrap();
    let hello = support::message("t", b"hello");
    let records = vec![
        support::session(1, "twice"),
        support::session(2, "twice"),
        support::subscription(3, "a"),
        support::queued(3, 1, &hello),
        support::device(1),
        support::token(1, 1),
        support::device_subscription(1, 2, 3),
        support::token(2, 1),
        support::device_subscription(2, 1, 3),
    ];
    store.apply(&[support::commit(1, records)]).unwrap();
    store.close().unwrap();
    drop(directory);
    let report = check(parent.path()).unwrap();
    assert_eq!(
        report.files[0].findings,
        [
            "2 records are of a device that is not there; the first: token of \
             00000000000000000000000000000002",
            "2 records are of a session that is not there; the first: subscription \"a\"",
            "1 sessions are of a client that has another; the first: client \"twice\"",
        ]
    );
    let repaired = repair(parent.path(), NOW).unwrap();
    assert_eq!(
        repaired[0].dropped,
        ["4 records of sessions and devices that are lost"]
    );
    assert_eq!(repaired[0].records, 5);
}

#[test]
fn a_file_that_is_anothers_is_not_repaired() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("data");
    sound(&path);
    std::fs::copy(file(&path, 0), file(&path, 1)).unwrap();
    assert!(!check(&path).unwrap().is_sound());
    assert!(matches!(
        repair(&path, NOW),
        Err(StoreError::WrongFile { .. })
    ));
}
