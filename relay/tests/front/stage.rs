//! The whole cluster, and the clients that use it.

use crate::clients::{self, Place};
use crate::kit::Author;
use crate::run::Run;
use crate::world::{self, World};
pub use deploy::local::DATABASE;
use deploy::local::{Local, ProgressBar, Wish};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// The sizes and bounds of a test.
#[derive(Clone, Copy)]
pub struct Size {
    /// Clients that subscribe.
    pub subscribers: usize,
    /// One in this many of them asks for much; the others follow one author.
    pub broad_one_in: usize,
    /// Clients that publish, and the time between two events of one.
    pub publishers: usize,
    pub pace: Duration,
    /// Clients that repeat a small query.
    pub askers: usize,
    /// How long an instance drains.
    pub drain: Duration,
    /// The bound of a query's 99th percentile during a roll, beyond twice the quiet one.
    pub slack: Duration,
    /// The bound of an answer that needs another connection first.
    pub again: Duration,
}

/// A cluster. Dropping it ends all processes and removes the directory.
pub struct Stage {
    pub local: Local,
    pub port: u16,
    pub quiet: ProgressBar,
    directory: TempDir,
}

impl Stage {
    pub async fn start(wish: Wish) -> Self {
        let directory = tempfile::Builder::new().prefix("skein-front-").tempdir().unwrap();
        let (port, quiet) = (deploy::free_port().unwrap(), ProgressBar::hidden());
        let relay_program = Some(PathBuf::from(env!("CARGO_BIN_EXE_relay")));
        let mut wish = Wish { port: Some(port), relay_program, guarded: true, ..wish };
        wish.settings.push(("RELAY_ACCESS_AUTHOR_KINDS".to_owned(), clients::AUTHOR_ONLY.to_string()));
        wish.settings.push(("RELAY_PROTOCOL_AND_TAGS".to_owned(), "true".to_owned()));
        let local = Local::up(directory.path(), &wish, &quiet).await.unwrap();
        Self { local, port, quiet, directory }
    }

    /// Every client comes in through HAProxy.
    pub fn crowd(&self, size: Size) -> (Run, Vec<Author>) {
        let authors: Vec<_> = (0..size.publishers).map(|_| Author::new()).collect();
        let publishers = authors.iter().map(|author| (self.port, author.clone())).collect();
        let subscribers = (0..size.subscribers).map(|n| {
            let broad = n % size.broad_one_in == 0;
            let filters = if broad { clients::filters(&authors, n as u64) } else { narrow(&authors, n as u64) };
            (Place { subscriber: n, relay: 0, port: self.port, resumes: n % 2 == 1 }, filters)
        });
        let urls = world::urls(self.local.postgres());
        let run = Run::start(World::default(), urls, publishers, subscribers.collect(), size.pace);
        (run, authors)
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub async fn stop(mut self) {
        self.local.down(&self.quiet).await.unwrap();
    }
}

/// One author's notes, or all of the author's events.
fn narrow(authors: &[Author], seed: u64) -> Vec<Value> {
    let mut random = StdRng::seed_from_u64(seed);
    let author = authors[random.random_range(0..authors.len())].pubkey().to_hex();
    let mut filter = json!({"authors": [author], "limit": 5_000});
    if random.random_bool(0.5) {
        filter["kinds"] = json!([1]);
    }
    vec![filter, json!({"kinds": [clients::LAST]})]
}
