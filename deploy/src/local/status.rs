use super::front::Front;
use super::{DATABASE, Local};
use crate::Error;
use crate::postgres::{PostgresServer, Role};
use crate::process::Process;
use crate::redis::RedisServer;
use crate::relay::Relay;
use serde::Serialize;

/// One process of a cluster.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// `relay-1`, ..., `haproxy`, `redis`, `primary`, `replica-1`, ...
    pub name: String,
    /// `relay`, `haproxy`, `redis`, `primary`, `replica` or `prometheus`. After a failover a server's role differs from
    /// its name.
    pub role: &'static str,
    /// Its process id, if it runs.
    pub pid: Option<i32>,
    /// Its address.
    pub url: String,
    /// Its state, as text for people.
    #[serde(skip)]
    pub detail: String,
}

impl Local {
    /// The state of every process. One that does not answer within seconds is shown with the reason.
    pub async fn status(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        if !self.relays.is_empty() {
            let front = &self.front;
            rows.push(row(front.name(), "haproxy", front.process(), front.url(), of_front(front)).await);
        }
        for relay in &self.relays {
            rows.push(row(&relay.name, "relay", relay.process(), relay.url(), of_relay(relay)).await);
        }

        let redis = &self.redis;
        rows.push(row(&redis.name, "redis", redis.process(), redis.url(), of_redis(redis)).await);
        for server in &self.postgres.servers {
            let role = if server.role() == Role::Primary { "primary" } else { "replica" };
            let url = server.database_url(DATABASE);
            let mut row = row(server.name(), role, server.process(), url, of_server(server)).await;
            if server.is_fenced() {
                row.detail = "the primary before a failover; `up` rebuilds it as a replica".to_owned();
            }
            rows.push(row);
        }

        if let Some(prometheus) = &self.prometheus {
            let detail = prometheus.detail();
            rows.push(row(prometheus.name(), "prometheus", prometheus.process(), prometheus.url(), detail).await);
        }
        rows
    }
}

async fn row(
    name: &str,
    role: &'static str,
    process: Option<&Process>,
    url: String,
    detail: impl Future<Output = Result<String, Error>>,
) -> Row {
    let pid = process.filter(|process| process.is_alive()).map(Process::pid);
    let detail = match pid {
        Some(_) => detail.await.unwrap_or_else(|error| error.to_string()),
        None => "does not run".to_owned(),
    };
    Row { name: name.to_owned(), role, pid, url, detail }
}

async fn of_front(front: &Front) -> Result<String, Error> {
    let servers = front.runtime().servers().await.map_err(Error::front("asking HAProxy"))?;
    let clients: u64 = servers.iter().map(|server| server.connections).sum();
    let up = servers.iter().filter(|server| server.status == haproxy::Status::Up).count();
    Ok(format!("{clients} connections, {up} of {} relays up", servers.len()))
}

async fn of_redis(redis: &RedisServer) -> Result<String, Error> {
    let info: String = redis.ask(&::redis::cmd("INFO").arg("clients").to_owned()).await?;
    let clients = info.lines().find_map(|line| line.strip_prefix("connected_clients:"));
    Ok(format!("{} connections", clients.unwrap_or("?")))
}

async fn of_relay(relay: &Relay) -> Result<String, Error> {
    let (_, metrics) = relay.get("/metrics").await?;
    let ready = match relay.get("/ready").await?.0 {
        200 => "",
        404 => "draining, ",
        _ => "not ready, ",
    };
    let whole = |name: &str| metric(&metrics, name).map_or("?".to_owned(), |value| format!("{value:.0}"));
    let mut detail =
        format!("{ready}{} connections, head {}", whole("nostr_connections_active"), whole("nostr_log_head_position"));
    for layer in ["l1", "l2"] {
        if let Some(rate) = metric(&metrics, &format!("nostr_cache_hit_rate{{layer=\"{layer}\"}}")) {
            detail.push_str(&format!(", {layer} hits {:.0} %", rate * 100.0));
        }
    }
    Ok(detail)
}

/// The value of one line of the Prometheus text format.
pub(super) fn metric(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

async fn of_server(server: &PostgresServer) -> Result<String, Error> {
    if server.role() == Role::Primary {
        let query = "SELECT count(*) || ' connections, WAL at ' || pg_current_wal_lsn() FROM pg_stat_activity \
                     WHERE backend_type = 'client backend'";
        return server.ask(query).await;
    }

    // Where all that was received is applied, the age of the last commit is no lag: the primary has been idle.
    server
        .ask(
            "SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') || ' connections, '
                 || coalesce((SELECT status FROM pg_stat_wal_receiver), 'not attached')
                 || CASE WHEN pg_get_wal_replay_pause_state() = 'paused' THEN ', replay paused' ELSE '' END
                 || ', lag ' || CASE WHEN pg_last_wal_receive_lsn() IS NOT DISTINCT FROM pg_last_wal_replay_lsn() THEN '0 s'
                    ELSE coalesce(round(extract(epoch FROM now() - pg_last_xact_replay_timestamp()), 1)::text, '?') || ' s'
                    END",
        )
        .await
}

#[cfg(test)]
mod tests {
    use super::metric;

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let text = "# HELP nostr_a x\nnostr_a_total 3\nnostr_a{layer=\"l1\"} 0.5\nnostr_a 7\n";
        assert_eq!(metric(text, "nostr_a"), Some(7.0));
        assert_eq!(metric(text, "nostr_a{layer=\"l1\"}"), Some(0.5));
        assert_eq!(metric(text, "nostr_b"), None);
    }
}
