//! `$SYS/broker/…`: what the broker says about itself, under the names that mosquitto uses.
//!
//! Beside mosquitto's there are `storage/commits` and `storage/changes` (both since start),
//! `storage/refused` (requests refused because the store could not write) and `storage/stalled` (how
//! many shards' stores cannot write now). None of it is kept in the store.
//!
//! Every shard counts for itself and tells shard 0, which adds up and publishes at each interval.

use crate::counters::Counters;
use crate::message::MessageView;
use crate::shard::{Shard, TimerKey};
use crate::timers::TimerId;
use crate::{Config, Effects, Frame, ShardId, Span, Time};
use mqtt_v5_codec::QoS;

/// What shard 0 knows of all.
#[derive(Debug)]
pub struct Sys {
    interval_s: u32,
    /// Of the next publication.
    timer: Option<TimerId>,
    started: Time,
    /// When rates were last worked out.
    reported: Time,
    /// The last counts of each shard; only on shard 0.
    counted: Vec<Counters>,
    loads: [Load; LOADS.len()],
}

/// Moving averages of one counter over 1, 5 and 15 minutes, per minute.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    last: u64,
    averages: [f64; 3],
}

/// Reads one counter.
type Count = fn(&Counters) -> u64;

/// Counters with averages, under their names.
const LOADS: [(&str, Count); 9] = [
    ("messages/received", |c| c.packets_received),
    ("messages/sent", |c| c.packets_sent),
    ("publish/received", |c| c.publish_received),
    ("publish/sent", |c| c.publish_sent),
    ("publish/dropped", dropped),
    ("bytes/received", |c| c.bytes_received),
    ("bytes/sent", |c| c.bytes_sent),
    ("connections", |c| c.connects_accepted),
    ("sockets", |c| c.sockets_accepted),
];

/// Minutes of the three averages.
const MINUTES: [f64; 3] = [1.0, 5.0, 15.0];

impl Sys {
    /// Nothing counted yet.
    pub fn new(config: &Config, now: Time) -> Sys {
        Sys {
            interval_s: config.limits.sys_interval_s,
            timer: None,
            started: now,
            reported: now,
            counted: vec![Counters::default(); config.shards as usize],
            loads: [Load::default(); LOADS.len()],
        }
    }

    /// Time between two publications; `None` if they are switched off.
    fn interval(&self) -> Option<Span> {
        (self.interval_s > 0).then(|| Span::from_s(u64::from(self.interval_s)))
    }

    /// Another shard has counted.
    pub fn on_counted(&mut self, from: ShardId, counters: Counters) {
        self.counted[from.index()] = counters;
    }

    fn total(&self) -> Counters {
        let mut total = Counters::default();
        self.counted.iter().for_each(|counters| total.add(counters));
        total
    }

