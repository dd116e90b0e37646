//! How often each layer had what it was asked for, of late.

use crate::telemetry::CacheLayer;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a look is worth after another look has come: looks are a second apart, so a minute ago counts for a third.
const FADING: f64 = 0.98;

/// Hits and queries of one layer.
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

    /// What the last look saw.
    pub(super) fn last(&self) -> [(CacheLayer, f64); 2] {
        [(CacheLayer::L1, self.l1.last()), (CacheLayer::L2, self.l2.last())]
    }

    /// The share of hits of each layer, the latest counting most; 0 where nothing was layer_rate.
    pub(super) fn look(&self) -> [(CacheLayer, f64); 2] {
        [(CacheLayer::L1, self.l1.look()), (CacheLayer::L2, self.l2.look())]
    }
}

impl LayerRate {
    /// What the last look saw.
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
