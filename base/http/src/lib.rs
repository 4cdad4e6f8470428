//! TLS and HTTP plumbing: serving, connecting, WebSocket and SPDY stream protocols.
