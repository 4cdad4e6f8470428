//! What anybody may send takes time in proportion to its size, or is refused.

use super::*;
use std::time::{Duration, Instant};

/// The time a thing takes that would take minutes if it grew with the square.
fn quick<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let outcome = run();
    assert!(
        begun.elapsed() < Duration::from_secs(40),
        "{what}: {:?}",
        begun.elapsed()
    );
    outcome
}

fn schema(spec: Value) -> Value {
    json!({"type": "object", "properties": {"spec": spec}})
}

/// A map list of so many items, each with a rule.
fn keyed(rule: Value) -> Value {
    schema(
        json!({"type": "array", "maxItems": 100_000, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
        "items": {"type": "object", "required": ["k"], "x-kubernetes-validations": [rule],
            "properties": {"k": {"type": "string", "maxLength": 10}, "v": {"type": "integer", "maximum": 1}}}}),
    )
}

fn items(count: usize, v: usize) -> Value {
    let item = |n| json!({"k": format!("k{n}"), "v": v});
    json!({"spec": (0..count).map(item).collect::<Vec<_>>()})
}

#[test]
fn items_find_what_they_were_without_a_search_for_each() {
    let schema = definition(&keyed(json!({"rule": "self.v >= oldSelf.v"}))).expect("a schema that may be");
    let (old, new) = (items(20_000, 1), items(20_000, 1));
    assert_eq!(quick("unchanged", || instance(&schema, &new, Some(&old))), Some(vec![]));
    let new = items(20_000, 0);
    let told = quick("changed", || instance(&schema, &new, Some(&old))).expect("an object");
    assert!(told.len() > 10_000 && told[0].contains("failed rule"), "{}", told.len());
}

#[test]
fn problems_without_end_are_not_all_told() {
    let schema = definition(&keyed(json!({"rule": "self.v == 7", "message": "x".repeat(10_000)}))).expect("it may be");
    let told = quick("a long message", || instance(&schema, &items(20_000, 1), None)).expect("an object");
    assert!(
        told.last().expect("something").contains("too many problems"),
        "{}",
        told.len()
    );
    assert!(told.iter().map(String::len).sum::<usize>() < 2 << 20);
    let told = quick("many problems", || instance(&schema, &items(20_000, 2), None)).expect("an object");
    assert!(told.iter().map(String::len).sum::<usize>() < 4 << 20);
    let many: Vec<String> = (0..20_000).map(|n| format!("value{n}")).collect();
    let listed = schema_of_strings(json!({"enum": many}));
    let values: Vec<String> = (0..2_000).map(|n| format!("other{n}")).collect();
    let told = quick("a long enumeration", || {
        instance(&listed, &json!({"spec": values}), None)
    })
    .expect("an object");
    assert!(told.iter().map(String::len).sum::<usize>() < 4 << 20);
}

fn schema_of_strings(mut rules: Value) -> Arc<Structural> {
    rules["type"] = json!("string");
    definition(&schema(json!({"type": "array", "items": rules}))).expect("a schema that may be")
}

