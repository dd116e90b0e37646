//! Measures how many questions a second a relay answers, and how long each takes.

use super::{Meter, Question, Round, SILENCE, Site};
use crate::client::{Client, ClientError, Reply};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The questions to ask, their order, and how many were asked. Rounds that share an agenda go on where the last one
/// ended.
#[derive(Debug, Clone)]
pub struct QuestionSchedule {
    /// The different questions.
    pub questions: Rc<[Question]>,
    /// Which of them to ask, one after the other; begins again after the last.
    pub order: Rc<[u32]>,
    /// How many were asked.
    pub asked: Rc<Cell<usize>>,
    /// The most questions to ask.
    pub at_most: usize,
}

impl QuestionSchedule {
    /// All questions in turn, for ever.
    pub fn in_turn(questions: Rc<[Question]>) -> Self {
        let order = (0..questions.len() as u32).collect();
        Self { questions, order, asked: Rc::default(), at_most: usize::MAX }
    }

    fn next(&self) -> Option<&Question> {
        let asked = self.asked.get();
        if asked >= self.at_most || self.order.is_empty() {
            return None;
        }
        self.asked.set(asked + 1);
        self.questions.get(self.order[asked % self.order.len()] as usize)
    }
}

struct QueryShared {
    schedule: QuestionSchedule,
    ends: Instant,
    last: Cell<Instant>,
    round: RefCell<Round>,
}

/// Asks the agenda's questions for `lasts`, over `connections` that each wait for an answer before the next question
/// (REQ, rows, EOSE, CLOSE). Latency is the time from the REQ to its EOSE. To be run in a `LocalSet`.
///
/// # Errors
/// A connection that cannot be opened or breaks.
pub async fn query(
    site: &Site,
    connections: usize,
    lasts: Duration,
    schedule: QuestionSchedule,
) -> Result<Round, ClientError> {
    let mut clients = Vec::with_capacity(connections);
    for index in 0..connections {
        clients.push(site.connect(index).await?);
    }
    let meter = Meter::start(site.pid);
    let start = meter.started();
    let shared =
        Rc::new(QueryShared { schedule, ends: start + lasts, last: Cell::new(start), round: RefCell::default() });
    let mut askers = JoinSet::new();

    for client in clients {
        askers.spawn_local(ask(client, site.clone(), shared.clone()));
    }
    while let Some(done) = askers.join_next().await {
        done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
    }
    let mut round = shared.round.take();
    meter.stop(shared.last.get(), &mut round);
    Ok(round)
}

async fn ask(mut client: Client, site: Site, shared: Rc<QueryShared>) -> Result<(), ClientError> {
    let mut asked = Instant::now();
    for number in 0u64.. {
        if asked >= shared.ends {
            break;
        }
        let Some(Question { verb, filter }) = shared.schedule.next() else { break };
        let subscription = number.to_string();
        let sub = subscription.as_bytes();
        client.queue(&[b"[\"", verb.as_bytes(), b"\",\"", sub, b"\",", filter.as_bytes(), b"]"]);
        let mut end = None;
        let mut rows = 0;
        while end.is_none() {
            let answers = client.receive(&site.scratch, |message| match Reply::parse(message) {
                Reply::Event { subscription, .. } if subscription == sub => rows += 1,
                Reply::Eose(subscription) if subscription == sub => end = Some(None),
                Reply::Count { subscription, count } if subscription == sub => {
                    rows = count;
                    end = Some(None);
                }
                Reply::Closed { words, .. } => {
                    end = Some(Some(("CLOSED", String::from_utf8_lossy(words).into_owned())))
                }
                Reply::Notice(words) => end = Some(Some(("NOTICE", String::from_utf8_lossy(words).into_owned()))),
                _ => {}
            });
            match timeout(SILENCE, answers).await {
                Ok(answers) => answers.map(drop)?,
                Err(_) => {
                    shared.round.borrow_mut().faults.add("no answer", 1);
                    return Ok(());
                }
            }
        }

        if *verb == "REQ" {
            // Queued only: it is sent together with the next question.
            client.queue(&[b"[\"CLOSE\",\"", sub, b"\"]"]);
        }
        let now = Instant::now();
        let mut round = shared.round.borrow_mut();
        if let Some(Some((word, words))) = end {
            round.faults.add(&format!("{word} {words}"), 1);
        } else {
            round.operations += 1;
            round.rows += rows;
            round.latency.record(now - asked);
        }

        shared.last.set(now);
        asked = now;
    }
    client.flush().await
}
