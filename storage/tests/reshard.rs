//! The data directory, and records that move when the number of shards changes: all of them, to
//! where they belong, whenever it is interrupted.

#![allow(clippy::unwrap_used, reason = "all of this file is a test")]

mod support;
#[path = "support/tree.rs"]
mod tree;

use shard::{Change, GroupKey, Time};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use storage::{
    DataDirectory, FileHeader, Manifest, Move, MoveStep, Source, Store, StoreError, StoreOptions,
};
use support::message;
use tree::{NEW, changes, copy, fill, open, records};

#[test]
fn a_new_directory_is_set_up_for_its_owner_alone() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("a/b");
    let directory = open(&path, 3).unwrap();
    let manifest = *directory.manifest();
    assert_eq!(
        (manifest.id, manifest.placement_seed),
        (NEW.id, NEW.placement_seed)
    );
    assert_eq!(directory.files().len(), 3);
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o700
    );
    for file in directory.files() {
        assert_eq!(
            std::fs::metadata(file).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    drop(directory);
    // What it says about itself stays, whatever the next opening brings.
    let other = storage::NewDirectory {
        id: 5,
        placement_seed: 6,
        now: Time(7),
    };
    let again = DataDirectory::open(&path, 3, other, &mut |step| panic!("{step}")).unwrap();
    assert_eq!(*again.manifest(), manifest);
}

#[test]
fn a_directory_is_used_by_one_at_a_time() {
    let parent = tempfile::tempdir().unwrap();
    let first = open(parent.path(), 1).unwrap();
    let error = open(parent.path(), 1).unwrap_err();
    let process = Some(std::process::id());
    assert!(
        matches!(&error, StoreError::InUse { process: found, .. } if *found == process),
        "{error}"
    );
    assert!(error.to_string().contains("another broker uses"));
    drop(first);
    open(parent.path(), 1).unwrap();
}

#[test]
fn what_is_none_of_ours_is_left_alone() {
    let parent = tempfile::tempdir().unwrap();
    std::fs::write(parent.path().join("letter.txt"), "dear").unwrap();
    assert!(matches!(
        open(parent.path(), 1),
        Err(StoreError::NotEmpty { .. })
    ));
    // The root of a new file system.
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("lost+found")).unwrap();
    open(root.path(), 1).unwrap();
}

