//! The ledger's sums.

use serde::{Deserialize, Serialize};

/// The ledger's sums over a whole run. The first group counts what may happen; each of the second group is a fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Events sent.
    pub sent: u64,
    /// Events that got an OK with `true`, new to the relay.
    pub accepted: u64,
    /// Events that the relay called duplicates.
    pub duplicates: u64,
    /// Events that got an OK with `false`.
    pub refused: u64,
    /// Events whose connection broke before their OK.
    pub unknown: u64,
    /// Deliveries due: accepted events times the subscriptions that match them.
    pub due: u64,
    /// Of the deliveries due, those that came.
    pub delivered: u64,
    /// Of the deliveries due, those that came as stored events after a subscription was opened again.
    pub caught_up: u64,
    /// Of the deliveries due, those that came live later than the run's `late_after`.
    pub late: u64,
    /// Not due: a newer version replaced the event.
    pub excused_superseded: u64,
    /// Not due: the subscription was closed or its connection down, or it never read.
    pub excused_offline: u64,
    /// Events looked for among the stored ones at the end.
    pub looked_for: u64,

    /// Deliveries due that never came.
    pub lost: u64,
    /// Deliveries that one subscription got again.
    pub doubled: u64,
    /// Live deliveries of an event after another one that was sent only when the first had its OK.
    pub out_of_order: u64,
    /// Deliveries of the run's events to subscriptions that they do not match.
    pub unexpected: u64,
    /// Deliveries of events that are not the run's, or whose account was settled before.
    pub foreign: u64,
    /// Deliveries of events that were refused.
    pub refused_but_delivered: u64,
    /// Events without an OK.
    pub unanswered: u64,
    /// Second OKs of an event.
    pub answered_again: u64,
    /// OKs for events that the connection had not sent.
    pub answers_to_nothing: u64,
    /// Accepted events that could not be read at the end.
    pub not_stored: u64,
    /// Questions that got neither EOSE nor CLOSED.
    pub questions_unanswered: u64,
}

impl Totals {
    /// Each fault with its name. A number above 0 violates NIP-01 or a promise of the relay.
    pub fn faults(&self) -> [(&'static str, u64); 11] {
        [
            ("lost", self.lost),
            ("doubled", self.doubled),
            ("out_of_order", self.out_of_order),
            ("unexpected", self.unexpected),
            ("foreign", self.foreign),
            ("refused_but_delivered", self.refused_but_delivered),
            ("unanswered", self.unanswered),
            ("answered_again", self.answered_again),
            ("answers_to_nothing", self.answers_to_nothing),
            ("not_stored", self.not_stored),
            ("questions_unanswered", self.questions_unanswered),
        ]
    }

    /// Adds another thread's sums.
    pub fn merge(&mut self, other: &Self) {
        self.sent += other.sent;
        self.accepted += other.accepted;
        self.duplicates += other.duplicates;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.due += other.due;
        self.delivered += other.delivered;
        self.caught_up += other.caught_up;
        self.late += other.late;
        self.excused_superseded += other.excused_superseded;
        self.excused_offline += other.excused_offline;
        self.looked_for += other.looked_for;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.out_of_order += other.out_of_order;
        self.unexpected += other.unexpected;
        self.foreign += other.foreign;
        self.refused_but_delivered += other.refused_but_delivered;
        self.unanswered += other.unanswered;
        self.answered_again += other.answered_again;
        self.answers_to_nothing += other.answers_to_nothing;
        self.not_stored += other.not_stored;
        self.questions_unanswered += other.questions_unanswered;
    }
}
