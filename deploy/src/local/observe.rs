use crate::home::write;
use crate::process::{Launch, Life, Process};
use crate::recording::RULES;
use crate::wait::ready;
use crate::{Error, Home, STEP_TIMEOUT, Signal, http};
use haproxy::{Cluster, production};
use std::path::PathBuf;
use std::sync::Arc;

const NAME: &str = "prometheus";

/// Prometheus, which scrapes the relays and HAProxy.
#[derive(Debug)]
pub(super) struct Prometheus {
    port: u16,
    process: Option<Process>,
    home: Arc<Home>,
    life: Life,
}

impl Prometheus {
    /// A handle for the process that an earlier run left, or for one that is not started yet.
    pub(super) fn new(port: u16, home: Arc<Home>, life: Life) -> Self {
        let process = (life == Life::Detached).then(|| Process::find(NAME, &home)).flatten();
        Self { port, process, home, life }
    }

    pub(super) fn name(&self) -> &'static str {
        NAME
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(super) fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// Starts it, if it does not run, and lets it scrape the present members of the cluster.
    pub(super) async fn follow(&mut self, cluster: &Cluster) -> Result<(), Error> {
        let folder = self.home.folder(NAME)?;
        let text = production::prometheus(cluster).map_err(Error::front("rendering prometheus.yaml"))?;
        write(&folder.join("prometheus.yaml"), &text)?;
        write(&folder.join("rules.yaml"), &RULES.replace("SKEIN_RUNBOOKS", "docs/operations"))?;
        match self.process.as_ref().filter(|process| process.is_alive()) {
            Some(process) => process.signal(Signal::HUP),
            None => self.process = Some(self.launch(folder)?.start()?),
        }
        ready(NAME, self.process.as_ref(), async || match http::get(NAME, self.port, "/-/ready").await? {
            (200, _) => Ok(()),
            (status, body) => Err(Error::State(format!("/-/ready says {status}: {body}"))),
        })
        .await
    }

    fn launch(&self, folder: PathBuf) -> Result<Launch, Error> {
        let program = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .map(|directory| directory.join(NAME))
            .find(|program| program.exists())
            .ok_or_else(|| Error::Missing { program: NAME.to_owned(), package: NAME })?;
        let address = format!("--web.listen-address=127.0.0.1:{}", self.port);

        let arguments = ["--config.file=prometheus.yaml", "--storage.tsdb.path=data", &address, "--log.level=warn"];
        Ok(Launch {
            name: NAME.to_owned(),
            program,
            arguments: arguments.iter().map(Into::into).collect(),
            environment: Vec::new(),
            hidden: &[],
            folder,
            home: self.home.clone(),
            user: None,
            life: self.life,
            last_signal: Signal::TERM,
        })
    }

    /// How many of its targets answer.
    pub(super) async fn detail(&self) -> Result<String, Error> {
        let (_, body) = http::get(NAME, self.port, "/api/v1/query?query=sum(up)").await?;
        let answer: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
        let up = answer["data"]["result"][0]["value"][1].as_str().unwrap_or("0");
        Ok(format!("{up} targets answer"))
    }

    pub(super) async fn stop(&mut self) -> Result<(), Error> {
        match self.process.take() {
            Some(process) => process.stop(Signal::TERM, STEP_TIMEOUT).await.map(drop),
            None => Ok(()),
        }
    }
}
