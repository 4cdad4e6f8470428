//! SPDY/3.1 over any byte stream, as far as Kubernetes speaks it: streams with headers,
//! both ways, closed halfway or reset; pings.
//!
//! Send windows are not enforced: the peers there are (client-go and what copies it) never
//! send WINDOW_UPDATE, so a sender that waited for one would stop after 64 KiB. The
//! connection itself is the back-pressure: a stream that is not read stops the reading of
//! all. WINDOW_UPDATE is sent for peers that do count.
//!
//! Specification: SPDY Protocol, Draft 3.1.

mod dictionary;
mod frame;
mod headers;
mod session;
mod stream;

pub use session::Session;
pub use stream::Stream;

#[cfg(test)]
mod tests;
