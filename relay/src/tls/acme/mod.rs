//! Certificates by ACME (RFC 8555): ordered when they are missing, renewed in time, kept in a directory.
//!
//! One task goes through the names, one order at a time. No error ends it: where an authority is down, slow, refuses or
//! sends invalid answers, it tries again later, and the present certificate is served meanwhile.

mod http;
mod order;
mod pace;

pub use pace::Pace;

use super::certificate::Certificate;
use super::certificates::{Certificates, Challenges};
use super::directory::StateDirectory;
use crate::config::TlsSettings;
use crate::telemetry::{AcmeOrder, Metrics};
use http::AuthorityClient;
use instant_acme::{Account, AccountCredentials, NewAccount};
use order::{ChallengeKind, Issued, OrderError, explain, order};
use pace::Schedule;
use sha2::{Digest, Sha256};
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// The ACME task.
pub struct Acme {
    client: AuthorityClient,
    directory_url: String,
    /// The prefix of this authority's files: certificates of a staging authority must not be taken for others.
    prefix: String,
    contact: Option<String>,
    state: Arc<StateDirectory>,
    certificates: Arc<Certificates>,
    challenges: Arc<Challenges>,
    /// The types of challenges to use, the best first.
    kinds: Vec<ChallengeKind>,
    names: Vec<Name>,
    pace: Pace,
    metrics: Arc<Metrics>,
    account: Option<Account>,
}

/// One name and the place of its certificate.
struct Name {
    domain: String,
    place: usize,
    schedule: Schedule,
}

impl Acme {
    /// Loads the certificates in the directory that are still valid; their places are filled when this returns. The
    /// names take the `places` from the given one on.
    ///
    /// # Errors
    /// There is no root certificate for the authority, or the directory cannot be read.
    pub fn new(
        settings: &TlsSettings,
        first_place: usize,
        state: Arc<StateDirectory>,
        certificates: Arc<Certificates>,
        challenges: Arc<Challenges>,
        pace: Pace,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let directory_url = settings.acme_directory_url().to_owned();
        let mut kinds = vec![ChallengeKind::TlsAlpn];
        if !settings.http_listen.is_empty() {
            kinds.push(ChallengeKind::Http);
        }
        let name = |(at, domain): (usize, &String)| Name {
            domain: domain.clone(),
            place: first_place + at,
            schedule: Schedule::default(),
        };
        let contact = Some(settings.acme_contact.trim_start_matches("mailto:")).filter(|contact| !contact.is_empty());
        let acme = Self {
            client: AuthorityClient::new(settings.acme_root.as_deref())?,
            prefix: prefix(&directory_url),
            directory_url,
            contact: contact.map(|contact| format!("mailto:{contact}")),
            state,
            certificates,
            challenges,
            kinds,
            names: settings.domains.iter().enumerate().map(name).collect(),
            pace,
            metrics,
            account: None,
        };
        for name in &acme.names {
            acme.load(name)?;
        }
        Ok(acme)
    }

    /// Orders and renews certificates. Never ends; to be spawned as a task.
    pub async fn run(&mut self) {
        loop {
            for at in 0..self.names.len() {
                self.look(at).await;
            }
            tokio::time::sleep(self.pace.look_interval).await;
        }
    }

    /// Serves the certificate in the directory, if it can be served.
    fn load(&self, name: &Name) -> io::Result<()> {
        let Some(pem) = self.state.read(&self.file(&name.domain))? else { return Ok(()) };
        let certificate = Certificate::from_pem(&pem, &pem);
        match certificate.and_then(|certificate| certificate.check_time().map(|()| certificate)) {
            Ok(certificate) if certificate.covers(&name.domain) => {
                let (domain, expires) = (&name.domain, certificate.expires());
                tracing::info!(domain, expires, "the certificate in tls.directory is served");
                self.certificates.set(name.place, certificate);
            }
            Ok(_) => tracing::warn!(domain = name.domain, "the certificate in tls.directory is for another name"),
            Err(error) => tracing::warn!(domain = name.domain, "the certificate in tls.directory {error}"),
        }
        Ok(())
    }

