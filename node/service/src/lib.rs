//! Service tables: services and endpoint slices to one nftables transaction.
