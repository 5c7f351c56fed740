//! What unregistered devices leave behind on every shard: subscriptions, which end at once, and kept
//! sessions, which nobody could ever take over again. Those are looked for among all sessions, a
//! piece at every tick, for all devices that went within [`PAUSE`].

use crate::map::{Set, set_with_seed};
use crate::shard::{STEPS_PER_TICK, TimerKey};
use crate::{DeviceId, Effects, Shard, Span};

/// How long devices are gathered before sessions are looked for. Longer than other shards need to
/// close the connections of a device.
const PAUSE: Span = Span::from_s(5);

/// Devices whose sessions are to be ended.
#[derive(Debug)]
pub(crate) struct Gone {
    /// To be looked for when the timer is due.
    gathered: Set<DeviceId>,
    /// Looked for now, and the next place of the table of sessions.
    sought: Option<(Set<DeviceId>, u32)>,
    seed: u64,
}

impl Gone {
    /// None yet.
    pub fn new(seed: u64) -> Gone {
        Gone {
            gathered: set_with_seed(seed),
            sought: None,
            seed,
        }
    }

    /// Whether the next tick has something to do.
    pub fn wants_turn(&self) -> bool {
        self.sought.is_some()
    }
}

impl Shard {
    /// A device has been unregistered.
    pub(crate) fn on_device_gone(&mut self, device: DeviceId) {
        self.forget_subscriber(device);
        self.gather(device);
    }

    fn gather(&mut self, device: DeviceId) {
        let gone = &mut self.mesh.gone;
        if gone.gathered.is_empty() {
            self.timers.schedule(self.now + PAUSE, TimerKey::Gone);
        }
        gone.gathered.insert(device);
    }

    /// The pause is over.
    pub(crate) fn on_gone_timer(&mut self) {
        let gone = &mut self.mesh.gone;
        if gone.sought.is_some() {
            self.timers.schedule(self.now + PAUSE, TimerKey::Gone);
            return;
        }
        let none = set_with_seed(gone.seed);
        gone.sought = Some((std::mem::replace(&mut gone.gathered, none), 0));
    }

    /// Goes on looking for sessions of devices that are gone.
    pub(crate) fn end_sessions_of_gone(&mut self, effects: &mut Effects) {
        let Some((devices, from)) = self.mesh.gone.sought.take() else {
            return;
        };
        let end = self.sessions.end();
        let to = from.saturating_add(STEPS_PER_TICK as u32).min(end);
        for index in from..to {
            let Some(session) = self.sessions.find(index) else {
                continue;
            };
            let device = session.device.as_deref().copied();
            let Some(device) = device.filter(|device| devices.contains(device)) else {
                continue;
            };
            if session.connection.is_some() {
                // Its owner has it closed.
                self.gather(device);
            } else if !session.is_ending {
                // Nobody speaks for the device any more.
                self.sessions.at_mut(index).will = None;
                self.end_session(index, effects);
            }
        }
        if to < end {
            self.mesh.gone.sought = Some((devices, to));
        }
    }
}
