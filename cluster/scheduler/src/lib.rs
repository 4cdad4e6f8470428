//! Placement: a framework of filter and score plugins over a queue with backoff.
