//! What the driver runs. A [`shard::Shard`] in the broker; something tiny in the comparison of
//! runtimes and in the driver's own tests.

use shard::{Effects, Event, Shard, Time};

/// Takes events and answers with effects; see [`shard::Shard`].
pub trait Handler {
    /// Takes one event, pushes its effects, does bounded work and returns.
    fn handle(&mut self, now: Time, event: Event<'_>, effects: &mut Effects);

    /// When to call with [`Event::Tick`]; `None` if there is nothing to wait for.
    fn next_deadline(&self) -> Option<Time>;

    /// A turn is over: all its effects have been carried out, and now it is `end`.
    fn turned(&mut self, end: Time) {
        let _ = end;
    }

    /// Whether connections are to be refused until it says [`shard::Effect::Ready`]. Without a
    /// word it is ready when it is made.
    fn awaits_ready(&self) -> bool {
        false
    }
}

impl Handler for Shard {
    fn handle(&mut self, now: Time, event: Event<'_>, effects: &mut Effects) {
        Shard::handle(self, now, event, effects);
    }

    fn next_deadline(&self) -> Option<Time> {
        Shard::next_deadline(self)
    }

    fn turned(&mut self, end: Time) {
        Shard::turned(self, end);
    }

    fn awaits_ready(&self) -> bool {
        true
    }
}
