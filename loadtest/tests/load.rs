//! Runs the load tester against relays that count their own violations: it must find and count each exactly, and must
//! find none in a correct relay.

#![allow(missing_docs, clippy::unwrap_used)]

mod kit;

use kit::{Lie, Store, door, lying};
use loadtest::load::{Options, Pace, Surroundings, Watcher, Workload, run};
use loadtest::report::{Run, judge};
use std::sync::Arc;
use std::time::Duration;

struct Silent;

impl Watcher for Silent {
    fn phase(&mut self, _: &str) {}
    fn progress(&mut self, _: u64, _: u64, _: &str) {}
}

fn options(urls: Vec<String>) -> Options {
    Options {
        urls,
        workload: Workload::Fanout,
        connections: 24,
        duration: Duration::from_secs(20),
        pace: Pace::InFlight(1),
        events: Some(400),
        seed: 1,
        authors: 50,
        threads: 2,
        sources: Vec::new(),
        // Short, since these relays deliver at once or never: a run with a lost delivery takes this much longer.
        patience: Duration::from_secs(3),
        late_after: Duration::from_secs(2),
        replay: None,
        filled: 2_000,
        filled_authors: 50,
        filled_until: 1_793_491_200,
        warm: false,
        check_stored: true,
    }
}

/// Four publishers and twenty subscribers.
const SUBSCRIBERS: u64 = 20;
const EVENTS: u64 = 400;

async fn loaded(lie: Lie, change: impl FnOnce(Options) -> Options) -> (Run, Arc<Store>) {
    let (url, store) = lying("", lie).await;
    let (run, stopped) = run(change(options(vec![url])), &Surroundings::default(), &mut Silent).await.unwrap();
    assert!(!stopped);
    (run, store)
}

/// The faults that a run found, each once.
fn faults(run: &Run) -> Vec<(&'static str, u64)> {
    run.ledger.faults().into_iter().filter(|(_, times)| *times > 0).collect()
}

#[tokio::test]
async fn an_honest_relay_is_clean() {
    let (run, _) = loaded(Lie::None, |options| options).await;
    assert_eq!(faults(&run), []);
    let ledger = run.ledger;
    assert_eq!((ledger.sent, ledger.accepted, ledger.looked_for), (EVENTS, EVENTS, EVENTS));
    assert_eq!((ledger.due, ledger.delivered, ledger.late), (EVENTS * SUBSCRIBERS, EVENTS * SUBSCRIBERS, 0));
    assert_eq!(run.latency_ms["delivery"].count, EVENTS * SUBSCRIBERS);
    assert_eq!(run.latency_ms["ok"].count, EVENTS);
    assert_eq!(judge(&[run], &[]).exit_status, 0);
}

#[tokio::test]
async fn several_addresses_are_one_relay() {
    let (first, store) = lying("", Lie::None).await;
    let urls = vec![first, door(&store).await];
    let (run, _) = run(options(urls), &Surroundings::default(), &mut Silent).await.unwrap();
    assert_eq!(faults(&run), []);
    assert_eq!(run.ledger.delivered, EVENTS * SUBSCRIBERS);
}

/// Two separate relays: half of the subscribers of each event are at the other one.
#[tokio::test]
async fn what_does_not_cross_over_is_lost() {
    let urls = vec![lying("", Lie::None).await.0, lying("", Lie::None).await.0];
    let change = |options| Options { check_stored: false, ..options };
    let (run, _) = run(change(options(urls)), &Surroundings::default(), &mut Silent).await.unwrap();
    assert_eq!(faults(&run), [("lost", EVENTS * SUBSCRIBERS / 2)]);
}

#[tokio::test]
async fn lost_deliveries_are_counted() {
    let (run, store) = loaded(Lie::Drop, |options| options).await;
    assert_eq!(store.told(), EVENTS * SUBSCRIBERS / 100);
    assert_eq!(faults(&run), [("lost", store.told())]);
    assert_eq!(run.ledger.delivered, EVENTS * SUBSCRIBERS - store.told());
    assert_eq!(judge(&[run], &[]).exit_status, 1);
}

