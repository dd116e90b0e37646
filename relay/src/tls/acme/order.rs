//! One order (RFC 8555, 7.4): from a name to a certificate, or to everything that the authority says against it.

use super::http::AuthorityClient;
use crate::tls::certificate::{Certificate, CertificateError};
use crate::tls::certificates::Challenges;
use instant_acme::{
    Account, AuthorizationStatus, ChallengeHandle, ChallengeType, Error, Identifier, NewOrder, Order, OrderStatus,
    Problem, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use std::time::Duration;
use tokio_rustls::rustls;

/// How long an authority may take to look at a challenge, and then to issue.
const POLL_TIMEOUT: Duration = Duration::from_secs(90);

/// Everything about one order.
const ORDER_TIMEOUT: Duration = Duration::from_secs(300);

/// How the authority is shown that a name is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChallengeKind {
    /// A certificate on port 443 (RFC 8737).
    TlsAlpn,
    /// A text on port 80 (RFC 8555, 8.3).
    Http,
}

impl ChallengeKind {
    fn acme_type(self) -> ChallengeType {
        match self {
            Self::TlsAlpn => ChallengeType::TlsAlpn01,
            Self::Http => ChallengeType::Http01,
        }
    }

    /// As people know it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::TlsAlpn => "TLS-ALPN-01",
            Self::Http => "HTTP-01",
        }
    }

    /// Where the authority looks.
    pub(super) fn port(self) -> u16 {
        match self {
            Self::TlsAlpn => 443,
            Self::Http => 80,
        }
    }
}

/// What an order has brought.
pub(super) struct Issued {
    /// The key, then the chain, in PEM.
    pub(super) pem: String,
    /// The same, read.
    pub(super) certificate: Certificate,
}

/// Why an order has brought nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum OrderError {
    /// What the authority, or the way to it, says.
    #[error("{}", acme_words(.0))]
    Acme(#[from] Error),
    /// The authority has looked, and is not convinced.
    #[error("the authority has looked and says: {0}")]
    Unconvinced(String),
    /// The authority does not know this kind of challenge.
    #[error("the authority does not offer the challenge {0}")]
    NoSuchChallenge(&'static str),
    /// A key or a certificate of our own cannot be made.
    #[error("no key can be made: {0}")]
    Key(String),
    /// What was issued cannot be served.
    #[error("the authority has issued a certificate that {0}")]
    Useless(#[from] CertificateError),
    /// What was issued is for another name.
    #[error("the authority has issued a certificate for {0}, which was not asked for")]
    OtherName(String),
    /// It took too long.
    #[error("the order was not done within {ORDER_TIMEOUT:?}")]
    Late,
}

impl OrderError {
    /// True where the authority does not know our account (any more).
    pub(super) fn is_account_unknown(&self) -> bool {
        let unknown = "urn:ietf:params:acme:error:accountDoesNotExist";
        matches!(self, Self::Acme(Error::Api(problem)) if problem.r#type.as_deref() == Some(unknown))
    }
}

/// Orders a certificate for `domain`. What is shown to the authority is gone afterwards, however it ends.
pub(super) async fn order(
    account: &Account,
    domain: &str,
    kind: ChallengeKind,
    challenges: &Challenges,
) -> Result<Issued, OrderError> {
    tokio::time::timeout(ORDER_TIMEOUT, order_in_time(account, domain, kind, challenges))
        .await
        .unwrap_or(Err(OrderError::Late))
}

async fn order_in_time(
    account: &Account,
    domain: &str,
    kind: ChallengeKind,
    challenges: &Challenges,
) -> Result<Issued, OrderError> {
    let identifiers = [Identifier::Dns(domain.to_owned())];
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
    let retries = RetryPolicy::default().timeout(POLL_TIMEOUT);
    if order.state().status == OrderStatus::Pending {
        // Takes back what is shown, when it is dropped.
        let mut shown = Shown { challenges, domain, tokens: Vec::new() };
        show(&mut order, kind, &mut shown).await?;
        let polled = order.poll_ready(&retries).await;
        if !matches!(polled, Ok(OrderStatus::Ready)) {
            return Err(why_invalid(&mut order, polled).await);
        }
    }

    let key = order.finalize().await?;
    let chain = order.poll_certificate(&retries).await?;
    let certificate = Certificate::from_pem(chain.as_bytes(), key.as_bytes())?;
    certificate.check_time()?;
    if !certificate.covers(domain) {
        return Err(OrderError::OtherName(certificate.names().join(", ")));
    }
    Ok(Issued { pem: format!("{key}{chain}"), certificate })
}

/// Shows the authority, for each name that it does not believe yet, what it wants to see, and tells it to look.
async fn show(order: &mut Order, kind: ChallengeKind, shown: &mut Shown<'_>) -> Result<(), OrderError> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let challenge = authorization.challenge(kind.acme_type());
        let mut challenge = challenge.ok_or(OrderError::NoSuchChallenge(kind.name()))?;
        shown.tokens.push(challenge.token.clone());
        match kind {
            ChallengeKind::TlsAlpn => {
                let certificate = challenge_certificate(shown.domain, &challenge)?;
                shown.challenges.show_certificate(shown.domain, certificate);
            }
            ChallengeKind::Http => {
                shown.challenges.show_text(&challenge.token, challenge.key_authorization().as_str());
            }
        }
        challenge.set_ready().await?;
    }
    Ok(())
}

/// The self-signed certificate that proves an account by its `acmeIdentifier` extension.
fn challenge_certificate(domain: &str, challenge: &ChallengeHandle<'_>) -> Result<CertifiedKey, OrderError> {
    let failed = |error: &dyn std::fmt::Display| OrderError::Key(error.to_string());
    let key = KeyPair::generate().map_err(|error| failed(&error))?;
    let mut params = CertificateParams::new(vec![domain.to_owned()]).map_err(|error| failed(&error))?;
    params.distinguished_name = DistinguishedName::new();
    let digest = challenge.key_authorization().digest();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest.as_ref())];
    let certificate = params.self_signed(&key).map_err(|error| failed(&error))?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    // Not `from_der`, which reads the certificate and knows no critical extension of this kind.
    let key = default_provider().key_provider.load_private_key(key).map_err(|error| failed(&error))?;
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}

