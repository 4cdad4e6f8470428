//! The API server: one pipeline over rows.
