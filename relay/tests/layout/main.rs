//! Checks the rules of the layout in the sources:
//!
//! 1. a module imports only from stations further down its journey, or from leaves (`journey`);
//! 2. the way back to a client is an outbox, never an import: only `connection` speaks WebSocket, and nothing that a
//!    connection calls imports it (`journey`);
//! 3. no two files import from each other, directly or through others (`circles`);
//! 4. files, folders and comment lines stay short enough to be read (`size`);
//! 5. a type name is defined once a crate; metrics are named in the catalogue alone, and every setting that a source
//!    names exists (`names`);
//! 6. tasks are started by name (`tasks`).
//!
//! Each rule is also tested with synthetic sources that break it.

#![allow(missing_docs, clippy::unwrap_used)]

mod circles;
mod journey;
mod names;
mod size;
mod source;
mod tasks;
