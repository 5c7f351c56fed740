//! The limit on open files: every connection is one, so the soft limit, which is 1,024 on many
//! systems, is raised to the hard one.

use rlimit::Resource;
use tracing::{info, warn};

/// Below this, the log warns: it leaves room for about as many connections.
const DESCRIPTORS_MIN: u64 = 4_096;

/// Raises the soft limit to the hard limit and logs the result. Failing to is no reason not to
/// start, since the broker works with fewer connections.
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
