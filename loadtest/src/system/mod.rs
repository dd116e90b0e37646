//! The machine: what it is, what it can do at best, and what a process used of it. Linux only.

mod fan_out;
mod files;
mod limits;
mod machine;
mod process;

pub use fan_out::fan_out;
pub use files::{OpenFilesError, raise_open_files};
pub use limits::Limits;
pub use machine::{Machine, machine_busy, machine_cpu};
pub use process::{Memory, Process, own_cpu, thread_cpu};
