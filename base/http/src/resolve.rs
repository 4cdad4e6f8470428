//! Host names to addresses, without the C library's resolver (which would load host
//! modules into a static binary).

use crate::Error;
use std::net::{IpAddr, SocketAddr};

/// The addresses of a host: a literal, `localhost`, or a name in the hosts file.
pub async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
    let host = host.trim_matches(['[', ']']);
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(vec![
            ([127, 0, 0, 1], port).into(),
            (std::net::Ipv6Addr::LOCALHOST, port).into(),
        ]);
    }
    Err(Error::Connect {
        address: format!("{host}:{port}"),
        why: "no such host".into(),
    })
}
