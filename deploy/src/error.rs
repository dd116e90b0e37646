use std::path::PathBuf;
use std::time::Duration;

/// Why a server or a cluster could not be started, asked or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program is not installed.
    #[error("{program} is missing: install Debian's package {package} (as root: apt-get install {package})")]
    Missing {
        /// The program.
        program: String,
        /// The Debian package that contains it.
        package: &'static str,
    },
    /// A file or process could not be handled.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program failed.
    #[error("{what} failed ({status}):\n{output}")]
    Failed {
        /// Which.
        what: String,
        /// How it ended.
        status: String,
        /// The last that it wrote.
        output: String,
    },
    /// A server has ended though it should run.
    #[error("{name} has ended; the end of its log, {}:\n{output}", log.display())]
    Ended {
        /// The server's name.
        name: String,
        /// Its log.
        log: PathBuf,
        /// The last lines of the log.
        output: String,
    },
    /// Something did not happen in time.
    #[error("waited {waited:?} for {what}{}", if last.is_empty() { String::new() } else { format!("; the last answer: {last}") })]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
        /// The last answer.
        last: String,
    },
    /// Postgres refused a statement.
    #[error("{what}: {source}")]
    Sql {
        /// What was asked.
        what: String,
        /// What it said.
        source: sqlx::Error,
    },
    /// Redis refused a command.
    #[error("{what}: {source}")]
    Redis {
        /// What was asked.
        what: String,
        /// What it said.
        source: ::redis::RedisError,
    },
    /// HAProxy does not do what it should.
    #[error("{what}: {source}")]
    Front {
        /// What was tried.
        what: String,
        /// What it said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The cluster is not in a state that allows this.
    #[error("{0}")]
    State(String),
}

impl Error {
    /// Wraps an error of the system, with what was tried.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// Wraps an error of Postgres, with what was asked.
    pub(crate) fn sql(what: impl Into<String>) -> impl FnOnce(sqlx::Error) -> Self {
        let what = what.into();
        move |source| Self::Sql { what, source }
    }

    /// Wraps an error of HAProxy, with what was tried.
    pub(crate) fn front<E: std::error::Error + Send + Sync + 'static>(
        what: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self::Front { what, source: Box::new(source) }
    }

    /// Wraps an error of Redis, with what was asked.
    pub(crate) fn redis(what: impl Into<String>) -> impl FnOnce(::redis::RedisError) -> Self {
        let what = what.into();
        move |source| Self::Redis { what, source }
    }
}
