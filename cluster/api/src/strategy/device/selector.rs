//! Selectors of devices: expressions over one device (k8s.io/dynamic-resource-allocation/cel).

use super::{REQUESTS_MAX, each};
use crate::{strategy::Causes, validate::Field};
use std::sync::{Arc, LazyLock};
use strata_cel::{DeclKind, DeclType, Env, Library, ObjectDecl, SizeRange, Sizes, Type};

/// Bytes of an expression.
const LONGEST: usize = 10 << 10;
/// What an expression may cost by estimate.
const COST_MAX: u64 = 1_000_000;

/// Characters of the domain of an attribute, and of a driver's name.
const DOMAIN_MAX: u64 = 63;
/// Characters of an attribute's name within its domain.
const ID_MAX: u64 = 32;
/// Characters of an attribute's value.
const VALUE_MAX: u64 = 64;
/// Attributes of a device.
const ATTRIBUTES_MAX: u64 = 32;

static ENV: LazyLock<Env> = LazyLock::new(|| {
    let sized = |kind, most| {
        Arc::new(DeclType {
            max_elements: most,
            ..DeclType::new(kind, 1)
        })
    };
    let by_domain = |inner| {
        let by_name = DeclType::map(inner, ATTRIBUTES_MAX);
        Arc::new(DeclType::map(Arc::new(by_name), ATTRIBUTES_MAX))
    };
    let attribute = sized(DeclKind::Opaque(Type::Any), VALUE_MAX);
    let quantity = sized(DeclKind::Opaque(Type::object("kubernetes.Quantity")), 0);
    let fields = [
        ("driver", Arc::new(DeclType::string(DOMAIN_MAX))),
        ("allowMultipleAllocations", sized(DeclKind::Bool, 1)),
        ("attributes", by_domain(attribute)),
        ("capacity", by_domain(quantity)),
    ];
    let fields = fields.map(|(name, decl)| (name.to_owned(), decl));
    let device = DeclType::object(ObjectDecl::new("kubernetes.DRADevice", fields));
    Env::kubernetes()
        .library(Library::Bindings)
        .declared("device", &device)
        .build()
});

/// How large what an expression looks at may be.
struct DeviceSizes;

impl Sizes for DeviceSizes {
    fn size(&self, path: &[Arc<str>]) -> Option<SizeRange> {
        let path: Vec<&str> = path.iter().map(|part| &**part).collect();
        let max = match path.as_slice() {
            ["device"] => 0,
            ["device", "driver"] => DOMAIN_MAX,
            ["device", "allowMultipleAllocations"] => 1,
            ["device", "attributes" | "capacity"] => ATTRIBUTES_MAX,
            ["device", "attributes" | "capacity", "@keys"] => DOMAIN_MAX,
            ["device", "attributes" | "capacity", "@items" | "@values"] => ATTRIBUTES_MAX,
            ["device", "attributes" | "capacity", "@items" | "@values", "@keys"] => ID_MAX,
            ["device", "capacity", "@items" | "@values", "@items" | "@values"] => 0,
            // Whatever its name is.
            ["device", "attributes", "@items" | "@values", _] => VALUE_MAX,
            _ => return None,
        };
        Some(SizeRange { min: 0, max })
    }
}

/// The selectors of a class or request.
pub(super) fn selectors(list: &Field<'_>, causes: &mut Causes) {
    each(list, REQUESTS_MAX, causes, |selector, causes| {
        let cel = selector.at("cel");
        match cel.is_set() {
            true => expression(&cel.at("expression"), causes),
            false => causes.push(cel.required("")),
        }
    });
}

fn expression(field: &Field<'_>, causes: &mut Causes) {
    let source = field.text();
    if source.len() > LONGEST {
        causes.push(field.too_long(LONGEST));
        return;
    }
    match cost(source) {
        Err(why) => causes.push(field.invalid_as(source, why)),
        Ok(cost) if cost > COST_MAX => causes.push(field.forbidden("too complex, exceeds cost limit")),
        Ok(_) => {}
    }
}

/// What an expression costs at most. Errors: why it is none, in upstream's words.
fn cost(source: &str) -> Result<u64, String> {
    let checked = ENV
        .compile(source)
        .map_err(|issues| format!("compilation failed: {issues}"))?;
    // An attribute may be a truth value.
    match checked.output_type() {
        Type::Bool | Type::Any => {}
        other => {
            let why = format!("must evaluate to bool or the unknown type, not {}", named(other));
            return Err(why);
        }
    }
    checked
        .program()
        .map_err(|why| format!("program instantiation failed: {why}"))?;
    Ok(checked.estimated_cost(&DeviceSizes).max)
}

/// A type by the names that the language has at run time.
fn named(ty: &Type) -> String {
    let parameters: Vec<String> = ty.parameters().iter().map(named).collect();
    match parameters.as_slice() {
        [] => ty.name().to_owned(),
        some => format!("{}({})", ty.name(), some.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_see_one_device() {
        for good in [
            r#"device.driver == "gpu.example.com""#,
            r#"device.attributes["gpu.example.com"].family == "a100""#,
            r#"device.attributes["gpu.example.com"].healthy"#,
            r#"device.capacity["gpu.example.com"].memory.compareTo(quantity("1Gi")) >= 0"#,
            r#"cel.bind(gpu, device.attributes["gpu.example.com"], gpu.a && gpu.b)"#,
            "device.allowMultipleAllocations",
        ] {
            cost(good).expect(good);
        }
        for (bad, why) in [
            ("device.nope", "undefined field 'nope'"),
            ("device.driver", "must evaluate to bool or the unknown type, not string"),
            ("oops", "undeclared reference"),
            ("device.driver.matches('(')", "invalid matches argument"),
        ] {
            let told = cost(bad).expect_err(bad);
            assert!(told.contains(why), "{told}");
        }
    }

    #[test]
    fn loops_over_loops_cost_too_much() {
        let inner = r#"device.attributes["a"].all(b, device.attributes["b"].all(c, b.matches(c)))"#;
        let nested = format!(r#"device.attributes.all(x, device.attributes.all(y, {inner}))"#);
        assert!(cost(&nested).expect("an expression") > COST_MAX);
        assert!(cost("device.attributes.all(x, x.size() < 10)").expect("an expression") < COST_MAX);
    }
}
