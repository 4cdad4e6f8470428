//! Tables of labels and pods.

use super::{
    checks::{details, violations},
    policy::{Level, Policy, Standard},
};
use serde_json::{Value, json};

fn sentence(level: Level, version: Option<u32>, pod: &Value) -> String {
    details(&violations(Standard { level, version }, pod))
}

#[test]
fn labels_are_read_as_upstream_reads_them() {
    let policy = |pairs: &[(&str, &'static str)]| {
        let (policy, problems) = Policy::read(|key| {
            let short = key.strip_prefix("pod-security.kubernetes.io/").unwrap();
            pairs.iter().find(|(k, _)| *k == short).map(|(_, v)| *v)
        });
        let shown = format!("{} {} {}", policy.enforce, policy.audit, policy.warn);
        (shown, problems.len())
    };
    for (labels, expected, problems) in [
        (&[][..], "privileged:latest privileged:latest privileged:latest", 0),
        (
            &[("enforce", "restricted"), ("enforce-version", "v1.24")],
            "restricted:v1.24 privileged:latest restricted:v1.24",
            0,
        ),
        (
            &[("enforce", "baseline"), ("warn", "privileged"), ("audit", "restricted")],
            "baseline:latest restricted:latest privileged:latest",
            0,
        ),
        (
            &[
                ("enforce", "nonsense"),
                ("warn", "nonsense"),
                ("audit-version", "v1.01"),
            ],
            "restricted:latest privileged:latest privileged:latest",
            3,
        ),
    ] {
        assert_eq!(policy(labels), (expected.to_owned(), problems), "{labels:?}");
    }
}

#[test]
fn pods_are_judged_by_level_and_version() {
    let bare = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
    assert_eq!(sentence(Level::Baseline, None, &bare), "");
    assert_eq!(
        sentence(Level::Restricted, None, &bare),
        "allowPrivilegeEscalation != false (containers \"a\", \"b\" must set securityContext.allowPrivilegeEscalation=false), \
         unrestricted capabilities (containers \"a\", \"b\" must set securityContext.capabilities.drop=[\"ALL\"]), \
         runAsNonRoot != true (pod or containers \"a\", \"b\" must set securityContext.runAsNonRoot=true), \
         seccompProfile (pod or containers \"a\", \"b\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
    // Before 1.8 escalation, before 1.19 profiles and before 1.22 capabilities were nobody's business.
    assert_eq!(
        sentence(Level::Restricted, Some(7), &bare),
        "runAsNonRoot != true (pod or containers \"a\", \"b\" must set securityContext.runAsNonRoot=true)"
    );
    let wild = json!({"metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/a": "unconfined"}},
        "spec": {"hostNetwork": true, "hostPID": true, "volumes": [{"name": "v", "hostPath": {"path": "/"}}],
        "securityContext": {"sysctls": [{"name": "kernel.x"}], "seLinuxOptions": {"type": "spc_t", "user": "u"}},
        "containers": [{"name": "a", "ports": [{"containerPort": 80, "hostPort": 80}],
            "securityContext": {"privileged": true, "procMount": "Unmasked", "capabilities": {"add": ["SYS_ADMIN", "KILL"]},
                "seccompProfile": {"type": "Unconfined"}},
            "livenessProbe": {"httpGet": {"host": "h"}}}]}});
    assert_eq!(
        sentence(Level::Baseline, None, &wild),
        "forbidden AppArmor profile (annotation must not set AppArmor profile type to \"container.apparmor.security.beta.kubernetes.io/a=\"unconfined\"\"), \
         non-default capabilities (container \"a\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add), \
         host namespaces (hostNetwork=true, hostPID=true), hostPath volumes (volume \"v\"), \
         hostPort (container \"a\" uses hostPort 80), \
         probe or lifecycle host (container \"a\" uses probe or lifecycle host \"h\"), \
         privileged (container \"a\" must not set securityContext.privileged=true), \
         procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\"), \
         seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set), \
         seccompProfile (container \"a\" must not set securityContext.seccompProfile.type to \"Unconfined\"), \
         forbidden sysctls (kernel.x)"
    );
    let restricted = sentence(Level::Restricted, None, &wild);
    assert!(restricted.contains("restricted volume types (volume \"v\" uses restricted volume type \"hostPath\")"));
    assert!(!restricted.contains("hostPath volumes"), "{restricted}");
}

#[test]
fn a_careful_pod_meets_every_level() {
    let pod = json!({"spec": {"securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [{"name": "v", "emptyDir": {}}],
        "containers": [{"name": "a", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]}});
    for version in [None, Some(0), Some(19), Some(25), Some(35), Some(99)] {
        assert_eq!(sentence(Level::Restricted, version, &pod), "", "{version:?}");
    }
    let root = json!({"spec": {"hostUsers": false, "securityContext": {"runAsUser": 0, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "a", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]}});
    assert_eq!(sentence(Level::Restricted, Some(35), &root), "");
    assert!(sentence(Level::Restricted, Some(34), &root).contains("runAsUser=0 (pod must not set runAsUser=0)"));
}
