//! The TLS tasks beside the connections: they start with the settings and end with the relay.

use super::accept::Handshakes;
use super::acme::{Acme, Pace};
use super::certificates::{Certificates, Challenges};
use super::directory::StateDirectory;
use super::files::Files;
use super::redirect::{self, Redirects};
use super::self_signed::{self, SelfSigned};
use crate::config::TlsSettings;
use crate::task::Tasks;
use crate::telemetry::{Metrics, Task};
use anyhow::Context;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinSet;

/// The interval at which the metric of the certificates' expiry is set.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(10);

/// The interval at which the relay checks that a self-signed certificate still has the machine's addresses.
const SELF_SIGNED_INTERVAL: Duration = Duration::from_secs(60);

/// Loads and renews certificates. Dropping it ends its tasks.
#[derive(Debug)]
pub struct TlsService {
    handshakes: Arc<Handshakes>,
    certificates: Arc<Certificates>,
    reload: Arc<Notify>,
    _running: JoinSet<()>,
}

impl TlsService {
    /// Reads the present certificates and starts the tasks that renew them. When this returns, handshakes can be done;
    /// where a certificate must be ordered first, they fail until it is there. `public_url` is the relay's address as
    /// clients know it, or empty. `http` are the sockets of `tls.http_listen`, whose clients are redirected to
    /// `https_port`.
    ///
    /// # Errors
    /// Which setting is wrong, and what to do.
    pub fn start(
        settings: &TlsSettings,
        public_url: &str,
        http: Vec<TcpListener>,
        https_port: u16,
        metrics: &Arc<Metrics>,
        tasks: &Tasks,
    ) -> anyhow::Result<Self> {
        let files = settings.certificate.len();
        let places = files + settings.domains.len() + usize::from(settings.self_signed);
        let (certificates, challenges) = (Arc::new(Certificates::new(places)), Arc::new(Challenges::default()));
        let (mut running, reload) = (JoinSet::new(), Arc::new(Notify::new()));

        let loaded = Files::load(settings, &certificates)?;
        if files > 0 {
            running.spawn(tasks.watched(Task::TlsFiles, loaded.watch(certificates.clone(), reload.clone())));
        }
        if settings.self_signed {
            let state = StateDirectory::open(&settings.directory)?;
            let made = self_signed::make(&state, self_signed::names_of_this_machine())?;
            log_authority(&made);
            certificates.set(files, made.certificate);
            let (state, certificates) = (Arc::new(state), certificates.clone());
            let keep = move || keep_self_signed(state.clone(), certificates.clone(), files);
            running.spawn(tasks.restarting(Task::TlsSelfSigned, keep));
        }
        if !settings.domains.is_empty() {
            let state = Arc::new(StateDirectory::open(&settings.directory)?);
            let (certificates, challenges, metrics) = (certificates.clone(), challenges.clone(), metrics.clone());
            let acme = Acme::new(settings, files, state, certificates, challenges, Pace::default(), metrics);
            let acme = Arc::new(Mutex::new(acme.context("tls.domains")?));
            let run = move || {
                let acme = acme.clone();
                async move { acme.lock().await.run().await }
            };
            running.spawn(tasks.restarting(Task::Acme, run));
        }
        covers_public_url(settings, public_url, &certificates)?;

        let redirects = Arc::new(Redirects {
            challenges: challenges.clone(),
            certificates: certificates.clone(),
            https_port,
            tasks: tasks.clone(),
        });
        for listener in http {
            let (listener, redirects) = (Arc::new(listener), redirects.clone());
            let serve = move || redirect::serve(listener.clone(), redirects.clone());
            running.spawn(tasks.restarting(Task::Redirect, serve));
        }
        let (told, expiry) = (certificates.clone(), metrics.clone());
        running.spawn(tasks.restarting(Task::TlsExpiry, move || tell_expiry(told.clone(), expiry.clone())));
        let handshakes = Handshakes::new(settings, certificates.clone(), challenges, metrics.clone(), tasks.clone())?;
        Ok(Self { handshakes: Arc::new(handshakes), certificates, reload, _running: running })
    }

