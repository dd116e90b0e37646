//! Binds the parameters of a statement, and reads the head out of its answer.

use super::error::translate;
use super::ord::{id_prefix, ord, ord_first, ord_last};
use crate::store::StoreError;
use crate::store::form::Form;
use crate::store::hash::Hasher;
use crate::types::{Access, Epoch, EventId, Filter, Head, Key, Position, Timestamp};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, Encode, Row as _, Sqlite, Type};
use std::fmt::Write;

/// What a statement asks for, apart from its form.
pub(super) struct FormQuestion<'a> {
    pub(super) filter: &'a Filter,
    pub(super) access: Option<&'a Access>,
    pub(super) now: Timestamp,
    pub(super) after: Option<Key>,
    /// The most elements that the form may find.
    pub(super) elements: usize,
    /// Longer texts come as a reference to their row.
    pub(super) big_text_bytes: usize,
}

/// Adds values in the order of their numbers.
struct Collector<'a>(&'a mut SqliteArguments);

impl Collector<'_> {
    fn number(&mut self, value: i64) {
        add(self.0, value);
    }

    fn text(&mut self, value: String) {
        add(self.0, value);
    }

    /// Each value once: two ids, authors or tags may share a hash, and then they share a list.
    fn list(&mut self, values: impl Iterator<Item = i64>) {
        let mut values: Vec<_> = values.collect();
        values.sort_unstable();
        values.dedup();
        self.text(json(values.into_iter()));
    }

    fn nothing(&mut self) {
        add(self.0, None::<i64>);
    }
}

/// Adds a value. That fails only for values that cannot be encoded; integers, texts and blobs always can.
pub(super) fn add<'a>(arguments: &mut SqliteArguments, value: impl Encode<'a, Sqlite> + Type<Sqlite>) {
    let _ = arguments.add(value);
}

pub(super) const HEAD: &str = "SELECT epoch, position FROM head";

/// Reads the columns `epoch`, `position`.
pub(super) fn head_from(row: &SqliteRow) -> Result<Head, StoreError> {
    let number = |at: usize| row.try_get::<i64, _>(at).map(i64::cast_unsigned).map_err(translate);
    Ok(Head { epoch: Epoch(number(0)?), position: Position(number(1)?) })
}

/// A JSON array of integers.
pub(super) fn json(values: impl Iterator<Item = i64>) -> String {
    let mut out = String::with_capacity(2 + 21 * values.size_hint().0);
    out.push('[');
    for value in values {
        if out.len() > 1 {
            out.push(',');
        }
        // Writing to a String cannot fail.
        let _ = write!(out, "{value}");
    }
    out.push(']');
    out
}

/// A JSON array of ids.
fn hex<'a>(ids: impl Iterator<Item = &'a EventId>) -> String {
    let mut out = String::with_capacity(2 + 67 * ids.size_hint().0);
    for id in ids {
        out.push_str(if out.is_empty() { "[\"" } else { ",\"" });
        out.push_str(&id.to_hex());
        out.push('"');
    }
    out.push(']');
    out
}

/// The parameters for `form`, with the numbers that [`super::sql`] gives them.
pub(super) fn arguments(question: &FormQuestion<'_>, form: Form, hasher: &Hasher) -> SqliteArguments {
    let mut values = SqliteArguments::default();
    push(&mut values, question, form, hasher);
    values
}

/// Appends the parameters for `form` to those of other statements.
pub(super) fn push(values: &mut SqliteArguments, question: &FormQuestion<'_>, form: Form, hasher: &Hasher) {
    let FormQuestion { filter, access, .. } = question;
    let (since, until) = (filter.since.unwrap_or(0), filter.until.unwrap_or(Timestamp::MAX));
    let high = question.after.map_or(i64::MAX, ord).min(ord_last(until));
    let authors = || filter.authors.iter().flatten().map(|author| hasher.author(author));
    let kinds = || filter.kinds.iter().flatten().map(|kind| i64::from(kind.0));
    let tag = |at: usize| {
        let condition = filter.tags.get(at);
        condition.into_iter().flat_map(|tag| tag.values.iter().map(|value| hasher.tag(tag.letter, value)))
    };

    let mut values = Collector(values);
    values.0.reserve(16 + filter.tags.len(), 0);
    values.number(ord_first(since)); // 1
    values.number(high); // 2
    values.number(i64::try_from(question.elements).unwrap_or(i64::MAX)); // 3
    values.number(question.now); // 4
    values.number(since); // 5
    values.number(until); // 6
    values.number(i64::try_from(question.big_text_bytes).unwrap_or(i64::MAX)); // 7

    match form {
        // 8: the first list of the form, or its one value
        Form::Ids => values.list(filter.ids.iter().flatten().map(id_prefix)),
        Form::AuthorKind => authors().next().map_or((), |author| values.number(author)),
        Form::AuthorsKinds | Form::Authors => values.list(authors()),
        Form::Tag(at) => tag(at).next().map_or((), |hash| values.number(hash)),
        Form::Tags(at) => values.list(tag(at)),
        Form::Kind | Form::Kinds | Form::Time | Form::Recent => values.nothing(),
    }
    match form {
        // 9: the kinds of the form, or its one kind, or the ids
        Form::AuthorKind | Form::Kind => kinds().next().map_or((), |kind| values.number(kind)),
        Form::AuthorsKinds | Form::Kinds => values.list(kinds()),
        Form::Ids => values.text(hex(filter.ids.iter().flatten())),
        _ => values.nothing(),
    }

    values.list(authors()); // 10
    values.list(kinds()); // 11
    match access {
        None => (0..5).for_each(|_| values.nothing()),
        Some(access) => {
            let private = &access.private_kinds;
            values.list(private.as_slice().iter().map(|kind| i64::from(kind.0))); // 12
            values.list(access.authenticated.iter().map(|reader| hasher.tag(b'p', &reader.to_hex()))); // 13
            values.list(access.authenticated.iter().map(|reader| hasher.author(reader))); // 14
            values.list(private.for_authors().map(|kind| i64::from(kind.0))); // 15
            values.list(private.for_recipients().map(|kind| i64::from(kind.0))); // 16
        }
    }

    for at in 0..filter.tags.len() {
        values.list(tag(at)); // 17 and on
    }
}
