//! Which queries share a key, what a query cuts out of an entry, and what that saves.

use super::*;
use crate::types::{EventId, Key, Kind, Row};

const NOW: Timestamp = 1_790_000_000;

fn ask(filter: &Filter, limit: usize) -> RowsQuery {
    RowsQuery::new(filter, &Access::default(), limit.into(), NOW, &SECRET.with(Clone::clone)).unwrap()
}

thread_local!(static SECRET: RandomState = RandomState::new());

fn kind_1() -> Filter {
    Filter { kinds: Some([Kind(1)].into()), ..Filter::default() }
}

#[test]
fn what_means_the_same_now_has_one_key() {
    let plain = ask(&kind_1(), 20);
    for filter in [
        Filter { limit: Some(20), ..kind_1() },
        Filter { limit: Some(500), until: Some(NOW), ..kind_1() },
        Filter { until: Some(NOW + 3_600), since: Some(1), ..kind_1() },
    ] {
        assert_eq!(ask(&filter, 20).hashed, plain.hashed, "{filter:?}");
    }
    assert_ne!(ask(&Filter { until: Some(NOW - 3_600), ..kind_1() }, 20).hashed, plain.hashed);
}

#[test]
fn a_window_becomes_at_most_twice_as_long_and_seldom_changes_its_key() {
    for window in [1, 60, 3_600, 86_400, 30 * 86_400, 10 * 366 * 86_400] {
        let mut keys = std::collections::HashSet::new();
        for later in 0..1_000 {
            let now = NOW + later * window / 1_000;
            let coarse = coarse(now - window, now).unwrap_or(0);
            assert!(coarse <= now - window && coarse > now - window - window.max(LEAST_WINDOW), "{window}");
            keys.insert(coarse);
        }
        assert!(keys.len() <= 3, "{window}: {}", keys.len());
    }
    assert_eq!(coarse(Timestamp::MIN, NOW), None);
    assert!(coarse(Timestamp::MAX, NOW).is_some_and(|since| since > Timestamp::MAX - 64));
}

#[test]
fn no_more_is_read_than_a_quarter_beyond_what_is_asked_for_and_a_few() {
    for limit in 1..6_000 {
        let rows = ask(&kind_1(), limit).rows_to_read();
        assert!(rows >= limit + 4 && rows <= limit + limit / 4 + 8, "{limit}: {rows}");
    }
}

fn entry(seconds: &[Timestamp], complete: bool) -> Snapshot {
    let row = |(at, created_at): (usize, &Timestamp)| Row {
        key: Key { created_at: *created_at, id: EventId::from_bytes([at as u8; 32]) },
        expires_at: (created_at % 10 == 9).then_some(NOW),
        text: "".into(),
    };
    let rows = seconds.iter().enumerate().map(row).collect();
    Snapshot { head: Head::default(), limit: 100, rows, complete, read_at: 0 }
}

fn answer(filter: &Filter, limit: usize, entry: &Snapshot) -> Option<(Vec<Timestamp>, bool)> {
    let answer: Snapshot = ask(filter, limit).answer(entry, entry.head)?;
    Some((answer.rows.iter().map(|row| row.key.created_at).collect(), answer.complete))
}

#[test]
fn an_answer_is_cut_from_an_entry_that_reaches_back_far_enough_and_from_no_other() {
    let rows = [108, 107, 105, 105, 103, 101];
    let (partial, whole) = (entry(&rows, false), entry(&rows, true));
    assert_eq!(answer(&kind_1(), 3, &partial), Some((vec![108, 107, 105], false)));
    assert_eq!(answer(&kind_1(), 6, &partial), Some((rows.to_vec(), false)));
    assert_eq!(answer(&kind_1(), 7, &partial), None);
    assert_eq!(answer(&kind_1(), 7, &whole), Some((rows.to_vec(), true)));
    let since = |since| Filter { since: Some(since), ..kind_1() };
    assert_eq!(answer(&since(105), 7, &partial), Some((vec![108, 107, 105, 105], true)));
    assert_eq!(answer(&since(101), 7, &partial), None, "others may have been made in that second");
    assert_eq!(answer(&since(101), 6, &partial), Some((rows.to_vec(), false)));
    assert_eq!(answer(&since(105), 2, &partial), Some((vec![108, 107], false)));
    let until = Filter { until: Some(NOW), ..since(0) };
    assert_eq!(answer(&until, 7, &entry(&[NOW + 5, NOW, 7], true)), Some((vec![NOW, 7], true)));
}

#[test]
fn what_has_expired_is_no_part_of_an_answer() {
    assert_eq!(answer(&kind_1(), 2, &entry(&[109, 108, 99, 98, 97], false)), Some((vec![108, 98], false)));
    assert_eq!(answer(&kind_1(), 2, &entry(&[109, 108, 99], false)), None);
    assert_eq!(answer(&kind_1(), 1, &entry(&[109, 108, 99], true)), Some((vec![108], true)));
}

