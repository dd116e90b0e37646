//! What a client says: one text message, read strictly and in one pass.

use crate::types::json::{self, Expected, FieldName, Strict, Text, explain};
use crate::types::{
    Event, EventError, EventId, EventSeed, Filter, FilterSeed, Refusal, Reply, ReplyId, SubscriptionId, Verdict,
};
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess};
use std::borrow::Cow;

/// A message that a client may send (NIP-01, NIP-42, NIP-45).
#[derive(Debug, Clone)]
pub enum ClientMessage {
    /// An event to publish; its id is right, its signature unchecked.
    Event(Event),
    /// A subscription to open or to replace. Filters that no event can match are left out: there may be none.
    Req(SubscriptionId, Vec<Filter>),
    /// A question for a number, its filters likewise.
    Count(SubscriptionId, Vec<Filter>),
    /// A subscription to end.
    Close(SubscriptionId),
    /// The answer to a challenge; its id is right, its signature unchecked.
    Auth(Event),
}

/// How much one message may ask for. The frame's size is the connection's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseLimits {
    /// The most filters of one REQ or COUNT.
    pub max_filters: usize,
    /// The most values that one list of a filter may hold.
    pub max_filter_values: usize,
    /// A filter may have `&x` conditions (NIP-91).
    pub and_tags: bool,
    /// The most that the filters of one REQ or COUNT may cost together: see [`Filter::cost_bytes`].
    pub max_req_bytes: usize,
    /// The most Unicode characters of a subscription id; NIP-01 says 64.
    pub max_subscription_id_chars: usize,
}

/// Longer ones are not echoed in a CLOSED.
const MAX_ECHOED_ID_CHARS: usize = 256;

impl ClientMessage {
    /// Reads one text message. A message that cannot be taken comes back as the one reply that it gets:
    ///
    /// - EVENT and AUTH always an `OK` false; with the id if there is a readable one, even where the rest is broken.
    /// - REQ and COUNT a `CLOSED`, even where the subscription id is the fault (empty, or up to 256 characters long):
    ///   the client knows the id that it sent. Where the id is no string at all, or longer, there is nothing sensible
    ///   to name, and it is a `NOTICE`.
    /// - Everything else a `NOTICE`: CLOSE, unknown verbs, what is not an array, what is not JSON.
    ///
    /// Never panics, and takes no more memory than a small multiple of the message, whatever it says.
    pub fn parse(text: &str, limits: &ParseLimits) -> Result<Self, Reply> {
        let mut progress = Progress::default();
        let mut deserializer = serde_json::Deserializer::from_str(text);
        Strict(MessageSeed { limits, progress: &mut progress })
            .deserialize(&mut deserializer)
            .and_then(|message| deserializer.end().map(|()| message))
            .map_err(|error| progress.into_reply(text, &error))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Event,
    Req,
    Count,
    Close,
    Auth,
}

impl Verb {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "EVENT" => Self::Event,
            "REQ" => Self::Req,
            "COUNT" => Self::Count,
            "CLOSE" => Self::Close,
            "AUTH" => Self::Auth,
            _ => return None,
        })
    }
}

const VERB: Text = Text("a message must begin with a verb, such as \"REQ\"");

/// The most characters of an unknown verb that are repeated to the client.
const MAX_VERB_CHARS: usize = 32;

fn unknown_verb(name: &str) -> String {
    let shown: String = name.chars().take(MAX_VERB_CHARS).collect();
    // Clients of NIP-77 look for the word "negentropy" in the NOTICE; without it they wait for their timeout.
    let why = if name.starts_with("NEG-") { ": there is no negentropy here" } else { "" };
    format!("unknown message `{shown}`{why}")
}

/// How far the reading came: what a refusal needs to know.
#[derive(Default)]
struct Progress {
    verb: Option<Verb>,
    subscription: Option<SubscriptionId>,
    /// The reason, where it is more than "not the JSON that was expected".
    refusal: Option<Refusal>,
}

impl Progress {
    /// Keeps the reason for a refusal and gives the error that ends the reading.
    fn refuse<E: Error>(&mut self, refusal: Refusal) -> E {
        self.refusal = Some(refusal);
        E::custom("refused")
    }

    fn invalid<E: Error>(&mut self, words: impl Into<String>) -> E {
        self.refuse(Refusal::Invalid(words.into()))
    }

    fn into_reply(self, text: &str, error: &serde_json::Error) -> Reply {
        let refusal = self.refusal.unwrap_or_else(|| Refusal::Invalid(explain(error)));
        match (self.verb, self.subscription) {
            (Some(Verb::Event | Verb::Auth), _) => {
                Reply::Ok { id: claimed_id(text), verdict: Verdict::Refused(refusal) }
            }
            (Some(Verb::Req | Verb::Count), Some(id)) => Reply::Closed(id, refusal),
            _ => Reply::Notice(refusal),
        }
    }
}

struct MessageSeed<'a> {
    limits: &'a ParseLimits,
    progress: &'a mut Progress,
}

