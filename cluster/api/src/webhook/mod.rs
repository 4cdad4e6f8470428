//! Calls out to servers that somebody configured: admission webhooks, conversion, authentication, authorisation.
//!
//! A [`ClientConfig`] says where (a URL, or a service of the cluster that is resolved to a ready endpoint and dialled
//! through the server's dialer) and whom to believe. [`WebhookClients::post`] sends one body and returns one answer:
//! with a deadline, bounded, over a connection that is used again. [`dial_service`] alone gives a connection.

mod call;
mod client;
mod config;
mod kubeconfig;
mod room;
mod service;
#[cfg(test)]
mod tests;

pub(crate) use call::CallError;
pub(crate) use client::{WebhookClients, system_roots};
pub(crate) use config::{ClientConfig, Endpoint};
pub(crate) use kubeconfig::from_kubeconfig;
pub(crate) use service::{dial_service, endpoints};
