//! How long the lists are that a filter names: what the choice between rival forms rests on, and how the tags that the
//! form does not walk are looked up.

use super::{Parameters, Question, Statement, Walk, walk};
use crate::store::form::Form;
use crate::store::hash::Hasher;
use crate::types::{Filter, Timestamp};
use smallvec::SmallVec;

/// Whose event it is is looked up in another index; finding out whether it has a tag costs a fraction of that.
const AUTHOR_FOR_TAGS: usize = 4;
/// Those of more authors cost more to begin with than to walk.
const FEW_AUTHORS: usize = 8;

/// The lengths of rival forms' lists, counted up to a bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lengths {
    counted: SmallVec<[(Form, usize); 4]>,
    bound: usize,
}

impl Lengths {
    /// `counted`: a number for each rival, at most `bound`.
    pub(crate) fn new(counted: impl IntoIterator<Item = (Form, usize)>, bound: usize) -> Self {
        Self { counted: counted.into_iter().collect(), bound }
    }

    /// Each rival with its length, and whether that is all.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Form, usize, bool)> {
        self.counted.iter().map(|(form, length)| (*form, *length, *length < self.bound))
    }

    /// How long the lists of `form` are; `None` where they are longer than they were counted.
    pub(super) fn of(&self, form: Form) -> Option<usize> {
        self.iter().find(|(rival, ..)| *rival == form).and_then(|(_, length, all)| all.then_some(length))
    }

    /// The form to walk: that with the shortest lists, but for what it costs to check the rest of `filter` on the way. Where
    /// all are long, the last: by author, for a tag is checked faster than an author.
    pub(crate) fn rarest(&self, filter: &Filter) -> Form {
        let few_authors = has_few_authors(filter);
        let cost = |(form, length): &(Form, usize)| match form {
            Form::Authors | Form::AuthorKind | Form::AuthorsKinds if few_authors && *length < self.bound => {
                length / AUTHOR_FOR_TAGS
            }
            _ => *length,
        };
        self.counted.iter().rev().min_by_key(|counted| cost(counted)).map_or(Form::Time, |(form, _)| *form)
    }

    /// True when every list is longer than it was counted.
    pub(crate) fn all_long(&self) -> bool {
        self.iter().all(|(.., all)| !all)
    }
}

/// True where the lists of a filter's authors cost little to begin with.
pub(crate) fn has_few_authors(filter: &Filter) -> bool {
    filter.authors.as_ref().is_some_and(|authors| authors.len() < FEW_AUTHORS)
}

/// For each rival, in order, how long its lists are: a column that stops counting at `bound`.
pub(crate) fn lengths(candidates: &[Form], question: &Question<'_>, hasher: &Hasher, bound: usize) -> Statement {
    let mut parameters = Parameters::default();
    let since = parameters.number(question.filter.since.unwrap_or(0));
    let until = parameters.number(question.filter.until.unwrap_or(Timestamp::MAX));
    let bound = parameters.size(bound);
    let columns: Vec<_> = candidates
        .iter()
        .map(|form| {
            let window = format!("c.created_at BETWEEN {since} AND {until}");
            let (table, source, window) = match form {
                // One list each, whatever the kinds. IS TRUE keeps the server from walking all events of that time for
                // those of the author.
                Form::Authors => {
                    let authors = question.filter.authors.iter().flatten().map(|author| *author.as_bytes());
                    let table = format!("unnest({}) a(pubkey)", parameters.keys(authors));
                    (table, "event c WHERE c.pubkey = l.pubkey", format!("({window}) IS TRUE"))
                }
                form => match walk(&mut parameters, *form, question.filter, hasher, false) {
                    Walk::Many(lists) => (lists.table, lists.source, window),
                    _ => return bound.clone(),
                },
            };
            format!(
                "(SELECT count(*) FROM (SELECT 1 FROM (SELECT * FROM {table}) l CROSS JOIN LATERAL \
                 (SELECT 1 FROM {source} AND {window} LIMIT {bound}) c \
                 LIMIT {bound}) c)"
            )
        })
        .collect();
    parameters.statement(format!("SELECT {}", columns.join(", ")))
}
