//! Bounded queues, cancellation, backoff and clocks: the concurrency vocabulary of every daemon part.
