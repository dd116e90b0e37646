//! The index against the naive way: comparing every event with every filter.

use super::Matcher;
use super::filing::Field;
use crate::types::safeguard::{Safeguard, without};
use crate::types::{Event, EventId, Filter, Kind, PublicKey, Registration, TagFilter};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const LETTERS: &[u8] = b"eptdP";

/// A small number, low ones far more often, so that values collide.
fn skewed(rng: &mut StdRng, below: u8) -> u8 {
    let draw = rng.random_range(0..below);
    draw.min(rng.random_range(0..below)).min(rng.random_range(0..below))
}

fn author(rng: &mut StdRng) -> PublicKey {
    PublicKey::from_bytes([skewed(rng, 24); 32])
}

fn kind(rng: &mut StdRng) -> Kind {
    Kind([1, 7, 0, 6, 3, 30_023, 31_337, 9735][usize::from(skewed(rng, 8))])
}

/// Some are in hex, like ids and keys: the index stores those in another form.
fn value(rng: &mut StdRng) -> String {
    match skewed(rng, 16) {
        odd if odd % 2 == 1 => format!("{odd:064x}"),
        even => format!("value {even}"),
    }
}

fn event(rng: &mut StdRng) -> Event {
    let tags: Vec<_> = (0..rng.random_range(0..6))
        .map(|_| vec![char::from(*LETTERS.choose(rng).unwrap()).to_string(), value(rng)])
        .collect();
    Event::build(author(rng), rng.random_range(0..100), kind(rng), &tags, "", |_| [0; 64])
}

fn some<V: Ord>(rng: &mut StdRng, chance: f64, draw: impl Fn(&mut StdRng) -> V) -> Option<Box<[V]>> {
    let values: BTreeSet<V> = (0..rng.random_range(1..4)).map(|_| draw(rng)).collect();
    rng.random_bool(chance).then(|| values.into_iter().collect())
}

fn filter(rng: &mut StdRng, ids: &[EventId]) -> Filter {
    let mut letters: Vec<u8> = LETTERS.iter().copied().filter(|_| rng.random_bool(0.1)).collect();
    letters.sort_unstable();
    let mut tag = |letter| Some(TagFilter { letter, values: some(rng, 1.0, |rng| value(rng).into())? });
    let mut tags: Vec<TagFilter> = letters.into_iter().filter_map(&mut tag).collect();
    // Some ask for all of several values (NIP-91).
    if rng.random_bool(0.15) {
        let letter = *LETTERS.choose(rng).unwrap();
        let all: BTreeSet<Box<str>> = (0..2).map(|_| value(rng).into()).collect();
        tags.retain(|condition| condition.letter != letter);
        tags.extend(all.into_iter().map(|value| TagFilter { letter, values: [value].into() }));
        tags.sort_unstable_by(|a, b| (a.letter, &a.values).cmp(&(b.letter, &b.values)));
    }
    Filter {
        tags: tags.into(),
        ids: if rng.random_bool(0.1) { some(rng, 1.0, |rng| *ids.choose(rng).unwrap()) } else { None },
        authors: some(rng, 0.5, author),
        kinds: some(rng, 0.5, kind),
        since: rng.random_bool(0.2).then(|| rng.random_range(0..60)),
        until: rng.random_bool(0.2).then(|| rng.random_range(40..100)),
        limit: rng.random_bool(0.3).then(|| rng.random_range(0..3)),
    }
}

/// The counts of a comparison.
#[derive(Debug, Default)]
struct Comparison {
    pairs: usize,
    matches: usize,
    differences: usize,
}

