use crate::Error;
use crate::process::{User, prepare};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The directory in which Debian installs the programs of each version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// Postgres's programs, and the user that runs them.
#[derive(Clone, Debug)]
pub struct Programs {
    folder: PathBuf,
    /// See [`User::for_postgres`].
    pub user: Option<User>,
}

impl Programs {
    /// Finds the newest programs of Debian's packages, else those in `PATH`.
    ///
    /// # Errors
    /// [`Error::Missing`] if there are none.
    pub fn find() -> Result<Self, Error> {
        let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
        let folders = fs::read_dir(DEBIAN).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut versions: Vec<_> = folders.filter(|path| path.join("bin/initdb").exists()).collect();
        versions.sort_by_key(version);
        let debian = versions.pop().map(|path| path.join("bin"));
        let in_path = || std::env::split_paths(&std::env::var_os("PATH")?).find(|path| path.join("initdb").exists());
        let missing = || Error::Missing { program: "PostgreSQL (initdb)".to_owned(), package: "postgresql" };
        Ok(Self { folder: debian.or_else(in_path).ok_or_else(missing)?, user: User::for_postgres()? })
    }

    /// The path of a program.
    pub(crate) fn path(&self, program: &str) -> PathBuf {
        self.folder.join(program)
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// [`Error::Failed`] with its output.
    pub(crate) async fn run(&self, program: &str, folder: &Path, arguments: &[&str]) -> Result<(), Error> {
        let mut command = Command::new(self.path(program));
        command.args(arguments).current_dir(folder).stdin(Stdio::null());
        prepare(&mut command, &["PG"], self.user);
        let mut command = tokio::process::Command::from(command);
        command.kill_on_drop(true);
        let output = command.output().await.map_err(Error::io(format!("running {program}")))?;
        if output.status.success() {
            return Ok(());
        }
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        Err(Error::Failed { what: program.to_owned(), status: output.status.to_string(), output: text })
    }

    /// Makes the user that runs the servers the owner of a path, and makes sure that this user can reach it.
    ///
    /// # Errors
    /// [`Error::State`] if this user may not enter a directory on the way.
    pub(crate) fn own(&self, path: &Path) -> Result<(), Error> {
        use std::os::unix::fs::{MetadataExt, chown};
        let Some(user) = self.user else { return Ok(()) };
        for above in path.ancestors().skip(1) {
            let data = fs::metadata(above).map_err(Error::io(format!("looking at {}", above.display())))?;
            let class = if data.uid() == user.uid {
                0o100
            } else if data.gid() == user.gid {
                0o010
            } else {
                0o001
            };

            if data.mode() & class == 0 {
                let (path, above) = (path.display(), above.display());
                return Err(Error::State(format!(
                    "PostgreSQL runs as the user postgres, who may not enter {above} and so can't use {path}: take a \
                     directory that everyone can reach, such as one below /var/tmp, or don't work as root"
                )));
            }
        }
        chown(path, Some(user.uid), Some(user.gid)).map_err(Error::io(format!("giving away {}", path.display())))
    }
}
