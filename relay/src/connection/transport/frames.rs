//! RFC 6455 frames, as far as tungstenite leaves them to us: writing a server's frames without a copy, and knowing
//! whether a client is in the middle of a message.

const FINAL_TEXT: u8 = 0x81;
const FINAL_PING: u8 = 0x89;
const FINAL: u8 = 0x80;
const CONTROL: u8 = 0x08;

/// Appends `text` as one text frame.
pub(super) fn push_text(text: &str, out: &mut Vec<u8>) {
    out.reserve(text.len() + 10);
    out.push(FINAL_TEXT);
    match text.len() {
        // A server's frames are not masked, so the second byte is the length alone.
        short @ 0..=125 => out.push(short as u8),
        medium @ 126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            out.push(127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(text.as_bytes());
}

/// Appends an empty ping.
pub(super) fn push_ping(out: &mut Vec<u8>) {
    out.extend_from_slice(&[FINAL_PING, 0]);
}

/// Follows where frames begin and end in what a client sends. It checks nothing: tungstenite does.
#[derive(Debug, Default)]
pub(super) struct FrameTracker {
    first: u8,
    second: u8,
    header_bytes: u8,
    length: u64,
    payload_left: u64,
    /// Payload of the finished fragments of the message that is arriving.
    assembled: u64,
    inside_message: bool,
    finished: u64,
}

impl FrameTracker {
    /// Advances over the next bytes.
    pub(super) fn advance(&mut self, mut bytes: &[u8]) {
        while let Some((byte, rest)) = bytes.split_first() {
            if self.payload_left > 0 {
                let skipped = usize::try_from(self.payload_left).unwrap_or(usize::MAX).min(bytes.len());
                bytes = bytes.get(skipped..).unwrap_or_default();
                self.payload_left -= skipped as u64;
                if self.payload_left == 0 {
                    self.finish_frame();
                }
                continue;
            }
            bytes = rest;
            self.header(*byte);
        }
    }

    /// True between the first byte of a message, or of any frame, and its last.
    pub(super) fn is_inside(&self) -> bool {
        self.header_bytes > 0 || self.inside_message
    }

    /// How many bytes the message that is arriving has so far, those of the frame included whose header has arrived:
    /// what tungstenite is about to hold.
    pub(super) fn announced_bytes(&self) -> u64 {
        let frame = if self.payload_left > 0 { self.length } else { 0 };
        self.assembled.saturating_add(frame)
    }

    /// How many messages, and control frames between messages, have ended.
    pub(super) fn finished(&self) -> u64 {
        self.finished
    }

    fn header(&mut self, byte: u8) {
        match self.header_bytes {
            0 => self.first = byte,
            1 => {
                self.second = byte;
                let short = u64::from(byte & 127);
                self.length = if short < 126 { short } else { 0 };
            }
            at if at < 2 + self.length_bytes() => self.length = self.length << 8 | u64::from(byte),
            _mask => {}
        }
        self.header_bytes += 1;
        let mask_bytes = if self.second & 128 != 0 { 4 } else { 0 };
        if self.header_bytes >= 2 && self.header_bytes == 2 + self.length_bytes() + mask_bytes {
            self.payload_left = self.length;
            if self.payload_left == 0 {
                self.finish_frame();
            }
        }
    }

    fn length_bytes(&self) -> u8 {
        match self.second & 127 {
            126 => 2,
            127 => 8,
            _ => 0,
        }
    }

    fn finish_frame(&mut self) {
        self.header_bytes = 0;
        if self.first & CONTROL == 0 {
            self.inside_message = self.first & FINAL == 0;
            self.assembled = if self.inside_message { self.assembled.saturating_add(self.length) } else { 0 };
        }
        self.finished += u64::from(!self.inside_message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{self, Read, Write};
    use tokio_tungstenite::tungstenite::protocol::frame::Frame;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
    use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocket};

    /// What a client was sent; its own pongs go nowhere.
    struct Received<'a>(&'a [u8]);

    impl Read for Received<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Write for Received<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn written_frames_are_read_back() {
        let mut bytes = Vec::new();
        let lengths = [0, 1, 125, 126, 127, 65_535, 65_536, 200_000];
        for length in lengths {
            push_text(&"x".repeat(length), &mut bytes);
            push_ping(&mut bytes);
        }
        let mut client = WebSocket::from_raw_socket(Received(&bytes), Role::Client, None);
        for length in lengths {
            assert_eq!(client.read().unwrap(), Message::text("x".repeat(length)));
            assert_eq!(client.read().unwrap(), Message::Ping(Default::default()));
        }
    }

    fn frame(opcode: OpCode, last: bool, length: usize) -> Vec<u8> {
        let mut frame = Frame::message(vec![b'x'; length], opcode, last);
        frame.header_mut().mask = Some([1, 2, 3, 4]);
        let mut bytes = Vec::new();
        frame.format(&mut bytes).unwrap();
        bytes
    }

    proptest! {
        /// Whatever the frames and however they are cut: inside up to the last byte, outside after it.
        #[test]
        fn the_end_of_each_message_is_known(
            lengths in proptest::collection::vec(prop_oneof![0_usize..200, 65_530_usize..65_540], 1..4),
            cut in 1_usize..70_000,
        ) {
            let mut tracker = FrameTracker::default();
            let (last, mut arrived) = (lengths.len() - 1, 0);
            for (at, length) in lengths.into_iter().enumerate() {
                let opcode = OpCode::Data(if at == 0 { Data::Text } else { Data::Continue });
                let bytes = frame(opcode, at == last, length);
                for part in bytes[..bytes.len() - 1].chunks(cut) {
                    tracker.advance(part);
                    prop_assert!(tracker.is_inside());
                }
                prop_assert!(tracker.announced_bytes() >= length as u64);
                tracker.advance(&bytes[bytes.len() - 1..]);
                prop_assert_eq!(tracker.is_inside(), at < last);
                // A ping between fragments ends nothing.
                tracker.advance(&[0x89, 0x80, 0, 0, 0, 0]);
                prop_assert_eq!(tracker.is_inside(), at < last);
                arrived += length as u64;
                prop_assert_eq!(tracker.announced_bytes(), if at < last { arrived } else { 0 });
            }
            prop_assert_eq!(tracker.finished(), 2, "the message, and the ping after it");
        }
    }
}
