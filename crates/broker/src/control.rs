//! `DIR/control.sock`: how other commands of this program talk to a running broker.
//!
//! One request per connection, one line: `backup TARGET`. The answer is lines as well: any number
//! of `progress TEXT`, at last `done TEXT` or `error TEXT`. Only the owner of the directory may
//! connect. Bounded: one request at a time, of [`REQUEST_BYTES_MAX`], sent within
//! [`REQUEST_TIME_MAX`].

use crate::telemetry::{self, CONTROL};
use anyhow::{Context, bail, ensure};
use std::fs::{File, Permissions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing::{debug, field, info, info_span, warn};

/// The socket's name in the directory.
const SOCKET: &str = "control.sock";
/// What it is called until nobody but the owner may connect.
const SOCKET_NEW: &str = "control.sock.new";
/// A path has at most 4,096 bytes.
const REQUEST_BYTES_MAX: u64 = 8_192;
/// How long a request may take to arrive.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(5);
/// How long the broker may be silent; it says something every second.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// Carries out `backup`: to where, and whom to tell how far it has come. Gives a last word.
pub type Backup<'a> =
    dyn Fn(&Path, &mut dyn FnMut(&str) -> io::Result<()>) -> anyhow::Result<String> + 'a;

/// The socket of a directory by a name that is short enough for a socket, however long the path
/// of the directory is; and the open directory, which the name goes through.
pub fn short_path(directory: &Path, name: &str) -> io::Result<(PathBuf, File)> {
    let open = File::open(directory)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{name}", open.as_raw_fd()));
    Ok((path, open))
}

/// The broker's end.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
}

impl Control {
    /// Listens in a directory that this process has locked.
    pub fn listen(directory: &Path) -> anyhow::Result<Control> {
        let (new, open) = short_path(directory, SOCKET_NEW)?;
        let (path, _open) = short_path(directory, SOCKET)?;
        // Of a broker that was killed; whether there is one does not matter.
        let _ = std::fs::remove_file(&new);
        let listener = UnixListener::bind(&new)?;
        std::fs::set_permissions(&new, Permissions::from_mode(0o600))?;
        std::fs::rename(&new, &path)?;
        drop(open);
        Ok(Control { listener })
    }

    /// Answers requests until the process ends.
    pub fn serve(&self, backup: &Backup<'_>) {
        for stream in self.listener.incoming() {
            let answered = stream
                .map_err(Into::into)
                .and_then(|stream| answer(stream, backup));
            if let Err(error) = answered {
                debug!(error = format!("{error:#}"), "control request not answered");
            }
        }
    }
}

/// Removes the socket: nobody listens any more.
pub fn remove(directory: &Path) {
    if let Ok((path, _open)) = short_path(directory, SOCKET) {
        // The next start does it otherwise.
        let _ = std::fs::remove_file(path);
    }
}

fn answer(stream: UnixStream, backup: &Backup<'_>) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(REQUEST_TIME_MAX))?;
    stream.set_write_timeout(Some(REQUEST_TIME_MAX))?;
    let mut request = String::new();
    BufReader::new((&stream).take(REQUEST_BYTES_MAX)).read_line(&mut request)?;
    let say = |word: &str, text: &str| {
        // One line, whatever is in it.
        let text = text.replace('\n', " ");
        (&stream).write_all(format!("{word} {text}\n").as_bytes())
    };
    let target = request
        .strip_suffix('\n')
        .and_then(|request| request.strip_prefix("backup "))
        .map(Path::new)
        .filter(|target| target.is_absolute());
    let Some(target) = target else {
        say("error", "not understood")?;
        bail!("a request that is not understood");
    };
    info!(target = %target.display(), "backup begins");
    let span = info_span!(
        target: CONTROL,
        "backup",
        otel.status_code = field::Empty,
        otel.status_description = field::Empty,
    );
    let progress = &mut |text: &str| say("progress", text);
    match telemetry::within(&span, || backup(target, progress)) {
        Ok(summary) => {
            info!(target = %target.display(), summary, "backup complete");
            say("done", &summary)?;
        }
        Err(error) => {
            let error = format!("{error:#}");
            warn!(target = %target.display(), error, "backup failed");
            say("error", &error)?;
        }
    }
    Ok(())
}

