//! What operators and their tools ask: is it alive, is it ready, what does it count. On a thread of its own, so that
//! an answer comes however busy the relay is.

mod health;
mod pages;
mod server;

pub use health::{Fault, Health, Readiness};
pub use server::{Admin, AdminError};
