//! Addressable events without a `d` are filed under the empty identifier, whoever has stored them.

use super::*;
use sqlx::Row as _;

/// Takes out again what is filed for want of a `d`: as an older program left the database.
async fn unfile(conn: &mut PgConnection) {
    run(
        conn,
        "WITH old AS (UPDATE event_text t SET tags = array_remove(t.tags, s.empty_identifier) FROM hashing s \
         WHERE strpos(t.text, '[\"d\",\"') = 0 RETURNING t.id) \
         DELETE FROM tag t USING old o, hashing s WHERE t.id = o.id AND t.h = s.empty_identifier",
    )
    .await;
}

/// The kinds of the events that are filed under the empty identifier.
async fn filed(conn: &mut PgConnection, hasher: &Hasher) -> Vec<i32> {
    let sql = sqlx::query("SELECT t.kind FROM tag t JOIN event e ON e.id = t.id WHERE t.h = $1 ORDER BY t.kind");
    let rows = sql.bind(hasher.tag(b'd', "")).fetch_all(conn).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stored_already_is_filed_once() {
    let server = Server::start().await;
    let (mut conn, hasher) = server.migrated().await;
    let batch = [
        event(1, 30_001, 1_700_000_000, &[], ""),
        event(1, 30_002, 10, &[tag("t", "x")], "[\"d\",\""),
        event(1, 30_003, 11, &[tag("d", "")], ""),
        event(1, 30_004, 12, &[tag("d", "x")], ""),
        event(1, 1, 13, &[], ""),
    ];
    put(&mut conn, &hasher, &batch).await.unwrap();
    assert_eq!(filed(&mut conn, &hasher).await, [30_001, 30_002, 30_003]);
    unfile(&mut conn).await;
    assert_eq!(filed(&mut conn, &hasher).await, [30_003], "control");
    schema::migrate(&mut conn).await.unwrap();
    assert_eq!(filed(&mut conn, &hasher).await, [30_003], "it is done once");

    run(&mut conn, "UPDATE hashing SET empty_identifier = NULL, empty_identifiers_filed = false").await;
    let (mut one, mut two) = (server.connect().await, server.connect().await);
    let (first, second) = tokio::join!(schema::migrate(&mut one), schema::migrate(&mut two));
    assert!(first.is_ok() && second.is_ok());
    assert_eq!(filed(&mut conn, &hasher).await, [30_001, 30_002, 30_003]);
    assert_whole(&mut conn).await;
}

/// An instance that was started before the migration goes on writing until it is replaced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_older_program_stores_meanwhile_is_filed_too() {
    let server = Server::start().await;
    let (mut conn, hasher) = server.migrated().await;
    // An older program hashes the tags that are there. Under another secret none of its hashes is the one that was
    // noted.
    let older = Hasher::new([9; 16], 64);
    let batch = [
        event(1, 30_001, 10, &[], ""),
        event(1, 1, 11, &[tag("t", "x")], ""),
        event(1, 30_002, 12, &[tag("d", "x")], ""),
        event(1, 30_003, 13, &[tag("t", "x")], "[\"d\",\""),
    ];
    put(&mut conn, &older, &batch).await.unwrap();
    assert_eq!(filed(&mut conn, &hasher).await, [30_001, 30_003]);
    assert_whole(&mut conn).await;
    // What goes takes its place there along.
    put(&mut conn, &older, &[deletion_of(&batch[0])]).await.unwrap();
    assert_eq!(filed(&mut conn, &hasher).await, [30_003]);
    assert_whole(&mut conn).await;
}
