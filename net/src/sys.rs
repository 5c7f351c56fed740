//! The system calls that std does not wrap, each behind a safe function or type.
//!
//! Nothing here keeps state of its own; every error is the kernel's.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Turns the kernel's -1 into `errno`.
fn checked(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Binds the calling thread to one CPU.
pub(crate) fn pin_thread(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: an all-zero cpu_set_t is the empty set, a valid value of that plain type.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `cpu` is below CPU_SETSIZE as checked above, so the bit lies inside the set.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the set is initialised and its own size is passed with it; 0 is this thread.
    let result = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) };
    checked(result).map(drop)
}

/// Receives without waiting; 0 is the end of the stream.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and length are those of an exclusively borrowed slice.
    let result = unsafe {
        libc::recv(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            libc::MSG_DONTWAIT,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result as usize)
    }
}

/// Sends without waiting, without a signal if the peer is gone; may send less than all.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the pointer and length are those of a borrowed slice, which the kernel only reads.
    let result = unsafe {
        libc::send(
            socket.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result as usize)
    }
}

/// An eventfd: something a thread can wait for and another can signal.
#[derive(Debug)]
pub(crate) struct Signal(OwnedFd);

impl Signal {
    pub(crate) fn new() -> io::Result<Signal> {
        // SAFETY: eventfd takes no pointers.
        let fd = checked(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: the descriptor is new and nobody else owns it.
        Ok(Signal(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Each call is an edge for whoever waits edge-triggered; nobody needs to read the counter.
    pub(crate) fn raise(&self) {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: the pointer and length are those of a local array. The only possible failure is
        // a counter near 2^64, which means that edges enough have been given.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.0)
    }
}

/// What [`Epoll`] reports: which token, and the EPOLL* bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Readiness {
    pub(crate) token: u64,
    pub(crate) bits: u32,
}

/// An epoll instance and room for what it reports.
#[derive(Debug)]
pub(crate) struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    /// `reports_max` is how much one wait can return.
    pub(crate) fn new(reports_max: usize) -> io::Result<Epoll> {
        // SAFETY: epoll_create1 takes no pointers.
        let fd = checked(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the descriptor is new and nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Epoll {
            fd,
            events: vec![libc::epoll_event { events: 0, u64: 0 }; reports_max],
        })
    }

    /// Begins watching; closing the descriptor ends it.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, bits: i32, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, bits, token)
    }

    /// Watches for something else.
    pub(crate) fn change(&self, fd: BorrowedFd<'_>, bits: i32, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, bits, token)
    }

    /// Ends watching a descriptor that stays open.
    pub(crate) fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    fn control(&self, what: i32, fd: BorrowedFd<'_>, bits: i32, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: bits as u32,
            u64: token,
        };
        // SAFETY: both descriptors are open, being borrowed or owned; the event is a local that
        // the kernel copies.
        let result =
            unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), what, fd.as_raw_fd(), &mut event) };
        checked(result).map(drop)
    }

    /// Waits until something is ready, `timeout` has passed (`None`: for ever), or a signal came.
    /// Returns how many reports there are.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        // Rounded up, so that a deadline is not polled for in its last millisecond.
        let timeout_ms = match timeout {
            None => -1,
            Some(timeout) => timeout.as_micros().div_ceil(1_000).min(i32::MAX as u128) as i32,
        };
        // SAFETY: the pointer and length are those of a vector that is borrowed exclusively.
        let result = unsafe {
            libc::epoll_wait(
                self.fd.as_raw_fd(),
                self.events.as_mut_ptr(),
                self.events.len() as i32,
                timeout_ms,
            )
        };
        match checked(result) {
            Ok(count) => Ok(count as usize),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// One of the reports of the last wait.
    pub(crate) fn report(&self, index: usize) -> Readiness {
        let event = self.events[index];
        Readiness {
            token: event.u64,
            bits: event.events,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    const NOW: Option<Duration> = Some(Duration::ZERO);

    #[test]
    fn every_raise_is_an_edge() {
        let mut epoll = Epoll::new(4).unwrap();
        let signal = Signal::new().unwrap();
        epoll
            .add(signal.fd(), libc::EPOLLIN | libc::EPOLLET, 7)
            .unwrap();
        assert_eq!(epoll.wait(NOW).unwrap(), 0);
        for _ in 0..3 {
            signal.raise();
            assert_eq!(epoll.wait(NOW).unwrap(), 1);
            assert_eq!(epoll.report(0).token, 7);
            assert_eq!(epoll.wait(NOW).unwrap(), 0);
        }
    }

    #[test]
    fn receive_and_send_do_not_wait() {
        let (here, there) = UnixStream::pair().unwrap();
        let mut buffer = [0; 8];
        let error = receive(here.as_fd(), &mut buffer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(send(there.as_fd(), b"abc").unwrap(), 3);
        assert_eq!(receive(here.as_fd(), &mut buffer).unwrap(), 3);
        assert_eq!(&buffer[..3], b"abc");
        let block = vec![0; 1 << 20];
        let error = loop {
            if let Err(error) = send(there.as_fd(), &block) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(here);
        assert_eq!(
            send(there.as_fd(), b"abc").unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
    }

    #[test]
    fn a_cpu_that_is_not_there_is_an_error() {
        std::thread::spawn(|| {
            assert!(pin_thread(1_023).is_err());
            assert!(pin_thread(1 << 40).is_err());
        })
        .join()
        .unwrap();
    }
}
