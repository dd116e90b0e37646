//! The hints of EOSE about further events (NIP-67), over the wire and compared with the store.

#![allow(missing_docs, clippy::unwrap_used)]

mod kit;

use kit::{Author, Client, Relay};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use relay::store::sqlite::{Options, SqliteStore};
use relay::types::{Event, Filter, Kind, PrivateKinds, now};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

static ASKED: AtomicUsize = AtomicUsize::new(0);

/// Asks for some filters; returns the contents of the stored events, and the hints. `None`: the EOSE has two elements.
async fn ask(client: &mut Client, filters: &[Value]) -> (Vec<String>, Option<BTreeSet<String>>) {
    // A new id each time: else live events of the last subscription would be taken for stored ones.
    let name = ASKED.fetch_add(1, Ordering::Relaxed).to_string();
    let mut request = vec![json!("REQ"), json!(name)];
    request.extend_from_slice(filters);
    client.send(Value::Array(request)).await;
    let mut contents = Vec::new();
    loop {
        let next = client.next_where(|message| message[1] == name.as_str() && message[0] != "OK").await;
        match next[0].as_str().unwrap() {
            "EVENT" => contents.push(next[2]["content"].as_str().unwrap().to_owned()),
            "EOSE" => {
                let hints = next.get(2).map(|hints| {
                    hints.as_array().unwrap().iter().map(|hint| hint.as_str().unwrap().to_owned()).collect()
                });
                client.send(json!(["CLOSE", name])).await;
                return (contents, hints);
            }
            _ => panic!("instead of events came {next}"),
        }
    }
}

fn hints(list: &[&str]) -> Option<BTreeSet<String>> {
    Some(list.iter().map(ToString::to_string).collect())
}

async fn relay(hints_on: bool, overrun: usize, folder: &std::path::Path) -> Relay {
    let store = SqliteStore::open(Options::new(folder.join("relay.db"))).await.unwrap();
    Relay::with(|setup| {
        setup.store = Arc::new(store);
        setup.settings.query.eose_hints = hints_on;
        setup.settings.query.boundary_overrun = overrun;
        setup.settings.private_kinds = PrivateKinds::default().with_author_only(vec![Kind(78)]);
    })
    .await
}

#[tokio::test]
async fn eose_says_whether_there_is_more() {
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(true, 20, folder.path()).await;
    let (author, ann, mut client) = (Author::new(), Author::new(), relay.connect().await);
    let at = now() - 100;
    // Three in each of four seconds.
    let notes: Vec<Event> = (0..12).map(|n| author.event_at(at - n / 3, 1, &[], &n.to_string())).collect();
    for note in &notes {
        assert!(client.publish(note).await.0);
    }
    let wrap = author.event(1059, &[&["p", &ann.pubkey().to_hex()]], "wrap");
    assert!(client.publish(&wrap).await.0 && client.publish(&author.event(78, &[], "data")).await.0);

    for (limit, found, told) in [(1, 1, "more"), (2, 3, "more"), (3, 3, "more"), (4, 6, "more"), (11, 12, "finish")] {
        let (contents, given) = ask(&mut client, &[json!({"kinds": [1], "limit": limit})]).await;
        assert_eq!((contents.len(), given), (found, hints(&[told])), "limit {limit}");
        // The returned seconds are complete, unless one event alone was asked for.
        let seconds: BTreeSet<_> = contents.iter().map(|n| n.parse::<usize>().unwrap() / 3).collect();
        assert!(limit == 1 || seconds.len() * 3 == contents.len(), "limit {limit}: {contents:?}");
    }
    assert_eq!(ask(&mut client, &[json!({"kinds": [1], "limit": 0})]).await.1, None, "nothing is known");
    assert_eq!(ask(&mut client, &[json!({"kinds": []})]).await, (Vec::new(), hints(&["finish"])));
    let id = notes[0].id().to_hex();
    assert_eq!(ask(&mut client, &[json!({"ids": [id]})]).await.1, hints(&["finish"]));

    // By the filter alone, whether or not there is anything.
    for kinds in [json!([1, 1059]), json!([1, 78]), json!([1, 21_059])] {
        let (contents, given) = ask(&mut client, &[json!({"kinds": kinds})]).await;
        assert_eq!((contents.len(), given), (12, hints(&["auth"])), "{kinds}");
    }
    assert_eq!(ask(&mut client, &[json!({})]).await.1, None);
    let both = [json!({"kinds": [1059]}), json!({"kinds": [1], "limit": 2})];
    assert_eq!(ask(&mut client, &both).await.1, hints(&["auth", "more"]));
    assert!(client.authenticate(&ann).await.0);
    assert_eq!(ask(&mut client, &both).await.1, hints(&["more"]), "who has authenticated is not told to");
    let mine = json!({"kinds": [1059], "#p": [ann.pubkey().to_hex()]});
    assert_eq!(ask(&mut client, &[mine]).await, (vec!["wrap".to_owned()], hints(&["finish"])));
    let theirs = json!({"kinds": [78], "authors": [author.pubkey().to_hex()]});
    assert_eq!(ask(&mut client, &[theirs]).await, (Vec::new(), None), "something may be held back");
}