#[test]
fn a_long_name_with_many_places_below_it_is_not_written_for_each() {
    let lists = json!({"type": "object", "additionalProperties": {"type": "array", "items": {"type": "integer"}}});
    let schema = definition(&schema(lists)).expect("a schema that may be");
    let object = json!({"spec": {"x".repeat(1_000_000): vec![0; 100_000]}});
    assert_eq!(quick("items", || instance(&schema, &object, None)), Some(vec![]));
    let unknown: Value = (0..20_000)
        .map(|n| (format!("u{n}"), json!(0)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let one = json!({"type": "object", "additionalProperties": {"type": "object"}});
    let schema = definition(&super::tests::schema(one)).expect("a schema that may be");
    let object = json!({"spec": {"x".repeat(1_000_000): unknown}});
    assert_eq!(
        quick("unknown members", || instance(&schema, &object, None)),
        Some(vec![])
    );
}

#[test]
fn a_long_name_in_a_definition_is_not_written_for_each_place_below_it() {
    let named = |length: usize| {
        let wide = (0..10_000).map(|n| (format!("p{n}"), json!({"type": "string"})));
        let wide: serde_json::Map<String, Value> = wide.collect();
        schema(json!({"type": "object", "properties": {"x".repeat(length): {"type": "object", "properties": wide}}}))
    };
    quick("a usual name", || definition(&named(1_000))).expect("it may be");
    quick("a long name", || definition(&named(500_000))).expect_err("too long");
}

#[test]
fn definitions_whose_patterns_grow_without_end_are_refused() {
    let patterns = |count: usize, pattern: &str| {
        let property = |n| {
            (
                format!("p{n}"),
                json!({"type": "string", "pattern": format!("{pattern}{n}")}),
            )
        };
        let properties: serde_json::Map<String, Value> = (0..count).map(property).collect();
        schema(json!({"type": "object", "properties": properties}))
    };
    let rules = |count: usize, pattern: &str| {
        let rule = |n| json!({"rule": format!("self.matches('{pattern}{n}')")});
        let rules: Vec<Value> = (0..count).map(rule).collect();
        schema(json!({"type": "string", "maxLength": 5, "x-kubernetes-validations": rules}))
    };
    for refused in [
        patterns(1, "((a{100}){100})"),
        patterns(1, "(((a{10}){10}){11})"),
        patterns(1, "a{1001}"),
        patterns(1, "(a*)*(b+)+((((c?)?)?)?){500}((d{50}){21})"),
        patterns(5000, r"\\pL{400}"),
        rules(5000, r"\\\\pL{400}"),
        rules(1, "((a{100}){100})"),
    ] {
        quick("patterns", || definition(&refused)).expect_err("too large");
    }
    for admitted in [
        patterns(200, "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"),
        rules(20, "^[a-z]{1,63}$"),
    ] {
        quick("patterns", || definition(&admitted)).expect("usual patterns");
    }
}

#[test]
fn rules_that_would_take_exponential_time_are_refused() {
    let nested = "self.all(a, self.all(b, self.all(c, self.all(d, a + b + c + d > 0))))";
    let unbounded =
        json!({"type": "array", "items": {"type": "integer"}, "x-kubernetes-validations": [{"rule": nested}]});
    let told = quick("nested loops", || definition(&schema(unbounded))).expect_err("too expensive");
    assert!(told[0].contains("estimated rule cost exceeds budget"), "{told:?}");
    let doubling = format!("[1]{}.size() > 0", ".map(v, {v: v})".repeat(30));
    let rule = json!({"type": "string", "x-kubernetes-validations": [{"rule": doubling}]});
    assert!(quick("types that double", || definition(&schema(rule))).is_err());
}

#[test]
fn conditions_in_conditions_take_time_by_their_number() {
    // Each level asks twice; a validator that asked again for every level above would double with each.
    let level = |inner: Value| json!({"anyOf": [inner.clone(), {"maximum": 0}], "allOf": [{"minimum": 0}], "not": {"maximum": -5}});
    let deep = (0..50).fold(json!({"minimum": 5}), |inner, _| level(inner));
    let mut number = deep;
    number["type"] = json!("integer");
    let schema = quick("a schema of conditions", || definition(&schema(number))).expect("it may be");
    for value in [7, 3, -9] {
        quick("conditions", || instance(&schema, &json!({"spec": value}), None)).expect("an object");
    }
}

#[test]
fn yaml_that_multiplies_itself_is_bounded() {
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for n in 1..40 {
        let below = n - 1;
        bomb.push_str(&format!(
            "a{n}: &a{n} [*a{below},*a{below},*a{below},*a{below},*a{below}]\n"
        ));
    }
    assert_eq!(quick("lists of lists", || yaml(bomb.as_bytes())), None);
    let long = format!(
        "a: &a {}\nb: [{}]\n",
        "x".repeat(1_000_000),
        vec!["*a"; 10_000].join(",")
    );
    assert_eq!(quick("a long text", || yaml(long.as_bytes())), None);
    let key = format!(
        "? &a {}\n: 1\nb: [{}]\n",
        "x".repeat(1_000_000),
        vec!["{*a : 1}"; 1_000].join(",")
    );
    assert_eq!(quick("a long key", || yaml(key.as_bytes())), None);
    let merged = (1..2000).fold("m0: &m0 {a: 1}\n".to_owned(), |text, n| {
        text + &format!("m{n}: &m{n} {{<<: *m{}, k{n}: 1}}\n", n - 1)
    });
    let _ = quick("merges of merges", || yaml(merged.as_bytes()));
    for deep in [
        "[".repeat(100_000),
        "- ".repeat(100_000),
        "{a: ".repeat(100_000),
        "? ".repeat(100_000),
    ] {
        assert_eq!(quick("nesting", || yaml(deep.as_bytes())), None);
    }
    let itself = quick("itself", || yaml(b"a: &a [*a]\n"));
    assert_eq!(itself, None);
}

#[test]
fn the_seeds_of_fuzzing_hold() {
    address(
        "/api/v1/namespaces/a/pods?limit=5&continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6NSwic3RhcnQiOiJhL2JcdTAwMDAifQ",
    );
    let pod = GroupVersionKind::new("", "v1", "Pod");
    let merge = patch(
        &pod,
        "application/merge-patch+json",
        br#"{"metadata":{"name":null}}"#,
        &json!({"metadata": {"name": "a"}}),
    );
    assert_eq!(merge, Some(json!({"metadata": {}})));
}
