//! The threads that check signatures.

use super::Verifier;
use crate::telemetry::Metrics;
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

impl Workers {
    /// Starts `threads` workers, at least one. Each takes one list of jobs at a time from `inbox`, checks the event of
    /// each job, and calls `handler` with the job and, if its signature holds, the verified event. The handler runs on
    /// the worker and may block, for instance on a full channel: that is how the next station slows this one down. Lists are handled
    /// in no particular order, the jobs of a list in theirs.
    ///
    /// Fails when the system gives no thread; then none is left running once the inbox's senders are gone.
    pub fn spawn<J, H>(threads: usize, inbox: Receiver<Vec<J>>, metrics: Arc<Metrics>, handler: H) -> io::Result<Self>
    where
        J: AsRef<Arc<Event>> + Send + 'static,
        H: Fn(J, Option<Verified>) + Send + Sync + 'static,
    {
        let inbox = Arc::new(Mutex::new(inbox));
        let handler = Arc::new(handler);
        let threads = (0..threads.max(1))
            .map(|number| {
                let (inbox, handler, metrics) = (inbox.clone(), handler.clone(), metrics.clone());
                std::thread::Builder::new()
                    .name(format!("verify-{number}"))
                    .spawn(move || work(&inbox, &metrics, &*handler))
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

fn work<J: AsRef<Arc<Event>>>(
    inbox: &Mutex<Receiver<Vec<J>>>,
    metrics: &Metrics,
    handler: &impl Fn(J, Option<Verified>),
) {
    let verifier = Verifier::new();
    loop {
        // One idle worker waits for the inbox, the others for the lock: whoever gets a list lets go at once.
        let jobs = inbox.lock().blocking_recv();
        let Some(jobs) = jobs else { return };
        for job in jobs {
            let start = Instant::now();
            let verified = verifier.verify(job.as_ref());
            metrics.signature.record(start.elapsed());
            handler(job, verified);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::event;
    use super::*;
    use tokio::sync::mpsc;

    struct Job(Arc<Event>, usize);

    impl AsRef<Arc<Event>> for Job {
        fn as_ref(&self) -> &Arc<Event> {
            &self.0
        }
    }

    /// Sends 100 lists of 10 through queues of 2 and 3, every third signature wrong, and returns what came out.
    fn run(threads: usize) -> Vec<(usize, bool)> {
        let right = Arc::new(event(1, 1, |id| *id.as_bytes()));
        let wrong = Arc::new(event(1, 2, |id| *id.as_bytes()));
        let (send, inbox) = mpsc::channel(2);
        let (next, mut results) = mpsc::channel(3);
        let handler =
            move |job: Job, verified: Option<Verified>| next.blocking_send((job.1, verified.is_some())).unwrap();
        let workers = Workers::spawn(threads, inbox, Arc::new(Metrics::detached()), handler).unwrap();
        let sender = std::thread::spawn(move || {
            for list in 0..100 {
                let job = |n: usize| Job(if n.is_multiple_of(3) { wrong.clone() } else { right.clone() }, n);
                send.blocking_send((list * 10..(list + 1) * 10).map(job).collect())
                    .unwrap_or_else(|_| panic!("closed"));
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
