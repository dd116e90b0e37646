//! Pins which form answers which filter, and that SQLite walks the index that the form is named for: no full scan, no
//! sort of what an index already sorts.
#![allow(clippy::unwrap_used)]

use super::bind::{FormQuestion, arguments};
use super::sql;
use super::{Options, SqliteStore, open};
use crate::store::form::{Choice, Form, Rights, choose, tries_recent, tries_whole};
use crate::store::hash::Hasher;
use crate::types::{Access, EventId, Filter, Kind, PublicKey, TagFilter};
use sqlx::{AssertSqlSafe, ConnectOptions, Row};

fn tags(letter: u8, count: u8) -> TagFilter {
    TagFilter { letter, values: (0..count).map(|n| Box::from(n.to_string())).collect() }
}

fn filter(authors: u32, kinds: u16, conditions: &[(u8, u8)]) -> Filter {
    let author = |n: u32| {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        PublicKey::from_bytes(bytes)
    };
    Filter {
        authors: (authors > 0).then(|| (0..authors).map(author).collect()),
        kinds: (kinds > 0).then(|| (0..kinds).map(Kind).collect()),
        tags: conditions.iter().map(|(letter, count)| tags(*letter, *count)).collect(),
        ..Filter::default()
    }
}

#[test]
fn each_shape_has_its_form() {
    let table = [
        (filter(0, 0, &[]), "Take(Time)"),
        (filter(0, 1, &[]), "Take(Kind)"),
        (filter(0, 3, &[]), "Take(Kinds)"),
        (filter(1, 1, &[]), "Take(AuthorKind)"),
        (filter(2, 1, &[]), "Take(AuthorsKinds)"),
        (filter(1, 2, &[]), "Take(AuthorsKinds)"),
        (filter(1, 0, &[]), "Take(Authors)"),
        (filter(0, 0, &[(b'p', 1)]), "Take(Tag(0))"),
        (filter(0, 4, &[(b'p', 1)]), "Take(Tag(0))"),
        (filter(0, 0, &[(b'e', 50)]), "Take(Tags(0))"),
        (filter(0, 0, &[(b'e', 50), (b'p', 1)]), "Rarest([Tags(0), Tag(1)])"),
        (filter(1, 1, &[(b'p', 1)]), "Rarest([Tag(0), AuthorKind])"),
        // All of two values (NIP-91): the rarer one is walked, the other one checked.
        (filter(0, 1, &[(b't', 1), (b't', 1)]), "Rarest([Tag(0), Tag(1)])"),
        (filter(300, 0, &[(b't', 2)]), "Rarest([Tags(0), Authors])"),
        (Filter { ids: Some([EventId::from_bytes([1; 32])].into()), ..filter(1, 1, &[(b'p', 1)]) }, "Take(Ids)"),
    ];
    for (filter, form) in table {
        assert_eq!(format!("{:?}", choose(&filter)), form, "{filter:?}");
    }
    assert!(!tries_recent(Form::AuthorsKinds, &filter(300, 3, &[])));
    assert!(tries_recent(Form::AuthorsKinds, &filter(600, 2, &[])));
    assert!(tries_recent(Form::Authors, &filter(100, 0, &[])));
    assert!(!tries_recent(Form::Kinds, &filter(0, 1000, &[])));
    let profiles = Filter { kinds: Some([Kind(0), Kind(3), Kind(10_002)].into()), ..filter(300, 1, &[]) };
    assert!(tries_whole(Form::Tags(0), &filter(0, 0, &[(b'e', 50)])) && tries_whole(Form::AuthorsKinds, &profiles));
    assert!(!tries_whole(Form::AuthorsKinds, &filter(300, 2, &[])) && !tries_whole(Form::Tag(0), &profiles));
}

