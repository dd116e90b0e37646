//! Faults that tests inject: a debug build can be asked to make a task panic, a release build has nothing of it.

#[cfg(debug_assertions)]
pub(super) use injected::FaultPoints;
#[cfg(not(debug_assertions))]
pub(super) use none::NoFaultPoints as FaultPoints;

#[cfg(debug_assertions)]
mod injected {
    use crate::telemetry::Task;
    use futures_util::FutureExt;
    use std::sync::Arc;
    use tokio::sync::Notify;

    /// For each task, whether one is asked to panic: the permit of a [`Notify`], which one task takes.
    pub(crate) struct FaultPoints(Arc<[Notify]>);

    impl Default for FaultPoints {
        fn default() -> Self {
            Self(Task::ALL.iter().map(|_| Notify::new()).collect())
        }
    }

    impl FaultPoints {
        pub(crate) fn inject(&self, task: Task) {
            self.0[task as usize].notify_one();
        }

        pub(crate) fn trip(&self, task: Task) {
            assert!(self.0[task as usize].notified().now_or_never().is_none(), "a test asked for it");
        }

        pub(crate) fn pass<F: Future>(&self, task: Task, future: F) -> impl Future<Output = F::Output> + use<F> {
            let points = self.0.clone();
            async move {
                tokio::select! {
                    biased;
                    () = points[task as usize].notified() => panic!("a test asked for it"),
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
