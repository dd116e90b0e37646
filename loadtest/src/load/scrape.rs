//! Reads the relay's own metrics, in the text format of Prometheus, and uses its admin listener.

use crate::report::Metric;
use rustc_hash::FxHashMap;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

const WITHIN: Duration = Duration::from_secs(5);
const MAX_BYTES: u64 = 8 << 20;
/// Metrics of a report at most.
const MAX_METRICS: usize = 200;

/// Gets an `http://` URL and returns the body. Blocks for up to a few seconds.
///
/// # Errors
/// Another scheme, an error of the socket, or a status that is not 2xx.
pub fn get(url: &str) -> io::Result<String> {
    request("GET", url, "")
}

/// Asks the relay at the admin address `url` to purge its caches, and those of all other instances.
///
/// # Errors
/// As [`get`]: without the relay's `admin.token` it refuses.
pub fn purge(url: &str, token: Option<&str>) -> io::Result<String> {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    request("POST", &format!("{}/cache/purge?all", url.trim_end_matches('/')), &authorization)
}

fn request(method: &str, url: &str, headers: &str) -> io::Result<String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| io::Error::other(format!("{url:?} is no http:// URL")))?;
    let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let with_port = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let address = with_port.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
    let mut stream = TcpStream::connect_timeout(&address, WITHIN)?;
    stream.set_read_timeout(Some(WITHIN))?;

    // HTTP/1.0: the body ends with the connection and is not chunked.
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: {host}\r\n{headers}Content-Length: 0\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(MAX_BYTES).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("no HTTP answer"))?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status.starts_with('2') {
        Ok(body.to_owned())
    } else {
        Err(io::Error::other(format!("{method} {url} answered {status}")))
    }
}

/// The samples of a text: name with labels, and value.
pub fn series(text: &str) -> impl Iterator<Item = (&str, f64)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.rsplit_once(' ')).filter_map(|(name, value)| Some((name, value.parse().ok()?)))
}

/// The samples of a text, by name and labels; histogram buckets are left out.
pub fn samples(text: &str) -> FxHashMap<String, f64> {
    series(text).filter(|(name, _)| !name.contains("_bucket{")).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The samples that changed between two looks, by name.
pub(super) fn changed(before: &FxHashMap<String, f64>, after: &FxHashMap<String, f64>) -> Vec<Metric> {
    let metric = |(name, after): (&String, &f64)| Metric {
        name: name.clone(),
        before: before.get(name).copied().unwrap_or(0.0),
        after: *after,
    };
    let mut metrics = after.iter().map(metric).filter(|metric| metric.before != metric.after).collect::<Vec<_>>();
    metrics.sort_by(|one, other| one.name.cmp(&other.name));
    metrics.truncate(MAX_METRICS);
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_told_by_name_and_label() {
        let before = samples("# HELP a b\na 1\nb{x=\"1 2\"} 2.5\nsame 3\n");
        let after = samples("a 4\nb{x=\"1 2\"} 2.5\nnew 1e3\nh_bucket{le=\"1\"} 7\nsame 3\nbroken\n");
        let metric = |name: &str, before, after| Metric { name: name.to_owned(), before, after };
        assert_eq!(changed(&before, &after), [metric("a", 1.0, 4.0), metric("new", 0.0, 1_000.0)]);
    }
}
