use super::*;
use serde_json::json;

fn gvk(api_version: &str, kind: &str) -> GroupVersionKind {
    strata_meta::GroupVersion::parse(api_version).expect("valid").kind(kind)
}

fn pod(text: &str) -> Result<Decoded, Error> {
    decode(&gvk("v1", "Pod"), text.as_bytes())
}

fn type_error(result: Result<Decoded, Error>) -> String {
    match result {
        Err(Error::Type(message)) => message,
        other => panic!("expected a type error, got {other:?}"),
    }
}

#[test]
fn a_pod_becomes_what_the_go_types_make_of_it() {
    let decoded = pod(r#"{"metadata":{"name":"a","creationTimestamp":null,"labels":{}},
        "spec":{"containers":[{"name":"c","image":"i","args":[],"resources":{"limits":{"cpu":"0.5","memory":1024}}}],
        "nodeName":"","volumes":null,"hostNetwork":false,"terminationGracePeriodSeconds":0}}"#)
    .expect("valid");
    assert_eq!(decoded.strict, Vec::<String>::new());
    assert_eq!(
        decoded.value,
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
            "spec": {"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "500m", "memory": "1024"}}}],
                "terminationGracePeriodSeconds": 0},
            "status": {},
        })
    );
}

#[test]
fn zero_structs_and_nulls_are_shown_where_go_shows_them() {
    let role = decode(
        &gvk("rbac.authorization.k8s.io/v1", "Role"),
        br#"{"metadata":{"name":"r"},"rules":[]}"#,
    );
    assert_eq!(role.expect("valid").value["rules"], Value::Null);
    let deployment = decode(&gvk("apps/v1", "Deployment"), b"{}").expect("valid").value;
    assert_eq!(
        deployment["spec"],
        json!({"selector": null, "strategy": {}, "template": {"metadata": {}, "spec": {"containers": null}}})
    );
    let service = decode(&gvk("v1", "Service"), br#"{"spec":{"ports":[{"port":80}]}}"#)
        .expect("valid")
        .value;
    assert_eq!(service["spec"]["ports"], json!([{"port": 80, "targetPort": 0}]));
    assert_eq!(service["status"], json!({"loadBalancer": {}}));
}

#[test]
fn unknown_and_duplicate_fields_are_reported_with_their_paths() {
    let decoded = pod(
        r#"{"metadata":{"name":"a","labels":{"x":"1","x":"2"}},"foo":{"a":1,"a":2},
        "spec":{"containers":[{"name":"c"},{"name":"d","imag":"i","name":"e"}]}}"#,
    )
    .expect("valid");
    assert_eq!(
        decoded.strict_error().expect("findings"),
        "strict decoding error: duplicate field \"metadata.labels.x\", unknown field \"foo\", \
         unknown field \"spec.containers[1].imag\", duplicate field \"spec.containers[1].name\""
    );
    assert_eq!(decoded.value["spec"]["containers"][1]["name"], "e");
    assert!(decoded.value.get("foo").is_none());
}

#[test]
fn wrong_types_read_as_go_says_them() {
    let cases = [
        (
            r#"{"spec":{"hostNetwork":"yes"}}"#,
            "string into Go struct field PodSpec.spec.hostNetwork of type bool",
        ),
        (
            r#"{"spec":{"containers":{}}}"#,
            "object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            r#"{"spec":{"containers":[1]}}"#,
            "number into Go struct field PodSpec.spec.containers of type v1.Container",
        ),
        (
            r#"{"spec":{"containers":[{"ports":[{"containerPort":"80"}]}]}}"#,
            "string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
        ),
        (
            r#"{"spec":{"containers":[{"ports":[{"containerPort":1.5}]}]}}"#,
            "number 1.5 into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
        ),
        (
            r#"{"metadata":{"labels":{"a":1}}}"#,
            "number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            r#"{"spec":{"containers":[{"imagePullPolicy":true}]}}"#,
            "bool into Go struct field Container.spec.containers.imagePullPolicy of type v1.PullPolicy",
        ),
        (
            r#"{"spec":{"volumes":[{"hostPath":"/"}]}}"#,
            "string into Go struct field Volume.spec.volumes.VolumeSource.hostPath of type v1.HostPathVolumeSource",
        ),
        (
            r#"{"kind":1}"#,
            "number into Go struct field Pod.TypeMeta.kind of type string",
        ),
        ("[]", "array into Go value of type v1.Pod"),
    ];
    for (body, wanted) in cases {
        assert_eq!(
            type_error(pod(body)),
            format!("json: cannot unmarshal {wanted}"),
            "{body}"
        );
    }
}