/// The control of all others here, and what most relays do.
#[tokio::test]
async fn without_the_setting_an_eose_has_two_elements_and_limits_are_exact() {
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(false, 20, folder.path()).await;
    let (author, mut client, at) = (Author::new(), relay.connect().await, now() - 100);
    for n in 0..6 {
        assert!(client.publish(&author.event_at(at, 1, &[], &n.to_string())).await.0);
    }
    for (limit, found) in [(2, 2), (10, 6)] {
        let (contents, given) = ask(&mut client, &[json!({"kinds": [1], "limit": limit})]).await;
        assert_eq!((contents.len(), given), (found, None));
    }
    relay.change(|settings| settings.query.eose_hints = true);
    assert_eq!(ask(&mut client, &[json!({"kinds": [1], "limit": 3})]).await.1, hints(&["finish"]));
}

/// Random events and filters, asked for repeatedly while events come and go: the hints of EOSE are true of the stored
/// events.
#[tokio::test]
async fn hints_are_true_of_what_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(true, 3, folder.path()).await;
    let (author, mut client, at) = (Author::new(), relay.connect().await, now() - 1_000);
    let mut rng = StdRng::seed_from_u64(67);
    let mut stored: Vec<Event> = Vec::new();
    let (mut finished, mut unfinished, mut over) = (0, 0, 0);
    for round in 0..300 {
        if rng.random_bool(0.15) && !stored.is_empty() {
            let gone = stored.swap_remove(rng.random_range(0..stored.len()));
            assert!(client.publish(&author.event(5, &[&["e", &gone.id().to_hex()]], "")).await.0);
        } else {
            let topic = rng.random_range(0..3).to_string();
            let kind = [1, 7][rng.random_range(0..2)];
            let note = author.event_at(at + rng.random_range(0..20), kind, &[&["t", &topic]], &round.to_string());
            assert!(client.publish(&note).await.0);
            stored.push(note);
        }

        let filters: Vec<Value> = (0..rng.random_range(1..3))
            .map(|_| {
                let (kind, limit) = ([1, 7][rng.random_range(0..2)], rng.random_range(1..12));
                let mut filter = json!({"kinds": [kind], "limit": limit});
                if rng.random_bool(0.5) {
                    filter["#t"] = json!([rng.random_range(0..3).to_string()]);
                }
                filter
            })
            .collect();
        let (contents, given) = ask(&mut client, &filters).await;

        let parsed: Vec<Filter> = filters.iter().map(|filter| Filter::parse(&filter.to_string()).unwrap()).collect();
        let matches = stored.iter().filter(|event| parsed.iter().any(|filter| filter.matches(event))).count();
        let asked: usize = parsed.iter().filter_map(|filter| filter.limit).map(|limit| limit as usize).sum();
        let given = given.unwrap_or_default();
        assert!(!given.contains("finish") || contents.len() == matches, "{filters:?}: {given:?}, {matches} match");
        assert!(!given.contains("more") || contents.len() < matches, "{filters:?}: {given:?}, {matches} match");
        assert!(contents.len() <= asked + 3 * parsed.len());
        finished += usize::from(given.contains("finish"));
        unfinished += usize::from(given.contains("more"));
        over += usize::from(contents.len() > asked);
    }
    assert!(finished > 20 && unfinished > 20 && over > 5, "{finished} finished, {unfinished} not, {over} over");
}
