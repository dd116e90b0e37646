//! How often a client may speak, and how often an address may publish.

use super::listening::slots::network;
use super::settings::Rate;
use arc_swap::ArcSwapOption;
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use std::net::IpAddr;
use std::sync::Arc;

/// Limits one connection's messages. Takes memory only while a rate is set.
#[derive(Default)]
pub(super) struct MessageRate(Option<Box<(Rate, DefaultDirectRateLimiter)>>);

impl MessageRate {
    /// Counts one message; false: it was one too many. A changed rate begins with a full burst.
    pub(super) fn allows(&mut self, rate: Option<Rate>) -> bool {
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
pub(super) struct EventRate(ArcSwapOption<(Rate, DefaultKeyedRateLimiter<IpAddr>)>);

impl EventRate {
    /// Counts one event from `address`; false: it was one too many. A changed rate begins with full bursts.
    pub(super) fn allows(&self, address: IpAddr, rate: Option<Rate>) -> bool {
        let Some(rate) = rate else { return true };
        let mut current = self.0.load_full();
        if current.as_ref().is_none_or(|current| current.0 != rate) {
            // Two connections may do this at once: one burst more, once, at a change of settings.
            current = Some(Arc::new((rate, RateLimiter::keyed(quota(rate)))));
            self.0.store(current.clone());
        }
        current.is_none_or(|current| current.1.check_key(&network(address)).is_ok())
    }

    /// Forgets addresses that have been silent for long enough to have their full burst again. To be called now and
    /// then.
    pub(super) fn forget_silent(&self) {
        if let Some(current) = &*self.0.load() {
            current.1.retain_recent();
            current.1.shrink_to_fit();
        }
    }
}

fn quota(rate: Rate) -> Quota {
    Quota::per_second(rate.per_second).allow_burst(rate.burst)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    fn rate(burst: u32) -> Option<Rate> {
        Some(Rate { per_second: NonZeroU32::MIN, burst: NonZeroU32::new(burst).unwrap() })
    }

    #[test]
    fn a_burst_is_taken_and_no_more() {
        let mut messages = MessageRate::default();
        let taken = (0..10).filter(|_| messages.allows(rate(3))).count();
        assert_eq!(taken, 3);
        assert!(messages.allows(rate(4)), "a new rate begins anew");
        assert!((0..10).all(|_| messages.allows(None)), "control: without a rate everything is taken");
    }

    #[test]
    fn each_address_has_its_own_rate() {
        let events = EventRate::default();
        let (ann, bob) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        assert!(events.allows(ann, rate(1)) && !events.allows(ann, rate(1)) && events.allows(bob, rate(1)));
        assert!(events.allows(ann, None));
    }
}
