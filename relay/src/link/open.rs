//! Opens one connection to one server.

use super::{ANSWER_TIMEOUT, LinkError};
use crate::config::RedisAddress;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, ProtocolVersion, PushInfo, RedisConnectionInfo,
};
use tokio::sync::mpsc;

/// A server: its host and port.
pub type RedisNode = (String, u16);

/// Connects to `node`.
pub async fn open(
    address: &RedisAddress,
    node: &RedisNode,
    pushes: Option<mpsc::Sender<PushInfo>>,
) -> Result<MultiplexedConnection, LinkError> {
    with(address, node, pushes, address.database).await
}

/// Connects to a Sentinel, which has no databases.
pub(super) async fn sentinel(address: &RedisAddress, node: &RedisNode) -> Result<MultiplexedConnection, LinkError> {
    with(address, node, None, 0).await
}

async fn with(
    address: &RedisAddress,
    (host, port): &RedisNode,
    pushes: Option<mpsc::Sender<PushInfo>>,
    database: i64,
) -> Result<MultiplexedConnection, LinkError> {
    let place = match address.tls {
        true => ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None },
        false => ConnectionAddr::Tcp(host.clone(), *port),
    };
    // RESP3: with its push messages one connection is subscribed and still answers a PING. Database 0 needs no SELECT.
    let mut settings = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3).set_db(database);
    if let Some(username) = &address.username {
        settings = settings.set_username(username);
    }
    if let Some(password) = &address.password {
        settings = settings.set_password(password);
    }
    // Nagle's algorithm would delay small messages until the server's delayed acknowledgement.
    let tcp = TcpSettings::default().set_nodelay(true);

    let info = place.into_connection_info()?.set_redis_settings(settings).set_tcp_settings(tcp);
    let mut config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(ANSWER_TIMEOUT))
        .set_response_timeout(Some(ANSWER_TIMEOUT));
    if let Some(pushes) = pushes {
        // A full channel drops the message, which the shared log has. An error here would not end the connection.
        config = config.set_push_sender(move |push: PushInfo| -> Result<(), ()> {
            let _ = pushes.try_send(push);
            Ok(())
        });
    }
    Ok(Client::open(info)?.get_multiplexed_async_connection_with_config(&config).await?)
}
