//! Measures how soon this machine gets one message to many sockets: a bound for every server.

use super::limits::{MESSAGE_BYTES, pair};
use crate::stats::Latency;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::net::{RecvFlags, recv};
use std::io::{self, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

/// How often each socket gets the message.
const ROUNDS: usize = 12;

/// The pause before each message: as between two events at ten a second.
const PAUSE: Duration = Duration::from_millis(100);

/// How long the last one may take to arrive.
const SILENCE: Duration = Duration::from_secs(5);

/// Latencies of a message to each of `sockets` loopback sockets, from the first send to the reading at each. One thread
/// only sends, to one socket after the other; another one only waits and reads. Takes a second, and two descriptors a
/// socket.
///
/// # Errors
/// A socket's.
#[expect(clippy::disallowed_methods, reason = "the pause is part of what is measured: caches and cores go cold")]
pub fn fan_out(sockets: usize) -> io::Result<Latency> {
    let pairs = (0..sockets).map(|_| pair()).collect::<io::Result<Vec<_>>>()?;
    let (mut near, far): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    for (index, socket) in far.iter().enumerate() {
        epoll::add(&poll, socket, EventData::new_u64(index as u64), EventFlags::IN | EventFlags::ET)?;
    }
    let mut latency = Latency::new();
    for _ in 0..ROUNDS {
        thread::sleep(PAUSE);
        let begun = Instant::now();
        thread::scope(|scope| {
            let reader = scope.spawn(|| read(&poll, &far, begun, &mut latency));
            near.iter_mut().try_for_each(|near| near.write_all(&[0; MESSAGE_BYTES]))?;
            reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
    }
    Ok(latency)
}

/// Reads one message from each socket.
fn read(poll: &OwnedFd, far: &[TcpStream], begun: Instant, latency: &mut Latency) -> io::Result<()> {
    let mut missing = far.len();
    let mut events = Vec::with_capacity(1_024);
    let mut buffer = [0; MESSAGE_BYTES];
    let patience = SILENCE.try_into().map_err(io::Error::other)?;
    while missing > 0 {
        epoll::wait(poll, rustix::buffer::spare_capacity(&mut events), Some(&patience))?;
        if events.is_empty() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "loopback has lost a message"));
        }
        for event in events.drain(..) {
            let Some(socket) = far.get(event.data.u64() as usize) else { continue };
            // A message this small arrives in one piece.
            if recv(socket, &mut buffer, RecvFlags::DONTWAIT).is_ok() {
                latency.record(begun.elapsed());
                missing -= 1;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_socket_is_timed_in_each_round() {
        let latency = fan_out(16).unwrap().summary().unwrap();
        assert_eq!(latency.count, 16 * ROUNDS as u64);
        assert!(latency.max < 5_000.0, "{latency:?}");
    }
}
