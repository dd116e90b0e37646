//! Values that only the production files need.

use serde::{Deserialize, Serialize};

/// `[production]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Production {
    /// The relays' own setting.
    pub public_url: String,
    /// The number of relays at the start.
    pub relays: u16,
    /// The most relays that autoscaling may start.
    pub most_relays: u16,
    /// The number of clients of one relay above which autoscaling starts another.
    pub connections_per_relay: u32,
    /// The most that one relay may hold for its clients, in MiB (memory.clients_bytes): its memory limit follows from
    /// it.
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
    /// The image in which the relay is built.
    pub rust_image: String,
    /// The base image of the relay's and HAProxy's images.
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
