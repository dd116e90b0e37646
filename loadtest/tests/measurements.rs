//! Runs the measurements against a relay that counts its own violations: they must count right, and find each.

#![allow(missing_docs, clippy::unwrap_used)]

mod kit;

use kit::{Lie, matches, relay};
use loadtest::bench::{
    Live, LivePace, Publish, Question, QuestionSchedule, Round, Shape, Site, live, publish, query, questions,
};
use loadtest::client::ClientError;
use loadtest::events::{Authors, Generator, Keys, Kinds, Plan, Random, Signed, fill, sign_all};
use serde_json::Value;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::LocalSet;

const PLAN: Plan = Plan { seed: 1, events: 3_000, until: 1_793_491_200, span_seconds: 1_000_000, kinds: Kinds::Mixed };

fn stored(authors: &Authors) -> (String, Keys) {
    let mut out = Vec::new();
    let keys = fill(PLAN, authors, false, &mut out, || {}).unwrap();
    (String::from_utf8(out).unwrap(), keys)
}

fn fresh(authors: &Authors, events: usize, kinds: Kinds) -> Vec<Signed> {
    sign_all(Generator::new(Plan { seed: 9, events, kinds, ..PLAN }, authors).collect(), authors)
}

async fn published(site: &Site, events: Vec<Signed>) -> Round {
    let plan = Publish { connections: 4, in_flight: 10, at_most: Duration::from_secs(60) };
    publish(site, plan, events).await.unwrap()
}

#[tokio::test]
async fn publishing_counts_new_events_only() {
    let authors = Authors::derive(1, 50);
    let events = fresh(&authors, 500, Kinds::Regular);
    LocalSet::new()
        .run_until(async {
            let site = relay("", Lie::None).await;
            let first = published(&site, events[..400].to_vec()).await;
            assert_eq!((first.operations, first.faults.is_empty()), (400, true));
            assert!(first.latency.percentiles().is_some() && first.wall > Duration::ZERO);
            let again = published(&site, events.clone()).await;
            assert_eq!(again.operations, 100);
            assert_eq!(again.faults.0["duplicate (not a new event)"], 400);
            let refused = published(&relay("", Lie::RefuseEvents).await, events).await;
            assert_eq!((refused.operations, refused.faults.0["refused: blocked: no"]), (0, 500));
        })
        .await;
}

#[tokio::test]
async fn every_shape_of_question_finds_as_many_rows_as_there_are() {
    let authors = Authors::derive(1, 400);
    let (text, keys) = stored(&authors);
    let events = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>();
    LocalSet::new()
        .run_until(async {
            let site = relay(&text, Lie::None).await;
            for shape in Shape::ALL {
                let asked: Rc<[Question]> = questions(shape, 1, &keys, &authors, &mut Random::new(5)).into();
                let round = query(&site, 2, Duration::from_millis(100), QuestionSchedule::in_turn(asked.clone()))
                    .await
                    .unwrap();
                let filter: Value = serde_json::from_str(&asked[0].filter).unwrap();
                let limit = filter["limit"].as_u64().unwrap_or(u64::MAX);
                let there = events.iter().filter(|event| matches(&filter, event)).count() as u64;
                assert!(there > 0 && round.operations > 0, "{shape:?} measures emptiness");
                assert_eq!(round.rows, round.operations * there.min(limit), "{shape:?}");
                assert!(round.faults.is_empty());
            }
        })
        .await;
}

#[tokio::test]
async fn a_refused_question_is_a_fault_and_no_answer() {
    let authors = Authors::derive(1, 400);
    let (text, keys) = stored(&authors);
    LocalSet::new()
        .run_until(async {
            let site = relay(&text, Lie::RefuseQuestions).await;
            let asked = questions(Shape::Id, 5, &keys, &authors, &mut Random::new(5)).into();
            let round = query(&site, 2, Duration::from_millis(50), QuestionSchedule::in_turn(asked)).await.unwrap();
            assert_eq!(round.operations, 0);
            assert!(round.faults.0["CLOSED error: no"] > 0);
        })
        .await;
}

async fn delivered(lie: Lie, pace: LivePace) -> Result<Round, ClientError> {
    let authors = Authors::derive(1, 50);
    let events = fresh(&authors, 30, Kinds::NotesOf(3));
    LocalSet::new()
        .run_until(async {
            let site = relay("", lie).await;
            let plan = Live { subscribers: 20, pace, events, author: 3, silence: Duration::from_millis(500) };
            live(&site, plan, &authors, &mut Random::new(1)).await
        })
        .await
}

#[tokio::test]
async fn every_delivery_is_counted_once() {
    for pace in [LivePace::Flood { under_way: 5 }, LivePace::Steady { per_second: 200.0 }] {
        let round = delivered(Lie::None, pace).await.unwrap();
        assert_eq!((round.operations, round.faults.is_empty()), (20 * 30, true), "{:?}", round.faults);
        assert!(round.latency.percentiles().is_some());
    }
}

#[tokio::test]
async fn doubled_and_lost_deliveries_are_faults() {
    let round = delivered(Lie::DoubleDeliveries, LivePace::Flood { under_way: 5 }).await.unwrap();
    assert_eq!((round.operations, round.faults.0["delivered twice"]), (20 * 30, 20 * 10));
    let round = delivered(Lie::HangUp, LivePace::Steady { per_second: 200.0 }).await.unwrap();
    assert_eq!((round.operations, round.faults.0["deliveries lost"]), (20 * 4, 20 * 26));
    assert_eq!(round.faults.0["subscriber: the server hung up"], 20);
}
