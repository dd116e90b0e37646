//! `[redis]`: the server that carries the bus and the shared cache of a cluster, and the URLs that name it.

use super::redacted::Redacted;
use serde::Deserialize;
use std::fmt;

/// `[redis]`: the server that carries the bus and the shared cache of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisSettings {
    /// The server's URL; empty: none.
    pub url: Redacted,
    /// The prefix of every key and channel, so that several clusters can share the server.
    pub prefix: String,
}

/// The address of a Redis, as its URL gives it.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisAddress {
    /// What kind of Redis runs there.
    pub topology: RedisTopology,
    /// Hosts and ports: of the server, of the Sentinels, or of some of the Cluster's nodes.
    pub nodes: Vec<(String, u16)>,
    /// True for TLS on every connection.
    pub tls: bool,
    /// The user; none: the default user.
    pub username: Option<String>,
    /// The password of the servers, and of the Sentinels.
    pub password: Option<String>,
    /// The number of the database.
    pub database: i64,
}

/// The kinds of Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisTopology {
    /// One server.
    Single,
    /// Sentinels, which know the address of the master by its name.
    Sentinel {
        /// The name of the master.
        master: String,
    },
    /// A Cluster.
    Cluster,
}

/// Why a URL does not name a Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RedisAddressError {
    /// The scheme is unknown.
    #[error("must begin with redis://, rediss://, redis+sentinel:// or redis+cluster:// (rediss+… with TLS)")]
    Scheme,
    /// No host, or a port that is no number.
    #[error("must name hosts as host or host:port, several of them with commas between")]
    Nodes,
    /// A Sentinel URL without the master's name.
    #[error("must name the master after the Sentinels: redis+sentinel://host:26379/NAME")]
    Master,
    /// The database is not a number, or not 0 in a Cluster, which has only one.
    #[error("names a database that cannot be")]
    Database,
    /// A percent sign that is not followed by two hex digits.
    #[error("has a percent sign that escapes nothing")]
    Escape,
}

impl RedisAddress {
    /// Reads `redis[s][+sentinel|+cluster]://[user][:password@]host[:port][,host[:port]…][/master][/database]`.
    pub fn parse(url: &str) -> Result<Self, RedisAddressError> {
        use RedisAddressError as Wrong;
        let (scheme, rest) = url.split_once("://").ok_or(Wrong::Scheme)?;
        let (base, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        let tls = match base {
            "redis" => false,
            "rediss" => true,
            _ => return Err(Wrong::Scheme),
        };
        let (user_info, rest) = rest.rsplit_once('@').map_or((None, rest), |(user, rest)| (Some(user), rest));

        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (topology, database, port) = match kind {
            "" => (RedisTopology::Single, path, 6379),
            "cluster" => (RedisTopology::Cluster, path, 6379),
            "sentinel" => {
                let (master, database) = path.split_once('/').unwrap_or((path, ""));
                if master.is_empty() {
                    return Err(Wrong::Master);
                }
                (RedisTopology::Sentinel { master: unescape(master)? }, database, 26379)
            }
            _ => return Err(Wrong::Scheme),
        };
        let database = match database {
            "" => 0,
            number => number.parse().ok().filter(|number| *number >= 0).ok_or(Wrong::Database)?,
        };
        if database != 0 && topology == RedisTopology::Cluster {
            return Err(Wrong::Database);
        }

        let nodes = hosts.split(',').map(|node| host_and_port(node, port)).collect::<Option<Vec<_>>>();
        let (username, password) = match user_info.map(|info| info.split_once(':').unwrap_or((info, ""))) {
            None => (None, None),
            Some((user, password)) => (Some(unescape(user)?), Some(unescape(password)?)),
        };
        let given = |text: &String| !text.is_empty();
        Ok(Self {
            topology,
            nodes: nodes.ok_or(Wrong::Nodes)?,
            tls,
            username: username.filter(given),
            password: password.filter(given),
            database,
        })
    }
}

impl fmt::Debug for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topology, nodes, tls, username, password: _, database } = self;
        write!(f, "{topology:?} {nodes:?} tls={tls} user={username:?} database={database}")
    }
}

fn host_and_port(node: &str, default_port: u16) -> Option<(String, u16)> {
    if let Some(v6) = node.strip_prefix('[') {
        let (host, port) = v6.split_once(']')?;
        let port = if port.is_empty() { default_port } else { port.strip_prefix(':')?.parse().ok()? };
        return (!host.is_empty()).then(|| (host.to_owned(), port));
    }
    let (host, port) = match node.split_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (node, default_port),
    };
    (!host.is_empty() && port != 0).then(|| (host.to_owned(), port))
}

fn unescape(text: &str) -> Result<String, RedisAddressError> {
    percent_decode(text).ok_or(RedisAddressError::Escape)
}

/// `text` with each `%xx` replaced by the byte that it encodes; `None` where two hex digits are missing, or the result
/// is not UTF-8.
pub fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        bytes.push(digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())?);
        rest = after.get(2..).unwrap_or_default();
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let plain = RedisAddress::parse("redis://127.0.0.1").unwrap();
        assert_eq!((plain.topology, plain.tls, plain.database), (RedisTopology::Single, false, 0));
        assert_eq!(plain.nodes, [("127.0.0.1".to_owned(), 6379)]);
        let full = RedisAddress::parse("rediss://ann:p%40ss@cache:7000/3").unwrap();
        assert_eq!((full.username.as_deref(), full.password.as_deref()), (Some("ann"), Some("p@ss")));
        assert_eq!((full.tls, full.database, full.nodes[0].1), (true, 3, 7000));
        let sentinel = RedisAddress::parse("redis+sentinel://:secret@a,b:5,[::1]:6/main/2").unwrap();
        assert_eq!(sentinel.topology, RedisTopology::Sentinel { master: "main".to_owned() });
        assert_eq!(sentinel.nodes, [("a".to_owned(), 26379), ("b".to_owned(), 5), ("::1".to_owned(), 6)]);
        assert_eq!((sentinel.username, sentinel.database), (None, 2));
        assert!(RedisAddress::parse("rediss+cluster://a:1,b:2").unwrap().tls);
    }

    #[test]
    fn what_cannot_be_is_refused_and_nothing_shows_a_password() {
        use RedisAddressError as Wrong;
        for (url, wrong) in [
            ("http://a", Wrong::Scheme),
            ("redis+ring://a", Wrong::Scheme),
            ("localhost", Wrong::Scheme),
            ("redis://", Wrong::Nodes),
            ("redis://a:b", Wrong::Nodes),
            ("redis+cluster://a,,b", Wrong::Nodes),
            ("redis+sentinel://a", Wrong::Master),
            ("redis://a/x", Wrong::Database),
            ("redis+cluster://a/1", Wrong::Database),
            ("redis://:%zz@a", Wrong::Escape),
        ] {
            assert_eq!(RedisAddress::parse(url), Err(wrong), "{url}");
        }

        let address = RedisAddress::parse("redis://:hunter2@a").unwrap();
        assert!(!format!("{address:?}").contains("hunter2"));
    }
}
