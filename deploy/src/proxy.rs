//! A TCP proxy that injects faults of a network: delay, jitter, silence, low bandwidth, cut connections.

use crate::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// The most bytes of one read.
const CHUNK: usize = 16 << 10;
/// How many chunks may be under way in one direction of one connection before the sender waits, as on a real line.
const CHUNKS: usize = 256;

/// The properties of the line. Changes apply to open connections too, from the next chunk on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Line {
    /// The delay of each direction.
    pub delay: Duration,
    /// How much the delay varies, up and down; the order of bytes stays.
    pub jitter: Duration,
    /// Nothing passes, and neither side gets an error, as when packets are dropped. Bytes that were under way pass
    /// later.
    pub silent: bool,
    /// New connections are closed as soon as they are made.
    pub refuse: bool,
    /// The bytes a second in each direction of each connection. `None`: no limit.
    pub bytes_per_second: Option<u64>,
}

/// A proxy on a port of 127.0.0.1. Dropping it ends it and its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    line: watch::Sender<Line>,
    cut: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy to `target`, without faults.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot listen.
    pub async fn start(target: SocketAddr) -> Result<Self, Error> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(Error::io("listening for a proxy"))?;
        Self::on(listener, target)
    }

    /// The same on an existing listener, perhaps in another network. To be called within a runtime.
    ///
    /// # Errors
    /// [`Error::Io`] if the runtime cannot take it.
    pub fn on(listener: std::net::TcpListener, target: SocketAddr) -> Result<Self, Error> {
        let failed = || Error::io("listening for a proxy");
        listener.set_nonblocking(true).map_err(failed())?;
        let listener = TcpListener::from_std(listener).map_err(failed())?;
        let address = listener.local_addr().map_err(failed())?;
        let (line, lines) = watch::channel(Line::default());
        let (cut, cuts) = watch::channel(0);
        let task = tokio::spawn(accept(listener, target, lines, cuts));
        Ok(Self { address, line, cut, task })
    }

    /// The address to connect to instead of the target.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the line.
    pub fn change(&self, change: impl FnOnce(&mut Line)) {
        self.line.send_modify(change);
    }

    /// Delays each direction by `delay`, plus or minus `jitter`.
    pub fn delay(&self, delay: Duration, jitter: Duration) {
        self.change(|line| (line.delay, line.jitter) = (delay, jitter));
    }

    /// Begins or ends a silence.
    pub fn silence(&self, silent: bool) {
        self.change(|line| line.silent = silent);
    }

    /// Closes all present connections; bytes under way are lost.
    pub fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The connections are in a JoinSet of the task and end with it.
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, line: watch::Receiver<Line>, cuts: watch::Receiver<u64>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { return };
                if !line.borrow().refuse {
                    let (line, mut cuts) = (line.clone(), cuts.clone());
                    cuts.mark_unchanged();
                    connections.spawn(async move {
                        tokio::select! {
                            _ = cuts.changed() => {}
                            _ = connect(client, target, Arc::new(line)) => {}
                        }
                    });
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connect(client: TcpStream, target: SocketAddr, line: Arc<watch::Receiver<Line>>) -> std::io::Result<()> {
    let server = TcpStream::connect(target).await?;
    // Nagle's algorithm would add a delay of its own.
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::try_join!(pass(from_client, to_server, &line), pass(from_server, to_client, &line))?;
    Ok(())
}

/// Copies one direction until its sender ends. Reading and writing run concurrently, so that delay costs no throughput.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, line: &watch::Receiver<Line>) -> std::io::Result<()> {
    let (sender, mut chunks) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS);
    let read = async move {
        let mut due = Instant::now();
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            if from.read_buf(&mut chunk).await? == 0 {
                return Ok(());
            }
            // Never before the chunk before it: jitter must not change the order.
            due = due.max(Instant::now() + one_way(&line.borrow()));
            if sender.send((due, chunk)).await.is_err() {
                return Ok(());
            }
        }
    };

    let write = async move {
        let mut line = line.clone();
        let mut free = Instant::now();
        while let Some((due, chunk)) = chunks.recv().await {
            let mut rest = chunk.as_slice();
            while !rest.is_empty() {
                tokio::time::sleep_until(due.max(free)).await;
                let Ok(Line { bytes_per_second, .. }) = line.wait_for(|line| !line.silent).await.as_deref().copied()
                else {
                    return Ok(());
                };
                // In steps of about 50 ms, so that a change of the line takes effect soon.
                let step = bytes_per_second.map_or(rest.len(), |rate| rest.len().min(rate as usize / 20 + 1));
                let (now, later) = rest.split_at(step);
                if let Some(rate) = bytes_per_second {
                    free = Instant::now() + Duration::from_secs_f64(step as f64 / rate.max(1) as f64);
                }
                to.write_all(now).await?;
                rest = later;
            }
        }
        to.shutdown().await
    };

    tokio::try_join!(read, write)?;
    Ok(())
}

fn one_way(line: &Line) -> Duration {
    let (low, high) = (line.delay.saturating_sub(line.jitter), line.delay + line.jitter);
    if low == high { low } else { rand::random_range(low..high) }
}
