//! `[access]` and `[proxy]`: who may do what, and whose word about a client's address counts.

use super::values::{self, KindSet};
use crate::types::{Kind, PrivateKinds, PublicKey};
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
    /// Kinds that only their recipients may read (NIP-17, NIP-59).
    #[serde(deserialize_with = "private_kinds")]
    pub private_kinds: PrivateKinds,
    /// Authors whose events are taken; empty: everybody's.
    #[serde(deserialize_with = "values::pubkeys")]
    pub allow_pubkeys: BTreeSet<PublicKey>,
    /// Authors whose events are refused.
    #[serde(deserialize_with = "values::pubkeys")]
    pub deny_pubkeys: BTreeSet<PublicKey>,
    /// Kinds that are taken; empty: all.
    pub allow_kinds: KindSet,
    /// Kinds that are refused.
    pub deny_kinds: KindSet,
}

impl AccessRules {
    /// True when the lists let this author publish. The list of refusals wins.
    pub fn author_allowed(&self, author: &PublicKey) -> bool {
        !self.deny_pubkeys.contains(author) && (self.allow_pubkeys.is_empty() || self.allow_pubkeys.contains(author))
    }

    /// True when the lists let this kind in. The list of refusals wins.
    pub fn kind_allowed(&self, kind: Kind) -> bool {
        !self.deny_kinds.contains(kind) && (self.allow_kinds.is_empty() || self.allow_kinds.contains(kind))
    }
}

fn private_kinds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PrivateKinds, D::Error> {
    Ok(PrivateKinds::new(KindSet::deserialize(deserializer)?.iter().collect()))
}

/// `[proxy]`: what stands in front of the relay.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proxy {
    /// Networks whose word about a client's address is believed.
    #[serde(deserialize_with = "networks")]
    pub trusted_networks: Vec<IpNet>,
    /// Every connection begins with a PROXY protocol header, version 2.
    pub proxy_protocol: bool,
}

impl Proxy {
    /// True when `peer` is one of the operator's proxies. An IPv4 address inside IPv6 counts as what it is.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.trusted_networks.iter().any(|network| network.contains(&peer))
    }
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

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::types::{Kind, PublicKey};

    #[test]
    fn refusals_win_and_an_empty_list_allows_all() {
        let (ann, bob) = (PublicKey::from_bytes([1; 32]), PublicKey::from_bytes([2; 32]));
        let mut rules = Config::default().access;
        assert!(rules.author_allowed(&ann) && rules.kind_allowed(Kind(1)));
        rules.allow_pubkeys.insert(ann);
        assert!(rules.author_allowed(&ann) && !rules.author_allowed(&bob));
        rules.deny_pubkeys.insert(ann);
        assert!(!rules.author_allowed(&ann));
    }

    #[test]
    fn a_mapped_address_is_the_address_it_maps() {
        let mut proxy = Config::default().proxy;
        assert!(!proxy.trusts("127.0.0.1".parse().unwrap()));
        proxy.trusted_networks.push("127.0.0.0/8".parse().unwrap());
        assert!(proxy.trusts("127.0.0.1".parse().unwrap()) && proxy.trusts("::ffff:127.0.0.1".parse().unwrap()));
        assert!(!proxy.trusts("10.0.0.1".parse().unwrap()));
    }
}
