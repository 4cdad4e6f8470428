//! The chains of the service table.
//!
//! A first packet's way: its (address, protocol, port) is looked up in `frontends`, which gives the
//! number of endpoints, a class, a pool and a second pool. `classes` leads to the class's chain. A class is a way of
//! balancing, shared by all services that balance alike (same number of endpoints, same masquerade,
//! same affinity), so a service needs no chain of its own: its changes touch map elements only, and
//! the kernel need not check the rules again. The chain draws a number below the pool's size, finds
//! (pool, number) in `endpoints`, and translates the destination.
//!
//! ```text
//! frontends  address . protocol . port  : size . class . pool . inside pool    (address 0.0.0.0: node port)
//! classes    class                      : goto chain
//! endpoints  pool . number              : address . port
//! affinity   pool . client              : address . port                 (with timeouts)
//! refused, dropped, restricted           address . protocol . port
//! sources    address . protocol . port . client range
//! hairpin    address . address
//! ```
//!
//! The `nft` program (seen in 1.0.6) aborts when it lists a rule that uses what a map gave as key or data
//! of another set: it takes the length of such a value to be 0. It attributes a map's data to the first
//! register only, so the first field of `frontends` is for readers, the fields behind it are the
//! keys, and their registers are filled with something of a known length beforehand. What is shown
//! instead is explained by a comment of the rule.

use std::net::{IpAddr, Ipv4Addr};

use strata_net::Cidr;
use strata_net::nft::{
    Batch, ChainHook, ChainKind, ConntrackKey, Data, DynsetOperation, Expression, FibResult, Hook, KeyType, MetaKey,
    NatKind, Operator, PayloadBase, Register, RejectKind, SetSpec, Verdict,
};

use crate::Error;
use crate::plan::Masquerade;

pub(crate) const FRONTENDS: &str = "frontends";
pub(crate) const CLASSES: &str = "classes";
pub(crate) const ENDPOINTS: &str = "endpoints";
pub(crate) const AFFINITY: &str = "affinity";
pub(crate) const REFUSED: &str = "refused";
pub(crate) const DROPPED: &str = "dropped";
pub(crate) const RESTRICTED: &str = "restricted";
pub(crate) const SOURCES: &str = "sources";
pub(crate) const HAIRPIN: &str = "hairpin";

/// The bit that upstream's proxy uses for the same purpose.
const MASQUERADE_MARK: u32 = 0x4000;
/// Clients remembered for affinity, over all services; more get no affinity.
const AFFINITY_SIZE: u32 = 262_144;
const DESTINATION_NAT: i32 = -100;
const SOURCE_NAT: i32 = 100;
const RTN_LOCAL: u32 = 2;
const CONNTRACK_NEW: u32 = 8;
const CONNTRACK_DESTINATION_CHANGED: u32 = 0x20;

/// Registers: the frontend's key, what `frontends` says of it, and the rest.
const KEY: Register = Register(0);
const SIZE: Register = Register(3);
const CLASS: Register = Register(4);
const POOL: Register = Register(5);
/// Where a lookup in `frontends` puts its data so that the inside pool is in `POOL`.
const SIZE_FOR_INSIDE: Register = Register(2);
/// Beside `POOL` for (pool, number) and (pool, client).
const BESIDE_POOL: Register = Register(6);
const TARGET: Register = Register(7);
const TARGET_PORT: Register = Register(8);
const BEFORE_REMEMBERED: Register = Register(9);
/// The target once more, as data of `affinity`.
const REMEMBERED: Register = Register(10);
const REMEMBERED_PORT: Register = Register(11);
const SCRATCH: Register = Register(14);

/// What `nft` shows with a rule that it cannot show as it is.
const COMMENT: &str = "0x0 is the number found in @frontends";

