//! The queries that clients send. Their keys are drawn from the stored events, so that the answers are not empty.

use crate::events::{Authors, Keys, Random, Zipf};
use std::fmt::Write;

/// One shape of question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One note by its id.
    Id,
    /// An author's profile.
    Profile,
    /// The newest 20 notes of an author.
    Author,
    /// The newest 50 notes and reposts of 300 authors.
    Feed50,
    /// The newest 500 of them.
    Feed500,
    /// The newest 100 events that mention a popular author.
    Mentions,
    /// The events that refer to 50 events: replies, reactions, zaps.
    Thread,
    /// The newest 100 notes of all.
    Global,
    /// How many events mention a popular author (NIP-45).
    CountMentions,
}

/// A REQ or COUNT, in parts around the subscription id.
#[derive(Debug, Clone)]
pub struct Question {
    /// `REQ` or `COUNT`.
    pub verb: &'static str,
    /// The JSON filter.
    pub filter: String,
}

impl Shape {
    /// All shapes, cheap ones first.
    pub const ALL: [Self; 9] = [
        Self::Id,
        Self::Profile,
        Self::Author,
        Self::Feed50,
        Self::Feed500,
        Self::Mentions,
        Self::Thread,
        Self::Global,
        Self::CountMentions,
    ];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Id => "by id",
            Self::Profile => "profile: author, kind 0",
            Self::Author => "author, kind 1, limit 20",
            Self::Feed50 => "feed of 300 authors, limit 50",
            Self::Feed500 => "feed of 300 authors, limit 500",
            Self::Mentions => "popular #p, limit 100",
            Self::Thread => "50 #e values",
            Self::Global => "kind 1, limit 100",
            Self::CountMentions => "COUNT of a popular #p",
        }
    }

    fn filter(self, keys: &Keys, authors: &Authors, people: &Zipf, popular: &[usize], random: &mut Random) -> String {
        let quoted = |list: Vec<String>| {
            let mut text = String::with_capacity(list.len() * 67);
            for (index, value) in list.iter().enumerate() {
                let comma = if index > 0 { "," } else { "" };
                let _ = write!(text, "{comma}\"{value}\"");
            }
            text
        };

        let feed = |limit: usize, random: &mut Random| {
            let follows = keys.follows(300, people, random).into_iter().map(|author| authors.hex(author).to_owned());
            format!(r#"{{"authors":[{}],"kinds":[1,6],"limit":{limit}}}"#, quoted(follows.collect()))
        };
        match self {
            Self::Id => format!(r#"{{"ids":["{}"]}}"#, keys.note_id(random)),
            Self::Profile => {
                format!(r#"{{"authors":["{}"],"kinds":[0]}}"#, authors.hex(keys.profile_author(random)))
            }
            Self::Author => {
                format!(r#"{{"authors":["{}"],"kinds":[1],"limit":20}}"#, authors.hex(keys.note_author(random)))
            }
            Self::Feed50 => feed(50, random),
            Self::Feed500 => feed(500, random),
            Self::Mentions => format!(r##"{{"#p":["{}"],"limit":100}}"##, authors.hex(random.pick(popular))),
            Self::Thread => format!(r##"{{"#e":[{}]}}"##, quoted(keys.event_targets(50, random))),
            Self::Global => r#"{"kinds":[1],"limit":100}"#.to_owned(),
            Self::CountMentions => format!(r##"{{"#p":["{}"]}}"##, authors.hex(random.pick(popular))),
        }
    }
}

/// Draws `count` questions of a shape about the data set of `keys`. Some repeat: popular keys are drawn more often.
///
/// # Panics
/// When the data set [is thin](Keys::is_thin).
pub fn questions(shape: Shape, count: usize, keys: &Keys, authors: &Authors, random: &mut Random) -> Vec<Question> {
    let people = Zipf::new(authors.len(), 0.9);
    let popular = keys.most_mentioned(100);
    let verb = if shape == Shape::CountMentions { "COUNT" } else { "REQ" };
    let ask = |_| Question { verb, filter: shape.filter(keys, authors, &people, &popular, random) };
    (0..count).map(ask).collect()
}
