//! What operators and their tools ask: is it alive, is it ready, what does it count, how busy is it. On a thread of its own, so that
//! an answer comes however busy the relay is.

mod agent;
mod cache;
mod dashboard;
mod debug;
mod health;
mod history;
mod load;
mod pages;
mod panels;
mod peers;
mod pprof;
mod server;

pub use health::{About, Dependency, Fault, Health, Readiness};
pub use load::Load;
pub use server::{Admin, AdminError};
