//! Compares the stores with the naive one: seeded random histories and filters over vocabularies so small that
//! everything collides. Every page must agree in rows, order, completeness and position; so must every outcome, change
//! and count. Controls check that the comparison finds a store that is slightly wrong.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod maker;
#[path = "../store_kit/mod.rs"]
mod store_kit;

use maker::Maker;
use rand::RngExt;
use relay::store::memory::MemoryStore;
use relay::store::postgres::{PlanCounts, PostgresStore};
use relay::store::sqlite::SqliteStore;
use relay::store::{Appended, Counted, Page, Read, Store};
use relay::types::{Access, Event, Filter, Key, Position, PrivateKinds, Timestamp, Verified};
use store_kit::{tag, tag_filter, words};

/// Pairs of a history and a filter. Set `ORACLE_PAIRS` for more.
const PAIRS: usize = 100_000;
const FILTERS_A_HISTORY: usize = 500;
/// Time passes from here, in few seconds, so that events share seconds.
const START: Timestamp = 1_000;

/// The counts of a comparison.
#[derive(Default, Debug)]
struct Tally {
    pairs: usize,
    with_rows: usize,
    cut: usize,
    counted: usize,
    /// How often PostgreSQL's planner took each way: see `compare`.
    plan_counts: [u64; 5],
}

fn same_write(one: &Appended, two: &Appended) -> Result<(), String> {
    let agree = one.outcomes == two.outcomes
        && one.head.position == two.head.position
        && words(&one.changes) == words(&two.changes);
    if agree { Ok(()) } else { Err(format!("{one:#?}\nagainst\n{two:#?}")) }
}

/// Some of the changes of a sweep or removal have no order.
fn same_removal(one: &Appended, two: &Appended) -> Result<(), String> {
    let sorted = |done: &Appended| {
        let mut words = words(&done.changes);
        words.sort();
        words
    };
    let agree = one.head.position == two.head.position && sorted(one) == sorted(two);
    if agree { Ok(()) } else { Err(format!("{one:#?}\nagainst\n{two:#?}")) }
}

fn same_page(one: &Page, two: &Page) -> bool {
    one.rows == two.rows
        && one.rest == two.rest
        && one.complete == two.complete
        && one.head.position == two.head.position
}

/// Writes one random history into both.
async fn history(maker: &mut Maker, oracle: &dyn Store, tested: &dyn Store) -> Result<(), String> {
    let mut now = START;
    for _ in 0..maker.random.random_range(4..16) {
        match maker.random.random_range(0..12) {
            0 => {
                now += 3;
                let (one, two) = (oracle.sweep_expired(now, 1000).await, tested.sweep_expired(now, 1000).await);
                same_removal(&one.unwrap(), &two.unwrap())?;
            }
            1 => {
                let (filter, max) = (maker.filter(), maker.random.random_range(0..3));
                let (one, two) = (oracle.remove(&filter, max).await, tested.remove(&filter, max).await);
                same_removal(&one.unwrap(), &two.unwrap()).map_err(|error| format!("{filter:?}: {error}"))?;
            }
            _ => {
                let count = maker.random.random_range(1..20);
                let batch: Vec<_> = (0..count).map(|_| Verified::vouch(maker.event())).collect();
                let (one, two) = (oracle.append(batch.clone(), now).await, tested.append(batch, now).await);
                same_write(&one.unwrap(), &two.unwrap())?;
            }
        }
    }
    Ok(())
}

/// Sends the same reads to both.
async fn questions(
    maker: &mut Maker,
    oracle: &dyn Store,
    tested: &dyn Store,
    count: usize,
    counts: bool,
    tally: &mut Tally,
) -> Result<(), String> {
    for _ in 0..count {
        let (filter, access) = (maker.filter(), maker.access());
        let after = maker.chance(0.2).then(|| maker.known()).flatten();
        let read = Read {
            filter: &filter,
            limit: maker.pick(&[0, 1, 2, 3, 5, 10, 200]),
            after: after.map(|event| Key { created_at: event.created_at(), id: event.id() }),
            access: access.as_ref(),
            at_least: relay::types::Position::default(),
            now: START + maker.random.random_range(0..20),
            // Where hashes collide, the tags of a text that does not come along cannot be rechecked.
            max_text_bytes: if counts { maker.pick(&[0, 500, 1 << 20]) } else { usize::MAX },
        };

        let (one, two) = (oracle.read(&read).await.unwrap(), tested.read(&read).await.unwrap());
        tally.pairs += 1;
        tally.with_rows += usize::from(!one.rows.is_empty());
        tally.cut += usize::from(!one.complete);
        if !same_page(&one, &two) {
            return Err(format!("{read:#?}\n{one:#?}\nagainst\n{two:#?}"));
        }

        if counts && maker.chance(0.1) {
            let filters: Vec<_> = (0..maker.random.random_range(1..4)).map(|_| maker.filter()).collect();
            let access = access.clone().unwrap_or_default();
            let (one, two) = (
                oracle.count(&filters, &access, Position::default(), read.now).await,
                tested.count(&filters, &access, Position::default(), read.now).await,
            );
            tally.counted += 1;
            let what = |counted: &Counted| (counted.number, counted.expires_at);
            if what(one.as_ref().unwrap()) != what(two.as_ref().unwrap()) {
                return Err(format!("{filters:#?} {access:?}\n{one:?} against {two:?}"));
            }
        }
    }
    Ok(())
}

