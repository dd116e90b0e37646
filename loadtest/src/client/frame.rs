//! WebSocket frames: encodes those of a client and decodes those of a server.

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// The longest message from a server; a longer one says that framing is broken.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// A frame that this client refuses to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A message in several frames.
    #[error("the server sent a fragmented message, which this client does not support")]
    Fragmented,
    /// A binary or unknown frame; carries its opcode.
    #[error("the server sent a frame with opcode {0}, where only text belongs")]
    Opcode(u8),
    /// A reserved bit is set, though no extension was agreed on.
    #[error("the server set a reserved bit without an extension")]
    Reserved,
    /// A masked frame: only clients mask.
    #[error("the server masked a frame")]
    Masked,
    /// Longer than any message of the protocol; carries the length in bytes.
    #[error("the server announced a message of {0} bytes")]
    TooLong(u64),
    /// Bytes that are not UTF-8 where a Close frame's reason belongs.
    #[error("the server's close reason is not UTF-8")]
    Reason,
}

/// A frame from a server, in place.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A whole text message. Its UTF-8 is not checked.
    Text(&'a [u8]),
    /// A ping, to be answered with the same payload.
    Ping(&'a [u8]),
    /// A pong, which answers no ping: this client sends none.
    Pong,
    /// The end of the connection.
    Close {
        /// RFC 6455's status code, 1005 where there was none.
        code: u16,
        /// The server's words.
        reason: &'a str,
    },
}

/// Reads the first frame of `bytes`; `None` while it is incomplete. Also returns how many bytes it took.
///
/// # Errors
/// See [`FrameError`]; after one the stream cannot be read any further.
pub fn decode(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(FrameError::Reserved);
    }
    if second & MASKED != 0 {
        return Err(FrameError::Masked);
    }

    let opcode = first & 0x0f;
    if first & FIN == 0 || opcode == 0 {
        return Err(FrameError::Fragmented);
    }
    let (length, extra) = match second {
        126 => match rest.first_chunk::<2>() {
            Some(bytes) => (u64::from(u16::from_be_bytes(*bytes)), 2),
            None => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(bytes) => (u64::from_be_bytes(*bytes), 8),
            None => return Ok(None),
        },
        short => (u64::from(short), 0),
    };

    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= MAX_MESSAGE_BYTES)
        .ok_or(FrameError::TooLong(length))?;
    let Some(payload) = rest.get(extra..extra + length) else { return Ok(None) };

    let frame = match opcode {
        TEXT => Frame::Text(payload),
        PING => Frame::Ping(payload),
        PONG => Frame::Pong,
        CLOSE => close(payload)?,
        other => return Err(FrameError::Opcode(other)),
    };
    Ok(Some((frame, 2 + extra + length)))
}

fn close(payload: &[u8]) -> Result<Frame<'_>, FrameError> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return Ok(Frame::Close { code: 1005, reason: "" });
    };
    let reason = std::str::from_utf8(reason).map_err(|_| FrameError::Reason)?;
    Ok(Frame::Close { code: u16::from_be_bytes(*code), reason })
}

/// Appends a masked text frame whose payload is `parts` in a row.
///
/// The mask key is zero: masking protects proxies from scripts that choose their bytes, and with a zero key it costs
/// the client nothing. To the server it is a key like any other.
pub fn encode_text(parts: &[&[u8]], out: &mut Vec<u8>) {
    encode(TEXT, parts, out);
}

/// Appends the answer to a ping.
pub(super) fn encode_pong(payload: &[u8], out: &mut Vec<u8>) {
    encode(PONG, &[payload], out);
}

fn encode(opcode: u8, parts: &[&[u8]], out: &mut Vec<u8>) {
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    out.reserve(length + 14);
    out.push(FIN | opcode);
    match length {
        0..=125 => out.push(MASKED | length as u8),
        126..=65_535 => {
            out.push(MASKED | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(MASKED | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }

    out.extend_from_slice(&[0; 4]);
    for part in parts {
        out.extend_from_slice(part);
    }
}
