//! The disk is full, then it is not.

use crate::process::client::{Author, Client};
use crate::process::{Relay, Setup};
use std::ffi::CString;
use std::io::{Error, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const MIB: usize = 1 << 20;
const NOTE_BYTES: usize = 16 * 1024;
/// Far more than fit.
const MAX_NOTES: usize = 4_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_recovers_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let disk = match Tmpfs::mount(folder.path(), 24 * MIB) {
        Ok(disk) => disk,
        Err(error) => {
            // A file of limited size, below, takes the same way through the relay as far as it can.
            println!("0 bytes filled: a small disk cannot be mounted here ({error}); that needs root");
            return;
        }
    };
    let ballast = disk.0.join("ballast");
    std::fs::File::create(&ballast).unwrap().write_all(&vec![1; 18 * MIB]).unwrap();
    let setup = || Setup::new(folder.path()).expect_log("full").expect_log("checkpoint");
    fill_and_recover(setup, |_| std::fs::remove_file(&ballast).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_may_not_grow_refuses_and_recovers_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let setup = || {
        let setup = Setup::new(folder.path()).expect_log("could not be stored").expect_log("checkpoint");
        setup.max_file_bytes(4 * MIB as u64)
    };
    fill_and_recover(setup, lift_file_limit).await;
}

/// Publishes until there is no room, reads all the same, makes room, and goes on with the same process.
async fn fill_and_recover(setup: impl Fn() -> Setup, make_room: impl FnOnce(&Relay)) {
    let relay = setup().start();
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
    lift_file_limit(&relay);
    relay.stop();

    let relay = setup().max_file_bytes(u64::MAX).start();
    assert_eq!(Client::connect(&relay).await.stored_of(&taken).await.len(), taken.len(), "and all of it is durable");
    relay.stop();
}

fn lift_file_limit(relay: &Relay) {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    let pid = libc::pid_t::try_from(relay.pid()).unwrap();
    // SAFETY: one system call that reads a value of this frame and writes nothing.
    let done = unsafe { libc::prlimit(pid, libc::RLIMIT_FSIZE, &limit, std::ptr::null_mut()) };
    assert_eq!(done, 0, "{}", Error::last_os_error());
}

/// A small disk in memory; gone with this value.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(at: &Path, bytes: usize) -> Result<Self, Error> {
        let target = CString::new(at.as_os_str().as_bytes())?;
        let options = CString::new(format!("size={bytes}"))?;
        let kind = c"tmpfs";
        // SAFETY: one system call on strings that outlive it.
        let done = unsafe { libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, options.as_ptr().cast()) };
        if done == 0 { Ok(Self(at.to_owned())) } else { Err(Error::last_os_error()) }
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        if let Ok(target) = CString::new(self.0.as_os_str().as_bytes()) {
            // SAFETY: one system call on a string that outlives it.
            unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
        }
    }
}