/// Which store is compared with the oracle, and how a new one is opened, its hashes cut to a number of bits.
#[derive(Clone, Copy)]
enum Tested {
    Sqlite,
    Postgres,
    PostgresSmallThresholds,
    PostgresReplicas,
}

impl Tested {
    /// The store, and, where it is on PostgreSQL, the same to ask how it planned.
    async fn open(self, folder: &std::path::Path, hash_bits: u32) -> (Box<dyn Store>, Option<PostgresStore>) {
        let store: Box<dyn Store> = match self {
            Self::Sqlite => Box::new(store_kit::sqlite(folder, hash_bits).await),
            Self::Postgres => Box::new(store_kit::postgres(hash_bits).await),
            Self::PostgresSmallThresholds => {
                let store = store_kit::postgres_of_small_thresholds(hash_bits).await;
                return (Box::new(store.clone()), Some(store));
            }
            Self::PostgresReplicas => Box::new(store_kit::through_replicas(hash_bits).await),
        };
        (store, None)
    }
}

async fn compare(store: Tested, hash_bits: u32, pairs: usize, first_seed: u64) -> Tally {
    let mut tally = Tally::default();
    let mut seed = first_seed;
    while tally.pairs < pairs {
        let mut maker = Maker::new(seed);
        let folder = tempfile::tempdir().unwrap();
        let oracle = MemoryStore::new();
        let (tested, asked) = store.open(folder.path(), hash_bits).await;
        let exact = hash_bits == 64;
        let mut done = history(&mut maker, &oracle, &*tested).await;
        if done.is_ok() {
            done = questions(&mut maker, &oracle, &*tested, FILTERS_A_HISTORY, exact, &mut tally).await;
        }

        if let Err(difference) = done {
            panic!("seed {seed}, {hash_bits} bits: {difference}");
        }
        tested.close().await;
        if let Some(PlanCounts { recent, recent_full, probes, probes_full, counted_further }) =
            asked.map(|store| store.plan_counts())
        {
            let plan_counts = [recent_full, recent - recent_full, probes_full, probes - probes_full, counted_further];
            tally.plan_counts.iter_mut().zip(plan_counts).for_each(|(sum, plan_counts)| *sum += plan_counts);
        }
        seed += 1;
    }
    tally
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_agrees_with_the_oracle() {
    agrees_with_the_oracle(Tested::Sqlite, PAIRS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_agrees_with_the_oracle() {
    agrees_with_the_oracle(Tested::Postgres, PAIRS / 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_agrees_with_the_oracle_whichever_way_it_goes() {
    let [exact, _] = agrees_with_the_oracle(Tested::PostgresSmallThresholds, PAIRS / 10).await;
    let [recent_full, recent_not, _, probes_not, counted_further] = exact.plan_counts;
    assert!(
        [recent_full, recent_not, probes_not, counted_further].iter().all(|plan_counts| *plan_counts > 10),
        "{exact:?}"
    );
}

/// A page that the newest rows of one long list fill, which is rare among the oracle's few events.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_look_that_fills_the_page_answers_alone() {
    let store = store_kit::postgres_of_small_thresholds(64).await;
    let oracle = MemoryStore::new();
    let both = [tag("t", "x"), tag("l", "y")];
    for n in 0..60 {
        // Every third lacks one of the tags, and two share each second.
        let tags = if n % 3 == 0 { &both[..1] } else { &both };
        let event = store_kit::event(1, 1, START + n / 2, tags, &n.to_string());
        store_kit::append(&store, &[&event]).await;
        store_kit::append(&oracle, &[&event]).await;
    }

    let filter = Filter { tags: [tag_filter(b'l', &["y"]), tag_filter(b't', &["x"])].into(), ..store_kit::all() };
    for (limit, full) in [(1, 1), (5, 2), (7, 3), (9, 4), (20, 5), (39, 5), (40, 5), (200, 5)] {
        let read = store_kit::ask(&filter, limit);
        let (expected, page) = (oracle.read(&read).await.unwrap(), store.read(&read).await.unwrap());
        assert!(same_page(&expected, &page), "limit {limit}");
        assert_eq!(store.plan_counts().probes_full, full, "limit {limit}: {:?}", store.plan_counts());
    }
}

/// Every store fails the test unless replicas have answered nearly all of its reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_agrees_with_the_oracle_through_replicas() {
    agrees_with_the_oracle(Tested::PostgresReplicas, PAIRS / 20).await;
}

async fn agrees_with_the_oracle(store: Tested, pairs: usize) -> [Tally; 2] {
    let pairs = std::env::var("ORACLE_PAIRS").map_or(pairs, |pairs| pairs.parse().unwrap());
    let exact = compare(store, 64, pairs * 4 / 5, 1).await;
    println!("hashes of 64 bits: {exact:?}");
    let colliding = compare(store, 2, pairs / 5, 1_000_000).await;
    println!("hashes of 2 bits: {colliding:?}");
    assert!(exact.with_rows * 3 > exact.pairs && exact.cut * 10 > exact.pairs, "most questions were empty");
    [exact, colliding]
}

/// A way to be slightly wrong.
#[derive(Debug, Clone, Copy)]
enum Flaw {
    /// Ties are not broken by id.
    Ties,
    /// `complete` is guessed from the number of rows.
    Complete,
    /// Expired events still count.
    Expired,
    /// Private events are taken out after the limit.
    Access,
    /// What is for its author alone reaches whom it names.
    AuthorOnly,
    /// Of values that must all be there, one is enough.
    And,
}

/// The filter with one condition for each letter, which any of its values meets.
fn with_choices(filter: &Filter) -> Filter {
    let merged = filter.tags.chunk_by(|one, other| one.letter == other.letter).map(|conditions| {
        let values: Vec<&str> =
            conditions.iter().flat_map(|condition| &condition.values).map(|value| &**value).collect();
        tag_filter(conditions[0].letter, &values)
    });
    Filter { tags: merged.collect(), ..filter.clone() }
}

/// The store with a flaw.
struct Flawed(SqliteStore, Flaw);

impl Flawed {
    async fn read(&self, read: &Read<'_>) -> Page {
        let mut page = match self.1 {
            Flaw::Expired => self.0.read(&Read { now: Timestamp::MIN, ..read.clone() }).await.unwrap(),
            Flaw::Access => self.0.read(&Read { access: None, ..read.clone() }).await.unwrap(),
            Flaw::AuthorOnly => {
                let access = read.access.map(|access| Access {
                    private_kinds: PrivateKinds::new(access.private_kinds.as_slice().to_vec()),
                    ..access.clone()
                });
                self.0.read(&Read { access: access.as_ref(), ..read.clone() }).await.unwrap()
            }
            Flaw::And => self.0.read(&Read { filter: &with_choices(read.filter), ..read.clone() }).await.unwrap(),
            Flaw::Ties | Flaw::Complete => self.0.read(read).await.unwrap(),
        };
        match self.1 {
            Flaw::Ties => page.rows.sort_by_key(|row| (-row.key.created_at, std::cmp::Reverse(row.key.id))),
            Flaw::Complete => page.complete = page.rows.len() < read.limit,
            Flaw::Expired | Flaw::AuthorOnly | Flaw::And => {}
            Flaw::Access => page.rows.retain(|row| {
                let event = Event::from_stored(&row.text).unwrap();
                read.access.is_none_or(|access| access.may_read(&event))
            }),
        }
        page
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oracle_notices_flaws() {
    for flaw in [Flaw::Ties, Flaw::Complete, Flaw::Expired, Flaw::Access, Flaw::AuthorOnly, Flaw::And] {
        let mut noticed = 0;
        for seed in 1..=3 {
            let mut maker = Maker::new(seed);
            let folder = tempfile::tempdir().unwrap();
            let oracle = MemoryStore::new();
            let flawed = Flawed(store_kit::sqlite(folder.path(), 64).await, flaw);
            history(&mut maker, &oracle, &flawed.0).await.unwrap();
            for _ in 0..300 {
                let (filter, access) = (maker.filter(), maker.access());
                let read = Read {
                    access: access.as_ref(),
                    now: START + maker.random.random_range(0..20),
                    ..store_kit::ask(&filter, maker.pick(&[1, 2, 3, 5, 10]))
                };
                noticed += usize::from(!same_page(&oracle.read(&read).await.unwrap(), &flawed.read(&read).await));
            }
        }

        println!("{flaw:?}: noticed in {noticed} of 900 reads");
        assert!(noticed > 0, "{flaw:?} went unnoticed");
    }
}
