//! What the production files need beyond what HAProxy needs.

use serde::{Deserialize, Serialize};

/// `[production]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Production {
    /// The relays' own setting.
    pub public_url: String,
    /// Relays to start with.
    pub relays: u16,
    /// Relays that autoscaling may start.
    pub most_relays: u16,
    /// Clients of one relay above which autoscaling starts another.
    pub connections_per_relay: u32,
    /// What one relay may hold for its clients, in MiB (memory.clients_bytes): its memory limit follows from that.
    pub clients_memory_mib: u32,
    /// Postgres standbys that Compose starts.
    pub replicas: u16,
    /// The relay's image.
    pub relay_image: String,
    /// HAProxy's image.
    pub haproxy_image: String,
    /// Postgres' image.
    pub postgres_image: String,
    /// Redis' image.
    pub redis_image: String,
    /// The image that the relay is built in.
    pub rust_image: String,
    /// The image that the relay's and HAProxy's are made from.
    pub debian_image: String,
}

impl Production {
    /// Every image, by its key.
    pub(super) fn images(&self) -> [(&'static str, &str); 6] {
        [
            ("relay_image", &self.relay_image),
            ("haproxy_image", &self.haproxy_image),
            ("postgres_image", &self.postgres_image),
            ("redis_image", &self.redis_image),
            ("rust_image", &self.rust_image),
            ("debian_image", &self.debian_image),
        ]
    }
}
