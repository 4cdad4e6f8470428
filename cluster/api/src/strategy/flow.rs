//! FlowSchema and PriorityLevelConfiguration (k8s.io/kubernetes/pkg/apis/flowcontrol/validation).

use super::{
    Causes, CellContext, columns,
    row::{ROW, Row},
};
use crate::{json, validate::Field};
use serde_json::Value;
use strata_meta::{StatusCause, names};

const VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "proxy",
    "update",
    "watch",
];

pub(super) static FLOW_SCHEMAS: Row = Row {
    counts: true,
    columns: &[
        columns::NAME,
        columns::column("PriorityLevel", "string", "Where requests queue.", |cx| {
            columns::text(cx, "spec.priorityLevelConfiguration.name")
        }),
        columns::column("MatchingPrecedence", "string", "Lower is asked first.", |cx| {
            columns::count(cx, "spec.matchingPrecedence")
        }),
        columns::column("DistinguisherMethod", "string", "What tells flows apart.", |cx| {
            columns::or_none(json::text(cx.object, "spec.distinguisherMethod.type"))
        }),
        columns::AGE,
        columns::column(
            "MissingPL",
            "string",
            "references a broken or non-existent PriorityLevelConfiguration",
            |cx| {
                let conditions = json::list(cx.object, "status.conditions").iter();
                let dangling = conditions.into_iter().find(|c| json::text(c, "type") == "Dangling");
                dangling.map_or("?", |c| json::text(c, "status")).into()
            },
        ),
    ],
    validate: flow_schema,
    validate_status: |new, _, causes| conditions(new, causes),
    ..ROW
};

pub(super) static PRIORITY_LEVELS: Row = Row {
    counts: true,
    columns: &[
        columns::NAME,
        columns::column("Type", "string", "Limited or Exempt.", |cx| {
            columns::text(cx, "spec.type")
        }),
        columns::column("NominalConcurrencyShares", "string", "The share of all seats.", |cx| {
            number_or_none(cx, "spec.limited.nominalConcurrencyShares")
        }),
        columns::column("Queues", "string", "How many queues there are.", |cx| {
            number_or_none(cx, "spec.limited.limitResponse.queuing.queues")
        }),
        columns::column("HandSize", "string", "How many queues a flow is dealt.", |cx| {
            number_or_none(cx, "spec.limited.limitResponse.queuing.handSize")
        }),
        columns::column("QueueLengthLimit", "string", "How long a queue may be.", |cx| {
            number_or_none(cx, "spec.limited.limitResponse.queuing.queueLengthLimit")
        }),
        columns::AGE,
    ],
    validate: priority_level,
    validate_status: |new, _, causes| conditions(new, causes),
    ..ROW
};

fn number_or_none(cx: &CellContext<'_>, path: &str) -> Value {
    json::int(cx.object, path).map_or("<none>".into(), Value::from)
}

fn conditions(object: &Value, causes: &mut Causes) {
    let mut seen = Vec::new();
    for condition in Field::root(object).at("status.conditions").items() {
        let kind = condition.at("type");
        if seen.contains(&kind.text()) {
            causes.push(kind.duplicate());
        }
        seen.push(kind.text());
        kind.needs(causes);
    }
}

fn flow_schema(object: &Value, causes: &mut Causes) {
    let root = Field::root(object);
    let (name, spec) = (root.at("metadata.name"), root.at("spec"));
    let precedence = spec.at("matchingPrecedence");
    match precedence.int().unwrap_or(0) {
        n if n <= 0 => causes.push(precedence.invalid_as(n, "must be a positive value")),
        1 if name.text() != "exempt" => {
            causes.push(precedence.invalid("only the schema named 'exempt' may have matchingPrecedence 1"));
        }
        n if n > 10_000 => causes.push(precedence.invalid("must not be greater than 10000")),
        _ => {}
    }
    let method = spec.at("distinguisherMethod");
    let kind = method.at("type");
    if method.is_set() && !matches!(kind.text(), "ByNamespace" | "ByUser") {
        let cause = kind.not_supported(&["ByNamespace", "ByUser"]);
        let shown = format!("{{\"Type\":{}}}", Value::from(kind.text()));
        let message = format!("Unsupported value: {shown}: supported values: \"ByNamespace\", \"ByUser\"");
        causes.push(StatusCause { message, ..cause });
    }
    let level = spec.at("priorityLevelConfiguration.name");
    if level.is_empty() {
        causes.push(level.required("must reference a priority level"));
    } else {
        level.problems(causes, names::dns1123_subdomain(level.text()));
    }
    for rule in spec.at("rules").items() {
        policy_rule(&rule, causes);
    }
    conditions(object, causes);
}

