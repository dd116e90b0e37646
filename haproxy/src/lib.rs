//! A typed model of a Skein cluster, rendered into HAProxy's configuration; and a client for its Runtime API.
//!
//! - [`Cluster::parse`] reads a cluster file; [`EXAMPLE`] is one, with every key explained.
//! - [`haproxy_cfg`] renders it; [`process::check`] lets HAProxy check the result.
//! - [`production::files`] renders the production files: Dockerfile, Compose, systemd, Kubernetes, Redis.
//! - [`plan::plan`] computes what a number of clients needs, and which limit is reached first.
//! - [`Runtime`] adds, drains and removes relays and replaces certificates while everything runs;
//!   [`process::reload`] does what the Runtime API cannot.

mod model;
pub mod plan;
pub mod process;
pub mod production;
mod render;
mod runtime;

pub use model::{
    CONNECTIONS_PER_PORT, ClientAddress, Cluster, Discovery, EXAMPLE, Front, Instance, ModelError, Production, Relay,
    Server, Tls,
};
pub use render::{BACKEND, RenderError, haproxy_cfg, server_arguments};
pub use runtime::{Runtime, RuntimeError, ServerState, Status};
