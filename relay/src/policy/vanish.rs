//! Is a request to vanish meant for this relay? (NIP-62)

use super::{RelayUrl, auth::tags};
use crate::types::{Event, Refusal};

/// What a request names instead of relays when all of them are meant.
const ALL_RELAYS: &str = "ALL_RELAYS";

/// Says whether `request`, a kind 62, names this relay or all of them. `own_urls` is what the configuration names;
/// where it names nothing, loopback and private addresses count, which are no other relay's name.
///
/// # Errors
/// [`Refusal::VanishElsewhere`]: stored, such a request would look as if it had been obeyed.
pub fn check_vanish(request: &Event, own_urls: &[RelayUrl]) -> Result<(), Refusal> {
    let is_ours = |name: &str| {
        name == ALL_RELAYS
            || RelayUrl::parse(name).is_ok_and(|url| match own_urls.is_empty() {
                true => url.is_surely_own(None),
                false => own_urls.contains(&url),
            })
    };
    let tags = tags(request).unwrap_or_default();
    let mut names =
        tags.iter().filter(|tag| tag.first().is_some_and(|name| name == "relay")).filter_map(|tag| tag.get(1));
    if names.any(|name| is_ours(name)) { Ok(()) } else { Err(Refusal::VanishElsewhere) }
}
