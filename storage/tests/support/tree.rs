//! Directories of files, and what is in all of them.

#![allow(dead_code, reason = "each test file uses its part")]

use shard::{Change, Commit, GroupKey, Placement, SessionKey, ShardId, Time};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use storage::{DataDirectory, Move, NewDirectory, StoreError, StoreOptions};

use crate::support::{
    commit, device, device_subscription, message, queued, session, subscription, token,
};

pub const NEW: NewDirectory = NewDirectory {
    id: 0xFEED_0000_0000_0001,
    placement_seed: 0xFFFF_FFFF_FFFF_FFFE,
    now: Time(1),
};

pub fn open(path: &Path, shards: u16) -> Result<DataDirectory, StoreError> {
    DataDirectory::open(path, shards, NEW, &mut |_: Move| Ok(()))
}

/// A copy of a directory, as a killed process leaves it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Records of every kind, for so many clients. None of them contradicts another.
pub fn changes(clients: u64) -> Vec<Change> {
    let mut changes = Vec::new();
    for n in 1..=clients {
        let key = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let id = mqtt_v5_codec::PacketId::new((n % 65_535 + 1) as u16).unwrap();
        // Every third is a device, whose topics live with it.
        let client_id = match n % 3 {
            0 => format!("9f1c2ab4-0d52-4b51-8a5e-{n:012x}"),
            _ => format!("client-{n}"),
        };
        changes.push(session(key, &client_id));
        changes.push(subscription(key, &format!("{client_id}/#")));
        let hello = message(&format!("{client_id}/hello"), &n.to_be_bytes());
        changes.push(queued(key, n, &hello));
        changes.push(queued(key, n + 1, &hello));
        changes.push(Change::PutReceived {
            session: SessionKey(key),
            packet_id: id,
            ordinal: n,
        });
        changes.push(Change::PutSeen {
            session: SessionKey(key),
            publisher: SessionKey(n),
            packet_id: id,
            ordinal: n,
        });
        changes.push(Change::PutRetained {
            message: Arc::clone(&hello),
        });
        changes.push(Change::PutGroupQueued {
            key: Arc::new(GroupKey {
                name: format!("group-{}", n % 7).into(),
                filter: "jobs/+".into(),
            }),
            position: n,
            message: hello,
        });
        let number = u128::from(key);
        changes.push(device(number));
        changes.push(token(number, 0));
        changes.push(token(number, n));
        changes.push(device_subscription(number, 1, (n % 8) as u8));
    }
    changes
}

/// Puts changes into the files that they belong to.
pub fn fill(directory: &DataDirectory, changes: Vec<Change>) {
    let manifest = directory.manifest();
    let placement = Placement::new(manifest.shards, manifest.placement_seed);
    let mut homes = HashMap::new();
    let mut commits: Vec<Commit> = (1..=u64::from(manifest.shards))
        .map(|sequence| commit(sequence, Vec::new()))
        .collect();
    for change in changes {
        let home = home(&placement, &mut homes, &change);
        commits[home.index()].changes.push(change);
    }
    for (shard, commit) in (0..).zip(commits) {
        let mut store = directory
            .open_store(shard, StoreOptions::default())
            .unwrap();
        store.apply(&[commit]).unwrap();
        store.close().unwrap();
    }
}

/// All records, as text, sorted; they must be where they belong.
pub fn records(directory: &DataDirectory) -> Vec<String> {
    let manifest = directory.manifest();
    let placement = Placement::new(manifest.shards, manifest.placement_seed);
    let mut homes = HashMap::new();
    let mut records = Vec::new();
    for shard in 0..manifest.shards {
        let store = directory
            .open_store(shard, StoreOptions::default())
            .unwrap();
        store
            .load(&mut |change| {
                let home = home(&placement, &mut homes, &change);
                assert_eq!(home, ShardId(shard), "{change:?}");
                records.push(format!("{change:?}"));
                Ok(())
            })
            .unwrap();
        store.close().unwrap();
    }
    records.sort_unstable();
    records
}

fn home(
    placement: &Placement,
    homes: &mut HashMap<SessionKey, ShardId>,
    change: &Change,
) -> ShardId {
    match change {
        Change::PutSession(session) => {
            let home = placement.client(&session.client_id);
            homes.insert(session.session, home);
            home
        }
        Change::PutSubscription(subscription) => homes[&subscription.session],
        Change::PutQueued(queued) => homes[&queued.session],
        Change::PutReceived { session, .. }
        | Change::PutFloor { session, .. }
        | Change::PutSeen { session, .. } => homes[session],
        Change::PutRetained { message } => placement.retained(message.view().topic),
        Change::PutGroupQueued { key, .. } => placement.group(&key.name, &key.filter),
        Change::PutDevice { device, .. } | Change::PutToken { device, .. } => {
            placement.device(*device)
        }
        Change::PutDeviceSubscription(one) => placement.device(one.emitter),
        other => panic!("{other:?}"),
    }
}
