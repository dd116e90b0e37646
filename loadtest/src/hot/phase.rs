//! One phase: the same questions, second by second.

use super::figures::Figures;
use super::report::{PhaseReport, Second};
use super::stage::Stage;
use super::work::Work;
use crate::bench::{Agenda, Faults, Site, query};
use crate::stats::Latency;
use crate::system::machine_busy;
use futures_util::future::try_join_all;
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

pub(super) struct Phase<'a> {
    name: String,
    stage: &'a Stage,
    relays: Vec<usize>,
    sites: Vec<Site>,
    begun: Figures,
    last: Figures,
    busy: Duration,
    asked: Rc<Cell<usize>>,
    latency: Latency,
    faults: Faults,
    wall: Duration,
    seconds: Vec<Second>,
}

impl<'a> Phase<'a> {
    /// Begins a phase on these relays.
    pub(super) fn begin(name: &str, stage: &'a Stage, relays: &[usize]) -> anyhow::Result<Self> {
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
            asked: Rc::default(),
            latency: Latency::new(),
            faults: Faults::default(),
            wall: Duration::ZERO,
            seconds: Vec::new(),
        })
    }

    pub(super) fn seconds(&self) -> u64 {
        self.seconds.len() as u64
    }

    pub(super) fn asked(&self) -> u64 {
        self.asked.get() as u64
    }

    /// Asks for a second, no more than `at_most` in the whole phase.
    pub(super) async fn second(&mut self, connections: usize, work: &Work, at_most: u64) -> anyhow::Result<()> {
        let agenda = Agenda {
            questions: work.ranked.clone(),
            order: work.drawn.clone(),
            asked: self.asked.clone(),
            at_most: usize::try_from(at_most).unwrap_or(usize::MAX),
        };
        let start = Instant::now();
        let rounds = self.sites.iter().map(|site| query(site, connections, SECOND, agenda.clone()));
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

    pub(super) fn end(self) -> anyhow::Result<PhaseReport> {
        let grown = self.last.since(&self.begun);
        let busy = machine_busy().saturating_sub(self.busy);
        let report = PhaseReport::new(self.name, self.wall, &self.latency, &grown, busy, self.seconds, self.faults);
        println!("{report}");
        Ok(report)
    }
}

/// Asks each different question once, on the instances in turn; the number of answers, and how long that took.
pub(super) async fn ask_all(stage: &Stage, connections: usize, work: &Work) -> anyhow::Result<(u64, Duration)> {
    let count = work.ranked.len();
    let agenda = Agenda { at_most: count, ..Agenda::in_turn(work.ranked.clone()) };
    let sites = (0..stage.relays.len()).map(|relay| stage.site(relay)).collect::<anyhow::Result<Vec<_>>>()?;
    let start = Instant::now();
    let rounds = sites.iter().map(|site| query(site, connections, Duration::from_secs(3_600), agenda.clone()));
    let rounds = try_join_all(rounds).await?;
    Ok((rounds.iter().map(|round| round.operations).sum(), start.elapsed()))
}
