//! What end-to-end tests need: a server of the built binary, the real kubectl, a registry.
//!
//! Everything waits on events with a deadline, and everything is removed when its handle is
//! dropped, also when a test fails. Start at [`Server`] and [`Cluster`].

mod cluster;
mod helm;
mod images;
mod kubectl;
mod registry;
mod server;
mod traces;

pub use cluster::Cluster;
pub use helm::Helm;
pub use images::{Image, build_busybox, build_nginx};
pub use kubectl::{Kubectl, Run};
pub use registry::Registry;
pub use server::{Server, free_port};
pub use traces::{Traces, zombies};

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

/// How long a step of a test may take on a slow, shared machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The program under test: `make e2e` names it.
pub fn binary() -> PathBuf {
    let path = std::env::var_os("STRATA_BINARY").map(PathBuf::from);
    path.expect("STRATA_BINARY names the built strata; run the tests with `make e2e`")
}

/// Tries until something holds; panics with the last answer when it takes too long. For
/// conditions of other programs that have no event to wait for.
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(why) if began.elapsed() > PATIENCE => panic!("{what}: {why}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
