//! An OK comes after the disk has confirmed the event: read from the relay's system calls.

use crate::process::Setup;
use crate::process::client::{Author, Client, Signed};
use std::collections::{HashMap, HashSet};
use std::process::Command;

/// The system calls that strace must record: all that make writes durable, and all that send to a client.
const CALLS: &str = "trace=fsync,fdatasync,write,writev,sendto,sendmsg";
/// Enough of each written text to see the first OK and its event's id.
const SHOWN_BYTES: &str = "200";

#[tokio::test(flavor = "multi_thread")]
async fn every_group_of_oks_follows_an_fsync_of_its_own() {
    let (trace, groups) = traced("full").await;
    let checked = check(&trace, &groups).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(checked, groups.len(), "some OKs are missing from the trace");
    println!("{checked} groups of OKs, each after an fsync of the write-ahead log that ended since the last");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_durability_the_same_check_fails() {
    let (trace, groups) = traced("relaxed").await;
    let fault = check(&trace, &groups).expect_err("with fsync off, OKs cannot wait for it: the check sees nothing");
    println!("as it should be: {fault}");
}

/// Publishes groups of events under strace, each once all of the group before have their OK.
async fn traced(durability: &str) -> (String, Vec<Vec<Signed>>) {
    permitted();
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let strace = ["strace", "-D", "-f", "-y", "-s", SHOWN_BYTES, "-e", CALLS, "-o", trace.to_str().unwrap()];
    let setup = Setup::new(folder.path()).set("database-durability", durability).under(&strace);
    let relay = setup.expect_log("database.durability is \"relaxed\"").start();
    let mut author = Author::new();
    let sizes = [1; 20].into_iter().chain([100; 10]).chain([1, 300, 2]);
    let groups: Vec<_> = sizes.map(|size| author.notes(size, 50)).collect();
    let mut client = Client::connect(&relay).await;
    for group in &groups {
        client.publish_all(group).await;
    }

    drop(client);
    // strace holds the log's pipe too, so it has written everything once this returns.
    relay.stop();
    (String::from_utf8_lossy(&std::fs::read(&trace).unwrap()).into_owned(), groups)
}

fn permitted() {
    let probe = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output();
    let works = probe.as_ref().is_ok_and(|output| output.status.success());
    assert!(
        works,
        "strace cannot trace here ({probe:?}). It is installed by `make deps`; in a container it needs the \
         capability SYS_PTRACE, elsewhere kernel.yama.ptrace_scope at most 1."
    );
}

/// Goes through the trace in order. The number of groups whose first OK came after an fsync of the write-ahead log that
/// ended after the last OK of the group before; or the first group for which that is not so.
fn check(trace: &str, groups: &[Vec<Signed>]) -> Result<usize, String> {
    let group_of: HashMap<&str, usize> = groups
        .iter()
        .enumerate()
        .flat_map(|(number, group)| group.iter().map(move |event| (event.id.as_str(), number)))
        .collect();
    let (mut syncing, mut synced, mut seen) = (HashSet::new(), false, HashSet::new());

    for line in trace.lines() {
        let Some((thread, call)) = line.split_once(' ').map(|(thread, call)| (thread, call.trim_start())) else {
            continue;
        };
        let begins = call.starts_with("fsync(") || call.starts_with("fdatasync(");
        let resumes = call.starts_with("<... fsync resumed") || call.starts_with("<... fdatasync resumed");
        if begins && call.contains("-wal>") && call.contains("<unfinished") {
            syncing.insert(thread);
        } else if (begins && call.contains("-wal>")) || (resumes && syncing.remove(thread)) {
            synced |= call.trim_end().ends_with("= 0");
        } else if let Some(ok) = call.split("[\\\"OK\\\",\\\"").nth(1) {
            let id = ok.get(..64).unwrap_or_default();
            let group = *group_of.get(id).ok_or_else(|| format!("an OK for an unknown event: {line}"))?;
            if seen.insert(group) && !synced {
                return Err(format!("group {group} got its OKs without an fsync before: {line}"));
            }
            synced = false;
        }
    }
    Ok(seen.len())
}
