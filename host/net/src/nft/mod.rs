//! nf_tables transactions.
