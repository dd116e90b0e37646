//! Faults that tests inject: a debug build can be asked to make a task panic, a release build has nothing of it.

#[cfg(debug_assertions)]
pub(super) use injected::FaultPoints;
#[cfg(not(debug_assertions))]
pub(super) use none::NoFaultPoints as FaultPoints;

#[cfg(debug_assertions)]
mod injected {
    use crate::telemetry::Task;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::sync::Notify;

    struct FaultPoint {
        asked: Notify,
        tripped: AtomicBool,
    }

    /// One for each task.
    pub(crate) struct FaultPoints(Arc<[FaultPoint]>);

    impl Default for FaultPoints {
        fn default() -> Self {
            let point = |_| FaultPoint { asked: Notify::new(), tripped: AtomicBool::new(false) };
            Self(Task::ALL.iter().map(point).collect())
        }
    }

    impl FaultPoints {
        pub(crate) fn inject(&self, task: Task) {
            let point = &self.0[task as usize];
            point.tripped.store(true, Ordering::Relaxed);
            point.asked.notify_one();
        }

        pub(crate) fn trip(&self, task: Task) {
            assert!(!self.0[task as usize].tripped.swap(false, Ordering::Relaxed), "a test asked for it");
        }

        pub(crate) fn pass<F: Future>(&self, task: Task, future: F) -> impl Future<Output = F::Output> + use<F> {
            let points = self.0.clone();
            async move {
                tokio::select! {
                    biased;
                    () = points[task as usize].asked.notified() => panic!("a test asked for it"),
                    output = future => output,
                }
            }
        }
    }
}

#[cfg(not(debug_assertions))]
mod none {
    use crate::telemetry::Task;

    #[derive(Default)]
    pub(crate) struct NoFaultPoints;

    impl NoFaultPoints {
        pub(crate) fn inject(&self, _: Task) {}

        pub(crate) fn trip(&self, _: Task) {}

        pub(crate) fn pass<F: Future>(&self, _: Task, future: F) -> F {
            future
        }
    }
}
