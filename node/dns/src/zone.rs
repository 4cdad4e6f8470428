//! What is answered: a pure function of the question and the index.
//!
//! Kubernetes DNS-Based Service Discovery, version 1.1.0.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use strata_meta::ObjectKey;
use strata_net::dns::{Message, Name, NameError, Question, Record, RecordData, class, kind, rcode};

use crate::Index;
use crate::objects::{DnsService, dashed};

/// Seconds that clients may keep an answer: the specification's example, short because endpoints move.
const TTL: u32 = 5;
const SCHEMA_VERSION: &[u8] = b"1.1.0";
/// Endpoints of one headless service in one answer; a message has 64 KiB.
const MOST_RECORDS: usize = 1_000;

/// The cluster's domain.
#[derive(Debug, Clone)]
pub struct Zone {
    domain: Name,
    reverse4: Name,
    reverse6: Name,
    soa: Record,
}

/// What a question leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Of the zone: these records, or no records of this type.
    Records {
        /// The answer.
        answers: Vec<Record>,
        /// Addresses of names in the answer.
        additionals: Vec<Record>,
    },
    /// Of the zone: another name, outside the zone, whose records are to be added.
    Elsewhere {
        /// The alias.
        alias: Record,
        /// The name it stands for.
        target: Name,
    },
    /// Of the zone: there is no such name.
    NoSuchName,
    /// Not of the zone: somebody else knows.
    Forward,
}

impl Zone {
    /// The zone of a cluster domain such as `cluster.local`.
    pub fn new(domain: &str) -> Result<Self, NameError> {
        let domain: Name = domain.parse()?;
        let primary = child(&domain, ["ns", "dns"])?;
        let mailbox = child(&domain, ["hostmaster"])?;
        let data = RecordData::Soa {
            primary,
            mailbox,
            serial: 1,
            refresh: 7200,
            retry: 1800,
            expire: 86_400,
            minimum: TTL,
        };
        Ok(Self {
            soa: Record {
                name: domain.clone(),
                ttl: TTL,
                data,
            },
            domain,
            reverse4: "in-addr.arpa".parse()?,
            reverse6: "ip6.arpa".parse()?,
        })
    }

    /// The answer to a question.
    pub fn answer(&self, index: &Index, question: &Question) -> Answer {
        if question.class != class::IN && question.class != class::ANY {
            return Answer::Forward;
        }
        if let Some(labels) = question.name.labels_under(&self.domain) {
            // Names of objects are ASCII in lower case.
            let labels: Option<Vec<String>> = labels
                .iter()
                .map(|label| String::from_utf8(label.to_ascii_lowercase()).ok())
                .collect();
            let Some(labels) = labels else {
                return Answer::NoSuchName;
            };
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            return self.forward_name(index, question, &labels);
        }
        match self.reverse_address(&question.name) {
            Some(address) => self.reverse(index, question, address),
            None => Answer::Forward,
        }
    }

    /// The message that carries an answer of the zone.
    pub fn reply(&self, query: &Message, answer: &Answer) -> Message {
        let mut reply = query.reply(rcode::NOERROR);
        reply.authoritative = true;
        match answer {
            Answer::Records { answers, additionals } => {
                reply.answers.clone_from(answers);
                reply.additionals.clone_from(additionals);
            }
            Answer::Elsewhere { alias, .. } => reply.answers.push(alias.clone()),
            Answer::NoSuchName => reply.rcode = rcode::NXDOMAIN,
            Answer::Forward => reply.rcode = rcode::REFUSED,
        }
        if reply.answers.is_empty() {
            reply.authorities.push(self.soa.clone());
        }
        reply
    }

    fn forward_name(&self, index: &Index, question: &Question, labels: &[&str]) -> Answer {
        match labels {
            [] => self.apex(question),
            ["dns-version"] => records(question, vec![RecordData::Txt(SCHEMA_VERSION.to_vec())]),
            ["dns"] | ["svc"] | ["pod"] => records(question, Vec::new()),
            ["ns", "dns"] => records(question, Vec::new()),
            [.., namespace, "pod"] if labels.len() == 3 => pod_name(question, labels[0], namespace),
            [namespace, "svc"] if index.has_namespace(namespace) => records(question, Vec::new()),
            [namespace, "pod"] if index.has_namespace(namespace) => records(question, Vec::new()),
            [rest @ .., service, namespace, "svc"] => {
                let key = ObjectKey::new(namespace, service);
                match index.service(&key) {
                    Some(service) => self.service_name(index, question, &key, service, rest),
                    None => Answer::NoSuchName,
                }
            }
            _ => Answer::NoSuchName,
        }
    }

    fn apex(&self, question: &Question) -> Answer {
        match question.kind {
            kind::SOA | kind::ANY => Answer::Records {
                answers: vec![self.soa.clone()],
                additionals: Vec::new(),
            },
            kind::NS => match child(&self.domain, ["ns", "dns"]) {
                Ok(name) => records(question, vec![RecordData::Ns(name)]),
                Err(_) => records(question, Vec::new()),
            },
            _ => records(question, Vec::new()),
        }
    }

