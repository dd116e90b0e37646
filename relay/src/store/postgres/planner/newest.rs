//! A sample of the newest events. Reading the newest events costs a fraction of merging a feed's lists, and answers
//! alone where they fill the page. Whether they will is predicted by a sample that is a few seconds old. A wrong sample
//! costs time, never an answer.

use super::thresholds::Thresholds;
use crate::store::StoreError;
use crate::store::form::{Form, Rights};
use crate::store::postgres::error::translate;
use crate::store::postgres::plan::{KINDS_OF_AN_AUTHOR, PlanQuestion};
use crate::store::postgres::rows::key_bytes;
use crate::types::{Filter, Kind, PublicKey, Timestamp};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use sqlx::Row;
use sqlx::postgres::PgConnection;
use std::sync::Arc;
use std::time::Instant;

/// The newest events whose reading costs as much as probing one list.
const ROWS_FOR_ONE_LIST: usize = 10;
/// The lists of an author whose kinds are not named: these kinds have to be found first, which costs as much again.
const LISTS_OF_AN_AUTHOR: usize = 2 * KINDS_OF_AN_AUTHOR;

const SAMPLE: &str = "SELECT pubkey, kind, created_at FROM event ORDER BY created_at DESC, id LIMIT $1";

/// The newest events at one moment, by author.
#[derive(Debug, Default)]
pub(super) struct EventSample {
    of: FxHashMap<PublicKey, SmallVec<[(Kind, Timestamp); 2]>>,
    events: usize,
    newest: Timestamp,
}

impl EventSample {
    pub(super) fn new(events: impl IntoIterator<Item = (PublicKey, Kind, Timestamp)>) -> Self {
        let mut sample = Self { newest: Timestamp::MIN, ..Self::default() };
        for (author, kind, created_at) in events {
            sample.of.entry(author).or_default().push((kind, created_at));
            sample.events += 1;
            sample.newest = sample.newest.max(created_at);
        }
        sample
    }

    /// The number of newest events that will probably fill the page, with a quarter to spare; `None` where the whole
    /// sample has too few matches. Events of another time are assumed to be like the present ones, so a window counts
    /// by its length.
    fn rows_until_full(&self, question: &PlanQuestion<'_>) -> Option<usize> {
        let filter = question.filter;
        // An author's clock may be ahead; its events must not move the window away from now.
        let newest = self.newest.min(question.now);
        let until =
            [filter.until, question.after.map(|after| after.created_at)].into_iter().flatten().fold(newest, i64::min);
        let earliest =
            filter.since.map_or(Timestamp::MIN, |since| newest.saturating_sub(until.saturating_sub(since).max(-1)));

        let matching = |(kind, created_at): &&(Kind, Timestamp)| {
            *created_at >= earliest && filter.kinds.as_ref().is_none_or(|kinds| kinds.binary_search(kind).is_ok())
        };
        let by = |author| self.of.get(author).map_or(0, |events| events.iter().filter(matching).count());
        let found: usize = filter.authors.iter().flat_map(|authors| authors.iter()).map(by).sum();

        let enough = question.elements.saturating_add(question.elements / 4);
        if found < enough.max(1) {
            return None;
        }

        let within = match filter.since {
            None => self.events,
            Some(_) => self.of.values().flatten().filter(|(_, created_at)| *created_at >= earliest).count(),
        };
        Some(within.saturating_mul(enough) / found)
    }

    /// True when reading the newest events will probably fill the page sooner than merging the lists of `form`.
    fn likely_fills_page(&self, form: Form, question: &PlanQuestion<'_>) -> bool {
        let most = lists(form, question.filter).saturating_mul(ROWS_FOR_ONE_LIST);
        // The sample counts events of private kinds, which few readers may see.
        let private = question.filter.kinds.is_some() && question.rights() != Rights::All;
        !private && self.rows_until_full(question).is_some_and(|rows| rows <= most)
    }
}

/// About how many lists a feed of this form merges; 0 where the form is none, or the filter asks for what the sample
/// does not have.
fn lists(form: Form, filter: &Filter) -> usize {
    let authors = filter.authors.as_ref().map_or(0, |authors| authors.len());
    match form {
        _ if !filter.tags.is_empty() => 0,
        Form::AuthorsKinds => authors.saturating_mul(filter.kinds.as_ref().map_or(0, |kinds| kinds.len())),
        Form::Authors => authors.saturating_mul(LISTS_OF_AN_AUTHOR),
        _ => 0,
    }
}

/// The sample, which reads renew.
#[derive(Debug, Default)]
pub(super) struct Newest {
    state: Mutex<(Option<Instant>, Arc<EventSample>)>,
}

