//! The admin API: what operators may see and do while the broker runs. docs/admin.md lists it.
//!
//! One thread of its own, with a runtime of its own, answers HTTP; shards are asked through
//! [`Consoles`] and never wait. It listens on a Unix socket in the data directory and on the one of
//! `admin.socket`, where who may open the socket may do everything, and on the addresses of `--admin`,
//! where all but metrics and health wants the token.

mod answers;
mod client;
mod clients;
pub mod console;
mod drain;
mod explain;
mod listeners;
mod lists;
mod log;
mod metrics;
mod observe;
mod process;
mod reload;
mod retained;
mod routes;
mod server;
mod shards;
mod slow;
mod sockets;
mod subscriptions;
mod talkers;
pub mod token;
mod trace;

use crate::cpus;
use crate::helpers::Pool;
use crate::reload::Reloads;
use anyhow::Context;
use console::Consoles;
use listeners::{Listeners, Place};
use server::Socket;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::thread::Builder;
use storage::WorkerControl;
use token::Token;
use tokio::sync::mpsc::unbounded_channel;
use tracing::warn;

/// The Unix socket's name in the data directory.
pub const SOCKET: &str = "admin.sock";

/// Where operators come in.
#[derive(Debug, Default)]
pub struct Doors {
    /// Addresses to listen on.
    pub addresses: Vec<SocketAddr>,
    /// A Unix socket beside the one in the data directory.
    pub socket: Option<PathBuf>,
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
    token: RwLock<Option<Token>>,
}

impl State {
    /// What opens the addresses.
    fn token(&self) -> Option<Token> {
        // A token is whole at any moment.
        let token = self.token.read().unwrap_or_else(PoisonError::into_inner);
        token.clone()
    }

    fn set_token(&self, token: Option<Token>) {
        *self.token.write().unwrap_or_else(PoisonError::into_inner) = token;
    }
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
    listeners: Mutex<Listeners>,
    /// Where a token is kept, if there is such a place.
    directory: OnceLock<PathBuf>,
}

/// Another configuration, half way: to be settled, or given up.
#[derive(Debug)]
pub struct Change {
    listeners: listeners::Change,
    token: Option<Token>,
}

impl Admin {
    /// Listens and starts the thread on these CPUs. Errs if an address cannot be had, or the token's
    /// file cannot be read.
    pub fn start(
        doors: Doors,
        consoles: Arc<Consoles>,
        reloads: Reloads,
        spare_cpus: &[usize],
    ) -> anyhow::Result<Admin> {
        let (orders, to_do) = unbounded_channel();
        let mut listeners = Listeners::new(orders);
        for socket in doors.tcp {
            let place = Place::Address(socket.local_addr().context("--admin")?);
            let kept = listeners.keep(Socket::Tcp(socket), place);
            kept.map_err(anyhow::Error::msg)?;
        }
        for socket in doors.unix {
            let place = Place::File(PathBuf::from("a socket that was passed"));
            let kept = listeners.keep(Socket::Unix(socket), place);
            kept.map_err(anyhow::Error::msg)?;
        }
        let wanted = listeners::places(&doors.addresses, doors.socket.as_deref());
        // Nothing is closed by the first.
        listeners.begin(&wanted).map_err(anyhow::Error::msg)?;
        let token = doors.token_file.as_deref().map(Token::read).transpose();
        let state = Arc::new(State {
            consoles,
            reloads,
            drains: drain::Drains::default(),
            facts: OnceLock::new(),
            is_ready: AtomicBool::new(false),
            token: RwLock::new(token.context("--admin-token-file")?),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("no runtime for the admin API")?;
        let (cpus, shared) = (spare_cpus.to_vec(), Arc::clone(&state));
        Builder::new()
            .name("admin".to_owned())
            .spawn(move || {
                cpus::run_on(&cpus);
                runtime.block_on(server::serve(shared, to_do));
            })
            .context("no thread for the admin API")?;
        Ok(Admin {
            state,
            listeners: Mutex::new(listeners),
            directory: OnceLock::new(),
        })
    }

    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        // Only what is known of the sockets could be wrong, and it is written down at once.
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens in a data directory, too, which this process has locked; its token opens the
    /// addresses unless another one was named. That this fails is no reason not to run.
    pub fn listen_in(&self, directory: &Path) {
        // Called once.
        let _ = self.directory.set(directory.to_owned());
        if self.state.token().is_none() && self.listeners().has_addresses() {
            match Token::of_directory(directory) {
                Ok(token) => self.state.set_token(Some(token)),
                Err(error) => warn!(
                    error = format!("{error:#}"),
                    "no token: --admin serves metrics and health alone"
                ),
            }
        }
        let place = Place::File(directory.join(SOCKET));
        let listening = server::bind_in(directory)
            .map_err(|error| error.to_string())
            .and_then(|socket| self.listeners().keep(Socket::Unix(socket), place));
        if let Err(error) = listening {
            warn!(error, "the admin socket does not open");
        }
    }

    /// Opens what another configuration has come, and reads its token. Errs, with everything as it
    /// was, if that cannot be.
    pub fn begin_change(&self, doors: &Doors) -> Result<Change, String> {
        let token = match (&doors.token_file, self.directory.get()) {
            (Some(path), _) => Token::read(path).map(Some),
            (None, Some(directory)) if !doors.addresses.is_empty() => {
                Token::of_directory(directory).map(Some)
            }
            (None, _) => Ok(None),
        };
        let token = token.map_err(|error| format!("{error:#}"))?;
        let wanted = listeners::places(&doors.addresses, doors.socket.as_deref());
        let listeners = self.listeners().begin(&wanted)?;
        Ok(Change { listeners, token })
    }

    /// Closes what another configuration has go; its token opens the addresses.
    pub fn settle(&self, change: Change) {
        // A socket that was passed is opened by the token, too, though no address is configured.
        if change.token.is_some() {
            self.state.set_token(change.token);
        }
        self.listeners().settle(change.listeners);
        self.say_whether_open();
    }

    /// Everything is as it was.
    pub fn give_up(&self, change: Change) {
        self.listeners().give_up(change.listeners);
    }

    fn say_whether_open(&self) {
        if self.state.token().is_none() && self.listeners().has_addresses() {
            warn!("without --admin-token-file, --admin serves metrics and health alone here");
        }
    }

    /// From now on `/readyz` says so: all listeners are open.
    pub fn ready(&self, facts: Facts) {
        // Ready once.
        let _ = self.state.facts.set(facts);
        self.say_whether_open();
        self.state.is_ready.store(true, Ordering::Relaxed);
    }

    /// The broker stops: `/readyz` says so.
    pub fn stopping(&self) {
        self.state.is_ready.store(false, Ordering::Relaxed);
    }

    /// What is listened on, with the ports that were picked.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners().addresses()
    }

    /// Removes the files of the Unix sockets: the process ends.
    pub fn remove_sockets(&self) {
        if let Some(directory) = self.directory.get() {
            server::remove_from(directory);
        }
        self.listeners().remove_files();
    }
}
