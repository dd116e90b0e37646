//! The ledger: accounts for every event at every subscription that it must reach.
//!
//! Each thread keeps the accounts of its own subscriptions, with a byte for each expected delivery, and of the events
//! that it publishes. It settles and drops an account once the last event in it is older than the run's patience: so
//! memory is bounded by the events under way.

use super::Totals;
use super::subscriber_plan::{SLOTS, Seen, SubscriberPlan};
use super::timeline::{CHUNK, Chunk, Planned, PublishOutcome, Timeline, is_replaceable, prefix};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What kind of delivery an event was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// The first delivery at this subscription, live; with the time at which the event was due, and the URL through
    /// which it was published.
    Live { intended: u64, via: u16 },
    /// The first delivery at this subscription, as a stored event.
    CaughtUp,
    /// An event that the subscription had before it was opened again.
    Again,
    /// A fault, which the ledger has counted.
    Fault,
}

/// One subscription.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// Changes with each REQ, never 0.
    session: u8,
    /// True from EOSE until it is closed.
    live: bool,
    /// True from the REQ until EOSE.
    storing: bool,
    /// When the newest of its live events was sent.
    newest_sent: u64,
    /// True for a subscription whose connection never reads.
    never_reads: bool,
}

/// One chunk's events at the subscriptions of this thread.
#[derive(Debug)]
struct Account {
    chunk: Arc<Chunk>,
    seen: Vec<Seen>,
    /// For each event, where its bytes in `state` begin.
    starts: Vec<usize>,
    /// A byte for each expected delivery: the session of the slot that got it last; 0: none.
    state: Vec<u8>,
    /// For each event, the connection that sent it; `u32::MAX`: none of this thread.
    sender: Vec<u32>,
}

/// An event that must be stored at the end of the run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    pub(super) author: u32,
    pub(super) id: [u8; 32],
    created_at: u64,
}

/// The ledger of one thread.
#[derive(Debug)]
pub(super) struct Ledger {
    subscriber_plan: SubscriberPlan,
    slots: Vec<Slot>,
    /// The subscribing connections, for events that must reach all of them.
    everyone: Vec<u32>,
    accounts: VecDeque<Account>,
    /// How many accounts have been settled.
    settled: usize,
    /// From an id's first eight bytes to its event's number.
    numbers: FxHashMap<u64, u32>,
    late_after: u64,
    pub(super) totals: Totals,
    /// Accepted events of this thread that nothing replaces, the first [`MAX_KEPT`] of them.
    kept: Vec<Kept>,
    /// The newest version of each replaceable event, by author and kind.
    newest: FxHashMap<(u32, u16), Kept>,
}

/// How many events are looked for at the end: about 48 MB a thread.
const MAX_KEPT: usize = 1_000_000;

impl Ledger {
    /// `never_reads` marks the connections that never read, `subscribes` those that subscribe.
    pub(super) fn new(
        subscriber_plan: SubscriberPlan,
        subscribes: &[bool],
        never_reads: &[bool],
        late_after: u64,
    ) -> Self {
        let slot = |peer: usize| Slot { never_reads: never_reads[peer], ..Slot::default() };
        Self {
            slots: (0..subscribes.len()).flat_map(|peer| [slot(peer); SLOTS as usize]).collect(),
            everyone: (0..subscribes.len() as u32).filter(|peer| subscribes[*peer as usize]).collect(),
            subscriber_plan,
            accounts: VecDeque::new(),
            settled: 0,
            numbers: FxHashMap::default(),
            late_after,
            totals: Totals::default(),
            kept: Vec::new(),
            newest: FxHashMap::default(),
        }
    }

    /// The subscriptions.
    pub(super) fn subscriber_plan(&self) -> &SubscriberPlan {
        &self.subscriber_plan
    }