/// What the tables of a node depend on besides services.
#[derive(Debug, Clone)]
pub struct TablesOptions {
    /// The nftables table.
    pub table: String,
    /// The range of all pods.
    pub cluster_cidr: Cidr,
    /// The range of all cluster addresses: what is not translated is refused.
    pub service_cidr: Option<Cidr>,
    /// Node ports are offered on local addresses in these ranges; empty: on every address but loopback.
    pub node_port_addresses: Vec<Cidr>,
}

/// A way of balancing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Class {
    pub(crate) node_port: bool,
    pub(crate) masquerade: Masquerade,
    /// Endpoints in the pool; none: only clients inside are served.
    pub(crate) size: u32,
    /// Endpoints in the pool for clients inside the cluster.
    pub(crate) inside: Option<u32>,
    pub(crate) affinity: Option<u32>,
}

impl Class {
    /// The chain's name; it says what the class is.
    pub(crate) fn chain(&self) -> String {
        let frontend = if self.node_port { "node" } else { "address" };
        let masquerade = match self.masquerade {
            Masquerade::Never => "kept",
            Masquerade::Outside => "outside",
            Masquerade::Always => "masked",
        };
        let inside = self.inside.map(|size| format!("-inside-{size}")).unwrap_or_default();
        let sticky = self
            .affinity
            .map(|seconds| format!("-sticky-{seconds}"))
            .unwrap_or_default();
        format!("{frontend}-{masquerade}-{}{inside}{sticky}", self.size)
    }

    /// The chain's rules.
    pub(crate) fn rules(&self, cluster: Cidr) -> Result<Vec<Vec<Expression>>, Error> {
        let mut rules = Vec::new();
        if let Some(size) = self.inside {
            // Clients inside the cluster are not held to this node's endpoints (KEP-1669); the
            // host's own packets may come from an address that pods on other nodes do not answer.
            let from_pods = source_in(cluster, Operator::Equal)?;
            let from_host = fib(FibResult::SourceType);
            rules.push([from_host.clone(), mark()].concat());
            for from in [from_pods, from_host] {
                self.balance(&mut rules, &from, size, true);
            }
        }
        match self.masquerade {
            Masquerade::Never => {}
            Masquerade::Outside => rules.push([source_in(cluster, Operator::NotEqual)?, mark()].concat()),
            Masquerade::Always => rules.push(mark()),
        }
        self.balance(&mut rules, &[], self.size, false);
        Ok(rules)
    }

    /// Rules that choose an endpoint of the pool for packets that meet the condition.
    fn balance(&self, rules: &mut Vec<Vec<Expression>>, condition: &[Expression], size: u32, inside: bool) {
        if size == 0 {
            return;
        }
        let mut found = condition.to_vec();
        found.extend(frontend(self.node_port));
        let data = if inside { SIZE_FOR_INSIDE } else { SIZE };
        found.extend([placeholder(POOL), lookup(FRONTENDS, KEY, Data::Register(data))]);
        if let Some(seconds) = self.affinity {
            let remembered = [client(BESIDE_POOL), lookup(AFFINITY, POOL, Data::Register(TARGET))];
            rules.push([&found[..], &remembered, &remember(seconds), &[translate()]].concat());
        }
        let mut chosen = found;
        chosen.extend([
            Expression::Number {
                to: BESIDE_POOL,
                modulus: size,
                random: true,
            },
            lookup(ENDPOINTS, POOL, Data::Register(TARGET)),
        ]);
        if let Some(seconds) = self.affinity {
            rules.push([&chosen[..], &[client(BESIDE_POOL)], &remember(seconds), &[translate()]].concat());
        }
        // Also what is left when a client cannot be remembered because the map is full.
        chosen.push(translate());
        rules.push(chosen);
    }
}

