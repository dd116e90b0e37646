//! The options of the embedded store.

use crate::config::Durability;
use crate::task::Tasks;
use std::path::PathBuf;
use std::time::Duration;

/// How a [`SqliteStore`](super::SqliteStore) is opened. [`Options::new`] has the defaults.
#[derive(Debug, Clone)]
pub struct Options {
    /// The database file, created where it is missing. Its companions are `-wal`, `-shm` and `-lock`.
    pub path: PathBuf,
    /// Connections for reading, each with a thread of its own. Default: 4.
    pub readers: usize,
    /// When a write counts as done. Default: [`Durability::Full`].
    pub durability: Durability,
    /// Bytes of page cache of each connection. Default: 16 MiB; pages that are mapped (see `mmap_bytes`) need none.
    pub cache_bytes: u64,
    /// Bytes of the file that are mapped into memory; 0 for none. Default: 64 GiB, as far as the file reaches.
    pub mmap_bytes: u64,
    /// The longest that a read or count may take, before it ends in `StoreError::Timeout`. Default: 10 s.
    pub read_timeout: Duration,
    /// The longest wait for a free connection, before `StoreError::Overloaded`. Default: 2 s.
    pub acquire_timeout: Duration,
    /// The longest wait for a lock of another process, before `StoreError::Locked`. Default: 5 s.
    pub busy_timeout: Duration,
    /// The size in bytes from which on the write-ahead log is copied into the file, in the background. Default: 256
    /// MiB.
    pub checkpoint_bytes: u64,
    /// The most bytes of the file, before `StoreError::Full`. Default: no limit but the disk's.
    pub max_file_bytes: Option<u64>,
    /// Bits of the hashes of authors and tags in a file that is created now. Fewer than 64 make hashes collide, which
    /// only tests want.
    #[doc(hidden)]
    pub hash_bits: u32,
    /// Watches the tasks of the store. Default: of their own.
    pub tasks: Tasks,
}

impl Options {
    /// The defaults, for the database at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            readers: 4,
            durability: Durability::Full,
            cache_bytes: 16 << 20,
            mmap_bytes: 64 << 30,
            read_timeout: Duration::from_secs(10),
            acquire_timeout: Duration::from_secs(2),
            busy_timeout: Duration::from_secs(5),
            checkpoint_bytes: 256 << 20,
            max_file_bytes: None,
            hash_bits: 64,
            tasks: Tasks::detached(),
        }
    }
}
