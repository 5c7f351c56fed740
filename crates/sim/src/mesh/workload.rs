//! What clients of the Meshblu API choose to do.

use super::model::{DEVICES_MAX, EVERYONE, LISTS, Lists, Model, Step, open};
use super::request::What;
use crate::chance::Chance;

/// Devices that are kept for the end, if all others are gone by then.
const RESERVE: usize = 4;

/// What is chosen from.
#[derive(Debug)]
pub struct Choice<'a> {
    /// What is known.
    pub model: &'a Model,
    /// The step.
    pub now: Step,
    /// Registrations so far, whatever came of them.
    pub registrations: usize,
}

impl Choice<'_> {
    /// Some device; there is at least one. Mostly one that is there.
    fn device(&self, chance: &mut Chance) -> usize {
        let mut device = chance.index(self.model.devices.len());
        for _ in 0..4 {
            if self.model.exists(device, self.now, self.now).can {
                break;
            }
            device = chance.index(self.model.devices.len());
        }
        device
    }

    /// Some device and one of its tokens, mostly a good one.
    pub fn credentials(&self, chance: &mut Chance, good_percent: u64) -> (usize, usize) {
        let wants_good = chance.percent(good_percent);
        let mut found = (0, 0);
        for _ in 0..8 {
            let device = self.device(chance);
            found = (
                device,
                chance.index(self.model.devices[device].tokens.len()),
            );
            if !wants_good
                || self
                    .model
                    .is_valid(found.0, found.1, self.now, self.now)
                    .must
            {
                break;
            }
        }
        found
    }

    /// The tokens that are good for sure.
    pub fn good(&self) -> Vec<(usize, usize)> {
        let devices = self.model.devices.iter().enumerate();
        let all = devices.flat_map(|(at, one)| (0..one.tokens.len()).map(move |token| (at, token)));
        all.filter(|(device, token)| {
            self.model
                .is_valid(*device, *token, self.now, self.now)
                .must
        })
        .collect()
    }

    /// Another device.
    pub fn registration(&self, chance: &mut Chance, is_last: bool) -> Option<What> {
        let reserve = if is_last { 0 } else { RESERVE };
        let has_room = self.registrations + reserve < DEVICES_MAX;
        has_room.then(|| What::Register(Box::new(self.lists(chance))))
    }

    /// Anything, on behalf of a device that may be another.
    pub fn anything(&self, chance: &mut Chance, me: usize) -> What {
        let other = self.device(chance);
        let own = chance.percent(60);
        let target = if own { me } else { other };
        let kind = chance.index(8);
        match chance.below(100) {
            0..4 => What::Whoami,
            4..10 => What::Get(other),
            10..13 => What::Search,
            13..16 => self.registration(chance, false).unwrap_or(What::Whoami),
            16..22 => What::SetLists(target, Box::new(self.lists(chance))),
            22..30 => What::SetList(target, chance.index(LISTS.len()), self.list(chance)),
            30..38 => What::SetProperty(target, chance.index(2)),
            38..54 => What::Subscribe(other, if own { me } else { self.device(chance) }, kind),
            54..57 => What::Unsubscribe(other, me, kind),
            57 => What::UnsubscribeAll(target, chance.percent(50).then_some(kind)),
            58..60 => What::Subscriptions(target),
            60..64 => What::Generate(target, chance.percent(60).then(|| chance.below(2))),
            64..67 => {
                let tokens = self.model.devices[target].tokens.len();
                What::Revoke(target, chance.index(tokens))
            }
            67 => What::RevokeTagged(target, chance.percent(70).then(|| chance.below(2))),
            68 => What::Reset(target),
            69 if chance.percent(40) => What::Unregister(target),
            70 => What::Claim(other),
            71..80 => What::Broadcast,
            _ => self.message(chance),
        }
    }

    /// A message, to a few devices or to all.
    pub fn message(&self, chance: &mut Chance) -> What {
        let mut direct: Vec<usize> = (0..chance.below(4)).map(|_| self.device(chance)).collect();
        direct.sort_unstable();
        direct.dedup();
        What::Message(direct, chance.percent(25))
    }

    fn lists(&self, chance: &mut Chance) -> Lists {
        match chance.below(10) {
            0..3 => open(),
            3 => [0; 13],
            _ => std::array::from_fn(|_| self.list(chance)),
        }
    }

    fn list(&self, chance: &mut Chance) -> u32 {
        let devices = self.model.devices.len();
        match chance.below(10) {
            0..4 => EVERYONE,
            4 => 0,
            _ if devices == 0 => 0,
            _ => (0..chance.below(4)).fold(0, |mask, _| mask | 1 << chance.index(devices)),
        }
    }
}