    /// Takes all chunks of the timeline up to `place`. `Err(false)`: that chunk is not there yet; `Err(true)`: it will
    /// never come.
    pub(super) fn take_up_to(&mut self, place: usize, timeline: &Timeline) -> Result<(), bool> {
        while self.settled + self.accounts.len() <= place {
            let chunk = timeline.chunk(self.settled + self.accounts.len())?;
            self.open(chunk);
        }
        Ok(())
    }

    fn open(&mut self, chunk: Arc<Chunk>) {
        let first = ((self.settled + self.accounts.len()) * CHUNK) as u32;
        let mut account = Account {
            seen: Vec::with_capacity(chunk.events.len()),
            starts: Vec::with_capacity(chunk.events.len()),
            state: Vec::new(),
            sender: vec![u32::MAX; chunk.events.len()],
            chunk: chunk.clone(),
        };
        let mut bytes = 0;
        for (number, event) in (first..).zip(&chunk.events) {
            self.numbers.insert(prefix(&event.id), number);
            let seen = self.subscriber_plan.of(event);
            account.starts.push(bytes);
            bytes += match &seen {
                Seen::All => self.everyone.len(),
                Seen::Slots(slots) => slots.len(),
            };
            account.seen.push(seen);
        }
        account.state = vec![0; bytes];
        self.accounts.push_back(account);
    }

    /// The account of event `number`, and its index there; `None` once it is settled.
    fn find(&self, number: u32) -> Option<(usize, usize)> {
        let (place, at) = (number as usize / CHUNK, number as usize % CHUNK);
        let account = place.checked_sub(self.settled)?;
        (at < self.accounts.get(account)?.chunk.events.len()).then_some((account, at))
    }

    /// The chunk at `place`, from when it was taken until it is settled.
    pub(super) fn chunk(&self, place: usize) -> Option<&Arc<Chunk>> {
        self.accounts.get(place.checked_sub(self.settled)?).map(|account| &account.chunk)
    }

    /// A random event among those that were sent; `None` when `pick` drew one that was not sent, or there is none.
    pub(super) fn some_sent(&self, pick: impl FnOnce(usize) -> usize) -> Option<&Planned> {
        let drawn = pick(self.accounts.len() * CHUNK);
        let event = self.accounts.get(drawn / CHUNK)?.chunk.events.get(drawn % CHUNK)?;
        event.was_sent().then_some(event)
    }

    /// Notes that connection `peer` sends event `at` of chunk `place` now; it was due at `intended`.
    pub(super) fn sent(&mut self, (place, at): (usize, usize), (peer, via): (u32, u16), intended: u64, now: u64) {
        let Some(account) = place.checked_sub(self.settled).and_then(|at| self.accounts.get_mut(at)) else { return };
        account.sender[at] = peer;
        let event = &account.chunk.events[at];
        event.via.store(via, Ordering::Release);
        event.intended.store(intended, Ordering::Release);
        event.sent.store(now, Ordering::Release);
        self.totals.sent += 1;
    }

    /// Notes an OK that `peer` got. Returns when the event was due.
    pub(super) fn answered(&mut self, peer: u32, id: u64, verdict: PublishOutcome, now: u64) -> Option<u64> {
        let found = self.numbers.get(&id).and_then(|number| self.find(*number));
        let Some((account, at)) = found.filter(|(account, at)| self.accounts[*account].sender[*at] == peer) else {
            self.totals.answers_to_nothing += 1;
            return None;
        };
        let event = &self.accounts[account].chunk.events[at];
        if event.verdict() != PublishOutcome::None {
            self.totals.answered_again += 1;
            return None;
        }
        event.judge(verdict, now);
        match verdict {
            PublishOutcome::Accepted => self.totals.accepted += 1,
            PublishOutcome::Duplicate => self.totals.duplicates += 1,
            PublishOutcome::Refused => self.totals.refused += 1,
            PublishOutcome::Unknown | PublishOutcome::None => {}
        }
        Some(event.intended.load(Ordering::Acquire))
    }

