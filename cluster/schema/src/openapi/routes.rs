//! What can be asked for at each path, without regard to the version of the description.

use super::{
    DescribedKind, DescribedSubresource,
    names::{self, META, Naming},
};
use crate::{Schema, Shape, TypeId};
use std::collections::BTreeMap;
use strata_meta::GroupVersionKind;

/// By path.
pub(super) type Routes = BTreeMap<String, Vec<Route>>;

/// A method of a path.
pub(super) struct Route {
    pub(super) method: &'static str,
    pub(super) id: String,
    pub(super) tag: String,
    pub(super) consumes: &'static [&'static str],
    pub(super) produces: Vec<&'static str>,
    pub(super) parameters: Vec<Parameter>,
    /// With whether it is required.
    pub(super) body: Option<(Payload, bool)>,
    pub(super) answer: Payload,
    pub(super) codes: &'static [u16],
    pub(super) meaning: Option<Meaning>,
}

/// What a route does to which kind.
pub(super) struct Meaning {
    pub(super) action: &'static str,
    pub(super) kind: GroupVersionKind,
}

/// A parameter in the path or the query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) place: &'static str,
    pub(super) kind: &'static str,
}

/// What a body is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Payload {
    /// Text.
    Text,
    /// A type of the table.
    Type(TypeId),
    /// A definition by name.
    Named(String),
}

const ANY: &[&str] = &["*/*"];
const PLAIN_JSON: &[&str] = &["application/json"];
const JSON_YAML: &[&str] = &["application/json", "application/yaml"];
const MEDIA: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
];
const STREAMED: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];
const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
const CUSTOM_PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/apply-patch+yaml",
];

/// What is sent or answered, in terms of the kind.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    Nothing,
    Own,
    List,
    /// The object if deletions of its kind answer with it.
    Deleted,
    Status,
    Event,
    Patch,
    DeleteOptions,
}

/// A discovery verb as an operation.
#[derive(Clone, Copy)]
struct Operation {
    verb: &'static str,
    method: &'static str,
    action: &'static str,
    /// The name's verb, and what comes behind the group and version.
    name: (&'static str, &'static str),
    options: &'static [&'static str],
    without: &'static [&'static str],
    body: Role,
    answer: Role,
    codes: &'static [u16],
    consumes: &'static [&'static str],
    produces: &'static [&'static str],
}

const READ: Operation = Operation {
    verb: "get",
    method: "get",
    action: "get",
    name: ("read", ""),
    options: &[],
    without: &[],
    body: Role::Nothing,
    answer: Role::Own,
    codes: &[200],
    consumes: ANY,
    produces: MEDIA,
};
const LIST: Operation = Operation {
    verb: "list",
    action: "list",
    name: ("list", ""),
    options: &["ListOptions"],
    answer: Role::List,
    produces: STREAMED,
    ..READ
};
const CREATE: Operation = Operation {
    verb: "create",
    method: "post",
    action: "post",
    name: ("create", ""),
    options: &["CreateOptions"],
    body: Role::Own,
    codes: &[200, 201, 202],
    ..READ
};
const DELETE_LIST: Operation = Operation {
    verb: "deletecollection",
    method: "delete",
    action: "deletecollection",
    name: ("delete", "collection"),
    options: &["DeleteOptions", "ListOptions"],
    without: &["watch", "allowWatchBookmarks"],
    body: Role::DeleteOptions,
    answer: Role::Status,
    ..READ
};
const UPDATE: Operation = Operation {
    verb: "update",
    method: "put",
    action: "put",
    name: ("replace", ""),
    options: &["UpdateOptions"],
    body: Role::Own,
    codes: &[200, 201],
    ..READ
};
const PATCH: Operation = Operation {
    verb: "patch",
    method: "patch",
    action: "patch",
    name: ("patch", ""),
    options: &["PatchOptions"],
    body: Role::Patch,
    codes: &[200, 201],
    consumes: PATCHES,
    ..READ
};
const DELETE: Operation = Operation {
    verb: "delete",
    method: "delete",
    action: "delete",
    name: ("delete", ""),
    options: &["DeleteOptions"],
    body: Role::DeleteOptions,
    answer: Role::Deleted,
    codes: &[200, 202],
    ..READ
};
const WATCH: Operation = Operation {
    verb: "watch",
    action: "watch",
    name: ("watch", ""),
    options: &["ListOptions"],
    answer: Role::Event,
    produces: STREAMED,
    ..READ
};
const WATCH_LIST: Operation = Operation {
    action: "watchlist",
    ..WATCH
};

