//! Every reconciler: pure decisions, one thin executor.
