//! Plain HTTP: the opening handshake of a WebSocket, the relay information document and the landing page.

mod accept;
mod forwarded;
mod handshake;
mod landing;
pub(super) mod pages;
pub(super) mod upgrade;
