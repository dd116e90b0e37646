//! The encoding of messages between instances: a version, the sender, then events in packed form.

use super::Message;
use crate::types::bytes::{Damaged, Reader, push_bytes, push_number};
use crate::types::{
    Change, EphemeralEvent, Epoch, Event, Insertion, LEAST_PACKED_BYTES, LogEntry, Position, Removal, RemovalCause,
};
use std::sync::Arc;

/// A message begins with these bytes: the format and its version. A message of another version counts as damaged, and
/// the follower reads its entries from the shared log: so instances of two versions run side by side.
const MAGIC: [u8; 2] = [b'S', 1];

const ENTRIES: u8 = 1;
const EPHEMERAL: u8 = 2;
const HEARTBEAT: u8 = 3;

/// Among the operations of an entry: no change, but an ephemeral event that rides along.
const ATTACHED: u8 = 5;

/// The process that sent a message: a random number by which a process knows its own messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender(pub u64);

/// Encodes a message.
pub fn encode(sender: Sender, message: &Message) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&sender.0.to_le_bytes());
    let mut packed = Vec::new();
    match message {
        Message::Entries(epoch, entries) => {
            out.push(ENTRIES);
            out.extend_from_slice(&epoch.0.to_le_bytes());
            push_number(entries.len() as u64, &mut out);
            for entry in entries {
                push_number(entry.position.0, &mut out);
                push_number((entry.changes.len() + entry.ephemeral.len()) as u64, &mut out);
                let mut ephemeral = entry.ephemeral.iter().peekable();
                for (change, index) in entry.changes.iter().zip(0..) {
                    while let Some(earlier) = ephemeral.next_if(|earlier| earlier.before <= index) {
                        out.push(ATTACHED);
                        push_event(&earlier.event, &mut packed, &mut out);
                    }
                    let (operation, event) = match change {
                        Change::Inserted(insertion) => (0, &insertion.event),
                        Change::Removed(removal) => (operation(removal.cause), &removal.event),
                    };
                    out.push(operation);
                    push_event(event, &mut packed, &mut out);
                }
                for later in ephemeral {
                    out.push(ATTACHED);
                    push_event(&later.event, &mut packed, &mut out);
                }
            }
        }
        Message::Ephemeral(events) => {
            out.push(EPHEMERAL);
            push_number(events.len() as u64, &mut out);
            for event in events {
                push_event(event, &mut packed, &mut out);
            }
        }
        Message::Heartbeat => out.push(HEARTBEAT),
    }
    out
}

/// The sender of a message, without decoding the rest.
pub fn sender(bytes: &[u8]) -> Result<Sender, Damaged> {
    header(bytes).map(|(sender, _)| sender)
}

/// Decodes what [`encode`] wrote. Whatever the bytes are, it allocates at most a small multiple of their number.
pub fn decode(bytes: &[u8]) -> Result<Message, Damaged> {
    let (_, mut from) = header(bytes)?;
    let message = match from.byte()? {
        ENTRIES => {
            let epoch = Epoch(u64::from_le_bytes(from.array()?));
            let count = from.count(2)?;
            let mut entries = Vec::with_capacity(count);
            for _ in 0..count {
                entries.push(read_entry(&mut from)?);
            }
            Message::Entries(epoch, entries)
        }
        EPHEMERAL => {
            let count = from.count(LEAST_PACKED_BYTES)?;
            let mut events = Vec::with_capacity(count);
            for _ in 0..count {
                events.push(Arc::new(Event::unpack(from.bytes()?)?));
            }
            Message::Ephemeral(events)
        }
        HEARTBEAT => Message::Heartbeat,
        _ => return Err(Damaged),
    };
    if from.is_empty() { Ok(message) } else { Err(Damaged) }
}

fn header(bytes: &[u8]) -> Result<(Sender, Reader<'_>), Damaged> {
    let mut from = Reader::new(bytes);
    if from.array::<2>()? != MAGIC {
        return Err(Damaged);
    }
    Ok((Sender(u64::from_le_bytes(from.array()?)), from))
}

fn push_event(event: &Event, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
    scratch.clear();
    event.pack(scratch);
    push_bytes(scratch, out);
}

fn read_entry(from: &mut Reader<'_>) -> Result<LogEntry, Damaged> {
    let position = Position(from.number()?);
    let count = from.count(LEAST_PACKED_BYTES)?;
    let mut changes = Vec::with_capacity(count);
    let mut ephemeral = Vec::new();
    for _ in 0..count {
        let operation = from.byte()?;
        let event = Arc::new(Event::unpack(from.bytes()?)?);
        if operation == ATTACHED {
            ephemeral.push(EphemeralEvent { before: changes.len(), event });
            continue;
        }
        changes.push(match operation {
            0 => Change::Inserted(Insertion::new(event)),
            _ => Change::Removed(Removal { event, cause: cause(operation).ok_or(Damaged)? }),
        });
    }
    Ok(LogEntry { ephemeral, ..LogEntry::new(position, changes) })
}

