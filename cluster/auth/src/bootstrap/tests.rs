use super::*;
use std::{collections::BTreeSet, path::PathBuf};

/// Upstream's own list, if the Go module cache has it.
fn upstream() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join("go"));
    let cache = std::env::var_os("GOMODCACHE").map(PathBuf::from);
    let root = cache.or_else(|| Some(std::env::var_os("GOPATH").map(PathBuf::from).or(home)?.join("pkg/mod")))?;
    let path = root.join("k8s.io/kubernetes@v1.36.3/plugin/pkg/auth/authorizer/rbac/bootstrappolicy/testdata");
    path.is_dir().then_some(path)
}

#[test]
fn the_rows_are_upstreams_default_policy() {
    let Some(directory) = upstream() else {
        eprintln!("skipped: upstream's testdata is not in the module cache");
        return;
    };
    let files = [
        "cluster-roles",
        "controller-roles",
        "namespace-roles",
        "cluster-role-bindings",
        "controller-role-bindings",
        "namespace-role-bindings",
    ];
    let mut wanted = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(directory.join(format!("{file}.yaml"))).expect("readable");
        let list: Value = serde_saphyr::from_str(&text).expect("YAML");
        for mut object in list["items"].as_array().expect("items").clone() {
            if object["rules"].is_null() && object.get("rules").is_some() {
                object["rules"] = json!([]);
            }
            wanted.insert(object.to_string());
        }
    }
    let is_upstreams = |object: &Value| {
        let own = OWN_CONTROLLER_ROLES.iter().map(|role| role.name);
        own.into_iter().all(|name| object["metadata"]["name"] != name)
    };
    let ours: BTreeSet<String> = bootstrap_policy()
        .into_iter()
        .filter(is_upstreams)
        .map(|mut object| {
            if object.get("aggregationRule").is_some() {
                object["rules"] = json!([]);
            }
            object.to_string()
        })
        .collect();
    let missing: Vec<_> = wanted.difference(&ours).collect();
    let surplus: Vec<_> = ours.difference(&wanted).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "missing {missing:#?}\nsurplus {surplus:#?}"
    );
}

#[test]
fn admin_contains_edit_and_edit_contains_view() {
    let policy = bootstrap_policy();
    let rules = |name: &str| -> Vec<PolicyRule> {
        let role = policy
            .iter()
            .find(|o| o["kind"] == "ClusterRole" && o["metadata"]["name"] == name)
            .expect("there");
        serde_json::from_value(role["rules"].clone()).expect("rules")
    };
    for (large, small) in [("admin", "edit"), ("edit", "view"), ("cluster-admin", "admin")] {
        assert_eq!(
            crate::uncovered(&rules(large), &rules(small)),
            vec![],
            "{large} lacks what {small} has"
        );
        assert!(
            !crate::uncovered(&rules(small), &rules(large)).is_empty(),
            "{small} has all that {large} has"
        );
    }
}
