//! Accepts connections, counts them, and refuses those beyond the limits.

use super::proxy;
use super::slots::Slot;
use crate::connection::context::ListenerContext;
use crate::connection::http::pages;
use crate::connection::http::upgrade::{self, Upgraded};
use crate::connection::services::Services;
use crate::connection::settings::ConnectionSettings;
use crate::connection::stream::ClientStream;
use crate::connection::transport::{buffer, task};
use crate::memory::Pressure;
use crate::telemetry::{ConnectionOutcome, Metrics, Task};
use crate::tls::{HANDSHAKE_RECORD, HandshakeError, Handshakes};
use futures_util::future::join_all;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// How many refused connections get an answer at the same time; beyond it they are closed without one.
const MAX_CONCURRENT_REFUSALS: usize = 256;

/// How long the answer to a refused connection may take.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// How much of a request is read before it is refused.
const MAX_REFUSED_REQUEST_BYTES: usize = 16 * 1024;

/// The pause after the first failure to accept; it doubles with each further one.
const MIN_ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause between two tries to accept.
const MAX_ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// How often the rate limiter drops addresses that have been silent.
const RATE_CLEANUP_INTERVAL: Duration = Duration::from_secs(60);

/// Accepts clients and serves each in a task of its own.
pub struct Listener {
    ports: Vec<Port>,
    context: Arc<ListenerContext>,
}

/// One socket that is listened on.
struct Port {
    tcp: TcpListener,
    /// Does the handshakes where TLS is spoken here.
    tls: Option<Arc<Handshakes>>,
}

impl Listener {
    /// A listener that serves connections to `tcp`.
    pub fn new(tcp: TcpListener, services: Services) -> Self {
        let ports = vec![Port { tcp, tls: None }];
        Self { ports, context: Arc::new(ListenerContext::new(services)) }
    }

    /// Serves connections to `tcp`, too: over TLS where `tls` does their handshakes. Limits hold for all sockets
    /// together.
    pub fn add(&mut self, tcp: TcpListener, tls: Option<Arc<Handshakes>>) {
        self.ports.push(Port { tcp, tls });
    }

    /// Serves until the shutdown signal, then until the last connection has ended. While connections drain, new ones
    /// are refused. Connections run in tasks of their own, so dropping this future ends none of them.
    pub async fn run(self) {
        let Self { ports, context } = self;
        let refusals = Arc::new(Semaphore::new(MAX_CONCURRENT_REFUSALS));
        let accepting = join_all(ports.iter().map(|port| accept(port, &context, &refusals)));

        let drained = async {
            context.services.shutdown.clone().draining().await;
            context.slots.empty().await;
        };

        let cleanup = async {
            let mut tick = interval(RATE_CLEANUP_INTERVAL);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                context.event_rate.drop_silent_addresses();
            }
        };

        tokio::select! {
            _ = accepting => {}
            () = cleanup => {}
            () = drained => {}
        }
    }
}

/// Accepts the connections to one socket. Never ends.
async fn accept(port: &Port, context: &Arc<ListenerContext>, refusals: &Arc<Semaphore>) {
    let mut pause = None;
    loop {
        match port.tcp.accept().await {
            Ok((stream, peer)) => {
                if pause.take().is_some() {
                    tracing::info!("connections are accepted again");
                }
                admit(context, refusals, stream, peer, &port.tls);
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => back_off(context, &mut pause, &error).await,
        }
    }
}

/// Serves a new connection if a slot is free, else refuses it.
fn admit(
    context: &Arc<ListenerContext>,
    refusals: &Arc<Semaphore>,
    stream: TcpStream,
    peer: SocketAddr,
    tls: &Option<Arc<Handshakes>>,
) {
    // With Nagle's algorithm small answers wait 40 ms for a delayed ACK. Setting the option cannot fail on a socket
    // that was just accepted, and if it did, slower would be better than not at all.
    let _ = stream.set_nodelay(true);

    let settings = context.services.settings.load();
    if context.services.shutdown.is_draining() {
        context.refuse(peer.ip(), ConnectionOutcome::Draining);
    } else if context.services.memory.pressure() >= Pressure::Connections {
        // The connections that are open hold nearly all of it: one more would only wait.
        context.refuse(peer.ip(), ConnectionOutcome::Full);
    } else if let Some(slot) = context.slots.enter(settings.max_connections) {
        let connection = serve(context.clone(), stream, peer, slot, tls.clone());
        context.services.tasks.spawn(Task::Connection, connection);
        return;
    } else {
        context.refuse(peer.ip(), ConnectionOutcome::Full);
    }

    // An answer over TLS would cost a handshake, which is what there is too much of.
    if tls.is_none()
        && let Ok(permit) = refusals.clone().try_acquire_owned()
    {
        context.services.tasks.spawn(Task::Refusal, async move {
            // The connection is refused whether or not the client reads the answer.
            let _ = timeout(REFUSAL_TIMEOUT, refuse(stream)).await;
            drop(permit);
        });
    }
}

async fn serve(
    context: Arc<ListenerContext>,
    stream: TcpStream,
    peer: SocketAddr,
    slot: Slot,
    tls: Option<Arc<Handshakes>>,
) {
    let active = ActiveConnection::count(&context.services.metrics);
    let deadline = context.services.settings.load().handshake_timeout;
    let deadline = deadline + tls.as_ref().map_or(Duration::ZERO, |tls| tls.timeout());
    let buffer = buffer::read_buffer();
    // Boxed, so that the future of an open connection is not as large as hyper's.
    let handshake = Box::pin(open(&context, stream, peer.ip(), tls));
    match timeout(deadline, handshake).await {
        Ok(Some(upgraded)) => task::run(&context, upgraded, buffer).await,
        Ok(None) => {}
        Err(_) => context.refuse(peer.ip(), ConnectionOutcome::Handshake),
    }
    drop(active);
    drop(slot);
}

/// Counts one connection as active until it is dropped, by a panic too.
struct ActiveConnection<'a>(&'a Metrics);

