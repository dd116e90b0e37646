//! A Postgres primary and its streaming replicas.

mod failover;
mod programs;
mod server;

pub use failover::Failover;
pub use programs::Programs;
pub use server::{PostgresServer, Role, ServerPlace};

use crate::process::{Life, Process};
use crate::{Error, Home, STEP_TIMEOUT, free_port, until};
use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

/// Settings for tests, where many servers share one machine: little memory, and a detailed log.
const SMALL: &[(&str, &str)] = &[
    ("shared_buffers", "32MB"),
    ("effective_cache_size", "256MB"),
    ("maintenance_work_mem", "32MB"),
    ("work_mem", "8MB"),
    ("min_wal_size", "32MB"),
    ("max_wal_size", "256MB"),
    ("huge_pages", "off"),
];

/// The options of a new cluster.
#[derive(Debug)]
pub struct Setup {
    replicas: usize,
    synchronous: bool,
    settings: BTreeMap<String, String>,
    home: Option<Arc<Home>>,
    life: Life,
}

/// A primary and its replicas. Dropping it ends their processes, unless they are detached.
///
/// ```no_run
/// # async fn example() -> Result<(), deploy::Error> {
/// let mut cluster = deploy::postgres::PostgresCluster::setup().replicas(2).synchronous(true).start().await?;
/// let urls = cluster.database_urls("postgres");
/// cluster.server("replica-1")?.pause_replay().await?;
/// cluster.primary_mut()?.kill().await?;
/// cluster.failover().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PostgresCluster {
    /// In a new cluster the primary is first; a failover changes the roles, not the order.
    pub servers: Vec<PostgresServer>,
    synchronous: bool,
    settings: BTreeMap<String, String>,
    life: Life,
    programs: Programs,
    home: Arc<Home>,
}

impl Setup {
    /// Sets the number of replicas; by default 0.
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// Sets whether a commit waits until one of the replicas has it on disk; by default it does not.
    pub fn synchronous(mut self, synchronous: bool) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// Sets a setting of postgresql.conf for all servers; it overrides deploy/postgres.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Sets the directory of its files; by default a temporary directory of its own.
    pub fn home(mut self, home: Arc<Home>) -> Self {
        self.home = Some(home);
        self
    }

    /// Sets how long the servers run; by default as long as their handles exist.
    pub fn life(mut self, life: Life) -> Self {
        self.life = life;
        self
    }

    /// Plans the cluster on free ports; starts nothing.
    ///
    /// # Errors
    /// [`Error::Missing`] without Postgres's programs; [`Error::Io`].
    pub fn plan(self) -> Result<PostgresCluster, Error> {
        let replicas = self.replicas;
        let mut cluster = self.resume(&[])?;
        for _ in 0..=replicas {
            cluster.add()?;
        }
        Ok(cluster)
    }

    /// Opens the cluster that an earlier run has described; finds its running servers.
    ///
    /// # Errors
    /// [`Error::Missing`] without Postgres's programs; [`Error::Io`].
    pub fn resume(self, places: &[ServerPlace]) -> Result<PostgresCluster, Error> {
        let (synchronous, settings, life) = (self.synchronous, self.settings, self.life);
        let home = self.home.map_or_else(Home::temporary, Ok)?;
        let programs = Programs::find()?;
        let mut cluster = PostgresCluster { servers: Vec::new(), synchronous, settings, life, programs, home };
        for place in places {
            cluster.servers.push(cluster.server_at(place.clone()));
        }
        Ok(cluster)
    }

    /// Makes the databases, starts the servers and waits until all answer and every replica streams.
    ///
    /// # Errors
    /// Any [`Error`] of a step, with the end of the server's log.
    pub async fn start(self) -> Result<PostgresCluster, Error> {
        let mut cluster = self.plan()?;
        cluster.start().await?;
        Ok(cluster)
    }
}

impl PostgresCluster {
    /// The options of a cluster with little memory, for tests.
    pub fn setup() -> Setup {
        Self::with_settings(SMALL.iter().map(|(key, value)| (*key, (*value).to_owned())))
    }

