//! What is done to the broker meanwhile, and what that may do to its clients.

use std::process::{Command, Stdio};
use std::str::FromStr;

use anyhow::{Result, ensure};

/// What a step may do to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expects {
    /// Nobody's connection ends.
    Kept,
    /// Everybody's connection ends, those of MQTT 5 with a reason, and nobody comes back.
    Emptied,
    /// Everybody comes back.
    Returned,
}

/// The first word of a step's name decides what it may do.
const KINDS: [(&str, Expects); 7] = [
    ("steady", Expects::Kept),
    ("reload", Expects::Kept),
    ("log", Expects::Kept),
    ("drain", Expects::Emptied),
    ("undrain", Expects::Returned),
    ("restart", Expects::Returned),
    ("upgrade", Expects::Returned),
];

impl Expects {
    /// What a step of this name may do: `reload`, `reload-2`, …; `None` if that is not known.
    pub fn of(name: &str) -> Option<Expects> {
        let kind = name.split('-').next().unwrap_or_default();
        let found = KINDS.iter().find(|(known, _)| *known == kind);
        found.map(|(_, expects)| *expects)
    }
}

/// A step as the command line has it: `NAME=COMMAND`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// What it is called.
    pub name: String,
    /// For `sh -c`.
    pub command: String,
}

impl FromStr for Given {
    type Err = String;

    fn from_str(text: &str) -> Result<Given, String> {
        let (name, command) = text
            .split_once('=')
            .ok_or("expected NAME=COMMAND, such as \"reload=systemctl reload meshring\"")?;
        if Expects::of(name).is_none() {
            let kinds = KINDS.map(|(kind, _)| kind).join(", ");
            return Err(format!(
                "`{name}`: a step is called {kinds}, or that with a hyphen and more"
            ));
        }
        Ok(Given {
            name: name.to_owned(),
            command: command.to_owned(),
        })
    }
}

impl Given {
    /// Runs the command to its end; its output goes to stderr, line by line.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn run(&self) -> Result<()> {
        let mut command = Command::new("sh");
        run(command.args(["-c", &self.command]))
    }
}

/// Runs a command to its end.
///
/// # Errors
/// When it cannot be started, or fails, with what it said.
pub fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    for line in said.lines() {
        eprintln!("    | {line}");
    }
    ensure!(output.status.success(), "{command:?}: {}", output.status);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_decides_what_a_step_may_do() {
        assert_eq!(Expects::of("reload-back"), Some(Expects::Kept));
        assert_eq!(Expects::of("drain"), Some(Expects::Emptied));
        assert_eq!(Expects::of("drained"), None);
        let given: Given = "upgrade=dpkg -i a=b.deb".parse().unwrap();
        assert_eq!(
            (&*given.name, &*given.command),
            ("upgrade", "dpkg -i a=b.deb")
        );
        for wrong in ["reload", "reboot=x", "=x"] {
            assert!(wrong.parse::<Given>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_command_that_fails_is_an_error() {
        let run = |command: &str| {
            let (name, command) = ("log".to_owned(), command.to_owned());
            Given { name, command }.run()
        };
        assert!(run("true").is_ok());
        assert!(run("exit 3").unwrap_err().to_string().contains('3'));
    }
}
