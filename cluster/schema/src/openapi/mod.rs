//! The OpenAPI descriptions, v2 and v3, as clients use them to explain fields, to learn patch
//! strategies and to see what the server can check.
//!
//! A [`Document`] is described by kinds ([`Subject`]); its paths come from [`routes`] and its schemas
//! from the table. Nothing of it is built before it is written, as JSON or in gnostic's protobuf form,
//! and then piece by piece: whole documents are megabytes. The feature `descriptions` adds prose.

#[cfg(feature = "descriptions")]
mod descriptions;
pub mod gnostic;
mod names;
mod render;
mod routes;
mod schemas;
mod subject;
mod write;

pub use names::document_path;
pub use subject::{DescribedKind, DescribedSubresource, Lazy, Subject};

use routes::Routes;
use schemas::{Definition, Reached};
use serde_json::{Value, json};
use std::{collections::BTreeSet, io, sync::LazyLock};
use strata_meta::GroupVersionKind;

/// The version of the description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// One document of everything.
    V2,
    /// A document for each group and version.
    V3,
}

impl Form {
    /// A reference to a definition.
    pub fn reference(self, name: &str) -> Value {
        match self {
            Self::V2 => json!({"$ref": format!("#/definitions/{name}")}),
            Self::V3 => json!({"$ref": format!("#/components/schemas/{name}")}),
        }
    }
}

/// Changes whenever the description of a built-in kind does.
pub fn openapi_fingerprint() -> u64 {
    static HASH: LazyLock<u64> = LazyLock::new(|| {
        let parts = [
            include_str!("../generated/types.txt"),
            include_str!("../generated/kinds.txt"),
            env!("CARGO_PKG_VERSION"),
            if cfg!(feature = "descriptions") {
                "described"
            } else {
                ""
            },
        ];
        // FNV-1a.
        parts
            .iter()
            .flat_map(|part| part.bytes())
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            })
    });
    *HASH
}

/// The name of the schema of a kind that is defined at run time.
pub fn openapi_custom_name(gvk: &GroupVersionKind) -> String {
    names::custom_definition(gvk)
}

/// The definition of a built-in kind and all it leads to, by name, as v3 has them but without prose.
pub fn openapi_definitions(gvk: &GroupVersionKind) -> Option<(Value, Value)> {
    let schema = crate::Schema::builtin();
    let own = names::definition(schema.type_info(schema.type_of(gvk)?));
    let all = schemas::reached_from(schema.type_of(gvk)?);
    let all: serde_json::Map<String, Value> = all
        .iter()
        .map(|(name, definition)| (name.clone(), schemas::render(definition, &[])))
        .collect();
    Some((all.get(&own)?.clone(), Value::Object(all)))
}

/// A document that is not written yet.
pub struct Document<'a> {
    form: Form,
    title: &'static str,
    version: String,
    secured: bool,
    routes: Routes,
    parts: Vec<Part>,
    given: Vec<(String, Lazy<'a>)>,
    foreign: Vec<&'a Value>,
}

/// The definitions that one subject leads to.
struct Part {
    /// Group and version; nothing for what has none.
    version: Option<(String, String)>,
    custom: bool,
    reached: Reached,
}

impl<'a> Document<'a> {
    /// The v3 document of a subject; `version` is the server's. `None` if there is no such path.
    pub fn v3(subject: Subject<'a>, version: &str) -> Option<Self> {
        let custom = matches!(subject, Subject::Custom(..));
        let mut document = Self {
            form: Form::V3,
            title: if custom { "Kubernetes CRD Swagger" } else { "Kubernetes" },
            version: if custom { "v0.1.0" } else { version }.to_owned(),
            secured: !custom,
            routes: Routes::new(),
            parts: Vec::new(),
            given: Vec::new(),
            foreign: Vec::new(),
        };
        document.add(subject).then_some(document)
    }

