//! The admin thread: serves its listeners, under bounds of their own, and does the upkeep of the metrics.

use super::accept::accept;
use super::agent;
use super::context::PageContext;
use super::dashboard;
use super::health::Health;
use super::history::ChartHistory;
use super::load::Load;
use super::pages::router;
use crate::config;
use crate::task::Tasks;
use crate::telemetry::{Exporter, Task};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

/// The most connections at a time; others wait to be accepted.
const MAX_CONNECTIONS: usize = 64;
/// The most time for a request's headers.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(5);
/// The most time for one request, answer included.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// Why the admin thread could not be started.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address cannot be bound.
    #[error("`{setting}` = {address}: {error}; choose another address, or \"\" to turn it off")]
    Listen {
        /// The setting that names the address.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// The system's error.
        error: io::Error,
    },
    /// The thread or its runtime cannot be started.
    #[error("the admin thread cannot be started: {0}")]
    Thread(#[from] io::Error),
}

/// The running admin thread. Dropping it stops the thread without waiting for its end.
#[derive(Debug)]
pub struct Admin {
    address: Option<SocketAddr>,
    agent_address: Option<SocketAddr>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Admin {
    /// Starts the thread. To be called on the runtime that serves clients, whose tasks the pages show. The thread
    /// always does the upkeep of the metrics, and listens where the settings say so; the addresses are bound when this
    /// returns.
    pub fn start(
        settings: &config::AdminSettings,
        health: Arc<Health>,
        load: Arc<Load>,
        exporter: Arc<Exporter>,
        tasks: &Tasks,
    ) -> Result<Self, AdminError> {
        let listener = bind("admin.listen", settings.listen)?;
        let agent_listener = bind("admin.agent_listen", settings.agent_listen)?;
        let address = listener.as_ref().map(TcpListener::local_addr).transpose()?;
        let agent_address = agent_listener.as_ref().map(TcpListener::local_addr).transpose()?;

        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let local = address.is_some_and(|address| address.ip().to_canonical().is_loopback());
        let history = Arc::new(ChartHistory::default());
        let peers = settings.peers.clone().into();
        let context = PageContext {
            health,
            exporter: exporter.clone(),
            history: history.clone(),
            peers,
            token: settings.token.clone(),
            pprof: settings.pprof,
            runtime: Handle::try_current().ok(),
            tasks: tasks.clone(),
            id: rand::random::<u64>() >> 12,
        };
        let pages = router(context, local);

        let (stop, stopped) = oneshot::channel();
        let (watch, connections) = (tasks.clone(), tasks.clone());
        let run = async move {
            tokio::select! {
                () = upkeep(&exporter, &history) => {}
                () = serve(listener, pages, &connections) => {}
                () = serve_agent(agent_listener, load) => {}
                // Also when the sender was dropped with the `Admin`.
                _ = stopped => {}
            }
        };
        let run = move || runtime.block_on(watch.watched(Task::Admin, run));
        let thread = std::thread::Builder::new().name("admin".to_owned()).spawn(run)?;
        Ok(Self { address, agent_address, stop, thread })
    }

    /// The bound address of the pages, with the port that the system chose where 0 was asked for.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The bound address on which a load balancer asks for the weight.
    pub fn agent_address(&self) -> Option<SocketAddr> {
        self.agent_address
    }

    /// Stops at once, also in the middle of an answer, and waits for the thread's end. Blocks for a moment.
    pub fn stop(self) {
        // Either fails only where the thread has ended already.
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

fn bind(setting: &'static str, address: Option<SocketAddr>) -> Result<Option<TcpListener>, AdminError> {
    let Some(address) = address else { return Ok(None) };
    let listener = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map(Some).map_err(|error| AdminError::Listen { setting, address, error })
}

/// Registers the listener with the admin thread's runtime. Without a listener it never returns.
async fn registered(listener: Option<TcpListener>) -> tokio::net::TcpListener {
    match listener.map(tokio::net::TcpListener::from_std) {
        Some(Ok(listener)) => listener,
        Some(Err(error)) => {
            tracing::error!(%error, "an admin listener is lost");
            std::future::pending().await
        }
        None => std::future::pending().await,
    }
}

async fn serve_agent(listener: Option<TcpListener>, load: Arc<Load>) {
    agent::serve(registered(listener).await, load).await;
}

async fn upkeep(exporter: &Exporter, history: &ChartHistory) {
    let mut ticks = tokio::time::interval(Exporter::UPKEEP_INTERVAL);
    loop {
        ticks.tick().await;
        dashboard::record(history, &exporter.render());
    }
}

/// Serves the pages. Never ends; without a listener it does nothing.
async fn serve(listener: Option<TcpListener>, pages: Router, tasks: &Tasks) {
    let listener = registered(listener).await;
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return std::future::pending().await };
        let stream = accept(&listener, "admin").await;
        let pages = TowerToHyperService::new(pages.clone());
        tasks.spawn(Task::AdminConnection, async move {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEADERS_TIMEOUT).keep_alive(false);
            // An error means that the client has gone or was too slow: nobody is left to answer.
            let _ = timeout(CONNECTION_TIMEOUT, http.serve_connection(TokioIo::new(stream), pages)).await;
            drop(slot);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    fn listen(listen: Option<SocketAddr>) -> Result<(Admin, Arc<Health>), AdminError> {
        listen_among(listen, Vec::new())
    }

    fn listen_among(listen: Option<SocketAddr>, peers: Vec<String>) -> Result<(Admin, Arc<Health>), AdminError> {
        let health = Health::new();
        let exporter = Arc::new(Exporter::new().unwrap());
        let agent_listen = listen.map(|_| "127.0.0.1:0".parse().unwrap());
        let settings =
            config::AdminSettings { listen, agent_listen, token: config::Secret::new(""), pprof: false, peers };
        Ok((Admin::start(&settings, health.clone(), Load::new(), exporter, &Tasks::detached())?, health))
    }

    fn start() -> (Admin, Arc<Health>) {
        listen(Some("127.0.0.1:0".parse().unwrap())).unwrap()
    }

    fn ask(admin: &Admin, method: &str, path: &str, host: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(admin.address().unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn get(admin: &Admin, path: &str) -> (u16, String) {
        ask(admin, "GET", path, "localhost")
    }

    #[test]
    fn ready_tells_what_a_load_balancer_needs() {
        let (admin, health) = start();
        assert_eq!(get(&admin, "/live"), (200, r#"{"status":"live"}"#.to_owned()));
        assert_eq!(get(&admin, "/ready").0, 503);
        health.set_ready();
        health.set_dependencies([("redis".to_owned(), "no answer".to_owned(), false)]);
        let (status, body) = get(&admin, "/ready");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["status"]), (200, &"ready".into()), "a dependency that is down changes nothing");
        assert_eq!(body["dependencies"][0]["state"], "no answer");
        assert!(body["dependencies"][0]["since"].as_u64().unwrap() > 1_700_000_000);
        health.set_draining();
        assert_eq!(get(&admin, "/ready").0, 404);
        assert_eq!(get(&admin, "/live").0, 200);
        admin.stop();
    }

    #[test]
    fn only_what_is_listed_is_answered() {
        let (admin, _health) = start();
        for path in ["/", "/dashboard.json", "/cluster.json", "/assets/uPlot.js", "/nodes", "/ready?x"] {
            assert!([200, 503].contains(&get(&admin, path).0), "{path}");
        }
        assert!(get(&admin, "/metrics").1.contains("nostr_connections_active 0"));
        assert_eq!(get(&admin, "/metrics/x").0, 404);
        assert_eq!(ask(&admin, "POST", "/metrics", "localhost").0, 405);
        assert_eq!(ask(&admin, "GET", "/metrics", "evil.example").0, 404);
    }

    #[test]
    fn peers_tell_of_themselves_and_one_that_is_gone_is_named() {
        let (other, _health) = start();
        let nobody = { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
        let peers = [other.address().unwrap(), nobody].map(|address| address.to_string());
        let (admin, health) = listen_among(Some("127.0.0.1:0".parse().unwrap()), peers.to_vec()).unwrap();
        health.set_about("relay.example:7777".to_owned(), "SQLite");
        let cluster: serde_json::Value = serde_json::from_str(&get(&admin, "/cluster.json?since=5").1).unwrap();
        let instances = cluster["instances"].as_array().unwrap();
        assert_eq!(instances.len(), 3);
        assert_eq!(instances[0]["name"], "relay.example:7777");
        assert!(instances[1]["id"].is_u64() && instances[1]["id"] != instances[0]["id"]);
        assert_eq!(instances[2]["peer"], peers[1]);
        assert!(instances[2]["error"].as_str().unwrap().contains("refused"));
        let page = ask(&admin, "GET", "/", "localhost").1;
        assert!(!page.contains("<script>") && !page.contains("style="), "nothing inline: {page}");
        assert!(!page.contains("http://") && !page.contains("https://"), "nothing from elsewhere: {page}");
    }

    #[test]
    fn an_address_in_use_is_a_clear_error() {
        let (admin, _health) = start();
        let error = listen(admin.address()).unwrap_err().to_string();
        assert!(error.contains("admin.listen") && error.contains("in use"), "{error}");
        let (silent, _health) = listen(None).unwrap();
        assert_eq!(silent.agent_address(), None);
        assert_eq!(silent.address(), None);
        silent.stop();
        admin.stop();
    }

    #[test]
    fn a_load_balancer_is_told_the_weight_and_nothing_else_is_asked_of_it() {
        let (admin, _health) = start();
        for _ in 0..100 {
            let mut stream = TcpStream::connect(admin.agent_address().unwrap()).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "up 100%\n");
        }
        admin.stop();
    }
}
