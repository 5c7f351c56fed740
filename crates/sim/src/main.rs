//! `cargo run --release -p sim -- --seeds 1000`: see README.md.

use clap::Parser;
use sim::{Options, Outcome, Recording, history, kept_seeds, report_panics, run, show};
use std::process::ExitCode;
use std::time::Instant;

/// Runs shards, clients, and everything between them in virtual time, and checks what they do.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Run this one alone and print its history.
    #[arg(long)]
    seed: Option<u64>,
    /// With so many shards, instead of what the seed says.
    #[arg(long)]
    shards: Option<u16>,
    /// So many steps before the world turns kind, instead of what the seed says.
    #[arg(long)]
    steps: Option<u64>,
    /// All that keep anything keep it in the real store, on a disk that loses power.
    #[arg(long)]
    power_loss: bool,
    /// Without stores and crashes, whatever the seeds say.
    #[arg(long)]
    memory: bool,
    /// In all that keep anything disks fill up.
    #[arg(long)]
    full_disk: bool,
    /// In all that keep anything memory holds only the beginning of a queue.
    #[arg(long)]
    spill: bool,
    /// In all that keep anything, acknowledged means in memory, and on disk within an interval.
    #[arg(long)]
    interval: bool,
    /// The Meshblu API alone. Otherwise every fourth seed has it, too.
    #[arg(long)]
    mesh: bool,
    /// Leave out the kept seeds.
    #[arg(long)]
    no_kept: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = Options {
        shards: arguments.shards,
        steps: arguments.steps,
        is_memory: arguments.memory,
        is_mesh: arguments.mesh,
        is_power_loss: arguments.power_loss,
        is_full_disk: arguments.full_disk,
        is_spilling: arguments.spill,
        is_interval: arguments.interval,
    };
    report_panics(options);
    if let Some(seed) = arguments.seed {
        let Some(outcome) = attempt(seed, &options, Recording::Print) else {
            return ExitCode::FAILURE;
        };
        println!("seed {seed} passes: {outcome:?}");
        return ExitCode::SUCCESS;
    }
    let kept = if arguments.no_kept {
        Vec::new()
    } else {
        kept_seeds()
    };
    let new = arguments.first..arguments.first + arguments.seeds;
    let new = new.flat_map(|seed| with_mesh(seed, &options));
    let (mut steps, mut messages, mut packets) = (0, 0, 0);
    let start = Instant::now();
    let count = kept.len() as u64 + arguments.seeds;
    for (seed, options) in kept.into_iter().chain(new) {
        let Some(outcome) = attempt(seed, &options, Recording::Off) else {
            return ExitCode::FAILURE;
        };
        steps += outcome.steps;
        messages += outcome.messages;
        packets += outcome.packets;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{count} seeds pass: {steps} steps, {messages} messages, {packets} packets received, \
         {seconds:.1} s"
    );
    ExitCode::SUCCESS
}

/// A seed as the command line has it; every fourth with the Meshblu API, too.
fn with_mesh(seed: u64, options: &Options) -> Vec<(u64, Options)> {
    let mut runs = vec![(seed, *options)];
    if seed.is_multiple_of(4) && !options.is_mesh {
        let is_mesh = true;
        runs.push((
            seed,
            Options {
                is_mesh,
                ..*options
            },
        ));
    }
    runs
}

/// Runs a seed; if it fails, shows how.
fn attempt(seed: u64, options: &Options, recording: Recording) -> Option<Outcome> {
    sim::set_options(*options);
    let failure = match run(seed, options, recording) {
        Ok(outcome) => return Some(outcome),
        Err(failure) => failure,
    };
    if recording == Recording::Off {
        // The same again, with lines.
        let _ = run(seed, options, Recording::Last);
    }
    let lines = if recording == Recording::Print {
        Vec::new()
    } else {
        history::last_lines()
    };
    show(
        seed,
        failure.step,
        &format!("{:#}", failure.error),
        options,
        &lines,
    );
    None
}
