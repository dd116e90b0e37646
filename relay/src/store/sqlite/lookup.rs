//! What the writer looks up before it decides. The number of statements does not depend on the size of the batch, and a
//! question that the batch does not raise costs none.

use super::bind::{add, head_from, json};
use super::error::translate;
use super::ord::id_prefix;
use super::pool::ReaderLease;
use crate::store::StoreError;
use crate::store::rules::{Address, barring_keys, targets, vanish_floor};
use crate::store::rules::{EventPlace, Known, Versions};
use crate::store::text;
use crate::types::{Event, EventId, Head, Key, Kind, PublicKey, Row, Timestamp, Verified};
use rustc_hash::{FxHashMap, FxHashSet};
use sqlx::Row as _;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use std::sync::Arc;

/// The stored ids that have one of the prefixes in a JSON list, concatenated in hex.
macro_rules! ids {
    ($list:literal) => {
        concat!(
            "SELECT group_concat(substr(e.text, 8, 64), '') FROM json_each(",
            $list,
            ") j CROSS JOIN event e INDEXED BY event_id ON e.id = j.value"
        )
    };
}

/// The state of the addresses whose keys are in a JSON list, one a line: key, row, created_at, deleted_up_to, id, and
/// the text of the current version, each empty where it is NULL.
macro_rules! addresses {
    ($list:literal) => {
        concat!(
            "SELECT group_concat(lower(hex(a.key)) || ' ' || coalesce(a.row, '') || ' ' || coalesce(a.created_at, '') \
             || ' ' || coalesce(a.deleted_up_to, '') || ' ' || lower(hex(a.id)) || ' ' || \
             coalesce((SELECT e.text FROM event e WHERE e.row = a.row), ''), char(10)) FROM json_each(",
            $list,
            ") j CROSS JOIN address a ON a.key = unhex(j.value)"
        )
    };
}

/// What the database has about a batch.
pub(super) struct BatchContext {
    /// What deciding the batch takes.
    pub(super) known: Known<i64>,
    /// The events that the batch may remove, by row.
    pub(super) removable: Removable,
}

/// Begins a transaction and looks up what deciding `batch` takes: in one trip to the connection's thread, and one more
/// before it for the targets of deletion requests. That one needs no transaction, since nothing else writes.
pub(super) async fn begin(connection: &mut SqliteConnection, batch: &[Verified]) -> Result<BatchContext, StoreError> {
    let requests = batch.iter().filter(|verified| verified.event().kind() == Kind::DELETION);
    let named: Vec<_> = requests.map(|verified| targets(verified.event())).collect();
    let wanted: FxHashSet<_> = named.iter().flat_map(|targets| targets.ids.iter().copied()).collect();
    let targets = targets_by_id(connection, &wanted).await?;

    let arriving = batch.iter().filter_map(|verified| Address::of(verified.event()));
    let hit = targets.values().filter_map(|(_, event)| Address::of(event));
    let asked = named.into_iter().flat_map(|targets| targets.addresses);
    let barring: FxHashSet<_> = batch.iter().flat_map(|verified| barring_keys(verified.event())).collect();
    let floors = barring.into_iter().map(vanish_floor);
    let wanted = Wanted::new(arriving.chain(hit).chain(asked).chain(floors));
    let ids = || batch.iter().map(|verified| verified.event().id());
    let sql = concat!(
        "BEGIN IMMEDIATE; SELECT (",
        ids!("?1"),
        "), (",
        addresses!("?2"),
        "), (SELECT group_concat(lower(hex(t.id) || hex(t.requester)), '') \
         FROM json_each(?3) j CROSS JOIN tombstone t ON t.id = unhex(j.value))",
    );
    let query = sqlx::query(sql).bind(json(ids().map(|id| id_prefix(&id)))).bind(wanted.json());
    let query = query.bind(hex_json(ids().map(|id| *id.as_bytes())));
    let row = query.fetch_one(connection).await.map_err(translate)?;
    let mut removable = Removable { events: targets.values().cloned().collect(), ..Removable::default() };
    let addresses = wanted.read(row.try_get(1).map_err(translate)?, &mut removable)?;
    let tombstones = tombstones(row.try_get(2).map_err(translate)?)?;
    let ids = split_ids(row.try_get(0).map_err(translate)?)?;
    Ok(BatchContext { known: Known { ids, targets, addresses, tombstones }, removable })
}

/// Ids concatenated in hex. Some may share only a prefix with the ids that were asked for.
fn split_ids(hex: Option<&str>) -> Result<FxHashSet<EventId>, StoreError> {
    let (found, _) = hex.unwrap_or_default().as_bytes().as_chunks::<64>();
    found.iter().map(|hex| EventId::from_hex(hex).map_err(|error| StoreError::Damaged(error.to_string()))).collect()
}

/// The stored ones of `wanted`, and the head as of which that holds.
pub(super) async fn known_ids(
    lease: &mut ReaderLease,
    wanted: &[EventId],
) -> Result<(FxHashSet<EventId>, Head), StoreError> {
    let sql = concat!("SELECT (SELECT epoch FROM head), (SELECT position FROM head), (", ids!("?1"), ")");
    let row = lease.one(sql.into(), one_list(wanted.iter().map(id_prefix))).await?;
    Ok((split_ids(row.try_get(2).map_err(translate)?)?, head_from(&row)?))
}

