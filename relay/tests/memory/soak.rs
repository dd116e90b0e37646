//! The long form: a relay in a cgroup of 1 GiB, 1,000 honest clients, and hostile ones beside them.

use super::hostile::{Hostile, Resident, ask_again, fill};
use super::process::client::Client;
use super::process::{Relay, Setup};
use super::{MIB, wait_until_given_back};
use std::path::Path;
use std::time::{Duration, Instant};

const HONEST: usize = 1_000;
/// How many of them ask at the same time.
const AT_ONCE: usize = 4;

/// Where cgroups of version 1 and 2 bound memory.
const CGROUPS: [(&str, &str); 2] =
    [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];

/// A cgroup of `bytes`, removed when dropped; `None` where this process may not make one.
struct Cgroup(std::path::PathBuf);

impl Cgroup {
    fn new(bytes: u64) -> Option<Self> {
        CGROUPS.iter().find_map(|(mount, file)| {
            let group = Self(Path::new(mount).join(format!("skein-test-{}", std::process::id())));
            std::fs::create_dir(&group.0).ok()?;
            std::fs::write(group.0.join(file), bytes.to_string()).ok().map(|()| group)
        })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn start(folder: &Path, cgroup: Option<&Cgroup>) -> Relay {
    let setup = Setup::new(folder).set("timeouts-write-stall-seconds", "600").expect_log("slow query");
    match cgroup {
        Some(Cgroup(path)) => {
            let enter = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", path.display());
            setup.under(&["sh", "-c", &enter, "sh"]).start()
        }
        // The account is then as large as the cgroup would make it.
        None => setup.set("memory-clients-bytes", &(256 * MIB).to_string()).start(),
    }
}

/// Every honest client asks for a page of 20 rows by the author; the 99th percentile of the time to its EOSEs.
async fn p99(clients: &mut [Client], author: &str) -> Duration {
    let mut times = Vec::new();
    for some in clients.chunks_mut(AT_ONCE) {
        let asked = some.iter_mut().map(|client| ask_again(client, author, 20));
        times.extend(futures_util::future::join_all(asked).await.into_iter().flatten());
    }
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: make soak"]
async fn a_thousand_honest_clients_in_1_gib_beside_hostile_ones() {
    let cgroup = Cgroup::new(1 << 30);
    println!("in a cgroup of 1 GiB: {}", cgroup.is_some());
    let folder = tempfile::tempdir().unwrap();
    let relay = start(folder.path(), cgroup.as_ref());
    let authors = fill(&relay, 2_000, 500).await;
    let mut honest = Vec::new();
    for _ in 0..HONEST {
        honest.push(Client::connect(&relay).await);
    }
    p99(&mut honest, &authors.small).await;
    let quiet = p99(&mut honest, &authors.small).await;
    let before = Resident::of(&relay).now;

    let mut hostile = Vec::new();
    for number in 0..8 {
        hostile.push(Hostile::ask(&relay, number, &authors.large, 2_000).await);
    }
    let mut dribbling = tokio::task::JoinSet::new();
    for number in 8..11 {
        let client = Hostile::ask(&relay, number, &authors.large, 2_000).await;
        dribbling.spawn(client.dribble(256 << 10, Duration::from_secs(10)));
    }
    let begun = Instant::now();
    let mut beside = Vec::new();
    while begun.elapsed() < Duration::from_secs(20) {
        beside.push(p99(&mut honest, &authors.small).await);
    }
    beside.sort_unstable();
    let beside = beside[beside.len() / 2];
    let most = Resident::of(&relay).most;
    println!(
        "REQ p99 {quiet:?} quiet, {beside:?} beside hostile clients; {} MiB resident before, {} MiB at most",
        before / MIB,
        most / MIB
    );
    dribbling.shutdown().await;
    drop(hostile);
    drop(honest);
    let (resident, live) = wait_until_given_back(&relay).await;
    println!("{} MiB resident at last, {} MiB live", resident / MIB, live / MIB);
    assert!(beside <= quiet * 2, "{beside:?} beside hostile clients, {quiet:?} without");
    relay.stop();
}