/// The steps of SQLite's plan.
async fn plan(
    connection: &mut sqlx::SqliteConnection,
    sql: String,
    arguments: sqlx::sqlite::SqliteArguments,
) -> Vec<String> {
    let rows =
        sqlx::query_with(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")), arguments).fetch_all(connection).await;
    rows.unwrap().iter().map(|row| row.try_get(3).unwrap()).collect()
}

#[tokio::test]
async fn each_form_walks_its_index() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::new(folder.path().join("relay.db"));
    let _store = SqliteStore::open(options.clone()).await.unwrap();
    let mut connection = open::reader_options(&options).connect().await.unwrap();
    let hasher = Hasher::new([1; 16], 64);
    let by_author = "USING COVERING INDEX event_author (author=? AND kind=? AND ord>? AND ord<?)";
    let table: [(Form, Filter, &str); 15] = [
        (Form::Tag(0), filter(3, 2, &[(b'p', 1), (b't', 2)]), "USING PRIMARY KEY (hash=? AND ord>? AND ord<?)"),
        (Form::Tags(0), filter(1, 0, &[(b'p', 3), (b't', 1)]), "USING PRIMARY KEY (hash=? AND ord>? AND ord<?)"),
        (Form::AuthorKind, filter(1, 1, &[(b'p', 1), (b't', 2)]), by_author),
        (Form::Authors, filter(2, 0, &[(b'p', 3)]), by_author),
        (Form::Authors, filter(1, 0, &[(b'p', 1)]), by_author),
        (
            Form::Ids,
            Filter { ids: Some([EventId::from_bytes([1; 32])].into()), ..Filter::default() },
            "USING INDEX event_id (id=?)",
        ),
        (Form::AuthorKind, filter(1, 1, &[]), by_author),
        (Form::AuthorsKinds, filter(3, 2, &[]), by_author),
        (Form::Authors, filter(3, 0, &[]), by_author),
        (Form::Tag(0), filter(0, 2, &[(b'p', 1)]), "USING PRIMARY KEY (hash=? AND ord>? AND ord<?)"),
        (Form::Tags(0), filter(0, 2, &[(b'e', 5)]), "USING PRIMARY KEY (hash=? AND ord>? AND ord<?)"),
        (Form::Kind, filter(0, 1, &[]), "USING COVERING INDEX event_kind (kind=? AND ord>? AND ord<?)"),
        (Form::Kinds, filter(0, 2, &[]), "USING COVERING INDEX event_kind (kind=? AND ord>? AND ord<?)"),
        (Form::Time, filter(0, 0, &[]), "USING COVERING INDEX event_time (ord>? AND ord<?)"),
        (Form::Recent, filter(3, 2, &[]), "USING COVERING INDEX event_time (ord>? AND ord<?)"),
    ];
    for (form, filter, index) in table {
        let access = Access { authenticated: [PublicKey::from_bytes([3; 32])].into(), ..Access::default() };
        for rights in [Rights::All, Rights::Public, Rights::Readers] {
            let question = FormQuestion {
                filter: &filter,
                access: Some(&access),
                now: 0,
                after: None,
                elements: 10,
                big_text_bytes: 10,
            };
            let sql = sql::page(form, &filter, rights);
            let steps = plan(&mut connection, sql, arguments(&question, form, &hasher)).await;
            let text = steps.join("\n");
            if rights != Rights::Readers {
                assert!(text.contains(index), "{form:?} {rights:?}:\n{text}");
            }
            for step in &steps {
                // A row that is probed on the way is found by its number or its whole key.
                let by = step.strip_prefix("SEARCH x ").map(|by| by.trim_start_matches("EXISTS "));
                let aside = by.and_then(|by| by.strip_prefix("USING ")).is_none_or(|by| {
                    by == "INTEGER PRIMARY KEY (rowid=?)" || by == "PRIMARY KEY (hash=? AND ord=? AND row=?)"
                });
                assert!(aside && !step.contains("AUTOMATIC"), "{form:?} {rights:?}: {step}\n{text}");
                // What may be scanned: JSON lists, the results of subqueries, and the one row of `head`.
                let scans = step.strip_prefix("SCAN ").is_some_and(|of| {
                    !of.contains("VIRTUAL TABLE")
                        && !["head", "m", "s", "l", "c", "t", "(subquery"].iter().any(|own| of.starts_with(own))
                });
                assert!(!scans, "{form:?} {rights:?} walks a table whole: {step}\n{text}");
                let sorts = step.starts_with("USE TEMP B-TREE FOR ORDER BY") && form != Form::Ids;
                assert!(!sorts, "{form:?} {rights:?} sorts: {step}\n{text}");
            }
            if matches!(form, Form::Tags(_) | Form::AuthorsKinds) {
                let whole = sql::whole_page(form, &filter, rights);
                let text = plan(&mut connection, whole, arguments(&question, form, &hasher)).await.join("\n");
                assert!(
                    text.contains(index) && text.contains("SEARCH e USING INTEGER PRIMARY KEY"),
                    "{form:?}:\n{text}"
                );
            }
            let rows = sql::rows(form, &filter, rights);
            if !matches!(form, Form::AuthorKind | Form::Tag(_) | Form::Kind) {
                let steps = plan(&mut connection, rows, arguments(&question, form, &hasher)).await;
                assert!(!steps.iter().any(|step| step.starts_with("SCAN c")), "{form:?}: {steps:?}");
            }
        }
    }
    assert_eq!(choose(&filter(0, 0, &[])), Choice::Take(Form::Time));
}

#[tokio::test]
async fn a_writer_finds_rows_by_their_keys() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::new(folder.path().join("relay.db"));
    let _store = SqliteStore::open(options.clone()).await.unwrap();
    let mut connection = open::reader_options(&options).connect().await.unwrap();
    let statements = super::statements::Statements::new();
    let mut script = super::statements::Script::default();
    script.rows(&statements.delete_tag, &[0; 256], |_, _| ());
    let steps = plan(&mut connection, script.sql().to_owned(), Default::default()).await;
    assert!(
        steps.iter().any(|step| step.contains("SEARCH tag USING PRIMARY KEY (hash=? AND ord=? AND row=?)")),
        "{steps:?}"
    );
    let sql = "DELETE FROM event WHERE row IN (SELECT value FROM json_each(?1))";
    let steps = plan(&mut connection, sql.into(), Default::default()).await;
    assert!(steps.iter().any(|step| step.contains("SEARCH event USING INTEGER PRIMARY KEY (rowid=?)")), "{steps:?}");
}
