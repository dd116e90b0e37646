//! Filters as text, for logs, tests and the command line.

use super::{Filter, TagFilter};
use crate::types::json::push_string;
use std::fmt::Write;

pub(super) fn object(filter: &Filter) -> String {
    let mut out = String::from("{");
    if let Some(ids) = &filter.ids {
        list(&mut out, "ids", ids, |out, id| push_string(&id.to_hex(), out));
    }
    if let Some(authors) = &filter.authors {
        list(&mut out, "authors", authors, |out, author| push_string(&author.to_hex(), out));
    }
    if let Some(kinds) = &filter.kinds {
        list(&mut out, "kinds", kinds, |out, kind| number(out, kind.0));
    }
    for conditions in filter.tags.chunk_by(|one, other| one.letter == other.letter) {
        tags(&mut out, conditions);
    }
    let numbers = [
        ("since", filter.since.map(i128::from)),
        ("until", filter.until.map(i128::from)),
        ("limit", filter.limit.map(i128::from)),
    ];
    for (name, value) in numbers {
        if let Some(value) = value {
            key(&mut out, name);
            number(&mut out, value);
        }
    }
    out.push('}');
    out
}

/// The conditions of one letter.
fn tags(out: &mut String, conditions: &[TagFilter]) {
    let letter = conditions.first().map_or('?', |condition| char::from(condition.letter));
    // Of several, those of one value must all be there.
    let is_and = |condition: &&TagFilter| conditions.len() > 1 && condition.values.len() == 1;
    let values: Vec<_> = conditions.iter().filter(is_and).flat_map(|condition| &condition.values).collect();
    if !values.is_empty() {
        list(out, &format!("&{letter}"), &values, |out, value| push_string(value, out));
    }
    for condition in conditions.iter().filter(|condition| !is_and(condition)) {
        list(out, &format!("#{letter}"), &condition.values, |out, value| push_string(value, out));
    }
}

fn key(out: &mut String, name: &str) {
    if out.len() > 1 {
        out.push(',');
    }
    push_string(name, out);
    out.push(':');
}

fn number(out: &mut String, number: impl std::fmt::Display) {
    // Writing to a String cannot fail.
    let _ = write!(out, "{number}");
}

fn list<T>(out: &mut String, name: &str, values: &[T], push: impl Fn(&mut String, &T)) {
    key(out, name);
    for (index, value) in values.iter().enumerate() {
        out.push(if index == 0 { '[' } else { ',' });
        push(out, value);
    }
    out.push(']');
}
