//! Volumes inside a pod: emptyDir, hostPath, configMap, secret, downward API and projected.
//!
//! Not for: persistent volumes, nor for mounting anything into a container (the engine does
//! that from the host paths given here).
//!
//! Start at [`VolumeManager`]; [`payload`] says which files a volume holds (decided from the
//! objects), [`atomic`] how they reach the disk without a reader ever seeing half of them.

pub mod atomic;
mod error;
mod manager;
mod objects;
pub mod payload;
mod spec;

pub use error::VolumeError;
pub use manager::{PodVolumes, VolumeManager, VolumePod};
pub use objects::ObjectCache;
pub use spec::{
    DownwardApi, DownwardApiFile, EmptyDir, FieldRef, HostPath, ImageSource, KeyToPath, KeysSource, Projected,
    Projection, ResourceFieldRef, TokenProjection, Volume,
};
