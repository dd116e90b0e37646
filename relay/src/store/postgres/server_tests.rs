//! The plans of a real server with 100,000 events: they use the index that the form is named for, that index alone, and
//! no partition outside the filter's times.
#![allow(clippy::unwrap_used)]

use super::explain::ServerInspector;
use super::plan::tests::{NOW, filter, forms, hasher, question, question_of};
use super::plan::{Lengths, PlanQuestion, SESSION, Statement, count, lengths, page};
use super::planner::{Planner, Thresholds};
use super::{lookup, read, rows, schema};
use crate::config::Redacted;
use crate::store::form::Form;
use crate::store::{Read, StoreError};
use crate::types::{Access, EventId, Filter, Position, PublicKey};
use deploy::postgres::PostgresCluster;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, Row};

const EVENTS: i64 = 100_000;

/// A server with events: author and kind of the n-th are n modulo 40 and 8; it is in one of the last 36 months; each
/// has a `p` and an `e` tag with its author, and every two hundredth a `t` tag.
struct Filled {
    _cluster: PostgresCluster,
    url: String,
    connection: PgConnection,
}

async fn filled() -> Filled {
    // An autovacuum beside this one would keep it from marking pages as all-visible.
    let cluster = PostgresCluster::setup().set("autovacuum", "off").start().await.unwrap();
    let url = cluster.database_urls("postgres").remove(0);
    let mut connection = PgConnection::connect(&url).await.unwrap();
    schema::migrate(&mut connection).await.unwrap();
    let keys: Vec<i64> = [b'p', b'e']
        .iter()
        .flat_map(|letter| (0..40_u8).map(|n| hasher().tag(*letter, &PublicKey::from_bytes([n; 32]).to_hex())))
        .chain([hasher().tag(b't', "x"), hasher().tag(b't', "y")])
        .collect();
    let fill = [
        "UPDATE hashing SET secret = '\\x01010101010101010101010101010101'".to_owned(),
        format!(
            "CREATE TABLE made AS SELECT n, sha256(n::text::bytea) AS id, \
             decode(repeat(lpad(to_hex((n % 40)::int), 2, '0'), 32), 'hex') AS pubkey, (n % 8)::int4 AS kind, \
             extract(epoch FROM now())::int8 - n * 900 AS created_at FROM generate_series(1, {EVENTS}) n"
        ),
        "INSERT INTO event SELECT id, pubkey, kind, created_at, NULL FROM made".into(),
        "INSERT INTO event_text SELECT id, created_at, 'text of ' || n, '{}' FROM made".into(),
        // FREEZE waits for pages that the checkpointer holds, which would stay without their mark.
        "VACUUM (ANALYZE, FREEZE) event, event_text".into(),
    ];
    for sql in fill {
        connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
    }
    sqlx::query(
        "INSERT INTO tag SELECT h, created_at, id, kind, NULL FROM made CROSS JOIN LATERAL unnest(ARRAY[\
         ($1::int8[])[n % 40 + 1], ($1::int8[])[n % 40 + 41], CASE WHEN n % 200 = 0 THEN ($1::int8[])[81] END]) h \
         WHERE h IS NOT NULL",
    )
    .bind(keys)
    .execute(&mut connection)
    .await
    .unwrap();
    connection.execute("VACUUM (ANALYZE, FREEZE) tag").await.unwrap();
    let options: PgConnectOptions = url.parse().unwrap();
    let connection = options.options(SESSION).connect().await.unwrap();
    Filled { _cluster: cluster, url, connection }
}

async fn plan(connection: &mut PgConnection, statement: &Statement) -> String {
    connection.execute(AssertSqlSafe(format!("PREPARE tested AS {}", statement.sql))).await.unwrap();
    let sql = format!("EXPLAIN (ANALYZE, BUFFERS) EXECUTE tested({})", statement.literals());
    let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut *connection).await.unwrap();
    connection.execute("DEALLOCATE tested").await.unwrap();
    rows.iter().map(|row| row.try_get::<String, _>(0).unwrap()).collect::<Vec<_>>().join("\n")
}

/// What a plan must not have: sequential scans (but of `head`, which has one row), bitmaps, and heap fetches behind an
/// index that should be enough.
fn faults(plan: &str) -> Vec<&str> {
    let wrong = |line: &&str| {
        (line.contains("Seq Scan on ") && !line.contains("Seq Scan on head"))
            || line.contains("Bitmap")
            || line.contains("Heap Fetches:") && !line.ends_with("Heap Fetches: 0")
    };
    plan.lines().filter(wrong).collect()
}

