//! What this process asks of its host, once, before it starts a thread.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// How late a timer may be, in nanoseconds.
const TIMER_SLACK_NS: libc::c_ulong = 1_000;

/// Asks the kernel for pages of 4 KiB instead of transparent huge pages of 2 MiB, for all memory
/// that is touched from here on. With huge pages a broker of a few thousand connections keeps
/// megabytes that it never uses: 855 instead of 413 resident bytes per connection at 19,000
/// connections. Returns whether the kernel agreed; nothing depends on it.
pub fn prefer_small_pages() -> bool {
    // SAFETY: PR_SET_THP_DISABLE reads its four integer arguments and touches no memory of ours.
    let result = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
    result == 0
}

/// Asks the kernel to end waits of threads that are started from here on within a microsecond of
/// their time, instead of the usual 50: a shard that lets receives gather for 100 µs would else
/// often do so for 150. Returns whether the kernel agreed; nothing depends on it.
pub fn prefer_exact_timers() -> bool {
    // SAFETY: PR_SET_TIMERSLACK reads an integer argument and touches no memory of ours.
    let result = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, TIMER_SLACK_NS, 0, 0, 0) };
    result == 0
}

/// Makes the process's table of open files large enough for so many at once. To be called while
/// there is one thread only: then it takes microseconds. If it grows while there are several, at
/// each doubling the kernel makes the thread that opens a file, or accepts a connection, wait until
/// all CPUs have passed through a quiet state, which takes 10 to 20 ms here. The kernel holds 8
/// bytes per place. Errs if the limit on open files is lower; nothing depends on it.
pub fn reserve_descriptors(count: u32) -> io::Result<()> {
    let file = File::open("/dev/null")?;
    let last = i32::try_from(count.saturating_sub(1)).unwrap_or(i32::MAX);
    // SAFETY: the descriptor is open, and F_DUPFD_CLOEXEC takes an integer and touches no memory of
    // ours.
    let copy = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, last) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows of it.
    drop(unsafe { OwnedFd::from_raw_fd(copy) });
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn descriptors_are_reserved_up_to_the_limit() {
        let size = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find(|line| line.starts_with("FDSize:"));
            let number = line.unwrap().trim_start_matches("FDSize:").trim();
            number.parse::<u32>().unwrap()
        };
        super::reserve_descriptors(700).unwrap();
        assert!(size() >= 700);
        assert!(super::reserve_descriptors(u32::MAX).is_err());
    }

    #[test]
    fn threads_started_later_have_exact_timers() {
        assert!(super::prefer_exact_timers());
        // SAFETY: PR_GET_TIMERSLACK takes no pointer.
        let slack = || unsafe { libc::prctl(libc::PR_GET_TIMERSLACK, 0, 0, 0, 0) };
        assert_eq!(std::thread::spawn(slack).join().unwrap(), 1_000);
    }

    #[test]
    fn the_kernel_remembers() {
        assert!(super::prefer_small_pages());
        // SAFETY: PR_GET_THP_DISABLE takes no pointer.
        let disabled = unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, 0, 0, 0, 0) };
        assert_eq!(disabled, 1);
    }
}
