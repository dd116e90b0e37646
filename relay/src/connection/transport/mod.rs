//! One client's WebSocket: its socket, its frames, its deadlines, and the task that reads and writes.

mod alarm;
pub(super) mod buffer;
mod close;
mod connection;
mod deadlines;
mod frames;
mod reading;
mod settling;
mod socket;
pub(super) mod task;
mod writing;
