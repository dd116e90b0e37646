//! Limits how often a connection may send a message, and how often an address may publish.

use super::listening::slots::network;
use super::settings::RateLimit;
use arc_swap::ArcSwapOption;
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use std::net::IpAddr;
use std::sync::Arc;

/// Limits one connection's messages. Takes memory only while a limit is set.
#[derive(Default)]
pub(super) struct MessageRateLimiter(Option<Box<(RateLimit, DefaultDirectRateLimiter)>>);

impl MessageRateLimiter {
    /// Counts one message; false: it exceeds the limit. A changed limit begins with a full burst.
    pub(super) fn allows(&mut self, rate: Option<RateLimit>) -> bool {
        let Some(rate) = rate else {
            self.0 = None;
            return true;
        };
        if self.0.as_ref().is_none_or(|current| current.0 != rate) {
            self.0 = Some(Box::new((rate, RateLimiter::direct(quota(rate)))));
        }
        self.0.as_ref().is_none_or(|current| current.1.check().is_ok())
    }
}

/// Limits the events of each address.
#[derive(Default)]
pub(super) struct EventRateLimiter(ArcSwapOption<(RateLimit, DefaultKeyedRateLimiter<IpAddr>)>);

impl EventRateLimiter {
    /// Counts one event from `address`; false: it exceeds the limit. A changed limit begins with full bursts.
    pub(super) fn allows(&self, address: IpAddr, rate: Option<RateLimit>) -> bool {
        let Some(rate) = rate else { return true };
        let mut current = self.0.load_full();
        if current.as_ref().is_none_or(|current| current.0 != rate) {
            // Two connections may do this at once: that costs one burst, once, at a change of settings.
            current = Some(Arc::new((rate, RateLimiter::keyed(quota(rate)))));
            self.0.store(current.clone());
        }
        current.is_none_or(|current| current.1.check_key(&network(address)).is_ok())
    }

    /// Drops the addresses that have been silent for long enough to have their full burst again. Without it one entry
    /// an address would stay for ever.
    pub(super) fn drop_silent_addresses(&self) {
        if let Some(current) = &*self.0.load() {
            current.1.retain_recent();
            current.1.shrink_to_fit();
        }
    }
}

fn quota(rate: RateLimit) -> Quota {
    Quota::per_second(rate.per_second).allow_burst(rate.burst)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    fn rate(burst: u32) -> Option<RateLimit> {
        Some(RateLimit { per_second: NonZeroU32::MIN, burst: NonZeroU32::new(burst).unwrap() })
    }

    #[test]
    fn a_burst_passes_and_no_more() {
        let mut messages = MessageRateLimiter::default();
        let taken = (0..10).filter(|_| messages.allows(rate(3))).count();
        assert_eq!(taken, 3);
        assert!(messages.allows(rate(4)), "a new rate begins anew");
        assert!((0..10).all(|_| messages.allows(None)), "control: without a rate everything is taken");
    }

    #[test]
    fn each_address_has_its_own_rate() {
        let events = EventRateLimiter::default();
        let (ann, bob) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        assert!(events.allows(ann, rate(1)) && !events.allows(ann, rate(1)) && events.allows(bob, rate(1)));
        assert!(events.allows(ann, None));
    }
}
