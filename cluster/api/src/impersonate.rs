//! Acting as somebody else, for those who may.

use crate::core::Core;
use http::HeaderMap;
use std::sync::Arc;
use strata_auth::{
    Attributes, GROUP_AUTHENTICATED, GROUP_SERVICE_ACCOUNTS, GROUP_UNAUTHENTICATED, SERVICE_ACCOUNT_USER_PREFIX,
    USER_ANONYMOUS, UserInfo,
};
use strata_meta::Status;

const EXTRA: &str = "impersonate-extra-";

/// Who the request is made as. Errors: 403 when the caller may not be them, 400 when they are named in parts only.
pub(crate) fn impersonated(core: &Core, caller: Arc<UserInfo>, headers: &HeaderMap) -> Result<Arc<UserInfo>, Status> {
    let first = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("");
    let name = first("impersonate-user");
    let groups: Vec<&str> = headers
        .get_all("impersonate-group")
        .iter()
        .filter_map(|v| v.to_str().ok())
        .collect();
    let uid = first("impersonate-uid");
    let has_extra = headers.keys().any(|k| k.as_str().starts_with(EXTRA));
    if name.is_empty() {
        if groups.is_empty() && uid.is_empty() && !has_extra {
            return Ok(caller);
        }
        return Err(Status::internal("requested without impersonating a user"));
    }
    let mut user = UserInfo {
        name: name.to_owned(),
        uid: uid.to_owned(),
        groups: groups.iter().map(|g| (*g).to_owned()).collect(),
        ..UserInfo::default()
    };
    for (header, value) in headers {
        if let (Some(key), Ok(value)) = (header.as_str().strip_prefix(EXTRA), value.to_str()) {
            let key = crate::request::Query::decode_path(key);
            user.extra.entry(key).or_default().push(value.to_owned());
        }
    }
    allowed(core, &caller, &user)?;
    complete(&mut user, groups.is_empty());
    Ok(Arc::new(user))
}

fn allowed(core: &Core, caller: &UserInfo, user: &UserInfo) -> Result<(), Status> {
    let ask = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
        core.require(&Attributes {
            verb: "impersonate",
            group,
            version: "v1",
            resource,
            subresource,
            namespace,
            name,
            ..Attributes::of(caller)
        })
    };
    match user
        .name
        .strip_prefix(SERVICE_ACCOUNT_USER_PREFIX)
        .and_then(|rest| rest.split_once(':'))
    {
        Some((namespace, name)) => ask("", "serviceaccounts", "", namespace, name)?,
        None => ask("", "users", "", "", &user.name)?,
    }
    for group in &user.groups {
        ask("", "groups", "", "", group)?;
    }
    if !user.uid.is_empty() {
        ask("authentication.k8s.io", "uids", "", "", &user.uid)?;
    }
    for (key, values) in &user.extra {
        for value in values {
            ask("authentication.k8s.io", "userextras", key, "", value)?;
        }
    }
    Ok(())
}

/// Adds the groups that everybody of a sort is in.
fn complete(user: &mut UserInfo, without_groups: bool) {
    if without_groups
        && let Some((namespace, _)) = user
            .name
            .strip_prefix(SERVICE_ACCOUNT_USER_PREFIX)
            .and_then(|rest| rest.split_once(':'))
    {
        user.groups = vec![
            GROUP_SERVICE_ACCOUNTS.to_owned(),
            format!("{GROUP_SERVICE_ACCOUNTS}:{namespace}"),
        ];
    }
    let sort = if user.name == USER_ANONYMOUS {
        GROUP_UNAUTHENTICATED
    } else {
        GROUP_AUTHENTICATED
    };
    let stated = user.is_in(GROUP_AUTHENTICATED) || user.is_in(GROUP_UNAUTHENTICATED);
    if !stated {
        user.groups.push(sort.to_owned());
    }
}
