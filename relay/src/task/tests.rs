use super::*;
use std::sync::atomic::AtomicU32;

fn facts(tasks: &Tasks, task: Task) -> TaskFacts {
    tasks.facts().into_iter().find(|facts| facts.task == task).unwrap()
}

fn no_essential_task_failed(tasks: &Tasks) -> bool {
    tasks.failed().now_or_never().is_none()
}

#[tokio::test]
async fn an_essential_task_that_panics_is_told_to_who_runs_the_relay() {
    let tasks = Tasks::detached();
    let other = tasks.spawn(Task::Write, std::future::pending::<()>());
    let end = tasks.spawn(Task::Admit, async { panic!("as a fault would") });
    assert_eq!(tasks.failed().await, Task::Admit);
    assert!(end.await.unwrap_err().is_panic());
    assert_eq!(facts(&tasks, Task::Admit), TaskFacts { task: Task::Admit, running: 0, panics: 1 });
    assert_eq!(facts(&tasks, Task::Write), TaskFacts { task: Task::Write, running: 1, panics: 0 });
    // The first one is what began it.
    assert!(tasks.spawn(Task::Follow, async { panic!("for want of the other") }).await.is_err());
    assert_eq!(tasks.failed().await, Task::Admit);
    other.abort();
}

#[tokio::test]
async fn control_a_task_of_one_client_ends_nothing_else() {
    let tasks = Tasks::detached();
    assert!(tasks.spawn(Task::Query, async { panic!("as a fault would") }).await.unwrap_err().is_panic());
    assert_eq!(tasks.spawn(Task::Query, async { 7 }).await.unwrap(), 7);
    assert_eq!(facts(&tasks, Task::Query), TaskFacts { task: Task::Query, running: 0, panics: 1 });
    assert!(no_essential_task_failed(&tasks));
}

#[tokio::test]
async fn a_task_begins_again_after_longer_and_longer_pauses() {
    let (tasks, begun) = (Tasks::detached(), Arc::new(AtomicU32::new(0)));
    let (count, start) = (begun.clone(), Instant::now());
    let end = tasks.spawn_restarting(Task::Gauges, move || {
        let run = count.fetch_add(1, Ordering::Relaxed);
        // In what makes the future, too.
        assert_ne!(run, 1, "as a fault would");
        async move { assert!(run >= 4, "as a fault would") }
    });
    end.await.unwrap();
    assert_eq!(begun.load(Ordering::Relaxed), 5);
    assert_eq!(facts(&tasks, Task::Gauges), TaskFacts { task: Task::Gauges, running: 0, panics: 4 });
    assert!(start.elapsed() >= MIN_RESTART_PAUSE * (1 + 2 + 4 + 8));
    assert!(no_essential_task_failed(&tasks));
}

#[tokio::test]
async fn a_task_that_is_dropped_runs_no_more() {
    let tasks = Tasks::detached();
    let handle = tasks.spawn_restarting(Task::Load, std::future::pending::<()>);
    while facts(&tasks, Task::Load).running == 0 {
        tokio::task::yield_now().await;
    }
    handle.abort();
    assert!(handle.await.unwrap_err().is_cancelled());
    assert_eq!(facts(&tasks, Task::Load), TaskFacts { task: Task::Load, running: 0, panics: 0 });
}

#[tokio::test]
async fn a_thread_is_watched_like_a_task() {
    let tasks = Tasks::detached();
    let watch = tasks.clone();
    let thread = std::thread::spawn(move || watch.watch_thread(Task::Verify, || panic!("as a fault would")));
    assert!(thread.join().is_err());
    assert_eq!(tasks.failed().await, Task::Verify);
    assert_eq!(facts(&tasks, Task::Verify), TaskFacts { task: Task::Verify, running: 0, panics: 1 });
}

#[test]
fn every_task_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<_> = Task::ALL.iter().map(|task| task.name()).collect();
    assert_eq!(names.len(), Task::ALL.len());
    assert!(Task::ALL.iter().enumerate().all(|(index, task)| *task as usize == index));
}

#[cfg(debug_assertions)]
#[tokio::test]
async fn a_test_can_make_one_task_panic() {
    let tasks = Tasks::detached();
    let run = || tasks.spawn(Task::Connection, std::future::pending::<()>());
    let (first, second) = (run(), run());
    tasks.inject_panic(Task::Connection);
    while facts(&tasks, Task::Connection).panics == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(facts(&tasks, Task::Connection).running, 1);
    assert!(first.is_finished() != second.is_finished());
}

/// What a connection's future takes is most of what an idle connection costs.
#[cfg(not(debug_assertions))]
#[test]
fn watching_takes_little_room() {
    let future = async {
        let room = [0_u8; 3_000];
        std::future::pending::<()>().await;
        drop(room);
    };
    let (bytes, tasks) = (size_of_val(&future), Tasks::detached());
    assert!(size_of_val(&tasks.watched(Task::Connection, future)) <= bytes + 64);
}
