use super::state::{FrontPlace, RelayPlace};
use crate::home::write;
use crate::process::{Launch, Life, Process};
use crate::recording::Target;
use crate::{Error, Home, STEP_TIMEOUT, Signal, http, until};
use haproxy::{Cluster, Instance, Runtime, ServerState, Status, Tls};
use rustix::process::{Resource, getrlimit};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub(super) const NAME: &str = "haproxy";

/// How long a relay that has ended may keep connections in HAProxy's count.
const REMOVAL: Duration = Duration::from_secs(30);

/// HAProxy in front of the relays.
#[derive(Debug)]
pub(super) struct Front {
    place: FrontPlace,
    process: Option<Process>,
    home: Arc<Home>,
    life: Life,
}

impl Front {
    /// A handle for the process that an earlier run left, or for one that is not started yet.
    pub(super) fn new(place: FrontPlace, home: Arc<Home>, life: Life) -> Self {
        let process = (life == Life::Detached).then(|| Process::find(NAME, &home)).flatten();
        Self { place, process, home, life }
    }

    pub(super) fn name(&self) -> &'static str {
        NAME
    }

    pub(super) fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", if self.place.tls { "wss" } else { "ws" }, self.place.port)
    }

    pub(super) fn target(&self) -> Target {
        Target { job: "skein-haproxy", instance: NAME.to_owned(), port: self.place.stats_port }
    }

    pub(super) fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    pub(super) fn is_alive(&self) -> bool {
        self.process.as_ref().is_some_and(Process::is_alive)
    }

    pub(super) fn runtime(&self) -> Runtime {
        Runtime::new(self.home.path().join("haproxy.sock"))
    }

    /// The text of its Prometheus exporter.
    pub(super) async fn metrics(&self) -> Result<String, Error> {
        http::get(NAME, self.place.stats_port, "/metrics").await.map(|(_, text)| text)
    }

    fn configuration(&self) -> PathBuf {
        self.home.path().join("haproxy.cfg")
    }

    fn master_socket(&self) -> PathBuf {
        self.home.path().join("haproxy-master.sock")
    }

    fn state_file(&self) -> PathBuf {
        self.home.path().join("haproxy.state")
    }

    fn certificate(&self) -> PathBuf {
        self.home.path().join("haproxy.pem")
    }

    /// The model of a cluster with these relays behind HAProxy.
    pub(super) fn model(&self, relays: &[RelayPlace]) -> Cluster {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut cluster = Cluster::local(self.home.path(), local(self.place.port), local(self.place.stats_port));
        // Two descriptors for each client, and some of its own.
        if let Some(limit) = getrlimit(Resource::Nofile).maximum {
            let possible = u32::try_from(limit.saturating_sub(400) / 2).unwrap_or(u32::MAX);
            cluster.front.max_connections = cluster.front.max_connections.min(possible).max(1);
        }

        if self.place.tls {
            let example = Cluster::example().front.tls;
            cluster.front.tls = example.map(|example| Tls {
                listen: std::mem::take(&mut cluster.front.listen),
                certificate: self.certificate(),
                ..example
            });
        }

        cluster.instances = relays.iter().map(instance).collect();
        cluster
    }

    /// Writes the file that HAProxy reads when it starts.
    pub(super) fn configure(&self, relays: &[RelayPlace]) -> Result<(), Error> {
        let text = haproxy::haproxy_cfg(&self.model(relays)).map_err(Error::front("rendering haproxy.cfg"))?;
        write(&self.configuration(), &text)
    }

    /// Checks that HAProxy could start, unless it runs.
    pub(super) fn check(&self, relays: &[RelayPlace]) -> Result<(), Error> {
        if self.is_alive() {
            return Ok(());
        }
        haproxy::haproxy_cfg(&self.model(relays)).map_err(Error::front("rendering haproxy.cfg"))?;
        let port = self.place.port;
        let taken = |_| Error::State(format!("port {port} of 127.0.0.1 is taken: choose another by --port"));
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop).map_err(taken)
    }

    /// Starts it, if it does not run, and waits until every relay gets clients from it. Brings one that runs to the
    /// present relays: a command that was interrupted may have left a relay drained, or unknown to HAProxy.
    pub(super) async fn start(&mut self, relays: &[RelayPlace]) -> Result<(), Error> {
        if !self.is_alive() {
            self.check(relays)?;
            if self.place.tls && !self.certificate().exists() {
                self.make_certificate()?;
            }
            self.configure(relays)?;

            // The state that a reload has saved is of an earlier process: relays may have other ports since.
            let _ = fs::remove_file(self.state_file());
            let (path, master) = (self.configuration(), self.master_socket());
            haproxy::process::check(&path).await.map_err(Error::front("checking haproxy.cfg"))?;
            let launch = Launch {
                name: NAME.to_owned(),
                program: haproxy::process::program().to_owned(),
                arguments: haproxy::process::arguments(&path, &master),
                environment: Vec::new(),
                hidden: &["HAPROXY_"],
                folder: self.home.path().to_owned(),
                home: self.home.clone(),
                user: None,
                life: self.life,
                last_signal: Signal::TERM,
            };
            self.process = Some(launch.start()?);
        } else {
            self.configure(relays)?;
            self.reconcile(relays).await?;
        }

        for relay in relays {
            self.wait_up(&relay.name).await?;
        }
        Ok(())
    }

    /// The relays that it knows. Waits for its socket: an interrupted command may have started it a moment ago.
    pub(super) async fn servers(&self) -> Result<Vec<ServerState>, Error> {
        until("HAProxy to say which relays it has", STEP_TIMEOUT, async || {
            match self.process.as_ref().map(Process::check) {
                Some(Err(ended)) => Ok(Err(ended)),
                _ => self.runtime().servers().await.map(Ok).map_err(|error| error.to_string()),
            }
        })
        .await?
    }

    async fn reconcile(&self, relays: &[RelayPlace]) -> Result<(), Error> {
        let servers = self.servers().await?;
        let address = |relay: &RelayPlace| SocketAddr::from((Ipv4Addr::LOCALHOST, relay.port)).to_string();
        // A server in maintenance was not completely added, or not completely removed: it may lack its checks.
        let fits = |server: &ServerState, relay: &RelayPlace| {
            server.name == relay.name && server.address == address(relay) && server.status != Status::Maintenance
        };
        for server in servers.iter().filter(|server| !relays.iter().any(|relay| fits(server, relay))) {
            self.remove(&server.name).await?;
        }

        for relay in relays {
            match servers.iter().find(|server| fits(server, relay)) {
                None => self.add(relay).await?,
                // A server that is down does not show whether it was drained too.
                Some(server) if server.status != Status::Up => self.ready(&relay.name).await?,
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Stops sending new clients to a relay.
    pub(super) async fn drain(&self, relay: &str) -> Result<(), Error> {
        self.runtime().drain(relay).await.map_err(Error::front(format!("draining {relay}")))
    }

    /// Sends clients to a relay again.
    pub(super) async fn ready(&self, relay: &str) -> Result<(), Error> {
        self.runtime().ready(relay).await.map_err(Error::front(format!("taking in {relay}")))?;
        self.wait_up(relay).await
    }

    /// Removes a relay that has ended.
    pub(super) async fn remove(&self, relay: &str) -> Result<(), Error> {
        self.runtime().remove(relay, REMOVAL).await.map_err(Error::front(format!("removing {relay}")))
    }

    /// Waits until a relay gets clients.
    pub(super) async fn wait_up(&self, relay: &str) -> Result<(), Error> {
        until(&format!("HAProxy to take {relay} in"), STEP_TIMEOUT, async || {
            if let Some(Err(ended)) = self.process.as_ref().map(Process::check) {
                return Ok(Err(ended));
            }
            let servers = self.runtime().servers().await.map_err(|error| error.to_string())?;
            match servers.iter().find(|server| server.name == relay) {
                Some(server) if server.status == Status::Up => Ok(Ok(())),
                other => Err(format!("{other:?}")),
            }
        })
        .await?
    }

    /// Adds a relay, which then gets clients.
    pub(super) async fn add(&self, relay: &RelayPlace) -> Result<(), Error> {
        let cluster = self.model(&[]);
        for server in cluster.servers_of(&instance(relay)) {
            self.runtime().add(&server).await.map_err(Error::front(format!("adding {}", relay.name)))?;
        }
        self.wait_up(&relay.name).await
    }

    /// Lets a new process take over, with the present file and certificate. Open connections stay with the old process.
    pub(super) async fn reload(&self, relays: &[RelayPlace]) -> Result<(), Error> {
        self.configure(relays)?;
        haproxy::process::reload(&self.configuration(), &self.runtime(), &self.master_socket(), &self.state_file())
            .await
            .map_err(Error::front("reloading HAProxy"))
    }

    /// Ends it at once, with all connections.
    pub(super) async fn stop(&mut self) -> Result<(), Error> {
        match self.process.take() {
            Some(process) => process.stop(Signal::TERM, STEP_TIMEOUT).await.map(drop),
            None => Ok(()),
        }
    }

    fn make_certificate(&self) -> Result<(), Error> {
        let names = ["localhost", "127.0.0.1"].map(String::from);
        let made = rcgen::generate_simple_self_signed(names).map_err(Error::front("making a certificate"))?;
        let path = self.certificate();
        write(&path, &format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem()))?;
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&path, private).map_err(Error::io(format!("closing {}", path.display())))
    }
}

fn instance(relay: &RelayPlace) -> Instance {
    Instance {
        name: relay.name.clone(),
        host: Ipv4Addr::LOCALHOST.to_string(),
        ports: vec![relay.port],
        admin_port: relay.admin_port,
        agent_port: 0,
    }
}
