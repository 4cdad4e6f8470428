//! What schemas do to values, as tables.

use super::*;
use serde_json::json;
use strata_meta::GroupVersionKind;

fn schema() -> Structural {
    Structural::parse(&json!({
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["size"],
                "properties": {
                    "size": {"type": "integer", "minimum": 1, "maximum": 10, "default": 3},
                    "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
                    "mode": {"type": "string", "enum": ["a", "b"]},
                    "port": {"x-kubernetes-int-or-string": true},
                    "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                    "items": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                        "items": {"type": "object", "required": ["k"],
                            "properties": {"k": {"type": "string"}, "v": {"type": "integer", "nullable": true}}}},
                    "embedded": {"type": "object", "x-kubernetes-embedded-resource": true,
                        "x-kubernetes-preserve-unknown-fields": true},
                }
            }
        }
    }))
}

fn problems(new: Value, old: Option<Value>) -> Vec<String> {
    let mut causes = Vec::new();
    schema().validate(&new, old.as_ref(), &mut causes);
    causes
        .into_iter()
        .map(|c| format!("{}: {}", c.field, c.message))
        .collect()
}

#[test]
fn what_is_not_declared_goes_and_is_told() {
    let gvk = GroupVersionKind::new("g.io", "v1", "K");
    let body = br#"{"metadata":{"name":"a","foo":1},"x":1,"spec":{"size":2.0,"size":2,"bad":{},"open":{"free":[1]},
        "embedded":{"apiVersion":"v1","kind":"X","metadata":{"nope":1},"spec":{"y":1}},"items":[{"k":"a","z":1,"v":null}],"name":null}}"#;
    let decoded = schema().decode(&gvk, body).expect("decodes");
    assert_eq!(
        decoded.strict,
        [
            r#"duplicate field "spec.size""#,
            r#"unknown field "metadata.foo""#,
            r#"unknown field "spec.bad""#,
            r#"unknown field "spec.items[0].z""#,
            r#"unknown field "x""#,
            r#"unknown field "spec.embedded.metadata.nope""#,
        ]
    );
    assert_eq!(
        decoded.value,
        json!({"apiVersion": "g.io/v1", "kind": "K", "metadata": {"name": "a"}, "spec": {
            "size": 2, "open": {"free": [1]}, "items": [{"k": "a", "v": null}],
            "embedded": {"apiVersion": "v1", "kind": "X", "metadata": {}, "spec": {"y": 1}}}})
    );
}

#[test]
fn defaults_fill_what_is_open_and_nulls_that_may_not_be() {
    let mut value = json!({"spec": {"size": null}});
    schema().apply_defaults(&mut value);
    assert_eq!(value, json!({"spec": {"size": 3}}));
    let mut value = json!({});
    schema().apply_defaults(&mut value);
    assert_eq!(value, json!({}));
}

#[test]
fn problems_are_told_in_upstreams_words() {
    for (spec, expected) in [
        (json!({"size": 5, "port": 80, "mode": "a"}), vec![]),
        (json!({}), vec!["spec.size: Required value"]),
        (
            json!({"size": "x"}),
            vec![r#"spec.size: Invalid value: "string": spec.size in body must be of type integer: "string""#],
        ),
        (
            json!({"size": 11}),
            vec!["spec.size: Invalid value: 11: spec.size in body should be less than or equal to 10"],
        ),
        (
            json!({"size": 0}),
            vec!["spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"],
        ),
        (
            json!({"size": 1, "name": "A"}),
            vec![r#"spec.name: Invalid value: "A": spec.name in body should match '^[a-z]+$'"#],
        ),
        (
            json!({"size": 1, "name": "abcdef"}),
            vec!["spec.name: Too long: may not be more than 5 bytes"],
        ),
        (
            json!({"size": 1, "mode": "c"}),
            vec![r#"spec.mode: Unsupported value: "c": supported values: "a", "b""#],
        ),
        (
            json!({"size": 1, "port": true}),
            vec![r#"spec.port: Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean""#],
        ),
        (
            json!({"size": 1, "labels": {"a": 1}}),
            vec![r#"spec.labels.a: Invalid value: "integer": spec.labels.a in body must be of type string: "integer""#],
        ),
        (
            json!({"size": 1, "items": [{}]}),
            vec!["spec.items[0].k: Required value"],
        ),
    ] {
        assert_eq!(problems(json!({"spec": spec}), None), expected);
    }
}

#[test]
fn what_was_wrong_before_may_stay() {
    let old = json!({"spec": {"size": 11, "items": [{"k": "a", "v": "x"}]}});
    let mut new = json!({"spec": {"size": 11, "mode": "a", "items": [{"k": "b"}, {"k": "a", "v": "x"}]}});
    assert!(problems(new.clone(), Some(old.clone())).is_empty());
    new["spec"]["size"] = json!(12);
    assert_eq!(problems(new, Some(old)).len(), 1);
}

#[test]
fn alternatives_are_checked() {
    let schema = Structural::parse(&json!({"type": "object", "properties": {
        "a": {"type": "integer", "anyOf": [{"minimum": 5}, {"maximum": 1}]},
        "b": {"type": "string", "oneOf": [{"pattern": "^x"}, {"pattern": "y$"}]},
        "c": {"type": "string", "not": {"enum": ["no"]}}}}));
    let run = |value: Value| {
        let mut causes = Vec::new();
        schema.validate(&value, None, &mut causes);
        causes.into_iter().map(|c| c.message).collect::<Vec<_>>()
    };
    assert!(run(json!({"a": 0, "b": "x", "c": "yes"})).is_empty());
    assert_eq!(
        run(json!({"a": 3}))[0],
        r#"Invalid value: "": "a" must validate at least one schema (anyOf)"#
    );
    assert_eq!(
        run(json!({"b": "xy"})),
        [r#"Invalid value: "": "b" must validate one and only one schema (oneOf). Found 2 valid alternatives"#]
    );
    assert_eq!(
        run(json!({"c": "no"})),
        [r#"Invalid value: "": "c" must not validate the schema (not)"#]
    );
}

#[test]
fn sets_and_maps_hold_an_item_once() {
    let mut causes = Vec::new();
    schema().duplicates(
        &json!({"spec": {"items": [{"k": "a"}, {"k": "b"}, {"k": "a"}]}}),
        &mut causes,
    );
    let told: Vec<String> = causes
        .into_iter()
        .map(|c| format!("{}: {}", c.field, c.message))
        .collect();
    assert_eq!(told, [r#"spec.items[2]: Duplicate value: {"k":"a"}"#]);
}
