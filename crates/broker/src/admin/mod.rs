//! The admin API: what operators may see and do while the broker runs. docs/admin.md lists it.
//!
//! One thread of its own, with a runtime of its own, answers HTTP; shards are asked through
//! [`Consoles`] and never wait. It listens on a Unix socket in the data directory, where who may
//! open the socket may do everything, and on the addresses of `--admin`, where all but metrics and
//! health wants the token.

mod answers;
mod client;
mod clients;
pub mod console;
mod drain;
mod explain;
mod lists;
mod log;
mod metrics;
mod process;
mod reload;
mod retained;
mod routes;
mod server;
mod shards;
mod slow;
mod subscriptions;
mod talkers;
pub mod token;
mod trace;

use crate::cpus;
use crate::helpers::Pool;
use crate::reload::Reloads;
use anyhow::Context;
use console::Consoles;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Builder;
use storage::WorkerControl;
use token::Token;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tracing::warn;

/// The Unix socket's name in the data directory.
pub const SOCKET: &str = "admin.sock";

/// Where operators come in.
#[derive(Debug, Default)]
pub struct Doors {
    /// Addresses to listen on.
    pub addresses: Vec<SocketAddr>,
    /// Sockets that a service manager has passed.
    pub tcp: Vec<TcpListener>,
    /// The same, where who may open the socket may do everything.
    pub unix: Vec<UnixListener>,
    /// The file with the token, if it is not the one in the data directory.
    pub token_file: Option<PathBuf>,
}

/// What all requests share.
pub struct State {
    /// The way to the shards.
    pub consoles: Arc<Consoles>,
    /// The way to reloads.
    pub reloads: Reloads,
    /// Whether clients are turned away.
    drains: drain::Drains,
    /// What is known of the rest of the program, once it runs.
    facts: OnceLock<Facts>,
    /// All listeners are open.
    is_ready: AtomicBool,
    /// What opens the addresses; without one they are closed but for metrics and health.
    token: OnceLock<Token>,
}

/// What the admin API says of the program around the shards.
pub struct Facts {
    /// `io_uring` or `epoll`.
    pub driver: &'static str,
    /// The helper threads.
    pub helpers: Arc<Pool>,
    /// The stores of the shards, in order; none if nothing is kept.
    pub stores: Vec<WorkerControl>,
}

/// The admin server. It runs until the process ends.
pub struct Admin {
    state: Arc<State>,
    addresses: Vec<SocketAddr>,
    sockets: UnboundedSender<UnixListener>,
}

impl Admin {
    /// Listens on the addresses and starts the thread on these CPUs. Errs if an address cannot be
    /// had, or the token's file cannot be read.
    pub fn start(
        doors: Doors,
        consoles: Arc<Consoles>,
        reloads: Reloads,
        spare_cpus: &[usize],
    ) -> anyhow::Result<Admin> {
        let mut listeners = doors.tcp;
        for address in &doors.addresses {
            let listener = TcpListener::bind(address)
                .with_context(|| format!("cannot listen on {address} (--admin)"))?;
            listeners.push(listener);
        }
        let mut addresses = Vec::new();
        for listener in &listeners {
            listener.set_nonblocking(true).context("--admin")?;
            addresses.push(listener.local_addr().context("--admin")?);
        }
        let state = Arc::new(State {
            consoles,
            reloads,
            drains: drain::Drains::default(),
            facts: OnceLock::new(),
            is_ready: AtomicBool::new(false),
            token: OnceLock::new(),
        });
        if let Some(path) = &doors.token_file {
            let token = Token::read(path).context("--admin-token-file")?;
            // Set here first.
            let _ = state.token.set(token);
        }
        let (sockets, to_serve) = unbounded_channel();
        for socket in doors.unix {
            socket.set_nonblocking(true).context("the admin socket")?;
            // Its receiver is here still.
            let _ = sockets.send(socket);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("no runtime for the admin API")?;
        let (cpus, shared) = (spare_cpus.to_vec(), Arc::clone(&state));
        Builder::new()
            .name("admin".to_owned())
            .spawn(move || {
                cpus::run_on(&cpus);
                runtime.block_on(server::serve(shared, listeners, to_serve));
            })
            .context("no thread for the admin API")?;
        Ok(Admin {
            state,
            addresses,
            sockets,
        })
    }

    /// Listens in a data directory, too, which this process has locked; its token opens the
    /// addresses unless another one was named. That this fails is no reason not to run.
    pub fn listen_in(&self, directory: &Path) {
        if self.state.token.get().is_none() && !self.addresses.is_empty() {
            match Token::of_directory(directory) {
                Ok(token) => {
                    let _ = self.state.token.set(token);
                }
                Err(error) => warn!(
                    error = format!("{error:#}"),
                    "no token: --admin serves metrics and health alone"
                ),
            }
        }
        match server::bind_in(directory) {
            Ok(listener) => {
                // The thread runs until the process ends.
                let _ = self.sockets.send(listener);
            }
            Err(error) => warn!(%error, "the admin socket does not open"),
        }
    }

    /// From now on `/readyz` says so: all listeners are open.
    pub fn ready(&self, facts: Facts) {
        // Ready once.
        let _ = self.state.facts.set(facts);
        if self.state.token.get().is_none() && !self.addresses.is_empty() {
            warn!("without --admin-token-file, --admin serves metrics and health alone here");
        }
        self.state.is_ready.store(true, Ordering::Relaxed);
    }

    /// The broker stops: `/readyz` says so.
    pub fn stopping(&self) {
        self.state.is_ready.store(false, Ordering::Relaxed);
    }

    /// What is listened on, with the ports that were picked.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

/// Removes the socket of a data directory: nobody listens any more.
pub fn remove_socket(directory: &Path) {
    server::remove_from(directory);
}
