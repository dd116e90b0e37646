use crate::Error;
use crate::process::Identity;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};

/// The directory of a cluster: `NAME/` for each server, `logs/NAME.log`.
///
/// Dropping a temporary one removes it. When a test has failed, its logs stay and their path is printed.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
    temporary: bool,
}

impl Home {
    /// A new directory among the system's temporary files.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be made.
    pub fn temporary() -> Result<Arc<Self>, Error> {
        let failed = || Error::io("making a temporary directory");
        let path = tempfile::Builder::new().prefix("skein-").tempdir().map_err(failed())?.keep();
        let home = Self { path, temporary: true };
        home.prepare()?;
        Ok(Arc::new(home))
    }

    /// A directory that stays. Makes it where it is missing.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be made.
    pub fn at(path: &Path) -> Result<Arc<Self>, Error> {
        fs::create_dir_all(path).map_err(Error::io(format!("making {}", path.display())))?;
        let path = path.canonicalize().map_err(Error::io(format!("looking at {}", path.display())))?;
        let home = Self { path, temporary: false };
        home.prepare()?;
        Ok(Arc::new(home))
    }

    fn prepare(&self) -> Result<(), Error> {
        self.folder("logs")?;
        // When root starts Postgres it runs as another user, which must be able to enter the directory.
        fs::set_permissions(&self.path, fs::Permissions::from_mode(0o755))
            .map_err(Error::io(format!("opening {} for other users", self.path.display())))
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of a server. Makes it where it is missing.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf, Error> {
        let folder = self.path.join(name);
        fs::create_dir_all(&folder).map_err(Error::io(format!("making {}", folder.display())))?;
        Ok(folder)
    }

    /// The path of a server's log.
    pub fn log(&self, name: &str) -> PathBuf {
        self.path.join("logs").join(format!("{name}.log"))
    }

    /// Stores which process `name` is, so that another run finds it.
    pub(crate) fn remember(&self, name: &str, identity: Identity) -> Result<(), Error> {
        let text = serde_json::to_string(&identity).map_err(|error| Error::State(error.to_string()))?;
        write(&self.folder("run")?.join(format!("{name}.json")), &text)
    }

    /// The process that `name` was when it was last started.
    pub(crate) fn remembered(&self, name: &str) -> Option<Identity> {
        let text = fs::read_to_string(self.path.join("run").join(format!("{name}.json"))).ok()?;
        serde_json::from_str(&text).ok()
    }
}

/// Replaces a file atomically: a reader, or a crash, sees the old text or the new one.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Error> {
    let new = path.with_extension("new");
    let written = fs::write(&new, text).and_then(|()| fs::rename(&new, path));
    written.map_err(Error::io(format!("writing {}", path.display())))
}

impl Drop for Home {
    fn drop(&mut self) {
        if !self.temporary {
            return;
        }
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.path);
            return;
        }
        eprintln!("the logs stay in {}", self.path.join("logs").display());
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            if entry.file_name() != "logs" {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// The range of ports for servers. It is below the range of outgoing connections, so that a server's port stays free
/// while the server restarts.
const PORTS: std::ops::Range<u32> = 10_000..32_000;

/// The next port that this process tries, counted from the first of the range. A static, since two servers that get
/// their ports before either listens must not get the same one.
static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| AtomicU32::new(rand::random_range(PORTS)));

/// A TCP port of 127.0.0.1 on which no program listens, and which this process was not given before. Each process
/// begins at a random port, so that two rarely try the same one.
///
/// # Errors
/// [`Error::State`] if none was found.
pub fn free_port() -> Result<u16, Error> {
    let next = || PORTS.start + NEXT.fetch_add(1, Ordering::Relaxed) % (PORTS.end - PORTS.start);
    (0..PORTS.len())
        .filter_map(|_| u16::try_from(next()).ok())
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .ok_or_else(|| Error::State("there is no free TCP port on 127.0.0.1".to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    #[test]
    fn no_port_is_given_twice() {
        let given: std::collections::BTreeSet<_> = (0..2_000).map(|_| super::free_port().unwrap()).collect();
        assert_eq!(given.len(), 2_000);
    }
}
