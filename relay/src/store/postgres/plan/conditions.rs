//! The conditions on a row, besides the one that its index is walked by.

use super::parameters::Parameters;
use super::{PlanQuestion, hashes};
use crate::store::form::{Form, Rights, by_tag as by_tag_form};
use crate::store::hash::Hasher;
use crate::types::Timestamp;
use smallvec::SmallVec;

/// From this many authors on, they are looked up in a hash table that is built once, not compared one by one.
const MANY_AUTHORS: usize = 8;

/// Rows that are put into a hash table for the cost of one index probe.
const ROWS_HASHED_FOR_ONE_PROBE: usize = 4;

/// The conditions on a row `c` of the form's index.
pub(super) struct Conditions {
    /// The earliest time.
    pub(super) since: String,
    /// The latest time, with [`PlanQuestion::after`].
    until: String,
    /// All others.
    others: String,
}

impl Conditions {
    pub(super) fn new(parameters: &mut Parameters, question: &PlanQuestion<'_>, hasher: &Hasher, form: Form) -> Self {
        let filter = question.filter;
        let until = filter.until.unwrap_or(Timestamp::MAX);
        // The place right before the first row: no id is below the empty one.
        let (high, tie): (_, &[u8]) = match &question.after {
            Some(after) if after.created_at <= until => (after.created_at, after.id.as_bytes()),
            _ => (until, &[]),
        };

        let since = parameters.number(filter.since.unwrap_or(0));
        let (high, tie) = (parameters.number(high), parameters.bytes(tie));
        let until = format!("c.created_at <= {high} AND (c.created_at < {high} OR c.id > {tie})");
        let now = parameters.number(question.now);
        let mut others = vec![format!("(c.expires_at IS NULL OR c.expires_at > {now})")];

        let by_tag = matches!(form, Form::Tag(_) | Form::Tags(_));
        let by_author = matches!(form, Form::AuthorKind | Form::AuthorsKinds | Form::Authors);
        let by_kind = matches!(form, Form::AuthorKind | Form::AuthorsKinds | Form::Kind | Form::Kinds);

        if let Some(kinds) = filter.kinds.as_ref().filter(|_| !by_kind) {
            let kinds = parameters.kinds(kinds.iter().map(|kind| i32::from(kind.0)));
            others.push(format!("c.kind = ANY({kinds})"));
        }

        // The rarest tag first: the rows that it rejects are not checked any further.
        let length = |form| question.lengths.and_then(|lengths| lengths.of(form));
        let mut tags: SmallVec<[_; 4]> =
            filter.tags.iter().enumerate().map(|(at, tag)| (by_tag_form(at, tag), tag)).collect();
        tags.retain(|(other, _)| *other != form);
        tags.sort_by_key(|(other, _)| length(*other).unwrap_or(usize::MAX));
        let probes = question.walked.map_or(0, |rows| rows.min(length(form).unwrap_or(usize::MAX)));
        for (nth, (other, tag)) in tags.into_iter().enumerate() {
            let list = parameters.numbers(hashes(hasher, tag));
            let whole = length(other).is_some_and(|rows| rows <= probes.saturating_mul(ROWS_HASHED_FOR_ONE_PROBE));
            // Only the first tag sees every row of the walk, so only for it may a hash table pay.
            others.push(if nth == 0 && whole { is_among(&list, &since, &high) } else { has_tag(&list) });
        }

        if let Some(authors) = filter.authors.as_ref().filter(|_| !by_author) {
            let list = parameters.keys(authors.iter().map(|author| *author.as_bytes()));
            others.push(written_by(&list, authors.len(), by_tag));
        }

        if let (Some(access), Rights::Public | Rights::Readers) = (question.access, question.rights()) {
            let kinds = parameters.kinds(access.private_kinds.as_slice().iter().map(|kind| i32::from(kind.0)));
            let mut ways = vec![format!("c.kind <> ALL({kinds})")];
            if question.rights() == Rights::Readers {
                let readers = &access.authenticated;
                let named = parameters.kinds(access.private_kinds.for_recipients().map(|kind| i32::from(kind.0)));
                let list = parameters.numbers(readers.iter().map(|reader| hasher.tag(b'p', &reader.to_hex())));
                ways.push(format!("c.kind = ANY({named}) AND {}", has_tag(&list)));
                let own = parameters.kinds(access.private_kinds.for_authors().map(|kind| i32::from(kind.0)));
                let list = parameters.keys(readers.iter().map(|reader| *reader.as_bytes()));
                ways.push(format!("c.kind = ANY({own}) AND {}", written_by(&list, readers.len(), by_tag)));
            }
            others.push(format!("({})", ways.join(" OR ")));
        }
        Self { since, until, others: others.join(" AND ") }
    }

    /// The conditions on the time alone.
    pub(super) fn window(&self) -> String {
        format!("c.created_at >= {} AND {}", self.since, self.until)
    }

    /// All conditions.
    pub(super) fn all(&self) -> String {
        self.from(&self.since)
    }

    /// All conditions, with another earliest time.
    pub(super) fn from(&self, since: &str) -> String {
        format!("c.created_at >= {since} AND {} AND {}", self.until, self.others)
    }
}

/// A scalar subquery runs row by row whatever the server estimates; it could turn an `EXISTS` into a join, or into a
/// hash table of every event with these tags.
fn has_tag(list: &str) -> String {
    format!(
        "(SELECT true FROM tag x WHERE x.h = ANY({list}) AND x.created_at = c.created_at AND x.id = c.id LIMIT 1) IS TRUE"
    )
}

/// The same by a hash table of the whole list, built once for each pass over the form's lists. For many rows to check;
/// the list has no more rows than lists are counted to, at some 140 bytes each. IS TRUE keeps the server from making it
/// a join.
fn is_among(list: &str, since: &str, until: &str) -> String {
    format!(
        "((c.created_at, c.id) IN (SELECT x.created_at, x.id FROM tag x WHERE x.h = ANY({list}) \
         AND x.created_at BETWEEN {since} AND {until})) IS TRUE"
    )
}

/// `by_tag`: the walked index does not have the author.
fn written_by(list: &str, count: usize, by_tag: bool) -> String {
    let one_of = |column: &str| {
        if count < MANY_AUTHORS {
            format!("{column} = ANY({list})")
        } else {
            // IS TRUE keeps the server from making it a join.
            format!("({column} IN (SELECT unnest({list}))) IS TRUE")
        }
    };
    if by_tag {
        format!("(SELECT {} FROM event x WHERE x.id = c.id LIMIT 1) IS TRUE", one_of("x.pubkey"))
    } else {
        one_of("c.pubkey")
    }
}
