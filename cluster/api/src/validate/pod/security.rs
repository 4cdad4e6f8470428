//! Security contexts of pods and containers.

use super::Causes;
use crate::validate::{Field, formats::descending_path};
use serde_json::Value;

const MOST: i64 = i32::MAX as i64;

/// `spec.securityContext`.
pub(super) fn pod(spec: &Field<'_>, causes: &mut Causes) {
    let context = spec.at("securityContext");
    for id in ["fsGroup", "runAsUser", "runAsGroup"] {
        context.at(id).within(causes, 0, MOST);
    }
    for group in context.at("supplementalGroups").items() {
        group.within(causes, 0, MOST);
    }
    if spec.at("shareProcessNamespace").flag() && spec.at("hostPID").flag() {
        let shared = context.at("shareProcessNamespace");
        causes.push(shared.invalid_as(true, "ShareProcessNamespace and HostPID cannot both be enabled"));
    }
    sysctls(spec, &context.at("sysctls"), causes);
    context
        .at("fsGroupChangePolicy")
        .if_one_of(causes, &["Always", "OnRootMismatch"]);
    seccomp(&context.at("seccompProfile"), causes);
    app_armor(&context.at("appArmorProfile"), causes);
    context
        .at("supplementalGroupsPolicy")
        .if_one_of(causes, &["Merge", "Strict"]);
    context.at("seLinuxChangePolicy").if_one_of(causes, &["Recursive"]);
}

const SYSCTL: &str = r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

fn sysctls(spec: &Field<'_>, list: &Field<'_>, causes: &mut Causes) {
    let segment = |part: &str| {
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        ends(part.chars().next())
            && ends(part.chars().last())
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
    };
    let mut seen = Vec::new();
    for sysctl in list.items() {
        let name = sysctl.at("name");
        if name.is_empty() {
            causes.push(name.required(""));
        } else if name.text().len() > 253 || !name.text().split(['.', '/']).all(segment) {
            causes.push(name.invalid(format_args!(
                "must have at most 253 characters and match regex {SYSCTL}"
            )));
        } else if seen.contains(&name.text()) {
            causes.push(name.duplicate());
        }
        seen.push(name.text());
        let dotted = name.text().replace('/', ".");
        if spec.at("hostNetwork").flag() && dotted.starts_with("net.") {
            causes.push(name.invalid("may not be specified when 'hostNetwork' is true"));
        }
        let ipc = dotted.starts_with("kernel.shm")
            || dotted.starts_with("kernel.msg")
            || dotted == "kernel.sem"
            || dotted.starts_with("fs.mqueue.");
        if spec.at("hostIPC").flag() && ipc {
            causes.push(name.invalid("may not be specified when 'hostIPC' is true"));
        }
    }
}

fn seccomp(profile: &Field<'_>, causes: &mut Causes) {
    if !profile.is_set() {
        return;
    }
    let (kind, local) = (profile.at("type"), profile.at("localhostProfile"));
    if kind.is_empty() {
        causes.push(kind.required("type is required when seccompProfile is set"));
    } else {
        kind.if_one_of(causes, &["Localhost", "RuntimeDefault", "Unconfined"]);
    }
    if kind.text() != "Localhost" {
        if local.is_set() {
            let shown = format!(
                "{{\"Type\":{},\"LocalhostProfile\":{}}}",
                Value::from(kind.text()),
                local.value()
            );
            causes.push(local.invalid_shown(shown, "can only be set when seccomp type is Localhost"));
        }
    } else if local.is_set() {
        descending_path(&local, causes);
    } else {
        causes.push(local.required("must be set when seccomp type is Localhost"));
    }
}

fn app_armor(profile: &Field<'_>, causes: &mut Causes) {
    if !profile.is_set() {
        return;
    }
    let (kind, local) = (profile.at("type"), profile.at("localhostProfile"));
    match kind.text() {
        "" => causes.push(kind.required("type is required when appArmorProfile is set")),
        "Localhost" if local.text().trim().is_empty() => {
            causes.push(local.required("must be set when AppArmor type is Localhost"));
        }
        "Localhost" if local.text().trim() != local.text() => {
            causes.push(local.invalid("must not be padded with whitespace"));
        }
        "Localhost" => {}
        "RuntimeDefault" | "Unconfined" if local.is_set() => {
            causes.push(local.invalid("can only be set when AppArmor type is Localhost"));
        }
        _ => kind.if_one_of(causes, &["Localhost", "RuntimeDefault", "Unconfined"]),
    }
}

/// `securityContext` of a container.
pub(super) fn container(spec: &Field<'_>, context: &Field<'_>, causes: &mut Causes) {
    for id in ["runAsUser", "runAsGroup"] {
        context.at(id).within(causes, 0, MOST);
    }
    let mount = context.at("procMount");
    mount.if_one_of(causes, &["Default", "Unmasked"]);
    let host_users = spec.at("hostUsers").value() != false;
    if mount.text() == "Unmasked" && host_users {
        causes.push(mount.invalid("`hostUsers` must be false to use `Unmasked`"));
    }
    seccomp(&context.at("seccompProfile"), causes);
    if context.at("allowPrivilegeEscalation").value() == false {
        if context.at("privileged").flag() {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            causes.push(context.invalid(why));
        }
        if context
            .at("capabilities.add")
            .items()
            .any(|c| c.text() == "CAP_SYS_ADMIN")
        {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            causes.push(context.invalid(why));
        }
    }
    app_armor(&context.at("appArmorProfile"), causes);
}

/// `spec.hostUsers: false` and what it does not go with (KEP-127).
pub(super) fn user_namespace(spec: &Field<'_>, causes: &mut Causes) {
    if spec.at("hostUsers").value() != false {
        return;
    }
    let why = "when `hostUsers` is false";
    for (member, shown) in [
        ("hostNetwork", "hostNetwork"),
        ("hostPID", "HostPID"),
        ("hostIPC", "HostIPC"),
    ] {
        let field = spec.at(member);
        if field.flag() {
            causes.push(field.named(format!("{}.{shown}", spec.path())).forbidden(why));
        }
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in spec.at(list).items() {
            let devices = container.at("volumeDevices");
            if !devices.is_empty() {
                causes.push(devices.forbidden(why));
            }
        }
    }
}
