//! The DNS wire format: names, messages, and the few record types this project writes.
//!
//! Not for: sockets, zones or caching. Records of other types are carried as bytes and only
//! valid within the message they came in (their names may be compressed); a forwarder passes
//! whole messages on instead.
//!
//! Start at [`Message`]. Everything read is bounded by the message's own length.

mod message;
mod name;
mod reader;
mod record;
mod writer;

pub use message::{Edns, Message, Question};
pub use name::{Name, NameError};
pub use reader::{ReadError, TtlField, ttl_fields};
pub use record::{Record, RecordData, class, kind, opcode, rcode};
