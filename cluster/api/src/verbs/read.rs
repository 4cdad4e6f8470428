//! get and list.

use super::{Page, ShownField, list_options, parse_revision, request_filter, select::stated_revision, shown::matches};
use crate::{
    cache::{Filter, Map, ResourceCache, first_of},
    core::Core,
    encode::{ListMeta, list_response, object_response},
    pipeline::Call,
    registry::Row,
};
use http::Response;
use serde_json::Value;
use std::sync::Arc;
use strata_http::Body;
use strata_meta::{Object, Revision, Status};

/// The object of the request, as stored. Errors: 404.
pub(crate) fn find(row: &Row, namespace: &str, name: &str) -> Result<Arc<Object>, Status> {
    if let Some(why) = strata_meta::names::path_segment(name).first() {
        return Err(Status::bad_request(format_args!(
            "Name parameter invalid: {name:?}: {why}"
        )));
    }
    let namespace = if row.namespaced { namespace } else { "" };
    let found = row.cache.as_ref().and_then(|cache| cache.get(namespace, name));
    found.ok_or_else(|| Status::not_found(&row.resource, name))
}

/// One object.
pub(crate) async fn get(call: &Call, row: &Row) -> Result<Response<Body>, Status> {
    let form = call.form()?;
    if let Some(revision) = stated_revision(call.query.get("resourceVersion"))? {
        call.core.cache.progress().reach(revision).await?;
    }
    let object = find(row, &call.info.namespace, &call.info.name)?;
    let object = row.ready(&call.core, object).await?;
    Ok(object_response(200, row, &object, form, call.include_object()?))
}

/// What a list asks for besides selectors.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListQuery {
    pub(crate) revision: Option<Revision>,
    /// Exactly this revision, nothing newer.
    pub(crate) exact: bool,
    pub(crate) limit: usize,
    pub(crate) continue_token: String,
}

/// What the query of a list or of a deletion of many says. Errors: 400, 422.
pub(crate) fn list_query(call: &Call) -> Result<ListQuery, Status> {
    let query = &call.query;
    list_options::check(query, false)?;
    let matching = query.get("resourceVersionMatch");
    let revision_text = query.get("resourceVersion");
    let token = query.get("continue").to_owned();
    let revision = parse_revision(revision_text)?;
    if !token.is_empty() && revision.is_some_and(|r| r.0 != 0) {
        return Err(Status::bad_request(
            "specifying resource version is not allowed when using continue",
        ));
    }
    // From the cache as it is everything comes at once.
    let limit = match revision {
        Some(Revision(0)) if matching.is_empty() => 0,
        _ => query
            .get("limit")
            .parse::<i64>()
            .map_or(0, |limit| limit.max(0) as usize),
    };
    Ok(ListQuery {
        // Without a match, a limit asks for exactly that revision, as it did before there was the parameter.
        exact: matching == "Exact" || (matching.is_empty() && limit > 0 && revision.is_some_and(|r| r.0 > 0)),
        revision,
        limit,
        continue_token: token,
    })
}

/// A page of objects as stored, and what to say about it.
pub(crate) struct ListPage {
    pub(crate) meta: ListMeta,
    pub(crate) items: Box<dyn Iterator<Item = Arc<Object>> + Send>,
}

impl ListPage {
    /// The page with its objects made ready to be shown. Errors: 500 when a conversion fails.
    pub(crate) async fn shown(self, core: &Core, row: &Row, wanted: &[ShownField]) -> Result<Self, Status> {
        if !row.converts_elsewhere() {
            return match row.can_be_listed() {
                Ok(()) => Ok(self),
                // Some of what is stored cannot be shown; it need not be on this page.
                Err(_) => self.known(row),
            };
        }
        let mut objects = Vec::new();
        for object in row.present(core, self.items.collect()).await? {
            if matches(wanted, &object)? {
                objects.push(object);
            }
        }
        Ok(Self {
            meta: self.meta,
            items: Box::new(objects.into_iter()),
        })
    }
}

impl ListPage {
    /// The page, if every object on it is of a version that there is. Errors: 500.
    fn known(self, row: &Row) -> Result<Self, Status> {
        let objects: Vec<_> = self.items.collect();
        if let Some(custom) = row.schema.custom() {
            objects.iter().try_for_each(|object| custom.knows(object))?;
        }
        Ok(Self {
            meta: self.meta,
            items: Box::new(objects.into_iter()),
        })
    }
}

