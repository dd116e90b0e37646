//! Changing settings while the relay runs.

use super::Config;
use super::error::Problems;
use super::load::{Effective, Loaded, finish, load};
use super::sources::Sources;
use arc_swap::{ArcSwap, Guard};
use std::sync::Arc;

/// The configuration in force. Readers take what they need at the moment they need it and keep no copy of anything
/// that a reload can change.
#[derive(Debug)]
pub struct Live(ArcSwap<Config>);

impl Live {
    /// Starts with `config`.
    pub fn new(config: Arc<Config>) -> Self {
        Self(ArcSwap::new(config))
    }

    /// What is in force now: cheap, takes no lock. Do not hold it across an await.
    pub fn get(&self) -> Guard<Arc<Config>> {
        self.0.load()
    }

    /// Puts `config` in force. Whoever holds the old one finishes with it.
    pub fn set(&self, config: Arc<Config>) {
        self.0.store(config);
    }
}

/// What a reload would do.
#[derive(Debug, Clone)]
pub struct Reload {
    /// The running configuration with what could be changed.
    pub loaded: Loaded,
    /// The settings that changed, as `section.key`.
    pub changed: Vec<String>,
    /// The settings that differ but keep their old value until a restart.
    pub needs_restart: Vec<String>,
}

/// Reads the sources again and compares. Nothing takes effect by this alone: put `loaded.config` into [`Live`].
/// Where anything is wrong with the new settings, none of them is taken.
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
