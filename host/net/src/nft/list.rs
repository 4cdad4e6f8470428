//! The socket that transactions go through, and questions about what is there.

use rustix::net::netlink::NETFILTER;

use super::batch::{Batch, Family, SUBSYSTEM};
use super::set::{Element, ElementData};
use crate::Error;
use crate::netlink::{Attributes, MessageWriter, Socket, be32, be64};

const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;

/// A chain as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainInfo {
    /// Its table's family.
    pub family: Family,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// (hook number, priority) of a base chain.
    pub hook: Option<(u32, i32)>,
    /// Packets that reach the end of it are dropped.
    pub drops: bool,
}

/// A rule as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleInfo {
    /// By which it can be removed.
    pub handle: u64,
    /// The comment, if user space left one.
    pub comment: Option<String>,
}

/// An nf_tables socket in one network namespace.
#[derive(Debug)]
pub struct NftSocket {
    socket: Socket,
}

impl NftSocket {
    /// A socket in the calling thread's network namespace.
    pub fn open() -> Result<Self, Error> {
        let socket = Socket::open(Some(NETFILTER), 0)?;
        socket.enlarge()?;
        Ok(Self { socket })
    }

    /// Applies a transaction. Errors: the first request that the kernel refused; then nothing changed.
    pub fn apply(&mut self, batch: Batch) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        let (bytes, what) = batch.finish()?;
        self.socket.transact(&bytes, |sequence| {
            let index = (sequence as usize).wrapping_sub(1);
            what.get(index)
                .cloned()
                .unwrap_or_else(|| "commit an nftables transaction".into())
        })
    }

    /// The names of all tables of a family.
    pub fn tables(&mut self, family: Family) -> Result<Vec<String>, Error> {
        let mut tables = Vec::new();
        self.list(
            1,
            family,
            "list tables",
            |_| {},
            |_, attributes| {
                tables.extend(attributes.text(1).map(str::to_owned));
            },
        )?;
        Ok(tables)
    }

    /// All chains of a family.
    pub fn chains(&mut self, family: Family) -> Result<Vec<ChainInfo>, Error> {
        let mut chains = Vec::new();
        self.list(
            4,
            family,
            "list chains",
            |_| {},
            |_, attributes| {
                let hook = attributes
                    .nested(4)
                    .and_then(|hook| Some((hook.get(1).and_then(be32)?, hook.get(2).and_then(be32)? as i32)));
                if let (Some(table), Some(name)) = (attributes.text(1), attributes.text(3)) {
                    let drops = hook.is_some() && attributes.get(5).and_then(be32) == Some(0);
                    chains.push(ChainInfo {
                        family,
                        table: table.to_owned(),
                        name: name.to_owned(),
                        hook,
                        drops,
                    });
                }
            },
        )?;
        Ok(chains)
    }

    /// All rules of a chain.
    pub fn rules(&mut self, family: Family, table: &str, chain: &str) -> Result<Vec<RuleInfo>, Error> {
        let mut rules = Vec::new();
        let narrow = |w: &mut MessageWriter| {
            w.text(1, table);
            w.text(2, chain);
        };
        self.list(7, family, "list rules", narrow, |_, attributes| {
            if let Some(handle) = attributes.get(3).and_then(be64) {
                rules.push(RuleInfo {
                    handle,
                    comment: attributes.get(7).and_then(comment),
                });
            }
        })?;
        Ok(rules)
    }

    /// All elements of a set or map (verdicts are not decoded).
    pub fn elements(&mut self, family: Family, table: &str, set: &str) -> Result<Vec<Element>, Error> {
        let mut elements = Vec::new();
        let narrow = |w: &mut MessageWriter| {
            w.text(1, table);
            w.text(2, set);
        };
        self.list(13, family, "list elements", narrow, |_, attributes| {
            for (_, element) in attributes.nested(3).into_iter().flatten() {
                elements.extend(element_of(Attributes::of(element)));
            }
        })?;
        Ok(elements)
    }

    fn list(
        &mut self,
        kind: u16,
        family: Family,
        what: &str,
        narrow: impl FnOnce(&mut MessageWriter),
        mut each: impl FnMut(u16, Attributes<'_>),
    ) -> Result<(), Error> {
        let mut writer = MessageWriter::new();
        let sequence = self.socket.next_sequence();
        writer.message(SUBSYSTEM | kind, NLM_F_REQUEST | NLM_F_DUMP, sequence, |w| {
            w.bytes(&[family as u8, 0, 0, 0]);
            narrow(w);
        });
        self.socket
            .dump(&writer, what, |kind, body| each(kind, Attributes::after(body, 4)))
    }
}

fn element_of(attributes: Attributes<'_>) -> Option<Element> {
    let key = attributes.nested(1)?.get(1)?;
    let data = match attributes.nested(2).and_then(|data| data.get(1)) {
        Some(value) => ElementData::Value(value.to_vec()),
        None => ElementData::None,
    };
    let key_end = attributes.nested(10).and_then(|end| end.get(1)).map(<[u8]>::to_vec);
    Some(Element {
        key: key.to_vec(),
        key_end,
        data,
        timeout_ms: attributes.get(4).and_then(be64),
    })
}

/// The comment among a rule's user data (type, length, value triples).
fn comment(mut data: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = data {
        let value = rest.get(..usize::from(*length))?;
        if *kind == 0 {
            let text = value.strip_suffix(&[0]).unwrap_or(value);
            return String::from_utf8(text.to_vec()).ok();
        }
        data = &rest[value.len()..];
    }
    None
}
