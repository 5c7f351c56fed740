//! Completions for shells, and manual pages, of the whole command tree of a program.

use clap::{Args, Command};
use clap_complete::Shell;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Flags of `meshring completions`.
#[derive(Args, Debug)]
pub struct CompletionsArguments {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Flags of `meshring man`.
#[derive(Args, Debug)]
pub struct ManArguments {
    /// Write a page per command here, meshring-serve.1 and so on; the directory is made if there
    /// is none [default: the first page, to stdout]
    #[arg(value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

/// What `meshring help completions` adds.
pub const COMPLETIONS_NOTES: &str = "\
Examples:
  meshring completions bash > /etc/bash_completion.d/meshring
  meshring completions zsh > \"${fpath[1]}/_meshring\"
  meshring completions fish > ~/.config/fish/completions/meshring.fish";

/// What `meshring help man` adds.
pub const MAN_NOTES: &str = "\
Examples:
  meshring man | man -l -
  meshring man /usr/local/share/man/man1";

/// Writes the completions of `program` to `out`.
///
/// # Errors
///
/// If they cannot be written.
pub fn completions(mut program: Command, shell: Shell, out: &mut dyn Write) -> std::io::Result<()> {
    let name = program.get_name().to_owned();
    // Into memory first: the generator takes a failing writer for a bug.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut program, name, &mut script);
    out.write_all(&script)
}

/// Writes the manual of `program`: the page of the program itself to `out`, or with `directory`
/// one file there for it and for each command.
///
/// # Errors
///
/// If they cannot be written.
pub fn manual(
    program: Command,
    directory: Option<&Path>,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let Some(directory) = directory else {
        return clap_mangen::Man::new(program).render(out);
    };
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(program, directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ClientCommand;
    use clap::Subcommand;

    fn program() -> Command {
        ClientCommand::augment_subcommands(Command::new("meshring"))
    }

    #[test]
    fn every_shell_is_told_the_commands() {
        use clap::ValueEnum;
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            completions(program(), *shell, &mut script).unwrap();
            let script = String::from_utf8(script).unwrap();
            assert!(
                script.contains("whoami") && script.contains("revoke"),
                "{shell}"
            );
        }
    }

    #[test]
    fn every_command_has_a_page() {
        let mut first = Vec::new();
        manual(program(), None, &mut first).unwrap();
        assert!(String::from_utf8(first).unwrap().contains("whoami"));
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("man1");
        manual(program(), Some(&directory), &mut Vec::new()).unwrap();
        for page in ["meshring.1", "meshring-whoami.1", "meshring-token-revoke.1"] {
            let text = std::fs::read_to_string(directory.join(page)).unwrap();
            assert!(text.contains(".TH"), "{page}");
        }
    }
}