/// The empty table: every map, and the chains that lead to them.
pub(crate) fn install(batch: &mut Batch, options: &TablesOptions, replace: bool) -> Result<(), Error> {
    use KeyType::{Ipv4, Number, Port, Protocol};
    if replace {
        batch.delete_table();
    }
    batch.add_table();
    let key = [Ipv4, Protocol, Port];
    batch.add_set(&SetSpec::map(FRONTENDS, &key, &[Number, Number, Number, Number]));
    batch.add_set(&SetSpec::verdict_map(CLASSES, &[Number]));
    batch.add_set(&SetSpec::map(ENDPOINTS, &[Number, Number], &[Ipv4, Port]));
    let affinity = SetSpec::map(AFFINITY, &[Number, Ipv4], &[Ipv4, Port]);
    batch.add_set(&SetSpec {
        dynamic: true,
        size: Some(AFFINITY_SIZE),
        ..affinity
    });
    for set in [REFUSED, DROPPED, RESTRICTED] {
        batch.add_set(&SetSpec::set(set, &key));
    }
    let sources = SetSpec::set(SOURCES, &[Ipv4, Protocol, Port, Ipv4]);
    batch.add_set(&SetSpec {
        intervals: true,
        ..sources
    });
    batch.add_set(&SetSpec::set(HAIRPIN, &[Ipv4, Ipv4]));
    install_translation(batch, options)?;
    install_refusal(batch, options)
}

fn install_translation(batch: &mut Batch, options: &TablesOptions) -> Result<(), Error> {
    let node_ports = node_port_conditions(options)?;
    batch.add_chain("services", None);
    let dispatch = [
        placeholder(CLASS),
        lookup(FRONTENDS, KEY, Data::Register(SIZE)),
        lookup(CLASSES, CLASS, Data::Verdict),
    ];
    add_rule(batch, "services", &[&frontend(false)[..], &dispatch].concat());
    for condition in &node_ports {
        add_rule(batch, "services", &[condition, &frontend(true)[..], &dispatch].concat());
    }
    let hook = |kind, hook, priority| {
        Some(ChainHook {
            kind,
            hook,
            priority,
            drops: false,
        })
    };
    for (chain, at) in [("prerouting", Hook::Prerouting), ("output", Hook::Output)] {
        batch.add_chain(chain, hook(ChainKind::Nat, at, DESTINATION_NAT));
        batch.add_rule(chain, &[Expression::Verdict(Verdict::Jump("services".into()))]);
    }
    batch.add_chain("postrouting", hook(ChainKind::Nat, Hook::Postrouting, SOURCE_NAT));
    let itself = [
        address(12, SCRATCH),
        address(16, Register(15)),
        lookup(HAIRPIN, SCRATCH, Data::None),
    ];
    batch.add_rule("postrouting", &[itself.to_vec(), vec![Expression::Masquerade]].concat());
    let marked = [
        Expression::Meta {
            key: MetaKey::Mark,
            to: SCRATCH,
        },
        masked(MASQUERADE_MARK),
        Expression::Compare {
            from: SCRATCH,
            operator: Operator::NotEqual,
            with: vec![0; 4],
        },
        Expression::Masquerade,
    ];
    batch.add_rule("postrouting", &marked);
    Ok(())
}