#[test]
fn malformed_quantities_times_and_base64_are_refused() {
    let body = r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"one"}}}]}}"#;
    assert!(type_error(pod(body)).starts_with("quantities must match the regular expression"));
    let body = r#"{"metadata":{"creationTimestamp":"now"}}"#;
    assert!(type_error(pod(body)).starts_with("parsing time \"now\" as"));
    let secret = decode(&gvk("v1", "Secret"), br#"{"data":{"a":"!"}}"#);
    assert_eq!(type_error(secret), "illegal base64 data at input byte 0");
}

#[test]
fn bytes_that_are_no_json_are_described_as_upstream_does() {
    let cases = [
        ("", "unexpected end of JSON input"),
        ("{", "unexpected end of JSON input"),
        (
            "{a}",
            "invalid character 'a' looking for beginning of object key string",
        ),
        ("{\"a\" 1}", "invalid character '1' after object key"),
        ("{\"a\":1 \"b\"", "invalid character '\"' after object key:value pair"),
        ("[1 2]", "invalid character '2' after array element"),
        ("{} x", "invalid character 'x' after top-level value"),
        ("trux", "invalid character 'x' in literal true (expecting 'e')"),
        ("{\"a\":\"\n\"}", "invalid character '\\n' in string literal"),
        ("01", "invalid character '1' after top-level value"),
        ("-", "unexpected end of JSON input"),
    ];
    for (text, wanted) in cases {
        assert_eq!(syntax_error(text.as_bytes()).as_deref(), Some(wanted), "{text}");
        assert!(serde_json::from_str::<Value>(text).is_err(), "{text}");
    }
    assert_eq!(
        pod("{]"),
        Err(Error::Syntax(
            "invalid character ']' looking for beginning of object key string".into()
        ))
    );
    let deep = "[".repeat(100_000);
    assert_eq!(syntax_error(deep.as_bytes()).as_deref(), Some("exceeded max depth"));
    assert!(identify(deep.as_bytes()).is_err() && pod(&format!("{{\"x\":{deep}")).is_err());
}

#[test]
fn a_body_says_what_it_is() {
    let found = identify(br#"{"apiVersion":"apps/v1","kind":"Deployment","spec":3}"#).expect("valid");
    assert_eq!(
        (found.api_version.as_str(), found.kind.as_str()),
        ("apps/v1", "Deployment")
    );
    let twice = identify(br#"{"kind":"A","kind":"B","apiVersion":null}"#).expect("valid");
    assert_eq!((twice.api_version.as_str(), twice.kind.as_str()), ("", "B"));
    assert_eq!(identify(b" null"), Ok(Identity::default()));
    assert!(
        identify(b"[]")
            .expect_err("no object")
            .to_string()
            .contains("cannot unmarshal array into Go value of type struct")
    );
    let error = identify(b"nope").expect_err("no JSON").to_string();
    assert_eq!(
        error,
        "couldn't get version/kind; json parse error: invalid character 'o' in literal null (expecting 'u')"
    );
}

#[test]
fn untyped_json_reports_duplicate_keys_only() {
    let decoded = decode_untyped(br#"{"a":{"b":1,"b":2},"c":[{"d":1,"d":1}]}"#).expect("valid");
    assert_eq!(
        decoded.strict,
        [r#"duplicate field "a.b""#, r#"duplicate field "c[0].d""#]
    );
    assert_eq!(decoded.value, json!({"a": {"b": 2}, "c": [{"d": 1}]}));
}

#[test]
fn an_object_round_trips_and_pruning_drops_only_the_unknown() {
    let kind = gvk("v1", "Pod");
    let mut value = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "x": 1},
        "spec": {"containers": [{"name": "c", "y": 1}]}});
    prune_unknown(&kind, &mut value);
    assert_eq!(value["spec"]["containers"], json!([{"name": "c"}]));
    normalise(&kind, &mut value).expect("valid");
    let again = decode_check(&kind, &value).expect("valid");
    assert_eq!(again.value, value);
}

#[test]
fn fractions_are_read_to_their_last_digit() {
    for text in [
        "1.5996914150196107",
        "12.886605882746727",
        "1.2345678901234442e121",
        "0.1",
    ] {
        let value = decode_untyped(text.as_bytes()).expect("a number").value;
        assert_eq!(value.as_f64(), text.parse().ok(), "{text}");
    }
}