    /// Orders a certificate for a name if it is due.
    async fn look(&mut self, at: usize) {
        let Some(name) = self.names.get_mut(at) else { return };
        let served = self.certificates.get(name.place);
        if !name.schedule.is_due(served.as_deref(), Instant::now()) {
            return;
        }
        let (domain, place) = (name.domain.clone(), name.place);
        let kind = name.schedule.kind(&self.kinds);
        tracing::info!(
            domain,
            authority = self.directory_url,
            challenge = kind.name(),
            "ordering a certificate: the authority will look at port {} of {domain}",
            kind.port()
        );
        let outcome = self.order(&domain, kind).await;
        let Some(name) = self.names.get_mut(at) else { return };
        match outcome {
            Ok(issued) => {
                let (expires, file) = (issued.certificate.expires(), file(&self.prefix, &domain));
                name.schedule.succeed();
                if let Err(error) = self.state.write(&file, issued.pem.as_bytes()) {
                    let file = self.state.path_of(&file);
                    tracing::error!(%error, file = %file.display(), "it cannot be kept: a restart orders it again");
                }
                self.certificates.set(place, issued.certificate);
                self.metrics.acme_orders.of(AcmeOrder::Issued).increment(1);
                tracing::info!(domain, expires, "the certificate is here: clients can connect to wss://{domain}");
            }
            Err(error) => {
                let (words, retry_after) = explain(&error, &self.client);
                let wait = name.schedule.fail(&self.pace, self.kinds.len(), retry_after, Instant::now());
                self.metrics.acme_orders.of(AcmeOrder::Failed).increment(1);
                let served = served.map_or_else(
                    || "none is there yet".to_owned(),
                    |served| format!("the old one stays until {}", served.expires()),
                );
                let port = kind.port();
                tracing::error!(
                    domain,
                    next_try_seconds = wait.as_secs(),
                    "no certificate for {domain} ({served}): {words}. Check that {domain} points to this machine, that \
                     port {port} of it can be reached from the internet, and that nothing else answers there"
                );
            }
        }
    }

    async fn order(&mut self, domain: &str, kind: ChallengeKind) -> Result<Issued, OrderError> {
        // Drop the authority's last error: it belongs to an earlier order.
        self.client.take_complaint();
        let account = self.account().await?;
        match order(&account, domain, kind, &self.challenges).await {
            Err(error) if error.is_account_unknown() => {
                tracing::warn!("the authority has forgotten the account: another one is made");
                self.account = None;
                let file = self.account_file();
                self.state.remove(&file).map_err(|error| OrderError::Key(error.to_string()))?;
                let account = self.account().await?;
                order(&account, domain, kind, &self.challenges).await
            }
            outcome => outcome,
        }
    }

    /// The account: the present one, else the stored one, else a new one.
    async fn account(&mut self) -> Result<Account, OrderError> {
        if let Some(account) = &self.account {
            return Ok(account.clone());
        }
        let file = self.account_file();
        let kept = self.state.read(&file).ok().flatten();
        let kept = kept.and_then(|text| serde_json::from_slice::<AccountCredentials>(&text).ok());
        let builder = Account::builder_with_http(Box::new(self.client.clone()));
        let account = match kept {
            Some(credentials) => builder.from_credentials(credentials).await?,
            None => {
                let contact: Vec<&str> = self.contact.as_deref().into_iter().collect();
                let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
                let (account, credentials) = builder.create(&new, self.directory_url.clone(), None).await?;
                let text = serde_json::to_vec(&credentials).map_err(|error| OrderError::Key(error.to_string()))?;
                // Without the file a restart makes another account, which an authority accepts now and then.
                if let Err(error) = self.state.write(&file, &text) {
                    tracing::error!(%error, file, "the account with the authority cannot be kept");
                }
                account
            }
        };
        self.account = Some(account.clone());
        Ok(account)
    }

    fn account_file(&self) -> String {
        format!("{}.account.json", self.prefix)
    }

    fn file(&self, domain: &str) -> String {
        file(&self.prefix, domain)
    }
}

/// The file of a certificate. The settings have checked the domain, so it cannot contain a path.
fn file(prefix: &str, domain: &str) -> String {
    format!("{prefix}.{domain}.pem")
}

/// An authority as part of a file's name: its host for people, and a hash that makes it unique.
fn prefix(directory_url: &str) -> String {
    let host = directory_url.split('/').nth(2).unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '_' };
    let host: String = host.chars().map(plain).collect();
    let hash = Sha256::digest(directory_url);
    format!("{host}-{}", faster_hex::hex_string(&hash[..4]))
}
