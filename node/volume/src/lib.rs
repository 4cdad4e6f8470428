//! Volumes inside a pod: emptyDir, hostPath, configMap, secret, downward API, projected, and what claims are bound to
//! on this node.
//!
//! Not for: binding claims, nor for mounting anything into a container (the engine does
//! that from the host paths given here).
//!
//! Start at [`VolumeManager`]; [`payload`] says which files a volume holds (decided from the
//! objects), [`atomic`] how they reach the disk without a reader ever seeing half of them. [`LocalVolumes`] are those that
//! the node makes on its own disk for claims.

pub mod atomic;
mod error;
mod local;
mod manager;
mod objects;
mod ownership;
pub mod payload;
mod persistent;
mod spec;

pub use error::VolumeError;
pub use local::{LocalKind, LocalVolumes};
pub use manager::{PodVolumes, VolumeManager, VolumePod};
pub use objects::ObjectCache;
pub use spec::{
    ClaimSource, DownwardApi, DownwardApiFile, EmptyDir, Ephemeral, FieldRef, HostPath, ImageSource, KeyToPath,
    KeysSource, Projected, Projection, ResourceFieldRef, TokenProjection, Volume,
};
