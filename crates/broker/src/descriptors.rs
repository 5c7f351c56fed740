//! The limit on open files: every connection is one, so the soft limit, which is 1,024 on many
//! systems, is raised to the hard one.

use rlimit::Resource;
use tracing::{info, warn};

/// Below this, the log warns: it leaves room for about as many connections.
const DESCRIPTORS_MIN: u64 = 4_096;

/// Places made in the table of open files from the start, where the limit allows: half a megabyte
/// of the kernel's memory. What lies beyond grows by doubling, and rarely.
const DESCRIPTORS_RESERVED_MAX: u64 = 65_536;

/// Raises the soft limit to the hard limit, makes room for as many files up to a bound, and logs
/// the result. To be called before there is a second thread. Failing to is no reason not to start,
/// since the broker works with fewer connections, and makes room as they come.
pub fn raise_limit() {
    let limits = match Resource::NOFILE.get() {
        Ok(limits) => limits,
        Err(error) => return warn!(%error, "cannot read the limit on open files"),
    };
    let (soft, hard) = limits;
    if soft < hard
        && let Err(error) = Resource::NOFILE.set(hard, hard)
    {
        return warn!(%error, soft, hard, "cannot raise the limit on open files");
    }
    let reserved = hard.min(DESCRIPTORS_RESERVED_MAX) as u32;
    if let Err(error) = net::reserve_descriptors(reserved) {
        warn!(%error, reserved, "cannot make the table of open files large from the start");
    }
    if hard < DESCRIPTORS_MIN {
        warn!(
            limit = hard,
            "few connections are possible: the hard limit on open files is low; raise it with \
             `ulimit -Hn`, LimitNOFILE= (systemd) or --ulimit nofile= (Docker)"
        );
    } else {
        info!(before = soft, now = hard, "limit on open files");
    }
}
