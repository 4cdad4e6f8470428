//! What placement reads of a pod's volumes.

use serde::Deserialize;

/// The volumes of a pod that may tie it to a node.
#[derive(Debug, Default)]
pub(crate) struct Volumes {
    pub claims: Vec<ClaimUse>,
    pub disks: Vec<Disk>,
}

/// A claim that a pod mounts.
#[derive(Debug)]
pub(crate) struct ClaimUse {
    pub name: Box<str>,
    /// Made for this pod, and named after it.
    pub ephemeral: bool,
}

/// Network disks that are mounted without a claim, whose sharing is limited.
#[derive(Debug)]
pub(crate) enum Disk {
    Gce { name: Box<str>, read_only: bool },
    Aws { id: Box<str> },
    Iscsi { name: Box<str>, read_only: bool },
    Rbd { image: Box<RbdImage>, read_only: bool },
}

/// core/v1 RBDVolumeSource, as far as it tells images apart.
#[derive(Debug)]
pub(crate) struct RbdImage {
    monitors: Vec<String>,
    pool: Box<str>,
    image: Box<str>,
}

impl Volumes {
    /// `None` if no volume ties the pod to a node.
    pub fn read(all: &[RawVolume], pod: &str) -> Option<Self> {
        let mut volumes = Self::default();
        for volume in all {
            if let Some(claim) = &volume.persistent_volume_claim {
                volumes.claims.push(ClaimUse {
                    name: claim.claim_name.as_str().into(),
                    ephemeral: false,
                });
            } else if volume.ephemeral.is_some() {
                volumes.claims.push(ClaimUse {
                    name: format!("{pod}-{}", volume.name).into(),
                    ephemeral: true,
                });
            } else {
                volumes.disks.extend(volume.disk());
            }
        }
        (!volumes.claims.is_empty() || !volumes.disks.is_empty()).then_some(volumes)
    }
}

impl Disk {
    /// Whether one node cannot mount both.
    pub fn conflicts(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Gce { name, read_only },
                Self::Gce {
                    name: held,
                    read_only: also,
                },
            )
            | (
                Self::Iscsi { name, read_only },
                Self::Iscsi {
                    name: held,
                    read_only: also,
                },
            ) => name == held && !(*read_only && *also),
            (Self::Aws { id }, Self::Aws { id: held }) => id == held,
            (
                Self::Rbd { image, read_only },
                Self::Rbd {
                    image: held,
                    read_only: also,
                },
            ) => image.is_same(held) && !(*read_only && *also),
            _ => false,
        }
    }
}

impl RbdImage {
    fn is_same(&self, other: &Self) -> bool {
        let shared = self.monitors.iter().any(|monitor| other.monitors.contains(monitor));
        shared && self.pool == other.pool && self.image == other.image
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RawVolume {
    name: String,
    persistent_volume_claim: Option<RawClaim>,
    ephemeral: Option<serde::de::IgnoredAny>,
    image: Option<RawImage>,
    gce_persistent_disk: Option<RawGce>,
    aws_elastic_block_store: Option<RawAws>,
    iscsi: Option<RawIscsi>,
    rbd: Option<RawRbd>,
}

impl RawVolume {
    /// The image that is mounted.
    pub fn image(&self) -> Option<&str> {
        self.image.as_ref().map(|image| image.reference.as_str())
    }

    fn disk(&self) -> Option<Disk> {
        if let Some(disk) = &self.gce_persistent_disk {
            return Some(Disk::Gce {
                name: disk.pd_name.as_str().into(),
                read_only: disk.read_only,
            });
        }
        if let Some(disk) = &self.aws_elastic_block_store {
            return Some(Disk::Aws {
                id: disk.volume_id.as_str().into(),
            });
        }
        if let Some(disk) = &self.iscsi {
            return Some(Disk::Iscsi {
                name: disk.iqn.as_str().into(),
                read_only: disk.read_only,
            });
        }
        let disk = self.rbd.as_ref()?;
        let image = RbdImage {
            monitors: disk.monitors.clone(),
            pool: disk.pool.as_deref().unwrap_or("rbd").into(),
            image: disk.image.as_str().into(),
        };
        Some(Disk::Rbd {
            image: Box::new(image),
            read_only: disk.read_only,
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawClaim {
    claim_name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawImage {
    reference: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawGce {
    pd_name: String,
    read_only: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawAws {
    #[serde(rename = "volumeID")]
    volume_id: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawIscsi {
    iqn: String,
    read_only: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawRbd {
    monitors: Vec<String>,
    pool: Option<String>,
    image: String,
    read_only: bool,
}