    /// A name at or below a service's.
    fn service_name(
        &self,
        index: &Index,
        question: &Question,
        key: &ObjectKey,
        service: &DnsService,
        rest: &[&str],
    ) -> Answer {
        if let Some(target) = service.external_name() {
            return if rest.is_empty() {
                self.alias(index, question, target)
            } else {
                Answer::NoSuchName
            };
        }
        let addresses = service.cluster_addresses();
        match rest {
            [] if addresses.is_empty() => {
                let endpoints: Vec<_> = endpoints(index, key).map(|(_, address)| address).collect();
                if endpoints.is_empty() {
                    return Answer::NoSuchName;
                }
                match question.kind {
                    kind::SRV => self.service_ports(index, question, key, service, None),
                    _ => address_records(question, endpoints),
                }
            }
            [] => match question.kind {
                kind::SRV => self.service_ports(index, question, key, service, None),
                _ => address_records(question, addresses),
            },
            [port, protocol] => match (port.strip_prefix('_'), protocol.strip_prefix('_')) {
                (Some(port), Some(protocol)) => {
                    self.service_ports(index, question, key, service, Some((port, protocol)))
                }
                _ => Answer::NoSuchName,
            },
            [endpoint] => {
                let named = endpoints(index, key).filter(|(label, _)| label.eq_ignore_ascii_case(endpoint));
                let named: Vec<_> = named.map(|(_, address)| address).collect();
                if named.is_empty() {
                    Answer::NoSuchName
                } else {
                    address_records(question, named)
                }
            }
            _ => Answer::NoSuchName,
        }
    }

    /// SRV records of a service's named ports, or of the one asked for.
    fn service_ports(
        &self,
        index: &Index,
        question: &Question,
        key: &ObjectKey,
        service: &DnsService,
        wanted: Option<(&str, &str)>,
    ) -> Answer {
        let matches = |name: &str, protocol: &str| {
            !name.is_empty()
                && wanted.is_none_or(|(port, of)| port.eq_ignore_ascii_case(name) && of.eq_ignore_ascii_case(protocol))
        };
        let Ok(own_name) = self.service(key) else {
            return Answer::NoSuchName;
        };
        let addresses = service.cluster_addresses();
        // (target, port, its addresses)
        let mut targets: Vec<(Name, u16, IpAddr)> = Vec::new();
        if addresses.is_empty() {
            for slice in index.slices(key) {
                let ready = slice.endpoints.iter().filter(|endpoint| endpoint.is_ready());
                for (endpoint, address) in ready.flat_map(|endpoint| endpoint.addresses().map(move |ip| (endpoint, ip)))
                {
                    for port in slice.ports.iter().filter(|port| matches(port.name(), &port.protocol())) {
                        let target = child(&own_name, [endpoint.label(address).as_str()]);
                        targets.extend(target.ok().zip(port.port).map(|(target, port)| (target, port, address)));
                    }
                }
            }
        } else {
            for port in service
                .spec
                .ports
                .iter()
                .filter(|port| matches(port.name(), &port.protocol()))
            {
                let ports = addresses
                    .iter()
                    .filter_map(|address| Some((own_name.clone(), port.port?, *address)));
                targets.extend(ports);
            }
        }
        targets.truncate(MOST_RECORDS);
        if targets.is_empty() && wanted.is_some() {
            return Answer::NoSuchName;
        }
        if question.kind != kind::SRV && question.kind != kind::ANY {
            return records(question, Vec::new());
        }
        let unique: BTreeSet<(u16, String)> = targets
            .iter()
            .map(|(name, port, _)| (*port, name.to_string()))
            .collect();
        let weight = (100 / unique.len().max(1)).max(1) as u16;
        let mut seen = BTreeSet::new();
        let mut answers = Vec::new();
        let mut additionals: Vec<Record> = Vec::new();
        for (target, port, address) in targets {
            if seen.insert((port, target.to_string())) {
                let data = RecordData::Srv {
                    priority: 0,
                    weight,
                    port,
                    target: target.clone(),
                };
                answers.push(Record {
                    name: question.name.clone(),
                    ttl: TTL,
                    data,
                });
            }
            let glue = Record {
                name: target,
                ttl: TTL,
                data: address_data(address),
            };
            if !additionals.contains(&glue) {
                additionals.push(glue);
            }
        }
        Answer::Records { answers, additionals }
    }

