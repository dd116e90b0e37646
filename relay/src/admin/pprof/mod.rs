//! A sampling profiler of processor time: a signal interrupts the running thread, and its stack is sampled.
//!
//! Off unless the operator turns it on (`admin.pprof`): walking a stack in a signal handler relies on the unwind tables
//! of everything that is linked in (docs/decisions/0011).

mod encode;

use super::context::{PageContext, query_number};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use encode::{Frame, Stack};
use pprof::{Error, ProfilerGuard, ProfilerGuardBuilder, Report, Symbol};
use std::time::Duration;
use tokio::task::spawn_blocking;

/// The length of a profile where the request names none.
const DEFAULT_SECONDS: u64 = 5;
/// The longest profile: the listener ends longer answers.
const MAX_SECONDS: u64 = 20;
/// Samples for each second of processor time. A prime number, so that no periodic work is in step with it.
const SAMPLES_PER_SECOND: u32 = 99;
/// The profiler's own frames, which end each stack, begin with these.
const PROFILER: [&str; 2] = ["backtrace::", "pprof::"];

/// `/debug/pprof/profile?seconds=`, in the format of `go tool pprof`; with `&format=folded` as text, one line a stack,
/// for flame graphs. One profile at a time.
pub(super) async fn profile(State(context): State<PageContext>, uri: Uri) -> Response {
    if !context.pprof {
        return (StatusCode::FORBIDDEN, "turned off: admin.pprof\n").into_response();
    }
    let seconds = query_number(&uri, "seconds").unwrap_or(DEFAULT_SECONDS).clamp(1, MAX_SECONDS);
    // Starting and reporting read the program's symbols, which blocks for a moment.
    let guard = match spawn_blocking(start).await {
        Ok(Ok(guard)) => guard,
        Ok(Err(Error::Running)) => return (StatusCode::CONFLICT, "another profile is being taken\n").into_response(),
        Ok(Err(error)) => return failed(&error),
        Err(panicked) => return failed(&panicked),
    };

    let time = Duration::from_secs(seconds);
    tokio::time::sleep(time).await;
    let stacks = match spawn_blocking(move || guard.report().build().map(stacks)).await {
        Ok(Ok(stacks)) => stacks,
        Ok(Err(error)) => return failed(&error),
        Err(panicked) => return failed(&panicked),
    };

    if uri.query().is_some_and(|query| query.split('&').any(|part| part == "format=folded")) {
        return encode::folded(&stacks).into_response();
    }
    let period = Duration::from_secs(1) / SAMPLES_PER_SECOND;
    ([(CONTENT_TYPE, "application/octet-stream")], encode::profile(&stacks, time, period)).into_response()
}

fn failed(error: &dyn std::fmt::Display) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
}

fn start() -> Result<ProfilerGuard<'static>, Error> {
    // Some kernels' vdso has wrong unwind tables.
    ProfilerGuardBuilder::default().frequency(SAMPLES_PER_SECOND.cast_signed()).blocklist(&["vdso"]).build()
}

fn stacks(report: Report) -> Vec<Stack> {
    let stack = |(frames, count): (pprof::Frames, isize)| Stack {
        thread: frames.thread_name_or_id(),
        frames: frames
            .frames
            .iter()
            .map(|place| place.iter().map(frame).collect::<Vec<_>>())
            .skip_while(|place| is_profiler(place))
            .collect(),
        samples: count.unsigned_abs() as u64,
    };
    report.data.into_iter().map(stack).collect()
}

fn frame(symbol: &Symbol) -> Frame {
    Frame { function: symbol.name(), file: symbol.filename().into_owned(), line: symbol.lineno() }
}

fn is_profiler(place: &[Frame]) -> bool {
    let of_profiler =
        |frame: &Frame| PROFILER.iter().any(|own| frame.function.trim_start_matches('<').starts_with(own));
    place.iter().all(of_profiler)
}
