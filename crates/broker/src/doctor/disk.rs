//! The data directory and what is below it.

use super::finding::Verdict;
use super::{Case, bytes};
use rustix::fs::statvfs;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Below so much, a busy broker may fill the rest within minutes.
const FREE_MIN: u64 = 1 << 30;
/// A sync that takes longer makes every acknowledgement late.
const SYNC_SLOW: Duration = Duration::from_millis(20);
/// Syncs that are measured.
const SYNCS: usize = 32;
/// What the store writes at least.
const BLOCK: usize = 4_096;
/// File systems that forget, or whose locks and syncs do not mean what redb needs.
const FORGETFUL: &[&str] = &["tmpfs", "ramfs", "overlay"];
const REMOTE: &[&str] = &[
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "9p",
    "ceph",
    "glusterfs",
    "virtiofs",
];

/// The directory as it is for us, or the next one above that exists.
fn existing(case: &Case) -> Option<PathBuf> {
    let data = case.plan.data.as_ref()?;
    let mut path = data.as_path();
    loop {
        let here = case.host.path(path.to_str()?);
        if here.exists() {
            return Some(here);
        }
        path = path.parent()?;
    }
}

pub(super) fn file_system(case: &Case) -> Verdict {
    let Some(data) = &case.plan.data else {
        return Verdict::unknown("nothing is kept");
    };
    let Some(table) = case.host.text("/proc/self/mountinfo") else {
        return Verdict::unknown("what is mounted cannot be read");
    };
    let Some(kind) = kind_of(&table, data) else {
        return Verdict::unknown("nothing seems to be mounted there");
    };
    let where_it_is = data.display();
    if FORGETFUL.contains(&&*kind) {
        return Verdict::error(
            format!("{where_it_is} is on {kind}, which is gone with the machine or the container"),
            "--data on a disk; in a container, a volume",
        );
    }
    if REMOTE.contains(&&*kind) || kind.starts_with("fuse") {
        return Verdict::error(
            format!("{where_it_is} is on {kind}: its locks and syncs need not hold"),
            "--data on a disk of this machine, or a block device (iSCSI, a cloud's volume)",
        );
    }
    Verdict::fine(kind)
}

/// The type of the file system of a path, by a table as in /proc/self/mountinfo.
fn kind_of(table: &str, path: &Path) -> Option<String> {
    let mounts = table.lines().filter_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let place = place.split(' ').nth(4)?.replace("\\040", " ");
        Some((place, kind.split(' ').next()?.to_owned()))
    });
    // Of those at one place the last is on top.
    let best = mounts
        .filter(|(place, _)| path.starts_with(place))
        .enumerate()
        .max_by_key(|(number, (place, _))| (place.len(), *number));
    best.map(|(_, (_, kind))| kind)
}

pub(super) fn free_space(case: &Case) -> Verdict {
    let Some(path) = existing(case) else {
        return Verdict::unknown("nothing is kept");
    };
    let Ok(state) = statvfs(&path) else {
        return Verdict::unknown(format!("the space at {} cannot be read", path.display()));
    };
    let free = state.f_bavail.saturating_mul(state.f_frsize);
    if free >= FREE_MIN {
        return Verdict::fine(format!("{} free", bytes(free)));
    }
    Verdict::warning(
        format!(
            "{} are free at {}: on a full disk the broker refuses what it would have to keep",
            bytes(free),
            path.display()
        ),
        "more space, or --data elsewhere",
    )
}

pub(super) fn ownership(case: &Case) -> Verdict {
    let Some(data) = &case.plan.data else {
        return Verdict::unknown("nothing is kept");
    };
    let there = data.to_str().map(|data| case.host.path(data));
    let Some(Ok(metadata)) = there.map(std::fs::metadata) else {
        return Verdict::fine("made at the first start");
    };
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Verdict::warning(
            format!(
                "{} is open to others (mode {mode:o}): it holds hashes of tokens and their key",
                data.display()
            ),
            format!("chmod 700 {}", data.display()),
        );
    }
    let owner = metadata.uid();
    let uid = case.process.status(&case.host, "Uid");
    let uid = uid.and_then(|line| line.split_whitespace().next()?.parse::<u32>().ok());
    match uid {
        Some(uid) if uid != owner && uid != 0 => Verdict::error(
            format!(
                "{} belongs to user {owner}, and {} is user {uid}",
                data.display(),
                case.process.name()
            ),
            format!(
                "chown -R {uid} {}, or run the broker as user {owner}",
                data.display()
            ),
        ),
        _ => Verdict::fine(format!("mode {mode:o}, user {owner}")),
    }
}

pub(super) fn sync_latency(case: &Case) -> Verdict {
    let Some(path) = existing(case).filter(|_| case.host.is_real()) else {
        return Verdict::unknown("nothing to measure");
    };
    let taken = match measure(&path) {
        Ok(taken) => taken,
        Err(error) => {
            return Verdict::unknown(format!("cannot write to {}: {error}", path.display()));
        }
    };
    let (median, most) = (taken[taken.len() / 2], taken[taken.len() - 1]);
    let said = format!("a sync takes {median:.1?} in the middle, {most:.1?} at most, of {SYNCS}");
    if median < SYNC_SLOW {
        return Verdict::fine(said);
    }
    Verdict::warning(
        format!("{said}: each acknowledgement of what is kept waits for one"),
        "a disk with a write cache that survives a power failure, or --durability-prefix for \
         topics that need not be safe at once",
    )
}

/// How long writing a block and a sync take, in order of time taken.
fn measure(directory: &Path) -> io::Result<Vec<Duration>> {
    let path = directory.join(format!(".doctor-{}", std::process::id()));
    let result = measure_in(&path);
    // It is ours, and may never have come to be.
    let _ = std::fs::remove_file(&path);
    result
}

fn measure_in(path: &Path) -> io::Result<Vec<Duration>> {
    let mut file = File::options().write(true).create_new(true).open(path)?;
    let mut taken = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let begin = Instant::now();
        file.write_all(&[0x5A; BLOCK])?;
        file.sync_data()?;
        taken.push(begin.elapsed());
    }
    taken.sort_unstable();
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_decides() {
        let table = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
                     2 1 0:5 / /var/lib rw shared:1 - xfs /dev/sdb rw\n\
                     3 1 0:6 / /var/lib\\040two rw - nfs4 host:/x rw\n\
                     nonsense\n";
        let kind = |path: &str| kind_of(table, Path::new(path));
        assert_eq!(kind("/var/lib/meshring").as_deref(), Some("xfs"));
        assert_eq!(kind("/var/library").as_deref(), Some("ext4"));
        assert_eq!(kind("/var/lib two/a").as_deref(), Some("nfs4"));
        assert_eq!(kind_of("", Path::new("/")), None);
    }

    #[test]
    fn measuring_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let taken = measure(directory.path()).unwrap();
        assert!(taken.len() == SYNCS && taken.is_sorted());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        assert!(measure(&directory.path().join("missing")).is_err());
    }
}
