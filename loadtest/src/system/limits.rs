//! Measures the best that the hardware allows: a relay's figure says little without it.

use super::thread_cpu;
use crate::stats::Spread;
use secp256k1::{Keypair, Secp256k1, SecretKey};
use serde::Serialize;
use std::io::{self, Read, Seek, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// About an event as the wire carries it.
pub(super) const MESSAGE_BYTES: usize = 700;

/// The costs that no relay on this machine can avoid.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Limits {
    /// CPU of one core to check one signature, in microseconds.
    pub verify_us: f64,
    /// Time to overwrite 4 KiB of a file and have it on disk (fdatasync) at best, in microseconds.
    pub fsync_us: f64,
    /// Time to send one message of 700 bytes over loopback to a socket of its own, in microseconds.
    pub send_us: f64,
    /// Time for 100 bytes over loopback and back between two threads, in microseconds.
    pub echo_us: f64,
}

impl Limits {
    /// Measures for about a second; writes and removes a small file in `directory`.
    ///
    /// # Errors
    /// The file's or a loopback socket's.
    pub fn measure(directory: &Path) -> io::Result<Self> {
        Ok(Self { verify_us: verify(), fsync_us: fsync(directory)?, send_us: send()?, echo_us: echo()? })
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn median(samples: Vec<f64>) -> f64 {
    Spread::of(samples).map_or(0.0, |spread| spread.median)
}

fn verify() -> f64 {
    const TIMES: u32 = 4_000;
    let secp = Secp256k1::new();
    let Ok(secret) = SecretKey::from_slice(&[7; 32]) else { return 0.0 };
    let pair = Keypair::from_secret_key(&secp, &secret);
    let message = [1; 32];
    let signature = secp.sign_schnorr_no_aux_rand(&message, &pair);
    let author = pair.x_only_public_key().0;
    let start = thread_cpu();
    let held = (0..TIMES).filter(|_| secp.verify_schnorr(&signature, &message, &author).is_ok()).count();
    debug_assert_eq!(held, TIMES as usize);
    micros(thread_cpu() - start) / f64::from(TIMES)
}

/// The least of 50, each over blocks that the file already has, as a write-ahead log overwrites its blocks.
fn fsync(directory: &Path) -> io::Result<f64> {
    const BLOCK: [u8; 4096] = [0; 4096];
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(&[0; 64 * BLOCK.len()])?;
    file.as_file().sync_all()?;
    file.rewind()?;
    let sample = |_| {
        let start = Instant::now();
        file.write_all(&BLOCK)?;
        file.as_file().sync_data()?;
        Ok(micros(start.elapsed()))
    };
    let samples = (0..50).map(sample).collect::<io::Result<Vec<_>>>()?;
    Ok(Spread::of(samples).map_or(0.0, |spread| spread.min))
}

/// A connected pair of loopback sockets without Nagle's delay.
pub(super) fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let far = listener.accept()?.0;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    Ok((near, far))
}

/// Sends each message to another socket, whose messages are read, as to another subscriber: on one busy socket the
/// kernel would take many messages at the cost of one.
fn send() -> io::Result<f64> {
    const SOCKETS: usize = 64;
    const TURNS: usize = 300;
    let pairs = (0..SOCKETS).map(|_| pair()).collect::<io::Result<Vec<_>>>()?;
    let (mut near, mut far): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let reader = thread::spawn(move || {
        let mut buffer = [0; MESSAGE_BYTES];
        // When all messages are read, one byte in return starts the next turn.
        while far.iter_mut().all(|far| far.read_exact(&mut buffer).is_ok()) && far[0].write_all(&[0]).is_ok() {}
    });

    // Measured by the clock: the kernel counts a thread's CPU time only in ticks.
    let mut samples = Vec::with_capacity(TURNS);
    for _ in 0..TURNS {
        let start = Instant::now();
        near.iter_mut().try_for_each(|near| near.write_all(&[0; MESSAGE_BYTES]))?;
        samples.push(micros(start.elapsed()) / SOCKETS as f64);
        near[0].read_exact(&mut [0])?;
    }

    drop(near);
    let _ = reader.join();
    Ok(median(samples))
}

fn echo() -> io::Result<f64> {
    let (mut near, mut far) = pair()?;
    let echoer = thread::spawn(move || {
        let mut buffer = [0; 100];
        while far.read_exact(&mut buffer).is_ok() && far.write_all(&buffer).is_ok() {}
    });
    let mut buffer = [0; 100];
    let sample = |_| {
        let start = Instant::now();
        near.write_all(&buffer)?;
        near.read_exact(&mut buffer)?;
        Ok(micros(start.elapsed()))
    };

    let samples = (0..5_000).map(sample).collect::<io::Result<Vec<_>>>()?;
    drop(near);
    let _ = echoer.join();
    Ok(median(samples))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_a_cost() {
        let Limits { verify_us, fsync_us, send_us, echo_us } = Limits::measure(&std::env::temp_dir()).unwrap();
        for cost in [verify_us, fsync_us, send_us, echo_us] {
            assert!(cost > 0.0 && cost < 1e6, "{cost}");
        }
    }
}
