//! The rows of an answer before it is sent: one snapshot for each filter, merged into one list.

use crate::cache::{Listed, Snapshot};
use crate::store::Page;
use crate::types::{Key, Row, Timestamp};
use std::collections::{HashSet, VecDeque};

/// The newest events of one filter, exactly as of its head.
pub(super) type PageSnapshot = Snapshot<Candidate>;

/// One event of an answer: with its text, or still to be fetched.
#[derive(Debug, Clone)]
pub(super) enum Candidate {
    Here(Row),
    ToFetch(Key),
}

impl Candidate {
    /// How many bytes of text the candidate holds: none where the text is still to be fetched.
    pub(super) fn text_bytes(&self) -> usize {
        if let Self::Here(row) = self { row.text.len() } else { 0 }
    }
}

impl Listed for Candidate {
    fn key(&self) -> Key {
        match self {
            Self::Here(row) => row.key,
            Self::ToFetch(key) => *key,
        }
    }

    fn is_expired(&self, now: Timestamp) -> bool {
        matches!(self, Self::Here(row) if row.is_expired(now))
    }

    fn bytes(&self) -> usize {
        if let Self::Here(row) = self { row.bytes() } else { 0 }
    }
}

impl From<Row> for Candidate {
    fn from(row: Row) -> Self {
        Self::Here(row)
    }
}

/// The page that the store has read for `limit` rows, as a snapshot.
pub(super) fn snapshot(Page { rows, rest, head, complete }: Page, limit: usize) -> PageSnapshot {
    let rows = rows.into_iter().map(Candidate::Here).chain(rest.into_iter().map(Candidate::ToFetch)).collect();
    PageSnapshot { head, limit, rows, complete, read_at: Timestamp::MIN }
}

/// Merges the filters' rows: newest first, ties by lowest id, each event once.
pub(super) fn merge(snapshots: Vec<PageSnapshot>) -> VecDeque<Candidate> {
    let single = snapshots.len() == 1;
    let mut all: Vec<Candidate> = snapshots.into_iter().flat_map(|snapshot| snapshot.rows).collect();
    if !single {
        let mut seen = HashSet::with_capacity(all.len());
        // Where two filters have the same event, the one with its text comes first and stays.
        all.sort_by_key(|candidate| (candidate.key().order(), matches!(candidate, Candidate::ToFetch(_))));
        all.retain(|candidate| seen.insert(candidate.key().id));
    }
    all.into()
}