/// The operations of a kind: on all, on one, and the watches of old on both.
struct Operations {
    all: &'static [Operation],
    one: &'static [Operation],
    watches: bool,
}

const BUILTIN: Operations = Operations {
    all: &[LIST, CREATE, DELETE_LIST],
    one: &[READ, UPDATE, PATCH, DELETE, CREATE],
    watches: true,
};

const fn custom(operation: Operation, options: &'static [&'static str]) -> Operation {
    Operation {
        consumes: JSON_YAML,
        produces: JSON_YAML,
        options,
        ..operation
    }
}

const CUSTOM: Operations = Operations {
    all: &[
        custom(LIST, &["ListOptions"]),
        custom(CREATE, &["CreateOptions"]),
        Operation {
            without: &[],
            body: Role::Nothing,
            ..custom(DELETE_LIST, &["ListOptions"])
        },
    ],
    one: &[
        custom(READ, &["GetOptions"]),
        custom(UPDATE, &["UpdateOptions"]),
        Operation {
            consumes: CUSTOM_PATCHES,
            codes: &[200],
            ..custom(PATCH, &["PatchOptions"])
        },
        custom(DELETE, &["DeleteOptions"]),
    ],
    watches: false,
};

/// Adds every path of a resource.
pub(super) fn add_resource(kind: &DescribedKind<'_>, routes: &mut Routes) {
    let mut builder = Builder {
        kind,
        naming: Naming::new(kind.group, Some(kind.version)),
        operations: if kind.custom { &CUSTOM } else { &BUILTIN },
        routes,
    };
    builder.resource();
}

struct Builder<'b> {
    kind: &'b DescribedKind<'b>,
    naming: Naming,
    operations: &'static Operations,
    routes: &'b mut Routes,
}

/// Where operations are: the path, its parameters, the words of the name around the kind, the body's kind.
struct Place<'p> {
    path: String,
    names: &'p [&'static str],
    before: &'static str,
    after: String,
    body: GroupVersionKind,
}

