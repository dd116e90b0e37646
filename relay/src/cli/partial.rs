//! A file that has its name only once it is whole: a full disk must not stay full of the remains of what failed.

use anyhow::Context;
use std::fs::File;
use std::future::Future;
use std::path::{Path, PathBuf};
use tokio::signal::unix::{SignalKind, signal};

/// A file in the making, under its name with `.partial` added. Removed when dropped before it was
/// [finished](Self::finish).
pub(super) struct Partial {
    to: PathBuf,
    path: PathBuf,
}

impl Partial {
    /// Makes room for the file; what an attempt has left that was killed goes.
    ///
    /// # Errors
    /// Where there is a file `to`.
    pub(super) fn new(to: &Path) -> anyhow::Result<Self> {
        absent(to)?;
        let partial = Self { to: to.to_owned(), path: with(to, ".partial") };
        partial.remove();
        Ok(partial)
    }

    /// Where to write.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the file on disk and gives it its name.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        absent(&self.to)?;
        let synced = File::open(&self.path).and_then(|file| file.sync_all());
        let named = synced.and_then(|()| std::fs::rename(&self.path, &self.to));
        named.with_context(|| format!("cannot create {}", self.to.display()))?;
        let folder = self.to.parent().filter(|folder| !folder.as_os_str().is_empty());
        let synced = File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all());
        synced.with_context(|| format!("cannot put the name {} on disk", self.to.display()))
    }

    fn remove(&self) {
        // Mostly there is none. SQLite has a journal beside what it writes.
        for path in [&self.path, &with(&self.path, "-journal")] {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        self.remove();
    }
}

fn absent(path: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(!path.exists(), "cannot create {}: the file exists", path.display());
    Ok(())
}

fn with(path: &Path, suffix: &str) -> PathBuf {
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
        std::fs::write(with(&to, ".partial"), "killed before").unwrap();
        let partial = Partial::new(&to).unwrap();
        assert_eq!(names(folder.path()), [""; 0]);
        std::fs::write(partial.path(), "half").unwrap();
        std::fs::write(with(partial.path(), "-journal"), "half").unwrap();
        drop(partial);
        assert_eq!(names(folder.path()), [""; 0]);
    }

    #[test]
    fn what_is_finished_has_its_name_and_overwrites_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("copy");
        let (one, other) = (Partial::new(&to).unwrap(), Partial::new(&to).unwrap());
        std::fs::write(one.path(), "whole").unwrap();
        one.finish().unwrap();
        assert_eq!(names(folder.path()), ["copy"]);
        assert!(Partial::new(&to).is_err());
        std::fs::write(other.path(), "late").unwrap();
        assert!(other.finish().is_err());
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "whole");
        assert_eq!(names(folder.path()), ["copy"]);
    }
}
