//! The small static program that runs as helper, shim and OCI command line, and the protocol the engine speaks with it.
