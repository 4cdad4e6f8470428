//! Expressions over a declared object: parsed, checked, costed, and run within a limit.
//!
//! Input: the JSON of `self` on one line, then the expression. A run costs what the estimate says at most, if the
//! object is as large as its declaration lets it be at most.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use std::sync::{Arc, OnceLock};
use strata_cel::{Bindings, DeclType, Env, ErrorKind, UnknownSizes};
use strata_schema::structural::Structural;

/// A tenth of what one call may cost, so that loops end soon.
const LIMIT: u64 = 100_000;

struct Declared {
    schema: Arc<Structural>,
    decl: DeclType,
    env: Env,
}

fn declared() -> &'static Declared {
    static DECLARED: OnceLock<Declared> = OnceLock::new();
    DECLARED.get_or_init(|| {
        let text = json!({"type": "string", "maxLength": 20});
        let schema = json!({"type": "object", "properties": {
            "s": text, "i": {"type": "integer"}, "d": {"type": "number"}, "b": {"type": "boolean"},
            "t": {"type": "string", "format": "date-time"}, "u": {"type": "string", "format": "duration"},
            "x": {"x-kubernetes-int-or-string": true},
            "l": {"type": "array", "maxItems": 10, "items": text},
            "n": {"type": "array", "maxItems": 10, "items": {"type": "integer"}},
            "m": {"type": "object", "maxProperties": 10, "additionalProperties": text},
            "k": {"type": "array", "maxItems": 10, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a"],
                "items": {"type": "object", "required": ["a"], "properties": {"a": text, "v": {"type": "integer"}}}},
            "o": {"type": "object", "nullable": true, "properties": {"p": text}},
            "a": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        }});
        let schema = Arc::new(Structural::parse(&schema));
        let decl = DeclType::from_schema(&*schema, "selfType", false).expect("a typed schema");
        let env = Env::kubernetes().declared("self", &decl).variable("oldSelf", decl.cel_type()).build();
        Declared { schema, decl, env }
    })
}

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let (Some(object), Some(source)) = (parts.next(), parts.next()) else { return };
    let Ok(source) = std::str::from_utf8(source) else { return };
    let Declared { schema, decl, env } = declared();
    let Ok(checked) = env.compile(source) else { return };
    let estimate = checked.estimated_cost(decl);
    let _ = checked.estimated_cost(&UnknownSizes);
    assert!(estimate.min <= estimate.max, "{source}: {estimate:?}");
    let Ok(program) = checked.program() else { return };
    let Ok(object) = serde_json::from_slice::<Value>(object) else { return };
    let mut causes = Vec::new();
    schema.validate(&object, None, &mut causes);
    let Ok(value) = strata_cel::Value::declared(&object, decl) else { return };
    let variables = Bindings::new().with("self", value.clone()).with("oldSelf", value);
    let run = program.eval(&variables, LIMIT);
    match &run.result {
        Err(error) if error.kind == ErrorKind::CostLimit => {}
        result => assert!(run.cost <= LIMIT, "{source}: {} of {LIMIT}: {result:?}", run.cost),
    }
    // Of values without a type nobody knows the size before.
    let untyped = ["dyn(", "type(", "self.a", "oldSelf.a"].iter().any(|part| source.contains(part));
    if causes.is_empty() && !untyped {
        assert!(run.cost <= estimate.max, "{source}: {} of {estimate:?} over {object}", run.cost);
    }
});
