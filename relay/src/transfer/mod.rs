//! An operator's data in and out as JSONL, one event a line: `relay import`, `relay export`, `relay delete`.

mod export;
mod import;

pub use export::{ExportError, delete, export};
pub use import::{ImportError, ImportReport, ImportSettings, Rejected, import};
