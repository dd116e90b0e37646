//! Runs parts of the production files.

#![allow(missing_docs, clippy::unwrap_used)]

mod kit;

use haproxy::{Cluster, EXAMPLE, production};
use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn rendered(path: &str) -> String {
    let files = production::files(&Cluster::parse(EXAMPLE).unwrap()).unwrap();
    files.into_iter().find(|file| file.path == path).unwrap().text
}

fn program(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/bash\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A fake pg_basebackup that writes files in the order of the real one, and refuses a directory that is not empty, as
/// the real one does. It is killed before the last file where INTERRUPTED is set.
const FAKE_BASEBACKUP: &str = r#"
while [ "$1" != -D ]; do shift; done
[ -z "$(ls -A "$2" 2>/dev/null)" ] || exit 1
mkdir -p "$2/global" "$2/base" && echo 15 >"$2/PG_VERSION"
[ -z "$INTERRUPTED" ] || kill -KILL $PPID $$
touch "$2/global/pg_control" "$2/standby.signal"
echo copied >>"$COPIES""#;

#[test]
fn a_standby_whose_first_copy_was_interrupted_copies_again() {
    let directory = tempfile::tempdir().unwrap();
    let (programs, data) = (directory.path().join("bin"), directory.path().join("data"));
    for folder in [&programs, &data] {
        fs::create_dir(folder).unwrap();
    }
    program(&programs.join("pg_basebackup"), FAKE_BASEBACKUP);
    program(&programs.join("postgres"), r#"[ -e "$PGDATA/global/pg_control" ] && [ -e "$PGDATA/standby.signal" ]"#);
    let script = directory.path().join("standby.sh");
    fs::write(&script, rendered("postgres-standby.sh")).unwrap();
    let copies = directory.path().join("copies");
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let run = |interrupted: &str| {
        let mut bash = Command::new("bash");
        bash.arg(&script).env("PATH", &path).env("PGDATA", &data).env("SKEIN_STANDBY", "replica-1");
        bash.env("COPIES", &copies).env("INTERRUPTED", interrupted).status().unwrap().success()
    };

    assert!(!run("yes"), "control");
    assert!(run(""), "the second start copies again");
    assert!(run(""), "the third has a copy");
    assert_eq!(fs::read_to_string(&copies).unwrap(), "copied\n");
    assert!(!data.join("copy").exists());

    // A promoted standby is no standby any more, and must keep its data.
    fs::remove_file(data.join("standby.signal")).unwrap();
    assert!(!run(""), "control: the stub wants a standby");
    assert_eq!(fs::read_to_string(&copies).unwrap(), "copied\n");
}

struct Redis(Child);

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An address of this machine that other machines can reach; `None` without a network.
fn own_address() -> Option<IpAddr> {
    // Sends nothing: the system only tells the source address that it would use.
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("198.18.0.1:9").ok()?;
    let own = socket.local_addr().unwrap().ip();
    (!own.is_loopback()).then_some(own)
}

/// The answer of a node with this file to a client that connects to `own`, and so comes from that address.
async fn answer_of_redis(configuration: &str, own: IpAddr) -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("redis.conf");
    // A cluster's node also listens on its port plus 10,000.
    let port = loop {
        let port = kit::free_address().port();
        if port < 55_000 {
            break port;
        }
    };

    fs::write(&file, configuration.replace("port 6379\n", &format!("port {port}\n"))).unwrap();
    let child = Command::new("redis-server").arg(&file).current_dir(&directory).stdout(Stdio::null()).spawn().unwrap();
    let _redis = Redis(child);
    kit::until("redis listens", async || TcpStream::connect((own, port)).await.is_ok()).await;
    let mut stream = TcpStream::connect((own, port)).await.unwrap();
    stream.write_all(b"PING\r\n").await.unwrap();
    let mut answer = [0; 64];
    let length = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[tokio::test]
async fn a_node_of_redis_cluster_answers_other_hosts() {
    let file = rendered("redis-cluster.conf");
    assert!(file.contains("\nprotected-mode no\n"), "{file}");
    // Without a network no client can come from another address.
    let Some(own) = own_address() else { return };
    assert_eq!(answer_of_redis(&file, own).await, "+PONG\r\n");
    let protected = answer_of_redis(&file.replace("protected-mode no", ""), own).await;
    assert!(protected.starts_with("-DENIED"), "control: {protected}");
}
