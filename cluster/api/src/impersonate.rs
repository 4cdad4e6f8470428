//! Acting as somebody else, for those who may: constrained to a sort of user and to what is done as them (KEP-5284),
//! or, as it always was, altogether.

use crate::{
    access::{Selectors, forbidden},
    core::Core,
    request::{Query, RequestInfo},
};
use http::HeaderMap;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};
use strata_auth::{
    Attributes, GROUP_AUTHENTICATED, GROUP_MASTERS, GROUP_NODES, GROUP_SERVICE_ACCOUNTS, GROUP_UNAUTHENTICATED,
    NODE_USER_PREFIX, SERVICE_ACCOUNT_USER_PREFIX, USER_ANONYMOUS, UserInfo,
};
use strata_meta::{Status, names::dns1123_subdomain};
use strata_metrics::{Kind, Page};

const EXTRA: &str = "impersonate-extra-";
/// The claim of a service account's token about its node.
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
/// From this many values on, the right to all of them is asked for first.
const MANY: usize = 4;
/// Users whose last way is remembered.
const REMEMBERED: usize = 10_000;

/// The ways to act as somebody else, in the order in which they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// As the node that the caller's own token is bound to.
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    /// As anybody who is neither.
    UserInfo,
    /// The right that is not constrained.
    Legacy,
}

const MODES: [Mode; 5] = [
    Mode::AssociatedNode,
    Mode::ArbitraryNode,
    Mode::ServiceAccount,
    Mode::UserInfo,
    Mode::Legacy,
];

/// As whom a request goes on.
pub(crate) struct Impersonated {
    /// The user.
    pub(crate) user: Arc<UserInfo>,
    /// The verb whose right allowed it; nothing for the right that is not constrained.
    pub(crate) constraint: Option<String>,
}

/// The way that succeeded last, by caller, and how often each did.
#[derive(Default)]
pub(crate) struct Impersonation {
    last: Mutex<HashMap<String, Mode>>,
    attempts: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
}

/// Who the request is made as; `None`: the caller. Errors: 403 when the caller may not be them, 400 when they are named
/// in parts only.
pub(crate) async fn impersonated(
    core: &Core,
    caller: &UserInfo,
    headers: &HeaderMap,
    request: (&RequestInfo, &Query),
) -> Result<Option<Impersonated>, Status> {
    let Some(wanted) = wanted(headers)? else {
        return Ok(None);
    };
    let selectors = Selectors::of(request.0, request.1);
    let attributes = selectors.attributes(caller, request.0);
    let last = core.impersonation.last(&caller.name);
    let rest = MODES.into_iter().filter(|mode| Some(*mode) != last);
    let mut first_refusal = None;
    for mode in last.into_iter().chain(rest) {
        match mode.check(core, &wanted, &attributes).await {
            Ok(None) => {}
            Ok(Some(user)) => {
                core.impersonation.succeeded(&caller.name, mode);
                let constraint = (mode != Mode::Legacy).then(|| mode.verb());
                let user = Arc::new(user);
                return Ok(Some(Impersonated { user, constraint }));
            }
            Err(refusal) => drop(first_refusal.get_or_insert(refusal)),
        }
    }
    core.impersonation.count("", "denied");
    Err(first_refusal.unwrap_or_else(|| Status::internal("all impersonation modes failed")))
}

impl Impersonation {
    fn last(&self, caller: &str) -> Option<Mode> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.get(caller).copied()
    }

    fn succeeded(&self, caller: &str, mode: Mode) {
        self.count(mode.name(), "allowed");
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= REMEMBERED {
            last.clear();
        }
        last.insert(caller.to_owned(), mode);
    }

    fn count(&self, mode: &'static str, decision: &'static str) {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        *attempts.entry((mode, decision)).or_default() += 1;
    }

    /// Shows its counters.
    pub(crate) fn show(&self, page: &mut Page) {
        let attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let metric = "apiserver_impersonation_attempts_total";
        let mut section = page.section(metric, Kind::Counter, "What came of acting as somebody else.");
        for ((mode, decision), count) in attempts.iter() {
            section.sample(&[("decision", decision), ("mode", mode)], *count as f64);
        }
    }
}

/// The user that headers name, as they name them. Errors: 400.
fn wanted(headers: &HeaderMap) -> Result<Option<UserInfo>, Status> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let first = |name: &str| headers.get(name).map(text).unwrap_or_default();
    let mut user = UserInfo {
        name: first("impersonate-user"),
        uid: first("impersonate-uid"),
        groups: headers.get_all("impersonate-group").iter().map(text).collect(),
        ..UserInfo::default()
    };
    for (header, value) in headers {
        if let Some(key) = header.as_str().strip_prefix(EXTRA) {
            let values = user.extra.entry(Query::decode_path(key)).or_default();
            values.push(text(value));
        }
    }
    if !user.name.is_empty() {
        return Ok(Some(user));
    }
    if user.uid.is_empty() && user.groups.is_empty() && user.extra.is_empty() {
        return Ok(None);
    }
    let go = go_text(&user);
    Err(Status::bad_request(format_args!(
        "requested {go} without impersonating a user name"
    )))
}

