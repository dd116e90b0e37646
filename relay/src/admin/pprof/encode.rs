//! Writes a profile in the two formats that tools read.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// A stack, and how often it was sampled.
#[derive(Debug)]
pub(super) struct Stack {
    /// The name of its thread.
    pub(super) thread: String,
    /// The frames, innermost first; each is a function with the functions that were inlined into it, innermost first.
    pub(super) frames: Vec<Vec<Frame>>,
    /// How often the stack was sampled.
    pub(super) samples: u64,
}

/// A place in a function.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) function: String,
    pub(super) file: String,
    pub(super) line: u32,
}

/// `thread;outermost;…;innermost 17`: the format of flamegraph.pl, inferno and speedscope.
pub(super) fn folded(stacks: &[Stack]) -> String {
    let mut text = String::new();
    for Stack { thread, frames, samples } in stacks {
        text.push_str(thread);
        for frame in frames.iter().rev().flat_map(|place| place.iter().rev()) {
            text.push(';');
            text.push_str(&frame.function);
        }
        // Writing to a String cannot fail.
        let _ = writeln!(text, " {samples}");
    }
    text
}

/// The format of Google's pprof: `profile.proto` of github.com/google/pprof, which defines the field numbers.
pub(super) fn profile(stacks: &[Stack], time: Duration, period: Duration) -> Vec<u8> {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let mut profile = ProtoMessage::default();
    let mut texts = Numbered::default();
    let (mut functions, mut locations) = (Numbered::default(), Numbered::default());

    // The format wants the empty text as number 0; functions and locations begin with 1.
    texts.number("".to_owned());
    let count = [texts.number("samples".to_owned()), texts.number("count".to_owned())];
    let processor = [texts.number("cpu".to_owned()), texts.number("nanoseconds".to_owned())];
    let thread_label = texts.number("thread".to_owned());
    for kind in [count, processor] {
        profile.message(1, |kind_of_value| kind_of_value.numbers(&[(1, kind[0]), (2, kind[1])]));
    }

    for Stack { thread, frames, samples } in stacks {
        let thread = texts.number(thread.clone());
        profile.message(2, |sample| {
            for place in frames {
                let lines = place.iter().map(|Frame { function, file, line }| {
                    let function = [texts.number(function.clone()), texts.number(file.clone())];
                    [functions.number(function) + 1, u64::from(*line)]
                });
                let lines: Vec<_> = lines.collect();
                sample.number(1, locations.number(lines) + 1);
            }
            sample.numbers(&[(2, *samples), (2, samples.saturating_mul(nanos(period)))]);
            sample.message(3, |label| label.numbers(&[(1, thread_label), (2, thread)]));
        });
    }

    for (lines, number) in &locations.0 {
        profile.message(4, |location| {
            location.number(1, number + 1);
            for [function, line] in lines {
                location.message(4, |at| at.numbers(&[(1, *function), (2, *line)]));
            }
        });
    }

    for ([name, file], number) in &functions.0 {
        profile.message(5, |function| function.numbers(&[(1, number + 1), (2, *name), (3, *name), (4, *file)]));
    }
    let mut ordered: Vec<_> = texts.0.iter().collect();
    ordered.sort_unstable_by_key(|(_, number)| **number);
    for (text, _) in ordered {
        profile.bytes(6, text.as_bytes());
    }

    profile.number(10, nanos(time));
    profile.message(11, |kind_of_period| kind_of_period.numbers(&[(1, processor[0]), (2, processor[1])]));
    profile.number(12, nanos(period));
    profile.0
}

/// Numbers values from 0 in the order in which they come.
struct Numbered<T>(BTreeMap<T, u64>);

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Ord> Numbered<T> {
    fn number(&mut self, thing: T) -> u64 {
        let next = self.0.len() as u64;
        *self.0.entry(thing).or_insert(next)
    }
}

/// A message in the encoding of Protocol Buffers.
#[derive(Default)]
struct ProtoMessage(Vec<u8>);

impl ProtoMessage {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(&mut self, field: u64, value: u64) {
        self.varint(field << 3);
        self.varint(value);
    }

    fn numbers(&mut self, fields: &[(u64, u64)]) {
        fields.iter().for_each(|(field, value)| self.number(*field, *value));
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, field: u64, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        fill(&mut inner);
        self.bytes(field, &inner.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, line: u32) -> Frame {
        Frame { function: function.to_owned(), file: "a.rs".to_owned(), line }
    }

    fn stacks() -> Vec<Stack> {
        let (inlined, main) = (vec![frame("inner", 7), frame("outer", 300)], vec![frame("main", 1)]);
        let again = vec![frame("main", 1)];
        vec![
            Stack { thread: "verify".to_owned(), frames: vec![inlined, main], samples: 3 },
            Stack { thread: "relay".to_owned(), frames: vec![again], samples: 1 },
        ]
    }

    #[test]
    fn a_folded_line_is_a_stack_from_its_root() {
        assert_eq!(folded(&stacks()), "verify;main;outer;inner 3\nrelay;main 1\n");
    }

    /// The bytes, as `protoc --decode=perftools.profiles.Profile profile.proto` shows them.
    #[test]
    fn a_profile_is_what_the_format_says() {
        let bytes = profile(&stacks(), Duration::from_nanos(900), Duration::from_nanos(100));
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        insta::assert_snapshot!(hex);
    }
}
