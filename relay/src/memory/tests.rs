//! The account returns to 0 in whichever order reservations are dropped, and divides fairly.
#![allow(clippy::unwrap_used)]

use super::*;
use futures_util::FutureExt;
use proptest::prelude::*;

const MIB: usize = 1 << 20;

fn held_by_kind(account: &ClientMemory) -> usize {
    HeldFor::ALL.iter().map(|what| account.held_for(*what)).sum()
}

/// What a random history does to one of a few connections.
#[derive(Debug, Clone)]
enum AccountStep {
    Hold(usize, usize, usize),
    TryHold(usize, usize, usize),
    Wait(usize, usize),
    Resize(usize, usize),
    TryGrow(usize, usize),
    Drop(usize),
    GiveUp(usize),
    Settle,
}

fn step() -> impl Strategy<Value = AccountStep> {
    let (connection, bytes, at) = (0_usize..4, 0_usize..3 * MIB, 0_usize..64);
    prop_oneof![
        (connection.clone(), 0_usize..4, bytes.clone()).prop_map(|(a, b, c)| AccountStep::Hold(a, b, c)),
        (connection.clone(), 0_usize..4, bytes.clone()).prop_map(|(a, b, c)| AccountStep::TryHold(a, b, c)),
        (connection, bytes.clone()).prop_map(|(a, b)| AccountStep::Wait(a, b)),
        (at.clone(), bytes.clone()).prop_map(|(a, b)| AccountStep::Resize(a, b)),
        (at.clone(), bytes).prop_map(|(a, b)| AccountStep::TryGrow(a, b)),
        at.clone().prop_map(AccountStep::Drop),
        at.prop_map(AccountStep::GiveUp),
        Just(AccountStep::Settle),
    ]
}

proptest! {
    /// The sums agree at each step, and are zero once everything is gone: reservations, and waits that were given up
    /// before or after their grant.
    #[test]
    fn the_account_balances(steps in proptest::collection::vec(step(), 1..200)) {
        let account = ClientMemory::new(16 * MIB);
        let connections: Vec<_> = (0..4).map(|_| account.connect()).collect();
        let mut held: Vec<Reservation> = Vec::new();
        let mut waits = Vec::new();
        for step in steps {
            match step {
                AccountStep::Hold(by, what, bytes) => held.push(connections[by].hold(HeldFor::ALL[what], bytes)),
                AccountStep::TryHold(by, what, bytes) => {
                    let room = connections[by].room_for(HeldFor::ALL[what]);
                    let got = connections[by].try_hold(HeldFor::ALL[what], bytes);
                    prop_assert_eq!(got.is_some(), bytes <= room);
                    held.extend(got);
                }
                AccountStep::Wait(by, bytes) => {
                    let connection = connections[by].clone();
                    let wait = async move { connection.wait_to_hold(HeldFor::Rows, bytes / 2, bytes).await };
                    let mut wait = wait.boxed();
                    match (&mut wait).now_or_never() {
                        Some(reservation) => held.push(reservation),
                        None => waits.push(wait),
                    }
                }
                AccountStep::Resize(at, bytes) if at < held.len() => held[at].resize(bytes),
                AccountStep::TryGrow(at, more) if at < held.len() => drop(held[at].try_grow(more)),
                AccountStep::Drop(at) if at < held.len() => drop(held.swap_remove(at)),
                AccountStep::GiveUp(at) if at < waits.len() => drop(waits.swap_remove(at)),
                AccountStep::Settle => waits.retain_mut(|wait| match wait.now_or_never() {
                    Some(reservation) => {
                        held.push(reservation);
                        false
                    }
                    None => true,
                }),
                _ => {}
            }
            prop_assert_eq!(account.held_bytes(), held_by_kind(&account));
            let by_connection: usize = connections.iter().map(|connection| connection.held_bytes()).sum();
            prop_assert_eq!(account.held_bytes(), by_connection);
        }
        drop(held);
        drop(waits);
        prop_assert_eq!((account.held_bytes(), held_by_kind(&account)), (0, 0));
        // A dropped waiter leaves the queue at the next look at it.
        drop(connections[0].hold(HeldFor::Rows, 1));
        prop_assert_eq!(account.waiting(), 0);
    }

    /// However many connections take as much as they may, the next one gets as much as each of them has.
    #[test]
    fn the_next_connection_gets_what_the_greedy_have(greedy in 1_usize..200) {
        let account = ClientMemory::new(256 * MIB);
        let connections: Vec<_> = (0..greedy).map(|_| account.connect()).collect();
        let mut held = Vec::new();
        // In turns, until none may take a page more.
        while let taken = connections.iter().filter_map(|one| one.try_hold(HeldFor::Rows, 16 << 10)).collect::<Vec<_>>()
            && !taken.is_empty()
        {
            held.extend(taken);
        }
        prop_assert!(account.held_bytes() < account.total_bytes());
        let most = connections.iter().map(|one| one.held_bytes()).max().unwrap();
        let next = account.connect();
        prop_assert!(next.room_bytes() + (16 << 10) >= most, "{} for the next, {most} each", next.room_bytes());
    }
}