    /// Reads the files of certificates as a start would, and serves nothing.
    ///
    /// # Errors
    /// Those of [`start`](Self::start) that concern files.
    pub fn check_files(settings: &TlsSettings, public_url: &str) -> anyhow::Result<()> {
        let certificates = Certificates::new(settings.certificate.len());
        Files::load(settings, &certificates)?;
        if settings.is_on() { covers_public_url(settings, public_url, &certificates) } else { Ok(()) }
    }

    /// The part that makes TLS streams of accepted connections.
    pub fn handshakes(&self) -> Arc<Handshakes> {
        self.handshakes.clone()
    }

    /// The served certificates.
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// Reads the files of certificates again, soon.
    pub fn reload(&self) {
        self.reload.notify_one();
    }
}

/// Logs how a device can trust the authority.
fn log_authority(made: &SelfSigned) {
    let (names, file) = (made.certificate.names().join(" "), made.authority.display().to_string());
    tracing::info!(
        names,
        authority = file,
        fingerprint = made.fingerprint,
        "tls.self_signed: no client trusts this relay until it is told to trust the authority's file: \
         Android: Settings, Security, Encryption and credentials, Install a certificate, CA certificate. \
         iOS: send the file to the phone, install the profile, then Settings, General, About, Certificate Trust Settings. \
         Firefox: Settings, Certificates, View Certificates, Authorities, Import. \
         Node: NODE_EXTRA_CA_CERTS={file}. Compare the fingerprint (SHA-256)"
    );
}

/// Renews the certificate when the machine has another address, and in time before it expires. Never ends.
async fn keep_self_signed(state: Arc<StateDirectory>, certificates: Arc<Certificates>, place: usize) {
    loop {
        tokio::time::sleep(SELF_SIGNED_INTERVAL).await;
        let names = self_signed::names_of_this_machine();
        let is_good = certificates.get(place).is_some_and(|served| {
            let third = i64::try_from(served.lifetime().as_secs() / 3).unwrap_or(i64::MAX);
            served.seconds_left() > third && names.iter().all(|name| served.covers(name))
        });
        if is_good {
            continue;
        }
        match self_signed::make(&state, names) {
            Ok(made) => {
                tracing::info!(names = made.certificate.names().join(" "), "a new self-signed certificate is served");
                certificates.set(place, made.certificate);
            }
            Err(error) => tracing::error!("the old self-signed certificate stays: {error}"),
        }
    }
}

/// Checks that a certificate covers the host of `public_url`: else no client could connect to that URL.
fn covers_public_url(settings: &TlsSettings, public_url: &str, certificates: &Certificates) -> anyhow::Result<()> {
    let Some(host) = public_url.strip_prefix("wss://").map(host_of) else { return Ok(()) };
    let is_ordered = settings.domains.contains(&host);
    let is_covered = certificates.all().iter().any(|certificate| certificate.covers(&host));
    if is_ordered || is_covered || settings.self_signed {
        return Ok(());
    }
    let names: Vec<String> = certificates.all().iter().flat_map(|one| one.names().to_vec()).collect();
    anyhow::bail!(
        "tls.certificate: no certificate is for {host}, which public_url names; there are those for: {}. Have one issued \
         for {host}, or set public_url to a name that has one",
        names.join(", ")
    )
}

/// The host in the part of a URL after `wss://`, in lowercase and without the port.
fn host_of(rest: &str) -> String {
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.to_ascii_lowercase()
}

async fn tell_expiry(certificates: Arc<Certificates>, metrics: Arc<Metrics>) {
    let mut ticks = tokio::time::interval(EXPIRY_INTERVAL);
    loop {
        ticks.tick().await;
        let left = certificates.all();
        let left = left.iter().map(|one| (one.name().to_owned(), one.seconds_left() as f64));
        metrics.tls_expiry.set_all(left);
    }
}