impl Newest {
    /// True when a page is probably among the newest events, so that these should be read before the lists of `form`
    /// are merged. Takes a new sample where the last one is too old: one read does so, and others use the old one
    /// meanwhile. A dropped read leaves the sample old for one more period.
    pub(super) async fn recent_scan_likely_fills_page(
        &self,
        connection: &mut PgConnection,
        thresholds: &Thresholds,
        form: Form,
        question: &PlanQuestion<'_>,
    ) -> Result<bool, StoreError> {
        if lists(form, question.filter) < thresholds.least_lists.max(1) {
            return Ok(false);
        }

        let (mut sample, due) = {
            let mut state = self.state.lock();
            let due = state.0.is_none_or(|taken| taken.elapsed() >= thresholds.renewed_after);
            if due {
                state.0 = Some(Instant::now());
            }
            (state.1.clone(), due)
        };

        if due {
            sample = Arc::new(take(connection, thresholds.recent_rows).await?);
            self.state.lock().1 = sample.clone();
        }
        Ok(sample.likely_fills_page(form, question))
    }
}

async fn take(connection: &mut PgConnection, rows: usize) -> Result<EventSample, StoreError> {
    let rows = i64::try_from(rows).unwrap_or(i64::MAX);
    let rows = sqlx::query(SAMPLE).bind(rows).fetch_all(connection).await.map_err(translate)?;
    let mut events = Vec::with_capacity(rows.len());
    for row in &rows {
        let author = PublicKey::from_bytes(key_bytes(row.try_get(0).map_err(translate)?)?);
        let kind = u16::try_from(row.try_get::<i32, _>(1).map_err(translate)?).unwrap_or(u16::MAX);
        events.push((author, Kind(kind), row.try_get(2).map_err(translate)?));
    }
    Ok(EventSample::new(events))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::postgres::plan::tests::question;

    const NEWEST: Timestamp = 1_700_000_000;

    fn author(n: u16) -> PublicKey {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        PublicKey::from_bytes(bytes)
    }

    /// One event a second; author n mod 1000, every other one of kind 1, the rest of kind 7.
    fn events() -> impl Iterator<Item = (PublicKey, Kind, Timestamp)> {
        (0..3_000_u16).map(|n| (author(n % 1_000), Kind(1 + 6 * (n % 2)), NEWEST - Timestamp::from(n)))
    }

    fn feed(authors: u16, kinds: &[u16]) -> Filter {
        Filter {
            authors: Some((0..authors).map(author).collect()),
            kinds: (!kinds.is_empty()).then(|| kinds.iter().copied().map(Kind).collect()),
            ..Filter::default()
        }
    }

    fn likely(sample: &EventSample, form: Form, filter: &Filter, elements: usize) -> bool {
        sample.likely_fills_page(form, &PlanQuestion { elements, ..question(filter) })
    }

    #[test]
    fn a_page_is_looked_for_among_the_newest_where_the_sample_fills_it() {
        let (sample, form) = (EventSample::new(events()), Form::AuthorsKinds);
        let notes = feed(500, &[1]);
        // 500 of 1,000 authors, half of their events: a quarter of all.
        assert_eq!(sample.rows_until_full(&PlanQuestion { elements: 100, ..question(&notes) }), Some(500));
        assert!(likely(&sample, form, &notes, 100));
        // A quarter of 3,000 rows, less what is to spare.
        assert!(likely(&sample, form, &notes, 600));
        assert!(!likely(&sample, form, &notes, 601));
        // Nobody publishes that kind.
        assert!(!likely(&sample, form, &feed(500, &[30_023]), 1));
        // Merging so few lists is faster.
        assert!(!likely(&sample, form, &feed(60, &[1]), 60));
        assert!(likely(&sample, Form::Authors, &feed(60, &[]), 60));
        assert!(!likely(&sample, Form::Kinds, &feed(0, &[1, 7]), 1));
        assert!(!likely(&EventSample::default(), form, &notes, 1));
        // A reader without the right to private kinds finds none of these events.
        let access = crate::types::Access::default();
        let private = Filter { kinds: Some(access.private_kinds.as_slice().into()), ..notes };
        let sample = EventSample::new(events().map(|(author, _, at)| (author, access.private_kinds.as_slice()[0], at)));
        assert!(likely(&sample, form, &private, 10));
        let question = PlanQuestion { access: Some(&access), elements: 10, ..question(&private) };
        assert!(!sample.likely_fills_page(form, &question));
    }

    #[test]
    fn a_window_counts_by_its_length_wherever_it_lies() {
        // An author whose clock is fast changes nothing for the others.
        let ahead = (author(999), Kind(1), crate::store::postgres::plan::tests::NOW + 900);
        let sample = EventSample::new(events().chain([ahead]));
        let now = NEWEST;
        let window = |since, until| Filter { since: Some(since), until, ..feed(500, &[1]) };
        // The newest 1,000 seconds have 250 such events, and so have 1,000 seconds of long ago.
        for (since, until) in [(now - 999, None), (now - 999, Some(now + 20_000)), (now - 50_999, Some(now - 50_000))] {
            let filter = window(since, until);
            let of = |elements| PlanQuestion { elements, now, ..question(&filter) };
            assert_eq!(sample.rows_until_full(&of(100)), Some(500), "{since}");
            assert!(sample.likely_fills_page(Form::AuthorsKinds, &of(100)));
            assert!(!sample.likely_fills_page(Form::AuthorsKinds, &of(300)));
        }
        let later = window(now + 1_000, None);
        assert_eq!(sample.rows_until_full(&PlanQuestion { now, ..question(&later) }), None, "nothing is so new");
    }
}
