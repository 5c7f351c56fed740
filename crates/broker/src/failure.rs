//! Why the broker did not start, said so that the reader knows what to do next.

use crate::config::Loaded;
use anyhow::anyhow;
use net::StartError;
use std::io;
use std::net::SocketAddr;

/// Puts a failure of the driver into the words of the command line.
pub fn explain(error: StartError, loaded: &Loaded) -> anyhow::Error {
    match error {
        StartError::Listen { address, error } => {
            let who = blame(address, loaded);
            anyhow!(
                "cannot listen on {address} ({who}): {}",
                listen_hint(&error, address)
            )
        }
        StartError::IoUringRefused(why) => anyhow!(
            "--driver io_uring: io_uring is refused here: {why}; use --driver auto or epoll, or \
             allow it (kernel.io_uring_disabled = 0, Docker: a seccomp profile that permits it)"
        ),
        // It names the file and says what to do.
        StartError::Store { reason, .. } => anyhow!(reason),
        error => anyhow!(error),
    }
}

/// Who asks for this address.
fn blame(address: SocketAddr, loaded: &Loaded) -> String {
    match loaded.config.mqtt.listen.contains(&address) {
        true => loaded.blame("mqtt.listen"),
        false => loaded.blame("http.listen"),
    }
}

fn listen_hint(error: &io::Error, address: SocketAddr) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "the address is in use by another program; stop that one or choose another port".into()
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address; see `ip address`".into()
        }
        io::ErrorKind::PermissionDenied => format!(
            "no permission for port {}; ports below 1024 need CAP_NET_BIND_SERVICE",
            address.port()
        ),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{Arguments, Command};
    use crate::config::Environment;
    use crate::config::flags::LogFlags;
    use clap::Parser;

    #[track_caller]
    fn check(line: &str, error: StartError, words: &[&str]) {
        let Command::Serve(arguments) = Arguments::parse_from(line.split(' ')).command else {
            panic!("{line}");
        };
        let mut sources = arguments.sources(&LogFlags::default());
        sources.environment = Environment::default();
        let loaded = sources.load_without_file().unwrap();
        let said = explain(error, &loaded).to_string();
        for word in words {
            assert!(said.contains(word), "{said:?} should say {word:?}");
        }
    }

    fn listen(address: &str, kind: io::ErrorKind) -> StartError {
        let address = address.parse().unwrap();
        StartError::Listen {
            address,
            error: kind.into(),
        }
    }

    #[test]
    fn an_address_is_blamed_on_the_flag_that_asked_for_it() {
        let in_use = |address| listen(address, io::ErrorKind::AddrInUse);
        let line = "meshring serve --mqtt 127.0.0.1:1 --http 127.0.0.1:2";
        check(
            line,
            in_use("127.0.0.1:1"),
            &["127.0.0.1:1 (--mqtt)", "in use"],
        );
        check(
            line,
            in_use("127.0.0.1:2"),
            &["127.0.0.1:2 (--http)", "in use"],
        );
        let line = "meshring serve --dev";
        check(line, in_use("127.0.0.1:1883"), &["(the default of --mqtt)"]);
        check(line, in_use("127.0.0.1:3000"), &["(the default of --http)"]);
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        let line = "meshring serve --mqtt 127.0.0.1:1";
        let denied = listen("127.0.0.1:1", io::ErrorKind::PermissionDenied);
        check(line, denied, &["port 1", "CAP_NET_BIND_SERVICE"]);
        let missing = listen("127.0.0.1:1", io::ErrorKind::AddrNotAvailable);
        check(line, missing, &["no such address"]);
        let refused = StartError::IoUringRefused("not permitted".to_owned());
        check(
            line,
            refused,
            &["--driver io_uring", "not permitted", "--driver auto"],
        );
    }
}
