//! The admin API's listeners: sockets become requests, and requests go to the routes.
//!
//! Bounded: [`CONNECTIONS_MAX`] connections, of which each is at one request at a time; a head must
//! have come within [`HEAD_TIME_MAX`], and a body has [`BODY_BYTES_MAX`] bytes at most.

use super::{SOCKET, State, routes};
use crate::control::short_path;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::fs::Permissions;
use std::future::pending;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedReceiver;
use tracing::{debug, warn};

/// Connections that may be open.
const CONNECTIONS_MAX: usize = 128;
/// How long the head of a request may take to come.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// Bytes of a request's body.
const BODY_BYTES_MAX: usize = 64 * 1_024;
/// How long accepting pauses when the system has no more descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until the process ends: the addresses from now on, and Unix sockets as they come.
pub async fn serve(
    state: Arc<State>,
    listeners: Vec<TcpListener>,
    mut sockets: UnboundedReceiver<UnixListener>,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let guarded = routes::guarded(&state).layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    let free = routes::free(&state).layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    for listener in listeners {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => {
                let (routes, room) = (guarded.clone(), Arc::clone(&room));
                tokio::spawn(accept_tcp(listener, routes, room));
            }
            Err(error) => warn!(%error, "an admin listener cannot be watched"),
        }
    }
    while let Some(socket) = sockets.recv().await {
        match tokio::net::UnixListener::from_std(socket) {
            Ok(listener) => {
                let (routes, room) = (free.clone(), Arc::clone(&room));
                tokio::spawn(accept_unix(listener, routes, room));
            }
            Err(error) => warn!(%error, "the admin socket cannot be watched"),
        }
    }
    pending::<()>().await;
}

async fn accept_tcp(listener: tokio::net::TcpListener, routes: Router, room: Arc<Semaphore>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => answer(stream, &routes, &room),
            Err(error) => pause(&error).await,
        }
    }
}

async fn accept_unix(listener: tokio::net::UnixListener, routes: Router, room: Arc<Semaphore>) {
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
fn answer<S>(stream: S, routes: &Router, room: &Arc<Semaphore>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Ok(place) = Arc::clone(room).try_acquire_owned() else {
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
    let (new, _open) = short_path(directory, &format!("{SOCKET}.new"))?;
    let (path, _open_too) = short_path(directory, SOCKET)?;
    // Of a broker that was killed; whether there is one does not matter.
    let _ = std::fs::remove_file(&new);
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, Permissions::from_mode(0o600))?;
    std::fs::rename(&new, &path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Removes the socket.
pub fn remove_from(directory: &Path) {
    if let Ok((path, _open)) = short_path(directory, SOCKET) {
        // The next start does it otherwise.
        let _ = std::fs::remove_file(path);
    }
}