/// Compares the index with the naive way over `events` events and about 200 sets of filters that come and go.
fn compare(seed: u64, events: usize, blind: Option<fn(Field) -> bool>) -> Comparison {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut matcher = Matcher::new();
    matcher.blind = blind;
    let mut plain: BTreeMap<u64, (Registration, Vec<Filter>)> = BTreeMap::new();
    let mut outcome = Comparison::default();
    // Filters may ask for ids, so the events are there first.
    let events: Vec<Event> = (0..events).map(|_| event(&mut rng)).collect();
    for (turn, event) in events.iter().enumerate() {
        let coming: Vec<EventId> = events.iter().skip(turn).take(40).map(Event::id).collect();
        while plain.len() < 200 || rng.random_bool(0.8) {
            let target = rng.random::<u64>();
            let mut filters: Vec<Filter> = (0..skewed(&mut rng, 5)).map(|_| filter(&mut rng, &coming)).collect();
            // Now and then a subscriber repeats another one's filters.
            if let Some((_, others)) = plain.values().nth(rng.random_range(0..400)) {
                filters.extend_from_slice(others);
            }
            plain.insert(target, (matcher.insert(&filters, target), filters));
        }
        while plain.len() > 200 {
            let target = *plain.keys().nth(rng.random_range(0..plain.len())).unwrap();
            let (registration, _) = plain.remove(&target).unwrap();
            assert_eq!(matcher.remove(registration), Some(target));
        }
        assert_eq!(matcher.len(), plain.len());
        let mut found = Vec::new();
        matcher.for_each_match(event, |target| found.push(*target));
        found.sort_unstable();
        let expected: Vec<u64> = plain
            .iter()
            .filter(|(_, (_, filters))| filters.iter().any(|filter| filter.matches(event)))
            .map(|(target, _)| *target)
            .collect();
        outcome.pairs += plain.len();
        outcome.matches += expected.len();
        outcome.differences += usize::from(found != expected);
    }
    for (target, (registration, _)) in plain {
        assert_eq!(matcher.remove(registration), Some(target));
    }
    assert_eq!((matcher.len(), matcher.distinct_filters()), (0, 0));
    assert!(matcher.filed.is_empty(), "every posting list is gone with its last filter");
    outcome
}

#[test]
fn index_and_plain_comparison_agree_on_a_million_pairs() {
    let outcomes: Vec<Comparison> = (0..5).map(|seed| compare(seed, 1_000, None)).collect();
    let sum = |of: fn(&Comparison) -> usize| outcomes.iter().map(of).sum::<usize>();
    let (pairs, matches) = (sum(|outcome| outcome.pairs), sum(|outcome| outcome.matches));
    println!("{pairs} pairs of an event and a set of filters, {matches} matches");
    assert_eq!(sum(|outcome| outcome.differences), 0);
    assert!(pairs >= 1_000_000 && matches >= 50_000, "{pairs} pairs, {matches} matches");
}

/// The control: an index that takes an event for a match that has one of several values finds too much.
#[test]
fn an_index_that_checks_one_condition_of_several_is_found_out() {
    let outcome = without(Some(Safeguard::AndTags), || compare(3, 500, None));
    assert!(outcome.differences > 10, "{outcome:?}");
}

/// The control: an index that misses any one field fails the comparison, so the comparison uses all fields.
#[test]
fn an_index_that_is_blind_to_one_field_is_found_out() {
    let blind: [fn(Field) -> bool; 6] = [
        |field| field == Field::Id,
        |field| matches!(field, Field::Tag(_)),
        |field| field == Field::Pair,
        |field| field == Field::Author,
        |field| field == Field::Kind,
        |field| field == Field::All,
    ];
    for (number, blind) in blind.into_iter().enumerate() {
        let outcome = compare(99, 300, Some(blind));
        assert!(outcome.differences > 0, "nobody misses field {number}: {outcome:?}");
    }
}

