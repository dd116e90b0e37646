//! Pages that show where time and memory of the running process go.

#[cfg(debug_assertions)]
use super::context::query_text;
use super::context::{PageContext, query_number};
use super::pprof;
use crate::memory::AllocatorBytes;
use crate::task::{OnPanic, TaskFacts};
#[cfg(debug_assertions)]
use crate::telemetry::Task;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::runtime::Handle;

/// The length of a profile where the request names none.
const DEFAULT_SECONDS: u64 = 5;
/// The longest profile: the listener ends longer answers.
const MAX_SECONDS: u64 = 20;
/// The kernel's unit of processor time in /proc (USER_HZ), which is 100 on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// The pages below `/debug/`.
pub(super) fn routes() -> Router<PageContext> {
    let routes = Router::new()
        .route("/debug/profile", get(profile))
        .route("/debug/pprof", get(pprof::profile))
        .route("/debug/pprof/profile", get(pprof::profile))
        .route("/debug/memory", get(async || Json(memory())))
        .route("/debug/tasks", get(tasks))
        .route("/debug/database", get(database));
    #[cfg(debug_assertions)]
    let routes = routes.route("/debug/tasks/panic", axum::routing::post(inject_panic));
    routes
}

/// Processor time by thread over `?seconds=`, in cores. Threads have the names of their stations, so this shows which
/// station is busy; `/debug/pprof` shows what it does.
async fn profile(uri: Uri) -> Response {
    let seconds = query_number(&uri, "seconds").unwrap_or(DEFAULT_SECONDS).clamp(1, MAX_SECONDS);
    let before = threads();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let mut by_name = BTreeMap::<String, (u32, f64)>::new();
    for (id, (name, ticks)) in threads() {
        let earlier = before.get(&id).map_or(0, |(_, ticks)| *ticks);
        let (count, cores) = by_name.entry(name).or_default();
        *count += 1;
        *cores += ticks.saturating_sub(earlier) as f64 / TICKS_PER_SECOND / seconds as f64;
    }
    let mut told: Vec<_> = by_name.into_iter().collect();
    told.sort_by(|(_, (_, one)), (_, (_, other))| other.total_cmp(one));
    let row =
        |(name, (threads, cores)): (String, (u32, f64))| json!({ "name": name, "threads": threads, "cores": cores });
    Json(told.into_iter().map(row).collect::<Vec<_>>()).into_response()
}

/// The threads of this process by id: the name without a number at its end, and the processor time in ticks.
fn threads() -> BTreeMap<String, (String, u64)> {
    let read = |id: &str| {
        let stat = std::fs::read_to_string(format!("/proc/self/task/{id}/stat")).ok()?;
        // The name is in brackets and may contain brackets: up to the last one.
        let (head, rest) = stat.rsplit_once(')')?;
        let name = head.split_once('(')?.1.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-').to_owned();
        let mut fields = rest.split_whitespace().skip(11);
        let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        Some((name, user + system))
    };
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let ids = tasks.filter_map(|task| task.file_name().into_string().ok());
    ids.filter_map(|id| Some((id.clone(), read(&id)?))).collect()
}

/// This process's memory in bytes, by the kernel's names: `Rss`, and of that `Anonymous` (heap and stacks). Adds the
/// allocator's own figures of the heap: `allocated`, `active`, `resident`.
fn memory() -> Value {
    let mut told = serde_json::Map::new();
    for line in std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default().lines().skip(1) {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(Ok(kib))) = (words.next(), words.next().map(str::parse::<u64>)) {
            told.insert(name.trim_end_matches(':').to_owned(), json!(kib * 1024));
        }
    }
    if let Some(heap) = AllocatorBytes::read() {
        told.insert("allocated".to_owned(), json!(heap.allocated));
        told.insert("active".to_owned(), json!(heap.active));
        told.insert("resident".to_owned(), json!(heap.resident));
    }
    Value::Object(told)
}

/// The runtime that serves clients with each of its threads, and the tasks of the process by name.
async fn tasks(State(context): State<PageContext>) -> Response {
    let Some(metrics) = context.runtime.as_ref().map(Handle::metrics) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let thread = |worker| {
        json!({
            "busy_seconds": metrics.worker_total_busy_duration(worker).as_secs_f64(),
            "parked": metrics.worker_park_count(worker),
        })
    };
    let named = |facts: TaskFacts| {
        let on_panic = match OnPanic::of(facts.task) {
            OnPanic::EndProcess => "the process ends",
            OnPanic::Restart => "begins again",
            OnPanic::Count => "counted",
        };
        let told = json!({ "running": facts.running, "panics": facts.panics, "on_panic": on_panic });
        (facts.task.name().to_owned(), told)
    };

    let threads: Vec<_> = (0..metrics.num_workers()).map(thread).collect();
    let (alive, waiting) = (metrics.num_alive_tasks(), metrics.global_queue_depth());
    let tasks: serde_json::Map<_, _> = context.tasks.facts().into_iter().map(named).collect();
    Json(json!({ "alive": alive, "waiting": waiting, "threads": threads, "tasks": tasks })).into_response()
}

/// The database's own statistics: the statements that take most of its time, the indexes that no query uses.
async fn database(State(context): State<PageContext>) -> Response {
    match context.health.inspect().await {
        Some(Ok(statistics)) => Json(statistics).into_response(),
        Some(Err(error)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
        None => (StatusCode::NOT_FOUND, "SQLite keeps no statistics\n").into_response(),
    }
}

/// Makes a task panic. In a debug build only, for the tests.
#[cfg(debug_assertions)]
async fn inject_panic(State(context): State<PageContext>, uri: Uri) -> StatusCode {
    let named = query_text(&uri, "task").and_then(|name| Task::ALL.iter().find(|task| task.name() == name));
    let Some(task) = named else { return StatusCode::NOT_FOUND };
    context.tasks.inject_panic(*task);
    StatusCode::NO_CONTENT
}