#[test]
fn nothing_starts_with_less() {
    type Damage = fn(&Path);
    let damage: [(&str, Damage); 5] = [
        ("is missing", |path| {
            std::fs::remove_file(path.join("1/shard-001.redb")).unwrap();
        }),
        ("not whole", |path| {
            std::fs::remove_file(path.join("manifest.json")).unwrap();
        }),
        ("is damaged", |path| {
            std::fs::write(path.join("manifest.json"), "{\"format\": 1}").unwrap();
        }),
        ("does not fit", |path| {
            std::fs::copy(path.join("1/shard-000.redb"), path.join("1/shard-001.redb")).unwrap();
        }),
        ("is newer than this program", |path| {
            let text = std::fs::read_to_string(path.join("manifest.json")).unwrap();
            let text = text.replace("\"format\": 2", "\"format\": 3");
            std::fs::write(path.join("manifest.json"), text).unwrap();
        }),
    ];
    for (words, damage) in damage {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        drop(open(&path, 2).unwrap());
        damage(&path);
        // With the same number of shards and with another.
        for shards in [2, 3] {
            let result = open(&path, shards).and_then(|directory| {
                (0..directory.manifest().shards)
                    .try_for_each(|n| directory.open_store(n, StoreOptions::default()).map(drop))
            });
            let error = result.expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}

/// As the first version has left it; `open.rs` tests the same of a file.
#[test]
fn a_manifest_of_the_first_format_is_taken() {
    let parent = tempfile::tempdir().unwrap();
    drop(open(parent.path(), 2).unwrap());
    let path = parent.path().join("manifest.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let old = text.replace("\"format\": 2", "\"format\": 1");
    assert_ne!(old, text);
    std::fs::write(&path, old).unwrap();
    assert_eq!(open(parent.path(), 2).unwrap().manifest().shards, 2);
}

#[test]
fn a_newer_file_is_refused() {
    // The format is read before anything else of it is believed.
    assert_eq!(
        StoreError::NewerFormat {
            file: "a".to_owned(),
            format: 3
        }
        .to_string(),
        "a has format 3, which is newer than this program (2 is the newest that it knows): use \
         the version of meshring that has written it"
    );
}

#[test]
fn records_move_with_the_number_of_shards() {
    let parent = tempfile::tempdir().unwrap();
    fill(&open(parent.path(), 1).unwrap(), changes(300));
    let expected = records(&open(parent.path(), 1).unwrap());
    assert_eq!(expected.len(), 300 * 13, "twelve each, and a floor");
    for shards in [3, 2, 5, 128, 1] {
        let directory = open(parent.path(), shards).unwrap();
        assert_eq!(records(&directory), expected, "{shards} shards");
        assert_eq!(directory.manifest().placement_seed, NEW.placement_seed);
        let store = directory
            .open_store(shards - 1, StoreOptions::default())
            .unwrap();
        let loaded = store.load(&mut |_| Ok(())).unwrap();
        assert_eq!(loaded.alive, Some(Time(1_001)), "the latest of all");
        let numbers = std::fs::read_dir(parent.path())
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().path().is_dir())
            .count();
        assert_eq!(numbers, 1, "the old files are gone");
    }
}

/// The files as a kill at any step leaves them, opened with yet another number of shards.
#[test]
fn a_move_may_be_interrupted_anywhere() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    fill(&open(&data, 2).unwrap(), changes(3_000));
    let expected = records(&open(&data, 2).unwrap());
    let mut killed = Vec::new();
    let mut step = |_: Move| {
        let path = parent.path().join(format!("killed-{}", killed.len()));
        copy(&data, &path);
        killed.push(path);
        Ok(())
    };
    DataDirectory::open(&data, 3, NEW, &mut step).unwrap();
    assert!(killed.len() >= 7, "{}", killed.len());
    for (number, path) in killed.iter().enumerate() {
        let shards = [2, 3, 5][number % 3];
        assert_eq!(
            records(&open(path, shards).unwrap()),
            expected,
            "killed at step {number}"
        );
        std::fs::remove_dir_all(path).unwrap();
    }
}

