//! Chooses the form that answers a question: by the filter alone where that decides (`store/form.rs`), else by how long
//! the lists are that it names, and by what the newest events are like.

mod newest;
mod thresholds;

pub use thresholds::Thresholds;

use super::error::translate;
use super::plan::{self, Lengths, Question, has_few_authors};
use super::rows::run;
use crate::store::StoreError;
use crate::store::form::{Candidates, Choice, Form, choose};
use crate::store::hash::Hasher;
use crate::types::Filter;
use newest::Newest;
use smallvec::SmallVec;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;
use std::sync::atomic::{AtomicU64, Ordering};

/// A filter has hardly more conditions that rival: the lists of a stranger one are not counted further.
const MAX_CANDIDATES: usize = 4;
/// A probe goes through no more than so many times [`Thresholds::probe_rows`]: in vain it would cost too much.
const MAX_PROBE_FACTOR: usize = 4;

/// What choosing rests upon, apart from the question.
#[derive(Debug)]
pub(super) struct Planner {
    pub(super) hasher: Hasher,
    thresholds: Thresholds,
    newest: Newest,
    pub(super) counters: PlanCounters,
}

/// How often which way was gone, so far.
#[derive(Debug, Default)]
pub(super) struct PlanCounters {
    recent: AtomicU64,
    recent_full: AtomicU64,
    probes: AtomicU64,
    probes_full: AtomicU64,
    counted_further: AtomicU64,
}

/// How often the planner has gone which way, so far: for tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PlanCounts {
    /// Pages that were looked for among the newest events.
    pub recent: u64,
    /// Of these, found there.
    pub recent_full: u64,
    /// Pages that were looked for among the newest rows of one long list.
    pub probes: u64,
    /// Of these, found there.
    pub probes_full: u64,
    /// Questions whose lists were counted further, all being long.
    pub counted_further: u64,
}

impl PlanCounters {
    fn count(of: &AtomicU64) {
        of.fetch_add(1, Ordering::Relaxed);
    }

    /// The probe has found a whole page.
    pub(super) fn full(&self, probe: PageProbe) {
        Self::count(if probe.form == Form::Recent { &self.recent_full } else { &self.probes_full });
    }

    pub(super) fn counts(&self) -> PlanCounts {
        let [recent, recent_full, probes, probes_full, counted_further] =
            [&self.recent, &self.recent_full, &self.probes, &self.probes_full, &self.counted_further]
                .map(|way| way.load(Ordering::Relaxed));
        PlanCounts { recent, recent_full, probes, probes_full, counted_further }
    }
}

/// A form, and how long the lists of its candidates are where there are any.
#[derive(Debug)]
pub(super) struct Picked {
    pub(super) form: Form,
    pub(super) lengths: Option<Lengths>,
}

impl Picked {
    fn all_long(&self) -> bool {
        self.lengths.as_ref().is_some_and(Lengths::all_long)
    }

    /// How many rows will have to be walked where no probe has told: where all lists are long, they are taken to be
    /// walked whole. `None`: nobody knows. The lists of many authors cost most to begin with.
    fn walked_unseen(&self, filter: &Filter) -> Option<usize> {
        (self.all_long() && (filter.authors.is_none() || has_few_authors(filter))).then_some(usize::MAX)
    }
}

/// A form of one list, of which only the newest rows are looked at: answers alone if they fill the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageProbe {
    pub(super) form: Form,
    pub(super) rows: usize,
}

impl PageProbe {
    /// How many rows of the list will have to be walked for `wanted` of them, after this probe has found so many; `None`
    /// where it says nothing about the form that is to be walked.
    fn rows_for(self, wanted: usize, found: usize) -> Option<usize> {
        (self.form != Form::Recent).then(|| wanted.saturating_mul(self.rows) / found.max(1))
    }
}

impl Planner {
    pub(super) fn new(hasher: Hasher, thresholds: Thresholds) -> Self {
        Self { hasher, thresholds, newest: Newest::default(), counters: PlanCounters::default() }
    }

