//! Network plugins of others: the container network interface (CNI), from the runtime's side.
//!
//! For: finding the network that an administrator configured, running its plugins in order (ADD, CHECK, DEL,
//! GC, STATUS), and remembering what was attached so that it is taken back, also after a crash.
//! Not for: links and addresses of this program's own (`strata-net`), nor deciding what a sandbox asks for.
//!
//! Start at [`Cni`]; `config.rs` reads configurations, `plugin.rs` runs one plugin, `attachment.rs` keeps what
//! was attached, `outcome.rs` reads what plugins answer.
//!
//! <https://github.com/containernetworking/cni/blob/main/SPEC.md>

mod attachment;
mod cni;
mod config;
mod error;
mod namespace;
mod outcome;
mod plugin;

pub use cni::{Cni, CniOptions, Wish};
pub use config::{NetworkList, Version};
pub use error::Error;
pub use outcome::Addresses;