/// Stopped in each step in turn, always further, and with changing numbers.
#[test]
fn a_move_may_be_given_up_again_and_again() {
    let parent = tempfile::tempdir().unwrap();
    fill(&open(parent.path(), 1).unwrap(), changes(2_500));
    let expected = records(&open(parent.path(), 1).unwrap());
    let mut was_cleaned = false;
    for patience in 0..9 {
        let shards = 2 + patience % 3;
        let mut left = patience;
        let result = DataDirectory::open(parent.path(), shards, NEW, &mut |now| {
            was_cleaned |= now.step == MoveStep::Cleaning;
            left = left.checked_sub(1).ok_or("enough")?;
            Ok(())
        });
        match result {
            Ok(directory) => assert_eq!(records(&directory), expected),
            Err(StoreError::Stopped { reason }) => assert_eq!(reason, "enough"),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(was_cleaned);
    assert_eq!(records(&open(parent.path(), 4).unwrap()), expected);
}

/// The setting up of a new directory, too.
#[test]
fn a_first_start_may_be_interrupted_anywhere() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let mut killed = Vec::new();
    let mut step = |_: Move| {
        let path = parent.path().join(format!("killed-{}", killed.len()));
        copy(&data, &path);
        killed.push(path);
        Ok(())
    };
    DataDirectory::open(&data, 2, NEW, &mut step).unwrap();
    assert!(killed.len() >= 3);
    for path in killed {
        assert!(records(&open(&path, 3).unwrap()).is_empty());
    }
}

/// A group's messages and a topic in several files, which a sound directory never has: all
/// messages are kept, those of each file in their order; of the topic the rightful one.
#[test]
fn what_several_files_have_is_brought_together() {
    let parent = tempfile::tempdir().unwrap();
    let directory = open(parent.path(), 3).unwrap();
    let manifest = *directory.manifest();
    let key = Arc::new(GroupKey {
        name: "group".into(),
        filter: "jobs".into(),
    });
    let topic = "state";
    let owner = shard::Placement::new(3, manifest.placement_seed)
        .retained(topic)
        .0;
    for shard in 0..3_u16 {
        let mut store = directory
            .open_store(shard, StoreOptions::default())
            .unwrap();
        let mut changes: Vec<Change> = [5, 9, 12]
            .into_iter()
            .map(|position| Change::PutGroupQueued {
                key: Arc::clone(&key),
                position,
                message: message("jobs", &[shard as u8, position as u8]),
            })
            .collect();
        changes.push(Change::PutRetained {
            message: message(topic, &[shard as u8]),
        });
        store.apply(&[support::commit(1, changes)]).unwrap();
        store.close().unwrap();
    }
    drop(directory);
    let directory = open(parent.path(), 1).unwrap();
    let store = directory.open_store(0, StoreOptions::default()).unwrap();
    let (mut jobs, mut retained) = (Vec::new(), Vec::new());
    store
        .load(&mut |change| {
            match change {
                Change::PutGroupQueued { message, .. } => {
                    jobs.push(message.view().payload.to_vec());
                }
                Change::PutRetained { message } => retained.push(message.view().payload.to_vec()),
                other => panic!("{other:?}"),
            }
            Ok(())
        })
        .unwrap();
    let expected: Vec<Vec<u8>> = (0..3_u8)
        .flat_map(|shard| [5, 9, 12].map(|position| vec![shard, position]))
        .collect();
    assert_eq!(jobs, expected);
    assert_eq!(retained, [[owner as u8]]);
}

/// A device in a file where it does not belong: the rightful one counts, wherever it comes.
#[test]
fn the_rightful_device_is_kept() {
    let parent = tempfile::tempdir().unwrap();
    let directory = open(parent.path(), 3).unwrap();
    let manifest = *directory.manifest();
    let id = support::device_id(9);
    let owner = shard::Placement::new(3, manifest.placement_seed)
        .device(id)
        .0;
    for shard in 0..3_u16 {
        let mut store = directory
            .open_store(shard, StoreOptions::default())
            .unwrap();
        let put = Change::PutDevice {
            device: id,
            record: [shard as u8].as_slice().into(),
        };
        store
            .apply(&[support::commit(
                1,
                vec![put, support::token(9, shard.into())],
            )])
            .unwrap();
        store.close().unwrap();
    }
    drop(directory);
    let found = records(&open(parent.path(), 1).unwrap());
    let mut expected: Vec<String> = (0..3)
        .map(|n| format!("{:?}", support::token(9, n)))
        .collect();
    expected.push(format!(
        "{:?}",
        Change::PutDevice {
            device: id,
            record: [owner as u8].as_slice().into(),
        }
    ));
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn a_file_of_another_directory_is_noticed() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("data");
    let manifest = *open(&path, 1).unwrap().manifest();
    let file = path.join("1/shard-000.redb");
    std::fs::remove_file(&file).unwrap();
    let header = FileHeader {
        directory: 99,
        ..manifest.header(0, Time(1))
    };
    let options = StoreOptions::default();
    Store::create_source(Source::new_file(&file), &header, options).unwrap();
    assert_eq!(Manifest::read(&path).unwrap(), Some(manifest));
    let directory = open(&path, 1).unwrap();
    assert!(matches!(
        directory.open_store(0, options),
        Err(StoreError::WrongFile { .. })
    ));
}
