//! "Did you mean": finds the known name nearest to an unknown one.

/// The end of a sentence that suggests the nearest of `known`; empty where none is near.
pub(super) fn did_you_mean<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> String {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let distance = |name: &str| {
        // The right key in the wrong section is nearer than any misspelling.
        if last(name) == last(unknown) { 1 } else { edits(unknown, name) }
    };
    known
        .map(|name| (distance(name), name))
        .min()
        .filter(|(distance, _)| *distance <= (unknown.len() / 2).max(2))
        .map_or_else(String::new, |(_, name)| format!("; did you mean {name}?"))
}

/// The number of insertions, deletions and substitutions between two names (Levenshtein), byte by byte.
fn edits(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(to.bytes()) {
            let above = *cell;
            left = (diagonal + usize::from(a != b)).min(above + 1).min(left + 1);
            diagonal = above;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_levenshteins() {
        for (from, to, distance) in [("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2)] {
            assert_eq!(edits(from, to), distance, "{from} {to}");
        }
    }

    #[test]
    fn the_nearest_is_named_and_the_far_is_not() {
        let known = ["limits.max_filters", "limits.max_limit", "listen"];
        let hint = |unknown| did_you_mean(unknown, known.into_iter());
        assert_eq!(hint("limits.max_filter"), "; did you mean limits.max_filters?");
        assert_eq!(hint("max_limit"), "; did you mean limits.max_limit?");
        assert_eq!(hint("lisen"), "; did you mean listen?");
        assert_eq!(hint("zzzzzzzz"), "");
    }
}
