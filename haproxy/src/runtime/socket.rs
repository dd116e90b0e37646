//! Sends one command over the Unix socket and reads its answer.

use super::RuntimeError;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// The most time for one command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of one answer: the statistics of 10,000 servers.
const LONGEST_ANSWER: u64 = 16 << 20;

/// Sends a command and returns the answer, after which HAProxy closes the connection.
pub(crate) async fn ask(socket: &Path, command: &str) -> Result<String, RuntimeError> {
    let talk = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(command.as_bytes()).await?;
        stream.write_all(b"\n").await?;
        // The end of the commands: the master, unlike a worker, waits for further ones.
        stream.shutdown().await?;
        let mut answer = String::new();
        stream.take(LONGEST_ANSWER).read_to_string(&mut answer).await?;
        Ok(answer)
    };
    let outcome = timeout(COMMAND_TIMEOUT, talk).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    outcome.map_err(|error| RuntimeError::Socket { socket: socket.to_owned(), error })
}
