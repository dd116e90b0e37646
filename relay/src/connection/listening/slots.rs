//! How many connections there are, and how many from each address.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use tokio::sync::watch;

/// Counts connections. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::connection) struct Slots(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    open: watch::Sender<usize>,
    /// The standard hasher has a secret key: the owner of a network chooses its addresses, and could make them collide.
    per_address: Mutex<HashMap<IpAddr, usize>>,
}

/// One of the relay's connections; given back when dropped.
#[derive(Debug)]
pub(in crate::connection) struct Slot(Arc<Inner>);

/// One of the connections of an address; given back when dropped.
#[derive(Debug)]
pub(in crate::connection) struct AddressSlot {
    inner: Arc<Inner>,
    address: IpAddr,
}

impl Slots {
    pub(in crate::connection) fn new() -> Self {
        Self(Arc::new(Inner { open: watch::Sender::new(0), per_address: Mutex::default() }))
    }

    /// A slot for one more connection, unless there are `max` already.
    pub(in crate::connection) fn enter(&self, max: usize) -> Option<Slot> {
        let mut entered = false;
        self.0.open.send_if_modified(|open| {
            entered = *open < max;
            *open += usize::from(entered);
            false
        });
        entered.then(|| Slot(self.0.clone()))
    }

    /// A slot for one more connection from `address`, unless there are `max` already; 0: any number.
    pub(in crate::connection) fn enter_from(&self, address: IpAddr, max: usize) -> Option<AddressSlot> {
        let address = network(address);
        let mut per_address = self.0.per_address.lock();
        let count = per_address.entry(address).or_default();
        if max > 0 && *count >= max {
            return None;
        }
        *count += 1;
        Some(AddressSlot { inner: self.0.clone(), address })
    }

    /// How many connections there are.
    pub(in crate::connection) fn open(&self) -> usize {
        *self.0.open.borrow()
    }

    /// Waits until there is none. Cancel safe.
    pub(in crate::connection) async fn empty(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.open.subscribe().wait_for(|open| *open == 0).await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.open.send_if_modified(|open| {
            *open -= 1;
            *open == 0
        });
    }
}

impl Drop for AddressSlot {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = self.inner.per_address.lock().entry(self.address) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

/// What counts as one address: an IPv4 address, or the /64 that an IPv6 host can choose freely from.
pub(in crate::connection) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_limited_and_given_back() {
        let slots = Slots::new();
        let first = slots.enter(2);
        let second = slots.enter(2);
        assert!(first.is_some() && second.is_some() && slots.enter(2).is_none());
        drop(first);
        assert_eq!(slots.open(), 1);
        assert!(slots.enter(2).is_some());
    }

    #[test]
    fn each_address_has_its_own_slots() {
        let slots = Slots::new();
        let (ann, bob): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let held = slots.enter_from(ann, 1);
        assert!(held.is_some() && slots.enter_from(ann, 1).is_none() && slots.enter_from(bob, 1).is_some());
        assert!(slots.enter_from(ann, 0).is_some(), "0: any number");
        drop(held);
        assert!(slots.enter_from(ann, 1).is_some());
        assert!(slots.0.per_address.lock().is_empty(), "nothing is kept for those who left");
    }

    #[test]
    fn hosts_of_one_v6_network_and_mapped_addresses_count_as_one() {
        let network = |text: &str| network(text.parse().unwrap());
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff::9"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
    }
}
