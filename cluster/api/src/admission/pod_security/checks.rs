//! What each check forbids. A pod or template is looked at as it is: metadata and spec.

use super::{
    levels::{CHECKS, NEWEST},
    policy::{Level, Standard},
};
use crate::json;
use serde_json::Value;
use std::collections::BTreeSet;

/// Why a pod is forbidden, and by what.
pub(super) type Violation = (String, String);
/// Looks at a pod or template.
pub(super) type Look = fn(&Value) -> Option<Violation>;

/// One check in all its versions.
pub(super) struct Check {
    level: Level,
    id: &'static str,
    versions: &'static [(u32, Look)],
    overrides: &'static str,
}

impl Check {
    pub(super) const fn new(level: Level, id: &'static str, versions: &'static [(u32, Look)]) -> Self {
        Self {
            level,
            id,
            versions,
            overrides: "",
        }
    }

    /// The baseline check whose place it takes.
    pub(super) const fn overriding(mut self, id: &'static str) -> Self {
        self.overrides = id;
        self
    }

    fn at(&self, version: u32) -> Option<Look> {
        self.versions
            .iter()
            .rev()
            .find(|(since, _)| *since <= version)
            .map(|(_, look)| *look)
    }
}

/// What a pod or template violates of a standard.
pub(super) fn violations(standard: Standard, pod: &Value) -> Vec<Violation> {
    if standard.level == Level::Privileged {
        return Vec::new();
    }
    let version = standard.version.unwrap_or(NEWEST).min(NEWEST);
    let strict = standard.level == Level::Restricted;
    let overridden = |id: &str| strict && CHECKS.iter().any(|c| c.overrides == id && c.at(version).is_some());
    CHECKS
        .iter()
        .filter(|check| check.level <= standard.level && !overridden(check.id))
        .filter_map(|check| check.at(version)?(pod))
        .collect()
}

/// The reasons in one line.
pub(super) fn reasons(violations: &[Violation]) -> String {
    violations
        .iter()
        .map(|(reason, _)| reason.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}

/// The reasons with their details in one line.
pub(super) fn details(violations: &[Violation]) -> String {
    let one = |(reason, detail): &Violation| match detail.as_str() {
        "" => reason.clone(),
        detail => format!("{reason} ({detail})"),
    };
    violations.iter().map(one).collect::<Vec<_>>().join(", ")
}

pub(super) fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["spec.initContainers", "spec.containers", "spec.ephemeralContainers"];
    lists.into_iter().flat_map(|list| json::list(pod, list))
}

pub(super) fn name(container: &Value) -> String {
    json::text(container, "name").to_owned()
}

/// Names of containers that are as described.
pub(super) fn named(pod: &Value, is: impl Fn(&Value) -> bool) -> Vec<String> {
    containers(pod).filter(|c| is(c)).map(name).collect()
}

pub(super) fn quoted<'a>(items: impl IntoIterator<Item = &'a String>) -> String {
    let items: Vec<String> = items.into_iter().map(|i| format!("\"{i}\"")).collect();
    items.join(", ")
}

pub(super) fn plural<'a>(count: usize, one: &'a str, many: &'a str) -> &'a str {
    if count == 1 { one } else { many }
}

/// `container "a"`, `containers "a", "b"`.
pub(super) fn those(names: &[String]) -> String {
    format!("{} {}", plural(names.len(), "container", "containers"), quoted(names))
}

/// `pod and container "a"`.
pub(super) fn setters(pod_does: bool, names: &[String]) -> String {
    let pod = pod_does.then(|| "pod".to_owned());
    let containers = (!names.is_empty()).then(|| those(names));
    pod.into_iter().chain(containers).collect::<Vec<_>>().join(" and ")
}

pub(super) fn violation(reason: impl Into<String>, detail: impl Into<String>) -> Option<Violation> {
    Some((reason.into(), detail.into()))
}

pub(super) fn has_own_users(pod: &Value) -> bool {
    json::get(pod, "spec.hostUsers") == Some(&Value::Bool(false))
}

pub(super) fn is_windows(pod: &Value) -> bool {
    json::text(pod, "spec.os.name") == "windows"
}

