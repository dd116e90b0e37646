//! An operator's data in and out as JSONL, one event a line: `relay import`, `relay export`, `relay delete`.

mod delete;
mod export;
mod import;
mod vanish;

pub use delete::delete;
pub use export::{ExportError, ExportReport, export, export_pages};
pub use import::{ImportError, ImportReport, ImportSettings, Rejected, import};
pub use vanish::vanish;
