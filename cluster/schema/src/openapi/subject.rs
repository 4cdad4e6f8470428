//! What a document is about.

use super::routes::{self, Routes};
use crate::{KindInfo, Schema};
use serde_json::Value;
use strata_meta::GroupVersion;

/// A schema that is made when it is written.
pub type Lazy<'a> = Box<dyn Fn() -> Value + 'a>;

/// What a v3 document is about, and a part of the v2 document.
pub enum Subject<'a> {
    /// One of the paths that belong to no group, see [`Subject::ROOTS`].
    Root(&'a str),
    /// The versions of a group.
    Group(&'a str),
    /// Built-in kinds of one group and version.
    Builtin(Vec<DescribedKind<'a>>),
    /// Kinds of one group and version that are defined at run time, with the schemas of them and of their lists.
    Custom(Vec<DescribedKind<'a>>, Vec<(String, Lazy<'a>)>),
}

/// A kind as a document describes it.
#[derive(Clone)]
pub struct DescribedKind<'a> {
    /// Its group.
    pub group: &'a str,
    /// Its version.
    pub version: &'a str,
    /// Its kind.
    pub kind: &'a str,
    /// The kind of its list.
    pub list_kind: &'a str,
    /// Its plural name.
    pub plural: &'a str,
    /// Whether its objects lie in namespaces.
    pub namespaced: bool,
    /// Whether it is defined at run time.
    pub custom: bool,
    /// Whether a deletion answers with the object.
    pub returns_deleted: bool,
    /// Verbs of the resource itself.
    pub verbs: Vec<&'a str>,
    /// Its subresources.
    pub subresources: Vec<DescribedSubresource<'a>>,
}

/// A subresource as a document describes it.
#[derive(Clone)]
pub struct DescribedSubresource<'a> {
    /// The last part of its path.
    pub name: &'a str,
    /// Group of the body.
    pub group: &'a str,
    /// Version of the body.
    pub version: &'a str,
    /// Kind of the body.
    pub kind: &'a str,
    /// Verbs.
    pub verbs: Vec<&'a str>,
}

impl<'a> Subject<'a> {
    /// The paths that belong to no group.
    pub const ROOTS: [&'static str; 5] = [
        ".well-known/openid-configuration",
        "api",
        "apis",
        "openid/v1/jwks",
        "version",
    ];

    /// The built-in kinds of a group and version as the table has them; `None` if there are none.
    pub fn of_table(version: &GroupVersion) -> Option<Subject<'static>> {
        let here = |kind: &&'static KindInfo| (kind.group, kind.version) == (&*version.group, &*version.version);
        let kinds: Vec<_> = Schema::builtin()
            .kinds()
            .iter()
            .filter(here)
            .map(DescribedKind::of_table)
            .collect();
        (!kinds.is_empty()).then_some(Subject::Builtin(kinds))
    }

    /// Adds the paths; returns group and version, and whether the kinds are defined at run time.
    pub(super) fn add_routes(&self, routes: &mut Routes) -> (Option<(String, String)>, bool) {
        match self {
            Self::Root(path) => {
                routes::add_root(path, routes);
                (None, false)
            }
            Self::Group(group) => {
                routes::add_group(group, routes);
                (None, false)
            }
            Self::Builtin(kinds) | Self::Custom(kinds, _) => {
                let custom = matches!(self, Self::Custom(..));
                kinds.iter().for_each(|kind| routes::add_resource(kind, routes));
                let version = kinds
                    .first()
                    .map(|kind| (kind.group.to_owned(), kind.version.to_owned()));
                if let (Some((group, version)), false) = (&version, custom) {
                    routes::add_version(group, version, routes);
                }
                (version, custom)
            }
        }
    }
}

impl DescribedKind<'static> {
    fn of_table(kind: &'static KindInfo) -> Self {
        let subresources = kind.subresources.iter().map(|sub| DescribedSubresource {
            name: sub.name,
            group: sub.group,
            version: sub.version,
            kind: sub.kind,
            verbs: sub.verbs.clone(),
        });
        Self {
            group: kind.group,
            version: kind.version,
            kind: kind.kind,
            list_kind: &kind.list_kind,
            plural: kind.plural,
            namespaced: kind.namespaced,
            custom: false,
            returns_deleted: false,
            verbs: kind.verbs.clone(),
            subresources: subresources.collect(),
        }
    }
}