#[test]
fn equal_filters_are_filed_once_whatever_their_limit() {
    let mut matcher = Matcher::new();
    let wide = |limit| Filter { kinds: Some(Box::new([Kind(1)])), limit, ..Filter::default() };
    let registrations: Vec<_> =
        (0..100_000).map(|target| matcher.insert(&[wide(Some(target % 7)), wide(None)], target)).collect();
    assert_eq!((matcher.len(), matcher.distinct_filters()), (100_000, 1));
    let note = Event::build(PublicKey::from_bytes([1; 32]), 1, Kind(1), &[], "", |_| [0; 64]);
    let mut called = 0;
    matcher.for_each_match(&note, |_| called += 1);
    assert_eq!(called, 100_000, "each target once, though two of its filters match");
    assert_eq!(matcher.stats().candidates, 1);
    // In this order a search through the list would take 5,000,000,000 steps.
    for registration in registrations {
        assert!(matcher.remove(registration).is_some());
    }
    assert_eq!((matcher.len(), matcher.distinct_filters()), (0, 0));
}

#[test]
fn an_event_with_thousands_of_equal_or_wanted_tags_stays_cheap() {
    let mut matcher = Matcher::new();
    let asks = |value: String, since| Filter {
        tags: Box::new([TagFilter { letter: b't', values: Box::new([value.into()]) }]),
        since,
        ..Filter::default()
    };
    for number in 0..5_000 {
        let _ = matcher.insert(&[asks("same".into(), Some(number)), asks(format!("topic {number}"), None)], number);
    }
    let event =
        |tags: Vec<Vec<String>>| Event::build(PublicKey::from_bytes([1; 32]), 1, Kind(1), &tags, "", |_| [0; 64]);
    let mut called = 0;
    matcher.for_each_match(&event(vec![vec!["t".into(), "same".into()]; 5_000]), |_| called += 1);
    assert_eq!((called, matcher.stats().candidates), (2, 5_000), "a repeated tag is looked up once");
    // Values that agree in a part, for an index that compares only that part.
    let letters = "abcdefghijklmnopqrstuvwxyz012345";
    let hex: String = letters.bytes().map(|byte| format!("{byte:02x}")).collect();
    for value in [letters, &hex] {
        let _ = matcher.insert(&[asks(value.into(), None)], 0);
    }
    for alike in [["same", "same\0"], [letters, &hex]] {
        let repeated = alike.map(|value| vec!["t".to_owned(), value.to_owned()]).into_iter().cycle().take(5_000);
        matcher.for_each_match(&event(repeated.collect()), |_| ());
        let filed = if alike.contains(&"same") { 5_000 } else { 2 };
        assert_eq!(matcher.scratch.found.len(), filed, "{alike:?}: each is looked up once");
    }
    let every = (0..5_000).map(|number| vec!["t".into(), format!("topic {number}")]).collect();
    called = 0;
    matcher.for_each_match(&event(every), |_| called += 1);
    assert_eq!(called, 5_000);
}

/// Subscribers of one filter are called in another way than those of several.
#[test]
fn nobody_is_held_or_told_after_the_end_whoever_shares_the_filter() {
    let kind = |kind| Filter { kinds: Some(Box::new([Kind(kind)])), ..Filter::default() };
    let note = Event::build(PublicKey::from_bytes([1; 32]), 1, Kind(1), &[], "", |_| [0; 64]);
    let sets = [vec![kind(1)], vec![kind(1), kind(2)], vec![kind(1), kind(1)], vec![kind(1), Filter::default()]];
    let mut rng = StdRng::seed_from_u64(11);
    let mut matcher = Matcher::new();
    let mut open: Vec<(Registration, Arc<u32>)> = Vec::new();
    for number in 0..2_000 {
        // Between none and few, so that a filter has one subscriber, several, and one again.
        if open.is_empty() || (open.len() < 6 && rng.random_bool(0.5)) {
            let target = Arc::new(number);
            open.push((matcher.insert(sets.choose(&mut rng).unwrap(), target.clone()), target));
        } else {
            let (registration, target) = open.swap_remove(rng.random_range(0..open.len()));
            assert_eq!(matcher.remove(registration).as_deref(), Some(&*target));
            assert_eq!(Arc::strong_count(&target), 1);
        }
        let mut called = Vec::new();
        matcher.for_each_match(&note, |target| called.push(**target));
        called.sort_unstable();
        let mut expected: Vec<u32> = open.iter().map(|(_, target)| **target).collect();
        expected.sort_unstable();
        assert_eq!(called, expected);
    }
}

