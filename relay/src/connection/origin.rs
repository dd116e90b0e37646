//! Where a client comes from.

use super::listening::slots::AddressSlot;
use std::net::IpAddr;

/// What the opening handshake tells about a client.
pub(super) struct ClientOrigin {
    /// The client's own address, as far as trusted proxies tell it.
    pub(super) address: IpAddr,
    /// The relay's URL by the client's `Host` header. Only where no `public_url` is set, and where it can be no other
    /// relay's.
    pub(super) relay_url: Option<Box<str>>,
    /// One of the connections that its address may have; given back when dropped.
    pub(super) _slot: AddressSlot,
}