    /// Topics below `$SYS/broker/` and their values.
    fn report(&mut self, now: Time) -> Vec<(String, String)> {
        let total = self.total();
        let mut rows = vec![
            (
                "version".into(),
                concat!("meshring version ", env!("CARGO_PKG_VERSION")).into(),
            ),
            (
                "uptime".into(),
                format!("{} seconds", now.since(self.started).0 / 1_000_000),
            ),
        ];
        for (topic, value) in [
            ("clients/connected", total.clients_connected),
            ("clients/active", total.clients_connected),
            (
                "clients/disconnected",
                total.sessions.saturating_sub(total.clients_connected),
            ),
            (
                "clients/inactive",
                total.sessions.saturating_sub(total.clients_connected),
            ),
            ("clients/total", total.sessions),
            ("clients/maximum", total.clients_maximum),
            ("clients/expired", total.sessions_expired),
            ("messages/received", total.packets_received),
            ("messages/sent", total.packets_sent),
            ("messages/stored", total.stored_messages + total.retained),
            (
                "store/messages/count",
                total.stored_messages + total.retained,
            ),
            ("store/messages/bytes", total.stored_bytes),
            ("retained messages/count", total.retained),
            ("subscriptions/count", total.subscriptions),
            ("shared_subscriptions/count", total.subscriptions_shared),
            ("publish/messages/received", total.publish_received),
            ("publish/messages/sent", total.publish_sent),
            ("publish/messages/dropped", dropped(&total)),
            ("publish/bytes/received", total.publish_bytes_received),
            ("publish/bytes/sent", total.publish_bytes_sent),
            ("bytes/received", total.bytes_received),
            ("bytes/sent", total.bytes_sent),
            ("storage/commits", total.commits),
            ("storage/changes", total.commit_changes),
            ("storage/refused", total.refused_store),
            ("storage/stalled", total.stores_stalled),
        ] {
            rows.push((topic.into(), value.to_string()));
        }
        let minutes = (now.since(self.reported).0.max(1) as f64) / 60_000_000.0;
        self.reported = now;
        for (load, (name, count)) in self.loads.iter_mut().zip(LOADS) {
            let value = count(&total);
            let rate = value.saturating_sub(load.last) as f64 / minutes;
            load.last = value;
            for (average, window) in load.averages.iter_mut().zip(MINUTES) {
                let keep = (-minutes / window).exp();
                *average = *average * keep + rate * (1.0 - keep);
                rows.push((format!("load/{name}/{window}min"), format!("{average:.2}")));
            }
        }
        rows
    }
}

fn dropped(total: &Counters) -> u64 {
    total.dropped_slow
        + total.dropped_queue_full
        + total.dropped_not_authorized
        + total.dropped_lane_full
        + total.dropped_fan_out_full
        + total.dropped_too_large
        + total.dropped_expired
}

impl Shard {
    /// Publishes every so many seconds from now on; 0: not at all. What is published already stays
    /// as it is.
    pub(crate) fn publish_sys_every(&mut self, interval_s: u32) {
        self.sys.interval_s = interval_s;
        self.schedule_sys();
    }

    /// Says when the next publication is due, an interval from now.
    pub(crate) fn schedule_sys(&mut self) {
        if let Some(timer) = self.sys.timer.take() {
            self.timers.cancel(timer);
        }
        let next = self.sys.interval().map(|interval| self.now + interval);
        self.sys.timer = next.map(|next| self.timers.schedule(next, TimerKey::Sys));
    }

    pub(crate) fn on_sys_timer(&mut self, effects: &mut Effects) {
        self.sys.timer = None;
        self.schedule_sys();
        let counters = self.counters().clone();
        let first = ShardId(0);
        if self.config.shard != first {
            self.lanes
                .send(first, Frame::Counted(Box::new(counters)), effects);
            return;
        }
        self.sys.on_counted(first, counters);
        for (topic, value) in self.sys.report(self.now) {
            let topic = format!("$SYS/broker/{topic}");
            let view = MessageView {
                topic: &topic,
                forwarded: &[],
                payload: value.as_bytes(),
                qos: QoS::AtMostOnce,
                retain: true,
                expires: None,
                publisher: None,
            };
            self.publish_own(view, false, effects);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_the_names_that_mosquitto_gives_them() {
        let mut sys = Sys::new(&Config::alone(), Time(0));
        let counters = Counters {
            sockets_accepted: 60,
            dropped_expired: 6,
            ..Counters::default()
        };
        sys.on_counted(ShardId(0), counters);
        let rows = sys.report(Time(60_000_000));
        let of = |name: &str| {
            rows.iter()
                .find(|(topic, _)| topic == name)
                .map(|row| &*row.1)
        };
        // After a minute an average over one has come 1 - 1/e of the way.
        assert_eq!(of("load/sockets/1min"), Some("37.93"));
        assert_eq!(of("load/publish/dropped/1min"), Some("3.79"));
        assert_eq!(of("publish/messages/dropped"), Some("6"));
    }
}