fn policy_rule(rule: &Field<'_>, causes: &mut Causes) {
    let subjects = rule.at("subjects");
    if subjects.is_empty() {
        causes.push(subjects.required("subjects must contain at least one value"));
    }
    for subject in subjects.items() {
        flow_subject(&subject, causes);
    }
    let (resources, others) = (rule.at("resourceRules"), rule.at("nonResourceRules"));
    if resources.is_empty() && others.is_empty() {
        causes.push(rule.required("at least one of resourceRules and nonResourceRules has to be non-empty"));
    }
    for rule in resources.items() {
        resource_rule(&rule, causes);
    }
    for rule in others.items() {
        verbs(&rule, causes);
        let urls = rule.at("nonResourceURLs");
        if urls.is_empty() {
            causes.push(urls.required("nonResourceURLs must contain at least one value"));
        } else if !alone(&urls, "non-resource URLs", causes) {
            for url in urls.items() {
                url_path(&url, causes);
            }
        }
    }
}

fn flow_subject(subject: &Field<'_>, causes: &mut Causes) {
    const KINDS: &[(&str, &str)] = &[
        ("ServiceAccount", "serviceAccount"),
        ("User", "user"),
        ("Group", "group"),
    ];
    let kind = subject.at("kind");
    let Some((_, member)) = KINDS.iter().find(|(name, _)| *name == kind.text()) else {
        causes.push(kind.not_supported(&["Group", "ServiceAccount", "User"]));
        return;
    };
    let who = subject.at(member);
    if !who.is_set() {
        let why = format!("{member} is required when subject kind is '{}'", kind.text());
        causes.push(who.required(&why));
    } else if *member == "serviceAccount" {
        let (name, namespace) = (who.at("name"), who.at("namespace"));
        name.needs(causes);
        if !matches!(name.text(), "" | "*") {
            name.problems(causes, names::dns1123_subdomain(name.text()));
        }
        if namespace.is_empty() {
            causes.push(namespace.required("must specify namespace for service account"));
        } else {
            namespace.problems(causes, names::dns1123_label(namespace.text()));
        }
    } else {
        who.at("name").needs(causes);
    }
    for (name, other) in KINDS.iter().filter(|(_, other)| other != member) {
        if subject.at(other).is_set() {
            let why = format!("{other} is forbidden when subject kind is not '{name}'");
            causes.push(subject.at(other).forbidden(&why));
        }
    }
}

/// Whether `*` is in the list; it must be the only entry.
fn alone(list: &Field<'_>, others: &str, causes: &mut Causes) -> bool {
    let all = list.items().any(|entry| entry.text() == "*");
    if all && list.len() > 1 {
        let why = format!("if '*' is present, must not specify other {others}");
        causes.push(list.invalid(why));
    }
    all
}

fn verbs(rule: &Field<'_>, causes: &mut Causes) {
    let verbs = rule.at("verbs");
    if verbs.is_empty() {
        causes.push(verbs.required("verbs must contain at least one value"));
    } else if !alone(&verbs, "verbs", causes) && !verbs.items().all(|v| VERBS.contains(&v.text())) {
        causes.push(verbs.not_supported(VERBS));
    }
}

fn resource_rule(rule: &Field<'_>, causes: &mut Causes) {
    verbs(rule, causes);
    for (name, one, others) in [
        ("apiGroups", "api group", "api groups"),
        ("resources", "resource", "resources"),
    ] {
        let list = rule.at(name);
        if list.is_empty() {
            let why = format!("resource rules must supply at least one {one}");
            causes.push(list.required(&why));
        } else {
            alone(&list, others, causes);
        }
    }
    let namespaces = rule.at("namespaces");
    if namespaces.is_empty() && !rule.at("clusterScope").flag() {
        let why = "resource rules that are not cluster scoped must supply at least one namespace";
        causes.push(namespaces.required(why));
    } else if !alone(&namespaces, "namespaces", causes) {
        for namespace in namespaces.items() {
            for why in names::dns1123_label(namespace.text()) {
                let intro = "each member of this list must be '*' or a DNS-1123 label";
                causes.push(namespace.invalid(format_args!("{intro}; {why}")));
            }
        }
    }
}

