//! A few dozen seeds under `cargo test`; CI runs a thousand with the program.

use sim::{Failure, Options, Outcome, Recording, kept_seeds, report_panics, run, set_options};

/// Runs a seed; a failure tells how to repeat it.
fn check(seed: u64) -> Outcome {
    check_with(seed, &Options::default())
}

fn check_with(seed: u64, options: &Options) -> Outcome {
    match run(seed, options, Recording::Off) {
        Ok(outcome) => outcome,
        Err(failure) => panic!(
            "seed {seed}, step {}: {:#}\nto see it: cargo run --release -p sim -- --seed {seed}{}",
            failure.step,
            failure.error,
            options.flags()
        ),
    }
}

#[test]
fn the_first_seeds_break_no_rule() {
    report_panics(Options::default());
    let outcomes: Vec<Outcome> = (1..=40).map(check).collect();
    // A run in which nothing happens would break no rule either.
    assert!(
        outcomes
            .iter()
            .all(|outcome| outcome.messages > 0 && outcome.packets > 10)
    );
}

#[test]
fn seeds_that_once_failed_pass() {
    kept_seeds().iter().for_each(|(seed, options)| {
        check_with(*seed, options);
    });
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in [3, 10_007] {
        let again = run(seed, &Options::default(), Recording::Last).expect("it passed before");
        assert_eq!(check(seed), again, "seed {seed} gives two histories");
    }
    assert_ne!(check(3).hash, check(10_007).hash);
}

#[test]
fn the_first_seeds_of_devices_break_no_rule() {
    let options = Options {
        is_mesh: true,
        ..Options::default()
    };
    set_options(options);
    for seed in 1..=40 {
        let outcome = run(seed, &options, Recording::Off);
        let outcome = outcome.unwrap_or_else(|failure| {
            let Failure { step, error, .. } = failure;
            panic!("seed {seed} --mesh, step {step}: {error:#}")
        });
        assert!(outcome.messages > 0 && outcome.packets > 0, "{outcome:?}");
        let again = run(seed, &options, Recording::Off).expect("it passed before");
        assert_eq!(outcome, again, "seed {seed} gives two histories");
    }
}

#[test]
fn the_first_seeds_with_the_real_store_break_no_rule() {
    let options = Options {
        is_power_loss: true,
        ..Options::default()
    };
    set_options(options);
    for seed in 1..=12 {
        check_with(seed, &options);
    }
}
