use super::*;
use proptest::prelude::*;
use std::fs;

const KUBECONFIG: &str = "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: {server: 'https://127.0.0.1:1/'}}]\nusers: [{name: u, user: {}}]\n";

fn file(authorizers: &[String]) -> String {
    let listed: String = authorizers.iter().map(|a| format!("- {a}\n")).collect();
    format!("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n{listed}")
}

fn webhook(name: &str, path: &Path, rest: &str) -> String {
    format!(
        "{{type: Webhook, name: {name}, webhook: {{timeout: 3s, subjectAccessReviewVersion: v1, failurePolicy: Deny, connectionInfo: {{type: KubeConfigFile, kubeConfigFile: {}}}{rest}}}}}",
        path.display()
    )
}

#[test]
fn a_configuration_is_read_as_upstream_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    fs::write(&path, KUBECONFIG).unwrap();
    let (node, rbac) = (
        "{type: Node, name: node}".to_owned(),
        "{type: RBAC, name: rbac}".to_owned(),
    );
    let conditions =
        ", matchConditionSubjectAccessReviewVersion: v1, matchConditions: [{expression: \"request.user == 'a'\"}]";
    let good = [
        webhook("one.example", &path, conditions),
        node.clone(),
        rbac.clone(),
        webhook("two", &path, ""),
    ];
    let members = parse(&file(&good), &BTreeSet::from(["Node", "RBAC"])).unwrap();
    let names: Vec<&str> = members.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(names, ["one.example", "node", "rbac", "two"]);
    let bad: Vec<(Vec<String>, &str)> = vec![
        (vec![], "at least one authorization mode"),
        (vec![rbac.clone(), rbac.clone()], "authorizers[1].type: Duplicate value"),
        (
            vec!["{type: RBAC, name: other}".into()],
            "expected name rbac for authorizer RBAC instead of other",
        ),
        (vec!["{type: Nonsense, name: n}".into()], "Unsupported value"),
        (vec!["{name: n}".into()], "authorizers[0].type: Required value"),
        (
            vec!["{type: RBAC, name: rbac, webhook: {}}".into()],
            "may only be specified when type=Webhook",
        ),
        (vec!["{type: Webhook, name: w}".into()], "required when type=Webhook"),
        (vec!["{type: RBAC, name: rbac, more: 1}".into()], "more"),
        (
            vec![webhook("w", &path, ""), webhook("w", &path, "")],
            "authorizers[1].name: Duplicate value",
        ),
        (vec![webhook("W", &path, "")], "authorizer name is invalid"),
        (
            vec![webhook("w", Path::new("relative"), "")],
            "must be an absolute path",
        ),
        (vec![webhook("w", Path::new("/nonexistent"), "")], "error loading file"),
        (
            vec![webhook("w", &path, ", matchConditions: [{expression: 'true'}]")],
            "required if match conditions",
        ),
        (
            vec![webhook(
                "w",
                &path,
                &conditions.replace("request.user", "request.nothing"),
            )],
            "compilation failed",
        ),
        (
            vec![webhook("w", &path, "").replace("timeout: 3s", "timeout: 31s")],
            "must be > 0s and <= 30s",
        ),
        (
            vec![webhook("w", &path, "").replace("Deny", "Ignore")],
            "failurePolicy: Unsupported value",
        ),
    ];
    for (authorizers, sentence) in bad {
        let why = parse(&file(&authorizers), &BTreeSet::new()).err().expect(sentence);
        assert!(why.contains(sentence), "{why}");
    }
    let why = parse(&file(&[rbac]), &BTreeSet::from(["Node", "RBAC"])).err().unwrap();
    assert_eq!(why, "missing required types: [Node]");
}

#[tokio::test]
async fn a_changed_file_is_put_in_force_and_a_bad_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("authorization.yaml");
    fs::write(&path, file(&["{type: RBAC, name: rbac}".into()])).unwrap();
    let (nodes, rbac) = (Arc::new(NodeAuthorizer::new()), Arc::new(Rbac::new()));
    let authorization = Authorization::open(nodes, rbac, Some(&path), None).unwrap();
    let user = strata_auth::UserInfo::new("alice", &[]);
    let attributes = Attributes {
        verb: "get",
        resource: "pods",
        ..Attributes::of(&user)
    };
    assert!(!authorization.authorize(&attributes).is_allowed());
    assert_eq!(authorization.look().await, Ok(false));
    fs::write(&path, file(&["{type: AlwaysAllow, name: alwaysallow}".into()])).unwrap();
    assert!(authorization.look().await.is_err(), "RBAC may not vanish");
    let both = [
        "{type: RBAC, name: rbac}".into(),
        "{type: AlwaysAllow, name: alwaysallow}".into(),
    ];
    fs::write(&path, file(&both)).unwrap();
    assert_eq!(authorization.look().await, Ok(true));
    assert!(authorization.authorize(&attributes).is_allowed());
}

proptest! {
    #[test]
    fn any_text_is_a_configuration_or_an_error(text in "\\PC{0,200}") {
        let _ = parse(&text, &BTreeSet::new());
    }
}
