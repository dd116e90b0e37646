//! Checks what an operator sees of a running relay: metrics, the dashboard in a real browser, the other pages, the log.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "process/mod.rs"]
mod process;

use deploy::postgres::PostgresCluster;
use process::client::{Author, Client};
use process::{Relay, STEP_TIMEOUT, Setup, http_get};
use relay::telemetry::CATALOGUE;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// The families of `/metrics`: name and type.
fn families(relay: &Relay) -> BTreeSet<(String, String)> {
    let (status, text) = http_get(relay.admin_address(), "/metrics", "*/*");
    assert_eq!(status, 200);
    let family = |line: &str| line.strip_prefix("# TYPE ")?.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned()));
    text.lines().filter_map(family).collect()
}

#[test]
fn a_running_relay_serves_exactly_the_catalogue() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Setup::new(folder.path()).start();
    let mut served = families(&relay);
    served.retain(|(name, _)| !name.starts_with("process_"));
    let kind = |kind| format!("{kind:?}").to_lowercase();
    let mut known: BTreeSet<_> = CATALOGUE.iter().map(|metric| (metric.name.to_owned(), kind(metric.kind))).collect();
    // Without a certificate this metric has no series.
    known.retain(|(name, _)| name != "nostr_tls_certificate_expiry_seconds");
    assert_eq!(served, known);
    relay.stop();
}

#[test]
fn a_person_gets_a_page_and_a_program_the_document() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Setup::new(folder.path()).set("info-name", "Larks & Co").start();
    let (status, page) = http_get(relay.address(), "/", "text/html,application/xhtml+xml,*/*;q=0.8");
    assert_eq!(status, 200);
    assert!(page.contains("<h1>Larks &amp; Co</h1>") && page.contains(&format!(">{}<", relay.url())), "{page}");
    assert!(!page.contains("src=") && !page.contains("<script"), "the page asks or runs something: {page}");
    assert_eq!(relay.information()["name"], "Larks & Co");
    let (_, words) = http_get(relay.address(), "/", "*/*");
    assert!(words.starts_with("This is a Nostr relay."), "{words}");
    relay.stop();
}

/// A relay that others can reach must know its own address, or AUTH fails for every client that connects by a domain
/// name.
#[test]
fn a_relay_behind_a_proxy_that_has_no_public_url_warns() {
    const WORDS: &str = "public_url is empty";
    let folder = tempfile::tempdir().unwrap();
    let setup = || Setup::new(folder.path()).set("proxy-trusted-networks", "127.0.0.1");
    let relay = setup().expect_log(WORDS).start();
    relay.wait_for_log(WORDS);
    relay.stop();
    // Controls: a WARN that is not announced fails the test.
    setup().set("public-url", "wss://relay.example").start().stop();
    setup().set("public-urls", "ws://relay.onion").start().stop();
    Setup::new(folder.path()).start().stop();
}

#[test]
fn an_operator_can_look_inside() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Setup::new(folder.path()).start();
    let get = |path| http_get(relay.admin_address(), path, "*/*");
    let json = |path| serde_json::from_str::<serde_json::Value>(&get(path).1).unwrap();
    assert!(json("/debug/memory")["Rss"].as_u64().unwrap() > 1 << 20);
    assert!(json("/debug/memory")["allocated"].as_u64().unwrap() > 1 << 20);
    assert!(json("/debug/tasks")["alive"].as_u64().unwrap() > 3);
    assert_eq!(get("/debug/database").0, 404, "SQLite keeps no statistics");
    let ready = json("/ready");
    assert_eq!((&ready["status"], &ready["dependencies"]), (&"ready".into(), &serde_json::json!([])));
    assert!(ready["since"].as_u64().unwrap() > 1_700_000_000);

    // Some work has to run, or there is nothing to see.
    let address = relay.address();
    let busy = std::thread::spawn(move || {
        let begun = Instant::now();
        while begun.elapsed().as_secs() < 3 {
            http_get(address, "/", "text/html");
        }
    });

    let profile = json("/debug/profile?seconds=2");
    let cores =
        |name: &str| profile.as_array().unwrap().iter().find(|row| row["name"] == name).unwrap()["cores"].as_f64();
    assert!(cores("relay").unwrap() > 0.0, "{profile}");
    assert_eq!(cores("verify"), Some(0.0), "nobody published: {profile}");
    busy.join().unwrap();
    relay.stop();
}

