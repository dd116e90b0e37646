//! Schedules orders: a certificate is ordered before it is needed, and after a failure again with a back-off.

use super::order::ChallengeKind;
use crate::tls::certificate::Certificate;
use std::time::{Duration, Instant};

/// The times between orders for the same name.
#[derive(Debug, Clone)]
pub struct Pace {
    /// The interval at which due orders are looked for.
    pub look_interval: Duration,
    /// The wait after the first failure. It doubles with each: five orders in the first hour, as many as Let's Encrypt
    /// allows.
    pub first_wait: Duration,
    /// The longest wait, unless the authority asks for more.
    pub max_wait: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            look_interval: Duration::from_secs(5),
            first_wait: Duration::from_secs(120),
            max_wait: Duration::from_secs(12 * 3600),
        }
    }
}

/// The rest of a certificate's lifetime at which it is renewed, and the jitter of that, in per mille of the lifetime.
/// The jitter spreads the orders of relays that have started together.
const RENEW_LEFT: i64 = 333;
const RENEW_JITTER: i64 = 33;

/// The wait between two types of challenges.
const OTHER_WAY_WAIT: Duration = Duration::from_secs(2);

/// The schedule of one name.
#[derive(Debug)]
pub(super) struct Schedule {
    /// This name's part of the jitter, 0 to 1.
    jitter: f64,
    /// The index of the type of challenge to try next; the one that has worked stays.
    way: usize,
    failures: u32,
    not_before: Option<Instant>,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { jitter: rand::random(), way: 0, failures: 0, not_before: None }
    }
}

impl Schedule {
    /// True where a certificate is missing, or has lived for two thirds of its life, and no failure forbids a try.
    pub(super) fn is_due(&self, served: Option<&Certificate>, now: Instant) -> bool {
        if self.not_before.is_some_and(|not_before| now < not_before) {
            return false;
        }
        served.is_none_or(|served| wants_renewal(served.seconds_left(), served.lifetime(), self.jitter))
    }

    /// The type of challenge to try next: the one that has worked last, then each in turn.
    pub(super) fn kind(&self, kinds: &[ChallengeKind]) -> ChallengeKind {
        kinds.get(self.way % kinds.len().max(1)).copied().unwrap_or(ChallengeKind::TlsAlpn)
    }

    /// Resets the back-off.
    pub(super) fn succeed(&mut self) {
        self.failures = 0;
        self.not_before = None;
    }

    /// Returns how long to wait: hardly at all until each of the `ways` has failed, then longer each time, and never
    /// less than the authority asks for.
    pub(super) fn fail(&mut self, pace: &Pace, ways: usize, retry_after: Option<Duration>, now: Instant) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.way = self.way.wrapping_add(1);
        let ways = u32::try_from(ways.max(1)).unwrap_or(u32::MAX);
        let wait = match self.failures % ways {
            0 => back_off(pace, self.failures / ways).mul_f64(0.75 + 0.5 * rand::random::<f64>()),
            _ => OTHER_WAY_WAIT,
        };
        let wait = wait.max(retry_after.unwrap_or_default());
        self.not_before = Some(now + wait);
        wait
    }
}

/// The wait after `rounds` failures of all types, from 1 on, without jitter.
fn back_off(pace: &Pace, rounds: u32) -> Duration {
    let doublings = rounds.saturating_sub(1).min(20);
    pace.first_wait.saturating_mul(1 << doublings).min(pace.max_wait)
}

fn wants_renewal(seconds_left: i64, lifetime: Duration, jitter: f64) -> bool {
    let lifetime = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX / 1000);
    let left = RENEW_LEFT - (jitter * RENEW_JITTER as f64) as i64;
    seconds_left.saturating_mul(1000) <= lifetime.saturating_mul(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3600;

    #[test]
    fn a_certificate_is_renewed_after_two_thirds_of_its_life() {
        let life = Duration::from_secs(90 * DAY as u64);
        for (days_left, jitter, due) in
            [(31, 0.0, false), (29, 0.0, true), (29, 1.0, false), (26, 1.0, true), (-1, 0.5, true)]
        {
            assert_eq!(wants_renewal(days_left * DAY, life, jitter), due, "{days_left} days, jitter {jitter}");
        }
    }

    #[test]
    fn failures_wait_longer_each_time_and_as_long_as_the_authority_asks() {
        let pace = Pace::default();
        let rounds: Vec<_> = (1..=12).map(|round| back_off(&pace, round).as_secs()).collect();
        assert_eq!(rounds[..4], [120, 240, 480, 960]);
        assert_eq!(rounds.last(), Some(&(12 * 3600)));
        assert_eq!(back_off(&pace, u32::MAX), pace.max_wait);

        let (mut schedule, start) = (Schedule::default(), Instant::now());
        assert!(schedule.is_due(None, start));
        let wait = schedule.fail(&pace, 1, Some(Duration::from_secs(7 * 3600)), start);
        assert_eq!(wait, Duration::from_secs(7 * 3600));
        assert!(!schedule.is_due(None, start + wait - Duration::from_secs(1)));
        assert!(schedule.is_due(None, start + wait));
        schedule.succeed();
        let wait = schedule.fail(&pace, 1, None, start);
        assert!((90..=150).contains(&wait.as_secs()), "it begins anew: {wait:?}");
    }

    #[test]
    fn the_other_way_is_tried_at_once_and_then_both_wait() {
        let (pace, kinds) = (Pace::default(), [ChallengeKind::TlsAlpn, ChallengeKind::Http]);
        let mut schedule = Schedule::default();
        let mut tried = Vec::new();
        for _ in 0..4 {
            let kind = schedule.kind(&kinds);
            tried.push((kind, schedule.fail(&pace, kinds.len(), None, Instant::now()) > OTHER_WAY_WAIT));
        }
        let expected = [(kinds[0], false), (kinds[1], true), (kinds[0], false), (kinds[1], true)];
        assert_eq!(tried, expected);
    }
}