#[test]
fn whoever_holds_less_goes_first_and_else_the_first() {
    let account = ClientMemory::new(16 * MIB);
    let (greedy, first, second) = (account.connect(), account.connect(), account.connect());
    let mut all = greedy.hold(HeldFor::Rows, 16 * MIB);
    let mut waits: Vec<_> = [&greedy, &first, &second]
        .map(|connection| Box::pin(connection.wait_to_hold(HeldFor::Rows, MIB, MIB)))
        .into_iter()
        .collect();
    assert!(waits.iter_mut().all(|wait| wait.now_or_never().is_none()));
    assert_eq!((account.waiting(), account.pressure()), (3, Pressure::Reqs));
    all.resize(8 * MIB - 1);
    // A share of 1 MiB is free: the first of those that hold nothing gets it, before the greedy one that asked earlier.
    let got = waits[1].as_mut().now_or_never();
    assert!(got.is_some() && waits[0].as_mut().now_or_never().is_none() && waits[2].as_mut().now_or_never().is_none());
    drop(got);
    assert!(waits[2].as_mut().now_or_never().is_some());
    assert!(waits[0].as_mut().now_or_never().is_none(), "it holds half of all");
    drop(all);
    assert!(waits[0].as_mut().now_or_never().is_some());
    assert_eq!((account.held_bytes(), account.waiting(), account.pressure()), (0, 0, Pressure::None));
}

#[test]
fn a_wait_takes_less_where_there_is_less() {
    let account = ClientMemory::new(16 * MIB);
    let (one, other) = (account.connect(), account.connect());
    let held = one.hold(HeldFor::Outbox, 12 * MIB);
    let got = other.wait_to_hold(HeldFor::Rows, MIB / 4, MIB).now_or_never().unwrap();
    assert_eq!(got.bytes(), MIB / 2, "an eighth of 4 MiB");
    assert!(one.is_over_its_share(), "it took them when more was free");
    assert_eq!((account.held_for(HeldFor::Outbox), account.held_for(HeldFor::Rows)), (held.bytes(), got.bytes()));
}

/// A task that is aborted, or panics, gives back what it held and what it was about to get.
#[tokio::test]
async fn tasks_that_end_early_give_back() {
    let account = ClientMemory::new(MIB);
    let connection = account.connect();
    for panics in [false, true] {
        let connection = connection.clone();
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            let held = connection.hold(HeldFor::Rows, 2 * MIB);
            let _ = ready.send(());
            assert!(!panics, "as this test wants");
            let more = connection.wait_to_hold(HeldFor::Rows, 1, 1).await;
            drop((held, more));
        });
        is_ready.await.unwrap();
        task.abort();
        assert!(task.await.is_err());
        assert_eq!(account.held_bytes(), 0);
    }
}
