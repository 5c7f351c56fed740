//! How many webhooks are being called at each host: one that answers slowly, or never, must not
//! keep all threads from the others. Bounded by the number of threads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use ureq::http::Uri;

/// Calls to one host at the same time.
pub const PER_HOST_MAX: usize = 2;

/// Calls under way, by host.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    under_way: Arc<Mutex<BTreeMap<String, usize>>>,
}

/// A call to a host, for as long as this lives.
#[derive(Debug)]
pub struct Turn {
    host: String,
    hosts: Hosts,
}

impl Hosts {
    /// A turn at the host of this URL; `None` while it has enough. What is no URL has a host of its
    /// own: calling it takes no time.
    pub fn enter(&self, url: &str) -> Option<Turn> {
        let uri: Option<Uri> = url.parse().ok();
        let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
        let host = host.to_ascii_lowercase();
        let mut under_way = self.lock();
        let count = under_way.entry(host.clone()).or_default();
        if *count >= PER_HOST_MAX {
            return None;
        }
        *count += 1;
        Some(Turn {
            host,
            hosts: self.clone(),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, usize>> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut under_way = self.hosts.lock();
        if let Some(count) = under_way.get_mut(&self.host) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.host);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_so_many_turns_however_it_is_written() {
        let hosts = Hosts::default();
        let first = hosts.enter("http://example.org/a").unwrap();
        let second = hosts.enter("https://user@EXAMPLE.org:8080/b?c").unwrap();
        assert!(hosts.enter("http://Example.org/").is_none());
        let other = hosts.enter("http://example.net/").unwrap();
        drop(first);
        let third = hosts.enter("http://example.org/").unwrap();
        assert!(hosts.enter("http://example.org/").is_none());
        drop((second, third, other));
        assert!(hosts.lock().is_empty());
        assert!(hosts.enter("no URL").is_some());
    }
}
