//! What a filter asks for, without the values: for logs and lists that must show nothing of a client's.

use super::{Filter, TagFilter};
use std::fmt::Write;

impl Filter {
    /// Which conditions there are and how many values each has: `authors:300 kinds:2 #p:1 since limit:100`; `all` where
    /// there are none. Numbers above 20 have one digit that counts: equal shapes cost about the same.
    pub fn shape(&self) -> String {
        let mut shape = String::new();
        // Writing into a text cannot fail.
        let mut count = |name: &str, values: Option<usize>| {
            if let Some(values) = values {
                let _ = write!(shape, "{name}:{} ", rounded(values));
            }
        };
        count("ids", self.ids.as_ref().map(|ids| ids.len()));
        count("authors", self.authors.as_ref().map(|authors| authors.len()));
        count("kinds", self.kinds.as_ref().map(|kinds| kinds.len()));
        for conditions in self.tags.chunk_by(|one, other| one.letter == other.letter) {
            let letter = conditions.first().map_or('?', |condition| char::from(condition.letter));
            let is_and = |condition: &&TagFilter| conditions.len() > 1 && condition.values.len() == 1;
            count(&format!("&{letter}"), Some(conditions.iter().filter(is_and).count()).filter(|values| *values > 0));
            for condition in conditions.iter().filter(|condition| !is_and(condition)) {
                count(&format!("#{letter}"), Some(condition.values.len()));
            }
        }
        if self.since.is_some() {
            shape.push_str("since ");
        }
        if self.until.is_some() {
            shape.push_str("until ");
        }
        if let Some(limit) = self.limit {
            let _ = write!(shape, "limit:{limit}");
        }
        if shape.is_empty() { "all".to_owned() } else { shape.trim_end().to_owned() }
    }
}

fn rounded(number: usize) -> usize {
    let mut step = 1;
    while number > 20 && number / step >= 10 {
        step *= 10;
    }
    number.saturating_add(step / 2) / step * step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_has_every_condition_and_no_value() {
        let filter = r##"{"authors":["00000000000000000000000000000000000000000000000000000000000000aa"],"kinds":[1,7],
            "#t":["secret","words"],"since":5,"until":9,"limit":20}"##;
        assert_eq!(Filter::parse(filter).unwrap().shape(), "authors:1 kinds:2 #t:2 since until limit:20");
        let filter = r##"{"&t":["secret","words"],"#t":["secret","b","c","d"]}"##;
        assert_eq!(Filter::parse(filter).unwrap().shape(), "&t:2 #t:3");
        assert_eq!(Filter::default().shape(), "all");
        for (number, told) in [(0, 0), (1, 1), (20, 20), (21, 20), (47, 50), (300, 300), (996, 1_000), (1_000, 1_000)] {
            assert_eq!(rounded(number), told, "{number}");
        }
    }
}
