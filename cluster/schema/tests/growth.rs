//! The time of what anybody may ask for grows with its size, not with the square of it.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use serde_json::{Map, Value, json};
use std::{sync::Arc, time::Duration};
use strata_meta::{GroupVersionKind, Time};
use strata_schema::{
    apply::{self, BuiltinKind, CustomKind, Filter, Kind, Write},
    decode, decode_untyped,
    structural::Structural,
};

/// How long this thread has had a processor: what others do meanwhile is not counted.
fn on_processor() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// The least time of two runs.
fn time(mut run: impl FnMut()) -> Duration {
    let once = |()| {
        let begun = on_processor();
        run();
        on_processor() - begun
    };
    [(); 2].map(once).into_iter().min().unwrap()
}

/// Four times the size may take ten times as long; with the square it would take sixteen, with what little is constant
/// about it left out.
fn grows_with_size<T>(what: &str, make: impl Fn(usize) -> T, run: impl Fn(&T)) {
    const SIZE: usize = 1_500;
    let measured = |size: usize| {
        let input = make(size);
        time(|| run(&input))
    };
    let mut seen = Vec::new();
    // A machine that is busy may spoil a measurement, not three.
    for _ in 0..3 {
        let (small, large) = (measured(SIZE), measured(4 * SIZE));
        if large < 10 * small.max(Duration::from_millis(2)) {
            return;
        }
        seen.push((small, large));
    }
    panic!("{what}: {seen:?}");
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}{n}")).collect()
}

fn write<'a>(kind: &'a dyn Kind, manager: &'a str, filter: &'a Filter) -> Write<'a> {
    Write {
        kind,
        manager,
        subresource: "",
        filter,
        now: Time::from_second(0),
    }
}

#[test]
fn applying_long_lists_and_maps() {
    let pods = BuiltinKind::new(&GroupVersionKind::new("", "v1", "Pod")).unwrap();
    let filter = Filter::without(&[]);
    let pod = |count: usize| {
        let containers: Vec<Value> = names("c", count)
            .iter()
            .map(|name| json!({"name": name, "image": "i"}))
            .collect();
        let labels: Map<String, Value> = names("l", count).into_iter().map(|name| (name, json!(""))).collect();
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": labels, "finalizers": names("f", count)},
            "spec": {"containers": containers}})
    };
    let reversed = |mut pod: Value| {
        pod["spec"]["containers"].as_array_mut().unwrap().reverse();
        pod["metadata"]["finalizers"].as_array_mut().unwrap().reverse();
        pod
    };
    let live = |size: usize| {
        let config = pod(size);
        let live = apply::apply(&write(&pods, "a", &filter), None, &config, false).unwrap();
        (live, config.clone(), reversed(config))
    };
    grows_with_size("applying again", live, |(live, config, _)| {
        apply::apply(&write(&pods, "a", &filter), Some(live), config, false).unwrap();
    });
    grows_with_size("another order", live, |(live, _, reversed)| {
        apply::apply(&write(&pods, "b", &filter), Some(live), reversed, true).unwrap();
    });
    grows_with_size("removing all", live, |(live, ..)| {
        apply::apply(&write(&pods, "a", &filter), Some(live), &pod(0), true).unwrap();
    });
    grows_with_size("an update", live, |(live, _, reversed)| {
        let mut new = reversed.clone();
        new["spec"]["containers"][0]["image"] = json!("j");
        apply::update(&write(&pods, "u", &filter), Some(live), new).unwrap();
    });
    grows_with_size("conflicts", live, |(live, config, _)| {
        let mut config = config.clone();
        for container in config["spec"]["containers"].as_array_mut().unwrap() {
            container["image"] = json!("other");
        }
        apply::apply(&write(&pods, "b", &filter), Some(live), &config, false).unwrap_err();
    });
}

#[test]
fn applying_lists_of_custom_resources() {
    let schema = json!({"type": "object", "properties": {
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}, "v": {"type": "string"}}}},
    }});
    let schema = Arc::new(Structural::parse(&schema));
    let gvk = GroupVersionKind::new("example.com", "v1", "Thing");
    let things = CustomKind::new(&gvk, &schema, Vec::new());
    let filter = Filter::without(&[]);
    let thing = |count: usize, v: &str| {
        let map: Vec<Value> = names("k", count)
            .iter()
            .map(|name| json!({"k": name, "v": v}))
            .collect();
        json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"}, "map": map, "set": names("s", count)})
    };
    let pair = |count: usize| {
        let live = apply::apply(&write(&things, "a", &filter), None, &thing(count, "1"), false).unwrap();
        (live, thing(count, "2"))
    };
    grows_with_size("applying over another", pair, |(live, config)| {
        apply::apply(&write(&things, "b", &filter), Some(live), config, true).unwrap();
    });
    grows_with_size("validation", pair, |(live, config)| {
        let mut causes = Vec::new();
        schema.validate(config, Some(live), &mut causes);
        schema.duplicates(config, &mut causes);
        assert!(causes.is_empty());
    });
    grows_with_size("decoding", pair, |(_, config)| {
        schema.decode_value(&gvk, config.clone()).unwrap();
    });
}

#[test]
fn decoding_members_that_are_unknown_repeated_or_many() {
    let body = |part: fn(usize) -> String| {
        move |count: usize| {
            let parts: Vec<String> = (0..count).map(part).collect();
            format!("{{\"metadata\":{{\"labels\":{{{}}}}}}}", parts.join(","))
        }
    };
    let pod = GroupVersionKind::new("", "v1", "Pod");
    for part in [
        |n| format!("\"a{n}\":\"\""),
        |_| "\"a\":\"\"".to_owned(),
        |n| format!("\"a{}\":\"\"", n % 50),
    ] {
        grows_with_size("labels", body(part), |text| {
            decode(&pod, text.as_bytes()).unwrap();
            decode_untyped(text.as_bytes()).unwrap();
        });
    }
    let unknown = |count: usize| {
        format!(
            "{{\"spec\":{{{}}}}}",
            names("x", count)
                .iter()
                .map(|name| format!("\"{name}\":[0]"))
                .collect::<Vec<_>>()
                .join(",")
        )
    };
    grows_with_size("unknown members", unknown, |text| {
        decode(&pod, text.as_bytes()).unwrap();
    });
}

#[test]
fn telling_problems_of_many_items() {
    let schema = Structural::parse(
        &json!({"type": "array", "items": {"type": "object", "required": ["a", "b"],
        "properties": {"c": {"type": "string", "maxLength": 1}}}}),
    );
    let values = |count: usize| {
        Value::from(
            names("c", count)
                .iter()
                .map(|name| json!({"c": name}))
                .collect::<Vec<_>>(),
        )
    };
    grows_with_size("problems", values, |values| {
        let mut causes = Vec::new();
        schema.validate(values, None, &mut causes);
        assert!(!causes.is_empty());
    });
}
