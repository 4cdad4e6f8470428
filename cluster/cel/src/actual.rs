//! What calls cost when they run: cel-go's tracker with Kubernetes' costs on top.

use crate::{Value, functions::kubernetes::Opaque, value::List};

/// Cost of a character that is looked at.
pub(crate) const STRING_FACTOR: f64 = 0.1;
/// Cost of a character of a pattern, for each unit of the text's cost.
pub(crate) const REGEX_FACTOR: f64 = 0.25;
/// Cost of an authorisation check: two of them to an expression.
pub(crate) const CHECK_COST: u64 = 350_000;

/// How the cost of a call follows from its arguments and its result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum CostRule {
    Fixed(u64),
    /// So many times over the first argument.
    Traverse(f64),
    /// Over every element of the first argument, however deep.
    TraverseAll,
    /// Over what is made.
    Join,
    /// A pattern over a text.
    Regex,
    /// A text in a text.
    Contains,
    /// Elements of the second argument.
    InList,
    /// Up to the end of the shorter argument.
    Shorter,
    /// Over both arguments.
    Both,
    Selector,
    ContainsIp {
        parses: bool,
    },
    ContainsCidr {
        parses: bool,
    },
    Validate,
    ListOutput,
    Flatten,
    SelfCompare(usize),
    Sets(f64),
}

/// `size * factor`, rounded up.
pub(crate) fn scaled(size: u64, factor: f64) -> u64 {
    (size as f64 * factor).ceil() as u64
}

impl CostRule {
    /// The rule of a function's overload; the overload is empty when only the run can tell it.
    pub(crate) fn of(function: &str, overload: &str) -> Self {
        Self::of_overload(overload)
            .or_else(|| Self::of_function(function, overload))
            .unwrap_or_else(|| Self::of_language(overload))
    }

    fn of_overload(overload: &str) -> Option<Self> {
        Some(match overload {
            "list_slice" | "lists_range" | "list_reverse" => Self::ListOutput,
            "list_flatten" | "list_flatten_int" => Self::Flatten,
            "list_distinct" => Self::SelfCompare(0),
            "list_sets_contains_list" | "list_sets_intersects_list" => Self::Sets(1.0),
            "list_sets_equivalent_list" => Self::Sets(2.0),
            _ if overload.starts_with("list_") && overload.ends_with("_sort") => Self::SelfCompare(0),
            _ if overload.ends_with("_sortByAssociatedKeys") => Self::SelfCompare(1),
            _ => return None,
        })
    }

    fn of_function(function: &str, overload: &str) -> Option<Self> {
        Some(match function {
            "check" => Self::Fixed(CHECK_COST),
            "serviceAccount"
            | "path"
            | "group"
            | "resource"
            | "subresource"
            | "namespace"
            | "name"
            | "allowed"
            | "reason"
            | "error"
            | "errored"
            | "masked"
            | "prefixLength"
            | "family"
            | "isUnspecified"
            | "isLoopback"
            | "isLinkLocalMulticast"
            | "isLinkLocalUnicast"
            | "isGlobalUnicast"
            | "format.named"
            | "sign"
            | "asInteger"
            | "isInteger"
            | "asApproximateFloat"
            | "isGreaterThan"
            | "isLessThan"
            | "compareTo"
            | "add"
            | "sub"
            | "major"
            | "minor"
            | "patch"
            | "getScheme"
            | "getHostname"
            | "getHost"
            | "getPort"
            | "getEscapedPath"
            | "getQuery" => Self::Fixed(1),
            "fieldSelector" | "labelSelector" => Self::Selector,
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => Self::TraverseAll,
            "url"
            | "lowerAscii"
            | "upperAscii"
            | "substring"
            | "trim"
            | "jsonpatch.escapeKey"
            | "cidr"
            | "isIP"
            | "isCIDR"
            | "quantity"
            | "isQuantity"
            | "semver"
            | "isSemver" => Self::Traverse(1.0),
            "ip" if overload == "cidr_ip" => Self::Fixed(1),
            "ip" => Self::Traverse(1.0),
            "replace" | "split" | "ip.isCanonical" => Self::Traverse(2.0),
            "join" => Self::Join,
            "find" | "findAll" => Self::Regex,
            "containsIP" => Self::ContainsIp {
                parses: overload == "cidr_contains_ip_string",
            },
            "containsCIDR" => Self::ContainsCidr {
                parses: overload == "cidr_contains_cidr_string",
            },
            "validate" => Self::Validate,
            _ => return None,
        })
    }

