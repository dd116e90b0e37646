//! The command line.

pub(crate) mod cluster;
pub(crate) mod load;
mod show;

use std::time::Duration;

/// The number of events that `fill` writes and that questions are about, unless the command line says.
pub(crate) const FILLED: usize = 300_000;
/// The number of their authors.
pub(crate) const FILL_AUTHORS: usize = 50_000;
/// The date of the newest of them: 2026-11-01.
pub(crate) const FILL_UNTIL: u64 = 1_793_491_200;

pub(crate) fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "must be a number of at least 1".to_owned())
}

pub(crate) fn positive(text: &str) -> Result<f64, String> {
    let good = |number: &f64| number.is_finite() && *number > 0.0 && *number < 1e7;
    text.parse().ok().filter(good).ok_or_else(|| "must be more than 0".to_owned())
}

/// A variable and its value.
pub(crate) fn setting(text: &str) -> Result<(String, String), String> {
    let (variable, value) = text.split_once('=').ok_or("must be VARIABLE=VALUE")?;
    Ok((variable.to_owned(), value.to_owned()))
}

/// A duration: a number with ms, s, m or h; seconds without a unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|char: char| char.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let each = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err("must be a number with ms, s, m or h".to_owned()),
    };
    let seconds = number.parse::<f64>().ok().map(|number| number * each);
    let seconds = seconds.filter(|seconds| (0.001..1e7).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "must be more than 0, such as 60s or 5m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let millis = |text| duration(text).map(|time| time.as_millis());
        assert_eq!(
            [millis("250ms"), millis("60s"), millis("5m"), millis("1.5h"), millis("7")],
            [Ok(250), Ok(60_000), Ok(300_000), Ok(5_400_000), Ok(7_000)]
        );
        assert!(["", "s", "-1s", "0s", "1d", "1s2"].iter().all(|text| duration(text).is_err()));
    }
}
