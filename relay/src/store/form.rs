//! The first step of every planner: which of a few named forms answers a filter. Pure, so that a test can pin each
//! choice. Each store has its own statement for each form.

use crate::types::{Access, Filter, KindClass, TagFilter};

/// How the rows of a read are found. Each form walks one index, newest first, and stops at the limit; the filter's
/// other conditions are checked on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// One index probe for each id.
    Ids,
    /// One list: the events of one author and one kind.
    AuthorKind,
    /// The lists of several (author, kind) pairs, merged.
    AuthorsKinds,
    /// The lists of all kinds that the authors have used, merged.
    Authors,
    /// One list: the events with one tag. The number is the index of the filter's tag condition.
    Tag(usize),
    /// The lists of several values of one tag, merged.
    Tags(usize),
    /// One list: the events of one kind.
    Kind,
    /// The lists of several kinds, merged.
    Kinds,
    /// All events.
    Time,
    /// The newest [`RECENT_ROWS`] events of all authors; the answer where they fill the page.
    Recent,
}

impl Form {
    /// The name in logs and in `relay explain`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ids => "ids",
            Self::AuthorKind => "author and kind",
            Self::AuthorsKinds => "authors and kinds",
            Self::Authors => "authors",
            Self::Tag(_) => "tag",
            Self::Tags(_) => "tags",
            Self::Kind => "kind",
            Self::Kinds => "kinds",
            Self::Time => "time",
            Self::Recent => "recent",
        }
    }
}

/// Events that [`Form::Recent`] reads: on SQLite half the work of merging [`MANY_LISTS`] lists.
pub(crate) const RECENT_ROWS: usize = 3_000;
/// From this many (author, kind) lists on, SQLite tries [`Form::Recent`] first.
pub(crate) const MANY_LISTS: usize = 1_200;

/// With more (author, kind) pairs than this, the store first finds the kinds that the authors have used, a handful
/// each: a thousand authors times a thousand kinds would be a million lists.
const MANY_PAIRS: usize = 32_768;

/// The forms that could answer a filter, at least two. Which one is best depends so much on how rare their values are
/// that the store looks that up first.
pub(crate) type Candidates = smallvec::SmallVec<[Form; 4]>;

/// The choice for a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    /// This form.
    Take(Form),
    /// The form whose lists are shortest.
    Rarest(Candidates),
}

/// Chooses by the filter alone.
pub(crate) fn choose(filter: &Filter) -> Choice {
    if filter.ids.is_some() {
        return Choice::Take(Form::Ids);
    }
    let mut candidates: Candidates =
        filter.tags.iter().enumerate().map(|(at, condition)| by_tag(at, condition)).collect();
    if let Some(authors) = &filter.authors {
        candidates.push(match filter.kinds.as_deref() {
            None => Form::Authors,
            Some([_]) if authors.len() == 1 => Form::AuthorKind,
            Some(kinds) if authors.len().saturating_mul(kinds.len()) > MANY_PAIRS => Form::Authors,
            Some(_) => Form::AuthorsKinds,
        });
    }
    match (candidates.as_slice(), filter.kinds.as_deref()) {
        ([], None) => Choice::Take(Form::Time),
        ([], Some([_])) => Choice::Take(Form::Kind),
        ([], Some(_)) => Choice::Take(Form::Kinds),
        ([only], _) => Choice::Take(*only),
        _ => Choice::Rarest(candidates),
    }
}

/// The name of the form that answers a filter; the names of all candidates where the store has to choose.
pub(crate) fn form_name(filter: &Filter) -> String {
    match choose(filter) {
        Choice::Take(form) => form.name().to_owned(),
        Choice::Rarest(candidates) => candidates.iter().map(|form| form.name()).collect::<Vec<_>>().join(" or "),
    }
}

/// The form that walks the filter's tag condition number `at`.
pub(crate) fn by_tag(at: usize, condition: &TagFilter) -> Form {
    if condition.values.len() == 1 { Form::Tag(at) } else { Form::Tags(at) }
}

/// True when a merge would have so many lists that reading the newest events first is faster. For a store without a
/// sample of these events (PostgreSQL's has one).
pub(crate) fn tries_recent(form: Form, filter: &Filter) -> bool {
    let authors = filter.authors.as_ref().map_or(0, |authors| authors.len());
    match form {
        Form::AuthorsKinds => {
            authors.saturating_mul(filter.kinds.as_ref().map_or(0, |kinds| kinds.len())) >= MANY_LISTS
        }
        // Each author has used a handful of kinds, and finding these costs as much again.
        Form::Authors => authors >= MANY_LISTS / 12,
        _ => false,
    }
}

/// True when all that the filter selects is probably little: then reading the lists whole, each row once, costs half of
/// merging them.
pub(crate) fn tries_whole(form: Form, filter: &Filter) -> bool {
    match form {
        Form::Tags(_) => true,
        // One version of each kind and author.
        Form::AuthorsKinds => {
            filter.kinds.iter().flat_map(|kinds| kinds.iter()).all(|kind| kind.class() == KindClass::Replaceable)
        }
        _ => false,
    }
}

/// How a reader's rights enter a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rights {
    /// The reader may see everything that the filter selects.
    All,
    /// Private events are left out.
    Public,
    /// Private events are left out unless they are for one of the reader's keys.
    Readers,
}

impl Rights {
    /// The rights of `access` for `filter`.
    pub(crate) fn of(access: Option<&Access>, filter: &Filter) -> Self {
        match access {
            None => Self::All,
            Some(access) if access.unrestricted(filter) => Self::All,
            Some(access) if access.authenticated.is_empty() => Self::Public,
            Some(_) => Self::Readers,
        }
    }
}
