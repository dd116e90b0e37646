//! Repeatable events: the same seed makes the same events on every machine.
//!
//! The mix is that of a public relay: a few authors write most events, a few events and authors have most references,
//! most events are notes and reactions, and half of them are younger than nine months out of 36.

mod author;
mod content;
mod draft;
mod generator;
mod keys;
mod random;
mod sign;

pub use author::Authors;
pub use draft::Draft;
pub use generator::{Generator, Kinds, Plan};
pub use keys::Keys;
pub use random::{Random, Zipf};
pub use sign::{Signed, sign_all};

pub(crate) use draft::hex_text;

use std::io::{self, Write};

/// The span of `loadtest fill`'s events: 36 months of 30 days, in seconds.
pub const FILL_SPAN_SECONDS: u64 = 36 * 30 * 86_400;

/// Writes the plan's events to `out` as JSON lines, and calls `on` after each. Signatures are not valid unless
/// `signed`: signing is the slowest step, and queries need no valid signatures. Returns the keys of the events.
///
/// # Errors
/// The writer's.
pub fn fill(
    plan: Plan,
    authors: &Authors,
    signed: bool,
    out: &mut impl Write,
    mut on: impl FnMut(),
) -> io::Result<Keys> {
    const CHUNK: usize = 20_000;
    let mut generator = Generator::new(plan, authors);
    loop {
        let drafts = generator.by_ref().take(CHUNK).collect::<Vec<_>>();
        if drafts.is_empty() {
            return Ok(generator.into_keys());
        }
        if signed {
            for event in sign_all(drafts, authors) {
                writeln!(out, "{}", event.text)?;
                on();
            }
        } else {
            for draft in drafts {
                writeln!(out, "{}", draft.with_made_up_signature())?;
                on();
            }
        }
    }
}
