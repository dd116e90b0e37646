//! How long the events of some kinds are kept. A rule is written as `"7=90"` or `"20000-29999=1"`: kinds, and whole
//! days.

use super::values::KindRange;
use crate::types::Kind;
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use std::ops::RangeInclusive;

/// The most days that a rule may name: a century.
const MAX_DAYS: u32 = 36_525;

/// Events of `kinds` are removed when their `created_at` is more than `days` ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindRetention {
    /// The kinds.
    pub kinds: RangeInclusive<Kind>,
    /// The days.
    pub days: u32,
}

impl<'de> Deserialize<'de> for KindRetention {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parsed = text.split_once('=').and_then(|(kinds, days)| {
            let KindRange(kinds) = KindRange::parse(kinds)?;
            let days = days.trim().parse().ok().filter(|days| (1..=MAX_DAYS).contains(days))?;
            Some(Self { kinds: Kind(*kinds.start())..=Kind(*kinds.end()), days })
        });
        parsed.ok_or_else(|| {
            D::Error::custom(format_args!(
                "\"{text}\" is no rule: write a kind or a range of kinds, = and 1 to {MAX_DAYS} days, like \"7=90\" or \"20000-29999=1\""
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<KindRetention, toml::de::Error> {
        toml::Value::from(text).try_into()
    }

    #[test]
    fn a_rule_names_kinds_and_days() {
        assert_eq!(read("7=90").unwrap(), KindRetention { kinds: Kind(7)..=Kind(7), days: 90 });
        assert_eq!(read("1000-1999=1").unwrap(), KindRetention { kinds: Kind(1000)..=Kind(1999), days: 1 });
        for wrong in ["", "7", "7=", "=9", "7=0", "7=-1", "9-8=1", "70000=1", "7=36526", "7=1d"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