/// Values of each length that has a form of its own, and lists that outgrow their blocks and shrink again.
#[test]
fn lists_of_any_length_under_values_of_any_length_come_and_go() {
    let values = ["", "a", &"b".repeat(31), &"b".repeat(32), &"c".repeat(64), &"d".repeat(64), &"long ".repeat(99)];
    let asks = |since| Filter {
        tags: Box::new([TagFilter { letter: b't', values: values.map(Into::into).into() }]),
        since: Some(since),
        ..Filter::default()
    };
    let mut rng = StdRng::seed_from_u64(12);
    let mut matcher = Matcher::new();
    for most in [1, 4, 5, 16, 17, 18, 100, 3] {
        let mut open: Vec<_> = (0..most).map(|number| (matcher.insert(&[asks(number)], number), number)).collect();
        while !open.is_empty() {
            for value in values {
                let tags = [vec!["t".to_owned(), value.to_owned()]];
                let event = Event::build(PublicKey::from_bytes([1; 32]), 1_000, Kind(1), &tags, "", |_| [0; 64]);
                let mut called = BTreeSet::new();
                matcher.for_each_match(&event, |number| assert!(called.insert(*number)));
                assert_eq!(called, open.iter().map(|(_, number)| *number).collect());
            }
            let (registration, number) = open.swap_remove(rng.random_range(0..open.len()));
            assert_eq!(matcher.remove(registration), Some(number));
        }
        assert!(matcher.filed.is_empty());
    }
}

#[test]
fn times_beyond_32_bits_count_too() {
    let mut matcher = Matcher::new();
    let far = i64::from(u32::MAX);
    let times = [i64::MIN, -2, -1, 0, 1, 2, far - 1, far, far + 1, far + 2, i64::MAX];
    let bounds = || times.into_iter().map(Some).chain([None]);
    let filters: Vec<Filter> =
        bounds().flat_map(|since| bounds().map(move |until| Filter { since, until, ..Filter::default() })).collect();
    for (number, filter) in filters.iter().enumerate() {
        let _ = matcher.insert(std::slice::from_ref(filter), number);
    }
    for at in times {
        let event = Event::build(PublicKey::from_bytes([1; 32]), at, Kind(1), &[], "", |_| [0; 64]);
        let mut called = BTreeSet::new();
        matcher.for_each_match(&event, |number| assert!(called.insert(*number)));
        let matching = filters.iter().enumerate().filter(|(_, filter)| filter.matches(&event));
        assert_eq!(called, matching.map(|(number, _)| number).collect(), "at {at}");
    }
}

#[test]
fn a_filter_that_nothing_can_match_is_not_filed() {
    let mut matcher = Matcher::new();
    let impossible = Filter { since: Some(2), until: Some(1), ..Filter::default() };
    let registration = matcher.insert(&[impossible], ());
    assert_eq!((matcher.len(), matcher.distinct_filters()), (1, 0));
    assert_eq!(matcher.remove(registration), Some(()));
}

#[test]
fn a_registration_ends_once_even_if_its_place_is_taken_again() {
    let mut matcher = Matcher::new();
    let first = matcher.insert(&[Filter::default()], 1);
    let stale = Registration(first.0);
    assert_eq!(matcher.remove(first), Some(1));
    let second = matcher.insert(&[Filter::default()], 2);
    assert_eq!(second.0 as u32, stale.0 as u32, "the same place");
    assert_eq!(matcher.remove(stale), None);
    assert_eq!(matcher.remove(second), Some(2));
}

#[test]
fn a_question_takes_one_cache_line() {
    assert_eq!(size_of::<super::slab::SlabSlot<super::IndexedFilter<u32>>>(), 64);
    assert_eq!(size_of::<super::slab::SlabSlot<super::IndexedFilter<Arc<()>>>>(), 64);
}