pub(super) fn app_armor(pod: &Value) -> Option<Violation> {
    let mut values = BTreeSet::new();
    let mut bad = |profile: Option<&Value>| {
        let kind = profile.map(|p| json::text(p, "type"));
        let bad = kind.filter(|k| !matches!(*k, "RuntimeDefault" | "Localhost"));
        values.extend(bad.map(str::to_owned));
        bad.is_some()
    };
    let pod_does = bad(json::get(pod, "spec.securityContext.appArmorProfile"));
    let mut names = Vec::new();
    for container in containers(pod) {
        if bad(json::get(container, "securityContext.appArmorProfile")) {
            names.push(name(container));
        }
    }
    let annotations: Vec<String> = json::members(pod, "metadata.annotations")
        .filter(|(key, _)| key.starts_with("container.apparmor.security.beta.kubernetes.io/"))
        .map(|(key, value)| (key, value.as_str().unwrap_or_default()))
        .filter(|(_, v)| !v.is_empty() && *v != "runtime/default" && !v.starts_with("localhost/"))
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    let mut who = setters(pod_does, &names);
    if !annotations.is_empty() {
        let word = plural(annotations.len(), "annotation", "annotations");
        who = if who.is_empty() {
            word.to_owned()
        } else {
            format!("{who} and {word}")
        };
    }
    if who.is_empty() {
        return None;
    }
    let all: Vec<String> = values.into_iter().chain(annotations).collect();
    violation(
        plural(all.len(), "forbidden AppArmor profile", "forbidden AppArmor profiles"),
        format!("{who} must not set AppArmor profile type to {}", quoted(&all)),
    )
}

fn texts<'v>(value: &'v Value, path: &str) -> impl Iterator<Item = &'v str> {
    json::list(value, path).iter().filter_map(Value::as_str)
}

/// Containers that add other capabilities than allowed, and which.
fn added(pod: &Value, allowed: &[&str]) -> (Vec<String>, BTreeSet<String>) {
    let mut found = BTreeSet::new();
    let mut names = Vec::new();
    for container in containers(pod) {
        let bad = texts(container, "securityContext.capabilities.add").filter(|c| !allowed.contains(c));
        let bad: Vec<String> = bad.map(str::to_owned).collect();
        if !bad.is_empty() {
            names.push(name(container));
        }
        found.extend(bad);
    }
    (names, found)
}

pub(super) fn capabilities_baseline(pod: &Value) -> Option<Violation> {
    const ALLOWED: [&str; 13] = [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let (names, found) = added(pod, &ALLOWED);
    if names.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not include {} in securityContext.capabilities.add",
        those(&names),
        quoted(&found)
    );
    violation("non-default capabilities", detail)
}

pub(super) fn capabilities_restricted(pod: &Value) -> Option<Violation> {
    let keeping = named(pod, |c| {
        !texts(c, "securityContext.capabilities.drop").any(|d| d == "ALL")
    });
    let (names, found) = added(pod, &["NET_BIND_SERVICE"]);
    let mut parts = Vec::new();
    if !keeping.is_empty() {
        let who = those(&keeping);
        parts.push(format!("{who} must set securityContext.capabilities.drop=[\"ALL\"]"));
    }
    if !names.is_empty() {
        let (who, what) = (those(&names), quoted(&found));
        parts.push(format!(
            "{who} must not include {what} in securityContext.capabilities.add"
        ));
    }
    if parts.is_empty() {
        return None;
    }
    violation("unrestricted capabilities", parts.join("; "))
}

pub(super) fn capabilities_restricted_linux(pod: &Value) -> Option<Violation> {
    if is_windows(pod) {
        None
    } else {
        capabilities_restricted(pod)
    }
}

pub(super) fn host_namespaces(pod: &Value) -> Option<Violation> {
    let set: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|field| json::flag(pod, &format!("spec.{field}")))
        .map(|field| format!("{field}=true"))
        .collect();
    if set.is_empty() {
        return None;
    }
    violation("host namespaces", set.join(", "))
}

pub(super) fn host_paths(pod: &Value) -> Option<Violation> {
    let volumes = json::list(pod, "spec.volumes").iter();
    let names: Vec<String> = volumes
        .filter(|v| json::get(v, "hostPath").is_some())
        .map(name)
        .collect();
    if names.is_empty() {
        return None;
    }
    let detail = format!("{} {}", plural(names.len(), "volume", "volumes"), quoted(&names));
    violation("hostPath volumes", detail)
}