#[tokio::test]
async fn doubled_deliveries_are_counted() {
    let (run, store) = loaded(Lie::Double, |options| options).await;
    assert_eq!(store.told(), EVENTS * SUBSCRIBERS / 100);
    assert_eq!(faults(&run), [("doubled", store.told())]);
    assert_eq!(run.ledger.delivered, EVENTS * SUBSCRIBERS);
}

#[tokio::test]
async fn late_deliveries_are_counted_and_are_no_violation() {
    let delay = Duration::from_millis(2_500);
    // Few events, so that no event overtakes a late one.
    let change = |options| Options { events: Some(10), patience: Duration::from_secs(10), ..options };
    let (run, store) = loaded(Lie::Delay(delay), change).await;
    assert_eq!((run.ledger.late, run.ledger.delivered), (store.told(), 10 * SUBSCRIBERS));
    assert_eq!(store.told(), 2);
    assert!(run.latency_ms["delivery"].max >= 2_500.0);
    assert!(faults(&run).iter().all(|(fault, _)| *fault == "out_of_order"), "{:?}", faults(&run));
    let late = "late>1".parse().unwrap();
    assert_eq!(
        judge(&[Run { ledger: loadtest::load::Totals { out_of_order: 0, ..run.ledger }, ..run }], &[late]).exit_status,
        4
    );
}

#[tokio::test]
async fn reordered_deliveries_are_counted() {
    let (run, store) = loaded(Lie::Reorder, |options| options).await;
    assert!(store.told() > 40, "{}", store.told());
    // Deliveries that were held back when the publisher stopped never came.
    let held = EVENTS * SUBSCRIBERS - run.ledger.delivered;
    assert_eq!(run.ledger.lost, held);
    assert_eq!(run.ledger.out_of_order, store.told());
    assert!(faults(&run).iter().all(|(fault, _)| ["out_of_order", "lost"].contains(fault)));
}

#[tokio::test]
async fn lies_in_oks_are_counted() {
    let lies = EVENTS / 100;
    let change = |options: Options| Options { patience: Duration::from_secs(2), ..options };
    for (lie, expected) in [
        (Lie::LoseEvents, vec![("lost", lies * SUBSCRIBERS), ("not_stored", lies)]),
        (Lie::ForgetEvents, vec![("not_stored", lies)]),
        (Lie::DenyEvents, vec![("refused_but_delivered", lies * SUBSCRIBERS)]),
    ] {
        let (run, store) = loaded(lie, change).await;
        assert_eq!((store.told(), faults(&run)), (lies, expected), "{lie:?}");
    }

    // A second OK after the event's account was settled answers nothing.
    let (run, store) = loaded(Lie::OkTwice, change).await;
    let again = run.ledger.answered_again + run.ledger.answers_to_nothing;
    assert_eq!((store.told(), again), (lies, lies), "{:?}", faults(&run));
    assert!(faults(&run).iter().all(|(fault, _)| ["answered_again", "answers_to_nothing"].contains(fault)));

    // In a closed loop a missing OK would hold back the next event, so this run has a rate.
    let (run, store) = loaded(Lie::NoOk, |options| Options { pace: Pace::Rate(200.0), ..change(options) }).await;
    assert_eq!((store.told(), faults(&run)), (lies, vec![("unanswered", lies)]));
}

