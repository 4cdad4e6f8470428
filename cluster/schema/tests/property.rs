//! Properties that hold for any input: nothing panics, and canonical forms are stable.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use strata_meta::{GroupVersionKind, Time};
use strata_schema::apply::{self, BuiltinKind, Filter, Write};
use strata_schema::{
    apply_defaults, decode, decode_untyped, decode_value, identify, protobuf, prune_unknown, strategic_merge,
    syntax_error,
};

/// Names that occur in objects and patches, so that random values hit what is there.
const NAMES: &[&str] = &[
    "metadata",
    "name",
    "labels",
    "finalizers",
    "managedFields",
    "spec",
    "containers",
    "ports",
    "containerPort",
    "protocol",
    "env",
    "value",
    "resources",
    "limits",
    "cpu",
    "volumes",
    "emptyDir",
    "template",
    "strategy",
    "rollingUpdate",
    "replicas",
    "selector",
    "status",
    "conditions",
    "$patch",
    "$retainKeys",
    "$setElementOrder/containers",
    "$setElementOrder/finalizers",
    "$deleteFromPrimitiveList/finalizers",
    "x",
];

fn name() -> impl Strategy<Value = String> {
    (0..NAMES.len()).prop_map(|at| NAMES[at].to_owned())
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-4..100i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        name().prop_map(Value::from),
        Just(json!("delete")),
        Just(json!("500m")),
        Just(json!("2026-01-02T03:04:05Z")),
    ];
    leaf.prop_recursive(7, 60, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(name(), inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn object() -> impl Strategy<Value = Value> {
    btree_map(name(), value(), 0..6).prop_map(|members| Value::Object(members.into_iter().collect()))
}

fn kinds() -> [GroupVersionKind; 3] {
    [
        GroupVersionKind::new("", "v1", "Pod"),
        GroupVersionKind::new("apps", "v1", "Deployment"),
        GroupVersionKind::new("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn canonical_objects_stay_as_they_are(object in object()) {
        for gvk in kinds() {
            let mut pruned = object.clone();
            prune_unknown(&gvk, &mut pruned);
            let Ok(decoded) = decode_value(&gvk, object.clone()) else { continue };
            let mut defaulted = decoded.value.clone();
            apply_defaults(&gvk, &mut defaulted);
            for stable in [decoded.value, defaulted] {
                let again = decode_value(&gvk, stable.clone()).expect("canonical objects decode");
                prop_assert_eq!(&again.value, &stable);
                let bytes = protobuf::encode_from_json(&gvk, &stable).expect("canonical objects encode");
                prop_assert_eq!(protobuf::decode_to_json(&bytes, None).expect("own bytes decode"), stable);
            }
        }
    }

    #[test]
    fn any_patch_is_merged_or_refused(original in object(), patch in object()) {
        for gvk in kinds() {
            let _ = strategic_merge(&gvk, &mut original.clone(), &patch);
        }
    }

    #[test]
    fn any_configuration_is_applied_or_refused(live in object(), config in object(), force in any::<bool>()) {
        for gvk in kinds() {
            let kind = BuiltinKind::new(&gvk).expect("known");
            let filter = Filter::without(&[&["status"]]);
            let write = Write { kind: &kind, manager: "kubectl", subresource: "", filter: &filter, now: Time::from_second(0) };
            let _ = apply::apply(&write, Some(&live), &config, force);
            let _ = apply::update(&write, Some(&live), config.clone());
            let Ok(new) = apply::apply(&write, None, &config, false) else { continue };
            let again = apply::apply(&write, Some(&new), &config, false).expect("the same manager applies again");
            prop_assert_eq!(again, new);
        }
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in vec(any::<u8>(), 0..200), text in "[\\[\\]{}:,\"\\\\ a0-9.eE+truflsn-]{0,40}") {
        let sealed = [b"k8s\0".as_slice(), &bytes].concat();
        for gvk in kinds() {
            let _ = protobuf::decode_to_json(&sealed, Some(&gvk));
            let _ = protobuf::decode_message(&gvk, &bytes);
            let _ = decode(&gvk, &bytes);
        }
        let _ = identify(&bytes);
        let _ = decode_untyped(&bytes);
        let parsed = serde_json::from_str::<Value>(&text);
        let out_of_range = parsed.as_ref().is_err_and(|e| e.to_string().starts_with("number out of range"));
        prop_assert!(syntax_error(text.as_bytes()).is_none() == parsed.is_ok() || out_of_range, "{}", text);
    }
}

#[test]
fn an_entry_without_a_manager_is_written_without_one() {
    let gvk = GroupVersionKind::new("", "v1", "ConfigMap");
    let kind = BuiltinKind::new(&gvk).expect("known");
    let filter = Filter::without(&[]);
    let write = Write {
        kind: &kind,
        manager: "m",
        subresource: "",
        filter: &filter,
        now: Time::from_second(0),
    };
    let entry = json!({"operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:a": {}}}});
    let sent =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"managedFields": [entry]}, "data": {"a": "b"}});
    let written = apply::update(&write, Some(&sent), sent.clone()).expect("well formed");
    assert_eq!(written["metadata"]["managedFields"][0], entry);
}

#[test]
fn an_item_is_known_by_its_number_however_that_is_written() {
    let kind = BuiltinKind::new(&GroupVersionKind::new("", "v1", "Pod")).expect("known");
    let filter = Filter::without(&[]);
    let write = Write {
        kind: &kind,
        manager: "m",
        subresource: "",
        filter: &filter,
        now: Time::from_second(0),
    };
    let config: Value = serde_json::from_str(
        r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80.0}, {"containerPort": 8.1e1}]}]}}"#,
    )
    .expect("JSON");
    let new = apply::apply(&write, None, &config, false).expect("well formed");
    let again = apply::apply(&write, Some(&new), &config, false).expect("the same manager applies again");
    assert_eq!(again, new);
    assert_eq!(
        again["spec"]["containers"][0]["ports"].as_array().map(Vec::len),
        Some(2)
    );
}