    /// The options of a cluster of `servers` that together take a quarter of this machine's memory.
    ///
    /// # Errors
    /// [`Error::Io`] if the size of the memory cannot be read.
    pub fn setup_for_machine(servers: usize) -> Result<Setup, Error> {
        let text = fs::read_to_string("/proc/meminfo").map_err(Error::io("reading /proc/meminfo"))?;
        let kib = text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok());
        let kib: u64 = kib.ok_or_else(|| Error::State("/proc/meminfo names no MemTotal".to_owned()))?;
        let share = kib / 1024 / u64::try_from(servers.max(1)).unwrap_or(u64::MAX);
        let megabytes = |value: u64| format!("{value}MB");
        Ok(Self::with_settings([
            ("shared_buffers", megabytes((share / 4).clamp(32, 4096))),
            ("effective_cache_size", megabytes((share * 3 / 4).max(64))),
            ("maintenance_work_mem", megabytes((share / 16).clamp(16, 1024))),
            // All servers share one disk.
            ("min_wal_size", megabytes(128)),
            ("max_wal_size", megabytes(2048)),
            ("wal_keep_size", megabytes(128)),
            ("max_slot_wal_keep_size", megabytes(4096)),
        ]))
    }

    fn with_settings(settings: impl IntoIterator<Item = (&'static str, String)>) -> Setup {
        let settings = settings.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Setup { replicas: 0, synchronous: false, settings, home: None, life: Life::Guarded }
    }

    /// The description that [`Setup::resume`] takes.
    pub fn places(&self) -> Vec<ServerPlace> {
        self.servers.iter().map(|server| server.place.clone()).collect()
    }

    /// Adds a server: the first is the primary, others are replicas. [`start`](Self::start) makes and starts it.
    ///
    /// # Errors
    /// [`Error::State`] if there is no free port.
    pub fn add(&mut self) -> Result<(), Error> {
        let port = free_port()?;
        let place = if self.servers.is_empty() {
            ServerPlace { name: "primary".to_owned(), port, role: Role::Primary, upstream: None }
        } else {
            let name = format!("replica-{}", self.servers.len());
            ServerPlace { name, port, role: Role::Replica, upstream: Some(self.primary()?.place.port) }
        };
        self.servers.push(self.server_at(place));
        Ok(())
    }

    fn server_at(&self, place: ServerPlace) -> PostgresServer {
        let process = (self.life == Life::Detached).then(|| Process::find(&place.name, &self.home)).flatten();
        let (settings, programs, home) = (self.settings.clone(), self.programs.clone(), self.home.clone());
        PostgresServer { place, receives: true, settings, programs, life: self.life, process, home }
    }

    /// Makes missing servers, rebuilds fenced ones, starts those that do not run, and waits until all answer and every
    /// replica streams.
    ///
    /// # Errors
    /// Any [`Error`] of a step, with the end of the server's log.
    pub async fn start(&mut self) -> Result<(), Error> {
        let primary = self.primary_index()?;
        self.start_server(primary).await?;
        let replicas: Vec<_> = (0..self.servers.len()).filter(|index| *index != primary).collect();
        for index in replicas.iter().copied() {
            self.start_server(index).await?;
        }
        self.wait_streaming().await?;
        // Last: commits before the replicas stream would have waited in vain.
        self.set_synchronous(primary, &replicas).await
    }

    /// Starts one server; makes its data where it has none.
    async fn start_server(&mut self, index: usize) -> Result<(), Error> {
        let server = &self.servers[index];
        let empty = !server.data().join("PG_VERSION").exists();
        if server.place.role == Role::Primary && empty {
            self.initialise(index).await?;
        } else if server.place.role == Role::Replica && (empty || server.is_fenced()) {
            self.rebuild(index).await?;
        }
        self.servers[index].start().await
    }

    async fn initialise(&self, index: usize) -> Result<(), Error> {
        let server = &self.servers[index];
        let arguments = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"];
        self.make_data(server, "initdb", &arguments).await
    }

    /// Replaces a replica's data by a base backup of the primary. Leaves the replica stopped.
    ///
    /// # Errors
    /// [`Error::Failed`] with what pg_basebackup said.
    pub async fn rebuild(&mut self, index: usize) -> Result<(), Error> {
        self.servers[index].fence().await?;
        self.create_slot(self.primary()?, &self.servers[index].slot()).await?;
        let port = self.primary()?.place.port;
        let server = &mut self.servers[index];
        (server.place.role, server.place.upstream) = (Role::Replica, Some(port));
        let server = &self.servers[index];
        let (port, slot) = (port.to_string(), server.slot());
        let from = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-S", &slot];
        let how = ["-X", "stream", "-c", "fast", "--no-sync"];
        self.make_data(server, "pg_basebackup", &[&from[..], &how[..]].concat()).await
    }

    /// Lets a program make a server's data directory. An interrupted program leaves none behind.
    async fn make_data(&self, server: &PostgresServer, program: &str, arguments: &[&str]) -> Result<(), Error> {
        let folder = self.home.folder(&server.place.name)?;
        self.programs.own(&folder)?;
        let (new, data) = (folder.join("new"), server.data());
        for path in [&new, &data].into_iter().filter(|path| path.exists()) {
            fs::remove_dir_all(path).map_err(Error::io(format!("removing {}", path.display())))?;
        }
        self.programs.run(program, &folder, &[arguments, &["-D", "new"]].concat()).await?;
        fs::rename(&new, &data).map_err(Error::io(format!("making {}", data.display())))
    }

    /// Makes sure that `on` keeps the WAL that the owner of `slot` has not received yet.
    async fn create_slot(&self, on: &PostgresServer, slot: &str) -> Result<(), Error> {
        on.execute(&format!(
            "SELECT pg_create_physical_replication_slot('{slot}', true)
             WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '{slot}')"
        ))
        .await
    }

    /// The index of the primary in [`servers`](Self::servers).
    fn primary_index(&self) -> Result<usize, Error> {
        let place = self.servers.iter().position(|server| server.place.role == Role::Primary);
        place.ok_or_else(|| Error::State("the cluster has no primary".to_owned()))
    }

    /// The server that takes writes.
    ///
    /// # Errors
    /// [`Error::State`] if a failover was not completed.
    pub fn primary(&self) -> Result<&PostgresServer, Error> {
        Ok(&self.servers[self.primary_index()?])
    }

    /// The same, to stop, start or change it.
    ///
    /// # Errors
    /// As [`primary`](Self::primary).
    pub fn primary_mut(&mut self) -> Result<&mut PostgresServer, Error> {
        let index = self.primary_index()?;
        Ok(&mut self.servers[index])
    }

    /// A server by its name: `primary`, `replica-1`, ...
    ///
    /// # Errors
    /// [`Error::State`] if there is none.
    pub fn server(&self, name: &str) -> Result<&PostgresServer, Error> {
        self.servers.iter().find(|server| server.place.name == name).ok_or_else(|| unknown(name))
    }

    /// The same, to stop, start or change it.
    ///
    /// # Errors
    /// [`Error::State`] if there is none.
    pub fn server_mut(&mut self, name: &str) -> Result<&mut PostgresServer, Error> {
        self.servers.iter_mut().find(|server| server.place.name == name).ok_or_else(|| unknown(name))
    }

    /// The URLs of one database on all servers, as relays take them; join them with commas.
    pub fn database_urls(&self, database: &str) -> Vec<String> {
        self.servers.iter().map(|server| server.database_url(database)).collect()
    }

    /// Waits until every replica that runs streams from the primary.
    ///
    /// # Errors
    /// [`Error::Timeout`] with those that do.
    pub async fn wait_streaming(&self) -> Result<(), Error> {
        let replicas = self.servers.iter().filter(|server| server.place.role == Role::Replica && server.is_alive());
        let wanted: Vec<_> = replicas.map(|server| server.place.name.clone()).collect();
        let primary = self.primary()?;
        until("the replicas to stream", STEP_TIMEOUT, async || {
            let names = "SELECT coalesce(array_agg(application_name::text), '{}') FROM pg_stat_replication \
                         WHERE state = 'streaming'";
            let names = primary.ask::<Vec<String>>(names).await.map_err(|error| error.to_string())?;
            if wanted.iter().all(|name| names.contains(name)) { Ok(()) } else { Err(format!("{names:?} do")) }
        })
        .await
    }

    /// Waits until every replica that runs has applied everything that the primary has written before the call.
    ///
    /// # Errors
    /// [`Error::Timeout`], as when a replica's replay is paused.
    pub async fn wait_applied(&self) -> Result<(), Error> {
        let position: String = self.primary()?.ask("SELECT pg_current_wal_flush_lsn()::text").await?;
        for server in self.servers.iter().filter(|server| server.place.role == Role::Replica && server.is_alive()) {
            let query = format!("SELECT pg_last_wal_replay_lsn() >= '{position}'::pg_lsn");
            until(&format!("{} to apply {position}", server.place.name), STEP_TIMEOUT, async || {
                match server.ask::<bool>(&query).await {
                    Ok(true) => Ok(()),
                    Ok(false) => Err("not yet".to_owned()),
                    Err(error) => Err(error.to_string()),
                }
            })
            .await?;
        }
        Ok(())
    }

    /// Where the cluster is synchronous, sets the replicas of which one must have a commit before it is acknowledged.
    ///
    /// They are named: `ANY 1 (*)` would also count a server that a failover never asks.
    async fn set_synchronous(&mut self, primary: usize, replicas: &[usize]) -> Result<(), Error> {
        let names: Vec<_> = replicas.iter().map(|index| format!("\"{}\"", self.servers[*index].place.name)).collect();
        let value =
            if self.synchronous && !names.is_empty() { format!("ANY 1 ({})", names.join(", ")) } else { String::new() };
        self.servers[primary].set(&[("synchronous_standby_names", &value)]).await
    }

    /// Stops all servers, the primary first, so that the replicas receive all of its WAL.
    ///
    /// # Errors
    /// [`Error::Timeout`] if one cannot be ended.
    pub async fn stop(&mut self) -> Result<(), Error> {
        self.primary_mut()?.stop().await?;
        for server in &mut self.servers {
            server.stop().await?;
        }
        Ok(())
    }
}

fn unknown(name: &str) -> Error {
    Error::State(format!("there is no server {name}"))
}
