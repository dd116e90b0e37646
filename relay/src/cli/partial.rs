//! A file that gets its name when it is complete. What a failed command has written is removed: it may be what fills
//! the disk.

use anyhow::Context;
use std::fs::{File, TryLockError};
use std::future::Future;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tokio::signal::unix::{SignalKind, signal};

/// A file that is being written, under its name with `.partial` added. Removed when dropped before it was
/// [finished](Self::finish).
pub(super) struct Partial {
    to: PathBuf,
    path: PathBuf,
    /// Held locked: another process with the same target would write into the same partial file, or remove it.
    _lock: File,
}

impl Partial {
    /// Locks the target, and removes what a killed attempt has left.
    ///
    /// # Errors
    /// Where a file `to` exists, or another process is writing it.
    pub(super) fn new(to: &Path) -> anyhow::Result<Self> {
        ensure_absent(to)?;
        let lock = lock(to)?;
        let partial = Self { to: to.to_owned(), path: with_suffix(to, ".partial"), _lock: lock };
        partial.remove();
        Ok(partial)
    }

    /// Where to write.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Syncs the file to disk and gives it its name.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        ensure_absent(&self.to)?;
        let synced = File::open(&self.path).and_then(|file| file.sync_all());
        let named = synced.and_then(|()| std::fs::rename(&self.path, &self.to));
        named.with_context(|| format!("cannot create {}", self.to.display()))?;
        let folder = self.to.parent().filter(|folder| !folder.as_os_str().is_empty());
        let synced = File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all());
        synced.with_context(|| format!("cannot put the name {} on disk", self.to.display()))
    }

    fn remove(&self) {
        // Mostly neither exists. SQLite keeps a journal beside the file that it writes.
        for path in [&self.path, &with_suffix(&self.path, "-journal")] {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        self.remove();
        let _ = std::fs::remove_file(with_suffix(&self.to, LOCK_SUFFIX));
    }
}

/// The suffix of the file whose lock protects a target.
const LOCK_SUFFIX: &str = ".partial.lock";

fn lock(to: &Path) -> anyhow::Result<File> {
    let path = with_suffix(to, LOCK_SUFFIX);
    loop {
        let opened = File::options().write(true).create(true).truncate(false).open(&path);
        let file = opened.with_context(|| format!("cannot create {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => anyhow::bail!("another process is writing {}", to.display()),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        // The process that held the lock may have removed the file since it was opened here; then the next process
        // would lock another one.
        let held = file.metadata()?.ino();
        if std::fs::metadata(&path).is_ok_and(|there| there.ino() == held) {
            return Ok(file);
        }
    }
}

fn ensure_absent(path: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(!path.exists(), "cannot create {}: the file exists", path.display());
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Runs `work`, but drops it when the process is asked to stop, so that it can clean up.
pub(super) async fn unless_stopped<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let name = tokio::select! {
        done = work => return done,
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
        _ = hangup.recv() => "SIGHUP",
    };
    anyhow::bail!("stopped by {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[test]
    fn nothing_is_left_of_what_was_not_finished() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("copy");
        std::fs::write(with_suffix(&to, ".partial"), "killed before").unwrap();
        let partial = Partial::new(&to).unwrap();
        assert_eq!(names(folder.path()), ["copy.partial.lock"]);
        std::fs::write(partial.path(), "half").unwrap();
        std::fs::write(with_suffix(partial.path(), "-journal"), "half").unwrap();
        drop(partial);
        assert_eq!(names(folder.path()), [""; 0]);
    }

    #[test]
    fn what_is_finished_has_its_name_and_overwrites_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("copy");
        let one = Partial::new(&to).unwrap();
        std::fs::write(one.path(), "whole").unwrap();
        assert!(Partial::new(&to).is_err_and(|error| error.to_string().contains("another process")));
        assert_eq!(std::fs::read_to_string(one.path()).unwrap(), "whole", "nobody else has touched it");
        one.finish().unwrap();
        assert_eq!(names(folder.path()), ["copy"]);
        assert!(Partial::new(&to).is_err_and(|error| error.to_string().contains("exists")));
        std::fs::remove_file(&to).unwrap();
        let late = Partial::new(&to).unwrap();
        std::fs::write(late.path(), "late").unwrap();
        std::fs::write(&to, "whole").unwrap();
        assert!(late.finish().is_err());
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "whole");
        assert_eq!(names(folder.path()), ["copy"]);
    }
}
