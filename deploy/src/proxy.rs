//! A TCP proxy that makes a network worse: delay, jitter, silence, a narrow line, cut connections.

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

/// The most read at once.
const CHUNK: usize = 16 << 10;
/// The chunks under way in one direction of one connection: more, and its sender waits, as on a real line.
const CHUNKS: usize = 256;

/// What the line is like. Changes apply to open connections too, from the next chunk on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Line {
    /// How long each way takes.
    pub delay: Duration,
    /// By how much that varies, up and down; the order stays.
    pub jitter: Duration,
    /// Nothing passes, and nobody is told: as when packets are dropped. What was on its way passes afterwards.
    pub silent: bool,
    /// New connections are closed as soon as they are made.
    pub refuse: bool,
    /// The bytes a second for each direction of each connection. `None`: as many as there are.
    pub bytes_per_second: Option<u64>,
}

/// A proxy on a port of 127.0.0.1; it ends, with its connections, when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    line: watch::Sender<Line>,
    cut: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts one that leads to `target`, with a perfect line.
    ///
    /// # Errors
    /// [`Error::Io`] if it can't listen.
    pub async fn start(target: SocketAddr) -> Result<Self, Error> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(Error::io("listening for a proxy"))?;
        Self::on(listener, target)
    }

    /// The same on a listener that there is already, in another network perhaps. To be called within a runtime.
    ///
    /// # Errors
    /// [`Error::Io`] if the runtime can't take it.
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

    /// Where to connect instead of the target.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the line.
    pub fn change(&self, change: impl FnOnce(&mut Line)) {
        self.line.send_modify(change);
    }

    /// Delays each way by `delay`, give or take `jitter`.
    pub fn delay(&self, delay: Duration, jitter: Duration) {
        self.change(|line| (line.delay, line.jitter) = (delay, jitter));
    }

    /// Begins or ends a silence.
    pub fn silence(&self, silent: bool) {
        self.change(|line| line.silent = silent);
    }

    /// Closes all connections that there are now; what was on its way is lost.
    pub fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Its connections lie in a JoinSet of the task and end with it.
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
    // A proxy that gathers small packets would add a delay of its own.
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::try_join!(pass(from_client, to_server, &line), pass(from_server, to_client, &line))?;
    Ok(())
}

/// One direction, until its sender is done. The two ends run apart, so that delay costs no throughput.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, line: &watch::Receiver<Line>) -> std::io::Result<()> {
    let (sender, mut chunks) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS);
    let read = async move {
        let mut due = Instant::now();
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            if from.read_buf(&mut chunk).await? == 0 {
                return Ok(());
            }
            // Never before its elder.
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
                // In steps of about 50 ms.
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
