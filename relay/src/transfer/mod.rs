//! An operator's data in and out as JSONL, one event a line: `relay import`, `relay export`, `relay delete`.

mod export;
mod import;
mod removal;

pub use export::{ExportError, ExportReport, export, export_pages};
pub use import::{ImportError, ImportReport, ImportSettings, Rejected, import};
pub use removal::{delete, vanish};
