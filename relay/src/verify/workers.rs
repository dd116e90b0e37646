//! The threads that check signatures.

use super::Verifier;
use crate::task::Tasks;
use crate::telemetry::{Metrics, Task};
use crate::types::{Event, Verified};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::sync::mpsc::Receiver;

/// Dedicated threads, named `verify-0` and on, that check the signatures of what comes through one bounded inbox.
///
/// They end when every sender of the inbox is gone and the inbox is empty: what was sent is always handled.
#[derive(Debug)]
#[must_use = "join the workers, or nobody knows when the last event was handled"]
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
}

/// What a worker checks signatures with; each check is measured.
pub struct Checker {
    verifier: Verifier,
    metrics: Arc<Metrics>,
}

impl Checker {
    /// The event, vouched for, if its signature holds.
    pub fn check(&self, event: &Arc<Event>) -> Option<Verified> {
        let start = Instant::now();
        let verified = self.verifier.verify(event);
        self.metrics.signature.record(start.elapsed());
        verified
    }
}

impl Workers {
    /// Starts `threads` workers, at least one. Each takes one job at a time from `inbox` and calls `handler` with the
    /// job and a verifier. The handler runs on the worker; while it blocks, this worker checks nothing. Jobs begin in
    /// the order in which they were sent, and end in any order.
    ///
    /// Fails when the system gives no thread; then none is left running once the inbox's senders are gone.
    pub fn spawn<J, H>(
        threads: usize,
        inbox: Receiver<J>,
        metrics: Arc<Metrics>,
        tasks: &Tasks,
        handler: H,
    ) -> io::Result<Self>
    where
        J: Send + 'static,
        H: Fn(J, &Checker) + Send + Sync + 'static,
    {
        let inbox = Arc::new(Mutex::new(inbox));
        let handler = Arc::new(handler);
        let threads = (0..threads.max(1))
            .map(|number| {
                let (inbox, handler) = (inbox.clone(), handler.clone());
                let checker = Checker { verifier: Verifier::new(), metrics: metrics.clone() };
                let tasks = tasks.clone();
                std::thread::Builder::new().name(format!("verify-{number}")).spawn(move || {
                    tasks.watch_thread(Task::Verify, || work(&inbox, &checker, &*handler, &tasks));
                })
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { threads })
    }

    /// Waits until all workers have ended. Blocks the thread. True if none of them panicked.
    pub fn join(self) -> bool {
        let results: Vec<_> = self.threads.into_iter().map(JoinHandle::join).collect();
        results.iter().all(Result::is_ok)
    }
}

fn work<J>(inbox: &Mutex<Receiver<J>>, checker: &Checker, handler: &impl Fn(J, &Checker), tasks: &Tasks) {
    loop {
        // One idle worker waits for the inbox, the others for the lock, which is released before the job begins.
        let job = inbox.lock().blocking_recv();
        let Some(job) = job else { return };
        tasks.fault_point(Task::Verify);
        handler(job, checker);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::event;
    use super::*;
    use tokio::sync::mpsc;

    /// Sends 100 lists of 10 through queues of 2 and 3, every third signature wrong, and returns what came out.
    fn run(threads: usize) -> Vec<(usize, bool)> {
        let right = Arc::new(event(1, 1, |id| *id.as_bytes()));
        let wrong = Arc::new(event(1, 2, |id| *id.as_bytes()));
        let (send, inbox) = mpsc::channel::<Vec<(Arc<Event>, usize)>>(2);
        let (next, mut results) = mpsc::channel(3);
        let workers =
            Workers::spawn(threads, inbox, Arc::new(Metrics::detached()), &Tasks::detached(), move |jobs, checker| {
                for (event, number) in jobs {
                    next.blocking_send((number, checker.check(&event).is_some())).unwrap();
                }
            })
            .unwrap();
        let sender = std::thread::spawn(move || {
            for list in 0..100 {
                let job = |n: usize| (if n.is_multiple_of(3) { wrong.clone() } else { right.clone() }, n);
                send.blocking_send((list * 10..(list + 1) * 10).map(job).collect()).unwrap();
            }
        });
        let mut out = Vec::new();
        while let Some(result) = results.blocking_recv() {
            out.push(result);
        }
        sender.join().unwrap();
        assert!(workers.join());
        out
    }

    #[test]
    fn every_job_is_handled_once_and_judged_by_its_own_signature() {
        for threads in [1, 3] {
            let mut out = run(threads);
            if threads == 3 {
                out.sort_unstable();
            }
            let expected: Vec<_> = (0..1_000).map(|n: usize| (n, !n.is_multiple_of(3))).collect();
            assert_eq!(out, expected, "{threads} threads; one keeps the order");
        }
    }

    /// What it costs: `cargo test --release -p relay --lib a_verification -- --ignored --nocapture`.
    #[test]
    #[ignore = "a measurement"]
    fn a_verification_takes_so_many_microseconds() {
        let verifier = Verifier::new();
        let events: Vec<Event> = (1..=100).map(|seed| event(seed, seed, |id| *id.as_bytes())).collect();
        let start = std::time::Instant::now();
        for event in events.iter().cycle().take(20_000) {
            assert!(verifier.signature_holds(event));
        }
        println!("{:.1} µs per verification", start.elapsed().as_secs_f64() * 1e6 / 20_000.0);
    }
}
