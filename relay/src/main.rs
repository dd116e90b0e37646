//! The `relay` program; everything it does is in the library.

use std::process::ExitCode;

/// Gives pages back to the system within ten seconds of their last use, by a thread of its own; the C library's
/// keeps what a burst of clients took (docs/decisions/0006).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    relay::cli::main()
}
