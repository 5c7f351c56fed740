//! How often something came from where, in a fixed window: registrations, and logins that failed.
//!
//! A network is an IPv4 address, or the /64 that one customer has of IPv6.
//!
//! Always: the place of a network in the order is that of its window's begin, so what is forgotten
//! for lack of room is the oldest. Bounded by the maximum that it is made with; of the order, twice
//! that.

use crate::map::{Map, map_with_seed};
use std::collections::VecDeque;
use std::net::IpAddr;

/// Networks that one shard counts for each purpose. Somebody with many more is not stopped by counts.
pub(super) const NETWORKS_MAX: usize = 65_536;
/// Places of the order that are cleared for each that is taken, so that windows that are over go.
const CLEARED_PER_STEP: usize = 4;

/// The counts of all networks.
#[derive(Debug)]
pub(crate) struct Networks {
    counts: Map<IpAddr, Count>,
    /// Networks and the begins of their windows, the oldest first; one that has begun another
    /// window since stands there once more.
    order: VecDeque<(IpAddr, u32)>,
    maximum: usize,
}

/// Of one network.
#[derive(Clone, Copy, Debug)]
struct Count {
    /// When the window began, in seconds since 1970.
    begun_s: u32,
    /// How often, in the window.
    times: u32,
    /// How many are under way, which may come to be counted.
    pending: u32,
}

/// What is allowed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    /// The length of a window.
    pub window_s: u32,
    /// How often within one.
    pub times: u32,
}

/// Why a network has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// It has had all for this window; seconds until the next.
    Window(u32),
    /// So many are under way that they may come to be all.
    Pending,
}

impl Networks {
    /// None yet, at most so many.
    pub fn new(seed: u64, maximum: usize) -> Networks {
        Networks {
            counts: map_with_seed(seed),
            order: VecDeque::new(),
            maximum,
        }
    }

    /// Counts one; errs with the seconds to wait, and counts nothing, if there were too many.
    pub fn spend(&mut self, address: IpAddr, now_s: u32, allowance: Allowance) -> Result<(), u32> {
        let count = self.count(address, now_s, allowance.window_s);
        if count.times >= allowance.times {
            return Err(count.left_s(now_s, allowance.window_s));
        }
        count.times += 1;
        Ok(())
    }

    /// Begins what may come to be counted; [`Networks::end`] follows. Errs, and begins nothing, if
    /// it would be too much.
    pub fn begin(&mut self, address: IpAddr, now_s: u32, allowance: Allowance) -> Result<(), Wait> {
        let count = self.count(address, now_s, allowance.window_s);
        if count.times >= allowance.times {
            return Err(Wait::Window(count.left_s(now_s, allowance.window_s)));
        }
        if count.times.saturating_add(count.pending) >= allowance.times {
            return Err(Wait::Pending);
        }
        count.pending += 1;
        Ok(())
    }

    /// What was begun is over, and is counted or not.
    pub fn end(&mut self, address: IpAddr, is_counted: bool) {
        // It may have been forgotten meanwhile.
        if let Some(count) = self.counts.get_mut(&network_of(address)) {
            count.pending = count.pending.saturating_sub(1);
            count.times = count.times.saturating_add(u32::from(is_counted));
        }
    }

    /// How many networks are counted for.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.counts.len()
    }

    /// The count of a network in its window that has now begun or goes on.
    fn count(&mut self, address: IpAddr, now_s: u32, window_s: u32) -> &mut Count {
        let network = network_of(address);
        self.forget(now_s, window_s);
        let pending = match self.counts.get(&network) {
            Some(count) if !count.is_over(now_s, window_s) => {
                return self.counts.get_mut(&network).expect("just seen");
            }
            Some(count) => count.pending,
            None => 0,
        };
        self.order.push_back((network, now_s));
        let count = Count {
            begun_s: now_s,
            times: 0,
            pending,
        };
        self.counts.insert(network, count);
        self.counts.get_mut(&network).expect("just inserted")
    }

    /// Forgets windows that are over, and the oldest if there is no room.
    fn forget(&mut self, now_s: u32, window_s: u32) {
        for _ in 0..CLEARED_PER_STEP {
            let Some(&(network, begun_s)) = self.order.front() else {
                return;
            };
            let count = self.counts.get(&network).copied();
            let is_current = count.is_some_and(|count| count.begun_s == begun_s);
            let is_full = self.counts.len() >= self.maximum || self.order.len() >= 2 * self.maximum;
            // Something under way is still to be counted.
            let is_wanted =
                count.is_some_and(|count| !count.is_over(now_s, window_s) || count.pending > 0);
            if is_current && is_wanted && !is_full {
                return;
            }
            self.order.pop_front();
            if is_current {
                self.counts.remove(&network);
            }
        }
    }
}

