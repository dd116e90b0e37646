//! The machine: its description, the best that it can do, and how much of it a process uses. Linux only.

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