fn ask<'a>(filter: &'a Filter, limit: usize) -> Read<'a> {
    Read {
        filter,
        limit,
        after: None,
        access: None,
        at_least: Position::default(),
        now: NOW,
        max_text_bytes: usize::MAX,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_form_walks_its_index_alone_and_opens_the_partitions_concerned() {
    let mut server = filled().await;
    forms_walk_their_indexes(&mut server.connection).await;
    rare_sets_are_not_read_whole(&mut server.connection).await;
    partitions_outside_are_not_opened(&mut server.connection).await;
    long_lists_are_met_in_a_hash_table(&mut server.connection).await;
    pages_and_lookups_agree(&mut server.connection).await.unwrap();
    an_explanation_tells_the_form(&server.url).await;
}

async fn forms_walk_their_indexes(connection: &mut PgConnection) {
    let reader = Access { authenticated: [PublicKey::from_bytes([3; 32])].into(), ..Access::default() };
    for (name, form, filter) in forms() {
        let index = match form {
            Form::Ids => "Index Scan using event_id on event c",
            Form::AuthorKind | Form::AuthorsKinds | Form::Authors => "Index Only Scan using event_author on event c",
            Form::Tag(_) | Form::Tags(_) => "Index Only Scan using tag_h on tag c",
            Form::Kind | Form::Kinds => "Index Only Scan using event_kind on event c",
            Form::Time | Form::Recent => "Index Only Scan using event_time on event c",
        };
        for access in [None, Some(&Access::default()), Some(&reader)] {
            let question = PlanQuestion { access, ..question_of(form, &filter) };
            let plan = plan(connection, &page(form, &question, &hasher())).await;
            assert!(plan.contains(index), "{name}:\n{plan}");
            assert_eq!(faults(&plan), Vec::<&str>::new(), "{name}:\n{plan}");
        }
        if form != Form::Recent {
            let plan = plan(connection, &count(&[(form, question(&filter))], &hasher())).await;
            assert_eq!(faults(&plan), Vec::<&str>::new(), "count of {name}:\n{plan}");
        }
    }
    let filter = filter(r##"{"#e":['01'],"#t":["x","y"],"authors":['01'],"kinds":[1]}"##);
    let candidates = [Form::Tag(0), Form::Tags(1), Form::AuthorKind, Form::Authors];
    let counted = plan(connection, &lengths(&candidates, &question(&filter), &hasher(), 1_000)).await;
    assert_eq!(faults(&counted), Vec::<&str>::new(), "{counted}");
    assert!(counted.contains("event_author") && !counted.contains("event_time"), "{counted}");
    for (form, index) in [(Form::Tag(0), "tag_h on tag c"), (Form::AuthorKind, "event_author on event c")] {
        let look = PlanQuestion { rows: Some(1_000), ..question(&filter) };
        let plan = plan(connection, &page(form, &look, &hasher())).await;
        assert!(plan.contains(&format!("Index Only Scan using {index}")) && faults(&plan).is_empty(), "{plan}");
    }
    // Control: the test notices the form that the design forbids.
    let sql = "EXPLAIN SELECT text FROM event_text ORDER BY text LIMIT 3";
    let rows = sqlx::raw_sql(sql).fetch_all(connection).await.unwrap();
    let forbidden: Vec<String> = rows.iter().map(|row| row.try_get(0).unwrap()).collect();
    assert!(!faults(&forbidden.join("\n")).is_empty());
}

/// An author of 2,500 events costs no more than the page, and an absent kind next to nothing.
async fn rare_sets_are_not_read_whole(connection: &mut PgConnection) {
    for (json, form, most) in [
        (r#"{"kinds":[1,31000]}"#, Form::Kinds, 250),
        (r#"{"authors":['01','02','27'],"kinds":[1,2]}"#, Form::AuthorsKinds, 300),
        (r##"{"#e":['01','02','27']}"##, Form::Tags(0), 300),
        (r#"{"ids":['01']}"#, Form::Ids, 20),
    ] {
        let filter = filter(json);
        let plan = plan(connection, &page(form, &question(&filter), &hasher())).await;
        let buffers = plan.lines().find_map(|line| line.split("shared hit=").nth(1)).unwrap();
        let buffers: u64 = buffers.split(' ').next().unwrap().parse().unwrap();
        assert!(buffers <= most, "{json}: {buffers} buffers\n{plan}");
    }
}

/// Two tags of 2,500 events each: the one that is walked, and one that is not probed row by row.
async fn long_lists_are_met_in_a_hash_table(connection: &mut PgConnection) {
    let filter = filter(r##"{"#e":['01'],"#p":['01']}"##);
    let lengths = Lengths::new([(Form::Tag(0), 2_500), (Form::Tag(1), 2_500)], 8_000);
    let question = PlanQuestion { lengths: Some(&lengths), walked: Some(2_500), elements: 3_000, ..question(&filter) };
    let of_author = super::plan::tests::filter(r##"{"#p":['01'],"authors":['01']}"##);
    let tag = Lengths::new([(Form::Tag(0), 2_500), (Form::Authors, 2_500)], 8_000);
    let merged = PlanQuestion { filter: &of_author, lengths: Some(&tag), ..question };
    for statement in [
        page(Form::Tag(0), &question, &hasher()),
        page(Form::Authors, &merged, &hasher()),
        count(&[(Form::Tag(0), question)], &hasher()),
    ] {
        let plan = plan(connection, &statement).await;
        assert!(plan.contains("hashed SubPlan") && plan.contains("Index Only Scan using tag_h on tag x"), "{plan}");
        assert_eq!(faults(&plan), Vec::<&str>::new(), "{plan}");
    }
}

/// Every index that a statement opens stays locked until its transaction ends.
async fn opened_partitions(connection: &mut PgConnection, statement: &Statement) -> i64 {
    let mut transaction = connection.begin().await.unwrap();
    rows::run(&mut transaction, statement).await.unwrap();
    let opened = sqlx::query_scalar(
        "SELECT count(*) FROM pg_locks l JOIN pg_index i ON i.indexrelid = l.relation \
         JOIN pg_inherits h ON h.inhrelid = i.indrelid WHERE l.pid = pg_backend_pid() AND h.inhparent = 'event_text'::regclass",
    );
    let opened = opened.fetch_one(&mut *transaction).await.unwrap();
    transaction.rollback().await.unwrap();
    opened
}

async fn partitions_outside_are_not_opened(connection: &mut PgConnection) {
    let id = |n: i64| format!("SELECT id FROM made WHERE n = {n}");
    let mut ids = Vec::new();
    for n in [10, EVENTS - 10] {
        let id: Vec<u8> = sqlx::query_scalar(AssertSqlSafe(id(n))).fetch_one(&mut *connection).await.unwrap();
        ids.push(EventId::from_bytes(id.try_into().unwrap()));
    }
    let mut opened = async |ids: &[EventId]| {
        let mut ids = ids.to_vec();
        ids.sort();
        let filter = Filter { ids: Some(ids.into()), ..Filter::default() };
        opened_partitions(connection, &page(Form::Ids, &question(&filter), &hasher())).await
    };
    assert_eq!(opened(&ids[..1]).await, 1);
    assert_eq!(opened(&ids[1..]).await, 1);
    // Control: two events three years apart open all partitions between.
    assert!(opened(&ids).await > 30);
}

async fn pages_and_lookups_agree(connection: &mut PgConnection) -> Result<(), StoreError> {
    let planner = Planner::new(hasher(), Thresholds::default());
    let filter = filter(r##"{"authors":['01','02'],"kinds":[1,2]}"##);
    let page = read::page(connection, &planner, &ask(&filter, 100)).await?;
    assert!(page.rows.len() == 100 && !page.complete && page.rest.is_empty());
    assert!(page.rows.is_sorted_by_key(|row| row.key.order()));
    let ids: Vec<_> = page.rows.iter().map(|row| row.key.id).chain([EventId::from_bytes([0; 32])]).collect();
    let (known, head) = lookup::known(connection, &ids).await?;
    assert_eq!((known.iter().filter(|known| **known).count(), known[100], head), (100, false, page.head));
    assert_eq!(lookup::head(connection).await?, head);
    let mut rows = lookup::fetch(connection, &ids).await?;
    rows.sort_by_key(|row| row.key.order());
    assert_eq!(rows, page.rows);
    let short = read::page(connection, &planner, &Read { max_text_bytes: 50, ..ask(&filter, 100) }).await?;
    assert_eq!(short.rows, page.rows[..short.rows.len()]);
    assert!(short.rows.len() < 10 && short.rows.len() + short.rest.len() == 100);
    Ok(())
}

async fn an_explanation_tells_the_form(url: &str) {
    let mut inspector = ServerInspector::connect(&Redacted::new(url)).await.unwrap();
    let filter = filter(r##"{"#t":["x"],"#p":['01'],"authors":['01','02']}"##);
    let explanation = inspector.explain(&ask(&filter, 20)).await.unwrap();
    assert_eq!(explanation.form, "tag");
    assert!(explanation.why.contains("tag (#t): the least work of tag (#p) 1000 rows or more"), "{}", explanation.why);
    let step = &explanation.steps[0];
    assert!(step.buffers > 0 && step.milliseconds > 0.0 && step.plan.contains("Execution Time"), "{step:?}");
    let both = super::plan::tests::filter(r##"{"#e":['01'],"#p":['01']}"##);
    let explanation = inspector.explain(&ask(&both, 20)).await.unwrap();
    assert_eq!((explanation.form, explanation.steps.len()), ("tag", 1), "each of the newest has both");
    assert!(explanation.why.ends_with("the newest 1000 rows of one were tried first"), "{}", explanation.why);
    let indexes = inspector.indexes().await.unwrap();
    assert!(indexes.iter().any(|index| index.index == "event_text_key" && index.table == "event_text"), "{indexes:?}");
}
