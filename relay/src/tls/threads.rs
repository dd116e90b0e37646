//! Threads that compute handshakes, separate from those that serve clients: so a flood of handshakes does not delay
//! connected clients.

use std::io;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// The `nice` value of the threads. Chosen, not measured: a handshake signs with the certificate's key, which costs
/// more than any answer, so where both need the last core, connected clients come first.
const NICENESS: i32 = 5;

/// A small runtime. Its tasks may use sockets of another runtime.
#[derive(Debug)]
pub(super) struct HandshakeThreads(Option<Runtime>);

impl HandshakeThreads {
    /// Starts `threads` threads.
    ///
    /// # Errors
    /// The system cannot provide a thread.
    pub(super) fn start(threads: usize) -> io::Result<Self> {
        let yielding = || {
            // On Linux this sets the niceness of the thread alone. Where it fails, the threads only yield less.
            let _ = rustix::process::setpriority_process(None, NICENESS);
        };
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(threads).thread_name("tls").on_thread_start(yielding).enable_time();
        Ok(Self(Some(builder.build()?)))
    }

    /// Spawns `future` on these threads.
    pub(super) fn spawn<F>(&self, future: F) -> Option<JoinHandle<F::Output>>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.0.as_ref().map(|runtime| runtime.spawn(future))
    }
}

impl Drop for HandshakeThreads {
    /// Shuts down without waiting: a runtime's thread must not block.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
