//! Ports of this machine that containers have: held by sockets, so that no other program takes them.

use crate::error::{Answer, ApiError};
use crate::record::Published;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use strata_net::HostPort;

/// First port taken when a container leaves the choice to us (as the kernel's own range begins).
const FIRST_FREE: u16 = 32768;
const LAST_FREE: u16 = 60999;

/// A socket that keeps a port from being taken by other programs. Packets never reach it.
#[allow(dead_code, reason = "held, not read")]
enum Reserved {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

/// A port with the address it leads to.
struct Held {
    port: Published,
    ip: Ipv4Addr,
    _socket: Reserved,
}

/// All ports, by container.
pub(crate) struct Ports {
    held: BTreeMap<String, Vec<Held>>,
    next: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            held: BTreeMap::new(),
            next: FIRST_FREE,
        }
    }
}

impl Ports {
    /// Takes ports for a container, all or none; a `host_port` of 0 is chosen here, as is one of a range.
    pub fn take(&mut self, container: &str, ip: Ipv4Addr, wanted: Vec<Published>) -> Answer<Vec<Published>> {
        let mut own = Vec::new();
        for port in wanted {
            own.push(self.take_one(port, ip, &own)?);
        }
        let published = own.iter().map(|held| held.port.clone()).collect();
        self.held.insert(container.to_owned(), own);
        Ok(published)
    }

    /// Gives a container's ports back; whether it had any.
    pub fn release(&mut self, container: &str) -> bool {
        self.held.remove(container).is_some()
    }

    /// What rules are made of.
    pub fn rules(&self) -> Vec<HostPort> {
        let all = self.held.values().flatten();
        all.map(|held| HostPort {
            protocol: if held.port.protocol == "udp" { 17 } else { 6 },
            address: held.port.host_ip,
            port: held.port.host_port,
            to: SocketAddrV4::new(held.ip, held.port.port),
        })
        .collect()
    }

    fn take_one(&mut self, mut port: Published, ip: Ipv4Addr, more: &[Held]) -> Answer<Held> {
        let (first, last) = (port.host_port, port.host_port.max(port.last_host_port));
        port.last_host_port = 0;
        let hold = |port: Published, socket| Held {
            port,
            ip,
            _socket: socket,
        };
        if first != 0 {
            let mut failed = None;
            for number in first..=last {
                port.host_port = number;
                match self.bind(&port, ip, more) {
                    Ok(socket) => return Ok(hold(port, socket)),
                    Err(error) => failed = Some(error),
                }
            }
            return Err(failed.unwrap_or_else(|| ApiError::internal("no port was given")));
        }
        for _ in FIRST_FREE..=LAST_FREE {
            port.host_port = self.next;
            self.next = if self.next >= LAST_FREE {
                FIRST_FREE
            } else {
                self.next + 1
            };
            if let Ok(socket) = self.bind(&port, ip, more) {
                return Ok(hold(port, socket));
            }
        }
        Err(ApiError::internal("all dynamic ports have been exhausted"))
    }

    fn bind(&self, port: &Published, ip: Ipv4Addr, more: &[Held]) -> Answer<Reserved> {
        let clashes = |other: &Held| {
            let other = &other.port;
            other.host_port == port.host_port
                && other.protocol == port.protocol
                && (other.host_ip == port.host_ip || other.host_ip.is_unspecified() || port.host_ip.is_unspecified())
        };
        if self.held.values().flatten().chain(more).any(clashes) {
            return Err(ApiError::internal(format!(
                "Bind for {}:{} failed: port is already allocated",
                port.host_ip, port.host_port
            )));
        }
        let address = SocketAddrV4::new(port.host_ip, port.host_port);
        let bound = match port.protocol.as_str() {
            "udp" => UdpSocket::bind(address).map(Reserved::Udp),
            _ => TcpListener::bind(address).map(Reserved::Tcp),
        };
        bound.map_err(|error| {
            ApiError::internal(format!(
                "failed to bind host port for {}:{}:{ip}:{}/{}: {}",
                port.host_ip,
                port.host_port,
                port.port,
                port.protocol,
                plain(&error)
            ))
        })
    }
}

/// The kernel's sentence alone, as Go writes it.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let sentence = text.split(" (os error").next().unwrap_or(&text);
    sentence.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(first: u16, last: u16) -> Published {
        Published {
            host_ip: Ipv4Addr::LOCALHOST,
            host_port: first,
            last_host_port: last,
            port: 80,
            protocol: "tcp".into(),
        }
    }

    #[test]
    fn a_range_gives_its_first_free_port_and_a_taken_one_is_refused() {
        let inside = Ipv4Addr::new(10, 0, 0, 2);
        let mut ports = Ports::default();
        let chosen = ports.take("a", inside, vec![port(0, 0)]).expect("free")[0].host_port;
        assert!(ports.take("b", inside, vec![port(chosen, 0)]).is_err());
        let next = ports.take("b", inside, vec![port(chosen, chosen + 20)]).expect("free")[0].host_port;
        assert!(next > chosen && next <= chosen + 20);
        assert_eq!(ports.rules().len(), 2);
        assert!(ports.release("a") && !ports.release("a"));
        assert!(ports.take("c", inside, vec![port(chosen, 0)]).is_ok());
    }
}
