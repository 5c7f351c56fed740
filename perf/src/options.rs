//! What a run may be told; each scenario has its own defaults for what is left out.

use std::time::Duration;

use crate::wire::{STAMP_BYTES, Version};

/// Choices for one scenario.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Seconds measured.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Seconds before measuring starts.
    #[arg(long, default_value_t = 1.0)]
    pub warm_up: f64,
    /// Publishing clients.
    #[arg(long)]
    pub publishers: Option<usize>,
    /// Subscribing clients.
    #[arg(long)]
    pub subscribers: Option<usize>,
    /// Bytes of payload, at least 16.
    #[arg(long)]
    pub payload: Option<usize>,
    /// QoS of what is published, 0 or 1.
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=1))]
    pub qos: Option<u8>,
    /// QoS of the subscriptions, 0 or 1.
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=1))]
    pub subscriber_qos: Option<u8>,
    /// Messages that a publisher may have on their way (closed loop).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub window: Option<u32>,
    /// Microseconds that the generator lets input pile up in a closed loop; 0 looks at once.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(0..=100_000))]
    pub pause_us: u64,
    /// Messages a second of all publishers together (open loop, one write per message).
    #[arg(long)]
    pub rate: Option<f64>,
    /// How many connections, filters, subscriptions or retained messages the scenario sets up.
    #[arg(long)]
    pub count: Option<usize>,
    /// Connections on their way at once while connecting. Above 128, brokers with a short accept
    /// queue (rumqttd) reset some.
    #[arg(long, default_value_t = 100)]
    pub at_once: usize,
    /// Protocol version: 4 is MQTT 3.1.1, 5 is MQTT 5.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(4..=5))]
    pub mqtt: u8,
}

impl Options {
    /// The protocol version chosen.
    pub fn version(&self) -> Version {
        if self.mqtt == 5 {
            Version::V5
        } else {
            Version::V311
        }
    }

    /// The measured time.
    pub fn measured(&self) -> Duration {
        Duration::from_secs_f64(self.seconds.clamp(0.05, 3_600.0))
    }

    /// The time before it.
    pub fn warm_up(&self) -> Duration {
        Duration::from_secs_f64(self.warm_up.clamp(0.0, 3_600.0))
    }

    /// The shortest time between two looks at the sockets, in a closed loop.
    pub fn pause(&self) -> Duration {
        Duration::from_micros(self.pause_us)
    }

    /// The payload, at least as long as its stamp.
    pub fn payload(&self, default: usize) -> usize {
        self.payload
            .unwrap_or(default)
            .clamp(STAMP_BYTES, 1_000_000)
    }

    /// The offered rate, if there is a sensible one.
    pub fn rate(&self) -> Option<f64> {
        self.rate.filter(|rate| rate.is_finite() && *rate > 0.0)
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            seconds: 5.0,
            warm_up: 1.0,
            publishers: None,
            subscribers: None,
            payload: None,
            qos: None,
            subscriber_qos: None,
            window: None,
            pause_us: 100,
            rate: None,
            count: None,
            at_once: 100,
            mqtt: 4,
        }
    }
}
