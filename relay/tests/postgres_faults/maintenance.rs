//! The maintenance of the partitions: one of two instances is the leader, and the other takes over when it is gone.

use crate::kit::*;
use crate::store_kit::{self, NOW};
use deploy::postgres::PostgresCluster;
use deploy::{STEP_TIMEOUT, until};
use relay::config::{KindRetention, Redacted};
use relay::store::postgres::{Options, PostgresStore, ServerInspector};
use relay::store::{Outcome, SharedLog, Store};
use relay::types::{Change, Filter, Kind, Verified};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// An instance that runs the maintenance.
async fn instance(urls: &[String]) -> (PostgresStore, JoinHandle<()>) {
    let store = open(Options { maintenance_interval: Duration::from_millis(50), log_days: 3, ..options(urls) }).await;
    let maintained = store.clone();
    (store, tokio::spawn(async move { maintained.run_maintenance().await }))
}

/// Three months ago, one month ago.
const OLD_AND_RECENT: &str = "SELECT extract(epoch FROM now() - interval '3 months')::int8, \
                              extract(epoch FROM now() - interval '1 month')::int8";

#[tokio::test(flavor = "multi_thread")]
async fn retention_cuts_old_months_but_keeps_profiles_and_deletions_while_writers_go_on() {
    let cluster = PostgresCluster::setup().start().await.unwrap();
    let urls = cluster.database_urls("postgres");
    let mut operator = PgConnection::connect(&urls[0]).await.unwrap();
    let with = |retention_months| Options {
        maintenance_interval: Duration::from_millis(50),
        retention_months,
        ..options(&urls)
    };
    let store = open(with(0)).await;
    let row = sqlx::query(OLD_AND_RECENT).fetch_one(&mut operator).await.unwrap();
    let (old, recent): (i64, i64) = (row.get(0), row.get(1));
    let far = 32_503_680_000; // The year 3000.
    let event = |kind: u16, at: i64| store_kit::event(7, kind, at, &[], &format!("{kind} at {at}"));
    let stay = [event(0, old), event(5, old + 1), event(10_002, 3), event(1, recent), event(1, far)];
    let go: Vec<_> = (0..1_200).map(|n| event(1, old + n)).chain([event(1, 0), event(7, 60 * 86_400)]).collect();
    for batch in [&stay[..], &go] {
        store.append(batch.iter().cloned().map(Verified::vouch).collect(), NOW).await.unwrap();
    }
    let all = Filter::default();
    let ids = async |store: &PostgresStore| {
        let page = store.read(&store_kit::ask(&all, 5_000)).await.unwrap();
        page.rows.iter().map(|row| row.key.id).collect::<BTreeSet<_>>()
    };
    assert_eq!(ids(&store).await.len(), stay.len() + go.len());
    let month = "SELECT to_char(now() AT TIME ZONE 'UTC' - interval '3 months', '\"event_text_\"YYYY_MM')";
    let month: String = sqlx::query_scalar(month).fetch_one(&mut operator).await.unwrap();

    // Control: without a retention, the maintenance removes nothing.
    let maintained = store.clone();
    let maintenance = tokio::spawn(async move { maintained.run_maintenance().await });
    until("the keeper to be elected", STEP_TIMEOUT, async || {
        store.maintenance_status().elected.then_some(()).ok_or_else(String::new)
    })
    .await
    .unwrap();
    assert_eq!((ids(&store).await.len(), store.maintenance_status().removed), (stay.len() + go.len(), 0));
    maintenance.abort();
    store.close().await;

    // A read that stays open on every month: the cut waits for it, and writers do not wait for the cut.
    let mut reader = PgConnection::connect(&urls[0]).await.unwrap();
    reader.execute("SET idle_in_transaction_session_timeout = 0; BEGIN; SELECT FROM event_text").await.unwrap();
    let store = open(with(2)).await;
    let before = store.head().await.unwrap();
    let maintained = store.clone();
    let maintenance = tokio::spawn(async move { maintained.run_maintenance().await });
    let removed = async || {
        let status = store.maintenance_status();
        if status.removed == go.len() as u64 { Ok(()) } else { Err(format!("{status:?}")) }
    };
    until("the old to be removed", STEP_TIMEOUT, removed).await.unwrap();
    let mut longest = Duration::ZERO;
    let mut stay: BTreeSet<_> = stay.iter().map(|event| event.id()).collect();
    for n in 0..100 {
        let (note, started) = (note(n), Instant::now());
        append(&store, &note).await.unwrap();
        longest = longest.max(started.elapsed());
        stay.insert(note.id());
    }
    assert!(longest < Duration::from_secs(1), "a writer waited {longest:?}");
    assert_eq!(ids(&store).await, stay);
    // Control: a statement that waits for its lock makes writers wait as well.
    let mut operator = operator;
    let detach = format!("SET lock_timeout = '3s'; ALTER TABLE event_text DETACH PARTITION {month}");
    let waiting = tokio::spawn(async move { operator.execute(AssertSqlSafe(detach)).await.map(drop) });
    let queued = async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'SET lock_timeout = ''3s%'";
        let mut connection = PgConnection::connect(&urls[0]).await.map_err(|error| error.to_string())?;
        let found: i64 = sqlx::query_scalar(sql).fetch_one(&mut connection).await.map_err(|error| error.to_string())?;
        if found == 1 { Ok(()) } else { Err("not yet".into()) }
    };
    until("the statement to wait", STEP_TIMEOUT, queued).await.unwrap();
    let (note, started) = (note(100), Instant::now());
    append(&store, &note).await.unwrap();
    stay.insert(note.id());
    assert!(started.elapsed() > Duration::from_secs(1), "control: {:?}", started.elapsed());
    assert!(waiting.await.unwrap().is_err());
    assert_eq!(store.maintenance_status().dropped, 0, "the read still holds the months");
    reader.execute("COMMIT").await.unwrap();
    let listed = "SELECT coalesce(string_agg(inhrelid::regclass::text, ' '), '') FROM pg_inherits \
                  WHERE inhparent = 'event_text'::regclass AND inhrelid::regclass::text LIKE $1 || '%'";
    let cut = async || {
        let mut connection = PgConnection::connect(&urls[0]).await.map_err(|error| error.to_string())?;
        let found: String = sqlx::query_scalar(listed)
            .bind(&month)
            .fetch_one(&mut connection)
            .await
            .map_err(|error| error.to_string())?;
        if found == format!("{month}_kept") { Ok(()) } else { Err(found) }
    };
    until("the month to be cut", STEP_TIMEOUT, cut).await.unwrap();
    assert_eq!(ids(&store).await, stay);
    // A follower of the log gets each removal.
    let slice = store.entries(before.position, 10_000).await.unwrap();
    let changes = slice.entries.iter().flat_map(|entry| entry.changes.iter());
    let heard = changes.filter_map(|change| match change {
        Change::Removed(removal) => Some(removal.event.id()),
        Change::Inserted(_) => None,
    });
    let heard: BTreeSet<_> = heard.collect();
    assert_eq!(heard, go.iter().map(|event| event.id()).collect());
    // The month still takes events, and lets a profile be replaced.
    append(&store, &event(0, old + 9)).await.unwrap();
    assert!(!ids(&store).await.contains(stay.iter().find(|id| **id == event(0, old).id()).unwrap()));
    maintenance.abort();
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_have_retentions_of_their_own() {
    let cluster = PostgresCluster::setup().start().await.unwrap();
    let urls = cluster.database_urls("postgres");
    let mut operator = PgConnection::connect(&urls[0]).await.unwrap();
    let now: i64 = sqlx::query_scalar("SELECT extract(epoch FROM now())::int8").fetch_one(&mut operator).await.unwrap();
    let (old, young) = (now - 31 * 86_400, now - 29 * 86_400);
    let event = |kind: u16, at: i64| store_kit::event(7, kind, at, &[], &format!("{kind} at {at}"));

    // By another author, since a request to vanish keeps its author's older events out.
    let vanish = store_kit::event(8, 62, old, &[], "");
    // 4 and 63 are outside the range, 5 and 62 inside: deletion requests.
    let stay = [event(4, old), event(5, old), event(7, young), event(10_002, young), vanish, event(63, old)];
    let go: Vec<_> = (0..700).map(|n| event(7, old - n)).chain([event(6, 0), event(10_003, old)]).collect();
    let rule = |kinds: std::ops::RangeInclusive<u16>| KindRetention {
        kinds: Kind(*kinds.start())..=Kind(*kinds.end()),
        days: 30,
    };

    let options = Options {
        maintenance_interval: Duration::from_millis(50),
        retention_kinds: vec![rule(5..=62), rule(10_000..=19_999)],
        ..options(&urls)
    };

    let store = open(options).await;
    for batch in [&stay[..], &go] {
        store.append(batch.iter().cloned().map(Verified::vouch).collect(), NOW).await.unwrap();
    }
    let maintained = store.clone();
    let maintenance = tokio::spawn(async move { maintained.run_maintenance().await });
    let removed = async || {
        let status = store.maintenance_status();
        if status.removed >= go.len() as u64 { Ok(()) } else { Err(format!("{status:?}")) }
    };

    until("the old to be removed", STEP_TIMEOUT, removed).await.unwrap();
    let all = Filter::default();
    let page = store.read(&store_kit::ask(&all, 5_000)).await.unwrap();
    let left: BTreeSet<_> = page.rows.iter().map(|row| row.key.id).collect();
    assert_eq!(left, stay.iter().map(|event| event.id()).collect());

    // A rule removes; it does not forbid: the same version may be published again.
    let again = store.append(vec![Verified::vouch(event(10_003, old))], NOW).await.unwrap();
    assert_eq!(again.outcomes, [Outcome::Stored]);
    maintenance.abort();
    store.close().await;
}