/// Refusal looks at packets after translation: what was translated has another destination by then.
fn install_refusal(batch: &mut Batch, options: &TablesOptions) -> Result<(), Error> {
    let tcp = [
        Expression::Meta {
            key: MetaKey::Layer4Protocol,
            to: SCRATCH,
        },
        Expression::Compare {
            from: SCRATCH,
            operator: Operator::Equal,
            with: vec![6],
        },
        Expression::Reject(RejectKind::TcpReset),
    ];
    batch.add_chain("refuse", None).add_rule("refuse", &tcp);
    batch.add_rule("refuse", &[Expression::Reject(RejectKind::PortUnreachable)]);
    batch.add_chain("unserved", None);
    let mut conditions = vec![(Vec::new(), false)];
    conditions.extend(
        node_port_conditions(options)?
            .into_iter()
            .map(|condition| (condition, true)),
    );
    for (condition, node_port) in conditions {
        let key = [condition, frontend(node_port)].concat();
        let refuse = [
            lookup(REFUSED, KEY, Data::None),
            Expression::Verdict(Verdict::Goto("refuse".into())),
        ];
        let drop = [lookup(DROPPED, KEY, Data::None), Expression::Verdict(Verdict::Drop)];
        batch.add_rule("unserved", &[&key[..], &refuse].concat());
        batch.add_rule("unserved", &[&key[..], &drop].concat());
    }
    if let Some(range) = options.service_cidr {
        let unknown = destination_in(range, Operator::Equal)?;
        batch.add_rule(
            "unserved",
            &[unknown, vec![Expression::Verdict(Verdict::Goto("refuse".into()))]].concat(),
        );
    }
    let hook = |hook, priority| {
        Some(ChainHook {
            kind: ChainKind::Filter,
            hook,
            priority,
            drops: false,
        })
    };
    let mut untranslated = conntrack_bits(ConntrackKey::State, CONNTRACK_NEW, Operator::NotEqual);
    untranslated.extend(conntrack_bits(
        ConntrackKey::Status,
        CONNTRACK_DESTINATION_CHANGED,
        Operator::Equal,
    ));
    untranslated.push(Expression::Verdict(Verdict::Jump("unserved".into())));
    for (chain, at) in [
        ("input", Hook::Input),
        ("forward", Hook::Forward),
        ("host-output", Hook::Output),
    ] {
        batch.add_chain(chain, hook(at, 0)).add_rule(chain, &untranslated);
    }
    // Sources are checked before translation hides which frontend was asked for.
    batch.add_chain("guard", hook(Hook::Prerouting, DESTINATION_NAT - 10));
    let mut guard = conntrack_bits(ConntrackKey::State, CONNTRACK_NEW, Operator::NotEqual);
    guard.extend(frontend(false));
    guard.extend([lookup(RESTRICTED, KEY, Data::None), client(Register(3))]);
    guard.push(Expression::Lookup {
        set: SOURCES.into(),
        from: KEY,
        to: Data::None,
        invert: true,
    });
    guard.push(Expression::Verdict(Verdict::Drop));
    batch.add_rule("guard", &guard);
    Ok(())
}

/// Adds a rule, with a comment if it uses `frontends`.
pub(crate) fn add_rule(batch: &mut Batch, chain: &str, rule: &[Expression]) {
    let dispatches = |step: &Expression| matches!(step, Expression::Lookup { set, .. } if set == FRONTENDS);
    if rule.iter().any(dispatches) {
        batch.add_commented_rule(chain, rule, COMMENT);
    } else {
        batch.add_rule(chain, rule);
    }
}

/// Loads the key of `frontends`.
fn frontend(node_port: bool) -> Vec<Expression> {
    let destination = if node_port {
        Expression::Immediate {
            to: KEY,
            value: vec![0; 4],
        }
    } else {
        address(16, KEY)
    };
    vec![
        destination,
        Expression::Meta {
            key: MetaKey::Layer4Protocol,
            to: Register(1),
        },
        destination_port(Register(2)),
    ]
}

/// What a packet to a node port must meet, each alternative a rule of its own.
fn node_port_conditions(options: &TablesOptions) -> Result<Vec<Vec<Expression>>, Error> {
    let local = fib(FibResult::DestinationType);
    if options.node_port_addresses.is_empty() {
        let loopback = Cidr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8)?;
        return Ok(vec![[destination_in(loopback, Operator::NotEqual)?, local].concat()]);
    }
    let ranges = options.node_port_addresses.iter();
    ranges
        .map(|range| Ok([destination_in(*range, Operator::Equal)?, local.clone()].concat()))
        .collect()
}

fn lookup(set: &str, from: Register, to: Data) -> Expression {
    Expression::Lookup {
        set: set.to_owned(),
        from,
        to,
        invert: false,
    }
}

