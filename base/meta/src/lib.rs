//! The Kubernetes nouns: group/version/kind, objects, metadata, quantities,
//! selectors, times and status errors.
//!
//! Not for: knowledge about any one kind (that is data, in `cluster/schema`), HTTP,
//! or anything that waits. Everything here is plain data and pure functions.
//!
//! Start at [`Object`], the one shared copy of an API object, then [`Status`], the
//! one error shape that clients see.

mod duration;
mod intorstring;
pub mod json;
mod kind;
mod metadata;
pub mod names;
mod object;
pub mod placement;
mod quantity;
pub mod selector;
mod status;
mod time;
mod uid;

pub use duration::GoDuration;
pub use intorstring::IntOrString;
pub use kind::{GroupKind, GroupResource, GroupVersion, GroupVersionKind, GroupVersionResource};
pub use metadata::{ObjectMeta, OwnerReference};
pub use object::{Object, ObjectKey, Revision, WatchEvent};
pub use object::{ObjectError, encode_body};
pub use quantity::{Quantity, QuantityError};
pub use selector::{FieldSelector, LabelSelector, Selector};
pub use status::{Reason, Status, StatusCause, StatusDetails};
pub use time::{MicroTime, Time};
pub use uid::Uid;
