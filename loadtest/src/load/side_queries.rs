//! Queries beside the load: those that warm a cache before the start, and those that look for stored events at the end.

use super::ledger::Kept;
use crate::bench::Question;
use crate::client::{Client, ClientError, Reply, Scratch, event_id, unhex};
use rustc_hash::FxHashSet;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long the relay may be silent while an answer is due.
const SILENCE: Duration = Duration::from_secs(20);
/// How many questions are under way at the same time.
const TOGETHER: usize = 8;
const IDS_OF_A_QUESTION: usize = 100;
/// How often missing events are asked for again, and after which pause: a replica may lag behind an OK.
const TRIES: usize = 5;
const RETRY_AFTER: Duration = Duration::from_millis(400);

/// Asks each question and waits for its end; calls `on` with each event.
pub(super) async fn ask_all(
    client: &mut Client,
    scratch: &Scratch,
    questions: impl Iterator<Item = Question>,
    mut on: impl FnMut(&[u8]),
) -> Result<(), ClientError> {
    let mut questions = questions.enumerate().peekable();
    while questions.peek().is_some() {
        let mut under_way = FxHashSet::default();
        for (number, Question { verb, filter }) in questions.by_ref().take(TOGETHER) {
            let name = format!("e{number}");
            client.queue(&[b"[\"", verb.as_bytes(), b"\",\"", name.as_bytes(), b"\",", filter.as_bytes(), b"]"]);
            under_way.insert(name.into_bytes());
        }

        while !under_way.is_empty() {
            let mut over = Vec::new();
            let answers = client.receive(scratch, |message| match Reply::parse(message) {
                Reply::Event { event, .. } => on(event),
                Reply::Eose(name) => {
                    under_way.remove(name);
                    over.extend_from_slice(&[b"[\"CLOSE\",\"", name, b"\"]\n"].concat());
                }
                Reply::Closed { subscription, .. } | Reply::Count { subscription, .. } => {
                    under_way.remove(subscription);
                }
                _ => {}
            });

            timeout(SILENCE, answers).await.map_err(|_| ClientError::Refused("no EOSE in time".to_owned()))??;
            over.split(|byte| *byte == b'\n')
                .filter(|close| !close.is_empty())
                .for_each(|close| client.queue(&[close]));
        }
    }
    client.flush().await
}

/// How many of `kept`, which is sorted by author, the relay does not have. Asks for each author once; then asks by id
/// for events that did not come, since an answer has a limit or a replica lags.
pub(super) async fn missing(
    client: &mut Client,
    scratch: &Scratch,
    kept: &[Kept],
    (since, key): (u64, impl Fn(u32) -> String),
) -> Result<u64, ClientError> {
    let mut missing = kept.iter().map(|kept| kept.id).collect::<FxHashSet<_>>();
    let authors = kept.chunk_by(|one, other| one.author == other.author).filter_map(|of| of.first());
    let questions = authors.map(|kept| Question {
        verb: "REQ",
        filter: format!(r#"{{"authors":["{}"],"since":{since},"limit":5000}}"#, key(kept.author)),
    });
    let found = |event: &[u8], missing: &mut FxHashSet<[u8; 32]>| {
        event_id(event).and_then(unhex).is_some_and(|id| missing.remove(&id))
    };

    let author_events = |event: &[u8]| {
        found(event, &mut missing);
    };
    ask_all(client, scratch, questions, author_events).await?;
    for turn in 0..TRIES {
        if missing.is_empty() {
            break;
        }
        if turn > 0 {
            sleep(RETRY_AFTER).await;
        }
        let left = missing.iter().map(hex).collect::<Vec<_>>();
        let questions = left
            .chunks(IDS_OF_A_QUESTION)
            .map(|ids| Question { verb: "REQ", filter: format!(r#"{{"ids":["{}"]}}"#, ids.join("\",\"")) });
        ask_all(client, scratch, questions, |event| {
            found(event, &mut missing);
        })
        .await?;
    }
    Ok(missing.len() as u64)
}

fn hex(id: &[u8; 32]) -> String {
    crate::events::hex_text(id)
}