#[test]
fn readers_who_may_see_different_things_have_different_keys_or_none() {
    let any = Filter::default();
    let secret = RandomState::new();
    let me = crate::types::PublicKey::from_bytes([1; 32]);
    let known = Access { authenticated: [me].into_iter().collect(), ..Access::default() };
    let open = Access { private_kinds: crate::types::PrivateKinds::new(Vec::new()), ..Access::default() };
    let hashed = |filter: &Filter, access: &Access| {
        RowsQuery::new(filter, access, 5.into(), NOW, &secret).map(|query| query.hashed)
    };
    assert!(hashed(&any, &known).is_none(), "it may hold what only they may read");
    assert_ne!(hashed(&any, &Access::default()), hashed(&any, &open));
    assert_eq!(hashed(&kind_1(), &known), hashed(&kind_1(), &Access::default()));
    let wraps = Filter { kinds: Some([Kind(1), Kind::GIFT_WRAP].into()), ..Filter::default() };
    assert!(hashed(&wraps, &known).is_none());
    assert_ne!(hashed(&wraps, &Access::default()), hashed(&wraps, &open));
}

/// The queries of a thousand users of five sorts of clients in an hour, in order: the second and the filter.
fn a_mix_of_clients() -> Vec<(Timestamp, Filter)> {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    let mut rng = StdRng::seed_from_u64(9);
    let user = |number: u32| {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&number.to_le_bytes());
        crate::types::PublicKey::from_bytes(key)
    };
    // Few filters are asked for by many users: about Zipf.
    let popular = |rng: &mut StdRng, of: f64| of.powf(rng.random::<f64>()) as u32;
    let tag = |letter, value: String| -> Box<[crate::types::TagFilter]> {
        Box::new([crate::types::TagFilter { letter, values: Box::new([value.into()]) }])
    };
    (0..20_000)
        .map(|at| {
            let now = NOW + at * 3_600 / 20_000;
            let me = rng.random_range(0..1_000);
            let limit = Some([20, 50, 100, 500][me as usize % 4]);
            let since = match me % 5 {
                0 => None,
                1 => Some(now - 3_600),
                2 => Some(now - 86_400),
                // Since the user was here last.
                _ => Some(now - rng.random_range(60..200_000)),
            };
            let until = (me % 7 == 0).then_some(now);
            let common = Filter { since, until, limit, ..Filter::default() };
            let filter = match rng.random_range(0..10) {
                0..2 => Filter { kinds: Some([Kind(1)].into()), ..common },
                2..4 => {
                    let mut follows: Vec<_> = (0..50).map(|n| user(me * 31 + n * 7)).collect();
                    follows.sort_unstable();
                    Filter { authors: Some(follows.into()), kinds: Some([Kind(1), Kind(6)].into()), ..common }
                }
                4..7 => {
                    let author = user(popular(&mut rng, 50_000.0));
                    let limit = (me % 2 == 0).then_some(1);
                    Filter { authors: Some([author].into()), kinds: Some([Kind(0)].into()), limit, ..Filter::default() }
                }
                7..9 => {
                    let thread = popular(&mut rng, 20_000.0).to_string();
                    let tags = tag(b'e', thread);
                    Filter { tags, kinds: Some([Kind(1), Kind(7)].into()), limit, ..Filter::default() }
                }
                _ => Filter { tags: tag(b'p', user(me).to_hex()), ..common },
            };
            (now, filter)
        })
        .collect()
}

/// The share of queries whose key was asked before: the hit rate of a cache without bounds.
fn repeated(key: impl Fn(Timestamp, &Filter) -> Filter) -> f64 {
    let mix = a_mix_of_clients();
    let mut seen = std::collections::HashSet::new();
    let repeated = mix.iter().filter(|(now, filter)| !seen.insert(key(*now, filter))).count();
    repeated as f64 / mix.len() as f64
}

#[test]
fn canonical_keys_make_most_questions_of_a_mix_of_clients_repetitions() {
    let as_asked = repeated(|_, filter| filter.clone());
    let no_limit = repeated(|_, filter| Filter { limit: None, ..filter.clone() });
    let canonical = repeated(|now, filter| {
        let secret = RandomState::new();
        RowsQuery::new(filter, &Access::default(), 20.into(), now, &secret).unwrap().hashed.key().filters()[0].clone()
    });
    let no_since = repeated(|_, filter| Filter { limit: None, since: None, until: None, ..filter.clone() });
    println!(
        "repetitions: as asked {as_asked:.3}, without limit {no_limit:.3}, canonical {canonical:.3}, without times \
         {no_since:.3}"
    );
    assert!(canonical > as_asked + 0.15, "{as_asked} {canonical}");
    assert!(canonical > no_since - 0.1, "{canonical} {no_since}");
}
