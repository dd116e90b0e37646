use super::Programs;
use crate::process::{Launch, Life, Process, working_in};
use crate::wait::ready;
use crate::{Error, Home, STEP_TIMEOUT, Signal, until};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection, Row};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The tuned settings of deploy/postgres.
const PRIMARY_CONF: &str = include_str!("../../postgres/primary.conf");
const REPLICA_CONF: &str = include_str!("../../postgres/replica.conf");

/// How long a shutdown may take before it becomes a kill.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// The role of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Takes writes.
    Primary,
    /// Follows the primary.
    Replica,
}

/// A server's place in its cluster.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct ServerPlace {
    /// `primary`, `replica-1`, ...; a change of role does not change it.
    pub name: String,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    /// What it is for.
    pub role: Role,
    /// The port of the server that it follows.
    pub upstream: Option<u16>,
}

/// One Postgres server.
#[derive(Debug)]
pub struct PostgresServer {
    pub(super) place: ServerPlace,
    /// True while it receives nothing from the server that it follows.
    pub(super) receives: bool,
    pub(super) settings: BTreeMap<String, String>,
    pub(super) programs: Programs,
    pub(super) life: Life,
    pub(super) process: Option<Process>,
    pub(super) home: Arc<Home>,
}

impl PostgresServer {
    /// Its name; a change of role does not change it.
    pub fn name(&self) -> &str {
        &self.place.name
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.place.port
    }

    /// What it is for.
    pub fn role(&self) -> Role {
        self.place.role
    }

