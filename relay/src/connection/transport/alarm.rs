//! Tells a connection why it was woken.
//!
//! A client that only listens is woken for each event that it gets. Whatever else it waits for (its socket, its timer, the end of
//! what it has asked) lies in memory that has long left the processor's caches by then, and to look at it all costs as
//! much as to send the event. So everything but the outbox wakes it through an alarm, and it looks there only when the
//! alarm has rung.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

/// See the module.
pub(super) struct Alarm {
    bell: Arc<Bell>,
    /// Of the bell.
    waker: Waker,
    /// Whom the bell wakes, compared here, where it is at hand.
    task: Option<Waker>,
}

struct Bell {
    rung: AtomicBool,
    /// Kept when it is woken: it hardly ever changes.
    task: Mutex<Option<Waker>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // First, so that the task finds it whenever it looks.
        self.rung.store(true, Ordering::Release);
        if let Some(task) = &*self.task.lock() {
            task.wake_by_ref();
        }
    }
}

impl Alarm {
    /// An alarm that has rung: nothing was looked at yet.
    pub(super) fn new() -> Self {
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: Mutex::default() });
        Self { waker: bell.clone().into(), bell, task: None }
    }

    /// Has the alarm wake `task` from now on; true: it has rung since it was last asked.
    pub(super) fn has_rung(&mut self, task: &Waker) -> bool {
        if !self.task.as_ref().is_some_and(|known| known.will_wake(task)) {
            *self.bell.task.lock() = Some(task.clone());
            self.task = Some(task.clone());
        }
        // Read before it is written: mostly it has not rung, and then nobody else need fetch the line again.
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
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn it_wakes_the_task_that_asked_last_and_remembers() {
        let tasks = [Arc::<Count>::default(), Arc::default()];
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
