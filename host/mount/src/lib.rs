//! Mounts, overlays and propagation.