/// Status and body of an answer that is not text.
fn raw_get(address: SocketAddr, path: &str, host: &str) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(STEP_TIMEOUT)).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    let body = answer.split_off(end + 4);
    let status = String::from_utf8(answer).unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    (status, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_shows_the_stacks_of_a_relay_at_work() {
    const PATH: &str = "/debug/pprof/profile?seconds=2";
    let folder = tempfile::tempdir().unwrap();
    let relay = Setup::new(folder.path()).start();
    assert_eq!(raw_get(relay.admin_address(), PATH, "localhost").0, 403, "off unless it is wanted");
    relay.stop();
    let relay = Setup::new(folder.path()).turn("admin-pprof").start();
    let admin = relay.admin_address();
    assert_eq!(raw_get(admin, PATH, "evil.example").0, 404);

    let over = Arc::new(AtomicBool::new(false));
    let (stop, mut client) = (over.clone(), Client::connect(&relay).await);
    let publisher = tokio::spawn(async move {
        let mut author = Author::new();
        while !stop.load(Ordering::Relaxed) {
            client.publish_all(&author.notes(50, 100)).await;
        }
    });
    let asked = |path: String| tokio::task::spawn_blocking(move || raw_get(admin, &path, "localhost"));
    let (first, second) = tokio::join!(asked(format!("{PATH}&format=folded")), asked(PATH.to_owned()));
    let (first, second) = (first.unwrap(), second.unwrap());
    let refused = [&first, &second].iter().filter(|(status, _)| *status == 409).count();
    assert_eq!(refused, 1, "one at a time: {} and {}", first.0, second.0);
    let folded = asked(format!("{PATH}&format=folded")).await.unwrap();
    let binary = asked(PATH.to_owned()).await.unwrap();
    over.store(true, Ordering::Relaxed);
    publisher.await.unwrap();

    assert_eq!((folded.0, binary.0), (200, 200));
    let folded = String::from_utf8(folded.1).unwrap();
    let at_work = |line: &str| line.starts_with("verify") && line.contains("signature_holds;");
    assert!(folded.lines().any(at_work), "{} stacks, none of a signature being checked", folded.lines().count());
    assert!(!folded.contains("perf_signal_handler"), "the profiler is no part of it");
    // A profile holds its strings uncompressed.
    let text = String::from_utf8_lossy(&binary.1);
    assert!(text.contains("nanoseconds") && text.contains("signature_holds"), "{} bytes", text.len());
    let settled = raw_get(admin, "/debug/pprof?seconds=1&format=folded", "localhost");
    assert_eq!(settled.0, 200, "and again, by its other name");
    relay.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_tells_what_it_counts_and_a_slow_read_is_one_line() {
    let cluster = PostgresCluster::setup().replicas(0).start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let relay = Setup::new(folder.path()).set("database-urls", &cluster.database_urls("postgres")[0]);
    let relay = relay.set("observe-slow-query-seconds", "0").expect_log("slow query").start();
    let inside = || {
        let (status, body) = http_get(relay.admin_address(), "/debug/database", "*/*");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<serde_json::Value>(&body).unwrap()
    };
    assert!(inside()["statements"].is_null(), "the extension is not there yet: {}", inside());
    cluster.primary().unwrap().execute("CREATE EXTENSION pg_stat_statements").await.unwrap();
    // Without this, the statements of the migrations would fill the list.
    cluster.primary().unwrap().execute("SELECT pg_stat_statements_reset()").await.unwrap();

    let (mut client, mut author) = (Client::connect(&relay).await, Author::new());
    client.publish_all(&[author.note(10)]).await;
    let key = "ab".repeat(32);
    assert_eq!(client.stored(serde_json::json!({"authors": [key], "kinds": [1], "limit": 7})).await.len(), 0);
    let told = inside();
    let statements = told["statements"].as_array().unwrap();
    let reads = statements.iter().find(|row| row["statement"].as_str().unwrap().contains("FROM head"));
    let reads = reads.unwrap_or_else(|| panic!("{told}"));
    assert!(reads["calls"].as_u64().unwrap() > 0 && reads["total_seconds"].as_f64().unwrap() > 0.0, "{told}");
    assert!(!told.to_string().contains(&key), "no values: {told}");
    let unused = told["unused_indexes"].as_array().unwrap();
    assert!(unused.iter().any(|row| row["bytes"].as_u64().unwrap() > 0 && row["index"].is_string()), "{told}");

    let log = relay.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("slow query") && line.contains("authors:1")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(
        lines[0].contains("kinds:1") && lines[0].contains("form=") && lines[0].contains("elapsed_ms="),
        "{lines:?}"
    );
    assert!(!log.contains(&key), "who is asked for is nobody's business: {log}");
    relay.stop();
}

/// The expression that docs/observability.md gives to fail2ban, whose `<HOST>` stands for an address.
fn banned(log: &str) -> Vec<(String, String)> {
    let document = include_str!("../../docs/observability.md");
    let expression = document.lines().find_map(|line| line.strip_prefix("failregex = ")).unwrap();
    let expression = expression.replace("<HOST>", r"(?P<host>[0-9a-fA-F:.]+)");
    let script =
        "import re,sys\nfor line in sys.stdin:\n m=re.search(sys.argv[1],line)\n if m: print(m['host'],m['reason'])";
    let mut child = Command::new("python3")
        .args(["-c", script, &expression])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(log.as_bytes()).unwrap();
    let output = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    output.lines().map(|line| line.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap()).collect()
}

/// Asks for a WebSocket: the connection, and the first line of the answer.
fn knock(address: SocketAddr) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    (stream, String::from_utf8_lossy(&head).into_owned())
}

#[test]
fn who_is_turned_away_stands_in_the_log_as_fail2ban_reads_it() {
    for format in ["text", "json"] {
        let folder = tempfile::tempdir().unwrap();
        let relay = Setup::new(folder.path()).set("limits-max-connections-per-address", "1").set("log-format", format);
        let relay = relay.expect_log("refused connection").spawn();
        relay.wait_for_log("operators: http://");
        let address = relay.address();
        let (held, first) = knock(address);
        assert!(first.ends_with("101"), "{first}");
        assert_eq!(banned(&relay.log()), [], "control: who is let in is not in it");
        let (_stream, second) = knock(address);
        assert!(second.ends_with("429"), "{second}");
        relay.wait_for_log("refused connection");
        assert_eq!(banned(&relay.log()), [("127.0.0.1".to_owned(), "address_full".to_owned())], "{format}");
        drop(held);
        relay.stop();
    }
}

/// The page's elements in a real browser, once its script has drawn and `wanted` holds.
fn opened(url: &str, wanted: impl Fn(&str) -> bool) -> String {
    let deadline = Instant::now() + STEP_TIMEOUT;
    loop {
        let profile = tempfile::tempdir().unwrap();
        let output = Command::new("chromium")
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=6000", "--dump-dom"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(url)
            .output()
            .expect("chromium is there: `make deps` installs it");
        let dom = String::from_utf8_lossy(&output.stdout).into_owned();

        if dom.contains("data-drawn=\"yes\"") && wanted(&dom) {
            return dom;
        }
        assert!(
            Instant::now() < deadline,
            "the page never showed it: {dom}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// The text of a tile.
fn tile(dom: &str, id: &str) -> String {
    let tile = dom.split(&format!("data-tile=\"{id}\"")).nth(1).unwrap_or_default();
    let value = tile.split("class=\"value\">").nth(1).unwrap_or_default();
    value.split('<').next().unwrap_or_default().to_owned()
}

#[test]
fn the_dashboard_shows_what_a_client_did() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Setup::new(folder.path()).start();
    let url = format!("http://{}/", relay.admin_address());
    // The first samples may be a moment away.
    let before = opened(&url, |dom| tile(dom, "connections") == "0" && dom.matches("<canvas").count() >= 20);
    assert!(before.contains("class=\"pill good\""), "{before}");
    let clients: Vec<_> = (0..3).map(|_| knock(relay.address())).collect();
    let after = opened(&url, |dom| tile(dom, "connections") == "3");
    assert!(!after.contains("class=\"notice bad\""), "{after}");
    drop(clients);
    relay.stop();
}
