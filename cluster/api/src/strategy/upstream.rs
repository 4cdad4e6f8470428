//! What kube-apiserver v1.36.3 said of hundreds of objects, each a good one with one member changed.
//!
//! `upstream.json` was recorded by sending them to it with `dryRun=All`.

use super::tests::said;
use serde_json::Value;

/// A case: the object, where it is changed, what to (absent: removed), and what is said of that.
fn parts(case: &Value) -> (&str, &str, Option<&Value>, &Value) {
    let text = |i: usize| case[i].as_str().expect("a text");
    match case.as_array().expect("a list").as_slice() {
        [_, _, said] => (text(0), text(1), None, said),
        [_, _, value, said] => (text(0), text(1), Some(value), said),
        _ => panic!("a case has three or four parts: {case}"),
    }
}

fn change(object: &mut Value, pointer: &str, to: Option<&Value>) {
    if let Some(value) = to {
        *object.pointer_mut(pointer).expect("the member is there") = value.clone();
        return;
    }
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    let name = name.replace("~1", "/").replace("~0", "~");
    match object.pointer_mut(parent).expect("the parent is there") {
        Value::Object(map) => map.remove(&name),
        Value::Array(list) => Some(list.remove(name.parse().expect("an index"))),
        other => panic!("{other} has no members"),
    };
}

#[test]
fn changed_objects_are_refused_as_kube_apiserver_refuses_them() {
    let recorded: Value = serde_json::from_str(include_str!("upstream.json")).expect("JSON");
    let mut wrong = Vec::new();
    for case in recorded["cases"].as_array().expect("a list") {
        let (base, pointer, to, wanted) = parts(case);
        let mut object = recorded["bases"][base].clone();
        change(&mut object, pointer, to);
        let said = said(&object);
        if serde_json::json!(said) != *wanted {
            wrong.push(format!("{base} {pointer} {to:?}\n  said {said:?}\n  not  {wanted}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
