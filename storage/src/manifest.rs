//! What a data directory says about itself: `manifest.json`.
//!
//! It is replaced in one step, so it always names one whole generation of files.

use crate::StoreError;
use crate::files::{FileSystem, SystemFiles, sync_directory};
use crate::header::{FORMAT, FORMAT_MIN, FileHeader};
use crate::open::io_error;
use serde::{Deserialize, Serialize};
use shard::Time;
use std::fmt;
use std::path::{Path, PathBuf};

/// The name of the manifest's file.
pub(crate) const MANIFEST: &str = "manifest.json";
/// What it is called while it is being written.
pub(crate) const MANIFEST_NEW: &str = "manifest.json.new";

/// To whom the files of a directory belong, and which they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Drawn at random: which directory, or of which one it is a backup.
    pub id: u64,
    /// Which files count: those in the folder of this number. 0 while there are none yet.
    pub generation: u64,
    /// How many files there are; 0 while there are none yet.
    pub shards: u16,
    /// Places clients, topics, groups and devices on shards; see [`shard::Placement`].
    pub placement_seed: u64,
    /// The key of the hashes of all tokens; `None` until one is needed.
    pub pepper: Option<Pepper>,
}

/// The key of the hashes of all tokens. Without it none of them fits any more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pepper(pub [u8; 32]);

impl fmt::Debug for Pepper {
    /// Not for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(…)")
    }
}

impl Pepper {
    fn to_hex(self) -> String {
        self.0.iter().fold(String::new(), |mut text, byte| {
            text.push_str(&format!("{byte:02x}"));
            text
        })
    }

    fn from_hex(text: &str) -> Option<Pepper> {
        let digits = |at: usize| text.get(2 * at..2 * at + 2);
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(digits(at)?, 16).ok()?;
        }
        // Nothing else is written like this one.
        let pepper = Pepper(bytes);
        (pepper.to_hex() == text).then_some(pepper)
    }
}

/// As it is written. The large numbers are text, since many JSON tools would round them.
#[derive(Debug, Deserialize, Serialize)]
struct Written {
    format: u32,
    id: String,
    generation: u64,
    shards: u16,
    placement_seed: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pepper: Option<String>,
}

impl Manifest {
    /// Reads the manifest of a directory; `None` if there is none.
    pub fn read(directory: &Path) -> Result<Option<Manifest>, StoreError> {
        Manifest::read_on(&SystemFiles, directory)
    }

    /// The same on any file system.
    pub fn read_on(
        files: &dyn FileSystem,
        directory: &Path,
    ) -> Result<Option<Manifest>, StoreError> {
        let path = directory.join(MANIFEST);
        let name = path.display().to_string();
        let text = match files.read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error(&name, &error)),
        };
        let damaged = |found: String| StoreError::Damaged {
            file: name.clone(),
            found,
        };
        let value: serde_json::Value =
            serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        // The format first: a newer one may have other fields.
        match value.get("format").and_then(serde_json::Value::as_u64) {
            // An older one lacks the pepper.
            Some(format) if (u64::from(FORMAT_MIN)..=u64::from(FORMAT)).contains(&format) => {}
            Some(format) if format > u64::from(FORMAT) => {
                return Err(StoreError::NewerFormat {
                    file: name,
                    format: u32::try_from(format).unwrap_or(u32::MAX),
                });
            }
            _ => return Err(damaged("it does not say its format".to_owned())),
        }
        let written: Written =
            serde_json::from_value(value).map_err(|error| damaged(error.to_string()))?;
        let number = |text: &str, what| {
            u64::from_str_radix(text, 16).map_err(|_| damaged(format!("{what} is no number")))
        };
        let manifest = Manifest {
            id: number(&written.id, "id")?,
            generation: written.generation,
            shards: written.shards,
            placement_seed: number(&written.placement_seed, "placement_seed")?,
            pepper: written
                .pepper
                .map(|text| {
                    let pepper = Pepper::from_hex(&text);
                    pepper.ok_or_else(|| damaged("pepper is none".to_owned()))
                })
                .transpose()?,
        };
        let has_files = manifest.generation > 0;
        let is_possible = usize::from(manifest.shards) <= shard::limits::SHARDS_MAX;
        if has_files != (manifest.shards > 0) || !is_possible {
            return Err(damaged(format!("{} shards cannot be", manifest.shards)));
        }
        Ok(Some(manifest))
    }

    /// Replaces the manifest of a directory, durably and in one step.
    pub(crate) fn write(&self, files: &dyn FileSystem, directory: &Path) -> Result<(), StoreError> {
        let written = Written {
            format: FORMAT,
            id: format!("{:016x}", self.id),
            generation: self.generation,
            shards: self.shards,
            placement_seed: format!("{:016x}", self.placement_seed),
            pepper: self.pepper.map(Pepper::to_hex),
        };
        let mut text = serde_json::to_vec_pretty(&written).expect("numbers and text");
        text.push(b'\n');
        let new = directory.join(MANIFEST_NEW);
        let named = |error| io_error(&new.display().to_string(), &error);
        files.write(&new, &text).map_err(named)?;
        let rename = files.rename(&new, &directory.join(MANIFEST));
        rename.map_err(named)?;
        sync_directory(files, directory)
    }

    /// The folder of its files.
    pub(crate) fn folder(&self, directory: &Path) -> PathBuf {
        directory.join(self.generation.to_string())
    }

    /// The file of each shard.
    pub fn files(&self, directory: &Path) -> Vec<PathBuf> {
        let folder = self.folder(directory);
        (0..self.shards)
            .map(|shard| folder.join(file_name(shard)))
            .collect()
    }

    /// What the file of a shard says about itself.
    pub fn header(&self, shard: u16, created: Time) -> FileHeader {
        FileHeader {
            directory: self.id,
            generation: self.generation,
            shard,
            shards: self.shards,
            placement_seed: self.placement_seed,
            created,
        }
    }

    /// Whether a file with this header is the one of this shard; says what does not fit.
    pub(crate) fn check_header(&self, shard: u16, header: &FileHeader) -> Result<(), String> {
        let wanted = self.header(shard, header.created);
        if *header == wanted {
            return Ok(());
        }
        Err(format!(
            "it is shard {} of {} in generation {} of the directory {:016x}, and shard {shard} of \
             {} in generation {} of the directory {:016x} is wanted",
            header.shard,
            header.shards,
            header.generation,
            header.directory,
            self.shards,
            self.generation,
            self.id,
        ))
    }
}

/// The name of a shard's file.
pub(crate) fn file_name(shard: u16) -> String {
    format!("shard-{shard:03}.redb")
}
