//! What a request asks for, read from its path and query before anything else looks at it.

mod info;
mod limit;
mod query;

pub(crate) use info::RequestInfo;
pub(crate) use limit::time_limit;
pub(crate) use query::{Query, encode_component, number};