impl Builder<'_> {
    fn resource(&mut self) {
        let kind = self.kind;
        let root = names::root(kind.group, kind.version);
        let (scope, before, names): (_, _, &[&'static str]) = match kind.namespaced {
            true => ("/namespaces/{namespace}", "Namespaced", &["namespace", "name"]),
            false => ("", "", &["name"]),
        };
        let body = GroupVersionKind::new(kind.group, kind.version, kind.kind);
        let place = |path: String, names, before, after: &str| Place {
            path,
            names,
            before,
            after: after.to_owned(),
            body: body.clone(),
        };
        let above = &names[..names.len() - 1];
        let (all, one) = (
            format!("{scope}/{}", kind.plural),
            format!("{scope}/{}/{{name}}", kind.plural),
        );
        self.add_all(
            place(format!("{root}{all}"), above, before, ""),
            self.operations.all,
            &kind.verbs,
        );
        self.add_all(
            place(format!("{root}{one}"), names, before, ""),
            self.operations.one,
            &kind.verbs,
        );
        if kind.namespaced {
            let everywhere = place(format!("{root}/{}", kind.plural), &[], "", "ForAllNamespaces");
            self.add_all(everywhere, &self.operations.all[..1], &kind.verbs);
        }
        if self.operations.watches && kind.verbs.contains(&"watch") {
            self.add(&place(format!("{root}/watch{one}"), names, before, ""), &WATCH);
            if kind.verbs.contains(&"list") {
                self.add(&place(format!("{root}/watch{all}"), above, before, "List"), &WATCH_LIST);
            }
            if kind.namespaced && kind.verbs.contains(&"list") {
                let path = format!("{root}/watch/{}", kind.plural);
                self.add(&place(path, &[], "", "ListForAllNamespaces"), &WATCH_LIST);
            }
        }
        for sub in &kind.subresources {
            let body = GroupVersionKind::new(sub.group, sub.version, sub.kind);
            let place = Place {
                body,
                ..place(
                    format!("{root}{one}/{}", sub.name),
                    names,
                    before,
                    &names::capitalized(sub.name),
                )
            };
            match sub.kind.ends_with("Options") {
                true => self.connections(sub, place),
                false => self.add_all(place, self.operations.one, &sub.verbs),
            }
        }
    }

    fn add_all(&mut self, place: Place<'_>, operations: &[Operation], verbs: &[&str]) {
        for operation in operations.iter().filter(|operation| verbs.contains(&operation.verb)) {
            // Objects are created among all; one is only what a subresource is made of.
            if operation.verb != "create" || !place.names.contains(&"name") || place.path.ends_with(|c| c != '}') {
                self.add(&place, operation);
            }
        }
    }

    fn add(&mut self, place: &Place<'_>, operation: &Operation) {
        let mut route = self.route(place, operation.action, operation.name);
        route.method = operation.method;
        route.parameters.push(query("pretty", "string"));
        for options in operation.options {
            let known = options_of(&GroupVersionKind::new("meta.k8s.io", "v1", options));
            route
                .parameters
                .extend(known.into_iter().filter(|p| !operation.without.contains(&p.name)));
        }
        route.answer = self.payload(operation.answer, &place.body);
        if operation.body != Role::Nothing {
            let required = operation.body != Role::DeleteOptions;
            route.body = Some((self.payload(operation.body, &place.body), required));
        }
        route.codes = operation.codes;
        route.consumes = operation.consumes;
        route.produces = operation.produces.to_vec();
        // A read that takes options of its own is a stream of text.
        let own = format!("{}{}Options", place.body.kind, place.after);
        let own = options_of(&GroupVersionKind::new(self.kind.group, self.kind.version, &own));
        if operation.verb == "get" && !own.is_empty() {
            route.parameters.extend(own);
            route.answer = Payload::Text;
            route.produces.insert(0, "text/plain");
        }
        self.routes.entry(place.path.clone()).or_default().push(route);
    }

    fn route(&self, place: &Place<'_>, action: &'static str, (verb, first): (&str, &str)) -> Route {
        let rest = format!("{first}{}{}{}", place.before, self.kind.kind, place.after);
        let kind = match self.kind.custom {
            true => GroupVersionKind::new(self.kind.group, self.kind.version, self.kind.kind),
            false => place.body.clone(),
        };
        let in_path = |name: &&'static str| Parameter {
            name,
            place: "path",
            kind: "string",
        };
        Route {
            method: "get",
            id: self.naming.operation(verb, &rest),
            tag: self.naming.tag.clone(),
            consumes: ANY,
            produces: ANY.to_vec(),
            parameters: place.names.iter().map(in_path).collect(),
            body: None,
            answer: Payload::Text,
            codes: &[200],
            meaning: Some(Meaning { action, kind }),
        }
    }

    /// Streams that are passed on; those with a path in their options to anything below as well.
    fn connections(&mut self, sub: &DescribedSubresource<'_>, place: Place<'_>) {
        const METHODS: [(&str, &str, &str); 7] = [
            ("get", "get", "Get"),
            ("create", "post", "Post"),
            ("update", "put", "Put"),
            ("patch", "patch", "Patch"),
            ("delete", "delete", "Delete"),
            ("delete", "head", "Head"),
            ("delete", "options", "Options"),
        ];
        let options = options_of(&place.body);
        let mut below = Place {
            path: format!("{}/{{path}}", place.path),
            names: &[],
            after: format!("{}WithPath", place.after),
            body: place.body.clone(),
            ..place
        };
        let names = [place.names, &["path"]].concat();
        below.names = &names;
        let proxied = options.iter().any(|option| option.name == "path");
        for place in [Some(&place), proxied.then_some(&below)].into_iter().flatten() {
            for (_, method, first) in METHODS.iter().filter(|(verb, _, _)| sub.verbs.contains(verb)) {
                let mut route = self.route(place, "connect", ("connect", first));
                route.method = method;
                route.parameters.extend(options.iter().copied());
                self.routes.entry(place.path.clone()).or_default().push(route);
            }
        }
    }

    fn payload(&self, role: Role, body: &GroupVersionKind) -> Payload {
        let meta = |kind: &str| payload_of(&GroupVersionKind::new("meta.k8s.io", "v1", kind));
        match role {
            Role::Nothing => Payload::Text,
            Role::List => self.own(&GroupVersionKind::new(
                self.kind.group,
                self.kind.version,
                self.kind.list_kind,
            )),
            Role::Own => self.own(body),
            Role::Deleted if self.kind.returns_deleted => payload_of(body),
            Role::Deleted | Role::Status => meta("Status"),
            Role::Event => meta("WatchEvent"),
            Role::DeleteOptions => meta("DeleteOptions"),
            Role::Patch => Payload::Named(format!("{META}.Patch")),
        }
    }
}

