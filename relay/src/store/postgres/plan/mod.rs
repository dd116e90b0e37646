//! From a question and a form to one statement, whose plan does not depend on the server's estimates. Lists are walked
//! one by one (`LATERAL … LIMIT`), never by `= ANY` under ORDER BY and LIMIT, and every list is one array parameter.
//!
//! - `parameters`: a statement's text and its values, written together.
//! - `conditions`: a row's conditions besides the one that its index is walked by.
//! - `lengths`: the lengths of a filter's lists, where those decide.
//! - this file: the walks, the page around them, and counting.

mod conditions;
mod lengths;
mod parameters;
#[cfg(test)]
pub(crate) mod tests;

use crate::store::form::{Form, Rights};
use crate::store::hash::Hasher;
use crate::types::{Access, Filter, Key, TagFilter, Timestamp};
use conditions::Conditions;
pub(crate) use lengths::{Lengths, has_few_authors, lengths};
use parameters::Parameters;
pub(crate) use parameters::Statement;

/// The settings of each connection, which give a form one plan: planned once, whatever the values; along indexes, since
/// no statement here should read a table whole; on one process, without JIT compilation.
pub(crate) const SESSION: [(&str, &str); 7] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_mergejoin", "off"),
    ("max_parallel_workers_per_gather", "0"),
    ("jit", "off"),
    ("random_page_cost", "1.1"),
];

/// What a statement asks for, apart from its form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlanQuestion<'a> {
    pub(crate) filter: &'a Filter,
    pub(crate) access: Option<&'a Access>,
    pub(crate) now: Timestamp,
    pub(crate) after: Option<Key>,
    /// The most rows.
    pub(crate) elements: usize,
    /// Once the texts exceed this many bytes, rows come without text.
    pub(crate) max_text_bytes: usize,
    /// The lengths of the filter's lists, as far as they were counted.
    pub(crate) lengths: Option<&'a Lengths>,
    /// The number of the list's rows that will probably be walked, where that is known to be large.
    pub(crate) walked: Option<usize>,
    /// For a form of one list: only this many of its newest rows are read.
    pub(crate) rows: Option<usize>,
}

impl<'a> PlanQuestion<'a> {
    /// All that `filter` selects at `now`, without texts, and with nothing known about its lists.
    pub(crate) fn of(filter: &'a Filter, now: Timestamp) -> Self {
        Self {
            filter,
            access: None,
            now,
            after: None,
            elements: usize::MAX,
            max_text_bytes: 0,
            lengths: None,
            walked: None,
            rows: None,
        }
    }

    pub(crate) fn rights(&self) -> Rights {
        Rights::of(self.access, self.filter)
    }
}

/// Rows that a merge may read in all to find its cutoff, besides those of [`LEAST_FOR_CUTOFF`].
const ROWS_FOR_CUTOFF: usize = 2_000;
/// The least rows that a merge reads of each list, as a fraction of the wanted rows: one in this many.
const LEAST_FOR_CUTOFF: usize = 64;
/// The kinds that a typical author has used.
pub(super) const KINDS_OF_AN_AUTHOR: usize = 6;

fn hashes<'a>(hasher: &'a Hasher, tag: &'a TagFilter) -> impl Iterator<Item = i64> + 'a {
    tag.values.iter().map(|value| hasher.tag(tag.letter, value))
}

/// The lists that a form walks.
struct WalkedLists {
    /// A common table expression that has to come first, with a comma after it; or nothing.
    before: String,
    /// A table `l` with one row for each list.
    table: String,
    /// The columns that identify a list.
    keys: &'static str,
    /// The index to walk, as `c`, with the condition that `c` belongs to the list of `l`.
    source: &'static str,
    /// The number of lists.
    count: usize,
    /// One event may be in several lists.
    overlap: bool,
}

