//! The OCI runtime: namespaces, root file system, cgroups, seccomp and the life of one container.

pub mod spec;