    /// The form that answers `question`; asks the server how long the lists are where that matters.
    pub(super) async fn pick(
        &self,
        connection: &mut PgConnection,
        question: &Question<'_>,
    ) -> Result<Picked, StoreError> {
        match choose(question.filter) {
            Choice::Take(form) => Ok(Picked { form, lengths: None }),
            Choice::Rarest(candidates) => {
                self.rarest(connection, question, &candidates, self.thresholds.first_bound).await
            }
        }
    }

    /// What to walk for the whole page, and how many rows of its list are likely to be walked, where that is known. `probe`:
    /// the probe, where there was one, and the rows that it found, too few of them.
    pub(super) async fn after_probe(
        &self,
        connection: &mut PgConnection,
        question: &Question<'_>,
        picked: Picked,
        probe: Option<(PageProbe, usize)>,
    ) -> Result<(Picked, Option<usize>), StoreError> {
        let told = probe.and_then(|(probe, found)| probe.rows_for(question.elements, found));
        let walked = told.or_else(|| picked.walked_unseen(question.filter));
        let picked = if walked.is_some() { self.further(connection, question, picked).await? } else { picked };
        Ok((picked, walked))
    }

    /// Where all lists were longer than they were counted, counts on.
    pub(super) async fn further(
        &self,
        connection: &mut PgConnection,
        question: &Question<'_>,
        picked: Picked,
    ) -> Result<Picked, StoreError> {
        let Some(lengths) = picked.lengths.as_ref().filter(|lengths| lengths.all_long()) else { return Ok(picked) };
        let candidates: Candidates = lengths.iter().map(|(form, ..)| form).collect();
        if candidates.len() > MAX_CANDIDATES {
            return Ok(picked);
        }
        PlanCounters::count(&self.counters.counted_further);
        self.rarest(connection, question, &candidates, self.thresholds.further_bound).await
    }

    /// What is likely to answer alone and soon, where there is such a thing.
    pub(super) async fn probe_page(
        &self,
        connection: &mut PgConnection,
        question: &Question<'_>,
        picked: &Picked,
    ) -> Result<Option<PageProbe>, StoreError> {
        let Thresholds { recent_rows, probe_rows, .. } = self.thresholds;
        if self.newest.recent_scan_likely_fills_page(connection, &self.thresholds, picked.form, question).await? {
            PlanCounters::count(&self.counters.recent);
            return Ok(Some(PageProbe { form: Form::Recent, rows: recent_rows }));
        }
        // Of a tag's rows the authors would have to be looked up one by one.
        let one_list = match picked.form {
            Form::AuthorKind => true,
            Form::Tag(_) => question.filter.authors.is_none(),
            _ => false,
        };
        let rows = probe_rows.max(question.elements.saturating_mul(2));
        let probes = one_list && picked.all_long() && rows <= probe_rows.saturating_mul(MAX_PROBE_FACTOR);
        let probe = probes.then_some(PageProbe { form: picked.form, rows });
        if probe.is_some() {
            PlanCounters::count(&self.counters.probes);
        }
        Ok(probe)
    }

    async fn rarest(
        &self,
        connection: &mut PgConnection,
        question: &Question<'_>,
        candidates: &[Form],
        bound: usize,
    ) -> Result<Picked, StoreError> {
        let row = run(connection, &plan::lengths(candidates, question, &self.hasher, bound)).await?.into_iter().next();
        let row = row.ok_or_else(|| StoreError::Damaged("nothing was counted".into()))?;
        let length = |at| row.try_get::<i64, _>(at).map(|length| usize::try_from(length).unwrap_or(0));
        let counted = candidates.iter().enumerate().map(|(at, form)| Ok((*form, length(at)?)));
        let counted: SmallVec<[_; 4]> = counted.collect::<Result<_, _>>().map_err(translate)?;
        let lengths = Lengths::new(counted, bound);
        Ok(Picked { form: lengths.rarest(question.filter), lengths: Some(lengths) })
    }
}
