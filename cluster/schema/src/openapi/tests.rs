use super::*;
use strata_meta::GroupVersion;

fn document(group: &str, version: &str) -> Value {
    let subject = Subject::of_table(&GroupVersion::new(group, version)).expect("served");
    json_of(&Document::v3(subject, "v1").expect("paths"))
}

fn json_of(document: &Document<'_>) -> Value {
    let mut out = Vec::new();
    document.write_json(&mut out).expect("memory");
    serde_json::from_slice(&out).expect("JSON")
}

fn everything() -> Vec<Subject<'static>> {
    let mut versions: Vec<GroupVersion> = Vec::new();
    let served = crate::Schema::builtin()
        .kinds()
        .iter()
        .filter(|kind| kind.served_by_default);
    for version in served.map(crate::KindInfo::group_version) {
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    let roots = Subject::ROOTS.into_iter().map(Subject::Root);
    versions.iter().filter_map(Subject::of_table).chain(roots).collect()
}

#[test]
fn clients_find_what_they_look_for() {
    let apps = document("apps", "v1");
    let patch = &apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
    assert_eq!(patch["operationId"], "patchAppsV1NamespacedDeployment");
    let parameters = patch["parameters"].as_array().expect("parameters");
    assert!(
        parameters
            .iter()
            .any(|p| p["name"] == "fieldValidation" && p["in"] == "query")
    );
    let content = &patch["requestBody"]["content"];
    assert!(content.get("application/strategic-merge-patch+json").is_some());
    let containers = &apps["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(
        containers["items"]["allOf"][0]["$ref"],
        "#/components/schemas/io.k8s.api.core.v1.Container"
    );
}

fn references<'v>(value: &'v Value, out: &mut Vec<&'v str>) {
    match value {
        Value::Object(members) => {
            out.extend(members.get("$ref").and_then(Value::as_str));
            members.values().for_each(|member| references(member, out));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, out)),
        _ => {}
    }
}

#[test]
fn every_reference_resolves() {
    let older = Document::v2(everything(), "v1", Vec::new());
    let documents = everything()
        .into_iter()
        .map(|subject| Document::v3(subject, "v1").expect("paths"));
    for document in documents.chain([older]) {
        let document = json_of(&document);
        let mut found = Vec::new();
        references(&document, &mut found);
        for reference in found {
            let pointer = reference.strip_prefix('#').expect("of this document");
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }
}

#[test]
fn a_kind_of_a_users_own_may_be_called_like_one_of_the_meta_group() {
    let kind = DescribedKind {
        group: "example.com",
        version: "v1",
        kind: "Status",
        list_kind: "StatusList",
        plural: "statuses",
        namespaced: true,
        custom: true,
        returns_deleted: false,
        verbs: vec!["list", "get", "create"],
        subresources: Vec::new(),
    };
    let schemas: Vec<(String, Lazy<'_>)> =
        vec![("com.example.v1.Status".into(), Box::new(|| json!({"type": "object"})))];
    let document = json_of(&Document::v3(Subject::Custom(vec![kind], schemas), "v1").expect("paths"));
    let get = &document["paths"]["/apis/example.com/v1/namespaces/{namespace}/statuses/{name}"]["get"];
    assert_eq!(
        get["responses"]["200"]["content"]["application/json"]["schema"]["$ref"],
        "#/components/schemas/com.example.v1.Status"
    );
}

#[test]
fn protobuf_has_the_fields_that_clients_read() {
    // kubectl's validation of old looks for a type's name, its properties and their references.
    let schema =
        json!({"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#/definitions/x"}}, "x-k": ["v"]});
    let mut out = Vec::new();
    gnostic::encode_member(&gnostic::v2::DEFINITIONS, "x", &schema, &mut out);
    let reference = [&[0x0a, 15][..], b"#/definitions/x"].concat();
    let property = [&[0x0a, 1, b'a', 0x12, 17], &reference[..]].concat();
    let properties = [&[0xca, 0x01, 24, 0x0a, 22], &property[..]].concat();
    let extension = [
        &[0xfa, 0x01, 15, 0x0a, 3][..],
        b"x-k",
        &[0x12, 8, 0x12, 6],
        b"[\"v\"]\n",
    ]
    .concat();
    let required = [0x9a, 0x01, 1, b'a'];
    let kind = [&[0xb2, 0x01, 8, 0x0a, 6][..], b"object"].concat();
    let parts = [&properties[..], &required, &kind, &extension];
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let inner = [&[0x0a, 1, b'x', 0x12, length as u8][..], &parts.concat()].concat();
    assert_eq!(out, [&[0x0a, inner.len() as u8], &inner[..]].concat());
}
