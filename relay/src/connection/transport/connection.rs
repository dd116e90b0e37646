//! The state of one client that is being served. `reading` and `writing` are its two halves; `task` drives it.

use super::deadlines::Deadlines;
use super::socket::Socket;
use crate::connection::context::ListenerContext;
use crate::connection::session::{PendingStep, Session};
use crate::connection::settings::ConnectionSettings;
use crate::outbox::{Item, Outbox};
use std::sync::Arc;
use tokio_tungstenite::WebSocketStream;

/// One client that is being served.
pub(super) struct Connection<'a> {
    pub(super) context: &'a ListenerContext,
    /// The settings when the connection began: its deadlines do not change.
    pub(super) settings: Arc<ConnectionSettings>,
    pub(super) socket: WebSocketStream<Socket>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) session: Session,
    /// No message is read while it is there.
    pub(super) pending_step: Option<PendingStep>,
    pub(super) deadlines: Deadlines,
    /// The bytes received and sent that the metrics have counted.
    pub(super) counted: (u64, u64),
    /// Scratch space: what was taken from the outbox.
    pub(super) items: Vec<Item>,
    /// Scratch space: the text of one message to the client.
    pub(super) scratch: String,
    /// The last read has taken everything that had come.
    pub(super) is_drained: bool,
    /// The client has closed its sending side without a close frame, and may still read.
    pub(super) is_half_closed: bool,
    /// A large message has made tungstenite's buffer large.
    pub(super) has_large_buffer: bool,
}
