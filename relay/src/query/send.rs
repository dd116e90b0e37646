//! Sends an answer row by row as the client reads, without rows that were removed meanwhile.
//!
//! Rows with texts go to the outbox first. Where the client does not take them, the query drops their texts. From then
//! on it waits before each fetch: for its turn among the queries of its connection, for room in the outbox, and for
//! memory.

use super::held::QueryMemory;
use super::page::Candidate;
use super::{Queries, QueryError, QueryLimits};
use crate::cache::Listed;
use crate::outbox::{Closed, RowsPushed, Subscription, Turn};
use crate::types::safeguard::{Safeguard, ablated};
use crate::types::{EventId, Head, Row};
use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// How many rows go to the outbox between two looks at the log for removals.
const CHUNK: usize = 256;

/// The most texts of one fetch: each may be as large as a message.
const MAX_FETCHED: usize = 64;

/// The expected size of a text, in bytes, before the query has seen any.
const FETCHED_TEXT_BYTES: usize = 16 << 10;

/// The smallest reservation for a fetch, in bytes.
const MIN_FETCH_BYTES: usize = 16 << 10;

/// A client that takes nothing for this long does not need the texts that are ready for it: they are dropped.
pub(super) const STALL: Duration = Duration::from_secs(1);

impl Queries {
    /// Sends the rows of an answer that is exact as of `head`. False: the client has gone.
    pub(super) async fn send(
        &self,
        subscription: &Arc<Subscription>,
        mut answer: VecDeque<Candidate>,
        head: Head,
        memory: &mut QueryMemory,
        limits: QueryLimits,
    ) -> Result<bool, QueryError> {
        memory.settle(&answer);
        let mut removed = HashSet::new();
        let mut looked_at = head;
        let mut largest_text = 0;
        while !answer.is_empty() {
            let mut rows = take_ready(&mut answer);
            // Both are held until the fetched rows are in the outbox, which then counts them.
            let mut _turn = None;
            let mut _fetching = None;
            if rows.is_empty() {
                let Ok(turn) = wait_for_turn(subscription, &mut answer, memory).await? else { return Ok(false) };
                let budget = turn.room_bytes.min(limits.max_text_bytes);
                let fetching = memory.wait_for(MIN_FETCH_BYTES.min(budget), budget).await?;
                rows = self.fetch_front(&mut answer, fetching.bytes(), largest_text).await?;
                (_turn, _fetching) = (Some(turn), Some(fetching));
            }

            largest_text = rows.iter().map(|row| row.text.len()).fold(largest_text, usize::max);
            // A slow reader may take minutes: what was removed in the meantime must not be sent. Where the ring no
            // longer reaches back, the subscription is closed with the reason when it is opened.
            if let Ok((ids, head)) = self.log.removed_after(looked_at) {
                looked_at = head;
                removed.extend(ids);
            }
            if !removed.is_empty() {
                rows.retain(|row| !removed.contains(&row.key.id));
            }

            while !rows.is_empty() {
                match subscription.outbox.push_rows(subscription, &mut rows, STALL).await {
                    Ok(RowsPushed::All) => {}
                    Ok(RowsPushed::Stalled) if ablated(Safeguard::GiveBack) => {}
                    Ok(RowsPushed::Stalled) => give_back(&mut rows, &mut answer),
                    Err(Closed) => return Ok(false),
                }
            }
            memory.recount(&answer);
        }
        Ok(true)
    }

    /// Takes the first rows of `answer`, about `max_bytes` of text, and fetches the texts that are missing. Leaves out
    /// events that are no longer stored; rows beyond `max_bytes` stay in the answer.
    async fn fetch_front(
        &self,
        answer: &mut VecDeque<Candidate>,
        max_bytes: usize,
        largest_text: usize,
    ) -> Result<VecDeque<Row>, QueryError> {
        let expected = if largest_text > 0 { largest_text } else { FETCHED_TEXT_BYTES };
        let most = (max_bytes / expected).clamp(1, MAX_FETCHED);
        let missing = |candidate: &Candidate| matches!(candidate, Candidate::ToFetch(_)).then(|| candidate.key().id);
        let wanted: Vec<EventId> = answer.iter().take(most).filter_map(missing).collect();
        let fetched = self.store.fetch(&wanted).await?.into_iter().map(|row| (row.key.id, row));
        let mut fetched: HashMap<EventId, Row> = fetched.collect();

        let (mut rows, mut bytes) = (VecDeque::with_capacity(most), 0);
        for _ in 0..most {
            let row = match answer.front() {
                Some(Candidate::Here(row)) => Some(row.clone()),
                Some(Candidate::ToFetch(key)) => fetched.remove(&key.id),
                None => break,
            };
            bytes += row.as_ref().map_or(0, |row| row.text.len());
            if bytes > max_bytes && !rows.is_empty() {
                break;
            }
            answer.pop_front();
            rows.extend(row);
        }
        Ok(rows)
    }
}

/// Waits for the query's turn to fetch. Drops the texts of `answer` meanwhile. Fails for a client that takes nothing
/// once others need the memory.
async fn wait_for_turn<'a>(
    subscription: &'a Subscription,
    answer: &mut VecDeque<Candidate>,
    memory: &mut QueryMemory,
) -> Result<Result<Turn<'a>, Closed>, QueryError> {
    let mut turn = pin!(subscription.outbox.turn());
    let mut takes = subscription.outbox.takes();
    loop {
        tokio::select! {
            turn = &mut turn => return Ok(turn),
            () = tokio::time::sleep(STALL) => {}
        }
        if !ablated(Safeguard::GiveBack) {
            give_back(&mut VecDeque::new(), answer);
            memory.recount(answer);
        }
        let before = std::mem::replace(&mut takes, subscription.outbox.takes());
        if before == takes && memory.is_needed_elsewhere() && !ablated(Safeguard::SlowReaders) {
            return Err(QueryError::SlowReader);
        }
    }
}

/// Takes the first rows of `answer`, up to the first whose text is missing.
fn take_ready(answer: &mut VecDeque<Candidate>) -> VecDeque<Row> {
    let mut rows = VecDeque::new();
    while rows.len() < CHUNK
        && let Some(Candidate::Here(row)) = answer.pop_front_if(|next| matches!(next, Candidate::Here(_)))
    {
        rows.push_back(row);
    }
    rows
}

/// Drops all texts: those of `rows`, which become the first rows of `answer` again, and those of `answer`.
fn give_back(rows: &mut VecDeque<Row>, answer: &mut VecDeque<Candidate>) {
    for row in rows.drain(..).rev() {
        answer.push_front(Candidate::ToFetch(row.key));
    }
    for candidate in answer {
        *candidate = Candidate::ToFetch(candidate.key());
    }
}
