//! The Close frame for each reason for which a connection ends.

use crate::telemetry::{CloseReason, Label};
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// The code and the words of the Close frame (RFC 6455, 7.4.1). `None` where the client has gone, or has sent a Close
/// frame, which tungstenite answers.
pub(super) const fn close_frame_for(reason: CloseReason) -> Option<(CloseCode, &'static str)> {
    match reason {
        CloseReason::Client | CloseReason::Lost | CloseReason::PongTimeout | CloseReason::WriteStall => None,
        CloseReason::Protocol => Some((CloseCode::Protocol, "WebSocket protocol error")),
        CloseReason::InvalidUtf8 => Some((CloseCode::Invalid, "text must be UTF-8")),
        CloseReason::TooLarge => Some((CloseCode::Size, "message too large")),
        CloseReason::MessageTimeout => Some((CloseCode::Policy, "a message took too long to arrive")),
        CloseReason::Shutdown => Some((CloseCode::Restart, "the relay is shutting down")),
    }
}

/// The reason for the end that an error of tungstenite's is.
pub(super) fn reason_of(error: &Error) -> CloseReason {
    match error {
        Error::ConnectionClosed => CloseReason::Client,
        Error::Capacity(_) => CloseReason::TooLarge,
        Error::Utf8(_) => CloseReason::InvalidUtf8,
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => CloseReason::Lost,
        Error::Protocol(_) => CloseReason::Protocol,
        _ => CloseReason::Lost,
    }
}

/// True when the client has closed its sending side, without a close frame.
pub(super) const fn is_end_of_stream(error: &Error) -> bool {
    matches!(error, Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))
}

/// A short name for the log, the same as in the metrics.
pub(super) fn label(reason: CloseReason) -> &'static str {
    CloseReason::VALUES.get(reason.index()).copied().unwrap_or_default()
}
