//! The disk gets full, then has space again.

use crate::process::client::{Author, Client};
use crate::process::{Relay, Setup};
use std::path::{Path, PathBuf};
use std::process::Command;

const MIB: usize = 1 << 20;
const NOTE_BYTES: usize = 16 * 1024;
/// Far more notes than the disk has space for.
const MAX_NOTES: usize = 4_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_recovers_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let disk = match Tmpfs::mount(folder.path(), 24 * MIB) {
        Ok(disk) => disk,
        Err(error) => {
            // The test below, with a file of limited size, covers most of the same path.
            println!("not run: only root may mount a small disk ({error})");
            return;
        }
    };
    let ballast = disk.0.join("ballast");
    std::fs::write(&ballast, vec![1; 18 * MIB]).unwrap();
    let setup = || Setup::new(folder.path()).expect_log("full").expect_log("checkpoint");
    fill_and_recover(setup().start(), |_| std::fs::remove_file(&ballast).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_may_not_grow_refuses_and_recovers_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    // Without the trap, a write beyond the limit would kill the relay.
    let limited = format!("trap '' XFSZ; exec prlimit --fsize={}:unlimited \"$@\"", 4 * MIB);
    let setup = Setup::new(folder.path()).under(&["sh", "-c", &limited, "sh"]);
    let relay = setup.expect_log("could not be stored").expect_log("checkpoint").start();
    fill_and_recover(relay, |relay| run("prlimit", &["--pid", &relay.pid().to_string(), "--fsize=unlimited"]).unwrap())
        .await;
}

/// Publishes until there is no room, reads meanwhile, makes room, and goes on with the same process.
async fn fill_and_recover(relay: Relay, make_room: impl FnOnce(&Relay)) {
    let folder = relay.folder().to_owned();
    let (mut author, mut client) = (Author::new(), Client::connect(&relay).await);
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    while refused.len() < 10 {
        assert!(taken.len() < MAX_NOTES, "it never got full");
        let note = author.note(NOTE_BYTES);
        match client.publish(&note).await {
            (true, _) => taken.push(note),
            (false, words) => {
                assert!(words.starts_with("error:"), "{words}");
                refused.push(note);
            }
        }
    }
    println!("{} events taken, then {} refused", taken.len(), refused.len());
    assert!(taken.len() > 10);
    assert_eq!(client.stored_of(&taken).await.len(), taken.len(), "a full disk can be read from");
    assert_eq!(client.stored_of(&refused).await.len(), 0, "what was refused is not there");

    make_room(&relay);
    for note in &refused {
        let (ok, words) = client.publish(note).await;
        assert!(ok, "there is room again, but: {words}");
    }
    taken.append(&mut refused);
    assert_eq!(client.stored_of(&taken).await.len(), taken.len());
    drop(client);
    relay.stop();

    let relay = Setup::new(&folder).start();
    assert_eq!(Client::connect(&relay).await.stored_of(&taken).await.len(), taken.len(), "and all of it is durable");
    relay.stop();
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}

/// A small disk in memory, unmounted when dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(at: &Path, bytes: usize) -> Result<Self, String> {
        run("mount", &["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs", at.to_str().unwrap()])?;
        Ok(Self(at.to_owned()))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = run("umount", &["--lazy", self.0.to_str().unwrap_or_default()]);
    }
}
