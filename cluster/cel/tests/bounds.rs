//! No expression panics, hangs, or takes memory without end.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::json;
use std::time::{Duration, Instant};
use strata_cel::{Bindings, Env, ErrorKind, Type, UnknownSizes, Value, limits};

fn environment() -> Env {
    Env::kubernetes().variable("x", Type::Dyn).build()
}

/// Compiles, estimates and runs whatever can be; says whether there was a value.
fn run(source: &str) -> bool {
    run_within(source, limits::PER_CALL_LIMIT)
}

fn run_within(source: &str, limit: u64) -> bool {
    let json = json!({"a": [1, 2.5, "s", null, true, {"b": {}}], "t": "2020-01-01T00:00:00Z"});
    let Ok(checked) = environment().compile(source) else {
        return false;
    };
    checked.estimated_cost(&UnknownSizes);
    let Ok(program) = checked.program() else { return false };
    let bindings = Bindings::new().with("x", Value::dynamic(&json));
    program.eval(&bindings, limit).result.is_ok()
}

/// Pieces of expressions, good and bad, in any order.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "x",
        "x.a",
        "x.a[0]",
        "x.?b",
        "[?",
        "?",
        ".",
        ",",
        ":",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "+",
        "-",
        "*",
        "/",
        "%",
        "&&",
        "||",
        "!",
        "==",
        "<",
        "in",
        "1",
        "0x",
        "1u",
        "1.5",
        "1e400",
        "'s'",
        "\"",
        "'",
        "'''",
        "b'\\xff'",
        "r'\\'",
        "true",
        "null",
        "int",
        "string(",
        "size(",
        "has(x.a)",
        ".all(i, ",
        ".map(i, ",
        ".filter(i, i)",
        ".exists(i, v, ",
        ".transformMap(k, v, ",
        ".optMap(o, ",
        ".sortBy(e, ",
        "optional.of(",
        "optional.none()",
        "duration('1h')",
        "timestamp(x.t)",
        ".getHours('",
        "quantity('1Gi')",
        "ip('::1')",
        "cidr('10.0.0.0/8')",
        "semver('1.0.0')",
        "format.named('uri')",
        ".validate(",
        ".format([",
        "'%.3f %s %d'",
        ".matches('(a|b)*')",
        ".find('",
        "é",
        "\n",
        "//",
        ".substring(1)",
        ".split('')",
        ".flatten(",
        ".slice(0, ",
        "lists.range(",
        "-9223372036854775808",
        " ",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_text_panics(text in ".{0,60}") {
        run(&text);
    }

    #[test]
    fn no_mixture_of_pieces_panics(text in pieces()) {
        run(&text);
    }
}

#[test]
fn macros_that_copy_their_receiver_cannot_grow_without_end() {
    let source = format!("optional.of(1){}", ".optMap(v, v)".repeat(40));
    let begun = Instant::now();
    let issues = environment().compile(&source).unwrap_err();
    assert!(issues.to_string().contains("too large"), "{issues}");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn types_that_double_cannot_grow_without_end() {
    let source = format!("[1]{}", ".map(v, {v: v})".repeat(30));
    let begun = Instant::now();
    assert!(environment().compile(&source).is_err());
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn the_deepest_nesting_there_may_be_runs() {
    for depth in [100, 249] {
        let source = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert!(run(&source), "lists {depth} deep");
        let source = format!("{}true{}", "[1].all(v, ".repeat(depth), ")".repeat(depth));
        assert!(run(&source), "loops {depth} deep");
        let source = vec!["1"; depth].join(" + ");
        assert!(run(&source), "sums {depth} deep");
    }
    assert!(!run(&format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000))));
}

#[test]
fn a_run_ends_when_it_has_cost_what_it_may() {
    let checked = environment()
        .compile("lists.range(10000).all(a, lists.range(10000).all(b, a + b >= 0))")
        .unwrap();
    let program = checked.program().unwrap();
    let run = program.eval(&Bindings::new(), limits::PER_CALL_LIMIT);
    assert_eq!(run.result.unwrap_err().kind, ErrorKind::CostLimit);
    assert!(run.cost > limits::PER_CALL_LIMIT && run.cost < 2 * limits::PER_CALL_LIMIT);
}

#[test]
fn a_run_ends_when_it_is_told_to() {
    let checked = environment().compile("lists.range(10000).all(a, a >= 0)").unwrap();
    let program = checked.program().unwrap();
    let run = program.eval_until(&Bindings::new(), u64::MAX, Some(&|| true));
    assert_eq!(run.result.unwrap_err().kind, ErrorKind::Interrupted);
}

#[test]
fn what_costs_little_to_make_cannot_be_made_without_end() {
    let doubled = |what: &str, times: usize| format!("[{what}]{}", ".map(v, v + v)".repeat(times));
    let nested = format!("[[1]]{}", ".map(v, [v, v])".repeat(60));
    let texts = format!(
        "['{}'].map(v, v.replace('', v)).map(v, v.replace('', v))",
        "a".repeat(2000)
    );
    let shared = format!("{nested}.all(v, v == v)");
    let begun = Instant::now();
    // What grows without end meets any limit; a tenth of the usual one is met in a tenth of the time.
    let limit = limits::PER_CALL_LIMIT / 10;
    for source in [doubled("[1]", 40), doubled("'abc'", 40), texts, shared] {
        assert!(!run_within(&source, limit), "{source}");
    }
    assert!(!run("sets.contains(lists.range(300000), lists.range(300000))"));
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

#[test]
fn patterns_are_bounded_as_they_are_compiled() {
    let begun = Instant::now();
    // One that is only known in the run is compiled for every element.
    for pattern in [r"(\\pL{30}){30}", r"([a-z]{31}[0-9]){31}", "a"] {
        let source = format!("lists.range(300000).all(a, 'x'.matches(x.t.substring(0, 0) + '{pattern}') || true)");
        assert!(!run_within(&source, limits::RUNTIME_COST_BUDGET), "{source}");
    }
    let literals = vec![r"'x'.matches('(\\pL{30}){30}')"; 2000].join(" || ");
    assert!(!run(&literals));
    for nested in ["((a{100}){100})", "(a{2}b{501}){2}", "((((a{9}){9}){9}){9})"] {
        let why = strata_cel::pattern(nested).unwrap_err();
        assert!(why.contains("invalid repeat count"), "{why}");
    }
    assert!(strata_cel::pattern("(a{10}b{99}){10}(c{0}){1000}").is_ok());
    assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", begun.elapsed());
}