    /// The v2 document of all subjects, and what is known of other servers' paths and definitions in v2's form.
    pub fn v2(subjects: Vec<Subject<'a>>, version: &str, foreign: Vec<&'a Value>) -> Self {
        let mut document = Self {
            form: Form::V2,
            title: "Kubernetes",
            version: version.to_owned(),
            secured: true,
            routes: Routes::new(),
            parts: Vec::new(),
            given: Vec::new(),
            foreign,
        };
        for subject in subjects {
            document.add(subject);
        }
        document
    }

    fn add(&mut self, subject: Subject<'a>) -> bool {
        let mut routes = Routes::new();
        let (version, custom) = subject.add_routes(&mut routes);
        let mut part = Part {
            version,
            custom,
            reached: schemas::reached(&routes),
        };
        if let Subject::Custom(_, given) = subject {
            schemas::reach_metadata(&mut part.reached);
            self.given.extend(given);
        }
        let found = !routes.is_empty();
        self.routes.append(&mut routes);
        self.parts.push(part);
        found
    }

    /// Every path in turn; those of v2 fill `shared`. Errors: those of `each`.
    fn paths(&self, shared: &mut render::Shared, each: Each<'_>) -> io::Result<()> {
        for (path, routes) in &self.routes {
            each(path, render::path_item(self.form, routes, shared))?;
        }
        for foreign in &self.foreign {
            for (path, item) in foreign["paths"].as_object().into_iter().flatten() {
                if !self.routes.contains_key(path) {
                    each(path, item.clone())?;
                }
            }
        }
        Ok(())
    }

    /// Every definition in turn, in no order. Errors: those of `each`.
    fn definitions(&self, each: Each<'_>) -> io::Result<()> {
        let mut known = BTreeSet::new();
        for part in &self.parts {
            #[cfg(feature = "descriptions")]
            let prose = descriptions::Prose::of(part.version.as_ref());
            for (name, definition) in &part.reached {
                if !known.insert(name.as_str()) {
                    continue;
                }
                let mut schema = schemas::render(definition, &self.kinds_of(part, definition));
                #[cfg(feature = "descriptions")]
                prose.describe(name, &mut schema);
                if self.form == Form::V2 {
                    schema = schemas::older(schema);
                }
                each(name, schema)?;
            }
        }
        for (name, schema) in &self.given {
            if known.insert(name) {
                each(name, schema())?;
            }
        }
        for foreign in &self.foreign {
            for (name, schema) in foreign["definitions"].as_object().into_iter().flatten() {
                if known.insert(name) {
                    each(name, schema.clone())?;
                }
            }
        }
        Ok(())
    }

    /// The kinds that a definition is the form of. Two of them belong to every version there is, of which
    /// a document of one version names only its own.
    fn kinds_of(&self, part: &Part, definition: &Definition) -> Vec<(&'static str, &'static str, &'static str)> {
        let Definition::Type(id) = definition else {
            return Vec::new();
        };
        let kinds = crate::Schema::builtin().kinds_of(*id);
        let [("", "v1", kind @ ("DeleteOptions" | "WatchEvent"))] = kinds.as_slice() else {
            return kinds;
        };
        let own = |(group, version): &(&str, &str)| {
            let here = part
                .version
                .as_ref()
                .is_some_and(|(g, v)| (g, v) == (&(*group).to_owned(), &(*version).to_owned()));
            here || (*group, *version) == ("", "v1")
        };
        let everywhere = names::every_version(part.custom && self.form == Form::V3).into_iter();
        everywhere
            .filter(|version| self.form == Form::V2 || part.custom || own(version))
            .map(|(group, version)| (group, version, *kind))
            .collect()
    }

    fn has_definitions(&self) -> bool {
        !self.given.is_empty() || self.parts.iter().any(|part| !part.reached.is_empty())
    }

    fn security(&self) -> Value {
        json!({"BearerToken": {"description": "Bearer Token authentication", "type": "apiKey", "name": "authorization", "in": "header"}})
    }
}

/// Takes one member of an object.
type Each<'e> = &'e mut dyn FnMut(&str, Value) -> io::Result<()>;

#[cfg(test)]
mod tests;
