//! The host's resolvers.

use std::net::{IpAddr, SocketAddr};

/// As many as libc uses.
const MOST: usize = 3;

/// The name servers of a resolv.conf's text.
pub fn upstream_resolvers(resolv_conf: &str) -> Vec<SocketAddr> {
    let servers = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address: IpAddr = words
            .next()
            .filter(|word| *word == "nameserver")
            .and(words.next())?
            .parse()
            .ok()?;
        Some(SocketAddr::new(address, 53))
    });
    servers.take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_found_among_comments_and_options() {
        let text = "# nameserver 1.1.1.1\nsearch a b\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 x\nnameserver bad\noptions ndots:5";
        let servers: Vec<String> = upstream_resolvers(text).iter().map(SocketAddr::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:53", "[2001:db8::1]:53"]);
    }
}
