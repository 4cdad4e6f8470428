use super::*;

fn document(group: &str, version: &str) -> Value {
    openapi_v3(&GroupVersion::new(group, version)).expect("served")
}

#[test]
fn the_index_names_every_version_with_its_hash() {
    let index = openapi_v3_index();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
        .as_str()
        .expect("a path");
    assert!(
        url.starts_with("/openapi/v3/apis/apps/v1?hash=") && url.len() > 40,
        "{url}"
    );
    assert!(index["paths"].get("api/v1").is_some());
    assert!(index["paths"].get("apis/storage.k8s.io/v1beta1").is_none());
    assert!(openapi_v3(&GroupVersion::new("example.com", "v1")).is_none());
}

#[test]
fn clients_find_what_they_look_for() {
    let apps = document("apps", "v1");
    let patch = &apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
    let parameters = patch["parameters"].as_array().expect("parameters");
    assert!(
        parameters
            .iter()
            .any(|p| p["name"] == "fieldValidation" && p["in"] == "query")
    );
    assert!(
        patch["requestBody"]["content"]
            .get("application/strategic-merge-patch+json")
            .is_some()
    );
    let containers = &apps["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(
        containers["items"]["allOf"][0]["$ref"],
        "#/components/schemas/io.k8s.api.core.v1.Container"
    );
}

#[test]
fn every_reference_resolves() {
    fn references(value: &Value, out: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                out.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|member| references(member, out));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, out)),
            _ => {}
        }
    }
    for version in served_versions() {
        let document = openapi_v3(&version).expect("served");
        let mut found = Vec::new();
        references(&document, &mut found);
        for reference in found {
            let name = reference.strip_prefix("#/components/schemas/").expect("a schema");
            assert!(
                document["components"]["schemas"].get(name).is_some(),
                "{version}: {name}"
            );
        }
    }
}
