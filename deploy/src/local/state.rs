use super::Wish;
use crate::home::write;
use crate::postgres::ServerPlace;
use crate::{Error, Home, free_port};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

const FILE: &str = "cluster.json";
/// The version of the file's format; it changes when an older program could not read the file.
const VERSION: u32 = 1;

/// The members of a cluster, which `cluster.json` stores between commands. `run/NAME.json` stores the process of each
/// server, and is written as soon as the process has been started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct State {
    version: u32,
    /// Whether a commit waits for a replica.
    pub(super) synchronous: bool,
    /// Set before a failover stops anything, cleared when it is complete: in between, to start the old primary again
    /// could make a second one.
    pub(super) failing_over: bool,
    pub(super) servers: Vec<ServerPlace>,
    pub(super) redis_port: u16,
    /// The program that the relays run.
    pub(super) relay_program: Option<PathBuf>,
    /// Further settings of the relays, `RELAY_...`.
    #[serde(default)]
    pub(super) settings: BTreeMap<String, String>,
    pub(super) relays: Vec<RelayPlace>,
    pub(super) front: FrontPlace,
    /// Prometheus's port on 127.0.0.1, where there is one.
    #[serde(default)]
    pub(super) prometheus_port: Option<u16>,
}

/// A relay's ports on 127.0.0.1.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RelayPlace {
    pub(super) name: String,
    pub(super) port: u16,
    pub(super) admin_port: u16,
}

/// HAProxy's ports on 127.0.0.1.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct FrontPlace {
    pub(super) port: u16,
    pub(super) stats_port: u16,
    pub(super) tls: bool,
}

impl State {
    pub(super) fn new(synchronous: bool, port: u16, tls: bool) -> Result<Self, Error> {
        Ok(Self {
            version: VERSION,
            synchronous,
            failing_over: false,
            servers: Vec::new(),
            redis_port: free_port()?,
            relay_program: None,
            settings: BTreeMap::new(),
            relays: Vec::new(),
            front: FrontPlace { port, stats_port: free_port()?, tls },
            prometheus_port: None,
        })
    }

    /// The state of the cluster in a directory, if there is one.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, Error> {
        let path = folder.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).map_err(Error::io(format!("reading {}", path.display())))?;
        let unreadable = |why: String| Error::State(format!("{} can't be read: {why}", path.display()));
        let state: Self = serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
        if state.version == VERSION { Ok(Some(state)) } else { Err(unreadable(format!("version {}", state.version))) }
    }

    /// Takes over the parts of a wish that can change, and refuses the others. With `settled` HAProxy or a relay runs,
    /// so the address for clients cannot change any more.
    pub(super) fn accept(&mut self, wish: &Wish, settled: bool) -> Result<(), Error> {
        if self.failing_over {
            return Err(Error::State("a failover was broken off: run `failover` again first".to_owned()));
        }
        let replicas = self.servers.len().saturating_sub(1);
        if wish.replicas.is_some_and(|wanted| wanted < replicas) {
            return Err(Error::State(format!("there are {replicas} replicas already, and they can't become fewer")));
        }

        let (port, tls) = (wish.port.unwrap_or(self.front.port), wish.tls || self.front.tls);
        if settled && (port, tls) != (self.front.port, self.front.tls) {
            return Err(Error::State(format!(
                "HAProxy is to listen on port {}{}: that can't be changed before `down`",
                self.front.port,
                if self.front.tls { " with TLS" } else { " without TLS" }
            )));
        }

        (self.front.port, self.front.tls) = (port, tls);
        if wish.observe && self.prometheus_port.is_none() {
            self.prometheus_port = Some(free_port()?);
        }
        self.synchronous |= wish.synchronous;
        self.accept_for_relays(wish)
    }

    /// Takes over the part of a wish that concerns relays.
    pub(super) fn accept_for_relays(&mut self, wish: &Wish) -> Result<(), Error> {
        if let Some((variable, _)) = wish.settings.iter().find(|(variable, _)| !variable.starts_with("RELAY_")) {
            return Err(Error::State(format!(
                "{variable} is no setting of a relay: their variables begin with RELAY_"
            )));
        }
        self.settings.retain(|variable, _| !wish.unset.contains(variable));
        for (variable, value) in &wish.settings {
            self.settings.insert(variable.clone(), value.clone());
        }
        if let Some(program) = &wish.relay_program {
            self.relay_program = Some(program.clone());
        }
        Ok(())
    }

    pub(super) fn write(&self, home: &Home) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(self).map_err(|error| Error::State(error.to_string()))?;
        write(&home.path().join(FILE), &text)
    }
}

/// Locks a cluster's directory for one command that changes it.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Unlocked explicitly: a process that another thread is starting has a copy of the file until it executes its
        // program, and would keep the lock for that moment.
        let _ = self.file.unlock();
    }
}

impl Lock {
    pub(super) fn take(home: &Home) -> Result<Self, Error> {
        let path = home.path().join("lock");
        let file = File::create(&path).map_err(Error::io(format!("making {}", path.display())))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file }),
            Err(_) => Err(Error::State(format!("another deploy is at work in {}", home.path().display()))),
        }
    }
}

/// Refuses a directory with other files in it: `down --delete` would remove them.
pub(super) fn check_new(folder: &Path) -> Result<(), Error> {
    let ours = ["logs", "run", "lock"];
    let Ok(mut entries) = fs::read_dir(folder) else { return Ok(()) };
    let foreign = entries.find_map(|entry| {
        let name = entry.ok()?.file_name();
        (!ours.iter().any(|ours| name == *ours)).then_some(name)
    });
    match foreign {
        None => Ok(()),
        Some(name) => {
            let (folder, name) = (folder.display(), name.to_string_lossy().into_owned());
            Err(Error::State(format!("{folder} holds {name} and no cluster: take an empty directory")))
        }
    }
}
