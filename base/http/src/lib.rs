//! TLS and HTTP plumbing: serving, connecting, and the stream protocols that kubectl
//! speaks over an upgraded connection.
//!
//! Not for: routing, authentication or anything that knows a Kubernetes kind. A
//! [`Handler`] gets a request and a [`Peer`], and decides.
//!
//! Start at [`serve`], with [`ServerTls`] (hot-swappable certificate) on the way in and
//! [`HttpsClient`] on the way out. [`remotecommand`] (exec, attach) and [`portforward`]
//! sit on [`websocket`] and [`spdy`]; [`proxy`] passes a request on, upgrades included;
//! [`GrpcClient`] asks a program on the same machine, [`serve_grpc`] answers one.

mod accept;
mod activity;
mod body;
mod channels;
mod client;
mod error;
mod grpc;
mod grpc_server;
mod grpc_stream;
mod io;
pub mod portforward;
pub mod proxy;
pub mod remotecommand;
mod resolve;
mod serve;
pub mod spdy;
mod tls;
mod upgrade;
pub mod websocket;

pub use accept::survive_accept;
pub use body::{Body, BodySender, BoxError};
pub use client::{Connection, HttpsClient, connect_tcp};
pub use error::Error;
pub use grpc::{GrpcClient, GrpcStatus};
pub use grpc_server::{GrpcAnswer, GrpcService, serve_grpc};
pub use grpc_stream::GrpcStream;
pub use io::{BoxedIo, Io};
pub use resolve::{Resolver, resolve};
pub use serve::{Handler, Limits, Peer, serve, serve_plain};
pub use tls::{ClientTls, ServerTls, certificates_from_pem, install_crypto};

#[cfg(test)]
mod testing;