/// A user as Go's `%#v` prints it.
fn go_text(user: &UserInfo) -> String {
    let list = |values: &[String]| {
        let quoted: Vec<String> = values.iter().map(|v| format!("{v:?}")).collect();
        format!("[]string{{{}}}", quoted.join(", "))
    };
    let groups = match user.groups.as_slice() {
        [] => "[]string(nil)".to_owned(),
        groups => list(groups),
    };
    let extra = match user.extra.is_empty() {
        true => "map[string][]string(nil)".to_owned(),
        false => {
            let pairs: Vec<String> = user.extra.iter().map(|(k, v)| format!("{k:?}:{}", list(v))).collect();
            format!("map[string][]string{{{}}}", pairs.join(", "))
        }
    };
    format!(
        "&user.DefaultInfo{{Name:{:?}, UID:{:?}, Groups:{groups}, Extra:{extra}}}",
        user.name, user.uid
    )
}

fn is_dns_subdomain(text: &str) -> bool {
    dns1123_subdomain(text).is_empty()
}

fn node_of(name: &str) -> Option<&str> {
    name.strip_prefix(NODE_USER_PREFIX)
        .filter(|node| is_dns_subdomain(node))
}

/// Namespace and name.
fn account_of(name: &str) -> Option<(&str, &str)> {
    let (namespace, name) = name.strip_prefix(SERVICE_ACCOUNT_USER_PREFIX)?.split_once(':')?;
    let is_label = is_dns_subdomain(namespace) && !namespace.contains('.') && namespace.len() <= 63;
    (is_label && is_dns_subdomain(name)).then_some((namespace, name))
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::AssociatedNode => "associated-node",
            Self::ArbitraryNode => "arbitrary-node",
            Self::ServiceAccount => "serviceaccount",
            Self::UserInfo => "user-info",
            Self::Legacy => "legacy",
        }
    }

    fn verb(self) -> String {
        match self {
            Self::Legacy => "impersonate".into(),
            mode => format!("impersonate:{}", mode.name()),
        }
    }

    /// Whether this is a way for the caller to act as somebody like that at all.
    fn applies(self, wanted: &UserInfo, caller: &UserInfo) -> bool {
        let is_name_only = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
        match self {
            Self::AssociatedNode => {
                let own = caller.extra.get(NODE_NAME).map(Vec::as_slice);
                let node = node_of(&wanted.name);
                is_name_only
                    && account_of(&caller.name).is_some()
                    && matches!((own, node), (Some([own]), Some(node)) if own == node)
            }
            Self::ArbitraryNode => is_name_only && node_of(&wanted.name).is_some(),
            Self::ServiceAccount => is_name_only && account_of(&wanted.name).is_some(),
            Self::UserInfo => node_of(&wanted.name).is_none() && account_of(&wanted.name).is_none(),
            Self::Legacy => true,
        }
    }

    /// As whom the request goes on this way; `None` if it is no way for it. Errors: 403.
    async fn check(self, core: &Core, wanted: &UserInfo, request: &Attributes<'_>) -> Result<Option<UserInfo>, Status> {
        if !self.applies(wanted, request.user) {
            return Ok(None);
        }
        // The rights are for any node of the caller's, so what its token says about this one is left out.
        let mut caller = request.user.clone();
        if self == Self::AssociatedNode {
            let keys = caller.extra.keys().cloned().collect();
            caller.extra = [("authentication.kubernetes.io/associated-node-keys".to_owned(), keys)].into();
        }
        if self != Self::Legacy {
            let verb = format!("impersonate-on:{}:{}", self.name(), request.verb);
            core.require(&Attributes {
                verb: &verb,
                user: &caller,
                ..*request
            })
            .await?;
        }
        let question = Question {
            core,
            caller: &caller,
            mode: self,
            verb: self.verb(),
        };
        question.ask(wanted).await.map(Some)
    }
}

/// The rights to be somebody.
struct Question<'a> {
    core: &'a Core,
    caller: &'a UserInfo,
    mode: Mode,
    verb: String,
}

