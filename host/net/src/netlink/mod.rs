//! Netlink: the wire format, a socket, and the two families used here
//! (rtnetlink for links, addresses, routes, neighbours and rules; ctnetlink for connections).

pub mod conntrack;
mod message;
pub mod route;
mod route_format;
mod socket;

pub(crate) use message::{Attributes, MessageWriter, be32, be64, native32};
pub(crate) use socket::Socket;