impl<'a> ActiveConnection<'a> {
    fn count(metrics: &'a Metrics) -> Self {
        metrics.connections_active.increment(1);
        Self(metrics)
    }
}

impl Drop for ActiveConnection<'_> {
    fn drop(&mut self) {
        self.0.connections_active.decrement(1);
    }
}

/// From a TCP connection to a WebSocket: the PROXY protocol's header where it is on, TLS where it is spoken, then HTTP.
/// The caller sets a deadline.
async fn open(
    context: &ListenerContext,
    mut stream: TcpStream,
    peer: IpAddr,
    tls: Option<Arc<Handshakes>>,
) -> Option<Upgraded> {
    let settings = context.services.settings.load_full();
    let mut address = peer;
    if settings.proxy_protocol {
        match proxy::client_address(&mut stream, peer, &settings).await {
            Ok(client) => address = client,
            Err(error) => {
                tracing::debug!(%peer, %error, "refused: the PROXY protocol is on");
                context.refuse(peer, ConnectionOutcome::Proxy);
                return None;
            }
        }
    }
    let stream = match tls {
        Some(tls) => encrypted(context, stream, address, &tls, &settings).await?,
        None if speaks_tls(&stream).await => {
            context.refuse(address, ConnectionOutcome::TlsOnPlainPort);
            return None;
        }
        None => ClientStream::Tcp(stream),
    };
    upgrade::handshake(stream, address, context, &settings).await
}

/// The TLS handshake. It counts among the connections of its address, unless only the request will say whose it is:
/// half a handshake takes as much as a connection.
async fn encrypted(
    context: &ListenerContext,
    stream: TcpStream,
    address: IpAddr,
    tls: &Handshakes,
    settings: &ConnectionSettings,
) -> Option<ClientStream> {
    let slot = match settings.trusts(address) {
        true => None,
        false => match context.slots.enter_from(address, settings.max_connections_per_address) {
            None => {
                context.refuse(address, ConnectionOutcome::AddressFull);
                return None;
            }
            slot => slot,
        },
    };
    let accepted = tokio::select! {
        accepted = tls.accept(stream) => accepted,
        // Half a handshake has nothing to lose, and would hold up the end.
        _ = async { context.services.shutdown.clone().draining().await } => {
            context.refuse(address, ConnectionOutcome::Draining);
            return None;
        }
    };
    // The request takes a slot of its own.
    drop(slot);
    match accepted {
        Ok(stream) => Some(ClientStream::Tls(stream)),
        Err(HandshakeError::Challenge) => None,
        Err(error) => {
            tracing::debug!(%address, %error, "no TLS");
            let outcome = match error {
                HandshakeError::Refused => ConnectionOutcome::Full,
                _ => ConnectionOutcome::Tls,
            };
            context.refuse(address, outcome);
            None
        }
    }
}

/// True where a client begins TLS on a port without it: it would hear nothing that it understands.
async fn speaks_tls(stream: &TcpStream) -> bool {
    let mut first = [0];
    matches!(stream.peek(&mut first).await, Ok(1)) && first[0] == HANDSHAKE_RECORD
}

/// Answers 503 and closes the connection. The request is read first: closing a socket with unread bytes resets it, and
/// the client would lose the answer.
async fn refuse(mut stream: TcpStream) -> io::Result<()> {
    let mut request = Vec::with_capacity(1024);
    while !request.ends_with(b"\r\n\r\n") && request.len() < MAX_REFUSED_REQUEST_BYTES {
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
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// Waits before the next try to accept. File descriptors or memory are exhausted; open connections go on.
async fn back_off(context: &ListenerContext, pause: &mut Option<Duration>, error: &io::Error) {
    let next = match *pause {
        Some(last) => (last * 2).min(MAX_ACCEPT_PAUSE),
        None => {
            tracing::warn!(%error, open = context.slots.open(), "no connection can be accepted, trying again");
            MIN_ACCEPT_PAUSE
        }
    };
    *pause = Some(next);
    sleep(next).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Most of what an idle connection costs besides its read buffer.
    #[test]
    fn the_future_of_a_connection_is_small() {
        fn size_of_output<A, B, C, D, E, Output>(_: impl Fn(A, B, C, D, E) -> Output) -> usize {
            size_of::<Output>()
        }
        let bytes = size_of_output(serve);
        assert!(bytes <= 3 * 1024, "{bytes} bytes");
    }
}