const fn operation(cause: RemovalCause) -> u8 {
    match cause {
        RemovalCause::Replaced => 1,
        RemovalCause::Deleted => 2,
        RemovalCause::Expired => 3,
        RemovalCause::Administered => 4,
        RemovalCause::Vanished => 5,
    }
}

const fn cause(operation: u8) -> Option<RemovalCause> {
    match operation {
        1 => Some(RemovalCause::Replaced),
        2 => Some(RemovalCause::Deleted),
        3 => Some(RemovalCause::Expired),
        4 => Some(RemovalCause::Administered),
        5 => Some(RemovalCause::Vanished),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Kind, PublicKey};
    use proptest::prelude::*;

    fn event(salt: u64, kind: u16) -> Arc<Event> {
        let tags = [vec!["e".to_owned(), format!("{salt:064x}")], vec!["t".to_owned(), "a \"quoted\" word".to_owned()]];
        Arc::new(Event::build(PublicKey::from_bytes([3; 32]), 1_700_000_000, Kind(kind), &tags, "Grüße", |_| [9; 64]))
    }

    fn changes() -> impl Strategy<Value = Vec<Change>> {
        let change = (any::<u64>(), 0..5_u8).prop_map(|(salt, operation)| match cause(operation) {
            None => Change::Inserted(Insertion::new(event(salt, 1))),
            Some(cause) => Change::Removed(Removal { event: event(salt, 1), cause }),
        });
        prop::collection::vec(change, 0..4)
    }

    fn messages() -> impl Strategy<Value = Message> {
        let entry = (any::<u64>(), changes(), prop::collection::vec((0..5_usize, any::<u64>()), 0..3)).prop_map(
            |(position, changes, mut places)| {
                places.sort_unstable();
                let place = |(before, salt): (usize, u64)| EphemeralEvent {
                    before: before.min(changes.len()),
                    event: event(salt, 20_001),
                };
                let ephemeral = places.into_iter().map(place).collect();
                LogEntry { ephemeral, ..LogEntry::new(Position(position), changes) }
            },
        );
        let entries = (any::<u64>(), prop::collection::vec(entry, 0..4))
            .prop_map(|(epoch, entries)| Message::Entries(Epoch(epoch), entries));
        let ephemeral = prop::collection::vec(any::<u64>(), 0..4)
            .prop_map(|salts| Message::Ephemeral(salts.into_iter().map(|salt| event(salt, 20_001)).collect()));
        prop_oneof![entries, ephemeral, Just(Message::Heartbeat)]
    }

    /// The content of a message, without the time at which this process got it.
    fn said(message: &Message) -> String {
        let Message::Entries(epoch, entries) = message else { return format!("{message:?}") };
        let change = |change: &Change| match change {
            Change::Inserted(insertion) => format!("{:?}", insertion.event),
            Change::Removed(removal) => format!("{removal:?}"),
        };
        let entry = |entry: &LogEntry| {
            (entry.position, entry.changes.iter().map(change).collect::<Vec<_>>(), format!("{:?}", entry.ephemeral))
        };
        format!("{epoch:?} {:?}", entries.iter().map(entry).collect::<Vec<_>>())
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(me: u64, message in messages()) {
            let bytes = encode(Sender(me), &message);
            prop_assert_eq!(sender(&bytes), Ok(Sender(me)));
            prop_assert_eq!(said(&decode(&bytes).unwrap()), said(&message));
            for end in 0..bytes.len() {
                prop_assert!(decode(&bytes[..end]).is_err());
            }
        }

        #[test]
        fn garbage_is_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            // A random beginning is almost never the format's, so half of the time the test puts that first.
            let mut ours = encode(Sender(1), &Message::Heartbeat);
            ours.pop();
            ours.extend_from_slice(&bytes);
            let _ = decode(&bytes);
            let _ = decode(&ours);
        }
    }

    #[test]
    fn a_count_that_cannot_be_allocates_nothing() {
        let mut bytes = encode(Sender(1), &Message::Heartbeat);
        bytes.pop();
        bytes.push(EPHEMERAL);
        push_number(u64::MAX, &mut bytes);
        assert!(matches!(decode(&bytes), Err(Damaged)));
    }

    #[test]
    fn another_version_is_not_understood() {
        let mut bytes = encode(Sender(1), &Message::Heartbeat);
        bytes[1] += 1;
        assert!(matches!(decode(&bytes), Err(Damaged)));
    }

    #[test]
    fn an_event_takes_less_than_its_json() {
        let event = event(1, 1);
        let mut packed = Vec::new();
        event.pack(&mut packed);
        println!("{} bytes of JSON, {} packed", event.text().len(), packed.len());
        assert!(packed.len() * 3 < event.text().len() * 2);
    }
}