#[tokio::test]
async fn a_standard_run_is_clean_through_reconnects_and_finds_what_goes_astray() {
    let standard = |options| Options {
        workload: Workload::Standard,
        connections: 60,
        // Slow enough for a relay that compares every event with every question.
        pace: Pace::Rate(50.0),
        events: None,
        duration: Duration::from_secs(4),
        patience: Duration::from_secs(8),
        ..options
    };

    let (run, _) = loaded(Lie::None, standard).await;
    assert_eq!(faults(&run), []);
    assert_eq!(run.ledger.sent, 200);
    assert_eq!(run.counts.asked, 4 * 200);

    // A question that is under way when its connection reconnects is not counted.
    assert!(run.latency_ms["query"].count + 10 > run.counts.asked, "{:?}", run.counts);
    assert!(run.ledger.due > 700 && run.ledger.delivered == run.ledger.due, "{:?}", run.ledger);
    let (run, store) = loaded(Lie::NoEose, standard).await;
    assert!(store.told() >= 5);
    assert_eq!(faults(&run), [("questions_unanswered", store.told())]);

    // Without questions, since those get the stray events too.
    let (run, store) = loaded(Lie::Misdeliver, |options| Options {
        workload: Workload::Storm,
        duration: Duration::from_secs(5),
        ..standard(options)
    })
    .await;

    assert!(run.counts.reconnected >= 60, "{:?}", run.counts);
    assert!(store.told() > 50);
    // Some of the strays went to connections that had just left.
    let found = run.ledger.unexpected;
    assert_eq!(faults(&run), [("unexpected", found)]);
    assert!(found <= store.told() && found * 10 >= store.told() * 8, "{found} of {}", store.told());
}

#[tokio::test]
async fn every_shape_of_question_is_measured_cold_and_hot() {
    let (url, _) = lying("", Lie::None).await;
    let options = Options {
        workload: Workload::Query,
        pace: Pace::Rate(400.0),
        events: None,
        duration: Duration::from_secs(2),
        ..options(vec![url])
    };
    let (run, _) = run(options, &Surroundings::default(), &mut Silent).await.unwrap();
    assert_eq!((run.counts.asked, run.counts.answered), (800, 800));
    assert_eq!(faults(&run), []);
    for class in ["query/by id, cold", "query/by id, hot", "query/COUNT of a popular #p, cold"] {
        assert!(run.latency_ms.contains_key(class), "{class}: {:?}", run.latency_ms.keys());
    }
}

#[tokio::test]
async fn a_broken_connection_excuses_what_it_had_under_way() {
    let (run, _) =
        loaded(Lie::HangUp, |options| Options { pace: Pace::Rate(100.0), events: Some(50), ..options }).await;
    assert!(run.errors.0["connection: the server hung up"] >= SUBSCRIBERS);
    // The connections reconnect, ask for the events that they missed, and have all in the end.
    assert_eq!(faults(&run), []);
    assert!(run.ledger.caught_up > 0);
    assert_eq!(run.ledger.delivered, 50 * SUBSCRIBERS);
}

#[tokio::test]
async fn nobody_there_is_an_error() {
    // A port without a listener: it was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let options = Options { events: Some(10), connections: 2, ..options(vec![format!("ws://127.0.0.1:{port}")]) };
    let error = run(options, &Surroundings::default(), &mut Silent).await.unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn real_events_are_replayed() {
    let authors = loadtest::events::Authors::derive(3, 20);
    let plan = loadtest::events::Plan {
        seed: 3,
        events: 200,
        until: 1_700_000_000,
        span_seconds: 1_000_000,
        kinds: loadtest::events::Kinds::Mixed,
    };

    let file = tempfile::NamedTempFile::new().unwrap();
    loadtest::events::fill(plan, &authors, true, &mut file.as_file(), || ()).unwrap();
    let change = |options| Options {
        workload: Workload::Standard,
        replay: Some(file.path().to_owned()),
        pace: Pace::Rate(200.0),
        events: None,
        ..options
    };

    let (run, _) = loaded(Lie::None, change).await;
    assert_eq!((faults(&run), run.ledger.accepted), (vec![], 200));
    assert!(run.ledger.delivered > 500, "{:?}", run.ledger);
}
