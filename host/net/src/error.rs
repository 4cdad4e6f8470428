//! The one error of this crate.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

/// What can go wrong with a host's network.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a netlink request.
    #[error("{what}: {source}")]
    Kernel {
        /// What was asked of the kernel.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A netlink answer that does not follow its format.
    #[error("the kernel's netlink answer is malformed: {0}")]
    Malformed(&'static str),
    /// Every address of the range is taken, or was released too recently.
    #[error("no free address in {0}: every address is in use")]
    Exhausted(crate::Cidr),
    /// A range that pods cannot be given addresses from.
    #[error("{0} cannot serve as a pod range: {1}")]
    BadRange(crate::Cidr, &'static str),
    /// Text that is no address range.
    #[error("{0:?} is not an address range such as 10.244.0.0/24")]
    BadCidr(String),
    /// A name that cannot be used for links and tables.
    #[error("{0:?} is not a usable name: 1 to 64 letters, digits, '-', '_' or '.'")]
    BadName(String),
    /// An address of a family that is not supported here.
    #[error("{0} is not an IPv4 address: only IPv4 is supported")]
    Family(IpAddr),
    /// A port of this host leads elsewhere already.
    #[error("port {port} of this host is taken: it leads to {by}")]
    PortTaken {
        /// The port.
        port: u16,
        /// Where it leads.
        by: std::net::SocketAddrV4,
    },
    /// A file that could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn kernel(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Kernel {
            what: what.into(),
            source: source.into(),
        }
    }

    pub(crate) fn file(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::File {
            path: path.into(),
            source,
        }
    }

    /// The kernel's error number, when the kernel refused a request.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Kernel { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}
