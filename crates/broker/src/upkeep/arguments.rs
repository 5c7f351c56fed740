//! The command lines of `meshring backup`, `restore`, `check` and `repair`, and their help.

use crate::operate::place::DataArguments;
use clap::Args;
use std::path::PathBuf;

/// Below the flags in its `--help`.
pub const BACKUP_NOTES: &str = "\
A backup is a directory of its own. Of a running broker it is consistent per
shard: each shard's file is copied as it is at one moment, while the broker
goes on. The broker is asked through DIR/control.sock, so run this as the user
that the broker runs as. If no broker runs, the files are copied as they are.

Exit codes:
  0  the backup is complete and on disk    1  failed    2  wrong usage

Examples:
  meshring backup /backup/mqtt-monday
  meshring backup --data ./data ./data-copy
      The TARGET directory must not exist yet, or be empty.";

/// Below the flags in its `--help`.
pub const RESTORE_NOTES: &str = "\
No broker may run on the directory. What it holds is replaced as a whole; with
--force also if it holds anything. The number of shards need not be that of the
broker: it rewrites the files when it starts.

Exit codes:
  0  restored    1  failed, nothing has changed    2  wrong usage

Examples:
  meshring restore /backup/mqtt-monday
  meshring restore /backup/mqtt-monday --data ./data --force";

/// Below the flags in its `--help`.
pub const CHECK_NOTES: &str = "\
Verifies checksums and reads every record; changes nothing. No broker may run
on the directory: check a backup of a running one instead.

Exit codes:
  0  all is well    1  could not check    2  wrong usage    3  damage found

Examples:
  meshring check
  meshring check --data /backup/mqtt-monday --json";

/// Below the flags in its `--help`.
pub const REPAIR_NOTES: &str = "\
Reads what can still be read of damaged files, writes new files of it, and
keeps the damaged ones beside them. A missing file becomes an empty one. What
is lost is said; `meshring restore` of a backup may lose less.

Exit codes:
  0  usable again, or there was no damage    1  failed    2  wrong usage

Examples:
  meshring check; meshring repair";

/// Flags of `meshring backup`.
#[derive(Args, Debug)]
pub struct BackupArguments {
    /// Where the backup goes: a directory that does not exist yet, or is empty
    pub target: PathBuf,
    /// Of what.
    #[command(flatten)]
    pub data: DataArguments,
}

/// Flags of `meshring restore`.
#[derive(Args, Debug)]
pub struct RestoreArguments {
    /// A directory that `meshring backup` has written
    pub backup: PathBuf,
    /// To where.
    #[command(flatten)]
    pub data: DataArguments,
    /// Replace what the directory holds
    #[arg(long)]
    pub force: bool,
}

/// Flags of `meshring check`.
#[derive(Args, Debug)]
pub struct CheckArguments {
    /// Of what.
    #[command(flatten)]
    pub data: DataArguments,
    /// Say it as JSON on stdout
    #[arg(long)]
    pub json: bool,
}

/// Flags of `meshring repair`.
#[derive(Args, Debug)]
pub struct RepairArguments {
    /// Of what.
    #[command(flatten)]
    pub data: DataArguments,
}
