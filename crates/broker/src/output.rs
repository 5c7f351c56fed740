//! What commands write to stdout. That nobody reads on, as behind `| head`, is no failure; anything
//! else that stands in the way is, and is said instead of a panic.

use std::io::{self, ErrorKind, Write, stdout};

/// Writes a text as it is. Errs if stdout cannot be written to.
pub fn print(text: &str) -> io::Result<()> {
    write_to(&mut stdout().lock(), text)
}

/// Writes a line. Errs as [`print`] does.
pub fn line(text: impl std::fmt::Display) -> io::Result<()> {
    print(&format!("{text}\n"))
}

fn write_to(out: &mut impl Write, text: &str) -> io::Result<()> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Failing(ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn only_that_nobody_reads_on_is_no_failure() {
        assert!(write_to(&mut Failing(ErrorKind::BrokenPipe), "x").is_ok());
        let full = write_to(&mut Failing(ErrorKind::StorageFull), "x");
        assert_eq!(full.unwrap_err().kind(), ErrorKind::StorageFull);
    }
}
