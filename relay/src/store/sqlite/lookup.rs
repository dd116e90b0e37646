//! What the writer asks the database before it decides: one statement a question, whatever the size of the batch, and
//! none where the batch does not raise it.

use super::bind::json;
use super::error::translate;
use super::head_from;
use super::ord::id_prefix;
use super::pool::Lease;
use super::write::add;
use crate::store::StoreError;
use crate::store::rules::{Address, targets};
use crate::store::rules::{Known, Place, Versions};
use crate::store::text;
use crate::types::{Event, EventId, Head, Key, Kind, PublicKey, Row, Timestamp, Verified};
use rustc_hash::{FxHashMap, FxHashSet};
use sqlx::Row as _;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use std::fmt::Write;
use std::sync::Arc;

/// Everything that deciding `batch` takes.
pub(super) async fn known(connection: &mut SqliteConnection, batch: &[Verified]) -> Result<Known<i64>, StoreError> {
    let requests = batch.iter().filter(|verified| verified.event().kind() == Kind::DELETION);
    let named: Vec<_> = requests.map(|verified| targets(verified.event())).collect();
    let wanted: FxHashSet<_> = named.iter().flat_map(|targets| targets.ids.iter().copied()).collect();
    let stored = targets_by_id(connection, &wanted).await?;

    let arriving = batch.iter().filter_map(|verified| Address::of(verified.event()));
    let hit = stored.values().filter_map(|(_, event)| Address::of(event));
    let asked = named.into_iter().flat_map(|targets| targets.addresses);
    Ok(Known {
        ids: ids(connection, batch.iter().map(|verified| verified.event().id())).await?,
        addresses: addresses(connection, arriving.chain(hit).chain(asked).collect()).await?,
        tombstones: tombstones(connection, batch.iter().map(|verified| verified.event().id())).await?,
        targets: stored,
    })
}

/// Those of `wanted` that are stored.
async fn ids(
    connection: &mut SqliteConnection,
    wanted: impl Iterator<Item = EventId>,
) -> Result<FxHashSet<EventId>, StoreError> {
    let query = sqlx::query(
        "SELECT group_concat(substr(e.text, 8, 64), '') FROM json_each(?1) j \
         CROSS JOIN event e INDEXED BY event_id ON e.id = j.value",
    );
    let row = query.bind(json(wanted.map(|id| id_prefix(&id)))).fetch_one(connection).await.map_err(translate)?;
    split_ids(row.try_get(0).map_err(translate)?)
}

/// Ids in hex, one after the other. Among them may be some that only share a prefix with what was asked for.
fn split_ids(hex: Option<&str>) -> Result<FxHashSet<EventId>, StoreError> {
    let (found, _) = hex.unwrap_or_default().as_bytes().as_chunks::<64>();
    found.iter().map(|hex| EventId::from_hex(hex).map_err(|error| StoreError::Damaged(error.to_string()))).collect()
}

/// Those of `wanted` that are stored, and the head at which that holds.
pub(super) async fn known_ids(lease: &mut Lease, wanted: &[EventId]) -> Result<(FxHashSet<EventId>, Head), StoreError> {
    let sql = "SELECT (SELECT epoch FROM head), (SELECT position FROM head), group_concat(substr(e.text, 8, 64), '') \
               FROM json_each(?1) j CROSS JOIN event e INDEXED BY event_id ON e.id = j.value";
    let row = lease.one(sql.into(), one_list(wanted.iter().map(id_prefix))).await?;
    Ok((split_ids(row.try_get(2).map_err(translate)?)?, head_from(&row)?))
}

/// The rows of those of `wanted` that are stored.
pub(super) async fn rows(lease: &mut Lease, wanted: &[EventId]) -> Result<Vec<Row>, StoreError> {
    let sql =
        "SELECT e.text, e.expires_at FROM json_each(?1) j CROSS JOIN event e INDEXED BY event_id ON e.id = j.value";
    let wanted: FxHashSet<_> = wanted.iter().copied().collect();
    let rows = lease.all(sql.into(), one_list(wanted.iter().map(id_prefix))).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let text: &str = row.try_get(0).map_err(translate)?;
        let key = text::key(text)?;
        if wanted.contains(&key.id) {
            found.push(Row { key, expires_at: row.try_get(1).map_err(translate)?, text: text.into() });
        }
    }
    Ok(found)
}

/// The stored ones of `wanted`, with their rows.
pub(super) async fn targets_by_id(
    connection: &mut SqliteConnection,
    wanted: &FxHashSet<EventId>,
) -> Result<FxHashMap<EventId, (i64, Arc<Event>)>, StoreError> {
    if wanted.is_empty() {
        return Ok(FxHashMap::default());
    }
    let rows = sqlx::query(
        "SELECT e.row, e.text FROM json_each(?1) j CROSS JOIN event e INDEXED BY event_id ON e.id = j.value",
    );
    let rows = rows.bind(json(wanted.iter().map(id_prefix))).fetch_all(connection).await.map_err(translate)?;
    let found = rows.iter().map(event).map(|found| found.map(|(row, event)| (event.id(), (row, event))));
    let mut found: FxHashMap<_, _> = found.collect::<Result<_, StoreError>>()?;
    found.retain(|id, _| wanted.contains(id));
    Ok(found)
}

