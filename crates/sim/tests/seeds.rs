//! A few dozen seeds under `cargo test`; CI runs a thousand with the program.

use sim::{Options, Outcome, Recording, kept_seeds, report_panics, run};

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
