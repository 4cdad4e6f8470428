//! The checks as a table: which level and version has which.

use super::{
    checks::{self as c, Check},
    policy::Level::{Baseline, Restricted},
    restricted as r,
};

/// The newest version that changed a check; later ones are the same.
pub(super) const NEWEST: u32 = 35;

/// Baseline checks by name, then restricted ones: the order of sentences.
pub(super) const CHECKS: &[Check] = &[
    Check::new(Baseline, "appArmorProfile", &[(0, c::app_armor)]),
    Check::new(Baseline, "capabilities_baseline", &[(0, c::capabilities_baseline)]),
    Check::new(Baseline, "hostNamespaces", &[(0, c::host_namespaces)]),
    Check::new(Baseline, "hostPathVolumes", &[(0, c::host_paths)]),
    Check::new(Baseline, "hostPorts", &[(0, c::host_ports)]),
    Check::new(Baseline, "hostProbesAndHostLifecycle", &[(34, c::host_probes)]),
    Check::new(Baseline, "privileged", &[(0, c::privileged)]),
    Check::new(Baseline, "procMount", &[(0, c::proc_mount), (35, c::proc_mount_users)]),
    Check::new(
        Baseline,
        "seLinuxOptions",
        &[(0, c::se_linux), (31, c::se_linux_engine)],
    ),
    Check::new(
        Baseline,
        "seccompProfile_baseline",
        &[(0, c::seccomp_annotations), (19, c::seccomp_baseline)],
    ),
    Check::new(
        Baseline,
        "sysctls",
        &[
            (0, c::sysctls_0),
            (27, c::sysctls_27),
            (29, c::sysctls_29),
            (32, c::sysctls_32),
        ],
    ),
    Check::new(Baseline, "windowsHostProcess", &[(0, c::windows_host_process)]),
    Check::new(
        Restricted,
        "allowPrivilegeEscalation",
        &[(8, r::privilege_escalation), (25, r::privilege_escalation_linux)],
    ),
    Check::new(
        Restricted,
        "capabilities_restricted",
        &[(22, c::capabilities_restricted), (25, c::capabilities_restricted_linux)],
    )
    .overriding("capabilities_baseline"),
    Check::new(Restricted, "procMount_restricted", &[(35, c::proc_mount)]).overriding("procMount"),
    Check::new(Restricted, "restrictedVolumes", &[(0, r::restricted_volumes)]).overriding("hostPathVolumes"),
    Check::new(Restricted, "runAsNonRoot", &[(0, r::non_root), (35, r::non_root_users)]),
    Check::new(
        Restricted,
        "runAsUser",
        &[(23, r::run_as_user), (35, r::run_as_user_users)],
    ),
    Check::new(
        Restricted,
        "seccompProfile_restricted",
        &[(19, c::seccomp_restricted), (25, c::seccomp_restricted_linux)],
    )
    .overriding("seccompProfile_baseline"),
];
