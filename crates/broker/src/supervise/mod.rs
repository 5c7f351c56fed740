//! What a service manager such as systemd is told, after sd_notify(3), and what it passes. Without
//! one (NOTIFY_SOCKET is not set) nothing is told, and nothing else changes.

pub mod activation;
pub mod watchdog;

use sd_notify::NotifyState;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tracing::warn;

/// A start or a stop that makes progress may take this much longer, from each step on.
const STEP_MAX: Duration = Duration::from_secs(120);

/// The listeners are open. `status` is what `systemctl status` then shows.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(&line(status))]);
}

/// A long step of the start has come further, or has not since the last call: only then the
/// service manager may lose patience.
pub fn progress(status: &str, has_moved: bool) {
    let line = line(status);
    let status = NotifyState::Status(&line);
    if has_moved {
        tell(&[status, extend(STEP_MAX)]);
    } else {
        tell(&[status]);
    }
}

/// The end has begun, and takes no longer than this; all that is kept is safe if the service
/// manager ends it by force then.
pub fn stopping(status: &str, within: Duration) {
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status(&line(status)),
        extend(within),
    ]);
}

/// Does the work of a reload, with the service manager knowing of it: `systemctl reload` of a
/// Type=notify-reload unit returns when it is done. The status afterwards is what `work` returns
/// beside its result; none leaves it as it was.
pub fn while_reloading<T>(work: impl FnOnce() -> (T, Option<String>)) -> T {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        // Type=notify needs no more.
        Err(_) => tell(&[NotifyState::Reloading]),
    }
    let (result, status) = work();
    match status {
        Some(status) => ready(&status),
        None => tell(&[NotifyState::Ready]),
    }
    result
}

/// All is well, so the watchdog need not bite.
fn feed() {
    tell(&[NotifyState::Watchdog]);
}

fn extend(by: Duration) -> NotifyState<'static> {
    NotifyState::ExtendTimeoutUsec(u32::try_from(by.as_micros()).unwrap_or(u32::MAX))
}

/// One message is one variable per line, so a text has only one.
fn line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// Failing is said once: it would fail each time.
fn tell(states: &[NotifyState<'_>]) {
    static HAS_FAILED: AtomicBool = AtomicBool::new(false);
    if let Err(error) = sd_notify::notify(states)
        && !HAS_FAILED.swap(true, Ordering::Relaxed)
    {
        warn!(%error, "the service manager cannot be told how this goes (NOTIFY_SOCKET)");
    }
}
