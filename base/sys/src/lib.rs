//! Safe wrappers for the system calls the ecosystem lacks: clone3, pidfds, the mount API, netlink sockets, memfd seals.
