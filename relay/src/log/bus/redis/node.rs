//! Finding the server that carries the channel, and connecting to it.

use super::{ANSWER_TIMEOUT, Failure};
use crate::config::{RedisAddress, RedisTopology};
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, FromRedisValue, IntoConnectionInfo, ProtocolVersion, PushInfo,
    RedisConnectionInfo, Value, cmd,
};
use tokio::sync::mpsc;

/// One server.
type Node = (String, u16);

/// Connects to the server that carries `channel` as of now. With `pushes`, what is subscribed to goes there, as far as
/// there is room.
pub(super) async fn connect(
    address: &RedisAddress,
    channel: &str,
    pushes: Option<mpsc::Sender<PushInfo>>,
) -> Result<MultiplexedConnection, Failure> {
    let mut last = Failure::Lost;
    for node in &address.nodes {
        match locate(address, node, channel).await {
            Ok(node) => return open(address, &node, pushes, true).await,
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn locate(address: &RedisAddress, node: &Node, channel: &str) -> Result<Node, Failure> {
    match &address.topology {
        RedisTopology::Single => Ok(node.clone()),
        RedisTopology::Sentinel { master } => {
            let mut sentinel = open(address, node, None, false).await?;
            let query = cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(master).clone();
            let found: Option<(String, u16)> = query.query_async(&mut sentinel).await?;
            found.ok_or(Failure::NoMaster)
        }
        RedisTopology::Cluster => {
            let mut seed = open(address, node, None, false).await?;
            let slot: i64 = cmd("CLUSTER").arg("KEYSLOT").arg(channel).query_async(&mut seed).await?;
            let ranges: Vec<Value> = cmd("CLUSTER").arg("SLOTS").query_async(&mut seed).await?;
            ranges.iter().find_map(|range| master_of(range, slot, node)).ok_or(Failure::NoShard)
        }
    }
}

/// The master in one line of CLUSTER SLOTS (`[first, last, [host, port, …], …]`), if `slot` is among its own. A node
/// that does not know its own host leaves it out: it is the one that we asked.
fn master_of(range: &Value, slot: i64, asked: &Node) -> Option<Node> {
    let Value::Array(range) = range else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = range.as_slice() else { return None };
    let [host, Value::Int(port), ..] = master.as_slice() else { return None };
    let host = String::from_redis_value(host.clone()).ok().filter(|host| !host.is_empty());
    let port = u16::try_from(*port).ok()?;
    (*first..=*last).contains(&slot).then(|| (host.unwrap_or_else(|| asked.0.clone()), port))
}

/// Sentinels have no databases.
async fn open(
    address: &RedisAddress,
    (host, port): &Node,
    pushes: Option<mpsc::Sender<PushInfo>>,
    select: bool,
) -> Result<MultiplexedConnection, Failure> {
    let place = match address.tls {
        true => ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None },
        false => ConnectionAddr::Tcp(host.clone(), *port),
    };
    // Its pushes let one connection be subscribed and answer a PING.
    let mut settings = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
    if select {
        settings = settings.set_db(address.database);
    }
    if let Some(username) = &address.username {
        settings = settings.set_username(username);
    }
    if let Some(password) = &address.password {
        settings = settings.set_password(password);
    }
    // Off by default, and small messages would wait for a delayed acknowledgement.
    let tcp = TcpSettings::default().set_nodelay(true);
    let info = place.into_connection_info()?.set_redis_settings(settings).set_tcp_settings(tcp);
    let mut config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(ANSWER_TIMEOUT))
        .set_response_timeout(Some(ANSWER_TIMEOUT));
    if let Some(pushes) = pushes {
        // An error would end nothing, and what there is no room for is in the log.
        config = config.set_push_sender(move |push: PushInfo| -> Result<(), ()> {
            let _ = pushes.try_send(push);
            Ok(())
        });
    }
    Ok(Client::open(info)?.get_multiplexed_async_connection_with_config(&config).await?)
}
