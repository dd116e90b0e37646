//! Certificates from files: which client gets which, what is refused, and what happens when they change.

use crate::kit::{Authority, Client, Pair, Tls, connector, handshake, metric, served, until, wss_address};
use crate::process::{Relay, Setup, http_get};
use rcgen::date_time_ymd;
use rustix::process::Signal;
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use std::path::Path;
use tokio_rustls::rustls;

/// A relay with these pairs of files.
fn with_files(folder: &Path, names: &[&str]) -> Setup {
    with_files_at(folder, names, "127.0.0.1:0")
}

fn with_files_at(folder: &Path, names: &[&str], listen: &str) -> Setup {
    let list = |extension: &str| {
        let files = names.iter().map(|name| folder.join(format!("{name}.{extension}")).display().to_string());
        files.collect::<Vec<_>>().join(",")
    };
    Setup::new(folder).set("tls-listen", listen).set("tls-certificate", &list("crt")).set("tls-key", &list("key"))
}

fn start(folder: &Path, names: &[&str]) -> Relay {
    with_files(folder, names).start()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gets_the_certificate_of_the_name_it_asks_for() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let (a, b) = (authority.issue(&["a.example"]), authority.issue(&["*.b.example", "127.0.0.1"]));
    a.write(folder.path(), "a");
    b.write(folder.path(), "b");
    let relay = start(folder.path(), &["a", "b"]);
    let (address, trusting) = (wss_address(&relay), connector(&authority.pem, &Tls::default()));
    assert_eq!(served(&trusting, address, "a.example").await, a.der());
    assert_eq!(served(&trusting, address, "x.b.example").await, b.der());

    // Another name, or an address, which clients do not send: the first certificate, which the client then refuses.
    for name in ["c.example", "127.0.0.1"] {
        let error = handshake(&trusting, address, name).await.unwrap_err();
        assert!(error.to_string().contains("not valid for name"), "{name}: {error}");
    }

    assert!(metric(&relay, "nostr_tls_handshakes_total{result=\"full\"}") >= 2.0);
    until("the time until both expire is told", || {
        metric(&relay, "nostr_tls_certificate_expiry_seconds{name=\"a.example\"}") > 86_400.0
            && metric(&relay, "nostr_tls_certificate_expiry_seconds{name=\"*.b.example\"}") > 86_400.0
    })
    .await;
    relay.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_protocol_names_and_tickets() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    authority.issue(&["a.example"]).write(folder.path(), "a");
    let relay = start(folder.path(), &["a"]);
    let address = wss_address(&relay);
    const VERSIONS: [&[&SupportedProtocolVersion]; 2] = [&[&TLS12], &[&TLS13]];
    for versions in VERSIONS {
        let trusting = connector(&authority.pem, &Tls { versions, alpn: &[b"http/1.1"] });
        Client::connect(&trusting, address, "a.example").await.assert_served().await;
        // The same connector comes again with the ticket of the first time.
        let again = handshake(&trusting, address, "a.example").await.unwrap();
        assert_eq!(again.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Resumed), "{versions:?}");
        assert_eq!(again.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    }
    until("both are counted", || metric(&relay, "nostr_tls_handshakes_total{result=\"resumed\"}") >= 2.0).await;
    let h2 = connector(&authority.pem, &Tls { alpn: &[b"h2"], ..Tls::default() });
    let error = handshake(&h2, address, "a.example").await.unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");

    // NIP-11 and the landing page over https; the page tells the client's own name for the relay, as wss.
    let mut stream = handshake(&connector(&authority.pem, &Tls::default()), address, "a.example").await.unwrap();
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\nAccept: text/html\r\n\r\n").await.unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("wss://a.example"), "{page}");
    relay.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_replaced_under_200_clients_and_none_is_closed() {
    const CLIENTS: usize = 200;
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let issue = || authority.issue(&["a.example"]);
    let (first, second, third) = (issue(), issue(), issue());
    first.write(folder.path(), "a");
    let relay = with_files(folder.path(), &["a"]).expect_log("the new certificate is refused").start();
    let (address, trusting) = (wss_address(&relay), connector(&authority.pem, &Tls::default()));
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Client::connect(&trusting, address, "a.example").await);
    }

    // The relay notices new files by itself.
    second.write(folder.path(), "a");
    relay.wait_for_log("a new certificate is served");
    // A client that comes again with a ticket is not shown a certificate, but remembers the old one: a new one comes.
    let anew = || connector(&authority.pem, &Tls::default());
    assert_eq!(served(&anew(), address, "a.example").await, second.der());

    // What cannot be served is refused in words, and the old one stays.
    Pair { chain: third.chain.clone(), key: second.key.clone() }.write(folder.path(), "a");
    relay.signal(Signal::HUP);
    let refused = relay.wait_for_log("the new certificate is refused, the old one stays");
    assert!(
        refused.contains("tls.key: ") && refused.contains("a.key: is not the key of this certificate"),
        "{refused}"
    );
    assert_eq!(served(&anew(), address, "a.example").await, second.der());

    // On SIGHUP, or before it.
    third.write(folder.path(), "a");
    relay.signal(Signal::HUP);
    until("the third certificate is served", || relay.log().matches("a new certificate is served").count() == 2).await;
    assert_eq!(served(&anew(), address, "a.example").await, third.der());

    for client in &mut clients {
        client.assert_served().await;
    }
    assert_eq!(metric(&relay, "nostr_connections_closed_total{reason=\"lost\"}"), 0.0);
    drop(clients);
    relay.stop();
}

