//! What objects count against a ResourceQuota: which names, how much, under which scopes.
//!
//! Admission asks before a write, the quota controller asks about everything there is; both must come to the same
//! numbers, so the numbers are made here and nowhere else.
//!
//! Not for: reading or writing quotas, and refusing anything.
//!
//! Start at [`Counted`], one row for each kind of object; [`Amounts`] is the arithmetic, [`Scope`] a quota's filter,
//! [`pod`] what containers ask for together.

#![forbid(unsafe_code)]

mod amounts;
mod claims;
mod counted;
pub mod pod;
mod scope;
mod services;
#[cfg(test)]
mod tests;

pub use amounts::Amounts;
pub use counted::{Counted, is_ignored};
pub use scope::Scope;