impl Count {
    fn is_over(&self, now_s: u32, window_s: u32) -> bool {
        now_s.wrapping_sub(self.begun_s) >= window_s
    }

    /// Seconds until the next window.
    fn left_s(&self, now_s: u32, window_s: u32) -> u32 {
        let passed_s = now_s.wrapping_sub(self.begun_s);
        window_s.saturating_sub(passed_s).max(1)
    }
}

fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWICE: Allowance = Allowance {
        window_s: 60,
        times: 2,
    };

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn a_window_allows_so_many_and_then_the_next() {
        let mut networks = Networks::new(1, 10);
        let spend = |networks: &mut Networks, now_s| networks.spend(address(1), now_s, TWICE);
        assert_eq!(spend(&mut networks, 100), Ok(()));
        assert_eq!(spend(&mut networks, 130), Ok(()));
        assert_eq!(spend(&mut networks, 131), Err(29));
        assert_eq!(spend(&mut networks, 159), Err(1));
        assert_eq!(networks.spend(address(2), 159, TWICE), Ok(()));
        assert_eq!(spend(&mut networks, 160), Ok(()));
    }

    #[test]
    fn one_customer_of_ipv6_is_one_network_and_a_mapped_address_is_itself() {
        let mut networks = Networks::new(1, 10);
        let mut spend = |text: &str| networks.spend(text.parse().unwrap(), 1, TWICE).is_ok();
        assert!(spend("2001:db8::1") && spend("2001:db8::ffff:1") && !spend("2001:db8::2"));
        assert!(spend("2001:db8:0:1::1"));
        assert!(spend("192.0.2.1") && spend("::ffff:192.0.2.1") && !spend("192.0.2.1"));
    }

    #[test]
    fn what_is_under_way_has_its_place() {
        let mut networks = Networks::new(1, 10);
        let peer = address(1);
        assert_eq!(networks.begin(peer, 1, TWICE), Ok(()));
        assert_eq!(networks.begin(peer, 1, TWICE), Ok(()));
        assert_eq!(networks.begin(peer, 1, TWICE), Err(Wait::Pending));
        // One was right: its place is free again. The other was not.
        networks.end(peer, false);
        assert_eq!(networks.begin(peer, 2, TWICE), Ok(()));
        networks.end(peer, true);
        assert_eq!(networks.begin(peer, 2, TWICE), Err(Wait::Pending));
        networks.end(peer, true);
        assert_eq!(networks.begin(peer, 3, TWICE), Err(Wait::Window(58)));
        // What began in one window is counted in the next.
        assert_eq!(networks.begin(peer, 61, TWICE), Ok(()));
        assert_eq!(networks.spend(peer, 122, TWICE), Ok(()));
        assert_eq!(networks.begin(peer, 122, TWICE), Err(Wait::Pending));
    }

    #[test]
    fn the_oldest_are_forgotten_when_there_is_no_room() {
        let mut networks = Networks::new(1, 100);
        let once = Allowance { times: 1, ..TWICE };
        for number in 0..150 {
            assert_eq!(networks.spend(address(number), 10, once), Ok(()));
            assert!(networks.len() <= 100);
        }
        // The youngest are known still, the oldest are not.
        assert_eq!(networks.spend(address(149), 11, once), Err(59));
        assert_eq!(networks.spend(address(60), 11, once), Err(59));
        assert_eq!(networks.spend(address(0), 11, once), Ok(()));
    }

    #[test]
    fn windows_that_are_over_go_and_the_order_stays_short() {
        let mut networks = Networks::new(1, 100);
        for round in 0..50 {
            for number in 0..90 {
                assert_eq!(networks.spend(address(number), round * 60, TWICE), Ok(()));
                assert!(networks.order.len() <= 200, "{}", networks.order.len());
            }
        }
        for _ in 0..40 {
            let _ = networks.spend(address(1_000), 10_000, TWICE);
        }
        assert_eq!((networks.len(), networks.order.len()), (1, 1));
    }

    #[test]
    fn whatever_happens_the_bounds_hold() {
        let mut networks = Networks::new(1, 16);
        let mut state = 1_u64;
        for step in 0..20_000_u32 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let random = (state >> 33) as u32;
            let (peer, now_s) = (address(random % 40), step / 7);
            match random % 3 {
                0 => drop(networks.spend(peer, now_s, TWICE)),
                1 => drop(networks.begin(peer, now_s, TWICE)),
                _ => networks.end(peer, random & 64 == 0),
            }
            assert!(networks.len() <= 16 && networks.order.len() <= 32);
            for network in networks.counts.keys() {
                assert!(networks.order.iter().any(|(known, _)| known == network));
            }
        }
    }
}
