//! The client commands of `meshring`: they register devices, send messages and show events, over
//! HTTP and WebSocket, as any other client of the server would.
//!
//! What always holds: what a command was asked for goes to stdout, everything else to stderr; the
//! exit code says who has to do something about a failure ([`Failure`]); no token is shown
//! unless it was asked for. Bounded are answers ([`api::ANSWER_BYTES_MAX`]), files with
//! credentials ([`sources::FILE_BYTES_MAX`]), and the time that an answer may take (`--timeout`).
//!
//! This crate knows nothing of the server but its documented API: it also serves a FreshBlu
//! server, and a Meshblu server where routes are the same.

#![forbid(unsafe_code)]

pub mod api;
pub mod arguments;
mod calls;
pub mod failure;
mod live;
mod output;
pub mod pages;
mod register;
mod server;
pub mod settings;
pub mod sources;

pub use arguments::{ClientCommand, Connection};
pub use failure::Failure;

use settings::Settings;
use std::process::ExitCode;

/// Does what `command` says, with `outer` as the flags that stood before the command, and returns
/// the program's exit code. A failure is one line on stderr, `meshring: …`.
pub fn run(mut command: ClientCommand, outer: Connection) -> ExitCode {
    let connection = command.connection();
    *connection = connection.or(outer);
    let connection = connection.clone();
    // There is a first time for each file.
    let may_be_missing = matches!(command, ClientCommand::Register(_));
    let result = sources::layers(&connection, may_be_missing)
        .and_then(|layers| Settings::resolve(&connection, &layers))
        .and_then(|settings| carry_out(&command, &settings));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads our output has seen enough: `meshring subscribe … | head -1`.
        Err(Failure::NobodyReads) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("meshring: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn carry_out(command: &ClientCommand, settings: &Settings) -> Result<(), Failure> {
    match command {
        ClientCommand::Config(_) => output::show(&settings.describe(), settings.format()),
        ClientCommand::Register(arguments) => register::register(arguments, settings),
        ClientCommand::Subscribe(arguments) => {
            live::subscribe(arguments, &calls::call(command, settings)?, settings)
        }
        _ => {
            let call = calls::call(command, settings)?;
            let answer = api::Api::new(settings)?.send(&call)?;
            output::show(&answer, settings.format())
        }
    }
}
