//! Devices, tokens and subscriptions of former processes.

use crate::{Change, DeviceSubscription, Shard};
use meshblu::{Device, Kind, Token};

impl Shard {
    /// Takes in one kept record of the Meshblu API. Devices come first, then the rest. Errs, saying
    /// why, if the record is damaged or contradicts the others.
    pub(crate) fn recover_mesh(&mut self, change: Change) -> Result<(), String> {
        match change {
            Change::PutDevice { device, record } => {
                let document = Device::from_record(device, &record)
                    .ok_or_else(|| format!("the record of device {device} is damaged"))?;
                if self.mesh.registry.find(device).is_some() {
                    return Err(format!("device {device} is there twice"));
                }
                self.mesh.registry.insert(document);
            }
            Change::PutToken {
                device,
                token,
                record,
            } => {
                let kept = Token::from_record(&record)
                    .filter(|kept| kept.id == token)
                    .ok_or_else(|| format!("a token of device {device} is damaged"))?;
                let entry = self.mesh.registry.find_mut(device);
                let entry = entry.ok_or_else(|| format!("a token of no device: {device}"))?;
                entry.tokens.push(kept);
            }
            Change::PutDeviceSubscription(subscription) => {
                let DeviceSubscription { emitter, kind, .. } = subscription;
                let kind = Kind::from_u8(kind)
                    .ok_or_else(|| format!("a subscription to {emitter} of an unknown kind"))?;
                if self.mesh.registry.find(emitter).is_none() {
                    return Err(format!("a subscription to no device: {emitter}"));
                }
                let maximum = usize::MAX;
                self.mesh.registry.subscribe(subscription, kind, maximum);
            }
            other => return Err(format!("not a record: {other:?}")),
        }
        Ok(())
    }
}
