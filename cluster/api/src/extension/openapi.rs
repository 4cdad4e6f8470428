//! Custom resources in the OpenAPI documents. Made when asked for: only hashes are kept.
