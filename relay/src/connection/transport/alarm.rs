//! Tells a connection why it was woken.
//!
//! The task of a client that only receives is woken for each event. What else it waits for (its socket, its timer, the
//! end of a query) has left the processor's caches by then, and polling it all costs as much as sending the event. So
//! everything but the outbox wakes the task through an alarm, and the task polls them only when the alarm has rung.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

/// See the module.
pub(super) struct Alarm {
    bell: Arc<Bell>,
    /// Of the bell.
    waker: Waker,
    /// A copy of `bell.task`, which can be compared without the lock.
    task: Option<Waker>,
}

struct Bell {
    rung: AtomicBool,
    /// Woken by reference and kept: a connection stays in one task.
    task: Mutex<Option<Waker>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Before the wake, so that the woken task sees it.
        self.rung.store(true, Ordering::Release);
        if let Some(task) = &*self.task.lock() {
            task.wake_by_ref();
        }
    }
}

impl Alarm {
    /// An alarm that has rung: nothing was polled yet.
    pub(super) fn new() -> Self {
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: Mutex::default() });
        Self { waker: bell.clone().into(), bell, task: None }
    }

    /// Makes the alarm wake `task` from now on; true: it has rung since the last call.
    pub(super) fn has_rung(&mut self, task: &Waker) -> bool {
        if !self.task.as_ref().is_some_and(|known| known.will_wake(task)) {
            *self.bell.task.lock() = Some(task.clone());
            self.task = Some(task.clone());
        }
        // Read before it is written: mostly it has not rung, and a write would take the cache line from other cores.
        self.bell.rung.load(Ordering::Acquire) && self.bell.rung.swap(false, Ordering::AcqRel)
    }

    /// What rings it.
    pub(super) const fn waker(&self) -> &Waker {
        &self.waker
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct WakeCount(AtomicUsize);

    impl Wake for WakeCount {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn it_wakes_the_task_that_asked_last_and_remembers() {
        let tasks = [Arc::<WakeCount>::default(), Arc::default()];
        let woken = || tasks.each_ref().map(|task| task.0.load(Ordering::Relaxed));
        let wakers = tasks.each_ref().map(|task| Waker::from(task.clone()));
        let mut alarm = Alarm::new();
        assert!(alarm.has_rung(&wakers[0]), "nothing was looked at yet");
        assert!(!alarm.has_rung(&wakers[0]));
        for times in 1..3 {
            alarm.waker().wake_by_ref();
            assert_eq!(woken(), [times, 0]);
            assert!(alarm.has_rung(&wakers[0]));
            assert!(!alarm.has_rung(&wakers[0]));
        }
        alarm.waker().wake_by_ref();
        assert!(alarm.has_rung(&wakers[1]), "whoever asks learns it");
        alarm.waker().wake_by_ref();
        assert_eq!(woken(), [3, 1]);
    }
}
