//! How much room the file system of a file still has.
//!
//! Writing stops while some room is left: redb writes a changed page to a new place before the old
//! one is free, so even removals need room, and so does opening the file again after a failure.

use rustix::fs::statvfs;
use std::path::Path;

/// Room on the file system below which nothing is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// In bytes.
    pub bytes: u64,
    /// Of the whole, in parts of a thousand. The lesser of the two counts, so that a small file
    /// system can be used as well.
    pub permille: u64,
}

impl Default for Reserve {
    /// 64 MiB or 1 %.
    fn default() -> Reserve {
        Reserve {
            bytes: 64 << 20,
            permille: 10,
        }
    }
}

impl Reserve {
    /// Why nothing should be written to this file for now, if so. Says no if the system will not
    /// tell: writing then shows.
    pub(crate) fn shortage(self, path: Option<&Path>) -> Option<String> {
        let status = statvfs(path?).ok()?;
        let free = status.f_bavail.saturating_mul(status.f_frsize);
        let all = status.f_blocks.saturating_mul(status.f_frsize);
        let reserve = self.bytes.min(all / 1_000 * self.permille);
        (free < reserve).then(|| {
            format!(
                "{} KiB are free on the file system, and {} KiB are kept in reserve",
                free >> 10,
                reserve >> 10
            )
        })
    }
}
