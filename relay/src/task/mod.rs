//! The tasks and threads of the process, by name: what a panic of each means, and how often it happened. A leaf.
//!
//! A panic ends the future that it happens in and nothing else. Without this module a dead station is noticed much
//! later, by those who wait for it. Here each task has a name and one of three meanings ([`OnPanic`]): the process
//! ends, the task begins again, or the panic is counted.

mod fault;
mod on_panic;
#[cfg(test)]
mod tests;

pub use on_panic::OnPanic;

use crate::telemetry::{Metrics, Task};
use fault::FaultPoints;
use futures_util::FutureExt;
use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The pause before a task begins again; it doubles with each panic.
const MIN_RESTART_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause before a task begins again.
const MAX_RESTART_PAUSE: Duration = Duration::from_secs(30);

/// A task that ran for so long begins with the shortest pause again.
const SOUND_AFTER: Duration = Duration::from_secs(60);

/// Starts tasks by name and watches them. Cheap to clone; all clones watch together.
#[derive(Clone)]
pub struct Tasks(Arc<TasksState>);

struct TasksState {
    metrics: Arc<Metrics>,
    /// By the index of the task's label.
    counts: Box<[TaskCounts]>,
    /// The first essential task that panicked.
    failed: watch::Sender<Option<Task>>,
    faults: FaultPoints,
}

#[derive(Default)]
struct TaskCounts {
    running: AtomicUsize,
    panics: AtomicU64,
}

impl fmt::Debug for Tasks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tasks").field("facts", &self.facts()).finish()
    }
}

/// What is known of the tasks of one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskFacts {
    /// Which ones.
    pub task: Task,
    /// How many of them run.
    pub running: usize,
    /// How often one of them has panicked.
    pub panics: u64,
}

/// TaskCounts one task as running until it is dropped.
struct Running(Arc<TasksState>, Task);

impl Running {
    fn begin(state: &Arc<TasksState>, task: Task) -> Self {
        state.counts[task as usize].running.fetch_add(1, Ordering::Relaxed);
        Self(state.clone(), task)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.counts[self.1 as usize].running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Tasks {
    /// Watches the tasks that are started by it and its clones.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let counts = Task::ALL.iter().map(|_| TaskCounts::default()).collect();
        let (failed, faults) = (watch::Sender::new(None), FaultPoints::default());
        Self(Arc::new(TasksState { metrics, counts, failed, faults }))
    }

    /// For commands that serve nobody: panics are logged, and counted nowhere.
    #[must_use]
    pub fn detached() -> Self {
        Self::new(Arc::new(Metrics::detached()))
    }

    /// Starts `future` on the current runtime. Its handle tells a panic as that of any task does.
    pub fn spawn<F>(&self, task: Task, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        tokio::spawn(self.watched(task, future))
    }

    /// Starts what `make` makes on the current runtime, and after a panic what it makes next, after a pause. Ends when
    /// one of them ends.
    pub fn spawn_restarting<F>(&self, task: Task, make: impl FnMut() -> F + Send + 'static) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        tokio::spawn(self.restarting(task, make))
    }

    /// What [`spawn_restarting`](Self::spawn_restarting) runs, for a caller that keeps its tasks together.
    pub fn restarting<F>(
        &self,
        task: Task,
        mut make: impl FnMut() -> F + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let tasks = self.clone();
        async move {
            let mut pause = MIN_RESTART_PAUSE;
            loop {
                let begun = Instant::now();
                // `make` runs inside of what is watched: it may panic as well.
                if AssertUnwindSafe(tasks.watched(task, async { make().await })).catch_unwind().await.is_ok() {
                    return;
                }
                if begun.elapsed() >= SOUND_AFTER {
                    pause = MIN_RESTART_PAUSE;
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(MAX_RESTART_PAUSE);
            }
        }
    }

    /// `future`, watched, for a runtime or a set of tasks of its own. A panic goes on as it came. Counts as running
    /// from this call on.
    pub fn watched<F: Future>(&self, task: Task, future: F) -> impl Future<Output = F::Output> + use<F> {
        let running = Running::begin(&self.0, task);
        // Combinators, since an async block would keep the room of `future` twice: as what it has captured and as what
        // it awaits. A connection's is most of what an idle connection costs.
        AssertUnwindSafe(self.0.faults.pass(task, future)).catch_unwind().map(move |result| match result {
            Ok(output) => {
                drop(running);
                output
            }
            Err(panic) => {
                running.0.record_panic(task, &*panic);
                drop(running);
                resume_unwind(panic)
            }
        })
    }

    /// Runs `work` on the current thread, watched. A panic goes on as it came.
    pub fn watch_thread<T>(&self, task: Task, work: impl FnOnce() -> T) -> T {
        let _running = Running::begin(&self.0, task);
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            self.0.record_panic(task, &*panic);
            resume_unwind(panic)
        })
    }

    /// A place in a thread's work where a test may make it panic; nothing in a release build.
    pub fn fault_point(&self, task: Task) {
        self.0.faults.trip(task);
    }

    /// Makes one task of this name panic, now or as soon as one runs; nothing in a release build.
    pub fn inject_panic(&self, task: Task) {
        self.0.faults.inject(task);
    }

    /// Completes once an essential task has panicked, at once if that has happened already. Cancel safe.
    pub async fn failed(&self) -> Task {
        let mut failed = self.0.failed.subscribe();
        loop {
            if let Some(task) = *failed.borrow_and_update() {
                return task;
            }
            // The sender lives as long as `self`.
            let _ = failed.changed().await;
        }
    }

    /// Every name, in the order of the journey of an event.
    #[must_use]
    pub fn facts(&self) -> Vec<TaskFacts> {
        let facts = |(task, counts): (&Task, &TaskCounts)| TaskFacts {
            task: *task,
            running: counts.running.load(Ordering::Relaxed),
            panics: counts.panics.load(Ordering::Relaxed),
        };
        Task::ALL.iter().zip(&self.0.counts).map(facts).collect()
    }
}

impl TasksState {
    fn record_panic(&self, task: Task, panic: &(dyn Any + Send)) {
        let name = task.name();
        let message = panic.downcast_ref::<&str>().copied();
        let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        self.counts[task as usize].panics.fetch_add(1, Ordering::Relaxed);
        self.metrics.task_panics.of(task).increment(1);
        match OnPanic::of(task) {
            OnPanic::EndProcess => {
                tracing::error!(task = name, message, "a task panicked without which the relay cannot go on: it ends");
                self.failed.send_if_modified(|failed| failed.is_none() && failed.replace(task).is_none());
            }
            OnPanic::Restart => tracing::error!(task = name, message, "a task panicked and begins again"),
            OnPanic::Count => tracing::error!(task = name, message, "a task panicked; the others go on"),
        }
    }
}
