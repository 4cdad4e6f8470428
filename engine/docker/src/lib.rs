//! Containers for people: docker's engine API over the container engine.
//!
//! For: what a person asks of a container engine: containers with names that start again with their
//! files, restart policies, health checks, published ports, networks with names in them, volumes. It
//! speaks the API that docker's clients speak, on a Unix socket.
//! Not for: namespaces and processes (`strata-engine`), image content (`strata-image`), links and rules
//! (`strata-net`), or the command line (the binary's).
//!
//! Start at [`Daemon`]; `server.rs` has the routes. A container is a record ([`record`](self)) and, while
//! it runs, a sandbox of its own in the engine: `create.rs` makes the record, `launch.rs` starts it,
//! `exit.rs` follows its end.

// The API's objects have more members than the macro of JSON values takes otherwise.
#![recursion_limit = "256"]

mod activity;
mod archive;
mod attach;
mod call;
mod check;
mod config;
mod connection;
mod create;
mod daemon;
mod error;
mod events;
mod exec;
mod exit;
mod finish;
mod health;
mod images;
mod inspect;
mod ipam;
mod launch;
mod life;
mod logopts;
mod logs;
mod machine;
mod mounts;
mod names;
mod netapi;
mod netfiles;
mod netoptions;
mod networks;
mod ports;
mod processes;
mod record;
mod refused;
mod registry;
mod remove;
mod resolver;
mod rootfs;
mod server;
mod spec;
mod stats;
mod streams;
mod system;
mod time;
mod transfer;
mod upload;
mod usage;
mod volumes;

pub use daemon::{Daemon, DaemonOptions};
pub use spec::cgroups_elsewhere;
