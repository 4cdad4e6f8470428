//! Content store, registries, archives and layers.