fn address(offset: u32, to: Register) -> Expression {
    Expression::Payload {
        base: PayloadBase::Network,
        offset,
        length: 4,
        to,
    }
}

fn destination_port(to: Register) -> Expression {
    Expression::Payload {
        base: PayloadBase::Transport,
        offset: 2,
        length: 2,
        to,
    }
}

fn client(to: Register) -> Expression {
    address(12, to)
}

fn remember(seconds: u32) -> Vec<Expression> {
    // Copied from the register before, so that `nft` shows the data as what it stands for: the
    // destination.
    let copy = Expression::Bitwise {
        from: BESIDE_POOL,
        to: BEFORE_REMEMBERED,
        mask: vec![0xff; 12],
        xor: vec![0; 12],
    };
    let update = Expression::Dynset {
        set: AFFINITY.to_owned(),
        operation: DynsetOperation::Update,
        key: POOL,
        data: Some(REMEMBERED),
        timeout_ms: Some(u64::from(seconds) * 1000),
    };
    vec![address(16, REMEMBERED), destination_port(REMEMBERED_PORT), copy, update]
}

/// A number, to be replaced by a map's data behind the first field.
fn placeholder(to: Register) -> Expression {
    Expression::Immediate { to, value: vec![0; 4] }
}

fn translate() -> Expression {
    Expression::Nat {
        kind: NatKind::Destination,
        address: TARGET,
        port: Some(TARGET_PORT),
    }
}

fn mark() -> Vec<Expression> {
    let bit = MASQUERADE_MARK;
    vec![
        Expression::Meta {
            key: MetaKey::Mark,
            to: SCRATCH,
        },
        Expression::Bitwise {
            from: SCRATCH,
            to: SCRATCH,
            mask: (!bit).to_ne_bytes().to_vec(),
            xor: bit.to_ne_bytes().to_vec(),
        },
        Expression::SetMark { from: SCRATCH },
    ]
}

fn masked(bits: u32) -> Expression {
    Expression::Bitwise {
        from: SCRATCH,
        to: SCRATCH,
        mask: bits.to_ne_bytes().to_vec(),
        xor: vec![0; 4],
    }
}

fn conntrack_bits(key: ConntrackKey, bits: u32, compared_to_zero: Operator) -> Vec<Expression> {
    vec![
        Expression::Conntrack { key, to: SCRATCH },
        masked(bits),
        Expression::Compare {
            from: SCRATCH,
            operator: compared_to_zero,
            with: vec![0; 4],
        },
    ]
}

fn fib(result: FibResult) -> Vec<Expression> {
    let local = RTN_LOCAL.to_ne_bytes().to_vec();
    vec![
        Expression::Fib { result, to: SCRATCH },
        Expression::Compare {
            from: SCRATCH,
            operator: Operator::Equal,
            with: local,
        },
    ]
}

fn source_in(range: Cidr, operator: Operator) -> Result<Vec<Expression>, Error> {
    address_in(12, range, operator)
}

fn destination_in(range: Cidr, operator: Operator) -> Result<Vec<Expression>, Error> {
    address_in(16, range, operator)
}

fn address_in(offset: u32, range: Cidr, operator: Operator) -> Result<Vec<Expression>, Error> {
    let IpAddr::V4(network) = range.network() else {
        return Err(Error::Family(range.to_string()));
    };
    let mask = u32::MAX.checked_shl(32 - u32::from(range.prefix())).unwrap_or(0);
    Ok(vec![
        address(offset, SCRATCH),
        Expression::Bitwise {
            from: SCRATCH,
            to: SCRATCH,
            mask: mask.to_be_bytes().to_vec(),
            xor: vec![0; 4],
        },
        Expression::Compare {
            from: SCRATCH,
            operator,
            with: network.octets().to_vec(),
        },
    ])
}