/// What the authority says of the challenges of an order that has come to nothing; where it says nothing, `polled`.
async fn why_invalid(order: &mut Order, polled: Result<OrderStatus, Error>) -> OrderError {
    let mut said = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if let Ok(state) = authorization.refresh().await {
            said.extend(state.challenges.iter().filter_map(|challenge| challenge.error.as_ref()).map(problem_words));
        }
    }
    match polled {
        _ if !said.is_empty() => OrderError::Unconvinced(said.join("; ")),
        Err(error) => error.into(),
        Ok(status) => OrderError::Unconvinced(format!("the order is {status:?}, and nothing more")),
    }
}

struct Shown<'a> {
    challenges: &'a Challenges,
    domain: &'a str,
    tokens: Vec<String>,
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        for token in &self.tokens {
            self.challenges.clear(self.domain, token);
        }
    }
}

/// Everything that a problem document says (RFC 7807).
fn problem_words(problem: &Problem) -> String {
    let mut words = problem.detail.clone().unwrap_or_else(|| "no detail".to_owned());
    if let Some(kind) = &problem.r#type {
        words.push_str(&format!(" ({kind})"));
    }
    for subproblem in &problem.subproblems {
        words.push_str(&format!("; {subproblem}"));
    }
    words
}

fn acme_words(error: &Error) -> String {
    match error {
        Error::Api(problem) => format!("the authority says: {}", problem_words(problem)),
        error => error.to_string(),
    }
}

/// The words for people: the error, and where the authority's answer made no sense, its beginning.
pub(super) fn explain(error: &OrderError, client: &AuthorityClient) -> (String, Option<Duration>) {
    let complaint = client.take_complaint();
    let retry_after = complaint.as_ref().and_then(|complaint| complaint.retry_after);
    let words = match (error, complaint) {
        (OrderError::Acme(Error::Json(_) | Error::Str(_)), Some(complaint)) => {
            format!("{error}; the authority answered with {complaint}")
        }
        _ => error.to_string(),
    };
    (words, retry_after)
}
