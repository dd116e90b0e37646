//! Pages for operators and their tools: liveness, readiness, metrics, load, the dashboard. A thread of its own serves
//! them, so that an answer comes however busy the relay is.

mod accept;
mod agent;
mod cache;
mod context;
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

pub use health::{About, Dependency, Health, Readiness};
pub use load::Load;
pub use server::{Admin, AdminError};
