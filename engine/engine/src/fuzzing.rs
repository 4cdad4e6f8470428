//! Entry points for fuzzing: what is asked for, up to the specification that a shim is given. Nothing is made.

use crate::record::SandboxRecord;
use crate::run::plan;
use crate::spec::{SandboxFiles, build, limits};
use crate::{ContainerConfig, PidNamespace, Resources, SandboxConfig};
use std::path::Path;
use strata_runtime::spec::Spec;

/// A sandbox that was found sound.
pub struct Sound(SandboxRecord);

/// Looks at what a sandbox is asked to be; nothing if it is refused. Its record survives being written and read.
pub fn sandbox(config: SandboxConfig) -> Option<Sound> {
    let record = plan(config).ok()?.record;
    let text = serde_json::to_vec(&record).expect("records are written as JSON");
    let read: SandboxRecord = serde_json::from_slice(&text).expect("what was written is read");
    assert_eq!(read.cgroup_parent, record.cgroup_parent);
    Some(Sound(record))
}

/// Builds the specification of a container in it, which survives the protocol spoken with shims.
pub fn container(sandbox: &Sound, config: &ContainerConfig, unified: bool) {
    let files = SandboxFiles {
        hostname: "/run/hostname".into(),
        resolv_conf: None,
        shm: "/run/shm".into(),
    };
    let pid = (config.pid != PidNamespace::Own).then(|| "/proc/1/ns/pid".to_owned());
    let cgroup = format!("{}/c", sandbox.0.cgroup_parent);
    let Ok(spec) = build(&sandbox.0, &files, config, Path::new("/rootfs"), cgroup, unified, pid) else {
        return;
    };
    let text = serde_json::to_vec(&spec).expect("specifications are written as JSON");
    let read: Spec = serde_json::from_slice(&text).expect("what was written is read");
    let again = serde_json::to_vec(&read).expect("specifications are written as JSON");
    assert_eq!(text, again, "a specification changes on its way to the shim");
}

/// Limits in the runtime's form.
pub fn resources(resources: &Resources) {
    let _ = limits(resources);
}