    /// Notes that connection `peer` broke: its events without an OK will not get one, and its subscriptions are closed.
    pub(super) fn broke(&mut self, peer: u32, now: u64) {
        for account in &self.accounts {
            for (event, sender) in account.chunk.events.iter().zip(&account.sender) {
                if *sender == peer && event.verdict() == PublishOutcome::None {
                    event.judge(PublishOutcome::Unknown, now);
                    self.totals.unknown += 1;
                }
            }
        }
        for slot in peer * SLOTS..(peer + 1) * SLOTS {
            self.closed(slot);
        }
    }

    /// Notes that a REQ for `slot` is sent.
    pub(super) fn opened(&mut self, slot: u32) {
        let slot = &mut self.slots[slot as usize];
        let session = if slot.session == u8::MAX { 1 } else { slot.session + 1 };
        *slot = Slot { session, live: false, storing: true, newest_sent: 0, never_reads: slot.never_reads };
    }

    /// Notes the EOSE of `slot`. True the first time.
    pub(super) fn caught_up(&mut self, slot: u32) -> bool {
        let Some(slot) = self.slots.get_mut(slot as usize) else { return false };
        slot.live = true;
        std::mem::take(&mut slot.storing)
    }

    /// Notes that `slot` is closed. True when it was open.
    pub(super) fn closed(&mut self, slot: u32) -> bool {
        let Some(slot) = self.slots.get_mut(slot as usize) else { return false };
        let open = slot.live || slot.storing;
        (slot.live, slot.storing) = (false, false);
        open
    }

    /// Notes a delivery to `slot`.
    pub(super) fn delivered(&mut self, slot: u32, id: u64, now: u64, timeline: &Timeline) -> Delivery {
        let number = match self.numbers.get(&id) {
            Some(number) => Some(*number),
            // Another thread has sent an event of a chunk that this one has yet to take.
            None => {
                let _ = self.take_up_to(usize::MAX, timeline);
                self.numbers.get(&id).copied()
            }
        };
        let Some((account, at)) = number.and_then(|number| self.find(number)) else {
            // Before EOSE it may be a stored event of an earlier run, which is no fault.
            if !self.slots.get(slot as usize).is_some_and(|slot| slot.storing) {
                self.totals.foreign += 1;
            }
            return Delivery::Fault;
        };

        let Account { chunk, seen, starts, state, .. } = &mut self.accounts[account];
        let place = match &seen[at] {
            Seen::All => {
                slot.is_multiple_of(SLOTS).then(|| self.everyone.binary_search(&(slot / SLOTS)).ok()).flatten()
            }
            Seen::Slots(slots) => slots.binary_search(&slot).ok(),
        };
        let Some(place) = place else {
            self.totals.unexpected += 1;
            return Delivery::Fault;
        };
        let (state, slot) = (&mut state[starts[at] + place], &mut self.slots[slot as usize]);
        if *state == slot.session {
            self.totals.doubled += 1;
            return Delivery::Fault;
        }

        let again = *state != 0;
        *state = slot.session;
        let event = &chunk.events[at];
        if slot.storing {
            self.totals.caught_up += u64::from(!again);
            return if again { Delivery::Again } else { Delivery::CaughtUp };
        }

        let (sent, answered) = (event.sent.load(Ordering::Acquire), event.answered.load(Ordering::Acquire));
        // Only an OK proves that the event was in the log by then. An event whose connection broke may be stored later.
        if event.verdict() == PublishOutcome::Accepted && answered < slot.newest_sent {
            self.totals.out_of_order += 1;
        }
        slot.newest_sent = slot.newest_sent.max(sent);
        if again {
            return Delivery::Again;
        }
        let intended = event.intended.load(Ordering::Acquire);
        self.totals.late += u64::from(now.saturating_sub(intended) > self.late_after);
        Delivery::Live { intended, via: event.via.load(Ordering::Relaxed) }
    }

