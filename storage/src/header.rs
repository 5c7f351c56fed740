//! What a file says about itself: to whom it belongs, and in which format.

use crate::records::{BadRecord, Reader, Writer};
use shard::Time;

/// The format that this program writes. FORMAT.md describes it.
pub const FORMAT: u32 = 2;
/// The oldest that it reads.
pub(crate) const FORMAT_MIN: u32 = 1;

/// To whom a file belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// The data directory that it was made for, drawn at random.
    pub directory: u64,
    /// Rises with each change of the number of shards.
    pub generation: u64,
    /// Whose file it is.
    pub shard: u16,
    /// How many shards there are.
    pub shards: u16,
    /// Places clients, topics and groups on shards; see [`shard::Placement`].
    pub placement_seed: u64,
    /// When the file was made.
    pub created: Time,
}

impl FileHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(36);
        out.put_u64(self.directory);
        out.put_u64(self.generation);
        out.put_u16(self.shard);
        out.put_u16(self.shards);
        out.put_u64(self.placement_seed);
        out.put_u64(self.created.0);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<FileHeader, BadRecord> {
        let mut reader = Reader::new(bytes);
        let header = FileHeader {
            directory: reader.u64()?,
            generation: reader.u64()?,
            shard: reader.u16()?,
            shards: reader.u16()?,
            placement_seed: reader.u64()?,
            created: Time(reader.u64()?),
        };
        reader.end()?;
        if header.shard >= header.shards {
            return Err(BadRecord("the header names a shard that does not exist"));
        }
        Ok(header)
    }
}