    fn of_language(overload: &str) -> Self {
        match overload {
            "starts_with_string" | "ends_with_string" | "string_to_bytes" | "bytes_to_string" | "strings_quote"
            | "string_format" => Self::Traverse(1.0),
            "in_list" => Self::InList,
            "less_string"
            | "greater_string"
            | "less_equals_string"
            | "greater_equals_string"
            | "less_bytes"
            | "greater_bytes"
            | "less_equals_bytes"
            | "greater_equals_bytes" => Self::Shorter,
            "add_string" | "add_bytes" => Self::Both,
            "matches_string" => Self::Regex,
            "contains_string" => Self::Contains,
            _ => Self::Fixed(1),
        }
    }

    /// Whether the cost is only known afterwards.
    pub(crate) fn follows_result(self) -> bool {
        matches!(self, Self::Join | Self::ListOutput)
    }

    /// What a call costs.
    pub(crate) fn of_call(self, args: &[Value<'_>], result: Option<&Value<'_>>) -> u64 {
        let size = |at: usize| args.get(at).map_or(1, Value::size);
        let output = || result.map_or(1, Value::size);
        // A negative product wraps around, as it does upstream.
        let allocating = |factor: f64, size: u64| match size as f64 * factor {
            cost if cost < 0.0 => (cost as i64 as u64).wrapping_add(11),
            cost => (cost as u64).saturating_add(11),
        };
        match self {
            Self::Fixed(cost) => cost,
            Self::Traverse(times) => scaled(size(0), times * STRING_FACTOR),
            Self::TraverseAll => args.first().map_or(0, traversal),
            Self::Join => scaled(output(), 2.0 * STRING_FACTOR),
            Self::Regex => scaled(size(0) + 1, STRING_FACTOR) * scaled(size(1), REGEX_FACTOR),
            Self::Contains => scaled(size(0), STRING_FACTOR) * scaled(size(1), STRING_FACTOR),
            Self::InList => size(1),
            Self::Shorter => scaled(size(0).min(size(1)), STRING_FACTOR),
            Self::Both => scaled(size(0) + size(1), STRING_FACTOR),
            Self::Selector => {
                let requirements = scaled(size(1), 0.5);
                10 + scaled(size(1), STRING_FACTOR) + scaled(requirements, 50.0)
            }
            Self::ContainsIp { parses } => {
                scaled(2 * size(0), STRING_FACTOR) + if parses { scaled(size(1), STRING_FACTOR) } else { 0 }
            }
            Self::ContainsCidr { parses } => {
                let parsing = if parses { scaled(size(1), STRING_FACTOR) } else { 0 };
                scaled(2 * size(0), STRING_FACTOR) + scaled(size(0), STRING_FACTOR) + 1 + parsing
            }
            Self::Validate => match args.first() {
                Some(Value::Opaque(Opaque::Format(format))) => {
                    let pattern = scaled(format.regex_size, REGEX_FACTOR);
                    scaled(size(1) + 1, STRING_FACTOR) * pattern
                }
                _ => 1,
            },
            Self::ListOutput => allocating(1.0, output()),
            Self::Flatten => {
                let depth = match args.get(1) {
                    Some(Value::Int(depth)) => *depth as f64,
                    _ => 1.0,
                };
                allocating(depth, size(0))
            }
            Self::SelfCompare(at) => {
                let text = matches!(
                    args.get(at),
                    Some(Value::List(list)) if matches!(list.get(0), Some(Ok(Value::String(_) | Value::Bytes(_))))
                );
                let factor = if text { 2.0 + STRING_FACTOR } else { 2.0 };
                allocating(factor, size(at).saturating_mul(size(at)))
            }
            Self::Sets(factor) => 1 + (size(0).saturating_mul(size(1)) as f64 * factor) as u64,
        }
    }
}

/// What looking at all of a value costs.
fn traversal(value: &Value<'_>) -> u64 {
    if crate::value::look().is_err() {
        return u64::MAX;
    }
    let part = |length: usize| (length as f64 * STRING_FACTOR) as u64;
    match value {
        Value::String(text) => part(text.len()),
        Value::Bytes(bytes) => part(bytes.len()),
        Value::List(List::Owned(elements, _)) => elements.iter().map(traversal).fold(0, u64::saturating_add),
        Value::List(list) => list.iter().map(|element| element.as_ref().map_or(1, traversal)).sum(),
        Value::Map(map) => {
            let entry = |key: &Value<'_>| traversal(key) + map.find(key).ok().flatten().as_ref().map_or(1, traversal);
            map.keys().iter().map(entry).sum()
        }
        _ => 1,
    }
}
