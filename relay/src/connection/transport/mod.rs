//! One client's WebSocket: its socket, its frames, its deadlines, and the task that reads and writes.

mod alarm;
pub(super) mod client;
mod clock;
mod frames;
mod reading;
mod reason;
mod socket;
mod writing;
