//! What can go wrong, and the exit code that tells a script who has to do something about it.

use std::fmt;

/// Why a command has failed.
#[derive(Debug)]
pub enum Failure {
    /// The command line, the environment or a file makes no sense: exit code 2.
    Usage(String),
    /// The server has refused: exit code 4 for 401 and 403, 5 for 404, 3 for 429 and 5xx,
    /// otherwise 1.
    Refused {
        /// The status of the answer.
        status: u16,
        /// What the server said, made safe for a terminal.
        said: String,
    },
    /// No answer: no connection, a connection that broke, or a timeout: exit code 3.
    Unreachable(String),
    /// An answer that cannot be from such a server: exit code 1.
    Nonsense(String),
    /// Output could not be written: exit code 1.
    Output(std::io::Error),
    /// The reader of our output has gone away. No failure of ours: exit code 0.
    NobodyReads,
}

/// What `meshring help` says about exit codes.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done                          1  refused by the server, or its answer
  2  wrong usage                      makes no sense
  3  the server cannot be reached, is overloaded, or asks to come back later
     (429, 5xx): worth another try
  4  wrong credentials, or no permission (401, 403)
  5  no such device or token, or one that you may not see (404)";

impl Failure {
    /// The exit code of the program.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Refused { status, .. } => match status {
                401 | 403 => 4,
                404 => 5,
                429 | 500..=599 => 3,
                _ => 1,
            },
            Self::Unreachable(_) => 3,
            Self::Nonsense(_) | Self::Output(_) => 1,
            Self::NobodyReads => 0,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(why) | Self::Unreachable(why) | Self::Nonsense(why) => f.write_str(why),
            Self::Refused { status, said } if said.is_empty() => {
                write!(f, "the server answers {status}")
            }
            Self::Refused { status, said } => write!(f, "{said} ({status})"),
            Self::Output(error) => write!(f, "cannot write: {error}"),
            Self::NobodyReads => f.write_str("nobody reads the output"),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::NobodyReads,
            _ => Self::Output(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_tell_who_has_to_act() {
        let refused = |status| {
            let said = String::new();
            Failure::Refused { status, said }.exit_code()
        };
        let codes = [400, 401, 403, 404, 409, 413, 422, 429, 500, 503].map(refused);
        assert_eq!(codes, [1, 4, 4, 5, 1, 1, 1, 3, 3, 3]);
        assert_eq!(Failure::Usage(String::new()).exit_code(), 2);
        assert_eq!(Failure::Unreachable(String::new()).exit_code(), 3);
        let gone = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert_eq!(Failure::from(gone).exit_code(), 0);
    }
}
