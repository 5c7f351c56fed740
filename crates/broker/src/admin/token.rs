//! The token that opens the admin API on an address: drawn at the first start, kept in a file that
//! its owner alone may read.

use crate::serve::secret;
use anyhow::{Context, ensure};
use sha2::{Digest, Sha256};
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The file's name in the data directory.
pub const FILE: &str = "admin.token";
/// What it is called until it is whole.
const FILE_NEW: &str = "admin.token.new";
/// Characters of the shortest token that is accepted.
const LENGTH_MIN: usize = 16;
/// Bytes read of a token's file at most.
const FILE_BYTES_MAX: u64 = 4_096;

/// A token, as its digest.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(masked)")
    }
}

impl Token {
    fn new(text: &str) -> Token {
        Token(Sha256::digest(text.as_bytes()).into())
    }

    /// Whether this is it. Digests are compared: how long that takes says nothing of the token.
    pub fn is(&self, text: &str) -> bool {
        self.0 == Token::new(text).0
    }

    /// The token in a file. Errs if there is none, or one that can be guessed.
    pub fn read(path: &Path) -> anyhow::Result<Token> {
        let text = read(path).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(
            text.len() >= LENGTH_MIN,
            "{}: a token has at least {LENGTH_MIN} characters",
            path.display()
        );
        Ok(Token::new(&text))
    }

    /// The token in a data directory, drawn if there is none.
    pub fn of_directory(directory: &Path) -> anyhow::Result<Token> {
        let path = directory.join(FILE);
        if path.exists() {
            return Token::read(&path);
        }
        let digits: String = secret()?.iter().map(|byte| format!("{byte:02x}")).collect();
        write(directory, &digits).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Token::new(&digits))
    }
}

/// Writes the token's file: a crash leaves all of it or nothing. This process has locked the
/// directory.
fn write(directory: &Path, digits: &str) -> io::Result<()> {
    let new = directory.join(FILE_NEW);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(format!("{digits}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, directory.join(FILE))
}

/// The text in a token's file, without the space around it.
pub fn read(path: &Path) -> io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    let file = fs::File::open(path)?;
    file.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_directory_gets_one_token_and_keeps_it() {
        let directory = tempfile::TempDir::new().unwrap();
        // Of a broker that was killed while it wrote.
        fs::write(directory.path().join(FILE_NEW), "").unwrap();
        let drawn = Token::of_directory(directory.path()).unwrap();
        let path = directory.path().join(FILE);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let text = read(&path).unwrap();
        assert_eq!(text.len(), 64);
        let again = Token::of_directory(directory.path()).unwrap();
        assert!(drawn.is(&text) && again.is(&text));
        assert!(!drawn.is("") && !drawn.is(&text[1..]) && !drawn.is(&format!("{text}\n")));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("t");
        assert!(Token::read(&path).is_err());
        for nonsense in ["", "\n", "short", "  fifteen-letters  "] {
            fs::write(&path, nonsense).unwrap();
            assert!(Token::read(&path).is_err(), "{nonsense:?}");
        }
        fs::write(&path, [0xff; 40]).unwrap();
        assert!(Token::read(&path).is_err());
        fs::write(&path, "a token with spaces\n").unwrap();
        assert!(Token::read(&path).unwrap().is("a token with spaces"));
    }
}
