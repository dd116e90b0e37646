//! The statements of the forms. Their text depends on a filter's shape and never on its values, so that a connection
//! finds its prepared statements again; every list is one JSON parameter. `INDEXED BY` and `CROSS JOIN` leave SQLite's
//! planner no choice.

use crate::store::form::{Form, RECENT_ROWS, Rights};
use crate::types::Filter;
use std::fmt::Write;

/// The number of the first tag condition's parameter; the others follow. `bind` numbers those before it.
const FIRST_TAG: usize = 17;

/// The conditions on a row `c` of the form's index, besides those of the index itself.
fn conditions(form: Form, filter: &Filter, rights: Rights) -> String {
    // The index alone says enough about a row, unless the event expires or its time saturates `ord`: see the schema.
    let mut sql = String::from(
        "(c.row > 0 OR EXISTS (SELECT 1 FROM event x NOT INDEXED WHERE x.row = c.row AND \
         (x.expires_at IS NULL OR x.expires_at > ?4) AND x.created_at BETWEEN ?5 AND ?6))",
    );

    let by_tag = matches!(form, Form::Tag(_) | Form::Tags(_));
    let by_author = matches!(form, Form::AuthorKind | Form::AuthorsKinds | Form::Authors);
    let author_in = |list: &str| {
        if by_tag {
            format!(
                "EXISTS (SELECT 1 FROM event x NOT INDEXED WHERE x.row = c.row AND x.author IN (SELECT value FROM json_each({list})))"
            )
        } else {
            format!("c.author IN (SELECT value FROM json_each({list}))")
        }
    };

    if filter.kinds.is_some() && !matches!(form, Form::AuthorKind | Form::AuthorsKinds | Form::Kind | Form::Kinds) {
        sql.push_str(" AND c.kind IN (SELECT value FROM json_each(?11))");
    }
    if filter.authors.is_some() && !by_author {
        // Writing to a String cannot fail.
        let _ = write!(sql, " AND {}", author_in("?10"));
    }
    for at in 0..filter.tags.len() {
        if !matches!(form, Form::Tag(driver) | Form::Tags(driver) if driver == at) {
            let _ = write!(sql, " AND {}", tag_in(&format!("?{}", FIRST_TAG + at)));
        }
    }

    match rights {
        Rights::All => {}
        Rights::Public => sql.push_str(" AND c.kind NOT IN (SELECT value FROM json_each(?12))"),
        Rights::Readers => {
            let _ = write!(
                sql,
                " AND (c.kind NOT IN (SELECT value FROM json_each(?12)) \
                 OR (c.kind IN (SELECT value FROM json_each(?16)) AND {}) \
                 OR (c.kind IN (SELECT value FROM json_each(?15)) AND {}))",
                tag_in("?13"),
                author_in("?14"),
            );
        }
    }
    sql
}

fn tag_in(list: &str) -> String {
    format!(
        "EXISTS (SELECT 1 FROM tag x WHERE x.hash IN (SELECT value FROM json_each({list})) AND x.ord = c.ord AND x.row = c.row)"
    )
}

/// The lists that a merge takes from.
struct MergedLists<'a> {
    /// A common table expression that has to come first, with a comma after it; or nothing.
    before: &'a str,
    /// A table `l` with one row for each list, and the columns `keys`.
    table: &'a str,
    /// The columns that identify a list.
    keys: &'a [&'a str],
    /// The index to walk, as `c`.
    source: &'a str,
    /// The condition that `c` belongs to the list of `m`.
    same: &'a str,
}

/// A merge of many lists, newest first: a recursive query whose queue SQLite keeps in order. It begins with the head of
/// each list; each element taken from the queue adds the next one of its list. So it costs one probe a list and one a
/// row, however the events are spread. The elements of a list are its distinct `ord`; the last join finds all their
/// rows.
fn merge(lists: &MergedLists<'_>, conditions: &str) -> (String, String) {
    let MergedLists { before, table, keys, source, same } = *lists;
    let columns = |prefix: &str| keys.iter().map(|key| format!("{prefix}{key}")).collect::<Vec<_>>().join(", ");
    let newest = |same: &str, bound: &str| {
        format!("(SELECT c.ord FROM {source} WHERE {same} AND {bound} AND {conditions} ORDER BY c.ord DESC LIMIT 1)")
    };

    let with = format!(
        "WITH RECURSIVE {before}m({}, o) AS (SELECT {}, {} FROM {table} UNION ALL SELECT {}, {} FROM m \
         WHERE m.o IS NOT NULL ORDER BY {} DESC LIMIT ?3) ",
        columns(""),
        columns("l."),
        newest(&same.replace("m.", "l."), "c.ord BETWEEN ?1 AND ?2"),
        columns("m."),
        newest(same, "c.ord >= ?1 AND c.ord < m.o"),
        keys.len() + 1,
    );

    let rows = format!(
        "SELECT c.row AS row, count(*) AS n FROM m CROSS JOIN {source} WHERE {same} AND c.ord = m.o AND {conditions} \
         GROUP BY c.row"
    );
    (with, rows)
}

