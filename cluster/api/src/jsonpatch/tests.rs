use super::*;
use serde_json::json;

fn patched(document: Value, operations: Value) -> Option<Value> {
    let operations: Vec<Operation> = serde_json::from_value(operations).expect("operations");
    let mut document = document;
    apply(&mut document, &operations).ok().map(|()| document)
}

#[test]
fn operations_do_what_they_do_upstream() {
    let cases = [
        // What a controller sends to be the first with a finalizer.
        (
            json!({}),
            json!([{"op": "test", "path": "/f", "value": null}, {"op": "add", "path": "/f", "value": ["x"]}]),
            Some(json!({"f": ["x"]})),
        ),
        (
            json!({"f": null}),
            json!([{"op": "test", "path": "/f", "value": null}]),
            Some(json!({"f": null})),
        ),
        (
            json!({"f": null}),
            json!([{"op": "test", "path": "/f"}]),
            Some(json!({"f": null})),
        ),
        (
            json!({"f": ["y"]}),
            json!([{"op": "test", "path": "/f", "value": null}]),
            None,
        ),
        (json!({}), json!([{"op": "test", "path": "/f/g", "value": null}]), None),
        (
            json!({"a": 1}),
            json!([{"op": "replace", "path": "/b", "value": 2}]),
            Some(json!({"a": 1, "b": 2})),
        ),
        (json!({}), json!([{"op": "replace", "path": "/b/c", "value": 2}]), None),
        (json!({}), json!([{"op": "remove", "path": "/b"}]), None),
        (
            json!({}),
            json!([{"op": "copy", "from": "/b", "path": "/c"}]),
            Some(json!({"c": null})),
        ),
        (json!({}), json!([{"op": "move", "from": "/b", "path": "/c"}]), None),
        (
            json!({"b": 1}),
            json!([{"op": "move", "from": "/b", "path": "/c"}]),
            Some(json!({"c": 1})),
        ),
        (
            json!({"a": [1, 2]}),
            json!([{"op": "add", "path": "/a/-", "value": 3}]),
            Some(json!({"a": [1, 2, 3]})),
        ),
        (
            json!({"a": [1, 2]}),
            json!([{"op": "add", "path": "/a/-1", "value": 3}]),
            Some(json!({"a": [1, 2, 3]})),
        ),
        (
            json!({"a": [1, 2]}),
            json!([{"op": "add", "path": "/a/1", "value": 3}]),
            Some(json!({"a": [1, 3, 2]})),
        ),
        (
            json!({"a": [1, 2]}),
            json!([{"op": "add", "path": "/a/3", "value": 3}]),
            None,
        ),
        (
            json!({"a": [1, 2]}),
            json!([{"op": "remove", "path": "/a/-1"}]),
            Some(json!({"a": [1]})),
        ),
        (json!({"a": [1, 2]}), json!([{"op": "remove", "path": "/a/2"}]), None),
        (
            json!({"a": [1, 2]}),
            json!([{"op": "replace", "path": "/a/-3", "value": 0}]),
            None,
        ),
        (
            json!({"a": [{"b": 1}]}),
            json!([{"op": "replace", "path": "/a/0/b", "value": 0}]),
            Some(json!({"a": [{"b": 0}]})),
        ),
        (
            json!({"a/b": {"~": 1}}),
            json!([{"op": "remove", "path": "/a~1b/~0"}]),
            Some(json!({"a/b": {}})),
        ),
        (json!({"a": 1}), json!([{"op": "add", "path": "", "value": {}}]), None),
        (
            json!({"a": 1}),
            json!([{"op": "replace", "path": "", "value": {"b": 1}}]),
            Some(json!({"b": 1})),
        ),
        (
            json!({"a": 1}),
            json!([{"op": "replace", "path": "", "value": 1}]),
            None,
        ),
        (
            json!({"a": 1}),
            json!([{"op": "test", "path": "", "value": {"a": 1}}]),
            Some(json!({"a": 1})),
        ),
        (
            json!({"a": 1}),
            json!([{"op": "add", "path": "/a/b", "value": 1}]),
            None,
        ),
        (json!({}), json!([{"op": "drop", "path": "/a"}]), None),
        (json!({}), json!([{"op": "add", "value": 1}]), None),
    ];
    for (document, operations, wanted) in cases {
        assert_eq!(
            patched(document.clone(), operations.clone()),
            wanted,
            "{operations} of {document}"
        );
    }
}

#[test]
fn copies_that_double_a_value_over_and_over_are_refused() {
    let double = json!({"op": "copy", "from": "/a", "path": "/a/b"});
    let operations: Vec<Value> = std::iter::repeat_n(double, 40).collect();
    let operations: Vec<Operation> = serde_json::from_value(operations.into()).expect("well formed");
    let mut object = json!({"a": {"x": "y".repeat(1 << 20)}});
    let why = apply(&mut object, &operations).expect_err("too much").to_string();
    assert!(why.contains("exceeding the limit"), "{why}");
}

#[test]
fn nothing_is_made_that_nests_deeper_than_anybody_reads() {
    let nested = |depth: usize| -> Value {
        let text = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        serde_json::from_str(&text).expect("JSON")
    };
    let at = |depth: usize| "/a".repeat(depth);
    // One operation after another adds what each may.
    assert!(patched(nested(1), json!([{"op": "add", "path": at(1), "value": nested(126)}])).is_some());
    assert!(patched(nested(1), json!([{"op": "add", "path": at(1), "value": nested(127)}])).is_none());
    assert!(
        patched(
            nested(100),
            json!([{"op": "replace", "path": at(100), "value": nested(28)}])
        )
        .is_none()
    );
    assert!(patched(nested(100), json!([{"op": "copy", "from": "/a", "path": at(100)}])).is_none());
    let swap = [
        json!({"op": "add", "path": "/b", "value": {}}),
        json!({"op": "move", "from": "/a", "path": "/b/a"}),
        json!({"op": "move", "from": "/b", "path": "/a"}),
    ];
    let deepen: Vec<Value> = swap.iter().cloned().cycle().take(3000).collect();
    assert!(patched(nested(1), Value::Array(deepen)).is_none());
}

#[test]
fn a_long_list_is_not_shifted_ten_thousand_times() {
    let list = json!({"a": vec![0; 100_000]});
    let first = json!({"op": "remove", "path": "/a/0"});
    assert!(patched(list.clone(), Value::Array(vec![first.clone(); 100])).is_some());
    assert!(patched(list, Value::Array(vec![first; 10_000])).is_none());
}