/// Finds the objects of a list. Errors: 410 for what is no longer known, 504 for what is not known yet.
pub(crate) async fn list_page(
    core: &Core,
    cache: &Arc<ResourceCache>,
    filter: Filter,
    query: ListQuery,
) -> Result<ListPage, Status> {
    let (map, revision, page) = if query.continue_token.is_empty() {
        let (map, revision) = world(core, cache, &query).await?;
        (map, revision, None)
    } else {
        let within = filter.namespace.as_deref();
        let page = Page::decode(&query.continue_token, within)?;
        let (map, revision) = continued(core, cache, &page, within).await?;
        (map, revision, Some(page))
    };
    let iter = match &page {
        Some(page) => map.range_from(&page.namespace, &page.name),
        None => first_of(&map, &filter),
    };
    let everything = filter.is_everything();
    let seen = cache.seen();
    seen.lists.inc();
    let mut iter = iter.within(filter.namespace.as_deref());
    if query.limit == 0 {
        let mut counted = Looked::at(cache);
        let items = iter
            .filter(move |e| counted.at_one(filter.matches(e)))
            .map(|e| e.object);
        let meta = ListMeta {
            revision,
            ..ListMeta::default()
        };
        return Ok(ListPage {
            meta,
            items: Box::new(items),
        });
    }
    let mut items: Vec<Arc<Object>> = Vec::with_capacity(query.limit.min(1024));
    let mut meta = ListMeta {
        revision,
        ..ListMeta::default()
    };
    let mut counted = Looked::at(cache);
    while items.len() < query.limit {
        match iter.find(|e| counted.at_one(filter.matches(e))) {
            Some(entry) => items.push(entry.object),
            None => break,
        }
    }
    drop(counted);
    if items.len() == query.limit
        && let Some(last) = items.last()
    {
        let left = if everything {
            iter.remaining()
        } else {
            usize::from(iter.any(|e| filter.matches(&e)))
        };
        if left > 0 {
            let next = Page::after(Some(revision), last.namespace(), last.name());
            meta.continue_token = next.encode(filter.namespace.as_deref());
            meta.remaining = everything.then_some(left);
            cache.keep_snapshot(revision, map);
        }
    }
    Ok(ListPage {
        meta,
        items: Box::new(items.into_iter()),
    })
}

/// Counts the objects that a list looks at, and those it answers with.
struct Looked {
    cache: Arc<ResourceCache>,
    all: u64,
    matching: u64,
}

impl Looked {
    fn at(cache: &Arc<ResourceCache>) -> Self {
        Self {
            cache: cache.clone(),
            all: 0,
            matching: 0,
        }
    }

    fn at_one(&mut self, matches: bool) -> bool {
        self.all += 1;
        self.matching += u64::from(matches);
        matches
    }
}

impl Drop for Looked {
    fn drop(&mut self) {
        self.cache.seen().fetched.add(self.all);
        self.cache.seen().returned.add(self.matching);
    }
}

/// The objects a first page begins with.
async fn world(core: &Core, cache: &ResourceCache, query: &ListQuery) -> Result<(Map, Revision), Status> {
    if let Some(revision) = query.revision {
        core.cache.progress().reach(revision).await?;
        if query.exact {
            let known = (revision >= core.cache.compacted())
                .then(|| cache.snapshot_at(revision))
                .flatten();
            let map = known.ok_or_else(|| Status::expired("The resourceVersion for the provided list is too old."))?;
            return Ok((map, revision));
        }
    } else {
        cache.seen().newest.inc();
    }
    let snapshot = cache.snapshot();
    Ok((snapshot.map, snapshot.revision))
}

/// The objects a later page goes on with.
async fn continued(
    core: &Core,
    cache: &ResourceCache,
    page: &Page,
    within: Option<&str>,
) -> Result<(Map, Revision), Status> {
    let Some(revision) = page.revision else {
        let snapshot = cache.snapshot();
        return Ok((snapshot.map, snapshot.revision));
    };
    core.cache.progress().reach(revision).await?;
    let known = (revision >= core.cache.compacted())
        .then(|| cache.snapshot_at(revision))
        .flatten();
    known
        .map(|map| (map, revision))
        .ok_or_else(|| expired_token(page, within))
}

/// 410 with a token that goes on at the present revision.
fn expired_token(page: &Page, within: Option<&str>) -> Status {
    let mut status = Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    let fresh = Page {
        revision: None,
        ..page.clone()
    };
    status
        .metadata
        .insert("continue".into(), Value::String(fresh.encode(within)));
    status
}

/// Many objects.
pub(crate) async fn list(call: &Call, row: &Arc<Row>) -> Result<Response<Body>, Status> {
    let form = call.form()?;
    let filter = request_filter(row, &call.info, &call.query)?;
    let wanted = filter.shown.clone();
    let query = list_query(call)?;
    if query.limit == 0 && query.continue_token.is_empty() {
        // A page is read past upstream's cache.
        row.can_be_listed()?;
    }
    let page = list_page(&call.core, call.core.stored(row)?, filter, query).await?;
    let page = page.shown(&call.core, row, &wanted).await?;
    list_response(row, &page.meta, form, call.include_object()?, page.items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expired_token_comes_with_one_that_goes_on_now() {
        let page = Page::after(Some(Revision(7)), "n", "a");
        let status = expired_token(&page, None);
        assert_eq!((status.code, status.reason), (410, strata_meta::Reason::Expired));
        let fresh = status.metadata["continue"]
            .as_str()
            .map(|token| Page::decode(token, None));
        let expected = Page { revision: None, ..page };
        assert_eq!(fresh.and_then(Result::ok), Some(expected));
    }
}
