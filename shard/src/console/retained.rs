//! Retained messages that are kept here: listed, read, forgotten.

use super::{Collector, LOOKS_MAX, ROWS_MAX, Report, Rows};
use crate::Time;
use crate::shard::Shard;
use mqtt_v5_codec::QoS;

/// Messages looked up at a time, so that long topics do not make a long report.
const STRETCH: u32 = 32;

/// A retained message in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetainedRow {
    /// Its topic.
    pub topic: Box<str>,
    /// Bytes of its payload.
    pub payload_bytes: u64,
    /// As it was published.
    pub qos: QoS,
    /// When it is forgotten.
    pub expires: Option<Time>,
}

/// A retained message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetainedMessage {
    /// What a list says of it.
    pub row: RetainedRow,
    /// Its payload.
    pub payload: Vec<u8>,
}

impl Shard {
    pub(super) fn list_retained(
        &self,
        filter: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Rows<RetainedRow, Box<str>> {
        let mut collector = Collector::new(limit);
        let next = self.visit_retained(filter, after, &mut collector, |message| RetainedRow {
            topic: message.topic.into(),
            payload_bytes: message.payload.len() as u64,
            qos: message.qos,
            expires: message.expires,
        });
        collector.finish(next)
    }

    /// Collects what becomes of the messages that match, up to the bounds; where to go on.
    fn visit_retained<T>(
        &self,
        filter: &str,
        after: Option<&str>,
        collector: &mut Collector<T>,
        row: impl Fn(&crate::MessageView<'_>) -> T,
    ) -> Option<Box<str>> {
        let mut after: Option<String> = after.map(str::to_owned);
        loop {
            let rows = collector.rows_left.min(STRETCH) as usize;
            if rows == 0 || collector.bytes_left == 0 || collector.looks_left == 0 {
                return after.map(String::into_boxed_str);
            }
            let looks = collector.looks_left.min(LOOKS_MAX / 8);
            collector.looks_left -= looks;
            after = self.retained.page(
                filter,
                after.as_deref(),
                rows,
                looks as usize,
                |topic, message| {
                    let view = message.view();
                    if !view.is_expired(self.now) {
                        collector.push(row(&view), topic.len());
                    }
                },
            );
            after.as_ref()?;
        }
    }

    pub(super) fn retained_message(&self, topic: &str) -> Option<RetainedMessage> {
        let message = self.retained.get(topic)?;
        let view = message.view();
        (!view.is_expired(self.now)).then(|| RetainedMessage {
            row: RetainedRow {
                topic: topic.into(),
                payload_bytes: view.payload.len() as u64,
                qos: view.qos,
                expires: view.expires,
            },
            payload: view.payload.to_vec(),
        })
    }

    pub(super) fn forget_matching(&mut self, filter: &str, after: Option<&str>) -> Report {
        if self.durable.is_on() && self.durable.is_stalled {
            return Report::StoreStalled;
        }
        let mut collector = Collector::new(ROWS_MAX);
        let next = self.visit_retained(filter, after, &mut collector, |message| {
            Box::<str>::from(message.topic)
        });
        let count = collector.rows.len() as u32;
        for topic in collector.rows {
            self.forget_retained(&topic, self.durable.is_on());
        }
        Report::RetainedForgotten { count, next }
    }
}
