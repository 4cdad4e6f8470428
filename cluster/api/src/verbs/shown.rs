//! Field selectors on what is shown: where a webhook converts, the stored form does not have the fields of every
//! version, so objects are looked at after their conversion, and watches remember what is in view.

use super::read::ListQuery;
use crate::{
    cache::{EventKind, Filter, Frame, ResourceCache, Selectable, extract},
    core::Core,
    registry::Row,
};
use std::{collections::HashSet, sync::Arc};
use strata_meta::{Object, ObjectKey, Revision, Status};

/// A field of the shown object, whether it must be equal, and the value.
pub(crate) type ShownField = (Selectable, bool, String);

/// Whether an object that is ready to be shown is wanted. Errors: its bytes cannot be read.
pub(super) fn matches(wanted: &[ShownField], object: &Object) -> Result<bool, Status> {
    if wanted.is_empty() {
        return Ok(true);
    }
    let paths: Vec<Selectable> = wanted.iter().map(|(path, ..)| path.clone()).collect();
    let values = extract(object.body(), &paths).map_err(Status::internal)?;
    let mut terms = wanted.iter().zip(values);
    Ok(terms.all(|((_, equal, value), have)| (*have == **value) == *equal))
}

/// What a watch with such a selector has in view.
#[derive(Default)]
pub(crate) struct View {
    wanted: Vec<ShownField>,
    inside: HashSet<ObjectKey>,
}

impl View {
    /// The view of a watch that goes on after a revision; one that begins with all objects begins empty.
    /// Errors: 500 when a conversion fails.
    pub(crate) async fn open(
        core: &Core,
        row: &Row,
        cache: &Arc<ResourceCache>,
        filter: &Filter,
        after: Option<Revision>,
    ) -> Result<Self, Status> {
        let mut view = Self {
            wanted: filter.shown.clone(),
            inside: HashSet::new(),
        };
        let known = after.filter(|r| r.0 > 0).and_then(|r| cache.snapshot_at(r));
        if view.wanted.is_empty() || known.is_none() {
            return Ok(view);
        }
        let query = ListQuery {
            revision: after,
            exact: true,
            ..ListQuery::default()
        };
        let page = super::list_page(core, cache, filter.clone(), query).await?;
        let page = page.shown(core, row, &view.wanted).await?;
        view.inside = page.items.map(|object| object.key.clone()).collect();
        Ok(view)
    }

    /// What a change is in this view, with its object ready to be shown; `None` if it is out of view.
    /// Errors: 500 when the conversion fails.
    pub(crate) async fn pass(&mut self, core: &Core, row: &Row, frame: Frame) -> Result<Option<Frame>, Status> {
        let (kind, object) = match frame {
            Frame::Event { kind, object, .. } if row.converts_elsewhere() => (kind, row.ready(core, object).await?),
            other => return Ok(Some(other)),
        };
        let event = |kind, object| {
            let shared = None;
            Ok(Some(Frame::Event { kind, object, shared }))
        };
        if self.wanted.is_empty() {
            return event(kind, object);
        }
        let now = kind != EventKind::Deleted && matches(&self.wanted, &object)?;
        let before = match now {
            true => !self.inside.insert(object.key.clone()),
            false => self.inside.remove(&object.key),
        };
        match (before, now) {
            (false, false) => Ok(None),
            (false, true) => event(EventKind::Added, object),
            (true, true) => event(EventKind::Modified, object),
            (true, false) => event(EventKind::Deleted, object),
        }
    }
}
