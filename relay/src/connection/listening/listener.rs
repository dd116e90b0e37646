//! The door: accepts connections, counts them, and turns away what is too much.

use super::refused::Refusals;
use super::slots::{Slot, Slots};
use crate::connection::Services;
use crate::connection::http::{pages, upgrade};
use crate::connection::rate::EventRate;
use crate::connection::transport::client;
use crate::telemetry::{ConnectionOutcome, Shed};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// How many of those that are turned away get a polite answer at the same time; the others are just closed.
const POLITE_REFUSALS: usize = 256;

/// How long turning one away may take.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// How much of a request is read before it is refused.
const MAX_REFUSED_BYTES: usize = 16 * 1024;

/// How long to wait when no connection can be accepted, at first and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// How often what is remembered of silent addresses is thrown away.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

/// Accepts clients and serves each in a task of its own.
pub struct Listener {
    tcp: TcpListener,
    gate: Arc<Gate>,
}

/// What all connections of a listener share.
pub(in crate::connection) struct Gate {
    pub(in crate::connection) services: Services,
    pub(in crate::connection) slots: Slots,
    pub(in crate::connection) events: EventRate,
    pub(super) refusals: Refusals,
}

impl Gate {
    /// Counts a connection that is turned away, and says so in the log unless it is the relay that leaves.
    pub(in crate::connection) fn refuse(&self, address: IpAddr, outcome: ConnectionOutcome) {
        self.services.metrics.connections.of(outcome).increment(1);
        if outcome != ConnectionOutcome::Draining {
            self.refusals.note(address, outcome);
        }
        if matches!(outcome, ConnectionOutcome::Full | ConnectionOutcome::AddressFull) {
            self.services.metrics.shed.of(Shed::Connection).increment(1);
        }
    }
}

impl Listener {
    /// Serves whoever connects to `tcp`.
    pub fn new(tcp: TcpListener, services: Services) -> Self {
        Self {
            tcp,
            gate: Arc::new(Gate {
                services,
                slots: Slots::new(),
                events: EventRate::default(),
                refusals: Refusals::default(),
            }),
        }
    }

    /// Serves until the shutdown signal, then until the last connection has ended. While connections drain, new ones
    /// are turned away. Connections run in tasks of their own, so dropping this future ends none of them.
    pub async fn run(self) {
        let Self { tcp, gate } = self;
        let refusals = Arc::new(Semaphore::new(POLITE_REFUSALS));
        let accepting = async {
            let mut back_off = None;
            loop {
                match tcp.accept().await {
                    Ok((stream, peer)) => {
                        if back_off.take().is_some() {
                            tracing::info!("connections are accepted again");
                        }
                        admit(&gate, &refusals, stream, peer);
                    }
                    Err(error) if is_the_clients_fault(&error) => {}
                    Err(error) => wait_a_little(&gate, &mut back_off, &error).await,
                }
            }
        };
        let drained = async {
            gate.services.shutdown.clone().draining().await;
            gate.slots.empty().await;
        };
        let housekeeping = async {
            let mut tick = interval(HOUSEKEEPING);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                gate.events.forget_silent();
            }
        };
        tokio::select! {
            () = accepting => {}
            () = housekeeping => {}
            () = drained => {}
        }
    }
}

/// Serves a new connection if there is a place for it.
fn admit(gate: &Arc<Gate>, refusals: &Arc<Semaphore>, stream: TcpStream, peer: SocketAddr) {
    // Without it small answers wait 40 ms for a delayed ACK. It cannot fail on a socket that was just accepted, and
    // if it did, slower would be better than not at all.
    let _ = stream.set_nodelay(true);
    let settings = gate.services.settings.load();
    if gate.services.shutdown.is_draining() {
        gate.refuse(peer.ip(), ConnectionOutcome::Draining);
    } else if let Some(slot) = gate.slots.enter(settings.max_connections) {
        tokio::spawn(serve(gate.clone(), stream, peer, slot));
        return;
    } else {
        gate.refuse(peer.ip(), ConnectionOutcome::Full);
    }
    if let Ok(permit) = refusals.clone().try_acquire_owned() {
        tokio::spawn(async move {
            // Whether the client hears it is its own affair.
            let _ = timeout(REFUSAL_TIMEOUT, refuse(stream)).await;
            drop(permit);
        });
    }
}

async fn serve(gate: Arc<Gate>, stream: TcpStream, peer: SocketAddr, slot: Slot) {
    gate.services.metrics.connections_active.increment(1);
    let deadline = gate.services.settings.load().handshake_timeout;
    let buffer = client::read_buffer();
    // Boxed, so that the future of an open connection is not as large as hyper's.
    let handshake = Box::pin(upgrade::handshake(stream, peer.ip(), &gate));
    match timeout(deadline, handshake).await {
        Ok(Some(upgraded)) => client::run(&gate, upgraded, buffer).await,
        Ok(None) => {}
        Err(_) => gate.refuse(peer.ip(), ConnectionOutcome::Handshake),
    }
    gate.services.metrics.connections_active.decrement(1);
    drop(slot);
}

/// Answers 503 and hangs up. The request is read first: closing a socket with unread bytes resets it, and the client
/// would lose the answer.
async fn refuse(mut stream: TcpStream) -> io::Result<()> {
    let mut request = Vec::with_capacity(1024);
    while !request.ends_with(b"\r\n\r\n") && request.len() < MAX_REFUSED_BYTES {
        if stream.read_buf(&mut request).await? == 0 {
            break;
        }
    }
    stream.write_all(pages::UNAVAILABLE).await?;
    stream.shutdown().await?;
    while stream.read(request.as_mut_slice()).await? > 0 {}
    Ok(())
}

/// True for errors of the connection that was to be accepted: the next one may be fine.
fn is_the_clients_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// Out of file descriptors or memory: those that are connected go on, and the next try comes a little later.
async fn wait_a_little(gate: &Gate, back_off: &mut Option<Duration>, error: &io::Error) {
    let wait = match *back_off {
        Some(last) => (last * 2).min(BACK_OFF.1),
        None => {
            tracing::warn!(%error, open = gate.slots.open(), "no connection can be accepted, trying again");
            BACK_OFF.0
        }
    };
    *back_off = Some(wait);
    sleep(wait).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Most of what an idle connection costs besides its read buffer.
    #[test]
    fn the_future_of_a_connection_is_small() {
        fn size_of_output<A, B, C, D, Output>(_: impl Fn(A, B, C, D) -> Output) -> usize {
            size_of::<Output>()
        }
        let bytes = size_of_output(serve);
        assert!(bytes <= 3 * 1024, "{bytes} bytes");
    }
}