/// The rows of the stored ones of `wanted`.
pub(super) async fn rows(lease: &mut ReaderLease, wanted: &[EventId]) -> Result<Vec<Row>, StoreError> {
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

/// The stored ones of `wanted`, with their row numbers.
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
    Ok((row.try_get(0).map_err(translate)?, parse(row.try_get(1).map_err(translate)?)?))
}

fn parse(text: &str) -> Result<Arc<Event>, StoreError> {
    Event::from_stored(text).map(Arc::new).map_err(|error| StoreError::Damaged(error.to_string()))
}

/// The state of each of `wanted` that the database knows.
pub(super) async fn addresses(
    connection: &mut SqliteConnection,
    wanted: impl Iterator<Item = Address>,
) -> Result<FxHashMap<Address, Versions<i64>>, StoreError> {
    let wanted = Wanted::new(wanted);
    if wanted.0.is_empty() {
        return Ok(FxHashMap::default());
    }
    let sql = concat!("SELECT (", addresses!("?1"), ")");
    let row = sqlx::query(sql).bind(wanted.json()).fetch_one(connection).await.map_err(translate)?;
    wanted.read(row.try_get(0).map_err(translate)?, &mut Removable::default())
}

/// Addresses by their keys in hex.
struct Wanted(FxHashMap<String, Address>);

impl Wanted {
    fn new(addresses: impl Iterator<Item = Address>) -> Self {
        Self(addresses.map(|address| (hex(&address.digest()), address)).collect())
    }

    fn json(&self) -> String {
        list(self.0.keys())
    }

    /// Parses the lines of `addresses!`.
    fn read(
        &self,
        lines: Option<&str>,
        removable: &mut Removable,
    ) -> Result<FxHashMap<Address, Versions<i64>>, StoreError> {
        let mut found = FxHashMap::default();
        for line in lines.into_iter().flat_map(str::lines) {
            let damaged = || StoreError::Damaged(format!("no state of an address: {line}"));
            let mut fields = line.splitn(6, ' ');
            let mut field = || fields.next().ok_or_else(damaged);
            let address = self.0.get(field()?).ok_or_else(damaged)?;
            let mut number = || match field()? {
                "" => Ok(None),
                digits => digits.parse::<i64>().map(Some).map_err(|_| damaged()),
            };
            let (row, created_at, deleted_up_to) = (number()?, number()?, number()?);

            let id = EventId::from_hex(field()?.as_bytes()).ok();
            if let Some(row) = row {
                removable.texts.insert(row, field()?.into());
            }
            let newest = created_at.zip(id).map(|(created_at, id)| Key { created_at, id });
            found.insert(address.clone(), Versions { current: row.map(EventPlace::Stored), newest, deleted_up_to });
        }
        Ok(found)
    }
}

/// Stored events that a batch may remove, by row number.
#[derive(Default)]
pub(super) struct Removable {
    events: FxHashMap<i64, Arc<Event>>,
    texts: FxHashMap<i64, Box<str>>,
}

impl Removable {
    /// The event of `row`.
    pub(super) fn event(&self, row: i64) -> Result<Arc<Event>, StoreError> {
        match (self.events.get(&row), self.texts.get(&row)) {
            (Some(event), _) => Ok(event.clone()),
            (None, Some(text)) => parse(text),
            (None, None) => Err(StoreError::Damaged(format!("row {row} is missing"))),
        }
    }
}

/// Tombstones concatenated in hex.
fn tombstones(hex: Option<&str>) -> Result<FxHashSet<(EventId, PublicKey)>, StoreError> {
    let (pairs, _) = hex.unwrap_or_default().as_bytes().as_chunks::<128>();
    let read = |pair: &[u8; 128]| {
        let (id, requester) = pair.split_at(64);
        EventId::from_hex(id).ok().zip(PublicKey::from_hex(requester).ok())
    };
    pairs.iter().map(|pair| read(pair).ok_or_else(|| StoreError::Damaged("no tombstone".into()))).collect()
}

/// A JSON array of hex texts.
fn hex_json<const N: usize>(values: impl Iterator<Item = [u8; N]>) -> String {
    list(values.map(|value| hex(&value)))
}

fn hex(bytes: &[u8]) -> String {
    let mut out = vec![0; 2 * bytes.len()];
    // This fails only where `out` is too short.
    let _ = faster_hex::hex_encode(bytes, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// A JSON array of texts that need no escapes.
fn list(texts: impl Iterator<Item = impl AsRef<str>>) -> String {
    let mut out = String::from("[");
    for text in texts {
        out.push_str(if out.len() > 1 { ",\"" } else { "\"" });
        out.push_str(text.as_ref());
        out.push('"');
    }
    out.push(']');
    out
}

/// The parameters of a statement whose only parameter is a JSON array of integers.
pub(super) fn one_list(values: impl Iterator<Item = i64>) -> SqliteArguments {
    let mut arguments = SqliteArguments::default();
    add(&mut arguments, json(values));
    arguments
}
