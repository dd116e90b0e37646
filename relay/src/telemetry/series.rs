//! Handles that are made once and then cost an atomic operation: nothing on a hot path looks a metric up by name.

use metrics::{Counter, Gauge, Histogram, Key, Level, Metadata, Recorder};
use std::marker::PhantomData;

/// What a metric does with the numbers it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only ever grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Sorts into buckets.
    Histogram,
}

/// A label with a fixed set of values, so that no client can make series without end.
pub trait Label: Copy + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// Its values, in the order of [`index`](Self::index).
    const VALUES: &'static [&'static str];

    /// Which of [`VALUES`](Self::VALUES) this is.
    fn index(self) -> usize;
}

/// All series of one metric.
pub trait Series: Sized {
    /// What it does with numbers.
    const KIND: Kind;
    /// The label and its values, if it has one.
    const LABEL: Option<(&'static str, &'static [&'static str])>;

    /// Makes every series, so that each is exported from the start, as zero.
    fn register(recorder: &dyn Recorder, name: &'static str) -> Self;
}

/// A handle for a single series.
pub trait Handle: Sized {
    /// What it does with numbers.
    const KIND: Kind;

    /// Makes the series.
    fn with_key(recorder: &dyn Recorder, key: &Key) -> Self;
}

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

impl Handle for Counter {
    const KIND: Kind = Kind::Counter;

    fn with_key(recorder: &dyn Recorder, key: &Key) -> Self {
        recorder.register_counter(key, &METADATA)
    }
}

impl Handle for Gauge {
    const KIND: Kind = Kind::Gauge;

    fn with_key(recorder: &dyn Recorder, key: &Key) -> Self {
        recorder.register_gauge(key, &METADATA)
    }
}

impl Handle for Histogram {
    const KIND: Kind = Kind::Histogram;

    fn with_key(recorder: &dyn Recorder, key: &Key) -> Self {
        recorder.register_histogram(key, &METADATA)
    }
}

/// One handle for each pair of values of two labels.
#[derive(Debug, Clone)]
pub struct Grid<L, M, H> {
    rows: Box<[By<M, H>]>,
    label: PhantomData<fn(L)>,
}

impl<L: Label, M: Label, H> Grid<L, M, H> {
    /// The handle for `label` and `other`.
    pub fn of(&self, label: L, other: M) -> &H {
        // One row a value was made in `register`, and an index is that of a value.
        self.rows[label.index()].of(other)
    }
}

impl<L: Label, M: Label, H: Handle> Series for Grid<L, M, H> {
    const KIND: Kind = H::KIND;
    const LABEL: Option<(&'static str, &'static [&'static str])> = Some((M::NAME, M::VALUES));

    fn register(recorder: &dyn Recorder, name: &'static str) -> Self {
        let row = |value: &&'static str| {
            let first = metrics::Label::from_static_parts(L::NAME, value);
            By::register_beside(recorder, name, &[first])
        };
        Self { rows: L::VALUES.iter().map(row).collect(), label: PhantomData }
    }
}

impl<H: Handle> Series for H {
    const KIND: Kind = H::KIND;
    const LABEL: Option<(&'static str, &'static [&'static str])> = None;

    fn register(recorder: &dyn Recorder, name: &'static str) -> Self {
        H::with_key(recorder, &Key::from_static_name(name))
    }
}

/// One handle for each value of a label.
#[derive(Debug, Clone)]
pub struct By<L, H> {
    handles: Box<[H]>,
    label: PhantomData<fn(L)>,
}

impl<L: Label, H> By<L, H> {
    /// The handle for `label`.
    pub fn of(&self, label: impl Into<L>) -> &H {
        // One handle a value was made in `register`, and an index is that of a value.
        &self.handles[label.into().index()]
    }
}

impl<L: Label, H: Handle> By<L, H> {
    /// Makes every series that has `others` besides.
    fn register_beside(recorder: &dyn Recorder, name: &'static str, others: &[metrics::Label]) -> Self {
        let handle = |value: &&'static str| {
            let mut labels = others.to_vec();
            labels.push(metrics::Label::from_static_parts(L::NAME, value));
            H::with_key(recorder, &Key::from_parts(name, labels))
        };
        Self { handles: L::VALUES.iter().map(handle).collect(), label: PhantomData }
    }
}

impl<L: Label, H: Handle> Series for By<L, H> {
    const KIND: Kind = H::KIND;
    const LABEL: Option<(&'static str, &'static [&'static str])> = Some((L::NAME, L::VALUES));

    fn register(recorder: &dyn Recorder, name: &'static str) -> Self {
        Self::register_beside(recorder, name, &[])
    }
}
