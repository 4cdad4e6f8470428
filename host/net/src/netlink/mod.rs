//! Netlink messages and sockets.
