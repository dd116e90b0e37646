//! The hit rate of each layer over about the last minute.

use crate::telemetry::CacheLayer;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// The weight of a sample once the next one has come. A sample is taken every second, so one of a minute ago counts for
/// a third.
const FADING: f64 = 0.98;

/// Hits and requests of one layer.
#[derive(Debug, Default)]
struct LayerRate {
    hits: AtomicU64,
    all: AtomicU64,
    faded: Mutex<(f64, f64)>,
}

/// The hit rates of both layers.
#[derive(Debug, Default)]
pub(super) struct Rates {
    l1: LayerRate,
    l2: LayerRate,
}

impl Rates {
    pub(super) fn note(&self, layer: CacheLayer, hit: bool) {
        let layer_rate = match layer {
            CacheLayer::L1 => &self.l1,
            CacheLayer::L2 => &self.l2,
        };
        layer_rate.all.fetch_add(1, Ordering::Relaxed);
        layer_rate.hits.fetch_add(u64::from(hit), Ordering::Relaxed);
    }

    /// The rates at the last sample.
    pub(super) fn last(&self) -> [(CacheLayer, f64); 2] {
        [(CacheLayer::L1, self.l1.last()), (CacheLayer::L2, self.l2.last())]
    }

    /// Takes a sample; returns the rates, 0 for a layer without requests.
    pub(super) fn look(&self) -> [(CacheLayer, f64); 2] {
        [(CacheLayer::L1, self.l1.look()), (CacheLayer::L2, self.l2.look())]
    }
}

impl LayerRate {
    /// The rate at the last sample.
    fn last(&self) -> f64 {
        rate(*self.faded.lock())
    }

    fn look(&self) -> f64 {
        let mut faded = self.faded.lock();
        faded.0 = faded.0 * FADING + self.hits.swap(0, Ordering::Relaxed) as f64;
        faded.1 = faded.1 * FADING + self.all.swap(0, Ordering::Relaxed) as f64;
        rate(*faded)
    }
}

fn rate((hits, all): (f64, f64)) -> f64 {
    if all > 0.0 { (hits / all).min(1.0) } else { 0.0 }
}
