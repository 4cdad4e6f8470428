//! nf_tables: rules as data, and transactions over netlink that apply wholly or not at all.
//!
//! Not for: what the rules should be. Start at [`Batch`]; [`Expression`] is what rules are
//! made of, [`SetSpec`] and [`Element`] what maps are made of.

mod batch;
mod expression;
mod list;
mod set;

pub use batch::{Batch, ChainHook, ChainKind, Family, Hook};
pub use expression::{
    ConntrackKey, Data, DynsetOperation, Expression, FibResult, MetaKey, NatKind, Operator, PayloadBase, Register,
    RejectKind, Verdict,
};
pub use list::{ChainInfo, NftSocket, RuleInfo};
pub use set::{Element, ElementData, KeyType, SetSpec};
