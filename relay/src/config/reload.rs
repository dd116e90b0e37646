//! Changes settings while the relay runs.

use super::error::Problems;
use super::load::{Effective, Loaded, finish, load};
use super::sources::Sources;

/// What a reload would do.
#[derive(Debug, Clone)]
pub struct Reload {
    /// The running configuration with the settings that a reload can change.
    pub loaded: Loaded,
    /// The settings that changed, as `section.key`.
    pub changed: Vec<String>,
    /// The settings that differ but keep their old value until a restart.
    pub needs_restart: Vec<String>,
}

/// Reads the sources again and compares. Changes nothing itself: the caller puts `loaded.config` in force. An error in
/// any new setting fails the whole reload.
pub fn reload(current: &Loaded, sources: &Sources) -> Result<Reload, Problems> {
    let (mut changed, mut needs_restart) = (Vec::new(), Vec::new());
    let settle = |(old, new): (&Effective, Effective)| match (old.value == new.value, new.needs_restart) {
        (true, _) => new,
        (false, true) => {
            needs_restart.push(new.key);
            old.clone()
        }
        (false, false) => {
            changed.push(new.key.clone());
            new
        }
    };
    let settings = current.settings.iter().zip(load(sources)?.settings).map(settle).collect();
    Ok(Reload { loaded: finish(settings)?, changed, needs_restart })
}
