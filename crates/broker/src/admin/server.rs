//! The admin API's server: sockets become requests, and requests go to the routes.
//!
//! Bounded: [`CONNECTIONS_MAX`] connections by TCP and as many by Unix sockets, so that strangers keep
//! nobody on this machine out. Each is at one request at a time; a head must
//! have come within [`HEAD_TIME_MAX`], and a body has [`BODY_BYTES_MAX`] bytes at most.

use super::{SOCKET, State, routes};
use crate::control::short_path;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::Permissions;
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tracing::{debug, warn};

/// Connections that may be open by TCP, and by Unix sockets.
const CONNECTIONS_MAX: usize = 128;
/// How long the head of a request may take to come.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// Bytes of a request's body.
const BODY_BYTES_MAX: usize = 64 * 1_024;
/// How long accepting pauses when the system has no more descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Between two lines that say that there is no room.
const SILENCE: Duration = Duration::from_secs(10);

/// Room for connections of one kind.
struct Room {
    places: Arc<Semaphore>,
    /// Which kind, for people.
    kind: &'static str,
    /// When it was last said that there is none.
    said: Mutex<Option<Instant>>,
}

impl Room {
    fn new(kind: &'static str) -> Arc<Room> {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let said = Mutex::new(None);
        Arc::new(Room { places, kind, said })
    }

    fn place(&self) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok();
        if place.is_none() {
            let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            if said.is_none_or(|said| said.elapsed() >= SILENCE) {
                *said = Some(Instant::now());
                let (kind, most) = (self.kind, CONNECTIONS_MAX);
                warn!(
                    kind,
                    most, "admin connections are full: further ones are closed"
                );
            }
        }
        place
    }
}

/// Something to accept from, which does not block.
#[derive(Debug)]
pub enum Socket {
    /// Where all but metrics and health wants the token.
    Tcp(TcpListener),
    /// Where who may open it may do everything.
    Unix(UnixListener),
}

/// What the server's thread is told.
#[derive(Debug)]
pub enum Order {
    /// Accept from this one, which has this number.
    Open(u64, Socket),
    /// Accept no more from the one of this number; connections stay. Says when it is closed.
    Close(u64, Sender<()>),
}

/// Serves until the process ends.
pub async fn serve(state: Arc<State>, mut orders: UnboundedReceiver<Order>) {
    let (by_tcp, by_unix) = (Room::new("tcp"), Room::new("unix"));
    let guarded = routes::guarded(&state).layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    let free = routes::free(&state).layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    let mut accepting: HashMap<u64, JoinHandle<()>> = HashMap::new();
    while let Some(order) = orders.recv().await {
        match order {
            Order::Open(number, socket) => {
                let (by_tcp, by_unix) = (Arc::clone(&by_tcp), Arc::clone(&by_unix));
                let task = match socket {
                    Socket::Tcp(socket) => tokio::net::TcpListener::from_std(socket)
                        .map(|socket| tokio::spawn(accept_tcp(socket, guarded.clone(), by_tcp))),
                    Socket::Unix(socket) => tokio::net::UnixListener::from_std(socket)
                        .map(|socket| tokio::spawn(accept_unix(socket, free.clone(), by_unix))),
                };
                match task {
                    Ok(task) => drop(accepting.insert(number, task)),
                    Err(error) => warn!(%error, "an admin listener cannot be watched"),
                }
            }
            Order::Close(number, done) => {
                if let Some(task) = accepting.remove(&number) {
                    task.abort();
                    // With the task goes its socket.
                    let _ = task.await;
                }
                // Whoever has asked may have lost patience.
                let _ = done.send(());
            }
        }
    }
}

async fn accept_tcp(listener: tokio::net::TcpListener, routes: Router, room: Arc<Room>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => answer(stream, &routes, &room),
            Err(error) => pause(&error).await,
        }
    }
}

async fn accept_unix(listener: tokio::net::UnixListener, routes: Router, room: Arc<Room>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => answer(stream, &routes, &room),
            Err(error) => pause(&error).await,
        }
    }
}

async fn pause(error: &io::Error) {
    debug!(%error, "an admin connection was not accepted");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// Answers what comes on a connection; without room it is closed at once.
fn answer<S>(stream: S, routes: &Router, room: &Room)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Some(place) = room.place() else {
        return;
    };
    let service = TowerToHyperService::new(routes.clone());
    tokio::spawn(async move {
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            debug!(%error, "an admin connection ended");
        }
        drop(place);
    });
}

/// Listens in a directory that this process has locked: for its owner alone, from the first moment
/// that there is something to connect to.
pub fn bind_in(directory: &Path) -> io::Result<UnixListener> {
    bind_as(directory, SOCKET)
}

fn bind_as(directory: &Path, name: &str) -> io::Result<UnixListener> {
    let (new, _open) = short_path(directory, &format!("{name}.new"))?;
    let (path, _open_too) = short_path(directory, name)?;
    // Of a broker that was killed; whether there is one does not matter.
    let _ = std::fs::remove_file(&new);
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, Permissions::from_mode(0o600))?;
    std::fs::rename(&new, &path)?;
    Ok(listener)
}

/// Listens at a path that somebody has named, as above; the directory must be there. Errs if
/// somebody answers there, or something else than a socket is there.
pub fn bind_at(path: &Path) -> io::Result<UnixListener> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(OsStr::to_str))
    else {
        return Err(io::Error::new(ErrorKind::InvalidInput, "no name of a file"));
    };
    let directory = match directory.as_os_str().is_empty() {
        true => Path::new("."),
        false => directory,
    };
    let (short, _open) = short_path(directory, name)?;
    match std::fs::symlink_metadata(&short) {
        Ok(found) if !found.file_type().is_socket() => {
            let what = "what is there is no socket";
            return Err(io::Error::new(ErrorKind::AlreadyExists, what));
        }
        // Of one that is refused for another reason nobody knows whether somebody listens.
        Ok(_) => match UnixStream::connect(&short) {
            Ok(_) => return Err(io::Error::from(ErrorKind::AddrInUse)),
            Err(error) => match error.kind() {
                // Nobody, or no longer there.
                ErrorKind::ConnectionRefused | ErrorKind::NotFound => {}
                _ => return Err(error),
            },
        },
        Err(_) => {}
    }
    bind_as(directory, name)
}

/// Removes the socket.
pub fn remove_from(directory: &Path) {
    if let Ok((path, _open)) = short_path(directory, SOCKET) {
        // The next start does it otherwise.
        let _ = std::fs::remove_file(path);
    }
}
