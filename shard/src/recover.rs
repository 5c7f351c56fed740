//! A shard starts again: it takes in what was kept, tells the others, and is ready.

use crate::{Change, Effects, Shard, Time};

impl Shard {
    /// Takes in one kept record: a *put* change. Sessions come first, then the rest; messages of a
    /// queue in the order of their positions. Errs, saying why, if the record contradicts the
    /// others.
    pub fn recover(&mut self, change: Change) -> Result<(), String> {
        Err(format!("not a record: {change:?}"))
    }

    /// All records are in; `alive` is when the shard was last known to be alive. From the next
    /// [`crate::Event::Tick`] on, which is due at once, the shard tells the others what it has,
    /// and says [`crate::Effect::Ready`] when they know. Also for a shard that has recovered
    /// nothing.
    pub fn begin(&mut self, alive: Time) {
        let _ = alive;
        self.is_beginning = true;
    }

    pub(crate) fn go_on_beginning(&mut self, effects: &mut Effects) {
        if std::mem::take(&mut self.is_beginning) {
            effects.push(crate::Effect::Ready);
        }
    }
}
