//! HAProxy as a process: checks a file, starts it, reloads it.

use crate::runtime::{Runtime, RuntimeError, ask};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

/// The pause between two questions to the master whether the new process is there.
const LOOK: Duration = Duration::from_millis(50);
/// The most time for a reload.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(20);

/// Why HAProxy could not be checked, started or reloaded.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program is not installed.
    #[error("haproxy cannot be started: {0}; Debian's package is `haproxy`")]
    Start(#[from] io::Error),
    /// It refused the file.
    #[error("haproxy refuses {}:\n{words}", .file.display())]
    Refused {
        /// The file.
        file: PathBuf,
        /// Its messages.
        words: String,
    },
    /// A socket did not answer as it should.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// No new process came within 20 s. The old one keeps serving.
    #[error("the reload brought no new process: haproxy's log says why")]
    NotReloaded,
}

/// The program. Debian installs it in a directory that only root's PATH has.
pub fn program() -> &'static Path {
    let debian = Path::new("/usr/sbin/haproxy");
    if debian.exists() { debian } else { Path::new("haproxy") }
}

/// The arguments that start HAProxy as a master with a worker, which can [`reload`].
pub fn arguments(config: &Path, master_socket: &Path) -> Vec<OsString> {
    let mut socket = master_socket.as_os_str().to_owned();
    socket.push(",mode,600,level,admin");
    vec!["-W".into(), "-S".into(), socket, "-f".into(), config.into()]
}

/// Checks that HAProxy accepts a file (`haproxy -c`). Files that it names, such as certificates, must exist.
pub async fn check(config: &Path) -> Result<(), ProcessError> {
    let output = Command::new(program()).arg("-c").arg("-f").arg(config).output().await?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ProcessError::Refused { file: config.to_owned(), words })
}

/// Lets a new process serve with the present file, and with the present states of the servers. Open connections stay
/// with the old process until they end, or for `front.keep_after_reload_seconds`. A file that HAProxy refuses changes
/// nothing.
pub async fn reload(
    config: &Path,
    runtime: &Runtime,
    master_socket: &Path,
    state_file: &Path,
) -> Result<(), ProcessError> {
    check(config).await?;
    runtime.save_state(state_file).await?;
    let before = worker(master_socket).await?;
    // The master executes itself again while it answers, so the answer may be cut off.
    let _ = ask(master_socket, "reload").await;
    let deadline = Instant::now() + RELOAD_TIMEOUT;
    while Instant::now() < deadline {
        // While the master restarts, its socket does not answer.
        if let Ok(Some(now)) = worker(master_socket).await
            && Some(now) != before
        {
            return Ok(());
        }
        sleep(LOOK).await;
    }
    Err(ProcessError::NotReloaded)
}

/// The process that takes new connections; `None` while there is none.
async fn worker(master_socket: &Path) -> Result<Option<u32>, RuntimeError> {
    Ok(current_worker(&ask(master_socket, "show proc").await?))
}

fn current_worker(processes: &str) -> Option<u32> {
    let line = processes.lines().skip_while(|line| !line.starts_with("# workers")).nth(1)?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::current_worker;

    #[test]
    fn the_current_worker_is_not_an_old_one() {
        let table = "#<PID> <type>\n1162 master 5\n# workers\n1271            worker 1\n# old workers\n1233 worker 3\n";
        assert_eq!(current_worker(table), Some(1271));
        assert_eq!(current_worker(&table.replace("1271            worker 1\n", "")), None);
        assert_eq!(current_worker(""), None);
    }
}