    /// What sqlx connects to, for a database: `postgres://postgres@127.0.0.1:PORT/DATABASE`.
    pub fn database_url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.place.port)
    }

    /// The same for the database `postgres`, which every server has.
    pub fn url(&self) -> String {
        self.database_url("postgres")
    }

    /// A connection to the database `postgres`.
    ///
    /// # Errors
    /// [`Error::Sql`] if none can be opened within two seconds.
    pub async fn connect(&self) -> Result<PgConnection, Error> {
        let options =
            PgConnectOptions::new().host("127.0.0.1").port(self.place.port).username("postgres").database("postgres");
        let wait = Duration::from_secs(2);
        let connected = tokio::time::timeout(wait, PgConnection::connect_with(&options)).await;
        let connected = connected.unwrap_or_else(|_| Err(sqlx::Error::PoolTimedOut));
        connected.map_err(Error::sql(format!("connecting to {}", self.place.name)))
    }

    /// Runs one statement on a connection of its own.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub async fn execute(&self, statement: &str) -> Result<(), Error> {
        let mut connection = self.connect().await?;
        let done = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await;
        done.map_err(Error::sql(format!("{}: {statement}", self.place.name)))?;
        Ok(())
    }

    /// The first column of the first row of a query, on a connection of its own.
    ///
    /// # Errors
    /// [`Error::Sql`], also when there is no row or its type is another.
    pub async fn ask<T>(&self, query: &str) -> Result<T, Error>
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        let mut connection = self.connect().await?;
        let row = sqlx::query(AssertSqlSafe(query.to_owned())).fetch_one(&mut connection).await;
        row.and_then(|row| row.try_get(0)).map_err(Error::sql(format!("{}: {query}", self.place.name)))
    }

    /// Whether its process runs.
    pub fn is_alive(&self) -> bool {
        self.process.as_ref().is_some_and(Process::is_alive)
    }

    /// The process, unless it was stopped.
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// Whether it was the primary before a failover and has not been rebuilt since: until then it must not run.
    pub fn is_fenced(&self) -> bool {
        self.place.role == Role::Replica && self.place.upstream.is_none()
    }

    /// Sends a signal to the server and all its backends: `STOP` makes it hang, `CONT` ends that.
    pub fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal_all(signal);
        }
    }

    /// Starts it, if it does not run, and waits until it answers queries.
    ///
    /// # Errors
    /// [`Error::Ended`] with its log if it ends; [`Error::State`] if it is fenced.
    pub async fn start(&mut self) -> Result<(), Error> {
        if !self.is_alive() {
            if self.is_fenced() {
                return Err(Error::State(format!("{} was the primary once and must be rebuilt", self.place.name)));
            }
            self.write_settings()?;
            self.clear_lock().await?;
            let data = self.data();
            let launch = Launch {
                name: self.place.name.clone(),
                program: self.programs.path("postgres"),
                arguments: vec!["-D".into(), data.clone().into()],
                environment: Vec::new(),
                hidden: &["PG"],
                folder: data,
                home: self.home.clone(),
                user: self.programs.user,
                life: self.life,
                // An immediate shutdown leaves neither children nor shared memory.
                last_signal: Signal::QUIT,
            };
            self.process = Some(launch.start()?);
        }
        ready(&self.place.name, self.process.as_ref(), async || self.ask::<i32>("SELECT 1").await.map(drop)).await
    }

    /// Removes the lock of a server that was killed, once none of its processes is left.
    ///
    /// Postgres refuses to start while a process has the id in the lock, even a process that has ended and is not
    /// reaped, as happens in containers.
    async fn clear_lock(&self) -> Result<(), Error> {
        let data = self.data();
        let lock = data.join("postmaster.pid");
        if !lock.exists() {
            return Ok(());
        }
        until(&format!("an earlier {} to end", self.place.name), STEP_TIMEOUT, async || {
            let alive = working_in(&data);
            if alive.is_empty() { Ok(()) } else { Err(format!("processes {alive:?} run")) }
        })
        .await?;
        fs::remove_file(&lock).map_err(Error::io(format!("removing {}", lock.display())))
    }

    /// A fast shutdown: open transactions are rolled back, replicas get the last of the WAL.
    ///
    /// # Errors
    /// [`Error::Timeout`] if it cannot be ended.
    pub async fn stop(&mut self) -> Result<(), Error> {
        let Some(process) = self.process.take() else { return Ok(()) };
        process.stop(Signal::INT, STOP_TIMEOUT).await?;
        Ok(())
    }

    /// An immediate shutdown, as a fence: nothing is acknowledged or sent any more.
    ///
    /// # Errors
    /// [`Error::Timeout`] if it cannot be ended.
    pub async fn fence(&mut self) -> Result<(), Error> {
        let Some(process) = self.process.take() else { return Ok(()) };
        // A server that hangs gets the pending signal first when it goes on, and acknowledges nothing more.
        process.signal_all(Signal::QUIT);
        process.signal_all(Signal::CONT);
        process.stop(Signal::QUIT, STOP_TIMEOUT).await?;
        Ok(())
    }

    /// kill -9 of the server and all its backends; returns when they are gone.
    ///
    /// # Errors
    /// [`Error::Timeout`] if they do not go.
    pub async fn kill(&mut self) -> Result<(), Error> {
        match self.process.take() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// Changes settings of postgresql.conf and waits until they are in force. Those that need a restart are not.
    ///
    /// # Errors
    /// [`Error::Timeout`] if the server does not take them.
    pub async fn set(&mut self, settings: &[(&str, &str)]) -> Result<(), Error> {
        for (key, value) in settings {
            self.settings.insert((*key).to_owned(), (*value).to_owned());
        }
        self.reload().await
    }

    /// Writes the settings and waits until a running server has read them.
    pub(super) async fn reload(&mut self) -> Result<(), Error> {
        if !self.is_alive() {
            return self.write_settings();
        }
        let before: String = self.ask("SELECT pg_conf_load_time()::text").await?;
        self.write_settings()?;
        self.execute("SELECT pg_reload_conf()").await?;
        until(&format!("{} to take its settings", self.place.name), STEP_TIMEOUT, async || {
            let now =
                self.ask::<String>("SELECT pg_conf_load_time()::text").await.map_err(|error| error.to_string())?;
            if now == before { Err(now) } else { Ok(()) }
        })
        .await?;

        let wrong = "SELECT coalesce(string_agg(name || ': ' || error, ', '), '') FROM pg_file_settings \
                     WHERE error IS NOT NULL AND error NOT LIKE '%without restarting%'";
        match self.ask::<String>(wrong).await?.as_str() {
            "" => Ok(()),
            errors => Err(Error::State(format!("{} refuses its settings: {errors}", self.place.name))),
        }
    }

    /// Stops to apply WAL; reads see no newer state until [`resume_replay`](Self::resume_replay).
    ///
    /// # Errors
    /// [`Error::Sql`] if it is not a replica; [`Error::Timeout`] if it does not pause.
    pub async fn pause_replay(&self) -> Result<(), Error> {
        self.execute("SELECT pg_wal_replay_pause()").await?;
        // A replica notices the request at its next record, or at its next wake-up.
        until(&format!("{} to pause", self.place.name), STEP_TIMEOUT, async || {
            let state = self.ask::<String>("SELECT pg_get_wal_replay_pause_state()").await;
            match state.map_err(|error| error.to_string())?.as_str() {
                "paused" => Ok(()),
                state => Err(state.to_owned()),
            }
        })
        .await
    }

    /// Applies WAL again.
    ///
    /// # Errors
    /// [`Error::Sql`] if it is not a replica.
    pub async fn resume_replay(&self) -> Result<(), Error> {
        self.execute("SELECT pg_wal_replay_resume()").await
    }

    /// Stops or resumes to receive its primary's WAL, as when the line between them is cut. The WAL is not lost, unless
    /// a failover makes this server the primary meanwhile. After a failover every server receives again.
    ///
    /// # Errors
    /// [`Error::Timeout`] if it goes on receiving.
    pub async fn receive(&mut self, receives: bool) -> Result<(), Error> {
        self.receives = receives;
        self.reload().await?;
        if receives { Ok(()) } else { self.wait_silent().await }
    }

    /// Waits until the receiver has ended: it first writes everything that it has received.
    pub(super) async fn wait_silent(&self) -> Result<(), Error> {
        until(&format!("{} to end receiving", self.place.name), STEP_TIMEOUT, async || {
            let receiving = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'";
            match self.ask::<i64>(receiving).await {
                Ok(0) => Ok(()),
                Ok(_) => Err("it receives".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await
    }

    /// Applies each commit this long after its time by the primary's clock (`recovery_min_apply_delay`).
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub async fn apply_delay(&mut self, delay: Duration) -> Result<(), Error> {
        let milliseconds = delay.as_millis().to_string();
        self.set(&[("recovery_min_apply_delay", &milliseconds)]).await
    }

    /// How many bytes of WAL it has written (primary) or received (replica): comparable between the servers.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub async fn position(&self) -> Result<i64, Error> {
        self.ask(
            "SELECT (CASE WHEN pg_is_in_recovery()
                     THEN greatest(coalesce(pg_last_wal_receive_lsn(), '0/0'), coalesce(pg_last_wal_replay_lsn(), '0/0'))
                     ELSE pg_current_wal_flush_lsn() END - '0/0')::int8",
        )
        .await
    }

    pub(super) fn data(&self) -> PathBuf {
        self.home.path().join(&self.place.name).join("data")
    }

    /// Its name without a hyphen, which Postgres does not allow in names of slots.
    pub(super) fn slot(&self) -> String {
        self.place.name.replace('-', "_")
    }

    pub(super) fn write_settings(&self) -> Result<(), Error> {
        let data = self.data();
        let mut lines = vec![
            "# Written by deploy at every start and change.".to_owned(),
            format!("include '{}.conf'", if self.place.role == Role::Primary { "primary" } else { "replica" }),
            "listen_addresses = '127.0.0.1'".to_owned(),
            format!("port = {}", self.place.port),
            "unix_socket_directories = ''".to_owned(),
        ];

        let signal = data.join("standby.signal");
        let done = match self.place.upstream {
            Some(port) => {
                let name = &self.place.name;
                if self.receives {
                    lines.push(format!(
                        "primary_conninfo = 'host=127.0.0.1 port={port} user=postgres application_name={name}'"
                    ));
                }
                lines.push(format!("primary_slot_name = '{}'", self.slot()));
                fs::write(&signal, "")
            }
            None if signal.exists() => fs::remove_file(&signal),
            None => Ok(()),
        };

        done.map_err(Error::io(format!("writing {}", signal.display())))?;
        lines.extend(self.settings.iter().map(|(key, value)| format!("{key} = '{}'", value.replace('\'', "''"))));
        lines.push(String::new());
        let files =
            [("primary.conf", PRIMARY_CONF), ("replica.conf", REPLICA_CONF), ("postgresql.conf", &lines.join("\n"))];
        for (name, text) in files {
            let path = data.join(name);
            fs::write(&path, text).map_err(Error::io(format!("writing {}", path.display())))?;
        }
        Ok(())
    }
}
