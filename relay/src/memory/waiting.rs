//! The queue of reads that wait for memory, in their order of arrival. Each gets memory as soon as its connection may
//! hold it, so reads of connections that hold less overtake those of connections that hold much.

use super::{ClientMemory, ConnectionMemory, HeldFor, Reservation};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

/// One read that waits. Bounded by the queries that may run at the same time.
#[derive(Debug)]
pub(super) struct Waiter {
    connection: Arc<ConnectionMemory>,
    what: HeldFor,
    least_bytes: usize,
    most_bytes: usize,
    grant: oneshot::Sender<Reservation>,
}

pub(super) async fn wait(
    connection: &Arc<ConnectionMemory>,
    what: HeldFor,
    least_bytes: usize,
    most_bytes: usize,
) -> Reservation {
    let (grant, granted) = oneshot::channel();
    let account = &connection.account;
    {
        let mut waiters = account.waiters.lock();
        waiters.push_back(Waiter { connection: connection.clone(), what, least_bytes, most_bytes, grant });
        account.waiting.store(waiters.len(), Ordering::SeqCst);
    }
    // Something may have been given back before anybody could see that we wait.
    account.serve_waiters();
    match granted.await {
        Ok(reservation) => reservation,
        // A waiter leaves the queue with a grant, or when its receiver is gone; the account lives as long as we do.
        Err(_) => connection.hold(what, least_bytes),
    }
}

impl ClientMemory {
    /// Grants what may be granted. To be called whenever bytes were given back.
    pub(super) fn serve_waiters(&self) {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut grants = Vec::new();
        {
            let mut waiters = self.waiters.lock();
            waiters.retain(|waiter| !waiter.grant.is_closed());
            let mut at = 0;
            while let Some(Waiter { connection, what, least_bytes, most_bytes, .. }) = waiters.get(at) {
                match connection.hold_at_once(*what, *least_bytes, *most_bytes) {
                    Some(reservation) => grants.extend(waiters.remove(at).map(|waiter| (waiter.grant, reservation))),
                    None => at += 1,
                }
            }
            self.waiting.store(waiters.len(), Ordering::SeqCst);
        }
        // Unlocked: a reservation whose waiter is gone is dropped, and dropping it takes this lock.
        for (grant, reservation) in grants {
            drop(grant.send(reservation));
        }
    }
}
