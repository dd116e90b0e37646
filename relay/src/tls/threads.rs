//! Threads that compute handshakes, apart from those that serve clients: a flood of handshakes waits for them, and
//! nobody who is connected waits for it.

use std::io;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// How much the threads yield to all others of the machine (`nice`). Chosen, not measured: a handshake signs with the
/// certificate's key, which costs more than any answer, so where both want the last core, those who are connected come
/// first.
const NICENESS: i32 = 5;

/// A small runtime of its own. What runs on it may use sockets of another one.
#[derive(Debug)]
pub(super) struct HandshakeThreads(Option<Runtime>);

impl HandshakeThreads {
    /// So many threads.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(super) fn start(threads: usize) -> io::Result<Self> {
        let yielding = || {
            // On Linux the niceness is that of the thread. Where it is not taken, the threads only yield less.
            let _ = rustix::process::setpriority_process(None, NICENESS);
        };
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(threads).thread_name("tls").on_thread_start(yielding).enable_time();
        Ok(Self(Some(builder.build()?)))
    }

    /// Runs `future` there.
    pub(super) fn spawn<F>(&self, future: F) -> Option<JoinHandle<F::Output>>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.0.as_ref().map(|runtime| runtime.spawn(future))
    }
}

impl Drop for HandshakeThreads {
    /// Without waiting, which is not allowed where tasks run.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
