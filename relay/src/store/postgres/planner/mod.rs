//! The planner: chooses the form that answers a question. The filter alone decides where it can (`store/form.rs`); else
//! the lengths of its lists do, and a sample of the newest events.

mod newest;
mod thresholds;

pub use thresholds::Thresholds;

use super::error::translate;
use super::plan::{self, Lengths, PlanQuestion, has_few_authors};
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

/// More candidates than this are not counted further: ordinary filters have no more conditions.
const MAX_CANDIDATES: usize = 4;
/// A probe reads at most this many times [`Thresholds::probe_rows`]: a probe that does not fill the page would cost too
/// much.
const MAX_PROBE_FACTOR: usize = 4;

/// All that a choice rests upon, apart from the question.
#[derive(Debug)]
pub(super) struct Planner {
    pub(super) hasher: Hasher,
    thresholds: Thresholds,
    newest: Newest,
    pub(super) counters: PlanCounters,
}

/// How often each way was taken.
#[derive(Debug, Default)]
pub(super) struct PlanCounters {
    recent: AtomicU64,
    recent_full: AtomicU64,
    probes: AtomicU64,
    probes_full: AtomicU64,
    counted_further: AtomicU64,
}

/// How often each way was taken since the start: for tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PlanCounts {
    /// Pages that were looked for among the newest events.
    pub recent: u64,
    /// Those that the newest events filled.
    pub recent_full: u64,
    /// Pages that were looked for among the newest rows of one long list.
    pub probes: u64,
    /// Those that these rows filled.
    pub probes_full: u64,
    /// Questions whose lists were all long, and were counted further.
    pub counted_further: u64,
}

impl PlanCounters {
    fn count(of: &AtomicU64) {
        of.fetch_add(1, Ordering::Relaxed);
    }

    /// The probe has filled the page.
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

/// A form, and the lengths of the candidates' lists where there are any.
#[derive(Debug)]
pub(super) struct Picked {
    pub(super) form: Form,
    pub(super) lengths: Option<Lengths>,
}

impl Picked {
    fn all_long(&self) -> bool {
        self.lengths.as_ref().is_some_and(Lengths::all_long)
    }

    /// The number of rows that will be walked, without a probe that tells. Where all lists are long, they will probably
    /// be walked whole. `None`: unknown; the lists of many authors cost most at their beginning.
    fn walked_without_probe(&self, filter: &Filter) -> Option<usize> {
        (self.all_long() && (filter.authors.is_none() || has_few_authors(filter))).then_some(usize::MAX)
    }
}

/// A look at the newest rows of one list: it answers where they fill the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageProbe {
    pub(super) form: Form,
    pub(super) rows: usize,
}

impl PageProbe {
    /// The number of the list's rows that will be walked for `wanted` results, by the rate at which this probe found
    /// results. `None` where the probe says nothing about the form that will be walked.
    fn rows_for(self, wanted: usize, found: usize) -> Option<usize> {
        (self.form != Form::Recent).then(|| wanted.saturating_mul(self.rows) / found.max(1))
    }
}

impl Planner {
    pub(super) fn new(hasher: Hasher, thresholds: Thresholds) -> Self {
        Self { hasher, thresholds, newest: Newest::default(), counters: PlanCounters::default() }
    }

    /// The form that answers `question`; asks the server for the lengths of the lists where that matters.
    pub(super) async fn pick(
        &self,
        connection: &mut PgConnection,
        question: &PlanQuestion<'_>,
    ) -> Result<Picked, StoreError> {
        match choose(question.filter) {
            Choice::Take(form) => Ok(Picked { form, lengths: None }),
            Choice::Rarest(candidates) => {
                self.rarest(connection, question, &candidates, self.thresholds.first_bound).await
            }
        }
    }

    /// The form of the whole page, and the number of rows that it will probably walk, where that is known. `probe` is
    /// the probe that did not fill the page, with the rows that it found.
    pub(super) async fn after_probe(
        &self,
        connection: &mut PgConnection,
        question: &PlanQuestion<'_>,
        picked: Picked,
        probe: Option<(PageProbe, usize)>,
    ) -> Result<(Picked, Option<usize>), StoreError> {
        let by_probe = probe.and_then(|(probe, found)| probe.rows_for(question.elements, found));
        let walked = by_probe.or_else(|| picked.walked_without_probe(question.filter));
        let picked = if walked.is_some() { self.count_further(connection, question, picked).await? } else { picked };
        Ok((picked, walked))
    }

    /// Counts the lists further, where all were longer than the first count.
    pub(super) async fn count_further(
        &self,
        connection: &mut PgConnection,
        question: &PlanQuestion<'_>,
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

    /// A probe that probably fills the page alone and soon, where there is one.
    pub(super) async fn probe_page(
        &self,
        connection: &mut PgConnection,
        question: &PlanQuestion<'_>,
        picked: &Picked,
    ) -> Result<Option<PageProbe>, StoreError> {
        let Thresholds { recent_rows, probe_rows, .. } = self.thresholds;
        if self.newest.recent_scan_likely_fills_page(connection, &self.thresholds, picked.form, question).await? {
            PlanCounters::count(&self.counters.recent);
            return Ok(Some(PageProbe { form: Form::Recent, rows: recent_rows }));
        }
        // A tag's rows do not have the author: each would have to be looked up.
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
        question: &PlanQuestion<'_>,
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
