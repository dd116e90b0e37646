//! The lengths of a filter's lists. They decide between the candidate forms, and how the tags that the form does not
//! walk are checked.

use super::{Parameters, PlanQuestion, Statement, Walk, walk};
use crate::store::form::Form;
use crate::store::hash::Hasher;
use crate::types::{Filter, Timestamp};
use smallvec::SmallVec;

/// A row's author is looked up in another index, which costs this many times a check for a tag.
const AUTHOR_FOR_TAGS: usize = 4;
/// The lists of this many authors or more cost more at their beginning than in the walk.
const FEW_AUTHORS: usize = 8;

/// The lengths of the candidates' lists, counted up to a bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lengths {
    counted: SmallVec<[(Form, usize); 4]>,
    bound: usize,
}

impl Lengths {
    /// `counted` has a number for each candidate, at most `bound`.
    pub(crate) fn new(counted: impl IntoIterator<Item = (Form, usize)>, bound: usize) -> Self {
        Self { counted: counted.into_iter().collect(), bound }
    }

    /// Each candidate with its length, and whether that is the whole length.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Form, usize, bool)> {
        self.counted.iter().map(|(form, length)| (*form, *length, *length < self.bound))
    }

    /// The length of the lists of `form`; `None` where they are longer than the bound.
    pub(super) fn of(&self, form: Form) -> Option<usize> {
        self.iter().find(|(rival, ..)| *rival == form).and_then(|(_, length, all)| all.then_some(length))
    }

    /// The form to walk: the one with the shortest lists, weighted by the cost of checking the rest of `filter` on the
    /// way. Where all are long, the last candidate, which is by author: checking a tag is faster than checking an
    /// author.
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

    /// True when every list is longer than the bound.
    pub(crate) fn all_long(&self) -> bool {
        self.iter().all(|(.., all)| !all)
    }
}

/// True where the lists of the filter's authors cost little at their beginning.
pub(crate) fn has_few_authors(filter: &Filter) -> bool {
    filter.authors.as_ref().is_some_and(|authors| authors.len() < FEW_AUTHORS)
}

/// For each candidate, in order, a column with the length of its lists, counted up to `bound`.
pub(crate) fn lengths(candidates: &[Form], question: &PlanQuestion<'_>, hasher: &Hasher, bound: usize) -> Statement {
    let mut parameters = Parameters::default();
    let since = parameters.number(question.filter.since.unwrap_or(0));
    let until = parameters.number(question.filter.until.unwrap_or(Timestamp::MAX));
    let bound = parameters.size(bound);

    let columns: Vec<_> = candidates
        .iter()
        .map(|form| {
            let window = format!("c.created_at BETWEEN {since} AND {until}");
            let (table, source, window) = match form {
                // One list for each author, whatever the kinds. IS TRUE keeps the server from walking all events of
                // that time for the author's.
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
