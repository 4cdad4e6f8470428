//! What a row of a custom resource knows: its definition and which version of it it serves.

use super::{
    Definition,
    convert::{self, Converting},
    definition::{Converter, Version},
    expressions::Compiled,
};
use crate::{
    cache::{ResourceCache, StoredForm},
    core::Core,
};
use bytes::Bytes;
use serde_json::Value;
use std::sync::Arc;
use strata_meta::{Object, Reason, Revision, Status, StatusDetails};
use strata_schema::structural::{Structural, as_written_down};

/// What upstream says of an object whose version there is no more.
const DROPPED: &str = "request to convert CR from an invalid group/version: ";

/// One served version of a definition.
#[derive(Clone)]
pub(crate) struct Custom {
    /// The definition.
    pub(crate) definition: Arc<Definition>,
    at: usize,
}

impl Custom {
    /// A version of a definition.
    pub(super) fn new(definition: Arc<Definition>, at: usize) -> Self {
        Self { definition, at }
    }

    /// The version.
    pub(crate) fn version(&self) -> &Version {
        &self.definition.versions[self.at]
    }

    /// Its schema.
    pub(crate) fn structural(&self) -> &Arc<Structural> {
        self.definition.structural(self.at)
    }

    /// The expressions of its schema.
    pub(super) fn compiled(&self) -> &Compiled {
        self.definition.compiled(self.at)
    }

    /// Its schema as JSON, for people and OpenAPI.
    pub(crate) fn schema_value(&self) -> Option<Value> {
        self.definition.schema_value(self.at).ok().flatten()
    }

    /// Whether an object is already as this version serves it.
    pub(crate) fn is_current(&self, object: &Object) -> bool {
        let version = self.version();
        object.edition == version.edition && object.kind == version.gvk
    }

    /// Whether showing an object takes somebody else's help: it has to go through [`Custom::present`] first.
    pub(crate) fn needs_help(&self, object: &Object) -> bool {
        object.kind.version != self.version().gvk.version
            && matches!(self.definition.converter, Converter::Webhook { .. })
    }

    /// Whether a webhook converts between the versions.
    pub(crate) fn converts_elsewhere(&self) -> bool {
        matches!(self.definition.converter, Converter::Webhook { .. })
    }

    /// Whether an object is of a version that the definition has. Errors: 500, as upstream tells of one that it dropped.
    pub(crate) fn knows(&self, object: &Object) -> Result<(), Status> {
        match Arc::ptr_eq(&object.kind, &self.version().gvk) || self.definition.version(&object.kind.version).is_some()
        {
            true => Ok(()),
            false => Err(dropped(object)),
        }
    }

    /// Whether all that is stored can be listed. Errors: 429, as upstream tells of a cache that it cannot fill.
    pub(crate) fn can_be_listed(&self, cache: &ResourceCache) -> Result<(), Status> {
        let version = self.definition.unlisted(cache);
        let Some(version) = version else { return Ok(()) };
        let (group, wanted) = (&self.definition.group, &self.version().gvk);
        let mut status = Status::failure(
            Reason::TooManyRequests,
            format_args!(
                "storage is (re)initializing: failed to list {group}/{}, Kind={}: {DROPPED}{group}/{version}",
                wanted.version, wanted.kind
            ),
        );
        status.details = Some(Box::new(StatusDetails {
            retry_after_seconds: 1,
            ..StatusDetails::default()
        }));
        Err(status)
    }

    /// An object as this version serves it. Errors: it needs somebody else's help, or is damaged.
    pub(crate) fn view(&self, object: &Arc<Object>) -> Result<Arc<Object>, Status> {
        if self.is_current(object) {
            return Ok(object.clone());
        }
        self.knows(object)?;
        if self.needs_help(object) {
            return Err(Status::internal("an object was to be shown before it was converted"));
        }
        let mut value = self.refreshed(object)?;
        self.shape(&mut value)?;
        self.made(object.revision, &value)
    }

