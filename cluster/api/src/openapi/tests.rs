use super::*;
use crate::{cache::Cache as Objects, registry::Registry};

fn rows() -> Arc<Rows> {
    Registry::builtin(&Objects::new(), Vec::new()).rows()
}

#[test]
fn a_deletion_is_described_by_what_it_answers_with() {
    let topic = Topic::Builtin(GroupVersion::new("", "v1"));
    let written = topic.write(&rows(), Encoding::Json).expect("written");
    let document: Value = serde_json::from_slice(&written).expect("JSON");
    for (path, answer) in [
        ("pods", "io.k8s.api.core.v1.Pod"),
        ("configmaps", "io.k8s.apimachinery.pkg.apis.meta.v1.Status"),
    ] {
        let delete = &document["paths"][format!("/api/v1/namespaces/{{namespace}}/{path}/{{name}}")]["delete"];
        let schema = &delete["responses"]["200"]["content"]["application/json"]["schema"];
        assert_eq!(schema["$ref"], format!("#/components/schemas/{answer}"));
    }
}

#[test]
fn each_document_has_a_hash_of_its_own() {
    let rows = rows();
    let topics = [
        Topic::Root("api"),
        Topic::Group("apps".into()),
        Topic::Builtin(GroupVersion::new("apps", "v1")),
        Topic::Builtin(GroupVersion::new("batch", "v1")),
    ];
    let mut hashes: Vec<String> = topics.iter().map(|topic| topic.hash(&rows)).collect();
    assert!(hashes.iter().all(|hash| hash.len() == 128));
    hashes.dedup();
    assert_eq!(hashes.len(), topics.len());
}
