//! `meshring import`: devices of a FreshBlu server come into a data directory, with their tokens and
//! subscriptions, so that they log in unchanged.
//!
//! A device is brought as a whole or not at all, and one that is there already is left as it is; so
//! an import may be interrupted and repeated. Bounded: one device at a time is in memory, and what
//! one step of the store takes.

mod freshblu;

use crate::cpus;
use crate::data::now;
use crate::operate::place::DataArguments;
use crate::output;
use crate::serve::{secret, seed};

use anyhow::{Context, bail, ensure};
use clap::Args;
use freshblu::{Brought, Freshblu};
use shard::{Change, DeviceId, Placement};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use storage::{
    DataDirectory, Import, Manifest, NewDirectory, Pepper, Store, StoreError, StoreOptions,
};

/// Below the flags in its `--help`.
pub const IMPORT_NOTES: &str = "\
Brings the devices of a FreshBlu server that keeps them in SQLite, with their
whitelists, owners, tokens (as bcrypt hashes, so they stay what they are) and
subscriptions. FILE is what its DATABASE_URL names; it is only read.

No broker may run on the directory, which is made if it is not there yet. A
device that is there already is left as it is, with its tokens, unless
--replace: then it is as in the file. So it can be repeated: run it once to try,
and with --replace when FreshBlu has stopped for good.

Expired tokens are left behind. What cannot be brought is named on stderr.

Exit codes:
  0  all is there    1  failed, or some devices could not be brought
  2  wrong usage

Examples:
  meshring import freshblu.db --dry-run
  meshring import freshblu.db --data ./data
  meshring serve --data ./data";

/// How often it is said how far it is.
const PERIOD: Duration = Duration::from_secs(1);
/// So many of what cannot be brought are named.
const NAMED_MAX: u64 = 20;
/// Memory for pages of each file.
const CACHE_BYTES: usize = 8 << 20;

/// Flags of `meshring import`.
#[derive(Args, Debug)]
pub struct ImportArguments {
    /// The SQLite file of the FreshBlu server
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Into what.
    #[command(flatten)]
    pub data: DataArguments,
    /// Bring devices that are there already as well, in place of what is there
    #[arg(long)]
    pub replace: bool,
    /// Read everything and say what would be brought; the directory is not looked at
    #[arg(long)]
    pub dry_run: bool,
}

/// What has come of it so far.
#[derive(Debug, Default)]
struct Tally {
    brought: u64,
    tokens: u64,
    expired: u64,
    subscriptions: u64,
    known: u64,
    refused: u64,
    named: u64,
}

impl Tally {
    fn add(&mut self, brought: &Brought) {
        self.brought += 1;
        self.tokens += brought.tokens;
        self.expired += brought.expired;
        self.subscriptions += brought.subscriptions;
    }

    /// Says what cannot be brought, as long as there is not too much of it.
    fn name(&mut self, what: &str) {
        self.named += 1;
        match self.named {
            ..=NAMED_MAX => eprintln!("not brought: {what}"),
            // Said once.
            number if number == NAMED_MAX + 1 => eprintln!("not brought: more of the like"),
            _ => {}
        }
    }
}

/// Runs the command.
pub fn run(arguments: &ImportArguments) -> anyhow::Result<ExitCode> {
    let source = Freshblu::open(&arguments.file)?;
    let tally = match arguments.dry_run {
        true => bring_all(&source, &mut |_, _| Ok(true))?,
        false => import(&source, &arguments.data.directory()?, arguments.replace)?,
    };
    let verb = match arguments.dry_run {
        true => "can be brought",
        false => "brought",
    };
    output::line(format_args!(
        "{} devices {verb}, with {} tokens and {} subscriptions; {} devices were there already, \
         {} expired tokens left behind; {} things cannot be brought",
        tally.brought, tally.tokens, tally.subscriptions, tally.known, tally.expired, tally.named
    ))?;
    Ok(match tally.refused {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn import(source: &Freshblu, path: &Path, replace: bool) -> anyhow::Result<Tally> {
    let mut directory = open(path)?;
    // A given one is not written, and tokens that are brought need none.
    if ["MESHRING_PEPPER", "FRESHBLU_PEPPER"]
        .iter()
        .all(|name| std::env::var_os(name).is_none_or(|text| text.is_empty()))
    {
        directory.pepper(Pepper(secret()?))?;
    }
    let manifest = *directory.manifest();
    let options = StoreOptions {
        cache_bytes: CACHE_BYTES,
        ..StoreOptions::default()
    };
    let mut stores: Vec<Store> = (0..manifest.shards)
        .map(|shard| directory.open_store(shard, options))
        .collect::<Result<_, _>>()?;
    let placement = Placement::new(manifest.shards, manifest.placement_seed);
    let mut target = Import::new(&mut stores, placement)?;
    let tally = bring_all(source, &mut |device, changes| {
        let is_known = target.had_device(device)?;
        if is_known && !replace {
            return Ok(false);
        }
        let removal = is_known.then_some(Change::RemoveDevice { device });
        target.put(device, removal.into_iter().chain(changes).collect())?;
        Ok(true)
    })?;
    target.finish()?;
    for store in stores {
        store.close()?;
    }
    Ok(tally)
}

/// The directory, with as many shards as it has; a new one gets as many as the broker would have.
fn open(path: &Path) -> anyhow::Result<DataDirectory> {
    let shards = match Manifest::read(path)? {
        Some(manifest) if manifest.shards > 0 => manifest.shards,
        _ => {
            let cpus = cpus::place(None, None, &cpus::usable())?;
            u16::try_from(cpus.len()).context("more CPUs than shards can be")?
        }
    };
    let new = NewDirectory {
        id: seed()?,
        placement_seed: seed()?,
        now: now(),
    };
    match DataDirectory::open(path, shards, new, &mut |_| Ok(())) {
        Err(error @ StoreError::InUse { .. }) => {
            Err(error).context("stop it first; then nothing is lost that happens meanwhile")
        }
        result => Ok(result?),
    }
}

/// Gives what belongs to each device to `put`, which says whether it has taken it.
fn bring_all(
    source: &Freshblu,
    put: &mut dyn FnMut(DeviceId, Vec<Change>) -> anyhow::Result<bool>,
) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    let all = source.count()?;
    let (mut done, mut said) = (0_u64, Instant::now());
    source.for_each(&mut |text, found| {
        done += 1;
        if said.elapsed() >= PERIOD {
            said = Instant::now();
            eprintln!("{done} of {all} devices");
        }
        match found {
            Err(why) => {
                tally.refused += 1;
                tally.name(&format!("device {text}: {why}"));
            }
            Ok(mut brought) => {
                let changes = std::mem::take(&mut brought.changes);
                if put(brought.device, changes)? {
                    for what in &brought.left {
                        tally.name(&format!("of device {text}: {what}"));
                    }
                    tally.add(&brought);
                } else {
                    tally.known += 1;
                }
            }
        }
        Ok(())
    })?;
    ensure!(done == all, "the file has changed meanwhile; try again");
    if done == 0 {
        bail!("there are no devices in the file");
    }
    Ok(tally)
}