pub(super) fn host_ports(pod: &Value) -> Option<Violation> {
    let mut ports = BTreeSet::new();
    let mut names = Vec::new();
    for container in containers(pod) {
        let own: Vec<i64> = json::list(container, "ports")
            .iter()
            .filter_map(|p| json::int(p, "hostPort").filter(|n| *n != 0))
            .collect();
        if !own.is_empty() {
            names.push(name(container));
        }
        ports.extend(own.into_iter().map(|n| n.to_string()));
    }
    if names.is_empty() {
        return None;
    }
    let list: Vec<String> = ports.into_iter().collect();
    let detail = format!(
        "{} {} {} {}",
        those(&names),
        plural(names.len(), "uses", "use"),
        plural(list.len(), "hostPort", "hostPorts"),
        list.join(", ")
    );
    violation("hostPort", detail)
}

pub(super) fn host_probes(pod: &Value) -> Option<Violation> {
    const HANDLERS: [&str; 5] = [
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle.postStart",
        "lifecycle.preStop",
    ];
    let (mut names, mut hosts) = (BTreeSet::new(), BTreeSet::new());
    for container in containers(pod) {
        for handler in HANDLERS {
            for action in ["httpGet", "tcpSocket"] {
                let host = json::text(container, &format!("{handler}.{action}.host"));
                if !host.is_empty() {
                    names.insert(name(container));
                    hosts.insert(host.to_owned());
                }
            }
        }
    }
    if names.is_empty() {
        return None;
    }
    let list: Vec<String> = names.into_iter().collect();
    let detail = format!(
        "{} {} {} {}",
        those(&list),
        plural(list.len(), "uses", "use"),
        plural(hosts.len(), "probe or lifecycle host", "probe or lifecycle hosts"),
        quoted(&hosts)
    );
    violation("probe or lifecycle host", detail)
}

pub(super) fn privileged(pod: &Value) -> Option<Violation> {
    let names = named(pod, |c| json::flag(c, "securityContext.privileged"));
    if names.is_empty() {
        return None;
    }
    let detail = format!("{} must not set securityContext.privileged=true", those(&names));
    violation("privileged", detail)
}

pub(super) fn proc_mount(pod: &Value) -> Option<Violation> {
    let kind = |c: &Value| json::text(c, "securityContext.procMount").to_owned();
    let is_bad = |c: &Value| !matches!(kind(c).as_str(), "" | "Default");
    let names = named(pod, is_bad);
    if names.is_empty() {
        return None;
    }
    let kinds: BTreeSet<String> = containers(pod).filter(|c| is_bad(c)).map(kind).collect();
    let detail = format!(
        "{} must not set securityContext.procMount to {}",
        those(&names),
        quoted(&kinds)
    );
    violation("procMount", detail)
}

pub(super) fn proc_mount_users(pod: &Value) -> Option<Violation> {
    if has_own_users(pod) { None } else { proc_mount(pod) }
}

fn se_linux_with(pod: &Value, allowed: &[&str]) -> Option<Violation> {
    let (mut types, mut user, mut role) = (BTreeSet::new(), false, false);
    let mut bad = |options: Option<&Value>| {
        let Some(options) = options else { return false };
        let kind = json::text(options, "type");
        let bad_type = !allowed.contains(&kind);
        if bad_type {
            types.insert(kind.to_owned());
        }
        let (sets_user, sets_role) = (
            !json::text(options, "user").is_empty(),
            !json::text(options, "role").is_empty(),
        );
        user |= sets_user;
        role |= sets_role;
        bad_type || sets_user || sets_role
    };
    let pod_does = bad(json::get(pod, "spec.securityContext.seLinuxOptions"));
    let mut names = Vec::new();
    for container in containers(pod) {
        if bad(json::get(container, "securityContext.seLinuxOptions")) {
            names.push(name(container));
        }
    }
    if !pod_does && names.is_empty() {
        return None;
    }
    let mut what = Vec::new();
    if !types.is_empty() {
        what.push(format!("{} {}", plural(types.len(), "type", "types"), quoted(&types)));
    }
    if user {
        what.push("user may not be set".into());
    }
    if role {
        what.push("role may not be set".into());
    }
    let who = setters(pod_does, &names);
    let detail = format!(
        "{who} set forbidden securityContext.seLinuxOptions: {}",
        what.join("; ")
    );
    violation("seLinuxOptions", detail)
}

pub(super) fn se_linux(pod: &Value) -> Option<Violation> {
    se_linux_with(pod, &["", "container_t", "container_init_t", "container_kvm_t"])
}

