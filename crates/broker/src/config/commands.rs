//! `meshring config`: check a file, show what counts, write the file that is shipped.

use super::example::example;
use super::flags::LogFlags;
use super::keys::{KEYS, SECTIONS};
use super::problem::{Problem, Severity};
use super::raw::toml_of;
use super::sources::{Environment, Loaded, Sources};
use crate::arguments::ServeArguments;
use crate::output;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

/// Below the flags of `meshring config --help`.
pub const CONFIG_NOTES: &str = "\
What counts: a flag before a variable of the environment, a variable before the
file, the file before the default. The file is --config FILE, else what
MESHRING_CONFIG names, else /etc/meshring/meshring.toml where it exists (not
with --dev). The variable of a key is MESHRING_SECTION__KEY; the older names,
also those of FreshBlu, are in the shipped file. The sections of McloudTT's
config.toml are understood.

Exit codes:
  0  all is well    2  something is wrong; each line says where and what

Examples:
  meshring config check /etc/meshring/meshring.toml
  meshring config show --dev --shards 2
  meshring config example > meshring.toml";

/// What to do about a configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Find everything that is wrong with a file, and with the variables that are set
    Check(CheckArguments),
    /// Show the value of every key, and who has said it; secrets are masked
    Show(ShowArguments),
    /// Write a file with every key, its default and its words, as comments
    Example,
}

/// Flags of `meshring config check`.
#[derive(Args, Debug)]
pub struct CheckArguments {
    /// The file; without it the one that `meshring serve` would read
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// As `meshring serve --dev`
    #[arg(long)]
    pub dev: bool,
}

/// Flags of `meshring config show`: those of `meshring serve`, and one more.
#[derive(Args, Debug)]
pub struct ShowArguments {
    /// Write JSON, for programs
    #[arg(long)]
    pub json: bool,
    /// As for the broker.
    #[command(flatten)]
    pub serve: ServeArguments,
}

/// Does it. Errs if stdout cannot be written to.
pub fn run(command: &ConfigCommand, logs: &LogFlags) -> io::Result<ExitCode> {
    match command {
        ConfigCommand::Example => output::print(&example())?,
        ConfigCommand::Check(arguments) => {
            let environment = Environment::of_process();
            let (dev, file) = (arguments.dev, arguments.file.clone());
            let sources = Sources {
                dev,
                file,
                environment,
                flags: Vec::new(),
            };
            let loaded = match sources.load() {
                Ok(loaded) => loaded,
                Err(problems) => return Ok(complain(&problems)),
            };
            complain(&loaded.warnings);
            let name = loaded.file.as_ref().map(|file| file.display().to_string());
            let name = name.as_deref().unwrap_or("no file");
            output::line(format_args!("{name}: all is well"))?;
        }
        ConfigCommand::Show(arguments) => {
            let sources = arguments.serve.sources(logs);
            let loaded = match sources.load() {
                Ok(loaded) => loaded,
                Err(problems) => return Ok(complain(&problems)),
            };
            complain(&loaded.warnings);
            let text = match arguments.json {
                true => format!("{:#}\n", to_json(&loaded)),
                false => to_toml(&loaded),
            };
            output::print(&text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Says on stderr what is wrong; gives the exit code for it.
pub fn complain(problems: &[Problem]) -> ExitCode {
    for problem in problems {
        crate::logs::complain(&format!("meshring: {problem}"));
    }
    let errors = problems
        .iter()
        .filter(|problem| problem.severity == Severity::Error)
        .count();
    match errors {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(2),
    }
}

/// A file that says all of it, with who has said it behind each line.
fn to_toml(loaded: &Loaded) -> String {
    let mut text = String::new();
    for section in SECTIONS {
        let blank = if text.is_empty() { "" } else { "\n" };
        text.push_str(&format!("{blank}{}\n", section.title));
        let keys = KEYS.iter().zip(&loaded.origins);
        for (key, origin) in keys.filter(|(key, _)| key.section == section.name) {
            let line = format!("{} = {}", key.name, toml_of(&(key.show)(&loaded.config)));
            text.push_str(&format!("{line:<44} # {origin}\n"));
        }
    }
    text
}

fn to_json(loaded: &Loaded) -> Value {
    let keys = KEYS.iter().zip(&loaded.origins).map(|(key, origin)| {
        json!({
            "key": key.path(),
            "value": (key.show)(&loaded.config),
            "origin": origin.to_json(),
            "needs_restart": key.needs_restart,
        })
    });
    json!({
        "file": loaded.file.as_ref().map(|file| file.display().to_string()),
        "keys": keys.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::super::problem::Origin;
    use super::*;

    #[test]
    fn what_is_shown_can_be_read_again_and_hides_secrets() {
        let text =
            "[devices]\npepper = \"salt\"\n[durability]\nprefixes = { \"a b/\" = \"interval\" }\n";
        let read = file::parse("a.toml", text);
        let loaded = Sources::default().layer(read, None).unwrap();
        let shown = to_toml(&loaded);
        assert!(
            shown.contains("# a.toml:2\n") && !shown.contains("salt"),
            "{shown}"
        );
        let again = Sources::default()
            .layer(file::parse("b.toml", &shown), None)
            .unwrap();
        assert_eq!(again.config.durability, loaded.config.durability);
        let json = to_json(&loaded);
        assert!(!json.to_string().contains("salt"));
        let keys = json["keys"].as_array().unwrap();
        assert_eq!(keys.len(), KEYS.len());
        let prefixes = keys
            .iter()
            .find(|key| key["key"] == "durability.prefixes")
            .unwrap();
        assert_eq!(
            prefixes["origin"],
            json!({"kind": "file", "file": "a.toml", "line": 4})
        );
        assert_eq!(prefixes["value"], json!({"a b/": "interval"}));
    }

    #[test]
    fn warnings_are_no_reason_to_fail() {
        let warning = Problem::warning(Origin::Default, "perhaps");
        assert_eq!(complain(std::slice::from_ref(&warning)), ExitCode::SUCCESS);
        let error = Problem::error(Origin::Default, "no");
        assert_eq!(complain(&[warning, error]), ExitCode::from(2));
    }
}