#[test]
fn a_bad_pair_at_the_start_is_an_error_that_says_what_to_do() {
    let authority = Authority::new();
    let good = authority.issue(&["a.example"]);
    let expired = authority.issue_with(&["a.example"], |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let nameless = authority.issue(&[]);
    let other = authority.issue(&["a.example"]);
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n".to_owned();
    let pair = |chain: &str, key: &str| Pair { chain: chain.to_owned(), key: key.to_owned() };
    for (pair, words) in [
        (expired, &["tls.certificate: ", "a.crt: has expired on", "2021", "renew it"][..]),
        (nameless, &["tls.certificate: ", "a.crt: names no host"]),
        (pair(&good.chain, &other.key), &["tls.key: ", "a.key: is not the key of this certificate"]),
        (pair(&good.chain, &encrypted), &["tls.key: ", "a.key: is encrypted", "openssl pkey"]),
        (pair("hello", &good.key), &["tls.certificate: ", "a.crt: holds no certificate", "BEGIN CERTIFICATE"]),
        (pair(&good.chain, ""), &["tls.key: ", "a.key: holds no private key"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        pair.write(folder.path(), "a");
        let key = pair.key.lines().nth(1).unwrap_or("no line of a key").to_owned();
        refused(with_files(folder.path(), &["a"]), words, &key);
    }

    let folder = tempfile::tempdir().unwrap();
    refused(
        with_files(folder.path(), &["a"]),
        &["tls.certificate: ", "a.crt: cannot be read: No such file"],
        "no line of a key",
    );

    let missing = folder.path().join("a.crt").display().to_string();
    let checked = std::process::Command::new(env!("CARGO_BIN_EXE_relay"))
        .args(["check-config", "--tls-listen", "127.0.0.1:0", "--tls-certificate", &missing, "--tls-key", &missing])
        .output();
    let checked = checked.unwrap();
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(!checked.status.success() && said.contains("a.crt: cannot be read"), "check-config finds it too: {said}");
    good.write(folder.path(), "a");
    let setup = with_files(folder.path(), &["a"]).set("public-url", "wss://b.example");
    refused(setup, &["no certificate is for b.example", "public_url", "a.example"], "no line of a key");
}

/// Fails unless the relay ends at once with these words, and without a line of the key.
fn refused(setup: Setup, words: &[&str], secret: &str) {
    let mut relay = setup.spawn();
    assert_eq!(relay.wait().code(), Some(1));
    let log = relay.log();
    for word in words {
        assert!(log.contains(word), "{word} in:\n{log}");
    }
    assert!(!log.contains(secret), "a key in:\n{log}");
}

#[test]
fn settings_that_do_not_fit_together_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (flags, words) in [
        (&[("tls-listen", "127.0.0.1:0")][..], "tls.listen: needs a certificate"),
        (&[("tls-certificate", "a"), ("tls-key", "a")], "tls.listen: is empty"),
        (&[("tls-listen", "127.0.0.1:0"), ("tls-certificate", "a")], "tls.key: names 0 files and tls.certificate 1"),
        (
            &[("tls-listen", "127.0.0.1:0"), ("tls-domains", "*.a.example")],
            "tls.domains: a wildcard wants a challenge in the DNS",
        ),
        (
            &[("tls-listen", "127.0.0.1:0"), ("tls-domains", "localhost")],
            "tls.domains: \"localhost\" is no public name",
        ),
        (
            &[("tls-listen", "127.0.0.1:0"), ("tls-domains", "a.example,a.example")],
            "tls.domains: names \"a.example\" twice",
        ),
        (&[("tls-http-listen", "127.0.0.1:0")], "tls.http_listen: sends clients to https"),
        (
            &[("tls-listen", "127.0.0.1:9"), ("tls-http-listen", "127.0.0.1:9"), ("tls-domains", "a.example")],
            "tls.http_listen: 127.0.0.1:9 and `tls.listen` = 127.0.0.1:9 cannot both be had",
        ),
        (
            &[("tls-listen", "127.0.0.1:0"), ("tls-domains", "a.b"), ("tls-acme-directory", "http://ca.example")],
            "tls.acme_directory: must be",
        ),
    ] {
        let setup = flags.iter().fold(Setup::new(folder.path()), |setup, (flag, value)| setup.set(flag, value));
        let mut relay = setup.spawn();
        assert_eq!(relay.wait().code(), Some(2), "{words}");
        // Between the two stands where the value came from.
        let (setting, words) = words.split_once(": ").unwrap();
        let log = relay.log();
        let found = log.lines().any(|line| line.contains(setting) && line.contains(words));
        assert!(found, "{setting}: {words} in:\n{log}");
    }
}

#[test]
fn a_port_that_is_taken_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    Authority::new().issue(&["a.example"]).write(folder.path(), "a");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut relay = with_files_at(folder.path(), &["a"], &address.to_string()).spawn();
    assert_eq!(relay.wait().code(), Some(1));
    let words = format!("cannot listen on {address} (setting `tls.listen`): another program has the port");
    assert!(relay.log().contains(&words), "{}", relay.log());
}

/// `/ready` does not depend on certificates.
#[test]
fn self_signed_is_ready_at_once_and_says_how_to_trust_it() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Setup::new(folder.path()).turn("tls-self-signed").set("tls-listen", "127.0.0.1:0").start();
    let line = relay.wait_for_log("no client trusts this relay until");
    for word in ["Android", "iOS", "Firefox", "NODE_EXTRA_CA_CERTS=tls/self-signed-authority.pem", "fingerprint="] {
        assert!(line.contains(word), "{word} in {line}");
    }
    assert_eq!(http_get(relay.admin_address(), "/ready", "*/*").0, 200);
    let (root, address) =
        (std::fs::read_to_string(folder.path().join("tls/self-signed-authority.pem")), wss_address(&relay));
    let runtime = tokio::runtime::Runtime::new().unwrap();

    runtime.block_on(async {
        let trusting = connector(&root.unwrap(), &Tls::default());
        Client::connect(&trusting, address, "localhost").await.assert_served().await;
        Client::connect(&trusting, address, "127.0.0.1").await.assert_served().await;
    });

    // Another relay in the same place would use the same directory.
    let mut second = Setup::new(folder.path())
        .set("database-urls", "sqlite:b.db")
        .turn("tls-self-signed")
        .set("tls-listen", "127.0.0.1:0")
        .spawn();
    assert_eq!(second.wait().code(), Some(1));

    assert!(second.log().contains("tls.directory: tls: another relay uses it"), "{}", second.log());
    relay.stop();
}
