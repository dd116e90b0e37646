//! The directory for accounts, certificates and keys. Only this user can read it, only one process uses it, and no file
//! in it is ever half written.

use rustix::fs::{FlockOperation, flock};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The process that holds a lock on this file owns the directory.
const LOCK: &str = "lock";

/// The largest file that is read: the relay writes none that is larger.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// An open directory. Dropping it lets another process open it.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    _lock: File,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It cannot be made or written.
    #[error("tls.directory: {}: {error}: the relay's user must be able to make it and to write there", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// Another process uses it.
    #[error(
        "tls.directory: {}: another relay uses it, and two must not order the same certificates: stop it, or give each a \
         directory and names of its own",
        path.display()
    )]
    InUse {
        /// Which.
        path: PathBuf,
    },
}

impl StateDirectory {
    /// Opens the directory at `path`, makes it where it is missing, and locks it.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        let lock = Self::prepare(path).map_err(|error| DirectoryError::Unusable { path: path.to_owned(), error })?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(DirectoryError::InUse { path: path.to_owned() }),
            Err(error) => Err(DirectoryError::Unusable { path: path.to_owned(), error: error.into() }),
        }
    }

    fn prepare(path: &Path) -> io::Result<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let metadata = std::fs::metadata(path)?;
        if metadata.mode() & 0o077 != 0 {
            std::fs::set_permissions(path, Permissions::from_mode(0o700))?;
        }
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path.join(LOCK))
    }

    /// The path of a file in it.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The content of a file; `None` where it does not exist.
    ///
    /// # Errors
    /// The system's error.
    pub fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.path.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Replaces a file, which only this user can read. After a crash there is the old file or the new one.
    ///
    /// # Errors
    /// The system's error; then the old file is still there.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (path, part) = (self.path.join(name), self.path.join(format!("{name}.part")));
        // A temporary file that a crash has left may have another mode.
        match std::fs::remove_file(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&part, &path)?;
        File::open(&self.path)?.sync_all()
    }

    /// Removes a file, if it exists.
    ///
    /// # Errors
    /// The system's error.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match std::fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_whole_and_are_for_this_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/tls");
        let directory = StateDirectory::open(&path).unwrap();
        assert_eq!(directory.read("x").unwrap(), None);
        std::fs::write(path.join("x.part"), "left by a crash").unwrap();
        directory.write("x", b"one").unwrap();
        directory.write("x", b"two").unwrap();
        assert_eq!(directory.read("x").unwrap().as_deref(), Some(&b"two"[..]));
        let mode = |name: &str| std::fs::metadata(path.join(name)).unwrap().mode() & 0o777;
        assert_eq!((mode("."), mode("x"), mode(LOCK)), (0o700, 0o600, 0o600));
        assert!(!path.join("x.part").exists());
        directory.remove("x").unwrap();
        directory.remove("x").unwrap();
        assert_eq!(directory.read("x").unwrap(), None);
    }

    #[test]
    fn a_directory_that_others_could_read_is_closed_to_them() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let _directory = StateDirectory::open(folder.path()).unwrap();
        assert_eq!(std::fs::metadata(folder.path()).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn one_process_has_it_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = StateDirectory::open(folder.path()).unwrap();
        let second = StateDirectory::open(folder.path()).unwrap_err();
        assert!(matches!(second, DirectoryError::InUse { .. }), "{second}");
        drop(first);
        StateDirectory::open(folder.path()).unwrap();
    }

    #[test]
    fn one_that_cannot_be_made_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = StateDirectory::open(&file.join("tls")).unwrap_err();
        assert!(error.to_string().starts_with("tls.directory: ") && error.to_string().contains("must be able to"));
    }
}
