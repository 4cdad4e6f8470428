//! Pod sandboxes and containers: creation, logs, streams, stats and recovery.