/// Asks the broker that runs on a directory for a backup; `None` if none runs. `progress` hears
/// how far it has come.
pub fn ask_for_backup(
    directory: &Path,
    target: &Path,
    mut progress: impl FnMut(&str),
) -> anyhow::Result<Option<String>> {
    let Ok((path, _open)) = short_path(directory, SOCKET) else {
        return Ok(None);
    };
    let stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        // Nobody listens, or nobody ever has.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::ConnectionRefused | ErrorKind::NotFound
            ) =>
        {
            return Ok(None);
        }
        Err(error) => {
            let socket = directory.join(SOCKET);
            return Err(error).with_context(|| format!("cannot talk to {}", socket.display()));
        }
    };
    stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    let target = target.to_str().context("the target's name is not UTF-8")?;
    ensure!(!target.contains('\n'), "the target's name has a line break");
    (&stream).write_all(format!("backup {target}\n").as_bytes())?;
    for line in BufReader::new(&stream).lines() {
        let line = line.context("the broker does not answer")?;
        match line.split_once(' ') {
            Some(("progress", text)) => progress(text),
            Some(("done", text)) => return Ok(Some(text.to_owned())),
            Some(("error", text)) => bail!("{text}"),
            _ => bail!("the broker says {line:?}, which this version does not understand"),
        }
    }
    bail!("the broker has ended before the backup was complete")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    /// A broker's end in a directory with a long name, and what it does about backups.
    fn served(
        backup: impl Fn(&Path, &mut dyn FnMut(&str) -> io::Result<()>) -> anyhow::Result<String>
        + Send
        + 'static,
    ) -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::TempDir::new().unwrap();
        let directory = root.path().join("d".repeat(150));
        std::fs::create_dir(&directory).unwrap();
        // One that was left behind.
        drop(Control::listen(&directory).unwrap());
        let control = Control::listen(&directory).unwrap();
        std::thread::spawn(move || control.serve(&backup));
        (root, directory)
    }

    #[test]
    fn a_backup_is_asked_for_and_heard_of() {
        let (_root, directory) = served(|target, progress| {
            progress("half\nway")?;
            Ok(format!("all in {}", target.display()))
        });
        let socket = std::fs::metadata(directory.join(SOCKET)).unwrap();
        assert_eq!(socket.mode() & 0o777, 0o600);
        for _ in 0..2 {
            let mut heard = Vec::new();
            let target = Path::new("/some where/else");
            let answer = ask_for_backup(&directory, target, |text| heard.push(text.to_owned()));
            assert_eq!(answer.unwrap().unwrap(), "all in /some where/else");
            assert_eq!(heard, ["half way"]);
        }
    }

    #[test]
    fn failures_and_nonsense_are_answered() {
        let (_root, directory) = served(|_, _| bail!("disk full"));
        let error = ask_for_backup(&directory, Path::new("/x"), |_| {}).unwrap_err();
        assert_eq!(error.to_string(), "disk full");
        let error = ask_for_backup(&directory, Path::new("not/absolute"), |_| {}).unwrap_err();
        assert_eq!(error.to_string(), "not understood");
        let (path, _open) = short_path(&directory, SOCKET).unwrap();
        for nonsense in ["\n", "backup\n", "backup /x", "GET / HTTP/1.1\r\n", ""] {
            let mut stream = UnixStream::connect(&path).unwrap();
            stream.write_all(nonsense.as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "error not understood\n", "{nonsense:?}");
        }
    }

    #[test]
    fn where_nobody_listens_nobody_is_asked() {
        let root = tempfile::TempDir::new().unwrap();
        let ask = |directory: &Path| ask_for_backup(directory, Path::new("/x"), |_| {}).unwrap();
        assert_eq!(ask(&root.path().join("nowhere")), None);
        assert_eq!(ask(root.path()), None);
        drop(Control::listen(root.path()).unwrap());
        assert_eq!(ask(root.path()), None);
        remove(root.path());
        assert!(!root.path().join(SOCKET).exists());
    }
}
