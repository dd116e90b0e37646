//! From the CPU workers to the writer in the order of arrival: a reorder buffer.
//!
//! Several workers check signatures, and a later chunk may be done before an earlier one. So each chunk has a place in
//! a second, bounded queue to the writer before any worker sees it; the writer takes the places in turn and waits for
//! the chunk that belongs there. A worker never waits: it leaves its chunk in its place and takes the next one. A place
//! whose worker panicked is passed over.

use super::{Admitted, Job, Submission};
use crate::types::Refusal;
use crate::types::safeguard::{Safeguard, ablated};
use futures_util::FutureExt;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use tokio::sync::{mpsc, oneshot};

/// The events of one chunk whose signatures hold, once a worker has checked them.
type Checked = oneshot::Receiver<Vec<Admitted>>;

/// The entrance: chunks go to the workers, their places to the writer.
pub(super) struct ChunkSender {
    workers: mpsc::Sender<Job>,
    places: mpsc::Sender<Checked>,
}

/// Where a worker leaves a chunk.
pub(super) enum ChunkPlace {
    /// In the turn in which it was sent.
    InTurn(oneshot::Sender<Vec<Admitted>>),
    /// In the order in which chunks are finished.
    WhenFinished(mpsc::Sender<Checked>),
}

/// The writer's end.
pub(super) struct ChunkReceiver {
    places: mpsc::Receiver<Checked>,
    next: Option<Checked>,
}

/// A sender of chunks to `workers` and the receiver of what they leave; at most `chunks` are between the two.
pub(super) fn in_order(workers: mpsc::Sender<Job>, chunks: usize) -> (ChunkSender, ChunkReceiver) {
    let (places, taken) = mpsc::channel(chunks.max(1));
    (ChunkSender { workers, places }, ChunkReceiver { places: taken, next: None })
}

impl ChunkSender {
    /// Hands a chunk over, and waits while the workers or the writer have no room. Without them each event is refused.
    pub(super) async fn send(&self, chunk: Vec<Submission>) {
        let refuse = |chunk: Vec<Submission>| chunk.into_iter().for_each(|event| event.refuse(Refusal::ShuttingDown));
        let place = if ablated(Safeguard::FrameOrder) {
            ChunkPlace::WhenFinished(self.places.clone())
        } else {
            let (place, checked) = oneshot::channel();
            if self.places.send(checked).await.is_err() {
                return refuse(chunk);
            }
            ChunkPlace::InTurn(place)
        };
        if let Err(mpsc::error::SendError(Job::Chunk(chunk, _))) = self.workers.send(Job::Chunk(chunk, place)).await {
            refuse(chunk);
        }
    }
}

impl ChunkPlace {
    /// Leaves a chunk for the writer. Without a writer each event is refused.
    pub(super) fn fill(self, chunk: Vec<Admitted>) {
        let unwanted = match self {
            Self::InTurn(place) => place.send(chunk).err(),
            Self::WhenFinished(places) => {
                let (place, checked) = oneshot::channel();
                let queued = places.blocking_send(checked).is_ok();
                if queued { place.send(chunk).err() } else { Some(chunk) }
            }
        };
        for admitted in unwanted.into_iter().flatten() {
            admitted.submission.refuse(Refusal::ShuttingDown);
        }
    }
}

impl ChunkReceiver {
    /// Appends what is ready to `backlog` until that has `max` events or a few more, and waits only while it has none.
    /// False: it has none, and none will come. Cancel safe.
    pub(super) async fn fill(&mut self, backlog: &mut VecDeque<Admitted>, max: usize) -> bool {
        poll_fn(|cx| {
            while backlog.len() < max {
                match self.poll_chunk(cx) {
                    Poll::Ready(Some(chunk)) => backlog.extend(chunk),
                    Poll::Ready(None) => return Poll::Ready(!backlog.is_empty()),
                    Poll::Pending if backlog.is_empty() => return Poll::Pending,
                    Poll::Pending => break,
                }
            }
            Poll::Ready(true)
        })
        .await
    }

    /// How many chunks have a place, checked or not.
    pub(super) fn waiting(&self) -> usize {
        self.places.len()
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Vec<Admitted>>> {
        loop {
            let next = match &mut self.next {
                Some(next) => next,
                None => match ready!(self.places.poll_recv(cx)) {
                    Some(next) => self.next.insert(next),
                    None => return Poll::Ready(None),
                },
            };
            let chunk = ready!(next.poll_unpin(cx));
            self.next = None;
            // An error means that its worker panicked or the workers have ended: then its events get no answer.
            if let Ok(chunk) = chunk {
                return Poll::Ready(Some(chunk));
            }
        }
    }
}
