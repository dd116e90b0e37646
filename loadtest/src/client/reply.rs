//! Reads a relay's messages (NIP-01, NIP-45) without parsing JSON: it looks only at the first elements of each.

use memchr::{memchr, memchr2, memmem};

/// One message of a relay, in place. Strings are still escaped as in the JSON.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// `EVENT`: a subscription's event.
    Event {
        /// The subscription.
        subscription: &'a [u8],
        /// The event's JSON, and the end of the message.
        event: &'a [u8],
    },
    /// `OK`: the answer to an event.
    Ok {
        /// The event's id in hex.
        id: &'a [u8],
        /// Its third element.
        accepted: bool,
        /// Its fourth element.
        words: &'a [u8],
    },
    /// `EOSE`: the end of a subscription's stored events.
    Eose(&'a [u8]),
    /// `COUNT`: the number asked for.
    Count {
        /// The subscription.
        subscription: &'a [u8],
        /// How many events match.
        count: u64,
    },
    /// `CLOSED`: the relay ended or refused a subscription.
    Closed {
        /// The subscription.
        subscription: &'a [u8],
        /// Why.
        words: &'a [u8],
    },
    /// `NOTICE`, with its words.
    Notice(&'a [u8]),
    /// Anything else, such as an `AUTH` challenge.
    Other,
}

impl<'a> Reply<'a> {
    /// Reads a message. One without the shape that its first element demands is [`Reply::Other`].
    pub fn parse(message: &'a [u8]) -> Self {
        read(message).unwrap_or(Reply::Other)
    }
}

/// The id of the event at the start of `json`, in hex. Where an event's content contains `"id":"`, JSON escapes the
/// quotes, so the first match is the field.
pub fn event_id(json: &[u8]) -> Option<&[u8]> {
    let at = memmem::find(json, b"\"id\"")?;
    string(json.get(at + 4..)?).map(|(id, _)| id).filter(|id| id.len() == 64)
}

/// The bytes of an id's 64 hex digits.
pub fn unhex(hex: &[u8]) -> Option<[u8; 32]> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut id = [0; 32];
    if hex.len() != 64 {
        return None;
    }
    for (byte, pair) in id.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Some(id)
}

fn read(message: &[u8]) -> Option<Reply<'_>> {
    let (word, rest) = string(message)?;
    let (first, rest) = string(rest)?;
    Some(match word {
        b"EVENT" => Reply::Event { subscription: first, event: rest },
        b"OK" => {
            let accepted = rest.get(memchr2(b't', b'f', rest)?)? == &b't';
            Reply::Ok { id: first, accepted, words: string(rest).map_or(&[], |(words, _)| words) }
        }
        b"EOSE" => Reply::Eose(first),
        b"COUNT" => Reply::Count { subscription: first, count: count(rest)? },
        b"CLOSED" => Reply::Closed { subscription: first, words: string(rest).map_or(&[], |(words, _)| words) },
        b"NOTICE" => Reply::Notice(first),
        _ => return None,
    })
}

/// The next JSON string of `bytes`, still escaped, and what follows it.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = memchr(b'"', bytes)? + 1;
    let mut end = start;
    loop {
        end += memchr2(b'"', b'\\', bytes.get(end..)?)?;
        if bytes.get(end) == Some(&b'"') {
            return Some((bytes.get(start..end)?, bytes.get(end + 1..)?));
        }
        end += 2;
    }
}

fn count(rest: &[u8]) -> Option<u64> {
    let after = rest.get(memmem::find(rest, b"\"count\"")? + 7..)?;
    let digits = after.iter().skip_while(|byte| !byte.is_ascii_digit()).take_while(|byte| byte.is_ascii_digit());
    digits.map(|digit| u64::from(digit - b'0')).reduce(|number, digit| number.saturating_mul(10).saturating_add(digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart() {
        let id = "ab".repeat(32);
        let ok = format!(r#"["OK","{id}",true,""]"#);
        assert_eq!(Reply::parse(ok.as_bytes()), Reply::Ok { id: id.as_bytes(), accepted: true, words: b"" });
        let ok = format!(r#"["OK", "{id}", false, "invalid: a \"true\" one"]"#);
        let words = br#"invalid: a \"true\" one"#;
        assert_eq!(Reply::parse(ok.as_bytes()), Reply::Ok { id: id.as_bytes(), accepted: false, words });
        assert_eq!(Reply::parse(br#"["EOSE","s",["more"]]"#), Reply::Eose(b"s"));
        assert_eq!(Reply::parse(br#"["COUNT","s",{"count": 1203}]"#), Reply::Count { subscription: b"s", count: 1203 });
        let closed = Reply::Closed { subscription: b"s", words: b"error: too slow" };
        assert_eq!(Reply::parse(br#"["CLOSED","s","error: too slow"]"#), closed);
        assert_eq!(Reply::parse(br#"["NOTICE","hm"]"#), Reply::Notice(b"hm"));
    }

    #[test]
    fn an_event_s_id_is_found_behind_content_that_speaks_of_ids() {
        let id = "0f".repeat(32);
        let text = format!(r#"["EVENT","s",{{"content":"\"id\":\"{}\"","id":"{id}"}}]"#, "1".repeat(64));
        let Reply::Event { subscription, event } = Reply::parse(text.as_bytes()) else { panic!("not an event") };
        assert_eq!((subscription, event_id(event)), (b"s".as_slice(), Some(id.as_bytes())));
    }

    #[test]
    fn damaged_messages_are_other() {
        for text in [
            "",
            "[",
            "[\"OK\"]",
            "[\"OK\",\"a\"]",
            "[\"COUNT\",\"s\",{}]",
            "[\"EVENT\",\"s",
            "[\"AUTH\",\"x\"]",
            "[\"OK\",\"\\",
        ] {
            assert_eq!(Reply::parse(text.as_bytes()), Reply::Other, "{text}");
        }
    }
}