pub(super) fn se_linux_engine(pod: &Value) -> Option<Violation> {
    let allowed = [
        "",
        "container_t",
        "container_init_t",
        "container_kvm_t",
        "container_engine_t",
    ];
    se_linux_with(pod, &allowed)
}

pub(super) fn seccomp_annotations(pod: &Value) -> Option<Violation> {
    let mut keys = vec!["seccomp.security.alpha.kubernetes.io/pod".to_owned()];
    keys.extend(containers(pod).map(|c| format!("container.seccomp.security.alpha.kubernetes.io/{}", name(c))));
    let annotations = json::get(pod, "metadata.annotations");
    let found: BTreeSet<String> = keys
        .iter()
        .filter_map(|key| Some((key, annotations?.get(key)?.as_str()?)))
        .filter(|(_, v)| !matches!(*v, "runtime/default" | "docker/default") && !v.starts_with("localhost/"))
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    if found.is_empty() {
        return None;
    }
    let list: Vec<String> = found.into_iter().collect();
    let detail = format!(
        "forbidden {} {}",
        plural(list.len(), "annotation", "annotations"),
        list.join(", ")
    );
    violation("seccompProfile", detail)
}

fn seccomp(pod: &Value, must: bool) -> Option<Violation> {
    let kind = |at: Option<&Value>| at.map(|p| json::text(p, "type").to_owned());
    let is_good = |kind: &String| matches!(kind.as_str(), "RuntimeDefault" | "Localhost");
    let of_pod = kind(json::get(pod, "spec.securityContext.seccompProfile"));
    let of = |c: &Value| kind(json::get(c, "securityContext.seccompProfile"));
    let pod_does = of_pod.as_ref().is_some_and(|k| !is_good(k));
    let names = named(pod, |c| of(c).is_some_and(|k| !is_good(&k)));
    if pod_does || !names.is_empty() {
        let all = of_pod.into_iter().chain(containers(pod).filter_map(of));
        let values: BTreeSet<String> = all.filter(|k| !is_good(k)).collect();
        let who = setters(pod_does, &names);
        let detail = format!(
            "{who} must not set securityContext.seccompProfile.type to {}",
            quoted(&values)
        );
        return violation("seccompProfile", detail);
    }
    let silent = named(pod, |c| of(c).is_none());
    if !must || of_pod.is_some() || silent.is_empty() {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
        those(&silent)
    );
    violation("seccompProfile", detail)
}

pub(super) fn seccomp_baseline(pod: &Value) -> Option<Violation> {
    seccomp(pod, false)
}

pub(super) fn seccomp_restricted(pod: &Value) -> Option<Violation> {
    seccomp(pod, true)
}

pub(super) fn seccomp_restricted_linux(pod: &Value) -> Option<Violation> {
    if is_windows(pod) { None } else { seccomp(pod, true) }
}

/// Sysctls that the baseline allows, by the version that did, oldest first.
const SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

fn sysctls(pod: &Value, allowed: &[&str]) -> Option<Violation> {
    let list = json::list(pod, "spec.securityContext.sysctls").iter();
    let bad: Vec<String> = list.map(name).filter(|n| !allowed.contains(&n.as_str())).collect();
    if bad.is_empty() {
        return None;
    }
    violation("forbidden sysctls", bad.join(", "))
}

pub(super) fn sysctls_0(pod: &Value) -> Option<Violation> {
    sysctls(pod, &SYSCTLS[..5])
}

pub(super) fn sysctls_27(pod: &Value) -> Option<Violation> {
    sysctls(pod, &SYSCTLS[..6])
}

pub(super) fn sysctls_29(pod: &Value) -> Option<Violation> {
    sysctls(pod, &SYSCTLS[..10])
}

pub(super) fn sysctls_32(pod: &Value) -> Option<Violation> {
    sysctls(pod, &SYSCTLS)
}

pub(super) fn windows_host_process(pod: &Value) -> Option<Violation> {
    let names = named(pod, |c| json::flag(c, "securityContext.windowsOptions.hostProcess"));
    let who = setters(
        json::flag(pod, "spec.securityContext.windowsOptions.hostProcess"),
        &names,
    );
    if who.is_empty() {
        return None;
    }
    let detail = format!("{who} must not set securityContext.windowsOptions.hostProcess=true");
    violation("hostProcess", detail)
}
