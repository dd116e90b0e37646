//! What an operator may set about the embedded store.

use crate::config::Durability;
use std::path::PathBuf;
use std::time::Duration;

/// How a [`SqliteStore`](super::SqliteStore) is opened. [`Options::new`] has the defaults.
#[derive(Debug, Clone)]
pub struct Options {
    /// The database file; created where it is missing. Beside it lie `-wal`, `-shm` and `-lock`.
    pub path: PathBuf,
    /// Connections for reading, each with a thread of its own. Default: 4.
    pub readers: usize,
    /// When a write counts as done. Default: [`Durability::Full`].
    pub durability: Durability,
    /// Page cache of each connection, in bytes. Default: 16 MiB; what is mapped (see `mmap_bytes`) needs none.
    pub cache_bytes: u64,
    /// How much of the file is mapped into memory, in bytes; 0 for nothing. Default: 64 GiB, as far as the file reaches.
    pub mmap_bytes: u64,
    /// A read or count that takes longer is stopped: `StoreError::Timeout`. Default: 10 s.
    pub read_timeout: Duration,
    /// How long a read waits for a free connection: `StoreError::Overloaded`. Default: 2 s.
    pub acquire_timeout: Duration,
    /// How long a statement waits for a lock that another process holds: `StoreError::Locked`. Default: 5 s.
    pub busy_timeout: Duration,
    /// The write-ahead log is copied into the file, in the background, once it is longer than this, in bytes.
    /// Default: 256 MiB.
    pub checkpoint_bytes: u64,
    /// The file may not grow beyond this, in bytes: `StoreError::Full`. Default: no limit but the disk's.
    pub max_file_bytes: Option<u64>,
    /// How many bits of the hashes of authors and tags count in a file that is created now; fewer than 64 make them
    /// collide, which only tests want.
    #[doc(hidden)]
    pub hash_bits: u32,
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
        }
    }
}
