//! `meshring`: the program. Reads the command line, starts the shards, waits to be told to stop.
//!
//! What other programs may rely on: one line on stdout per listener (`mqtt 127.0.0.1:1883`),
//! written once all listeners are open; everything else goes to stderr. Exit code 0 after a
//! graceful stop, 1 after an error, 2 for a command line that makes no sense, 3 for a check that
//! has found damage. The commands of the client have their own, in `cli::Failure`.

mod admin;
mod arguments;
mod config;
mod control;
mod cpus;
mod data;
mod descriptors;
mod doctor;
mod durability;
mod failure;
mod helpers;
mod import;
mod kept;
mod logs;
mod operate;
mod output;
mod progress;
mod reload;
mod serve;
mod supervise;
mod telemetry;
mod upkeep;

use crate::operate::{Command as Operator, run as operate};
use crate::supervise::activation::Activation;
use crate::telemetry::command as traced;
use arguments::{Arguments, Command, ConfigArguments};
use clap::{CommandFactory, Parser};
use cli::ClientCommand;
use std::process::ExitCode;

// Shards free what other shards allocated; this allocator gives every thread a heap of its own
// and takes such memory back without a lock.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(contradiction) = arguments.contradiction() {
        logs::complain(&format!("meshring: {contradiction}"));
        return ExitCode::from(2);
    }
    let Arguments {
        logs: log_flags,
        connection,
        command,
    } = arguments;
    let loaded = match &command {
        Command::Serve(arguments) => match arguments.sources(&log_flags).load() {
            Ok(loaded) => Some(loaded),
            Err(problems) => return config::commands::complain(&problems),
        },
        _ => None,
    };
    let config = match &loaded {
        Some(loaded) => Ok(loaded.config.clone()),
        None => config::of_commands(&log_flags),
    };
    let config = match config {
        Ok(config) => config,
        Err(problems) => return config::commands::complain(&problems),
    };
    // Before the first thread, which may be that of traces. That a kernel may not know the second
    // and third is no reason to stop.
    let activation = loaded.is_some().then(Activation::take);
    net::prefer_small_pages();
    net::prefer_exact_timers();
    if let Err(error) = logs::start(&config, command.has_traces()) {
        logs::complain(&format!("meshring: {error:#}"));
        return ExitCode::from(2);
    }
    let result = match command {
        Command::Serve(arguments) => {
            let activation = activation.expect("taken above, for this command");
            let loaded = loaded.expect("loaded above, for this command");
            let sources = arguments.sources(&log_flags);
            activation
                .and_then(|activation| serve::run(loaded, sources, activation))
                .map(|()| ExitCode::SUCCESS)
        }
        Command::Config(ConfigArguments { client, command }) => match command {
            Some(command) => config::commands::run(&command, &log_flags).map_err(Into::into),
            None => return cli::run(ClientCommand::Config(client), connection),
        },
        Command::Backup(arguments) => traced("backup", || upkeep::backup(&arguments)),
        Command::Restore(arguments) => traced("restore", || upkeep::restore(&arguments)),
        Command::Check(arguments) => traced("check", || upkeep::check(&arguments)),
        Command::Repair(arguments) => traced("repair", || upkeep::repair(&arguments)),
        Command::Doctor(arguments) => doctor::run(*arguments),
        Command::Import(arguments) => traced("import", || import::run(&arguments)),
        Command::Clients(c) => return operate(&c.desk, &Operator::Clients(c.what)),
        Command::Sessions(c) => return operate(&c.desk, &Operator::Sessions(c.what)),
        Command::Retained(c) => return operate(&c.desk, &Operator::Retained(c.what)),
        Command::Shards(c) => return operate(&c.desk, &Operator::Shards),
        Command::Slow(c) => return operate(&c.desk, &Operator::Slow(c.what)),
        Command::Top(c) => return operate::top::run(&c.desk, &c.what),
        Command::Drain(c) => return operate(&c.desk, &Operator::Drain(c.what)),
        Command::Explain(c) => return operate(&c.desk, &Operator::Explain(c.what)),
        Command::Reload(c) => return operate(&c.desk, &Operator::Reload),
        Command::Trace(c) => return operate(&c.desk, &Operator::Trace(c.what)),
        Command::LogLevel(c) => return operate(&c.desk, &Operator::Log(c.what)),
        Command::Client(command) => return cli::run(command, connection),
        Command::Completions(arguments) => {
            let mut page = Vec::new();
            cli::pages::completions(Arguments::command(), arguments.shell, &mut page)
                .and_then(|()| output::print(&String::from_utf8_lossy(&page)))
                .map(|()| ExitCode::SUCCESS)
                .map_err(Into::into)
        }
        Command::Man(arguments) => {
            let directory = arguments.directory.as_deref();
            let mut page = Vec::new();
            cli::pages::manual(Arguments::command(), directory, &mut page)
                .and_then(|()| output::print(&String::from_utf8_lossy(&page)))
                .map(|()| ExitCode::SUCCESS)
                .map_err(Into::into)
        }
    };
    telemetry::finish();
    result.unwrap_or_else(|error| {
        logs::complain(&format!("meshring: {error:#}"));
        ExitCode::FAILURE
    })
}