impl Question<'_> {
    fn attributes<'a>(&'a self, resource: &'a str, name: &'a str) -> Attributes<'a> {
        let of_core = self.mode == Mode::Legacy && matches!(resource, "users" | "groups" | "serviceaccounts");
        Attributes {
            verb: &self.verb,
            group: if of_core { "" } else { "authentication.k8s.io" },
            version: "v1",
            resource,
            name,
            ..Attributes::of(self.caller)
        }
    }

    async fn ask(&self, wanted: &UserInfo) -> Result<UserInfo, Status> {
        let mut user = wanted.clone();
        self.ask_name(wanted, &mut user).await?;
        if !wanted.uid.is_empty() {
            self.core.require(&self.attributes("uids", &wanted.uid)).await?;
        }
        self.ask_groups(&wanted.groups).await?;
        self.ask_extra(wanted).await?;
        let sort = match user.name == USER_ANONYMOUS {
            true => GROUP_UNAUTHENTICATED,
            false => GROUP_AUTHENTICATED,
        };
        let stays_outside = user.name != USER_ANONYMOUS && user.is_in(GROUP_UNAUTHENTICATED);
        if !user.is_in(sort) && !stays_outside {
            user.groups.push(sort.to_owned());
        }
        Ok(user)
    }

    async fn ask_name(&self, wanted: &UserInfo, user: &mut UserInfo) -> Result<(), Status> {
        if let Some((namespace, name)) = account_of(&wanted.name) {
            if wanted.groups.is_empty() {
                user.groups = vec![
                    GROUP_SERVICE_ACCOUNTS.to_owned(),
                    format!("{GROUP_SERVICE_ACCOUNTS}:{namespace}"),
                ];
            }
            let attributes = self.attributes("serviceaccounts", name);
            return self
                .core
                .require(&Attributes {
                    namespace,
                    ..attributes
                })
                .await;
        }
        match node_of(&wanted.name).filter(|_| self.mode != Mode::Legacy) {
            Some(node) => {
                user.groups = vec![GROUP_NODES.to_owned()];
                let name = if self.mode == Mode::AssociatedNode { "*" } else { node };
                self.core.require(&self.attributes("nodes", name)).await
            }
            None => self.core.require(&self.attributes("users", &wanted.name)).await,
        }
    }

    async fn ask_groups(&self, groups: &[String]) -> Result<(), Status> {
        let constrained = self.mode != Mode::Legacy;
        if constrained && groups.iter().any(String::is_empty) {
            let why = "impersonating the empty string group is not allowed";
            return Err(forbidden(&self.attributes("groups", ""), why));
        }
        if constrained && groups.iter().any(|group| group == GROUP_MASTERS) {
            let why = "impersonating the system:masters group is not allowed";
            return Err(forbidden(&self.attributes("groups", GROUP_MASTERS), why));
        }
        if constrained && groups.len() >= MANY && self.core.require(&self.attributes("groups", "*")).await.is_ok() {
            return Ok(());
        }
        for group in groups {
            self.core.require(&self.attributes("groups", group)).await?;
        }
        Ok(())
    }

    async fn ask_extra(&self, wanted: &UserInfo) -> Result<(), Status> {
        let of = |subresource, name| Attributes {
            subresource,
            ..self.attributes("userextras", name)
        };
        if self.mode != Mode::Legacy {
            check_extra(&wanted.extra).map_err(|why| forbidden(&of("", ""), &why))?;
            let many = wanted.extra.len() >= MANY || wanted.extra.values().map(Vec::len).sum::<usize>() >= MANY;
            if many && self.core.require(&of("*", "*")).await.is_ok() {
                return Ok(());
            }
        }
        for (key, values) in &wanted.extra {
            for value in values {
                self.core.require(&of(key, value)).await?;
            }
        }
        Ok(())
    }
}

/// Errors: what keys and values may not be under a constrained right.
fn check_extra(extra: &BTreeMap<String, Vec<String>>) -> Result<(), String> {
    for (key, values) in extra {
        if key.is_empty() {
            return Err("impersonating the empty string key in extra is not allowed".into());
        }
        let invalid = |value: &str, why: &str| {
            Err(format!(
                "impersonating an invalid key in extra is not allowed: extra.key: Invalid value: {value:?}: {why}"
            ))
        };
        match key
            .split_once('/')
            .filter(|(host, path)| !host.is_empty() && !path.is_empty())
        {
            None => return invalid(key, "must be a domain-prefixed path (such as \"acme.io/foo\")"),
            Some((host, _)) if !is_dns_subdomain(host) => {
                return invalid(
                    host,
                    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
                );
            }
            Some((_, path))
                if !path
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b)) =>
            {
                return invalid(
                    path,
                    "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')",
                );
            }
            _ => {}
        }
        if *key != key.to_lowercase() {
            return Err(format!(
                "impersonating a non-lowercase key in extra is not allowed: {key:?}"
            ));
        }
        if values.iter().any(String::is_empty) {
            return Err("impersonating the empty string value in extra is not allowed".into());
        }
    }
    Ok(())
}