/// How a form walks its index: one list, with its table and condition; many lists; or ids.
enum Walk {
    One(&'static str, String),
    Many(WalkedLists),
    Ids(String),
}

fn walk(parameters: &mut Parameters, form: Form, filter: &Filter, hasher: &Hasher, one_by_one: bool) -> Walk {
    let kinds = || filter.kinds.iter().flatten().map(|kind| i32::from(kind.0));
    let authors = || filter.authors.iter().flatten().map(|author| *author.as_bytes());
    let count = |list: Option<usize>| list.unwrap_or(0);
    let author_count = count(filter.authors.as_ref().map(|authors| authors.len()));
    let kind_count = count(filter.kinds.as_ref().map(|kinds| kinds.len()));
    let by_author = "event c WHERE c.pubkey = l.pubkey AND c.kind = l.kind";
    match form {
        Form::Ids => Walk::Ids(parameters.keys(filter.ids.iter().flatten().map(|id| *id.as_bytes()))),
        Form::AuthorKind if one_by_one => {
            let author = authors().next().unwrap_or_default();
            let kind = kinds().next().unwrap_or_default();
            let (author, kind) = (parameters.bytes(&author), parameters.number(kind.into()));
            Walk::One("event", format!("c.pubkey = {author} AND c.kind = {kind}::int4"))
        }
        Form::AuthorKind | Form::AuthorsKinds => Walk::Many(WalkedLists {
            before: String::new(),
            table: format!(
                "unnest({}) a(pubkey) CROSS JOIN unnest({}) k(kind)",
                parameters.keys(authors()),
                parameters.kinds(kinds())
            ),
            keys: "pubkey, kind",
            source: by_author,
            count: author_count.saturating_mul(kind_count),
            overlap: false,
        }),
        Form::Authors => {
            let next = |author: &str, above: &str| {
                format!("(SELECT c.kind FROM event c WHERE c.pubkey = {author}{above} ORDER BY c.kind LIMIT 1)")
            };
            // The kinds that an author has used, one probe each.
            let before = format!(
                "used(pubkey, kind) AS (SELECT a.pubkey, {} FROM unnest({}) a(pubkey) UNION ALL SELECT u.pubkey, {} \
                 FROM used u WHERE u.kind IS NOT NULL), ",
                next("a.pubkey", ""),
                parameters.keys(authors()),
                next("u.pubkey", " AND c.kind > u.kind")
            );
            let wanted = match filter.kinds.is_some() {
                true => format!(" AND kind = ANY({})", parameters.kinds(kinds())),
                false => String::new(),
            };
            Walk::Many(WalkedLists {
                before,
                table: format!("(SELECT pubkey, kind FROM used WHERE kind IS NOT NULL{wanted}) u"),
                keys: "pubkey, kind",
                source: by_author,
                count: author_count.saturating_mul(KINDS_OF_AN_AUTHOR),
                overlap: false,
            })
        }
        Form::Tag(at) | Form::Tags(at) => {
            let tag = filter.tags.get(at);
            let values = tag.into_iter().flat_map(|tag| hashes(hasher, tag));
            if one_by_one && matches!(form, Form::Tag(_)) {
                let hash = values.into_iter().next().unwrap_or_default();
                return Walk::One("tag", format!("c.h = {}", parameters.number(hash)));
            }
            // Two values may share a hash: then they share a list.
            let mut values: Vec<_> = values.collect();
            values.sort_unstable();
            values.dedup();
            let count = values.len();
            Walk::Many(WalkedLists {
                before: String::new(),
                table: format!("unnest({}) t(h)", parameters.numbers(values)),
                keys: "h",
                source: "tag c WHERE c.h = l.h",
                count,
                overlap: count > 1,
            })
        }
        Form::Kind if one_by_one => {
            let kind = kinds().next().unwrap_or_default();
            Walk::One("event", format!("c.kind = {}::int4", parameters.number(kind.into())))
        }
        Form::Kind | Form::Kinds => Walk::Many(WalkedLists {
            before: String::new(),
            table: format!("unnest({}) k(kind)", parameters.kinds(kinds())),
            keys: "kind",
            source: "event c WHERE c.kind = l.kind",
            count: kind_count,
            overlap: false,
        }),
        Form::Time | Form::Recent => Walk::One("event", "true".into()),
    }
}

const COLUMNS: &str = "c.id, c.created_at, c.expires_at";
const COUNTED: &str = "c.id, c.expires_at";
const NEWEST_FIRST: &str = "ORDER BY c.created_at DESC, c.id";

/// The walk of `form`, ending in a table `top` of at most `n` keys.
fn top(parameters: &mut Parameters, question: &PlanQuestion<'_>, hasher: &Hasher, form: Form) -> String {
    let walk = walk(parameters, form, question.filter, hasher, true);
    let conditions = Conditions::new(parameters, question, hasher, form);
    let n = parameters.size(question.elements);
    let all = conditions.all();

    match walk {
        Walk::One(table, which) => match question.rows {
            None => format!(
                "top AS MATERIALIZED (SELECT {COLUMNS} FROM {table} c WHERE {which} AND {all} {NEWEST_FIRST} LIMIT {n})"
            ),
            Some(rows) => {
                let rows = parameters.size(rows);
                format!(
                    "top AS MATERIALIZED (SELECT {COLUMNS} FROM (SELECT c.* FROM {table} c WHERE {which} AND {} \
                     {NEWEST_FIRST} LIMIT {rows}) c WHERE {all} {NEWEST_FIRST} LIMIT {n})",
                    conditions.window()
                )
            }
        },
        Walk::Ids(ids) => format!(
            "top AS MATERIALIZED (SELECT {COLUMNS} FROM unnest({ids}) j(id) CROSS JOIN LATERAL \
             (SELECT c.* FROM event c WHERE c.id = j.id LIMIT 1) c WHERE {all} {NEWEST_FIRST} LIMIT {n})"
        ),
        Walk::Many(lists) => merge(parameters, &lists, &conditions, &n, question.elements),
    }
}

/// The newest rows of many lists. It first reads the newest `m` rows of each; the `n`-th newest of all those is a
/// cutoff, below which no row can matter. A list whose `m` rows are all above the cutoff may have more there, so such
/// lists, at most n / m of them, are read again down to the cutoff. So it costs one probe a list, however the events
/// are spread.
fn merge(
    parameters: &mut Parameters,
    lists: &WalkedLists,
    conditions: &Conditions,
    n: &str,
    elements: usize,
) -> String {
    let WalkedLists { before, table, keys, source, count, overlap } = lists;
    let m = (ROWS_FOR_CUTOFF / (*count).max(1)).max(elements / LEAST_FOR_CUTOFF).clamp(2, elements.max(2));
    let m = parameters.size(m);
    let list_keys = format!("l.{}", keys.replace(", ", ", l."));
    let distinct = if *overlap { "DISTINCT " } else { "" };
    let list = |conditions: &str, rows: &str| {
        format!("LATERAL (SELECT {COLUMNS} FROM {source} AND {conditions} {NEWEST_FIRST} LIMIT {rows}) c")
    };

    let first = list(&conditions.all(), &m);
    let again = list(&conditions.from("cut.created_at"), n);
    let since = &conditions.since;
    format!(
        "{before}near AS MATERIALIZED (SELECT {list_keys}, {COLUMNS} FROM (SELECT * FROM {table}) l CROSS JOIN {first}), \
         cut AS MATERIALIZED (SELECT coalesce((SELECT created_at FROM (SELECT {distinct}created_at, id FROM near) c \
         ORDER BY created_at DESC OFFSET {n} - 1 LIMIT 1), {since}) AS created_at), \
         kept AS MATERIALIZED (SELECT near.*, count(*) OVER (PARTITION BY {keys}) AS looked FROM near, cut \
         WHERE near.created_at >= cut.created_at), \
         top AS MATERIALIZED (SELECT {distinct}{COLUMNS} FROM (SELECT {COLUMNS} FROM kept c WHERE looked < {m} UNION ALL \
         SELECT {COLUMNS} FROM cut CROSS JOIN (SELECT DISTINCT {keys} FROM kept WHERE looked = {m}) l CROSS JOIN {again}) c \
         {NEWEST_FIRST} LIMIT {n})"
    )
}

/// The newest rows that `form` finds, and the head, in one snapshot: at least one row, of which all but the head may be
/// NULL. Columns: epoch, position, id, created_at, expires_at, text. Once the texts exceed the bound, the text is NULL.
/// The rows come in no order.
pub(crate) fn page(form: Form, question: &PlanQuestion<'_>, hasher: &Hasher) -> Statement {
    let mut parameters = Parameters::default();
    let top = top(&mut parameters, question, hasher, form);

    let max = parameters.size(question.max_text_bytes);
    let recursive = if form == Form::Authors { "RECURSIVE " } else { "" };
    let sql = format!(
        "WITH {recursive}{top} SELECT h.epoch, h.position, t.id, t.created_at, t.expires_at, t.text FROM head h \
         LEFT JOIN (SELECT x.* FROM (SELECT array_agg(id) AS keys, array_agg(created_at) AS times, \
         array_agg(expires_at) AS expiries, min(created_at) AS earliest, max(created_at) AS latest FROM top) k \
         CROSS JOIN LATERAL texts(k.keys, k.times, k.expiries, k.earliest, k.latest, {max}) x) t ON true"
    );
    parameters.statement(sql)
}

/// The head, the number of distinct events that the questions select, each by its form, and when the first of them
/// expires: four columns of one row.
pub(crate) fn count(questions: &[(Form, PlanQuestion<'_>)], hasher: &Hasher) -> Statement {
    let mut parameters = Parameters::default();
    let mut before = String::new();
    let mut unique = questions.len() < 2;
    let mut parts = Vec::with_capacity(questions.len());
    for (at, (form, question)) in questions.iter().enumerate() {
        let walk = walk(&mut parameters, *form, question.filter, hasher, false);
        let conditions = Conditions::new(&mut parameters, question, hasher, *form).all();
        parts.push(match walk {
            // OFFSET 0: list by list, as written.
            Walk::Many(lists) => {
                unique &= !lists.overlap;
                let used = format!("used{at}");
                before.push_str(&lists.before.replace("used", &used));
                let table = lists.table.replace("used", &used);
                let source = lists.source;
                format!(
                    "SELECT {COUNTED} FROM (SELECT * FROM {table}) l CROSS JOIN LATERAL \
                     (SELECT {COUNTED} FROM {source} AND {conditions} OFFSET 0) c"
                )
            }
            Walk::Ids(ids) => format!(
                "SELECT {COUNTED} FROM unnest({ids}) j(id) CROSS JOIN LATERAL \
                 (SELECT c.* FROM event c WHERE c.id = j.id LIMIT 1) c WHERE {conditions}"
            ),
            Walk::One(table, which) => format!("SELECT {COUNTED} FROM {table} c WHERE {which} AND {conditions}"),
        });
    }
    let with = before.strip_suffix(", ").map_or_else(String::new, |before| format!("WITH RECURSIVE {before} "));
    let distinct = if unique { "" } else { "DISTINCT " };
    let rows = parts.join(" UNION ALL ");
    parameters.statement(format!(
        "{with}SELECT h.epoch, h.position, c.number, c.earliest FROM head h CROSS JOIN \
         (SELECT count({distinct}id) AS number, min(expires_at) AS earliest FROM ({rows}) c) c"
    ))
}