    /// Objects as this version serves them; all that need it are converted in one call. Errors: 500 when that fails.
    pub(crate) async fn present(&self, core: &Core, objects: Vec<Arc<Object>>) -> Result<Vec<Arc<Object>>, Status> {
        objects.iter().try_for_each(|object| self.knows(object))?;
        let mut values = Vec::new();
        for object in objects.iter().filter(|o| self.needs_help(o)) {
            values.push(self.refreshed(object)?);
        }
        if values.is_empty() {
            return objects.iter().map(|object| self.view(object)).collect();
        }
        let converting = Converting {
            core,
            definition: &self.definition,
        };
        let mut converted = convert::by_webhook(&converting, values, &self.version().gvk)
            .await?
            .into_iter();
        let mut shown = Vec::with_capacity(objects.len());
        for object in &objects {
            if !self.needs_help(object) {
                shown.push(self.view(object)?);
                continue;
            }
            let missing = || Status::internal("the conversion webhook lost an object");
            let mut value = converted.next().ok_or_else(missing)?;
            self.shape(&mut value)?;
            shown.push(self.made(object.revision, &value)?);
        }
        Ok(shown)
    }

    /// A value of another version of the same definition as this version has it. Errors: 500 when that fails.
    pub(crate) async fn converted(&self, core: &Core, value: Value) -> Result<Value, Status> {
        let mut value = match self.definition.converter {
            Converter::None => value,
            Converter::Webhook { .. } => {
                let converting = Converting {
                    core,
                    definition: &self.definition,
                };
                let mut list = convert::by_webhook(&converting, vec![value], &self.version().gvk).await?;
                list.pop()
                    .ok_or_else(|| Status::internal("the conversion webhook lost an object"))?
            }
        };
        self.take_in(&mut value)?;
        Ok(value)
    }

    /// A stored object in the version it is stored in, pruned and defaulted by its schema of today.
    fn refreshed(&self, object: &Object) -> Result<Value, Status> {
        let mut value = object.to_value().map_err(Status::internal)?;
        if let Some(at) = self.definition.version(&object.kind.version)
            && self.definition.versions[at].edition != object.edition
        {
            let schema = self.definition.structural(at);
            schema.coerce(&object.kind, &mut value).map_err(Status::internal)?;
            schema.apply_defaults(&mut value);
        }
        Ok(value)
    }

    /// Brings a converted value into this version's form, with its defaults.
    fn take_in(&self, value: &mut Value) -> Result<(), Status> {
        self.shape(value)?;
        self.structural().apply_defaults(value);
        Ok(())
    }

    /// Brings a converted value into this version's form. What is read gets the defaults of the version it is stored
    /// in, and no others.
    fn shape(&self, value: &mut Value) -> Result<(), Status> {
        let schema = self.structural();
        let revision = value["metadata"].get("resourceVersion").cloned();
        schema.coerce(&self.version().gvk, value).map_err(Status::internal)?;
        if let Some(revision) = revision {
            value["metadata"]["resourceVersion"] = revision;
        }
        Ok(())
    }

    /// An object of a value in this version.
    pub(crate) fn made(&self, revision: Revision, value: &Value) -> Result<Arc<Object>, Status> {
        let version = self.version();
        let value = as_written_down(value);
        let object = Object::from_value(version.gvk.clone(), revision, &value).map_err(Status::internal)?;
        Ok(Arc::new(object.with_edition(version.edition)))
    }

    /// A value of this version as it is stored. Errors: 500 when the conversion fails.
    pub(crate) async fn stored(&self, core: &Core, value: &Value) -> Result<(StoredForm, Bytes), Status> {
        let form = self.definition.form();
        let encode = |value: &Value| strata_meta::encode_body(&as_written_down(value)).map_err(Status::internal);
        if form.kind.version == self.version().gvk.version {
            return Ok((form, encode(value)?));
        }
        let storage = Self::new(self.definition.clone(), self.definition.storage);
        let mut value = match self.definition.converter {
            Converter::None => value.clone(),
            Converter::Webhook { .. } => {
                let converting = Converting {
                    core,
                    definition: &self.definition,
                };
                let mut list = convert::by_webhook(&converting, vec![value.clone()], &form.kind).await?;
                list.pop()
                    .ok_or_else(|| Status::internal("the conversion webhook lost an object"))?
            }
        };
        storage.take_in(&mut value)?;
        Ok((form, encode(&value)?))
    }
}

fn dropped(object: &Object) -> Status {
    let mut status = Status::failure(Reason::Unknown, format_args!("{DROPPED}{}", object.kind.api_version()));
    status.code = 500;
    status
}
