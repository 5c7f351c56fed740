//! What one shard tells another.
//!
//! A frame travels on one of two lanes. A request that wants an answer holds a credit of its lane
//! (`lanes.rs`) until the answer is there, and a reply lane holds as many frames as there are
//! credits: so a reply always has room.

/// The lane that a frame travels on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// May be full: frames then wait at the sender, and the connections that feed it are paused.
    Request,
    /// Always has room.
    Reply,
}

/// One message between two shards.
#[derive(Debug)]
pub enum Frame {
    /// Placeholder of the first commit.
    Nothing,
}

impl Frame {
    /// The lane that this kind of frame travels on.
    pub fn lane(&self) -> Lane {
        Lane::Request
    }
}
