//! The node agent: what the kubelet is upstream.
//!
//! For: turning the pods that the API gives this node into sandboxes and containers, keeping
//! them healthy, telling the API what they do, and answering the API server's calls for logs,
//! exec and port-forward.
//! Not for: deciding which node a pod runs on, making containers (the engine does), service
//! routing or DNS (its siblings do). It is an API client like any other and never links
//! anything of the cluster.
//!
//! Start at [`Agent`]; then `planner.rs`, the pure function that decides, `worker.rs`, the
//! actor that owns one pod, and `start.rs`, which carries the longer steps out.

mod access;
mod admission;
mod agent;
mod allocation;
mod cadvisor;
mod cgroups;
mod configuration;
mod container;
mod context;
mod devices;
mod dns;
mod env;
mod eviction;
mod fields;
mod grpc;
mod handler;
mod hostports;
mod local_volumes;
mod logs;
mod manager;
mod managers;
mod node;
mod options;
mod orders;
mod planner;
mod pod;
mod probe;
mod pull;
mod query;
mod reporter;
mod requests;
mod resources;
mod server;
mod shutdown;
mod slot;
mod start;
mod state;
mod statics;
mod status;
mod streams;
mod subpath;
mod summary;
mod timing;
mod tries;
mod usage;
mod users;
mod watcher;
mod worker;

pub use agent::{Agent, AgentError};
pub use configuration::{Configuration, ConfigurationError};
pub use options::{AgentOptions, NetworkFactory, NetworkSlot, NodeFacts};
pub use shutdown::Drain;