/// The events in `rows`.
pub(super) async fn events(
    connection: &mut SqliteConnection,
    rows: &[i64],
) -> Result<FxHashMap<i64, Arc<Event>>, StoreError> {
    if rows.is_empty() {
        return Ok(FxHashMap::default());
    }
    let query = sqlx::query("SELECT e.row, e.text FROM json_each(?1) j CROSS JOIN event e ON e.row = j.value");
    let found = query.bind(json(rows.iter().copied())).fetch_all(connection).await.map_err(translate)?;
    found.iter().map(event).collect()
}

/// Up to `max` events that have expired by `now`, oldest expiry first.
pub(super) async fn expired(
    connection: &mut SqliteConnection,
    now: Timestamp,
    max: usize,
) -> Result<Vec<(i64, Arc<Event>)>, StoreError> {
    let query = sqlx::query(
        "SELECT e.row, e.text FROM event e INDEXED BY event_expires WHERE e.expires_at <= ?1 ORDER BY e.expires_at LIMIT ?2",
    );
    let query = query.bind(now).bind(i64::try_from(max).unwrap_or(i64::MAX));
    query.fetch_all(connection).await.map_err(translate)?.iter().map(event).collect()
}

/// Reads the columns `row`, `text`.
pub(super) fn event(row: &SqliteRow) -> Result<(i64, Arc<Event>), StoreError> {
    let text: &str = row.try_get(1).map_err(translate)?;
    let event = Event::from_stored(text).map_err(|error| StoreError::Damaged(error.to_string()))?;
    Ok((row.try_get(0).map_err(translate)?, Arc::new(event)))
}

/// The state of each of `wanted`; those that the database does not know have none.
pub(super) async fn addresses(
    connection: &mut SqliteConnection,
    wanted: Vec<Address>,
) -> Result<FxHashMap<Address, Versions<i64>>, StoreError> {
    if wanted.is_empty() {
        return Ok(FxHashMap::default());
    }
    let keys: FxHashMap<[u8; 16], Address> = wanted.into_iter().map(|address| (address.digest(), address)).collect();
    let query = sqlx::query(
        "SELECT a.key, a.row, a.created_at, a.id, a.deleted_up_to FROM json_each(?1) j \
         CROSS JOIN address a ON a.key = unhex(j.value)",
    );
    let rows = query.bind(hex_json(keys.keys().map(|key| &key[..]))).fetch_all(connection).await.map_err(translate)?;
    let mut found = FxHashMap::default();
    for row in &rows {
        let (key, versions) = versions(row).map_err(translate)?;
        if let Some(address) = key.and_then(|key| keys.get(&key)) {
            found.insert(address.clone(), versions);
        }
    }
    Ok(found)
}

fn versions(row: &SqliteRow) -> Result<(Option<[u8; 16]>, Versions<i64>), sqlx::Error> {
    let id: Option<&[u8]> = row.try_get(3)?;
    let id = id.and_then(|id| id.try_into().ok()).map(EventId::from_bytes);
    let created_at: Option<i64> = row.try_get(2)?;
    let versions = Versions {
        current: row.try_get::<Option<i64>, _>(1)?.map(Place::Stored),
        newest: created_at.zip(id).map(|(created_at, id)| Key { created_at, id }),
        deleted_up_to: row.try_get(4)?,
    };
    Ok((row.try_get::<&[u8], _>(0)?.try_into().ok(), versions))
}

async fn tombstones(
    connection: &mut SqliteConnection,
    ids: impl Iterator<Item = EventId>,
) -> Result<FxHashSet<(EventId, PublicKey)>, StoreError> {
    let ids: Vec<_> = ids.collect();
    let query =
        sqlx::query("SELECT t.id, t.requester FROM json_each(?1) j CROSS JOIN tombstone t ON t.id = unhex(j.value)");
    let json = hex_json(ids.iter().map(|id| &id.as_bytes()[..]));
    let rows = query.bind(json).fetch_all(connection).await.map_err(translate)?;
    let bytes = |row: &SqliteRow, at: usize| -> Result<Option<[u8; 32]>, sqlx::Error> {
        Ok(row.try_get::<&[u8], _>(at)?.try_into().ok())
    };
    let mut found = FxHashSet::default();
    for row in &rows {
        let pair = bytes(row, 0).map_err(translate)?.zip(bytes(row, 1).map_err(translate)?);
        found.extend(pair.map(|(id, requester)| (EventId::from_bytes(id), PublicKey::from_bytes(requester))));
    }
    Ok(found)
}

/// A JSON array of hex texts.
fn hex_json<'a>(values: impl Iterator<Item = &'a [u8]>) -> String {
    let mut out = String::from("[");
    for value in values {
        out.push_str(if out.len() > 1 { ",\"" } else { "\"" });
        for byte in value {
            // Writing to a String cannot fail.
            let _ = write!(out, "{byte:02x}");
        }
        out.push('"');
    }
    out.push(']');
    out
}

/// The arguments of a statement whose only parameter is a JSON array of integers.
pub(super) fn one_list(values: impl Iterator<Item = i64>) -> SqliteArguments {
    let mut arguments = SqliteArguments::default();
    add(&mut arguments, json(values));
    arguments
}
