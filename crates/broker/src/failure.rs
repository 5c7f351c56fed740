//! Why the broker did not start, said so that the reader knows what to do next.

use crate::arguments::ServeArguments;
use anyhow::anyhow;
use net::StartError;
use std::io;
use std::net::SocketAddr;

/// Puts a failure of the driver into the words of the command line.
pub fn explain(error: StartError, arguments: &ServeArguments) -> anyhow::Error {
    match error {
        StartError::Listen { address, error } => {
            let flag = flag_of(address, arguments);
            anyhow!(
                "cannot listen on {address} ({flag}): {}",
                listen_hint(&error, address)
            )
        }
        StartError::IoUringRefused(why) => anyhow!(
            "--driver io_uring: io_uring is refused here: {why}; use --driver auto or epoll, or \
             allow it (kernel.io_uring_disabled = 0, Docker: a seccomp profile that permits it)"
        ),
        error => anyhow!(error),
    }
}

/// The flag that asks for this address.
fn flag_of(address: SocketAddr, arguments: &ServeArguments) -> &'static str {
    if arguments.mqtt.contains(&address) {
        "--mqtt"
    } else if arguments.http.contains(&address) {
        "--http"
    } else if arguments.mqtt_addresses().contains(&address) {
        "the default of --mqtt"
    } else {
        "the default of --http"
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
