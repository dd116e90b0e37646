//! The `relay` program; everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    relay::cli::main()
}
