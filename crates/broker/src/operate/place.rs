//! Where the broker is that a command is about: as a flag says, else as the configuration of the
//! broker says, whatever else is wrong with that.

use crate::config::{Environment, Loaded, Sources};
use crate::control::short_path;
use anyhow::bail;
use clap::Args;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Which directory a command works on.
#[derive(Args, Clone, Debug, Default)]
pub struct DataArguments {
    /// The directory that the broker keeps its state in [default: general.data of the broker's
    /// configuration, which is /var/lib/meshring unless it says otherwise]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// The broker's configuration, where --data does not say the directory
    /// [default: /etc/meshring/meshring.toml if it exists] [env: MESHRING_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl DataArguments {
    /// The directory; says on stderr which it is, unless it was named. Errs if the configuration that
    /// was named, or that there is, cannot be read, or has errors and does not say the directory.
    pub fn directory(&self) -> anyhow::Result<PathBuf> {
        if let Some(data) = &self.data {
            return Ok(data.clone());
        }
        let loaded = glance(self.config.as_deref(), false).map_err(anyhow::Error::msg)?;
        // What is wrong elsewhere is no matter; but where nobody has said the directory, what is wrong
        // may have been meant to, and the default is no guess to write by.
        if let Some(problem) = loaded.warnings.first()
            && loaded.is_default("general.data")
        {
            bail!("{problem}; mend the file, or name the directory by --data");
        }
        let data = loaded.config.general.data.clone();
        let blame = loaded.blame("general.data");
        eprintln!("data directory: {} ({blame})", data.display());
        Ok(data)
    }
}

/// A Unix socket, and who has said where it is.
#[derive(Clone, Debug)]
pub struct Place {
    path: PathBuf,
    said_by: String,
}

impl Place {
    /// At this path, as somebody says.
    pub fn new(path: &Path, said_by: &str) -> Place {
        Place {
            path: path.to_owned(),
            said_by: said_by.to_owned(),
        }
    }

    /// A name of the socket that is short enough for one, and the open directory that it goes through.
    pub fn short(&self) -> io::Result<(PathBuf, File)> {
        let name = self.path.file_name().and_then(OsStr::to_str);
        let name = name.ok_or(ErrorKind::InvalidInput)?;
        let directory = self.path.parent().unwrap_or(Path::new(""));
        match directory.as_os_str().is_empty() {
            true => short_path(Path::new("."), name),
            false => short_path(directory, name),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.path.display(), self.said_by)
    }
}

/// What the configuration of the broker says.
pub fn glance(config: Option<&Path>, dev: bool) -> Result<Loaded, String> {
    Sources {
        dev,
        file: config.map(Path::to_owned),
        environment: Environment::of_process(),
        flags: Vec::new(),
    }
    .glance()
}