fn url_path(url: &Field<'_>, causes: &mut Causes) {
    let text = url.text();
    let stars = text.matches('*').count();
    let why = match text {
        "" => "must not be empty",
        "/" => return,
        _ if !text.starts_with('/') => "must start with slash",
        _ if text.contains(' ') => "must not contain white-space",
        _ if text.contains("//") => "must not contain double slash",
        _ if stars > 1 || stars == 1 && !text.ends_with("/*") => "wildcard can only do suffix matching",
        _ => return,
    };
    causes.push(url.invalid(why));
}

fn priority_level(object: &Value, causes: &mut Causes) {
    let root = Field::root(object);
    let (name, spec) = (root.at("metadata.name"), root.at("spec"));
    let (kind, limited, exempt) = (spec.at("type"), spec.at("limited"), spec.at("exempt"));
    if (name.text() == "exempt") != (kind.text() == "Exempt") {
        causes.push(kind.invalid_as(kind.text(), "must be 'Exempt' if and only if `name` is 'exempt'"));
    }
    match kind.text() {
        "Exempt" => {
            if limited.is_set() {
                causes.push(limited.forbidden("must be nil if the type is not Limited"));
            }
            shares(&exempt, causes);
        }
        "Limited" => {
            if exempt.is_set() {
                causes.push(exempt.forbidden("must be nil if the type is Limited"));
            }
            if limited.is_set() {
                limited_level(&limited, causes);
            } else {
                causes.push(limited.required("must not be empty when type is Limited"));
            }
        }
        "" => causes.push(kind.required("")),
        _ => causes.push(kind.not_supported(&["Exempt", "Limited"])),
    }
    conditions(object, causes);
}

fn shares(level: &Field<'_>, causes: &mut Causes) {
    let (nominal, lendable) = (level.at("nominalConcurrencyShares"), level.at("lendablePercent"));
    if nominal.int().is_some_and(|n| n < 0) {
        causes.push(nominal.invalid("must be a non-negative integer"));
    }
    lendable.within(causes, 0, 100);
}

fn limited_level(level: &Field<'_>, causes: &mut Causes) {
    let nominal = level.at("nominalConcurrencyShares");
    if nominal.int().is_some_and(|n| n < 0) {
        causes.push(nominal.invalid("must be a non-negative integer"));
    }
    let response = level.at("limitResponse");
    let (kind, queuing) = (response.at("type"), response.at("queuing"));
    match kind.text() {
        "Reject" if queuing.is_set() => {
            causes.push(queuing.forbidden("must be nil if limited.limitResponse.type is not Limited"));
        }
        "Reject" => {}
        "Queue" if queuing.is_set() => queues(&queuing, causes),
        "Queue" => {
            causes.push(queuing.required("must not be empty if limited.limitResponse.type is Limited"));
        }
        "" => causes.push(kind.required("")),
        _ => causes.push(kind.not_supported(&["Queue", "Reject"])),
    }
    level.at("lendablePercent").within(causes, 0, 100);
    let borrowing = level.at("borrowingLimitPercent");
    if borrowing.int().is_some_and(|n| n < 0) {
        causes.push(borrowing.invalid("if specified, must be a non-negative integer"));
    }
}

fn queues(queuing: &Field<'_>, causes: &mut Causes) {
    const MOST: i64 = 10_000_000;
    const HASH_BITS: f64 = 60.0;
    let member = |name: &str| (queuing.at(name), queuing.at(name).int().unwrap_or(0));
    let ((length, limit), (queues, deck), (hand, dealt)) =
        (member("queueLengthLimit"), member("queues"), member("handSize"));
    if limit <= 0 {
        causes.push(length.invalid_as(limit, "must be positive"));
    }
    if deck <= 0 {
        causes.push(queues.invalid_as(deck, "must be positive"));
    } else if deck > MOST {
        causes.push(queues.invalid(format_args!("must not be greater than {MOST}")));
    }
    if dealt <= 0 {
        causes.push(hand.invalid_as(dealt, "must be positive"));
    } else if dealt > deck {
        let why = format!("should not be greater than queues ({deck})");
        causes.push(hand.invalid(why));
    } else if ((deck as f64).log2() * dealt as f64).ceil() > HASH_BITS {
        let why =
            format!("required entropy bits of deckSize {deck} and handSize {dealt} should not be greater than 60");
        causes.push(hand.invalid(why));
    }
}
