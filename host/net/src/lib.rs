//! Links, addresses, routes, address allocation, nftables transactions and the DNS wire format.
