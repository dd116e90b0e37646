//! Sending an answer: row by row as the client reads, without what has gone meanwhile.

use super::page::Candidate;
use super::{Queries, QueryError, QueryLimits};
use crate::outbox::{Closed, Subscription};
use crate::types::{EventId, Head, Row};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// How many rows are handed to the outbox between two looks at the log.
const CHUNK: usize = 256;

impl Queries {
    /// Sends the rows of an answer that is exact as of `head`. False when the client has gone.
    pub(super) async fn send(
        &self,
        subscription: &Arc<Subscription>,
        answer: Vec<Candidate>,
        head: Head,
        limits: QueryLimits,
    ) -> Result<bool, QueryError> {
        let mut answer = answer.into_iter().peekable();
        let mut removed = HashSet::new();
        let mut looked_at = head;
        while answer.peek().is_some() {
            let mut chunk: Vec<Candidate> = Vec::with_capacity(CHUNK.min(answer.size_hint().0));
            let mut bytes = 0;
            while let Some(next) = answer.next_if(|_| chunk.len() < CHUNK && bytes < limits.max_text_bytes) {
                // What is still to be fetched may be as large as a message can be; a few at a time bound it.
                bytes += match &next {
                    Candidate::Here(row) => row.text.len(),
                    Candidate::ToFetch(_) => limits.max_text_bytes / 64,
                };
                chunk.push(next);
            }
            let mut rows = self.with_texts(chunk).await?;
            // A slow reader may take minutes: what was removed in the meantime is not sent. Where the ring no longer
            // reaches back, opening the subscription will say so.
            if let Ok((ids, head)) = self.log.removed_after(looked_at) {
                looked_at = head;
                removed.extend(ids);
            }
            if !removed.is_empty() {
                rows.retain(|row| !removed.contains(&row.key.id));
            }
            if let Err(Closed) = subscription.outbox.push_rows(subscription, rows).await {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Fetches the texts that are missing, keeping the order; what is no longer stored is left out.
    async fn with_texts(&self, chunk: Vec<Candidate>) -> Result<Vec<Row>, QueryError> {
        let missing: Vec<EventId> = chunk
            .iter()
            .filter_map(|candidate| match candidate {
                Candidate::ToFetch(key) => Some(key.id),
                Candidate::Here(_) => None,
            })
            .collect();
        let mut fetched: HashMap<EventId, Row> = HashMap::new();
        if !missing.is_empty() {
            fetched.extend(self.store.fetch(&missing).await?.into_iter().map(|row| (row.key.id, row)));
        }
        let rows = chunk.into_iter().filter_map(|candidate| match candidate {
            Candidate::Here(row) => Some(row),
            Candidate::ToFetch(key) => fetched.remove(&key.id),
        });
        Ok(rows.collect())
    }
}
