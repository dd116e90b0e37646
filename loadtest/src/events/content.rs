//! The content of events: words, some with characters that JSON must escape or that are not ASCII.

use super::random::Random;

#[rustfmt::skip]
const WORDS: &[&str] = &[
    "a", "about", "after", "again", "all", "and", "any", "as", "at", "back", "be", "because", "been", "before",
    "but", "can", "come", "could", "day", "do", "even", "first", "for", "from", "get", "give", "go", "good",
    "great", "had", "have", "how", "if", "in", "into", "is", "it", "just", "know", "last", "like", "long", "look",
    "made", "make", "many", "me", "more", "most", "my", "never", "new", "no", "not", "now", "of", "on", "one",
    "only", "or", "other", "our", "out", "over", "people", "relay", "right", "said", "say", "see", "should", "so",
    "some", "still", "such", "take", "than", "that", "the", "their", "them", "then", "there", "these", "they",
    "thing", "think", "this", "time", "to", "today", "tomorrow", "two", "up", "use", "very", "want", "was", "way",
    "we", "well", "were", "what", "when", "which", "who", "will", "with", "work", "world", "would", "year", "you",
    "your", "über", "façade", "naïve", "日本", "привет", "🧶", "🪿", "\"quoted\"", "C:\\path",
    "https://example.com/a/b.jpg", "#nostr",
];

/// Appends about `mean` words (exponentially distributed, at most eight times as many) as a JSON string.
pub(super) fn push_words(random: &mut Random, mean: f64, out: &mut String) {
    let count = (-mean * (1.0 - random.unit()).ln()).min(8.0 * mean) as usize + 1;
    let mut text = String::with_capacity(count * 6);
    for word in 0..count {
        if word > 0 {
            text.push(if random.below(30) == 0 { '\n' } else { ' ' });
        }
        text.push_str(random.pick(WORDS));
    }
    push_json(&text, out);
}

/// Appends a profile (kind 0): JSON in a JSON string.
pub(super) fn push_profile(random: &mut Random, author: usize, out: &mut String) {
    let mut about = String::new();
    push_words(random, 12.0, &mut about);
    let profile = format!(
        "{{\"name\":\"author{author}\",\"about\":{about},\"picture\":\"https://example.com/{author}.png\",\
         \"nip05\":\"author{author}@example.com\"}}"
    );
    push_json(&profile, out);
}

/// Appends a reaction (kind 7).
pub(super) fn push_reaction(random: &mut Random, out: &mut String) {
    push_json(if random.percent(80) { "+" } else { random.pick(&["🤙", "❤️", "😂", "🔥", "-"]) }, out);
}

/// Appends `text` as a JSON string, escaped as NIP-01 wants it: of these texts' characters, only `\n`, `"` and `\`.
pub(super) fn push_json(text: &str, out: &mut String) {
    out.push('"');
    for char in text.chars() {
        match char {
            '\n' => out.push_str("\\n"),
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            other => out.push(other),
        }
    }
    out.push('"');
}
