//! Kinds that are defined at run time, as people meet them through kubectl.

use strata_e2e::{Kubectl, Server};

const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: crontabs.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: crontabs, singular: crontab, kind: CronTab, shortNames: [ct], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    schema: &schema
      openAPIV3Schema:
        type: object
        description: Something that happens again and again.
        properties:
          spec:
            type: object
            description: What is wanted.
            required: [cronSpec]
            x-kubernetes-validations:
            - {rule: "!has(self.replicas) || self.replicas <= self.most", message: more replicas than there may be}
            - {rule: "self.most == oldSelf.most", fieldPath: .most, reason: FieldValueForbidden}
            properties:
              cronSpec: {type: string, pattern: '^[a-z0-9* ]+$'}
              image: {type: string, default: busybox}
              replicas: {type: integer, minimum: 1}
              most: {type: integer, default: 10}
          status:
            type: object
            properties: {replicas: {type: integer}, selector: {type: string}}
    subresources: &subresources
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas, labelSelectorPath: .status.selector}
    additionalPrinterColumns: &columns
    - {name: Spec, type: string, jsonPath: .spec.cronSpec}
    - {name: Replicas, type: integer, jsonPath: .spec.replicas}
    selectableFields: &fields [{jsonPath: .spec.image}]
  - name: v2
    served: true
    storage: false
    schema: *schema
    subresources: *subresources
    additionalPrinterColumns: *columns
    selectableFields: *fields
"#;

const OBJECT: &str = "
apiVersion: stable.example.com/v1
kind: CronTab
metadata: {name: tab}
spec: {cronSpec: '* * 5', replicas: 3}
";

#[test]
fn a_kind_that_is_defined_is_a_kind_like_any() {
    let server = Server::start(&["--no-node"]);
    let k = server.kubectl();
    k.apply(DEFINITION);
    k.ok("wait --for=condition=Established crd/crontabs.stable.example.com --timeout=10s");
    objects_are_kept(&k);
    bad_objects_are_refused(&k);
    parts_are_written_apart(&k);
    versions_show_the_same(&k);
    fields_are_explained(&k);
    definitions_go_with_their_objects(&k);
}

fn objects_are_kept(k: &Kubectl) {
    assert!(k.apply(OBJECT).contains("created"));
    assert!(k.apply(OBJECT).contains("unchanged"));
    let table = k.ok("get ct");
    let mut words = table.split_whitespace();
    assert!(words.by_ref().take(3).eq(["NAME", "SPEC", "REPLICAS"]), "{table}");
    assert_eq!(k.ok("get ct tab -o jsonpath={.spec.image}"), "busybox");
    assert!(k.ok("get all").contains("crontab.stable.example.com/tab"));
    assert!(
        k.ok("get ct --field-selector spec.image=busybox -o name")
            .contains("tab")
    );
    assert_eq!(k.ok("get ct --field-selector spec.image=other -o name"), "");
}

fn bad_objects_are_refused(k: &Kubectl) {
    for (from, to, sentence) in [
        (
            "'* * 5'",
            "'A'",
            r#"spec.cronSpec in body should match '^[a-z0-9* ]+$'"#,
        ),
        (
            "replicas: 3",
            "replicas: 0",
            "spec.replicas in body should be greater than or equal to 1",
        ),
        (
            "replicas: 3",
            "replicas: x",
            r#"spec.replicas in body must be of type integer: "string""#,
        ),
        ("replicas: 3", "replicas: 30", "more replicas than there may be"),
        ("replicas: 3", "most: 11", "spec.most: Forbidden"),
        ("replicas: 3", "other: 3", r#"unknown field "spec.other""#),
    ] {
        let run = k.run_with_input("apply -f -", &OBJECT.replace(from, to));
        assert!(run.code != 0 && run.stderr.contains(sentence), "{to}: {run:?}");
    }
    let definition = DEFINITION.replace("self.most == oldSelf.most", "self.nothing == 1");
    let run = k.run_with_input("apply -f -", &definition);
    assert!(run.stderr.contains("undefined field 'nothing'"), "{run:?}");
}

fn parts_are_written_apart(k: &Kubectl) {
    k.ok(r#"patch ct tab --subresource=status --type=merge -p {"status":{"replicas":2,"selector":"a=b"},"spec":{"replicas":9}}"#);
    k.ok("scale ct tab --replicas=4");
    let shown = k.ok("get ct tab -o jsonpath={.metadata.generation}:{.spec.replicas}:{.status.replicas}");
    assert_eq!(shown, "2:4:2");
    let run = k.run("patch ct tab --type=strategic -p {}");
    assert_ne!(run.code, 0, "{run:?}");
    let applied = k.run_with_input("apply --server-side --field-manager=other -f -", OBJECT);
    assert!(applied.stderr.contains("conflict"), "{applied:?}");
}

fn versions_show_the_same(k: &Kubectl) {
    let newer = k.ok("get crontabs.v2.stable.example.com tab -o jsonpath={.apiVersion}:{.spec.replicas}");
    assert_eq!(newer, "stable.example.com/v2:4");
    let moved = DEFINITION
        .replace("storage: true", "storage: later")
        .replace("storage: false", "storage: true");
    k.apply(&moved.replace("storage: later", "storage: false"));
    assert_eq!(k.ok("get ct tab -o jsonpath={.spec.replicas}"), "4");
    k.ok("annotate ct tab moved=yes");
    let stored = k.ok("get crd crontabs.stable.example.com -o jsonpath={.status.storedVersions}");
    assert_eq!(stored, r#"["v1","v2"]"#);
}

fn fields_are_explained(k: &Kubectl) {
    k.until("explain crontabs.spec", |text| text.contains("cronSpec"));
    assert!(k.ok("explain crontabs").contains("again and again"));
}

fn definitions_go_with_their_objects(k: &Kubectl) {
    k.ok("patch ct tab --type=merge -p {\"metadata\":{\"finalizers\":[\"example.com/hold\"]}}");
    k.ok("delete crd crontabs.stable.example.com --wait=false");
    let run = k.run_with_input("create -f -", &OBJECT.replace("tab}", "late}"));
    assert!(run.stderr.contains("terminating"), "{run:?}");
    k.ok("patch ct tab --type=merge -p {\"metadata\":{\"finalizers\":null}}");
    k.ok("wait --for=delete crd/crontabs.stable.example.com --timeout=10s");
    assert_ne!(k.run("get crontabs").code, 0);
    k.apply(DEFINITION);
    k.ok("wait --for=condition=Established crd/crontabs.stable.example.com --timeout=10s");
    assert_eq!(k.ok("get crontabs -o name"), "");
}
