//! wss: binds its sockets and starts what keeps its certificates.

use crate::config::Config;
use crate::task::Tasks;
use crate::telemetry::Metrics;
use crate::tls::TlsService;
use anyhow::Context;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpSocket};

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: u32 = 1024;

/// The port to which http is redirected, unless the relay listens on another one.
const HTTPS_PORT: u16 = 443;

/// The part that serves wss.
pub(super) struct RunningTls {
    pub(super) service: TlsService,
    addresses: Vec<SocketAddr>,
}

/// Binds `tls.listen` and `tls.http_listen` and starts the service; nothing where `tls.listen` is empty. The sockets
/// are those of `tls.listen`: connections wait in them until the listener accepts.
pub(super) fn start(
    config: &Config,
    metrics: &Arc<Metrics>,
    tasks: &Tasks,
) -> anyhow::Result<Option<(RunningTls, Vec<TcpListener>)>> {
    let settings = &config.tls;
    if !settings.is_on() {
        return Ok(None);
    }
    let sockets = bind_all(&settings.listen, "tls.listen")?;
    let http = bind_all(&settings.http_listen, "tls.http_listen")?;
    let addresses: Vec<_> = sockets.iter().map(TcpListener::local_addr).collect::<io::Result<_>>()?;
    let https_port = addresses.first().map_or(HTTPS_PORT, SocketAddr::port);
    let service = TlsService::start(settings, &config.public_url, http, https_port, metrics, tasks)?;
    Ok(Some((RunningTls { service, addresses }, sockets)))
}

impl RunningTls {
    /// Says where clients connect, and by which names.
    pub(super) fn log_startup(&self, config: &Config) {
        let addresses: Vec<_> = self.addresses.iter().map(|address| format!("wss://{address}")).collect();
        let mut names: Vec<_> = self.service.certificates().all().iter().flat_map(|one| one.names().to_vec()).collect();
        names.extend(config.tls.domains.iter().cloned());
        names.sort();
        names.dedup();
        let names = names.join(" ");
        tracing::info!(names, "TLS is on: clients reach {}", addresses.join(" and "));
    }
}

fn bind_all(addresses: &[SocketAddr], setting: &str) -> anyhow::Result<Vec<TcpListener>> {
    let mut bound = Vec::new();
    for address in addresses {
        match bind(*address) {
            Ok(listener) => bound.push(listener),
            // A machine without IPv6 is still reached by IPv4.
            Err(error) if is_family_missing(&error, *address) && addresses.len() > 1 => {
                tracing::info!("this machine has no IPv6: {address} of {setting} is left out");
            }
            Err(error) => {
                let advice = advice(&error, *address);
                return Err(error).with_context(|| format!("cannot listen on {address} (setting `{setting}`){advice}"));
            }
        }
    }
    Ok(bound)
}

/// Binds an IPv6 address for IPv6 alone, so that the same port can be bound for IPv4, whatever the system's default is.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if address.is_ipv6() {
        rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
    }
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn is_family_missing(error: &io::Error, address: SocketAddr) -> bool {
    let missing = [rustix::io::Errno::AFNOSUPPORT, rustix::io::Errno::ADDRNOTAVAIL];
    address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        && missing.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// What an operator can do, where we know it.
fn advice(error: &io::Error, address: SocketAddr) -> String {
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(": another program has the port, and `ss -ltnp 'sport = :{port}'` names it")
        }
        io::ErrorKind::PermissionDenied => format!(
            ": ports below 1024 want a capability: AmbientCapabilities=CAP_NET_BIND_SERVICE in systemd's unit, or \
             `setcap cap_net_bind_service=+ep` on the program; or choose a port from 1024 on and have {port} forwarded"
        ),
        _ => String::new(),
    }
}
