//! The program: helper, shim and OCI command line.

fn main() {}
