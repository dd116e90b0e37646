//! One phase: asks questions and records figures second by second.

use super::figures::Figures;
use super::report::{Measured, PhaseReport, Second};
use super::stage::Stage;
use super::work::Work;
use crate::bench::{Faults, QuestionSchedule, Site, query};
use crate::stats::Latency;
use crate::system::machine_busy;
use futures_util::future::try_join_all;
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);
/// The time between two lines of progress, in seconds.
const PROGRESS_EVERY: u64 = 10;

/// The bound of a phase.
#[derive(Debug, Clone, Copy)]
pub struct PhaseBound {
    /// The longest time.
    pub lasts: Duration,
    /// The most questions, where they are asked sooner.
    pub questions: usize,
}

pub(super) struct Phase<'a> {
    name: String,
    stage: &'a Stage,
    relays: Vec<usize>,
    sites: Vec<Site>,
    begun: Figures,
    last: Figures,
    busy: Duration,
    /// The number of the next draw, and of the first.
    next: Rc<Cell<usize>>,
    first: usize,
    latency: Latency,
    faults: Faults,
    wall: Duration,
    seconds: Vec<Second>,
}

impl<'a> Phase<'a> {
    /// Begins a phase on `relays`, with draw number `first`.
    pub(super) fn begin(name: &str, stage: &'a Stage, relays: &[usize], first: usize) -> anyhow::Result<Self> {
        let sites = relays.iter().map(|relay| stage.site(*relay)).collect::<anyhow::Result<_>>()?;
        let begun = Figures::look(stage, relays)?;
        Ok(Self {
            name: name.to_owned(),
            stage,
            relays: relays.to_owned(),
            sites,
            last: begun.clone(),
            begun,
            busy: machine_busy(),
            next: Rc::new(Cell::new(first)),
            first,
            latency: Latency::new(),
            faults: Faults::default(),
            wall: Duration::ZERO,
            seconds: Vec::new(),
        })
    }

    /// Asks until the phase reaches its bound.
    pub(super) async fn ask(&mut self, connections: usize, work: &Work, bound: PhaseBound) -> anyhow::Result<()> {
        let seconds = bound.lasts.as_secs().max(1);
        for second in 1..=seconds {
            self.second(connections, work, bound.questions).await?;
            let done = self.next.get() - self.first >= bound.questions;
            if second % PROGRESS_EVERY == 0 && second < seconds && !done {
                self.tell();
            }
            if done {
                break;
            }
        }
        Ok(())
    }

    fn tell(&self) {
        let Some(last) = self.seconds.last() else { return };
        println!(
            "  {}: {} s of it, {} asked, {:.0} REQ/s, {:.0} % without the database",
            self.name,
            self.seconds.len(),
            self.next.get() - self.first,
            last.per_second,
            100.0 * last.hit_rate
        );
    }

    async fn second(&mut self, connections: usize, work: &Work, at_most: usize) -> anyhow::Result<()> {
        let schedule = QuestionSchedule {
            questions: work.ranked.clone(),
            order: work.drawn.clone(),
            asked: self.next.clone(),
            at_most: self.first.saturating_add(at_most),
        };

        let start = Instant::now();
        let rounds = self.sites.iter().map(|site| query(site, connections, SECOND, schedule.clone()));
        let rounds = try_join_all(rounds).await?;
        let wall = start.elapsed();
        let mut latency = Latency::new();
        for round in &rounds {
            latency.merge(&round.latency);
            self.faults.merge(&round.faults);
        }

        self.latency.merge(&latency);
        self.wall += wall;
        let now = Figures::look(self.stage, &self.relays)?;
        let answers = rounds.iter().map(|round| round.operations).sum::<u64>();
        self.seconds.push(Second::new(answers, wall, &latency, &now.since(&self.last)));
        self.last = now;
        Ok(())
    }

    /// Ends the phase, in which `published` events were published. Returns its report, and the number of the next draw.
    pub(super) fn end(self, published: u64) -> (PhaseReport, usize) {
        let grown = self.last.since(&self.begun);
        let busy = machine_busy().saturating_sub(self.busy);
        let next = self.next.get();
        let Self { name, wall, latency, seconds, faults, .. } = self;
        let report = PhaseReport::new(Measured { name, wall, latency, grown, busy, published, seconds, faults });
        println!("{report}");
        (report, next)
    }
}