/// The rows of `form` as `SELECT row, n`, for at most ?3 elements; `n` is the number of elements that a row stands for.
/// Returns what goes before it (`WITH …`), and the query.
fn driver(form: Form, filter: &Filter, rights: Rights) -> (String, String) {
    let conditions = conditions(form, filter, rights);
    let list = |source: &str, same: &str| {
        let sql = format!(
            "SELECT c.row AS row, 1 AS n FROM {source} WHERE {same} c.ord BETWEEN ?1 AND ?2 AND {conditions} ORDER BY c.ord DESC LIMIT ?3"
        );
        (String::new(), sql)
    };

    let by_author = "event c INDEXED BY event_author";
    let pairs = "(SELECT a.value AS a, k.value AS k FROM json_each(?8) a CROSS JOIN json_each(?9) k) l";
    let one_pair = "c.author = m.a AND c.kind = m.k";

    match form {
        Form::Ids => {
            let sql = format!(
                "SELECT c.row AS row, 1 AS n FROM json_each(?8) j CROSS JOIN event c INDEXED BY event_id ON c.id = j.value \
                 WHERE c.ord BETWEEN ?1 AND ?2 AND {conditions} ORDER BY c.ord DESC LIMIT ?3"
            );
            (String::new(), sql)
        }
        Form::AuthorKind => list(by_author, "c.author = ?8 AND c.kind = ?9 AND"),
        Form::AuthorsKinds => merge(
            &MergedLists { before: "", table: pairs, keys: &["a", "k"], source: by_author, same: one_pair },
            &conditions,
        ),
        Form::Authors => {
            // The kinds that an author has used, one probe each.
            let kinds = "s(a, k) AS (SELECT j.value, (SELECT c.kind FROM event c INDEXED BY event_author \
                 WHERE c.author = j.value ORDER BY c.kind LIMIT 1) FROM json_each(?8) j UNION ALL \
                 SELECT s.a, (SELECT c.kind FROM event c INDEXED BY event_author WHERE c.author = s.a AND c.kind > s.k \
                 ORDER BY c.kind LIMIT 1) FROM s WHERE s.k IS NOT NULL), ";
            let wanted = if filter.kinds.is_some() { " AND s.k IN (SELECT value FROM json_each(?11))" } else { "" };
            let table = &format!("(SELECT s.a, s.k FROM s WHERE s.k IS NOT NULL{wanted}) l");
            merge(
                &MergedLists { before: kinds, table, keys: &["a", "k"], source: by_author, same: one_pair },
                &conditions,
            )
        }
        Form::Tag(_) => list("tag c", "c.hash = ?8 AND"),
        Form::Tags(_) => {
            let table = "(SELECT value AS h FROM json_each(?8)) l";
            merge(&MergedLists { before: "", table, keys: &["h"], source: "tag c", same: "c.hash = m.h" }, &conditions)
        }
        Form::Kind => list("event c INDEXED BY event_kind", "c.kind = ?9 AND"),
        Form::Kinds => {
            let table = "(SELECT value AS k FROM json_each(?9)) l";
            let source = "event c INDEXED BY event_kind";
            merge(&MergedLists { before: "", table, keys: &["k"], source, same: "c.kind = m.k" }, &conditions)
        }
        Form::Time => list("event c INDEXED BY event_time", ""),
        Form::Recent => {
            let sql = format!(
                "SELECT c.row AS row, 1 AS n FROM (SELECT c.row, c.ord, c.author, c.kind FROM event c INDEXED BY event_time \
                 WHERE c.ord BETWEEN ?1 AND ?2 ORDER BY c.ord DESC LIMIT {RECENT_ROWS}) c WHERE {conditions} LIMIT ?3"
            );
            (String::new(), sql)
        }
    }
}