    /// How many deliveries and OKs are still to come.
    pub(super) fn outstanding(&self) -> u64 {
        let mut left = 0;
        for account in &self.accounts {
            for (at, event) in account.chunk.events.iter().enumerate() {
                if !event.was_sent() {
                    continue;
                }
                left += u64::from(account.sender[at] != u32::MAX && event.verdict() == PublishOutcome::None);
                if event.verdict() == PublishOutcome::Accepted && !event.superseded.load(Ordering::Relaxed) {
                    left += self.expected(account, at).filter(|(slot, got)| !got && self.is_due(*slot)).count() as u64;
                }
            }
        }
        left
    }

    /// The slots that an event must reach, and whether it has.
    fn expected<'a>(&'a self, account: &'a Account, at: usize) -> impl Iterator<Item = (u32, bool)> + 'a {
        let slots: Box<dyn Iterator<Item = u32> + 'a> = match &account.seen[at] {
            Seen::All => Box::new(self.everyone.iter().map(|peer| peer * SLOTS)),
            Seen::Slots(slots) => Box::new(slots.iter().copied()),
        };
        slots.zip(&account.state[account.starts[at]..]).map(|(slot, state)| (slot, *state != 0))
    }

    fn is_due(&self, slot: u32) -> bool {
        self.slots.get(slot as usize).is_some_and(|slot| slot.live && !slot.never_reads)
    }

    /// Settles the accounts, oldest first, whose events were all sent before `before`; with `all`, every account.
    pub(super) fn settle(&mut self, before: u64, all: bool) {
        while let Some(account) = self.accounts.front() {
            let old = |event: &Planned| (1..before).contains(&event.sent.load(Ordering::Acquire));
            if !all && !account.chunk.events.iter().all(old) {
                return;
            }
            let Some(account) = self.accounts.pop_front() else { return };
            self.settled += 1;
            for (at, event) in account.chunk.events.iter().enumerate() {
                self.numbers.remove(&prefix(&event.id));
                if event.was_sent() {
                    self.settle_event(&account, at);
                }
            }
            account.chunk.released.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn settle_event(&mut self, account: &Account, at: usize) {
        let event = &account.chunk.events[at];
        let superseded = event.superseded.load(Ordering::Acquire);
        let verdict = event.verdict();
        let mut counted = Totals::default();
        if verdict == PublishOutcome::None && account.sender[at] != u32::MAX {
            counted.unanswered += 1;
        }
        for (slot, got) in self.expected(account, at) {
            match verdict {
                PublishOutcome::Accepted if got => {
                    counted.due += 1;
                    counted.delivered += 1;
                }
                PublishOutcome::Accepted if superseded => counted.excused_superseded += 1,
                PublishOutcome::Accepted if !self.is_due(slot) => counted.excused_offline += 1,
                PublishOutcome::Accepted => {
                    counted.due += 1;
                    counted.lost += 1;
                }
                PublishOutcome::Refused => counted.refused_but_delivered += u64::from(got),
                PublishOutcome::Duplicate | PublishOutcome::Unknown | PublishOutcome::None => {}
            }
        }
        self.totals.merge(&counted);
        if verdict == PublishOutcome::Accepted && account.sender[at] != u32::MAX && !superseded {
            self.keep(event);
        }
    }

    /// Keeps an event that must be stored at the end: of a replaceable event the newest version, of two versions of the
    /// same second the one with the lower id (NIP-01).
    fn keep(&mut self, event: &Planned) {
        let Planned { author, kind, created_at, id, .. } = *event;
        let kept = Kept { author, id, created_at };
        if is_replaceable(kind) {
            let newest = self.newest.entry((author, kind)).or_insert(kept);
            if (kept.created_at, newest.id) > (newest.created_at, kept.id) {
                *newest = kept;
            }
        } else if self.kept.len() < MAX_KEPT {
            self.kept.push(kept);
        }
    }

    /// The events that must be stored at the end, sorted by author.
    pub(super) fn take_kept(&mut self) -> Vec<Kept> {
        let mut kept = std::mem::take(&mut self.kept);
        kept.extend(std::mem::take(&mut self.newest).into_values());
        kept.sort_unstable_by_key(|kept| kept.author);
        kept
    }
}

#[cfg(test)]
mod tests;