/// Removes the partitions of all days and months to come, and makes a day of the log old.
const NEGLECT: &str = "DO $$ DECLARE old timestamptz := date_trunc('day', now(), 'UTC') - interval '9 days'; part regclass; BEGIN
    FOR part IN SELECT inhrelid FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid
                 WHERE inhparent = 'event_text'::regclass AND c.relname > to_char(now() AT TIME ZONE 'UTC', '\"event_text_\"YYYY_MM')
                   AND c.relname < 'event_text_a'
                 UNION ALL
                SELECT inhrelid FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid
                 WHERE inhparent = 'log'::regclass AND c.relname > to_char(now() AT TIME ZONE 'UTC', '\"log_\"YYYY_MM_DD')
                   AND c.relname < 'log_a' LOOP
        EXECUTE 'DROP TABLE ' || part;
    END LOOP;
    EXECUTE format('CREATE TABLE %I PARTITION OF log FOR VALUES FROM (%L) TO (%L)',
        to_char(old AT TIME ZONE 'UTC', '\"log_\"YYYY_MM_DD'), old, old + interval '1 day');
    END $$";

async fn partitions(connection: &mut PgConnection) -> i64 {
    let sql = "SELECT count(*) FROM pg_inherits WHERE inhparent IN ('event_text'::regclass, 'log'::regclass)";
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_instance_keeps_and_another_takes_over_when_it_dies() {
    let cluster = PostgresCluster::setup().start().await.unwrap();
    let urls = cluster.database_urls("postgres");
    let mut operator = PgConnection::connect(&urls[0]).await.unwrap();
    let (first, first_keeper) = instance(&urls).await;
    until("the first to be elected", STEP_TIMEOUT, async || {
        first.maintenance_status().elected.then_some(()).ok_or_else(String::new)
    })
    .await
    .unwrap();
    let whole = partitions(&mut operator).await;
    let (second, second_keeper) = instance(&urls).await;

    operator.execute(NEGLECT).await.unwrap();
    assert!(partitions(&mut operator).await < whole);
    let kept = async || {
        let status = first.maintenance_status();
        if (status.made, status.dropped) == (6, 1) { Ok(()) } else { Err(format!("{status:?}")) }
    };
    until("the neglected to be made good", STEP_TIMEOUT, kept).await.unwrap();
    assert_eq!(partitions(&mut operator).await, whole);
    // Control: while the first lives, the second does nothing.
    let status = second.maintenance_status();
    assert_eq!((status.elected, status.made, status.dropped), (false, 0, 0));

    first_keeper.abort();
    operator.execute(NEGLECT).await.unwrap();
    let kept = async || {
        let status = second.maintenance_status();
        if status.elected && (status.made, status.dropped) == (6, 1) { Ok(()) } else { Err(format!("{status:?}")) }
    };
    until("the second to take over", STEP_TIMEOUT, kept).await.unwrap();
    assert_eq!(partitions(&mut operator).await, whole);
    append(&second, &note(1)).await.unwrap();
    let listed = ServerInspector::connect(&Redacted::new(&urls[0])).await.unwrap().partitions().await.unwrap();
    assert_eq!(listed.len() as i64, whole);
    let covered =
        |table: &str| listed.iter().filter(|one| one.table == table && one.from.is_some()).collect::<Vec<_>>();
    for days in [covered("log"), covered("event_text")] {
        assert!(days.windows(2).all(|pair| pair[0].to == pair[1].from), "without a gap: {days:?}");
    }
    assert!(listed.iter().any(|one| one.name == "event_text_default" && one.from.is_none() && one.bytes > 0));
    second_keeper.abort();
    first.close().await;
    second.close().await;
}
