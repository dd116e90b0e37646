//! Asks the admin listeners of the other instances for their state. So the dashboard needs no other service.

use futures_util::future::join_all;
use serde_json::{Value, json};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The longest that a peer may take to answer.
const PEER_TIMEOUT: Duration = Duration::from_millis(1_500);
/// The largest answer that is read.
const MAX_ANSWER_BYTES: u64 = 8 << 20;

/// The answer of each of `peers` (host and port) to a GET of `path`, or `{"peer", "error"}`. Asks all at the same time.
pub(super) async fn ask(peers: &[String], path: &str) -> Vec<Value> {
    join_all(peers.iter().map(async |peer| {
        let answer = tokio::time::timeout(PEER_TIMEOUT, get(peer, path)).await;
        let answer = answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        answer.unwrap_or_else(|error| json!({ "peer": peer, "error": error.to_string() }))
    }))
    .await
}

async fn get(peer: &str, path: &str) -> io::Result<Value> {
    let mut stream = TcpStream::connect(peer).await?;
    // A peer on a loopback address answers only to hosts that are addresses or `localhost`; its own address is one.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {peer}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;

    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await?;
    let text = String::from_utf8(answer).map_err(|_| io::Error::other("the answer is no text"))?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("no HTTP answer"))?;
    if head.split(' ').nth(1) != Some("200") {
        return Err(io::Error::other(head.lines().next().unwrap_or_default().to_owned()));
    }
    Ok(serde_json::from_str(body)?)
}