/// One row: epoch, position, the number of elements found, and the texts, one a line.
///
/// A line is the text itself, or `<expires_at> <text>`, or, where the text is longer than ?7 bytes, `#<row> <bytes>
/// <created_at> <expires_at or -> <id> <pubkey>`. A text has no line break: JSON escapes those.
pub(super) fn page(form: Form, filter: &Filter, rights: Rights) -> String {
    let (before, driver) = driver(form, filter, rights);
    format!(
        "{before}SELECT (SELECT epoch FROM head), (SELECT position FROM head), coalesce(sum(t.n), 0), {LINES} \
         FROM ({driver}) t CROSS JOIN event e ON e.row = t.row"
    )
}

/// The same where the lists of `form` together have fewer than ?3 elements; else the number counted so far, and no
/// texts.
pub(super) fn whole_page(form: Form, filter: &Filter, rights: Rights) -> String {
    let rows = rows(form, filter, rights);
    format!(
        "WITH t AS MATERIALIZED ({rows} LIMIT ?3), n AS MATERIALIZED (SELECT count(*) AS n FROM t) \
         SELECT (SELECT epoch FROM head), (SELECT position FROM head), n.n, CASE WHEN n.n < ?3 THEN (SELECT {LINES} \
         FROM (SELECT DISTINCT row FROM t ORDER BY row) t CROSS JOIN event e ON e.row = t.row) END FROM n"
    )
}

/// The events `e` of a page, as lines.
const LINES: &str = "group_concat(\
    CASE WHEN octet_length(e.text) > ?7 THEN '#' || e.row || ' ' || octet_length(e.text) || ' ' || e.created_at || ' ' || \
    coalesce(e.expires_at, '-') || ' ' || substr(e.text, 8, 64) || ' ' || substr(e.text, 84, 64) \
    WHEN e.expires_at IS NULL THEN e.text ELSE e.expires_at || ' ' || e.text END, char(10))";

/// All rows that `filter` selects, each at least once, in no order.
pub(super) fn rows(form: Form, filter: &Filter, rights: Rights) -> String {
    let conditions = conditions(form, filter, rights);
    let source = match form {
        // The index has only the beginning of an id.
        Form::Ids => {
            "json_each(?8) j CROSS JOIN event c INDEXED BY event_id ON c.id = j.value \
             AND substr(c.text, 8, 64) IN (SELECT value FROM json_each(?9))"
        }
        Form::AuthorKind | Form::AuthorsKinds => {
            "json_each(?8) a CROSS JOIN json_each(?9) k CROSS JOIN event c INDEXED BY event_author \
             ON c.author = a.value AND c.kind = k.value"
        }
        Form::Authors => "json_each(?8) a CROSS JOIN event c INDEXED BY event_author ON c.author = a.value",
        Form::Tag(_) | Form::Tags(_) => "json_each(?8) a CROSS JOIN tag c ON c.hash = a.value",
        Form::Kind | Form::Kinds => "json_each(?9) k CROSS JOIN event c INDEXED BY event_kind ON c.kind = k.value",
        Form::Time | Form::Recent => "event c INDEXED BY event_time",
    };
    format!("SELECT c.row AS row FROM {source} WHERE c.ord BETWEEN ?1 AND ?2 AND {conditions}")
}

/// For each candidate, in order, a column with the length of its lists, counted up to [`LENGTH_CAP`].
pub(super) fn lengths(candidates: &[Form], filter: &Filter) -> String {
    let within = "c.ord BETWEEN ?1 AND ?2";
    let column = |lists: &str, one: &str| {
        format!("(SELECT count(*) FROM (SELECT 1 FROM {lists} CROSS JOIN {one} LIMIT {LENGTH_CAP}))")
    };
    let by_author = "event c INDEXED BY event_author WHERE c.author = a.value";

    let columns = candidates.iter().map(|form| match form {
        Form::Tag(at) | Form::Tags(at) => {
            let one = format!("tag c WHERE c.hash = j.value AND {within}");
            column(&format!("json_each(?{}) j", FIRST_TAG + at), &one)
        }
        _ if filter.kinds.is_some() => column(
            "json_each(?10) a CROSS JOIN json_each(?11) k",
            &format!("{by_author} AND c.kind = k.value AND {within}"),
        ),
        _ => column("json_each(?10) a", by_author),
    });
    format!("SELECT {}", columns.collect::<Vec<_>>().join(", "))
}

/// Where [`lengths`] stops counting: after 100 µs.
const LENGTH_CAP: usize = 1_000;

/// `sql` with `by` added to the number of each parameter.
pub(super) fn shifted(sql: &str, by: usize) -> String {
    let mut out = String::with_capacity(sql.len() + 64);
    let mut parts = sql.split('?');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        let (number, rest) = part.split_at(end);
        let _ = write!(out, "?{}{rest}", number.parse::<usize>().unwrap_or(0) + by);
    }
    out
}