impl Builder<'_> {
    /// A kind of the resource's group, which may have the name of one that every group has.
    fn own(&self, gvk: &GroupVersionKind) -> Payload {
        match self.kind.custom && gvk.group == self.kind.group {
            true => Payload::Named(names::custom_definition(gvk)),
            false => payload_of(gvk),
        }
    }
}

fn payload_of(gvk: &GroupVersionKind) -> Payload {
    match Schema::builtin().type_of(gvk) {
        Some(id) => Payload::Type(id),
        None => Payload::Named(names::custom_definition(gvk)),
    }
}

fn query(name: &'static str, kind: &'static str) -> Parameter {
    Parameter {
        name,
        place: "query",
        kind,
    }
}

/// The simple fields of an options kind, as they are asked for in the query; none if there is no such kind.
fn options_of(gvk: &GroupVersionKind) -> Vec<Parameter> {
    let schema = Schema::builtin();
    let Some(id) = schema.type_of(gvk) else {
        return Vec::new();
    };
    let fields = schema.type_info(id).fields.iter().filter(|field| field.via.is_empty());
    let simple = |shape: &Shape| match schema.resolve(shape) {
        Shape::String => Some("string"),
        Shape::Bool => Some("boolean"),
        Shape::Int32 | Shape::Int64 | Shape::Uint32 | Shape::Uint64 => Some("integer"),
        _ => None,
    };
    let parameter = |field: &'static crate::Field| {
        let kind = match schema.resolve(&field.shape) {
            Shape::List(item) => simple(item),
            shape => simple(shape),
        };
        kind.map(|kind| query(field.name, kind))
    };
    fields.filter_map(parameter).collect()
}

/// Adds a path that only tells something.
fn tell(
    path: String,
    naming: &Naming,
    rest: &str,
    answer: Payload,
    media: &'static [&'static str],
    routes: &mut Routes,
) {
    let route = Route {
        method: "get",
        id: naming.operation("get", rest),
        tag: naming.tag.clone(),
        consumes: media,
        produces: media.to_vec(),
        parameters: Vec::new(),
        body: None,
        answer,
        codes: &[200],
        meaning: None,
    };
    routes.entry(path).or_default().push(route);
}

/// Adds the path that names the resources of a group and version.
pub(super) fn add_version(group: &str, version: &str, routes: &mut Routes) {
    let answer = payload_of(&GroupVersionKind::new("meta.k8s.io", "v1", "APIResourceList"));
    let path = names::root(group, version) + "/";
    tell(
        path,
        &Naming::new(group, Some(version)),
        "APIResources",
        answer,
        MEDIA,
        routes,
    );
}

/// Adds the path that names the versions of a group.
pub(super) fn add_group(group: &str, routes: &mut Routes) {
    let answer = payload_of(&GroupVersionKind::new("meta.k8s.io", "v1", "APIGroup"));
    tell(
        format!("/apis/{group}/"),
        &Naming::new(group, None),
        "APIGroup",
        answer,
        MEDIA,
        routes,
    );
}

/// The definition of what `/version` answers with.
pub(super) const VERSION: &str = "io.k8s.apimachinery.pkg.version.Info";

/// Adds one of the paths that belong to no group; `false` if there is no such path.
pub(super) fn add_root(path: &str, routes: &mut Routes) -> bool {
    let meta = |kind: &str| payload_of(&GroupVersionKind::new("meta.k8s.io", "v1", kind));
    let at = format!("/{path}/");
    match path {
        "api" => tell(
            at,
            &Naming::new("", None),
            "APIVersions",
            meta("APIVersions"),
            MEDIA,
            routes,
        ),
        "apis" => tell(
            at,
            &Naming::bare("apis"),
            "APIVersions",
            meta("APIGroupList"),
            MEDIA,
            routes,
        ),
        "version" => {
            let answer = Payload::Named(VERSION.to_owned());
            tell(at, &Naming::bare(path), "CodeVersion", answer, PLAIN_JSON, routes);
        }
        "openid/v1/jwks" | ".well-known/openid-configuration" => {
            let (rest, media): (_, &[&str]) = match path {
                "openid/v1/jwks" => ("ServiceAccountIssuerOpenIDKeyset", &["application/jwk-set+json"]),
                _ => ("ServiceAccountIssuerOpenIDConfiguration", PLAIN_JSON),
            };
            let tag = path.split('/').next().unwrap_or(path);
            tell(at.clone(), &Naming::bare(tag), rest, Payload::Text, media, routes);
            for route in routes.get_mut(&at).into_iter().flatten() {
                route.consumes = &[];
            }
        }
        _ => return false,
    }
    true
}
