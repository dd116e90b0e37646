//! Handles of metrics. A handle is made once; each use costs one atomic operation. So nothing on a hot path looks a
//! metric up by name.

use metrics::{Counter, Gauge, Histogram, Key, Level, Metadata, Recorder};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::marker::PhantomData;

/// The type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Sorts values into buckets.
    Histogram,
}

/// A label with a fixed set of values, so that no client can make series without end.
pub trait Label: Copy + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// Its values, in the order of [`index`](Self::index).
    const VALUES: &'static [&'static str];

    /// The index of this value in [`VALUES`](Self::VALUES).
    fn index(self) -> usize;
}

/// A label's name and its values.
pub type LabelFacts = (&'static str, &'static [&'static str]);

/// All series of one metric.
pub trait Series: Sized {
    /// What it does with numbers.
    const KIND: MetricKind;
    /// Its labels and their values.
    const LABELS: &'static [LabelFacts];

    /// Makes every series, so that each is exported as zero from the start.
    fn register(recorder: &dyn Recorder, name: &'static str) -> Self;
}

/// A handle for a single series.
pub trait Handle: Sized {
    /// What it does with numbers.
    const KIND: MetricKind;

    /// Makes the series.
    fn with_key(recorder: &dyn Recorder, key: &Key) -> Self;
}

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

impl Handle for Counter {
    const KIND: MetricKind = MetricKind::Counter;

    fn with_key(recorder: &dyn Recorder, key: &Key) -> Self {
        recorder.register_counter(key, &METADATA)
    }
}

impl Handle for Gauge {
    const KIND: MetricKind = MetricKind::Gauge;

    fn with_key(recorder: &dyn Recorder, key: &Key) -> Self {
        recorder.register_gauge(key, &METADATA)
    }
}

impl Handle for Histogram {
    const KIND: MetricKind = MetricKind::Histogram;

    fn with_key(recorder: &dyn Recorder, key: &Key) -> Self {
        recorder.register_histogram(key, &METADATA)
    }
}

impl<H: Handle> Series for H {
    const KIND: MetricKind = H::KIND;
    const LABELS: &'static [LabelFacts] = &[];

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
        // In bounds: `register` has made one handle for each value, and an index is that of a value.
        &self.handles[label.into().index()]
    }
}

impl<L: Label, H: Handle> Series for By<L, H> {
    const KIND: MetricKind = H::KIND;
    const LABELS: &'static [LabelFacts] = &[(L::NAME, L::VALUES)];

    fn register(recorder: &dyn Recorder, name: &'static str) -> Self {
        let handle = |value: &&'static str| {
            H::with_key(recorder, &Key::from_parts(name, vec![metrics::Label::from_static_parts(L::NAME, value)]))
        };
        Self { handles: L::VALUES.iter().map(handle).collect(), label: PhantomData }
    }
}

/// One handle for each pair of values of two labels.
#[derive(Debug, Clone)]
pub struct ByTwo<A, B, H> {
    handles: Box<[H]>,
    labels: PhantomData<fn(A, B)>,
}

impl<A: Label, B: Label, H> ByTwo<A, B, H> {
    /// The handle for both labels.
    pub fn of(&self, first: impl Into<A>, second: impl Into<B>) -> &H {
        // In bounds: `register` has made one handle for each pair, row by row.
        &self.handles[first.into().index() * B::VALUES.len() + second.into().index()]
    }
}

impl<A: Label, B: Label, H: Handle> Series for ByTwo<A, B, H> {
    const KIND: MetricKind = H::KIND;
    const LABELS: &'static [LabelFacts] = &[(A::NAME, A::VALUES), (B::NAME, B::VALUES)];

    fn register(recorder: &dyn Recorder, name: &'static str) -> Self {
        let label = metrics::Label::from_static_parts;
        let pairs = A::VALUES.iter().flat_map(|first| B::VALUES.iter().map(move |second| (first, second)));
        let handle = |(first, second): (&&'static str, &&'static str)| {
            H::with_key(recorder, &Key::from_parts(name, vec![label(A::NAME, first), label(B::NAME, second)]))
        };
        Self { handles: pairs.map(handle).collect(), labels: PhantomData }
    }
}

/// One gauge for each name of a set that is known only while the relay runs. The names must come from the operator,
/// never from a client, so that their number is bounded.
#[derive(Debug)]
pub struct ByName {
    metric: &'static str,
    values: Mutex<BTreeMap<String, f64>>,
}

impl ByName {
    /// Sets the value of each name. A name that is missing keeps its last value: certificates leave with a restart.
    pub fn set_all(&self, values: impl IntoIterator<Item = (String, f64)>) {
        self.values.lock().extend(values);
    }

    /// Hands the values to the recorder.
    pub(super) fn record(&self, recorder: &dyn Recorder) {
        for (name, value) in &*self.values.lock() {
            let key = Key::from_parts(self.metric, vec![metrics::Label::new("name", name.clone())]);
            Gauge::with_key(recorder, &key).set(*value);
        }
    }
}

impl Series for ByName {
    const KIND: MetricKind = MetricKind::Gauge;
    const LABELS: &'static [LabelFacts] = &[("name", &[])];

    fn register(_: &dyn Recorder, name: &'static str) -> Self {
        Self { metric: name, values: Mutex::default() }
    }
}
