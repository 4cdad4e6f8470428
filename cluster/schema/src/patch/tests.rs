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

/// The plain ways of doing what takes no product of lengths.
mod plainly {
    use super::*;

    pub(super) fn dedup(items: &mut Vec<Value>) {
        let mut i = 0;
        while i + 1 < items.len() {
            let mut j = i + 1;
            while j < items.len() {
                if items[i] == items[j] {
                    items.swap_remove(j);
                } else {
                    j += 1;
                }
            }
            i += 1;
        }
    }

    pub(super) fn order_seen(original: &[Value], patch: &[Value], key: &str) -> Vec<Value> {
        let mut seen = original.to_vec();
        let deletes = |element: &&Value| element.get(DIRECTIVE).is_some_and(|d| d == "delete");
        let mut length = seen.len();
        for gone in patch.iter().filter(deletes).filter_map(|element| element.get(key)) {
            while let Some(at) = seen[..length].iter().position(|item| item.get(key) == Some(gone)) {
                seen[at..length].rotate_left(1);
                length -= 1;
                if at < length {
                    seen[length] = seen[length - 1].clone();
                }
            }
        }
        let known = |element: &&Value| {
            original
                .iter()
                .any(|item| item.get(key).is_some() && item.get(key) == element.get(key))
        };
        let new: Vec<&Value> = patch
            .iter()
            .filter(|e| e.get(DIRECTIVE).is_none() && !known(e))
            .collect();
        for (slot, element) in seen[length..].iter_mut().zip(new) {
            *slot = element.clone();
        }
        seen
    }
}

/// Numbers without end.
fn numbers(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |below| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    }
}

#[test]
fn long_lists_come_out_as_if_they_were_handled_plainly() {
    let mut next = numbers(7);
    for _ in 0..2000 {
        let length = next(12);
        let items: Vec<Value> = (0..length).map(|_| json!(next(5))).collect();
        let (mut ours, mut plain) = (items.clone(), items.clone());
        dedup(&mut ours);
        plainly::dedup(&mut plain);
        assert_eq!(ours, plain, "{items:?}");
        let mut element = |at: u64| match next(6) {
            0 => json!({"x": at}),
            known => json!({"name": known, "x": at}),
        };
        let original: Vec<Value> = (0..length).map(&mut element).collect();
        let mut patch: Vec<Value> = (20..25).map(&mut element).collect();
        for change in patch.iter_mut().step_by(2) {
            change[DIRECTIVE] = json!("delete");
        }
        let plain = plainly::order_seen(&original, &patch, "name");
        assert_eq!(
            order_seen(&original, &patch, Some("name")),
            plain,
            "{original:?} {patch:?}"
        );
    }
}

#[test]
fn the_time_of_a_patch_does_not_grow_with_the_product_of_lengths() {
    // The plain ways take minutes for these together.
    let many = 20_000;
    let names: Vec<Value> = (0..many).map(|n| json!(format!("n{n}"))).collect();
    let keyed: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
    let reversed: Vec<Value> = keyed.iter().rev().cloned().collect();
    let deleted: Vec<Value> = names
        .iter()
        .map(|name| json!({"name": name, "$patch": "delete"}))
        .collect();
    let begun = std::time::Instant::now();
    let pod = json!({"metadata": {"finalizers": names}, "spec": {"containers": keyed}});
    for patch in [
        json!({"metadata": {"finalizers": names}}),
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": names}}),
        json!({"metadata": {"finalizers": vec!["a"; many]}}),
        json!({"spec": {"containers": reversed}}),
        json!({"spec": {"containers": deleted}}),
        json!({"spec": {"$setElementOrder/containers": reversed, "containers": reversed}}),
        json!({"spec": {"$setElementOrder/containers": [], "containers": deleted}}),
    ] {
        merged("Pod", pod.clone(), patch).expect("a patch that may be");
    }
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
}