    fn alias(&self, index: &Index, question: &Question, target: &str) -> Answer {
        let Ok(target) = target.parse::<Name>() else {
            return Answer::NoSuchName;
        };
        let alias = Record {
            name: question.name.clone(),
            ttl: TTL,
            data: RecordData::Cname(target.clone()),
        };
        if question.kind == kind::CNAME {
            return Answer::Records {
                answers: vec![alias],
                additionals: Vec::new(),
            };
        }
        if target.labels_under(&self.domain).is_none() {
            return Answer::Elsewhere { alias, target };
        }
        // One step only: aliases of aliases could go in circles.
        let next = Question {
            name: target,
            ..question.clone()
        };
        let mut answers = vec![alias];
        let aliased = next
            .name
            .labels_under(&self.domain)
            .and_then(|labels| match labels[..] {
                [service, namespace, b"svc"] => {
                    let text = |label: &[u8]| String::from_utf8(label.to_ascii_lowercase()).ok();
                    index.service(&ObjectKey::new(&text(namespace)?, &text(service)?))
                }
                _ => None,
            });
        if aliased.is_none_or(|service| service.external_name().is_none())
            && let Answer::Records { answers: more, .. } = self.answer(index, &next)
        {
            answers.extend(more);
        }
        Answer::Records {
            answers,
            additionals: Vec::new(),
        }
    }

    fn reverse(&self, index: &Index, question: &Question, address: IpAddr) -> Answer {
        let mut names: Vec<Name> = index
            .by_address(address)
            .filter_map(|key| self.service(key).ok())
            .collect();
        if names.is_empty() {
            for key in index.by_endpoint(address) {
                let labels = endpoints(index, key)
                    .filter(|(_, other)| *other == address)
                    .map(|(label, _)| label);
                let under = |label: String| self.service(key).and_then(|name| child(&name, [label.as_str()])).ok();
                names.extend(labels.filter_map(under));
            }
        }
        names.truncate(MOST_RECORDS);
        match names.is_empty() {
            // Addresses outside the cluster are somebody else's.
            true => Answer::Forward,
            false => records(question, names.into_iter().map(RecordData::Ptr).collect()),
        }
    }

    fn service(&self, key: &ObjectKey) -> Result<Name, NameError> {
        child(&self.domain, [&*key.name, &*key.namespace, "svc"])
    }

    /// The address whose reverse name this is.
    fn reverse_address(&self, name: &Name) -> Option<IpAddr> {
        if let Some(labels) = name.labels_under(&self.reverse4) {
            let mut octets = [0; 4];
            let labels: [&[u8]; 4] = labels.try_into().ok()?;
            for (octet, label) in octets.iter_mut().rev().zip(labels) {
                *octet = std::str::from_utf8(label).ok()?.parse().ok()?;
            }
            return Some(Ipv4Addr::from(octets).into());
        }
        let labels: [&[u8]; 32] = name.labels_under(&self.reverse6)?.try_into().ok()?;
        let mut bits = 0_u128;
        for label in labels.iter().rev() {
            let digit = std::str::from_utf8(label).ok().filter(|label| label.len() == 1)?;
            bits = bits << 4 | u128::from_str_radix(digit, 16).ok()?;
        }
        Some(Ipv6Addr::from_bits(bits).into())
    }
}

/// `a-b-c-d.NAMESPACE.pod`: the address is in the name, so every such name exists.
fn pod_name(question: &Question, label: &str, _namespace: &str) -> Answer {
    let v4 = label.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::V4);
    let address = v4.or_else(|_| label.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::V6));
    match address {
        Ok(address) if dashed(address) == label => address_records(question, vec![address]),
        _ => Answer::NoSuchName,
    }
}

/// (label, address) of each ready endpoint of a service, each once.
fn endpoints(index: &Index, key: &ObjectKey) -> impl Iterator<Item = (String, IpAddr)> {
    let mut seen = BTreeSet::new();
    index
        .slices(key)
        .flat_map(|slice| slice.endpoints.iter().filter(|endpoint| endpoint.is_ready()))
        .flat_map(|endpoint| {
            endpoint
                .addresses()
                .map(move |address| (endpoint.label(address), address))
        })
        .filter(move |endpoint| seen.insert(endpoint.clone()))
}

fn address_records(question: &Question, addresses: Vec<IpAddr>) -> Answer {
    records(
        question,
        addresses.into_iter().take(MOST_RECORDS).map(address_data).collect(),
    )
}

fn address_data(address: IpAddr) -> RecordData {
    match address {
        IpAddr::V4(v4) => RecordData::A(v4),
        IpAddr::V6(v6) => RecordData::Aaaa(v6),
    }
}

/// Those of the name's records that have the wanted type.
fn records(question: &Question, data: Vec<RecordData>) -> Answer {
    let wanted = data
        .into_iter()
        .filter(|data| question.kind == kind::ANY || data.kind() == question.kind);
    let answers = wanted
        .map(|data| Record {
            name: question.name.clone(),
            ttl: TTL,
            data,
        })
        .collect();
    Answer::Records {
        answers,
        additionals: Vec::new(),
    }
}

fn child<'a>(zone: &Name, labels: impl IntoIterator<Item = &'a str>) -> Result<Name, NameError> {
    Name::from_labels(labels.into_iter().map(str::as_bytes))?.under(zone)
}
