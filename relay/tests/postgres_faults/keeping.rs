//! The keeper of the partitions: one of two instances, and the other when it is gone.

use crate::kit::*;
use deploy::postgres::Cluster;
use deploy::{PATIENCE, until};
use relay::config::Redacted;
use relay::store::Store;
use relay::store::postgres::{Inspector, Options, PostgresStore};
use sqlx::{Connection, Executor, PgConnection};
use std::time::Duration;
use tokio::task::JoinHandle;

/// An instance that keeps.
async fn instance(urls: &[String]) -> (PostgresStore, JoinHandle<()>) {
    let store = open(Options { keeper_interval: Duration::from_millis(50), log_days: 3, ..options(urls) }).await;
    let keeper = store.clone();
    (store, tokio::spawn(async move { keeper.keep().await }))
}

/// Takes away the partitions of all days and months to come, and lets a day of the log be old.
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
    let cluster = Cluster::setup().start().await.unwrap();
    let urls = cluster.database_urls("postgres");
    let mut operator = PgConnection::connect(&urls[0]).await.unwrap();
    let (first, first_keeper) = instance(&urls).await;
    until("the first to be elected", PATIENCE, async || first.keeping().elected.then_some(()).ok_or_else(String::new))
        .await
        .unwrap();
    let whole = partitions(&mut operator).await;
    let (second, second_keeper) = instance(&urls).await;

    operator.execute(NEGLECT).await.unwrap();
    assert!(partitions(&mut operator).await < whole);
    let kept = async || {
        let status = first.keeping();
        if (status.made, status.dropped) == (6, 1) { Ok(()) } else { Err(format!("{status:?}")) }
    };
    until("the neglected to be made good", PATIENCE, kept).await.unwrap();
    assert_eq!(partitions(&mut operator).await, whole);
    // Control: while the first lives, the second does nothing.
    let status = second.keeping();
    assert_eq!((status.elected, status.made, status.dropped), (false, 0, 0));

    first_keeper.abort();
    operator.execute(NEGLECT).await.unwrap();
    let kept = async || {
        let status = second.keeping();
        if status.elected && (status.made, status.dropped) == (6, 1) { Ok(()) } else { Err(format!("{status:?}")) }
    };
    until("the second to take over", PATIENCE, kept).await.unwrap();
    assert_eq!(partitions(&mut operator).await, whole);
    append(&second, &note(1)).await.unwrap();
    let listed = Inspector::connect(&Redacted::new(&urls[0])).await.unwrap().partitions().await.unwrap();
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
