//! Certificates by ACME from Pebble: issued, kept, renewed, refused, and obtained after all.

use crate::kit::{Client, Tls, connector, handshake, metric, served, until, wss_address};
use crate::pebble::{Pebble, PebbleSetup, free_port};
use crate::process::{STEP_TIMEOUT, Setup};
use relay::config::Config;
use relay::task::Tasks;
use relay::telemetry::Exporter;
use relay::tls::{Acme, Certificates, Challenges, Handshakes, Pace, StateDirectory};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A relay that asks Pebble for `domains`.
fn asking(folder: &Path, pebble: &Pebble, tls_port: u16, domains: &str) -> Setup {
    Setup::new(folder)
        .set("tls-listen", &format!("127.0.0.1:{tls_port}"))
        .set("tls-domains", domains)
        .set("tls-acme-directory", &pebble.directory_url())
        .set("tls-acme-root", &folder.join("pebble-root.pem").display().to_string())
        .set("tls-acme-contact", "op@relay.example")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_issued_kept_and_not_ordered_again() {
    let folder = tempfile::tempdir().unwrap();
    let tls_port = free_port();
    let pebble = Pebble::start(folder.path(), PebbleSetup { tls_port, ..PebbleSetup::default() }).await;
    let relay = asking(folder.path(), &pebble, tls_port, "relay.example,other.example").start();
    relay.wait_for_log("clients can connect to wss://relay.example");
    relay.wait_for_log("clients can connect to wss://other.example");
    assert_eq!(metric(&relay, "nostr_tls_acme_orders_total{result=\"issued\"}"), 2.0);
    let challenges = metric(&relay, "nostr_tls_handshakes_total{result=\"challenge\"}");
    assert!(challenges >= 2.0, "by TLS-ALPN-01, on the port of the clients: {challenges}");
    let trusting = connector(&pebble.root().await, &Tls::default());
    let first = served(&trusting, wss_address(&relay), "relay.example").await;
    Client::connect(&trusting, wss_address(&relay), "other.example").await.assert_served().await;

    // Only this user may read the stored files, and the log contains no line of them.
    let mut kept = Vec::new();
    for entry in std::fs::read_dir(folder.path().join("tls")).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600, "{}", path.display());
        kept.push(std::fs::read_to_string(path).unwrap());
    }
    assert_eq!(std::fs::metadata(folder.path().join("tls")).unwrap().mode() & 0o777, 0o700);
    let keys: Vec<_> = kept.iter().filter(|text| text.starts_with("-----BEGIN PRIVATE KEY")).collect();
    assert_eq!(keys.len(), 2);
    assert!(keys.iter().all(|key| !relay.log().contains(key.lines().nth(1).unwrap())), "a key in the log");

    // Another relay cannot order the same from the same directory.
    let second = asking(folder.path(), &pebble, free_port(), "relay.example").set("database-urls", "sqlite:b.db");
    let mut second = second.spawn();
    assert_eq!(second.wait().code(), Some(1));
    assert!(second.log().contains("tls.directory: tls: another relay uses it"), "{}", second.log());
    relay.stop();

    // The same certificate is served after a restart, and nothing is ordered.
    let relay = asking(folder.path(), &pebble, tls_port, "relay.example,other.example").start();
    relay.wait_for_log("the certificate in tls.directory is served");
    assert_eq!(served(&trusting, wss_address(&relay), "relay.example").await, first);
    assert!(!relay.log().contains("ordering a certificate"), "{}", relay.log());
    relay.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_443_cannot_be_reached_port_80_convinces_the_authority_and_redirects() {
    let folder = tempfile::tempdir().unwrap();
    // Pebble looks for TLS at a port without a listener.
    let (tls_port, http_port) = (free_port(), free_port());
    let setup = PebbleSetup { http_port, ..PebbleSetup::default() };
    let pebble = Pebble::start(folder.path(), setup).await;
    let http = format!("127.0.0.1:{http_port}");
    let relay = asking(folder.path(), &pebble, tls_port, "relay.example").set("tls-http-listen", &http);
    let relay = relay.expect_log("no certificate for relay.example").start();
    let failed = relay.wait_for_log("no certificate for relay.example (none is there yet)");
    for words in
        ["the authority has looked and says: ", "urn:ietf:params:acme:error:", "port 443", "points to this machine"]
    {
        assert!(failed.contains(words), "{words} in {failed}");
    }
    relay.wait_for_log("clients can connect to wss://relay.example");
    let trusting = connector(&pebble.root().await, &Tls::default());
    Client::connect(&trusting, wss_address(&relay), "relay.example").await.assert_served().await;

    let mut stream = tokio::net::TcpStream::connect(&http).await.unwrap();
    stream.write_all(b"GET /page?x HTTP/1.1\r\nHost: relay.example\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
    assert!(answer.contains(&format!("location: https://relay.example:{tls_port}/page?x\r\n")), "{answer}");
    relay.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_in_time_and_nobody_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let tls_port = free_port();
    let setup = PebbleSetup { tls_port, life_seconds: 30, ..PebbleSetup::default() };
    let pebble = Pebble::start(folder.path(), setup).await;
    let relay = asking(folder.path(), &pebble, tls_port, "relay.example").start();
    relay.wait_for_log("clients can connect to wss://relay.example");
    let anew = |root: &str| connector(root, &Tls::default());
    let root = pebble.root().await;
    let first = served(&anew(&root), wss_address(&relay), "relay.example").await;
    let mut client = Client::connect(&anew(&root), wss_address(&relay), "relay.example").await;
    until("it is renewed", || metric(&relay, "nostr_tls_acme_orders_total{result=\"issued\"}") >= 2.0).await;
    assert_ne!(served(&anew(&root), wss_address(&relay), "relay.example").await, first);
    client.assert_served().await;
    assert_eq!(metric(&relay, "nostr_tls_acme_orders_total{result=\"failed\"}"), 0.0);
    relay.stop();
}

/// The ACME task and a listener in this process, with shorter times than a relay has.
struct Quick {
    certificates: Arc<Certificates>,
    exporter: Exporter,
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Quick {
    async fn start(folder: &Path, pebble: &Pebble, tls_port: u16, domain: &str) -> Self {
        let mut settings = Config::default().tls;
        settings.domains = vec![domain.to_owned()];
        settings.acme_directory = pebble.directory_url();
        settings.acme_root = Some(folder.join("pebble-root.pem"));
        settings.directory = folder.join("tls");
        let exporter = Exporter::new().unwrap();
        let metrics = exporter.metrics().clone();
        let (certificates, challenges) = (Arc::new(Certificates::new(1)), Arc::new(Challenges::default()));
        let state = Arc::new(StateDirectory::open(&settings.directory).unwrap());
        let pace = Pace {
            look_interval: Duration::from_millis(50),
            first_wait: Duration::from_millis(300),
            max_wait: Duration::from_secs(1),
        };

        let (kept, shown) = (certificates.clone(), challenges.clone());
        let mut acme = Acme::new(&settings, 0, state, kept, shown, pace, metrics.clone()).unwrap();
        let handshakes =
            Arc::new(Handshakes::new(&settings, certificates.clone(), challenges, metrics, Tasks::detached()).unwrap());
        let listener = TcpListener::bind(("127.0.0.1", tls_port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { acme.run().await });
        tasks.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let handshakes = handshakes.clone();
                tokio::spawn(async move { handshakes.accept(stream).await.map(drop) });
            }
        });
        Self { certificates, exporter, address, _tasks: tasks }
    }

    fn orders(&self, result: &str) -> u64 {
        let text = self.exporter.render();
        let series = format!("nostr_tls_acme_orders_total{{result=\"{result}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&series)).unwrap().parse().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_points_elsewhere_fails_until_it_points_here() {
    let folder = tempfile::tempdir().unwrap();
    let tls_port = free_port();
    let pebble = Pebble::start(folder.path(), PebbleSetup { tls_port, ..PebbleSetup::default() }).await;
    pebble.point("relay.example", "127.0.0.77").await;
    let quick = Quick::start(folder.path(), &pebble, tls_port, "relay.example").await;
    until("two orders fail", || quick.orders("failed") >= 2).await;
    assert!(quick.certificates.all().is_empty());
    let trusting = connector(&pebble.root().await, &Tls::default());
    assert!(handshake(&trusting, quick.address, "relay.example").await.is_err(), "there is nothing to serve yet");
    pebble.point("relay.example", "127.0.0.1").await;
    until("an order succeeds", || quick.orders("issued") == 1).await;
    handshake(&trusting, quick.address, "relay.example").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_is_down_or_forgets_us_is_asked_again_and_what_is_there_stays() {
    let folder = tempfile::tempdir().unwrap();
    let tls_port = free_port();
    let setup = PebbleSetup { tls_port, life_seconds: 12, ..PebbleSetup::default() };
    let mut pebble = Pebble::start(folder.path(), setup).await;
    let quick = Quick::start(folder.path(), &pebble, tls_port, "relay.example").await;
    until("the first order succeeds", || quick.orders("issued") >= 1).await;
    let root = pebble.root().await;
    pebble.stop();
    until("renewals fail", || quick.orders("failed") >= 2).await;
    let served = quick.certificates.all();
    assert_eq!(served.len(), 1, "the old one stays");

    // A client takes it as long as it is valid; here it may just have expired.
    if served[0].seconds_left() > 2 {
        handshake(&connector(&root, &Tls::default()), quick.address, "relay.example").await.unwrap();
    }

    // Pebble starts again, without the account.
    let before = quick.orders("issued");
    pebble.start_again().await;
    until("a renewal succeeds", || quick.orders("issued") > before).await;
    handshake(&connector(&pebble.root().await, &Tls::default()), quick.address, "relay.example").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_said_in_the_authoritys_words() {
    let folder = tempfile::tempdir().unwrap();
    let tls_port = free_port();
    let pebble = Pebble::start(folder.path(), PebbleSetup { tls_port, ..PebbleSetup::default() }).await;
    let relay = asking(folder.path(), &pebble, tls_port, "blocked.example");
    let relay = relay.expect_log("no certificate for blocked.example").start();
    let line = relay.wait_for_log("no certificate for blocked.example");
    for words in [
        "the authority says: ",
        "urn:ietf:params:acme:error:rejectedIdentifier",
        "blocked.example",
        "next_try_seconds=",
    ] {
        assert!(line.contains(words), "{words} in {line}");
    }

    // The relay serves nevertheless, without wss.
    assert_eq!(crate::process::http_get(relay.admin_address(), "/ready", "*/*").0, 200);
    relay.stop();
}

/// Nonces are refused half of the time (badNonce).
#[tokio::test(flavor = "multi_thread")]
async fn refused_nonces_are_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let tls_port = free_port();
    let setup = PebbleSetup { tls_port, reject_nonces_percent: 50, ..PebbleSetup::default() };
    let pebble = Pebble::start(folder.path(), setup).await;
    let quick = Quick::start(folder.path(), &pebble, tls_port, "relay.example").await;
    until("an order succeeds", || quick.orders("issued") == 1).await;
}

/// Servers that are no ACME authorities: their answers are logged, and bounded.
#[tokio::test(flavor = "multi_thread")]
async fn nonsense_and_rate_limits_are_told_in_full() {
    let folder = tempfile::tempdir().unwrap();
    let authority = crate::kit::Authority::new();
    authority.issue(&["localhost"]).write(folder.path(), "ca");
    std::fs::write(folder.path().join("ca-root.pem"), &authority.pem).unwrap();
    for (answer, words) in [
        (
            "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 22\r\n\r\n<html>bad gateway</ht>".to_owned(),
            &["status 502", "<html>bad gateway"][..],
        ),
        (
            "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7200\r\nContent-Length: 76\r\n\r\n\
             {\"type\":\"urn:ietf:params:acme:error:rateLimited\",\"detail\":\"too many orders\"}"
                .to_owned(),
            &["urn:ietf:params:acme:error:rateLimited", "too many orders", "next_try_seconds=7200"],
        ),
        (
            format!("HTTP/1.1 200 OK\r\nContent-Length: 400000\r\n\r\n{}", "x".repeat(400_000)),
            &["length limit exceeded"],
        ),
        (String::new(), &["no certificate for relay.example"]),
    ] {
        let address = talking_nonsense(folder.path(), answer).await;
        let tls = folder.path().join(format!("tls-{}", address.port()));
        let relay = Setup::new(folder.path())
            .set("tls-listen", "127.0.0.1:0")
            .set("tls-domains", "relay.example")
            .set("tls-directory", &tls.display().to_string())
            .set("tls-acme-directory", &format!("https://localhost:{}/dir", address.port()))
            .set("tls-acme-root", &folder.path().join("ca-root.pem").display().to_string())
            .expect_log("no certificate for relay.example")
            .start();
        let line = relay.wait_for_log("no certificate for relay.example");
        for word in words {
            assert!(line.contains(word), "{word} in {line}");
        }
        relay.stop();
    }
}

/// An https server that answers everything with `answer`.
async fn talking_nonsense(folder: &Path, answer: String) -> SocketAddr {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio_rustls::rustls;
    let chain = vec![CertificateDer::from_pem_file(folder.join("ca.crt")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(folder.join("ca.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, answer) = (acceptor.clone(), answer.clone());
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await?;
                let mut request = vec![0; 16 * 1024];
                let _ = tokio::time::timeout(STEP_TIMEOUT, stream.read(&mut request)).await;
                stream.write_all(answer.as_bytes()).await?;
                stream.shutdown().await
            });
        }
    });
    address
}
