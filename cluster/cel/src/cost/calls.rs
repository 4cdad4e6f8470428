//! What a call may cost.

use super::{CostRange, Coster, EntrySize, Node, Range, SizeRange, is_logic, join};
use crate::{
    Type,
    actual::{CHECK_COST, REGEX_FACTOR, STRING_FACTOR},
    ast::{Id, Kind, Literal},
    functions::kubernetes::{self, CIDR, FORMAT, IP, URL},
};

type Estimate = (CostRange, Option<SizeRange>);

const ONE: Range = Range::fixed(1);

impl Coster<'_> {
    pub(super) fn function(
        &mut self,
        id: Id,
        (function, overload): (&str, &str),
        target: Option<&Node<'_>>,
        args: &[Node<'_>],
        costs: &[CostRange],
    ) -> Estimate {
        let sum = costs.iter().fold(Range::fixed(0), |sum, cost| sum.add(*cost));
        let known = self
            .of_overload(overload, target, args)
            .or_else(|| self.of_function((function, overload), target, args));
        if let Some((cost, size)) = known {
            return (cost.add(sum), size);
        }
        if is_logic(function) {
            return (
                Range {
                    min: costs[0].min,
                    max: sum.max,
                },
                None,
            );
        }
        if overload == "conditional" {
            return self.conditional(id, args, costs);
        }
        match self.of_language((id, overload), target, args) {
            Some((cost, size)) => (cost.add(sum), size),
            None => (ONE.add(sum), None),
        }
    }

    fn conditional(&mut self, id: Id, args: &[Node<'_>], costs: &[CostRange]) -> Estimate {
        let size = size_of(&args[1]).union(size_of(&args[2]));
        let entries = EntrySize::union(self.entries(args[1].expr), self.entries(args[2].expr));
        if let Some(entries) = entries {
            self.known_entries.insert(id, entries);
        }
        (costs[0].add(costs[1].union(costs[2])), Some(size))
    }

    /// cel-go's lists and sets.
    fn of_overload(&self, overload: &str, target: Option<&Node<'_>>, args: &[Node<'_>]) -> Option<Estimate> {
        let allocating = |factor: f64, size: SizeRange| Some((size.scale(factor).add(Range::fixed(11)), Some(size)));
        let compared =
            |size: SizeRange, text: bool| allocating(if text { 2.0 + STRING_FACTOR } else { 2.0 }, size.multiply(size));
        match (overload, target, args) {
            ("list_slice", Some(target), [start, end]) => {
                let start = integer(start, 0);
                let end = integer(end, size_of(target).max);
                allocating(1.0, Range::fixed(end.wrapping_sub(start)))
            }
            ("lists_range", None, [count]) => allocating(1.0, Range::fixed(integer(count, u64::MAX))),
            ("list_reverse", Some(target), []) => allocating(1.0, size_of(target)),
            ("list_flatten" | "list_flatten_int", Some(target), _) => {
                let depth = args.first().map_or(1, |depth| integer(depth, u64::MAX));
                allocating(depth as f64, size_of(target))
            }
            ("list_distinct", Some(target), []) => compared(size_of(target), false),
            (_, Some(target), []) if overload.starts_with("list_") && overload.ends_with("_sort") => {
                compared(size_of(target), is_text(overload))
            }
            (_, Some(_), [keys]) if overload.ends_with("_sortByAssociatedKeys") => {
                compared(size_of(keys), is_text(overload))
            }
            ("list_sets_contains_list" | "list_sets_intersects_list" | "list_sets_equivalent_list", _, [a, b]) => {
                let factor = if overload == "list_sets_equivalent_list" {
                    2.0
                } else {
                    1.0
                };
                Some((size_of(a).multiply(size_of(b)).scale(factor).add(ONE), None))
            }
            _ => None,
        }
    }

    /// Kubernetes' functions, by their names whatever they are called on.
    fn of_function(
        &self,
        (function, overload): (&str, &str),
        target: Option<&Node<'_>>,
        args: &[Node<'_>],
    ) -> Option<Estimate> {
        let traverse = |node: &Node<'_>, times: f64| size_of(node).scale(times * STRING_FACTOR);
        let first = args.first();
        Some(match function {
            "check" => (Range::fixed(CHECK_COST), None),
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
            | "getQuery" => (ONE, None),
            "fieldSelector" | "labelSelector" => {
                let [selector] = args else { return None };
                let requirements = size_of(selector).scale(0.5).scale(50.0);
                (Range::fixed(10).add(traverse(selector, 1.0)).add(requirements), None)
            }
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => (self.over_elements(target?), None),
            "url" | "jsonpatch.escapeKey" => {
                let [text] = args else { return None };
                (traverse(text, 1.0), Some(size_of(text)))
            }
            "lowerAscii" | "upperAscii" | "substring" | "trim" => (traverse(target?, 1.0), Some(size_of(target?))),
            "replace" => {
                let [from, to, ..] = args else { return None };
                let size = replaced(size_of(target?), size_of(from), size_of(to));
                (traverse(target?, 2.0), Some(size))
            }
            "split" => {
                let size = size_of(target?);
                let max = match args.get(1).map(|count| &count.expr.kind) {
                    Some(Kind::Literal(Literal::Int(count))) => *count as u64,
                    _ => size.max,
                };
                (traverse(target?, 2.0), Some(Range { min: 0, max }))
            }
            "join" => {
                let size = self.joined(target?, first);
                (size.scale(STRING_FACTOR), Some(size))
            }
            "find" | "findAll" => {
                let size = size_of(target?);
                let text = size.add(ONE).scale(STRING_FACTOR);
                let cost = text.multiply(size_of(first?).scale(REGEX_FACTOR));
                (cost, Some(Range { min: 0, max: size.max }))
            }
            "ip" if overload == "cidr_ip" => (ONE, None),
            "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver" => {
                (traverse(first?, 1.0), None)
            }
            "ip.isCanonical" => (traverse(first?, 2.0), None),
            "containsIP" => (contained(overload, first?, false), None),
            "containsCIDR" => (contained(overload, first?, true), None),
            "validate" => {
                let pattern = kubernetes::MAX_FORMAT_REGEX as f64 * REGEX_FACTOR;
                (traverse(first?, 1.0).scale(pattern), None)
            }
            "_==_" => (equality(args)?, None),
            _ => return None,
        })
    }

    /// One for each element, and what comparing it costs if it is text.
    fn over_elements(&self, list: &Node<'_>) -> CostRange {
        match list.ty.parameters().first() {
            Some(element) => {
                let mut cost = ONE;
                if matches!(element, Type::String | Type::Bytes) {
                    cost = cost.add(self.element_size(list).scale(STRING_FACTOR));
                }
                size_of(list).multiply(cost)
            }
            None => size_of(list).scale(STRING_FACTOR),
        }
    }

    fn element_size(&self, list: &Node<'_>) -> SizeRange {
        let path = list.path.as_ref().and_then(|_| join(&list.path, "@items"));
        path.and_then(|path| self.sizes.size(&path)).unwrap_or(Range::UNKNOWN)
    }

    fn joined(&self, list: &Node<'_>, separator: Option<&Node<'_>>) -> SizeRange {
        let count = size_of(list);
        let mut size = Range::fixed(0);
        if !list.ty.parameters().is_empty() {
            size = count.multiply(self.element_size(list));
        }
        if let Some(separator) = separator {
            let between = Range {
                min: count.min.saturating_sub(1),
                max: count.max.saturating_sub(1),
            };
            size = size.add(size_of(separator).multiply(between));
        }
        size
    }

    /// The language's own functions.
    fn of_language(
        &mut self,
        (id, overload): (Id, &str),
        target: Option<&Node<'_>>,
        args: &[Node<'_>],
    ) -> Option<Estimate> {
        let text = |node: &Node<'_>| size_of(node).scale(STRING_FACTOR);
        Some(match (overload, target, args) {
            ("string_format", Some(target), _) => (text(target), None),
            ("string_to_bytes", _, [arg]) => {
                let size = size_of(arg);
                (
                    text(arg),
                    Some(Range {
                        min: size.min,
                        max: size.max.wrapping_mul(4),
                    }),
                )
            }
            ("bytes_to_string", _, [arg]) => {
                let size = size_of(arg);
                (
                    text(arg),
                    Some(Range {
                        min: size.min / 4,
                        max: size.max,
                    }),
                )
            }
            ("strings_quote", _, [arg]) => {
                let size = size_of(arg);
                let max = size.max.wrapping_mul(2).wrapping_add(2);
                (
                    text(arg),
                    Some(Range {
                        min: size.min.wrapping_add(2),
                        max,
                    }),
                )
            }
            ("starts_with_string" | "ends_with_string", _, [arg]) => (text(arg), None),
            ("in_list", _, [_, list]) => (size_of(list).scale(1.0), None),
            ("matches_string", Some(target), [pattern]) => {
                let cost = size_of(target).add(ONE).scale(STRING_FACTOR);
                (cost.multiply(size_of(pattern).scale(REGEX_FACTOR)), None)
            }
            ("contains_string", Some(target), [arg]) => (text(target).multiply(text(arg)), None),
            ("add_string" | "add_bytes" | "add_list", _, [left, right]) => {
                let size = size_of(left).add(size_of(right));
                let entries = EntrySize::union(self.entries(left.expr), self.entries(right.expr));
                if let Some(entries) = entries {
                    self.known_entries.insert(id, entries);
                }
                let cost = if overload == "add_list" {
                    ONE
                } else {
                    size.scale(STRING_FACTOR)
                };
                (cost, Some(size))
            }
            (
                "less_string"
                | "greater_string"
                | "less_equals_string"
                | "greater_equals_string"
                | "less_bytes"
                | "greater_bytes"
                | "less_equals_bytes"
                | "greater_equals_bytes"
                | "equals"
                | "not_equals",
                _,
                [left, right],
            ) => {
                let max = size_of(left).max.min(size_of(right).max);
                let shorter = Range {
                    min: u64::from(max > 0),
                    max,
                };
                (shorter.scale(STRING_FACTOR), None)
            }
            _ => return None,
        })
    }
}

fn size_of(node: &Node<'_>) -> SizeRange {
    node.size.unwrap_or(Range::UNKNOWN)
}

fn integer(node: &Node<'_>, otherwise: u64) -> u64 {
    match node.expr.kind {
        Kind::Literal(Literal::Int(n)) => u64::try_from(n).unwrap_or(0),
        _ => otherwise,
    }
}

fn is_text(overload: &str) -> bool {
    overload.starts_with("list_string_") || overload.starts_with("list_bytes_")
}

fn contained(overload: &str, other: &Node<'_>, network: bool) -> CostRange {
    let address = Range { min: 4, max: 16 };
    let mut cost = address.add(address).scale(STRING_FACTOR);
    if network {
        cost = cost.add(address.scale(STRING_FACTOR)).add(ONE);
    }
    if overload.ends_with("_string") {
        cost = cost.add(size_of(other).scale(STRING_FACTOR));
    }
    cost
}

fn equality(args: &[Node<'_>]) -> Option<CostRange> {
    let [left, right] = args else { return None };
    if left.ty != right.ty {
        return None;
    }
    match &left.ty {
        Type::Opaque(name, _) if matches!(&**name, IP | CIDR) => Some(ONE),
        Type::Struct(name) if &**name == FORMAT => Some(Range { min: 1, max: 64 }.scale(STRING_FACTOR)),
        Type::Struct(name) if &**name == URL => {
            let max = right.size.map_or(1, |size| size.max);
            Some(Range { min: 1, max }.scale(STRING_FACTOR))
        }
        Type::Struct(name) if kubernetes::is_library_type(name) => Some(ONE),
        _ => None,
    }
}

/// How long a text may be after replacing.
fn replaced(text: SizeRange, from: SizeRange, to: SizeRange) -> SizeRange {
    let (mut count, mut kept) = (Range::fixed(0), Range::fixed(0));
    let pieces = |length: u64, piece: u64| (length as f64 / piece as f64).ceil() as u64;
    if from.min == 0 {
        count.max = text.max.saturating_add(1);
        kept.max = text.max;
    } else if to.max <= from.min {
        kept.max = text.max;
    } else {
        count.max = pieces(text.max, from.min);
    }
    if from.max == 0 {
        count.min = text.min.saturating_add(1);
        kept.min = text.min;
    } else if from.max <= to.min {
        kept.min = text.min;
    } else {
        count.min = pieces(text.min, from.max);
    }
    count.multiply(to).add(kept)
}
