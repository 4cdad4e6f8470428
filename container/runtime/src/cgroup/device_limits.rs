//! Limits by device, page size or interface: huge pages, remote memory access, network marks, weights of disks.

use super::Cgroup;
use super::limits::{Need, set};
use crate::error::{Error, Result};
use crate::spec::{BlockIo, Rdma, Resources};
use alloc::{format, string::String, string::ToString};

pub(super) fn apply(cgroup: &Cgroup, resources: &Resources) -> Result<()> {
    let unified = cgroup.layout().is_unified();
    for page in &resources.hugepage_limits {
        if page.page_size.contains(['/', '.']) {
            return Err(Error::Invalid(format!("bad huge page size {:?}", page.page_size)));
        }
        let (size, limit) = (&page.page_size, page.limit.to_string());
        let name = if unified { "max" } else { "limit_in_bytes" };
        set(
            cgroup,
            "hugetlb",
            &format!("hugetlb.{size}.{name}"),
            &limit,
            Need::Required,
        )?;
        // Reservations are counted since Linux 5.7.
        set(
            cgroup,
            "hugetlb",
            &format!("hugetlb.{size}.rsvd.{name}"),
            &limit,
            Need::Wished,
        )?;
    }
    for (device, limits) in &resources.rdma {
        set(cgroup, "rdma", "rdma.max", &rdma(device, limits)?, Need::Required)?;
    }
    let Some(network) = &resources.network else {
        return Ok(());
    };
    if unified {
        return Err(Error::Invalid("linux.resources.network needs cgroup v1".into()));
    }
    if let Some(class) = network.class_id.filter(|&class| class != 0) {
        set(cgroup, "net_cls", "net_cls.classid", &class.to_string(), Need::Required)?;
    }
    for entry in &network.priorities {
        let line = format!("{} {}", entry.name, entry.priority);
        set(cgroup, "net_prio", "net_prio.ifpriomap", &line, Need::Required)?;
    }
    Ok(())
}

fn rdma(device: &str, limits: &Rdma) -> Result<String> {
    if device.is_empty() || device.contains(char::is_whitespace) {
        return Err(Error::Invalid(format!("bad rdma device {device:?}")));
    }
    let mut line = String::from(device);
    for (key, value) in [("hca_handle", limits.hca_handles), ("hca_object", limits.hca_objects)] {
        if let Some(value) = value {
            line += &format!(" {key}={value}");
        }
    }
    Ok(line)
}

/// Not all schedulers of disks know weights, and not all kernels the leaf's.
pub(super) fn weights_v1(cgroup: &Cgroup, block_io: &BlockIo) -> Result<()> {
    let bfq = cgroup
        .directory("blkio")
        .is_some_and(|directory| strata_sys::file::exists(&*format!("{directory}/blkio.bfq.weight")));
    let (plain, by_device) = if bfq {
        ("blkio.bfq.weight", "blkio.bfq.weight_device")
    } else {
        ("blkio.weight", "blkio.weight_device")
    };
    if let Some(weight) = block_io.weight.filter(|&weight| weight != 0) {
        set(cgroup, "blkio", plain, &weight.to_string(), Need::Wished)?;
    }
    if let Some(weight) = block_io.leaf_weight.filter(|&weight| weight != 0) {
        set(cgroup, "blkio", "blkio.leaf_weight", &weight.to_string(), Need::Wished)?;
    }
    for entry in &block_io.weight_device {
        for (knob, weight) in [
            (by_device, entry.weight),
            ("blkio.leaf_weight_device", entry.leaf_weight),
        ] {
            if let Some(weight) = weight.filter(|&weight| weight != 0) {
                let line = format!("{}:{} {weight}", entry.major, entry.minor);
                set(cgroup, "blkio", knob, &line, Need::Required)?;
            }
        }
    }
    Ok(())
}

pub(super) fn weights_v2(cgroup: &Cgroup, block_io: &BlockIo) -> Result<()> {
    for entry in &block_io.weight_device {
        if let Some(weight) = entry.weight.filter(|&weight| weight != 0) {
            let line = format!("{}:{} {weight}", entry.major, entry.minor);
            set(cgroup, "io", "io.bfq.weight", &line, Need::Required)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_rdma_names_what_is_limited() {
        let limits = Rdma {
            hca_handles: Some(3),
            hca_objects: None,
        };
        assert_eq!(rdma("mlx5_1", &limits).unwrap(), "mlx5_1 hca_handle=3");
        assert!(rdma("a b", &limits).is_err());
        assert!(rdma("", &limits).is_err());
    }
}
