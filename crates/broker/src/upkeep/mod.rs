//! `meshring backup`, `restore`, `check` and `repair`: what is done to a data directory from
//! outside of the broker.

pub mod arguments;

use crate::control::ask_for_backup;
use crate::data::now;
use crate::output;
use anyhow::Context;
use arguments::{BackupArguments, CheckArguments, RepairArguments, RestoreArguments};
use serde_json::{Value, json};
use std::process::ExitCode;
use storage::{FileReport, Loaded, Report, StoreError};

/// The exit code of a check that has found damage.
const DAMAGE: u8 = 3;

/// Copies a data directory, through the broker if one runs.
pub fn backup(arguments: &BackupArguments) -> anyhow::Result<ExitCode> {
    let directory = &arguments.data.directory()?;
    // The broker has a current directory of its own.
    let target = std::path::absolute(&arguments.target)
        .with_context(|| format!("no target can be {}", arguments.target.display()))?;
    let progress = |text: &str| eprintln!("{text}");
    let summary = match ask_for_backup(directory, &target, progress)? {
        Some(summary) => summary,
        None => match storage::backup_at_rest(directory, now(), &target) {
            Ok(loaded) => summary_of(&loaded),
            Err(error @ StoreError::InUse { .. }) => {
                return Err(error).context("the broker is starting or stopping; try again");
            }
            Err(error) => return Err(error.into()),
        },
    };
    output::line(format_args!(
        "{} is a backup of {}: {summary}",
        target.display(),
        directory.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Puts a backup in the place of a data directory's contents.
pub fn restore(arguments: &RestoreArguments) -> anyhow::Result<ExitCode> {
    let (backup, directory) = (&arguments.backup, &arguments.data.directory()?);
    let loaded = match storage::restore(backup, directory, arguments.force, now()) {
        Err(error @ StoreError::NotEmpty { .. }) => {
            return Err(error).context("--force replaces what is there");
        }
        result => result?,
    };
    let summary = summary_of(&loaded);
    output::line(format_args!(
        "{} is restored from {}: {summary}",
        directory.display(),
        backup.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Looks a data directory over.
pub fn check(arguments: &CheckArguments) -> anyhow::Result<ExitCode> {
    let report = match storage::check(&arguments.data.directory()?) {
        Err(error @ StoreError::Damaged { .. }) => {
            eprintln!("meshring: {error}");
            return Ok(ExitCode::from(DAMAGE));
        }
        result => result?,
    };
    if arguments.json {
        output::line(format_args!("{:#}", json_of(&report)))?;
    } else {
        output::line(&report)?;
    }
    Ok(match report.is_sound() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(DAMAGE),
    })
}

/// Makes damaged files usable again.
pub fn repair(arguments: &RepairArguments) -> anyhow::Result<ExitCode> {
    let directory = arguments.data.directory()?;
    let repaired = storage::repair(&directory, now())?;
    for one in &repaired {
        output::line(one)?;
    }
    if repaired.is_empty() {
        let place = directory.display();
        output::line(format_args!("there is nothing to repair in {place}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `3 shards, 1200 records`
pub fn summary_of(loaded: &[Loaded]) -> String {
    let records: u64 = loaded.iter().map(Loaded::records).sum();
    let shards = loaded.len();
    format!("{shards} shards, {records} records")
}

fn json_of(report: &Report) -> Value {
    let files: Vec<Value> = report.files.iter().map(json_of_file).collect();
    json!({
        "sound": report.is_sound(),
        // As in the manifest: many tools would round such a number.
        "id": format!("{:016x}", report.manifest.id),
        "generation": report.manifest.generation,
        "shards": report.manifest.shards,
        "notes": report.notes,
        "files": files,
    })
}

fn json_of_file(file: &FileReport) -> Value {
    let counts = &file.counts;
    json!({
        "path": file.path.display().to_string(),
        "findings": file.findings,
        "needs_repair": file.needs_repair,
        "sessions": counts.sessions,
        "subscriptions": counts.subscriptions,
        "queued": counts.queued,
        "retained": counts.retained,
        "group_queued": counts.group_queued,
        "qos2": counts.received + counts.seen,
        "devices": counts.devices,
        "tokens": counts.tokens,
        "device_subscriptions": counts.device_subscriptions,
        "last_commit_us": counts.alive.map(|at| at.0),
    })
}
