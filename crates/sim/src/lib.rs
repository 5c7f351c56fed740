//! The simulator: several shards, clients of all versions, and everything between them, in one
//! thread and in virtual time. One seed fixes one history.
#![forbid(unsafe_code)]

pub mod chance;
pub mod checker;
pub mod client;
pub mod crash;
pub mod data;
pub mod delivery;
pub mod disk;
pub mod driver;
pub mod files;
pub mod full;
pub mod helpers;
pub mod history;
pub mod keep;
pub mod ledger;
pub mod link;
pub mod mesh;
pub mod operator;
pub mod plan;
pub mod process;
pub mod records;
pub mod rest;
pub mod run;
pub mod truth;
pub mod vandal;
pub mod wire;
pub mod workload;
pub mod world;

pub use history::Recording;
pub use plan::Options;
pub use run::{Failure, Outcome, run};

thread_local! {
    /// What this thread's runs are like, where a panic hook can still find it.
    static OPTIONS: std::cell::Cell<Option<Options>> = const { std::cell::Cell::new(None) };
}

/// Says what the next run of this thread is like, for [`report_panics`].
pub fn set_options(options: Options) {
    OPTIONS.set(Some(options));
}

/// The seeds that once failed, and how they were run, from `seeds.txt`: one per line, what follows
/// `#` is for people.
pub fn kept_seeds() -> Vec<(u64, Options)> {
    let lines = include_str!("../seeds.txt").lines();
    let lines = lines.map(|line| line.split('#').next().unwrap_or_default());
    let seeds = lines.filter_map(|line| {
        let (seed, flags) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        let has = |flag| flags.split_whitespace().any(|one| one == flag);
        let options = Options {
            is_mesh: has("--mesh"),
            is_power_loss: has("--power-loss"),
            is_full_disk: has("--full-disk"),
            is_spilling: has("--spill"),
            is_interval: has("--interval"),
            ..Options::default()
        };
        Some((seed.parse().ok()?, options))
    });
    seeds.collect()
}

/// Makes a panic within a run, such as a broken invariant of a shard, tell its seed. Where the
/// run was not recorded it is repeated with recording, so that the last lines can be shown.
pub fn report_panics(options: Options) {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let (seed, step) = run::current();
        let options = OPTIONS.get().unwrap_or(options);
        let lines = history::last_lines();
        if lines.is_empty() {
            // This second run ends in this hook again, with lines.
            let repeated = std::thread::spawn(move || {
                set_options(options);
                run(seed, &options, Recording::Last)
            });
            let _ = repeated.join();
            return;
        }
        default(info);
        show(seed, step, "panic, see above", &options, &lines);
    }));
}

/// Tells people what failed and how to see it again.
pub fn show(seed: u64, step: u64, error: &str, options: &Options, lines: &[String]) {
    for line in &lines[lines.len().saturating_sub(60)..] {
        eprintln!("{line}");
    }
    eprintln!("seed {seed} fails at step {step}: {error}");
    eprintln!(
        "to see all of it: cargo run --release -p sim -- --seed {seed}{}",
        options.flags()
    );
}
