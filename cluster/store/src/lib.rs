//! Durable state: a small contract, an in-memory store and the segment log.
