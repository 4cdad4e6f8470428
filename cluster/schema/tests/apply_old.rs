//! Server-side apply to objects from before their schema said what it says now.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::sync::Arc;
use strata_meta::{GroupVersionKind, Time};
use strata_schema::{
    apply::{self, CustomKind, Filter, Write},
    structural::Structural,
};

#[test]
fn a_value_that_is_no_list_any_more_is_replaced_by_a_list_or_kept() {
    let schema = json!({"type": "object", "properties": {"set":
        {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}}});
    let gvk = GroupVersionKind::new("example.com", "v1", "Thing");
    let kind = CustomKind::new(&gvk, &Arc::new(Structural::parse(&schema)), Vec::new());
    let filter = Filter::without(&[]);
    let write = Write {
        kind: &kind,
        manager: "a",
        subresource: "",
        filter: &filter,
        now: Time::from_second(0),
    };
    let thing = |set: Option<Value>| {
        let mut thing = json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"}});
        if let Some(set) = set {
            thing["set"] = set;
        }
        thing
    };
    let live = thing(Some(json!("text")));
    for (config, expected) in [
        (Some(json!([])), json!([])),
        (Some(json!(["x"])), json!(["x"])),
        (None, json!("text")),
    ] {
        let config = thing(config);
        let once = apply::apply(&write, Some(&live), &config, false).unwrap();
        assert_eq!(once["set"], expected);
        assert_eq!(apply::apply(&write, Some(&once), &config, false).unwrap(), once);
    }
}