impl<'de> Expected<'de> for MessageSeed<'_> {
    type Value = ClientMessage;

    fn wrong(&self) -> Cow<'static, str> {
        "a message must be an array that begins with a verb, such as \"REQ\"".into()
    }

    fn array<A: SeqAccess<'de>>(self, mut seq: A) -> Result<ClientMessage, A::Error> {
        let Self { limits, progress } = self;
        let Some(name) = seq.next_element_seed(Strict(VERB))? else {
            return Err(progress.invalid(VERB.0));
        };
        let Some(verb) = Verb::of(&name) else {
            return Err(progress.refuse(Refusal::Unsupported(unknown_verb(&name))));
        };
        progress.verb = Some(verb);
        let message = match verb {
            Verb::Event => ClientMessage::Event(event(&mut seq, progress)?),
            Verb::Auth => ClientMessage::Auth(event(&mut seq, progress)?),
            Verb::Close => ClientMessage::Close(subscription_id(&mut seq, limits, progress)?),
            Verb::Req => {
                let id = subscription_id(&mut seq, limits, progress)?;
                return Ok(ClientMessage::Req(id, filters(&mut seq, limits, progress)?));
            }
            Verb::Count => {
                let id = subscription_id(&mut seq, limits, progress)?;
                return Ok(ClientMessage::Count(id, filters(&mut seq, limits, progress)?));
            }
        };
        match seq.next_element::<IgnoredAny>()? {
            None => Ok(message),
            Some(_) => Err(progress.invalid(format!("{name} has two elements, and no more"))),
        }
    }
}

fn event<'de, A: SeqAccess<'de>>(seq: &mut A, progress: &mut Progress) -> Result<Event, A::Error> {
    let Some(parsed) = seq.next_element_seed(Strict(EventSeed))? else {
        return Err(progress.invalid("there is no event in the message"));
    };
    parsed.check().map_err(|error| {
        progress.refuse(match error {
            EventError::Invalid(words) => Refusal::Invalid(words),
            EventError::WrongId(_) => Refusal::WrongId,
        })
    })
}

fn subscription_id<'de, A: SeqAccess<'de>>(
    seq: &mut A,
    limits: &ParseLimits,
    progress: &mut Progress,
) -> Result<SubscriptionId, A::Error> {
    let Some(text) = seq.next_element_seed(Strict(Text("a subscription id must be a string")))? else {
        return Err(progress.invalid("there is no subscription id in the message"));
    };
    // No more characters are counted than matter.
    let chars = text.chars().take(limits.max_subscription_id_chars.max(MAX_ECHOED_ID_CHARS) + 1).count();
    let id = SubscriptionId(text.into());
    if chars <= MAX_ECHOED_ID_CHARS {
        progress.subscription = Some(id.clone());
    }
    if chars == 0 || chars > limits.max_subscription_id_chars {
        let max = limits.max_subscription_id_chars;
        return Err(progress.invalid(format!("a subscription id has 1 to {max} characters")));
    }
    Ok(id)
}

fn filters<'de, A: SeqAccess<'de>>(
    seq: &mut A,
    limits: &ParseLimits,
    progress: &mut Progress,
) -> Result<Vec<Filter>, A::Error> {
    let (mut filters, mut given, mut cost_bytes) = (Vec::new(), 0, 0_usize);
    loop {
        let mut unsupported = None;
        let (max_values, and_tags) = (limits.max_filter_values, limits.and_tags);
        let seed = FilterSeed { max_values, and_tags, unsupported: &mut unsupported };
        match seq.next_element_seed(Strict(seed)) {
            Ok(Some(_)) if given == limits.max_filters => {
                return Err(progress.invalid(format!("more than {} filters", limits.max_filters)));
            }
            Ok(Some(filter)) => {
                given += 1;
                // An impossible filter adds nothing to what the other filters match, stored or live.
                if filter.is_impossible() {
                    continue;
                }
                cost_bytes = cost_bytes.saturating_add(filter.cost_bytes());
                if cost_bytes > limits.max_req_bytes {
                    return Err(progress.refuse(Refusal::TooCostly { max_bytes: limits.max_req_bytes }));
                }
                filters.push(filter);
            }
            Ok(None) if given == 0 => return Err(progress.invalid("there is no filter in the message")),
            Ok(None) => return Ok(filters),
            Err(error) => {
                progress.refusal = unsupported.map(Refusal::Unsupported);
                return Err(error);
            }
        }
    }
}

/// The id that a broken `["EVENT", {…}]` claims to have: the first readable one, up to where the text stops making
/// sense.
fn claimed_id(text: &str) -> ReplyId {
    let mut id = None;
    // The reading fails sooner or later, of course: what was found until then is what counts.
    let _ = json::read(text, ClaimedMessage(&mut id));
    id.map_or(ReplyId::Unreadable, ReplyId::Id)
}

/// What an `["EVENT", {…}]` looks like when nothing but its id counts.
struct ClaimedMessage<'a>(&'a mut Option<EventId>);

impl<'de> Expected<'de> for ClaimedMessage<'_> {
    type Value = ();

    fn wrong(&self) -> Cow<'static, str> {
        "no message".into()
    }

    fn array<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        seq.next_element::<IgnoredAny>()?;
        seq.next_element_seed(Strict(ClaimedEvent(self.0)))?;
        Ok(())
    }
}

struct ClaimedEvent<'a>(&'a mut Option<EventId>);

impl<'de> Expected<'de> for ClaimedEvent<'_> {
    type Value = ();

    fn wrong(&self) -> Cow<'static, str> {
        "no event".into()
    }

    fn object<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(Strict(FieldName))? {
            if key == "id" {
                let text = map.next_value_seed(Strict(Text("no id")))?;
                *self.0 = EventId::from_hex(text.as_bytes()).ok();
                return Ok(());
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}
