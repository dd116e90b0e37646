//! `[access]` and `[proxy]`: who may do what, and which proxies the relay trusts to say a client's address.

use super::values::{self, KindSet};
use crate::types::{PrivateKinds, PublicKey};
use ipnet::IpNet;
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// `[access]`: who may do what. A reload changes all of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessRules {
    /// Only clients that have authenticated may read (NIP-42).
    pub auth_to_read: bool,
    /// Only clients that have authenticated may publish (NIP-42).
    pub auth_to_write: bool,
    /// Only clients that have authenticated may publish gift wraps (NIP-59).
    pub auth_to_write_gift_wraps: bool,
    /// Kinds that only their recipients may read (NIP-17, NIP-59).
    #[serde(deserialize_with = "private_kinds")]
    pub private_kinds: PrivateKinds,
    /// Kinds that only their author may read (NIP-78).
    pub author_kinds: KindSet,
    /// Authors whose events are accepted; empty: all.
    #[serde(deserialize_with = "values::pubkeys")]
    pub allow_pubkeys: BTreeSet<PublicKey>,
    /// Authors whose events are refused.
    #[serde(deserialize_with = "values::pubkeys")]
    pub deny_pubkeys: BTreeSet<PublicKey>,
    /// Kinds that are accepted; empty: all.
    pub allow_kinds: KindSet,
    /// Kinds that are refused.
    pub deny_kinds: KindSet,
    /// An ephemeral event that surely has no subscriber is refused with `mute:` (NIP-01).
    pub mute_unheard: bool,
}

impl AccessRules {
    /// The kinds that are not served to everybody, by either setting.
    pub fn restricted_kinds(&self) -> PrivateKinds {
        self.private_kinds.with_author_only(self.author_kinds.iter().collect())
    }
}

fn private_kinds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PrivateKinds, D::Error> {
    Ok(PrivateKinds::new(KindSet::deserialize(deserializer)?.iter().collect()))
}

/// `[proxy]`: the proxies in front of the relay.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxySettings {
    /// The networks of the operator's proxies, which the relay trusts to say a client's address.
    #[serde(deserialize_with = "networks")]
    pub trusted_networks: Vec<IpNet>,
    /// Every connection begins with a PROXY protocol header, version 2.
    pub proxy_protocol: bool,
}

fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let parse = |text: &String| {
        text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
            D::Error::custom(format_args!("\"{text}\" is no network: write it like 10.0.0.0/8, 2001:db8::/32 or ::1"))
        })
    };
    texts.iter().map(parse).collect()
}
