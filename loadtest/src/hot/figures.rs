//! Figures from the instances' own metrics, at one moment.

use super::stage::Stage;
use crate::load::{get, series};
use crate::system::Process;
use anyhow::Context;
use std::time::Duration;

/// Sums over some instances since their start.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    pub(super) l1_hits: f64,
    pub(super) l2_hits: f64,
    pub(super) asked: f64,
    pub(super) store_reads: f64,
    /// The sum of their times, in seconds.
    pub(super) store_seconds: f64,
    /// Open connections to the database, as of now.
    pub(super) connections: f64,
    pub(super) cpu: Duration,
    /// Reads by where the rows came from, counted up to each bound in seconds.
    pub(super) from_l1: Buckets,
    pub(super) from_l2: Buckets,
    /// Reads that both layers missed, from the request to the rows.
    pub(super) missed: Buckets,
    /// The database's part of those reads.
    pub(super) from_store: Buckets,
}

/// A histogram: bounds in seconds, and how many values are at most each.
#[derive(Debug, Clone, Default)]
pub(super) struct Buckets(Vec<(f64, f64)>);

impl Buckets {
    fn add(&mut self, bound: f64, count: f64) {
        match self.0.iter_mut().find(|(known, _)| *known == bound) {
            Some((_, sum)) => *sum += count,
            None => self.0.push((bound, count)),
        }
    }

    fn since(&self, before: &Self) -> Self {
        let then = |bound: f64| before.0.iter().find(|(known, _)| *known == bound).map_or(0.0, |(_, count)| *count);
        Self(self.0.iter().map(|(bound, count)| (*bound, count - then(*bound))).collect())
    }

    /// The percentile in milliseconds, estimated from the buckets; `None` where there is no value.
    pub(super) fn percentile(&self, percent: f64) -> Option<f64> {
        let all = self.0.iter().map(|(_, count)| *count).fold(0.0, f64::max);
        let wanted = all * percent / 100.0;
        let (mut below, mut counted) = (0.0, 0.0);
        for (bound, count) in &self.0 {
            if *count >= wanted && all > 0.0 {
                let share = if count > &counted { (wanted - counted) / (count - counted) } else { 1.0 };
                let above = if bound.is_finite() { *bound } else { 2.0 * below };
                return Some(1e3 * (below + share * (above - below)));
            }
            (below, counted) = (*bound, *count);
        }
        None
    }
}

impl Figures {
    /// Reads the metrics of the relays with these numbers.
    pub(super) fn look(stage: &Stage, relays: &[usize]) -> anyhow::Result<Self> {
        let mut sum = Self::default();
        for relay in relays {
            let relay = stage.relays.get(*relay).context("a relay that was not started")?;
            let text = get(&format!("http://127.0.0.1:{}/metrics", relay.admin_port))?;
            sum.take(&text);
            let pid = relay.process().and_then(|process| u32::try_from(process.pid()).ok());
            sum.cpu += pid.and_then(|pid| Process(pid).cpu()).unwrap_or_default();
        }
        Ok(sum)
    }

    fn take(&mut self, text: &str) {
        series(text).for_each(|(series, value)| self.add(series, value));
    }

    fn add(&mut self, series: &str, value: f64) {
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let hit = labels.contains("\"hit\"");
        match name {
            "nostr_cache_requests_total" if hit && labels.contains("\"l1\"") => self.l1_hits += value,
            "nostr_cache_requests_total" if hit => self.l2_hits += value,
            "nostr_messages_total" if labels.contains("\"req\"") => self.asked += value,
            "nostr_store_read_seconds_count" => self.store_reads += value,
            "nostr_store_read_seconds_sum" => self.store_seconds += value,
            "nostr_database_connections" => self.connections += value,
            "nostr_cache_read_seconds_bucket" | "nostr_store_read_seconds_bucket" => {
                let bound = labels.split("le=\"").nth(1).and_then(|rest| rest.split('"').next()?.parse().ok());
                let Some(bound) = bound else { return };
                match name {
                    "nostr_store_read_seconds_bucket" => self.from_store.add(bound, value),
                    _ if labels.contains("\"l1\"") => self.from_l1.add(bound, value),
                    _ if labels.contains("\"l2\"") => self.from_l2.add(bound, value),
                    _ if labels.contains("\"store\"") => self.missed.add(bound, value),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            l1_hits: self.l1_hits - before.l1_hits,
            l2_hits: self.l2_hits - before.l2_hits,
            asked: self.asked - before.asked,
            store_reads: self.store_reads - before.store_reads,
            store_seconds: self.store_seconds - before.store_seconds,
            connections: self.connections,
            cpu: self.cpu.saturating_sub(before.cpu),
            from_l1: self.from_l1.since(&before.from_l1),
            from_l2: self.from_l2.since(&before.from_l2),
            missed: self.missed.since(&before.missed),
            from_store: self.from_store.since(&before.from_store),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_relay_says_is_added_up() {
        let (mut before, mut after) = (Figures::default(), Figures::default());
        for line in [
            "nostr_cache_requests_total{layer=\"l1\",result=\"hit\"} 5",
            "# nothing",
            "nostr_messages_total{type=\"req\"} 9",
        ] {
            before.take(line);
            after.take(line);
        }

        for line in [
            "nostr_cache_requests_total{layer=\"l1\",result=\"hit\"} 7",
            "nostr_cache_requests_total{layer=\"l1\",result=\"miss\"} 3",
            "nostr_cache_requests_total{layer=\"l2\",result=\"hit\"} 2",
            "nostr_store_read_seconds_bucket{le=\"0.001\"} 50",
            "nostr_store_read_seconds_bucket{le=\"0.01\"} 100",
            "nostr_store_read_seconds_bucket{le=\"+Inf\"} 100",
        ] {
            after.take(line);
        }

        let grown = after.since(&before);
        assert_eq!((grown.l1_hits, grown.l2_hits, grown.asked), (7.0, 2.0, 0.0));
        let percentile = |percent| (grown.from_store.percentile(percent).unwrap() * 1e3).round() / 1e3;
        assert_eq!((percentile(50.0), percentile(75.0), percentile(100.0)), (1.0, 5.5, 10.0));
        assert_eq!(grown.from_l1.percentile(50.0), None);
    }
}
