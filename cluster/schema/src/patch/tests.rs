use super::*;
use serde_json::json;

fn merged(kind: &str, mut original: Value, patch: Value) -> Result<Value, String> {
    let gvk = if kind == "Deployment" {
        GroupVersionKind::new("apps", "v1", kind)
    } else {
        GroupVersionKind::new("", "v1", kind)
    };
    strategic_merge(&gvk, &mut original, &patch).map_err(|e| e.to_string())?;
    Ok(original)
}

#[test]
fn lists_with_a_key_are_merged_and_others_replaced() {
    let pod = json!({"spec": {"containers": [{"name": "a", "image": "1", "args": ["x"]}, {"name": "b"}]}});
    let patch = json!({"spec": {"containers": [{"name": "a", "image": "2", "args": ["y"]}, {"name": "c"}]}});
    assert_eq!(
        merged("Pod", pod, patch),
        Ok(json!({"spec": {"containers": [{"name": "a", "image": "2", "args": ["y"]}, {"name": "c"}, {"name": "b"}]}}))
    );
}

#[test]
fn directives_delete_replace_and_order() {
    let pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}});
    let patch = json!({"spec": {"containers": [{"name": "b", "$patch": "delete"}]}});
    assert_eq!(
        merged("Pod", pod.clone(), patch),
        Ok(json!({"spec": {"containers": [{"name": "a"}, {"name": "c"}]}}))
    );
    let patch = json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "d"}]}});
    assert_eq!(
        merged("Pod", pod.clone(), patch),
        Ok(json!({"spec": {"containers": [{"name": "d"}]}}))
    );
    let patch = json!({"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}],
        "containers": [{"name": "a", "image": "i"}]}});
    assert_eq!(
        merged("Pod", pod, patch),
        Ok(json!({"spec": {"containers": [{"name": "b"}, {"name": "c"}, {"name": "a", "image": "i"}]}}))
    );
}

#[test]
fn a_strategy_retains_only_the_keys_named() {
    let deployment = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    assert_eq!(
        merged("Deployment", deployment.clone(), patch),
        Ok(json!({"spec": {"strategy": {"type": "Recreate"}}}))
    );
    let patch = json!({"spec": {"strategy": {"$retainKeys": [], "type": "Recreate"}}});
    assert_eq!(merged("Deployment", deployment, patch), Err(BAD_RETAIN_KEYS.to_owned()));
}

#[test]
fn scalars_are_united_and_deleted() {
    let object = json!({"metadata": {"finalizers": ["a", "b"]}});
    let patch = json!({"metadata": {"finalizers": ["b", "c"]}});
    assert_eq!(
        merged("Pod", object.clone(), patch),
        Ok(json!({"metadata": {"finalizers": ["a", "b", "c"]}}))
    );
    let patch =
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "$setElementOrder/finalizers": ["b"]}});
    assert_eq!(
        merged("Pod", object, patch),
        Ok(json!({"metadata": {"finalizers": ["b"]}}))
    );
}

#[test]
fn nulls_delete_and_maps_merge() {
    let object = json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "data": {"k": "v"}});
    let patch =
        json!({"metadata": {"labels": {"a": null, "c": "3"}, "annotations": {"x": null, "y": "z"}}, "data": null});
    assert_eq!(
        merged("ConfigMap", object, patch),
        Ok(json!({"metadata": {"labels": {"b": "2", "c": "3"}, "annotations": {"y": "z"}}}))
    );
}

#[test]
fn malformed_patches_are_refused() {
    let pod = || json!({"spec": {"containers": [{"name": "a"}]}});
    for (patch, sentence) in [
        (
            json!({"spec": {"$patch": "nope"}}),
            "unknown patch type: nope in map: map[$patch:nope]",
        ),
        (
            json!({"spec": {"containers": [{"image": "i"}]}}),
            "map: map[image:i] does not contain declared merge key: name",
        ),
        (
            json!({"spec": {"containers": [{"$patch": "merge"}]}}),
            "merging lists cannot yet be specified in the patch",
        ),
        (
            json!({"spec": {"$setElementOrder/containers": 3}}),
            "expected a []interface {}, but received a int64",
        ),
        (json!([]), "invalid JSON document"),
    ] {
        assert_eq!(merged("Pod", pod(), patch), Err(sentence.to_owned()));
    }
}
