//! ResourceQuota: what a write would use is taken from the quotas of its namespace, by compare-and-set on their status.
//!
//! Asked last, so that nothing is taken for what another plugin refuses. What a write that fails after all has taken,
//! the quota controller gives back.

use super::{Operation, Request};
use crate::{core::WriteError, json};
use futures::future::BoxFuture;
use serde_json::Value;
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};
use strata_meta::{Object, Status, Time};
use strata_quota::{Amounts, Counted, Scope, is_ignored};
use strata_store::Expect;

/// Conflicts with the quota controller before a write gives up.
const ATTEMPTS: usize = 16;
/// Locks that writers of one namespace wait at, so that they do not overtake each other.
const TURNS: usize = 64;

/// The turns of writers into namespaces with quotas.
pub(super) struct Turns(Vec<tokio::sync::Mutex<()>>);

impl Default for Turns {
    fn default() -> Self {
        Self((0..TURNS).map(|_| tokio::sync::Mutex::default()).collect())
    }
}

impl Turns {
    async fn of(&self, namespace: &str) -> tokio::sync::MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        namespace.hash(&mut hasher);
        let at = usize::try_from(hasher.finish() % TURNS as u64).unwrap_or(0);
        self.0[at].lock().await
    }
}

/// A quota as it stands.
struct Quota {
    object: Arc<Object>,
    value: Value,
    hard: Amounts,
    used: Amounts,
    scopes: Vec<Scope>,
}

impl Quota {
    fn read(object: Arc<Object>) -> Result<Self, Status> {
        let value = object.to_value().map_err(Status::internal)?;
        Ok(Self {
            hard: Amounts::read(json::get(&value, "status.hard")),
            used: Amounts::read(json::get(&value, "status.used")),
            scopes: Scope::read_all(&value),
            object,
            value,
        })
    }

    fn name(&self) -> &str {
        self.object.name()
    }
}

/// Takes what the request uses from every quota that counts it. Errors: 403 with upstream's sentences.
pub(super) fn take<'a>(
    request: &'a Request<'a>,
    new: Option<&'a Value>,
    old: Option<&'a Value>,
) -> BoxFuture<'a, Result<(), Status>> {
    Box::pin(async move {
        let resource = &request.row.resource;
        let Some(new) = new.filter(|_| !request.namespace.is_empty() && request.row.namespaced) else {
            return Ok(());
        };
        if is_ignored(&resource.group, &resource.resource) {
            return Ok(());
        }
        let counted = Counted::of(&resource.group, &resource.resource);
        let concerned = match (request.operation, old) {
            (Operation::Create, _) => request.subresource.is_empty(),
            (Operation::Update, Some(old)) => counted.changes(request.subresource, new, old),
            _ => false,
        };
        let quotas = request.core.resource("", "resourcequotas");
        if !concerned || quotas.objects(Some(request.namespace)).next().is_none() {
            return Ok(());
        }
        let _turn = request.core.configured.quota_turns.of(request.namespace).await;
        // Those written once are not asked again.
        let mut done: Vec<String> = Vec::new();
        for _ in 0..ATTEMPTS {
            let all = quotas.objects(Some(request.namespace)).map(Quota::read);
            let mut all = all.collect::<Result<Vec<_>, _>>()?;
            all.retain(|quota| !done.iter().any(|name| name == quota.name()));
            let takes = check(request, &counted, &all, new, old)?;
            if request.dry_run || write(request, &all, takes, &mut done).await? {
                return Ok(());
            }
        }
        let name = json::text(new, "metadata.name");
        let why = "the quotas of the namespace keep changing; please try again";
        Err(Status::conflict(resource, name, why))
    })
}

/// Writes what is used now; whether nobody was faster.
async fn write(
    request: &Request<'_>,
    quotas: &[Quota],
    takes: Vec<(usize, Amounts)>,
    done: &mut Vec<String>,
) -> Result<bool, Status> {
    let core = request.core;
    let mut all = true;
    for (at, used) in takes {
        let quota = &quotas[at];
        let mut value = quota.value.clone();
        json::set(&mut value, "status.used", used.to_value());
        let body = strata_meta::encode_body(&value).map_err(Status::internal)?;
        let cache = core.resource("", "resourcequotas");
        let expect = Expect::Revision(quota.object.revision);
        match core.put(&cache, request.namespace, quota.name(), body, expect).await {
            Ok(_) => done.push(quota.name().to_owned()),
            Err(WriteError::Failed(status)) => return Err(status),
            Err(WriteError::Conflict(current)) => {
                all = false;
                if let Some(revision) = current {
                    core.cache.progress().reach(revision).await?;
                }
            }
        }
    }
    Ok(all)
}

/// What each quota's use becomes, for those whose use changes. Errors: 403 when that is more than it allows.
fn check(
    request: &Request<'_>,
    counted: &Counted,
    quotas: &[Quota],
    new: &Value,
    old: Option<&Value>,
) -> Result<Vec<(usize, Amounts)>, Status> {
    let refuse = |why: String| Err(request.forbidden_object(Some(new), why));
    let now = Time::now();
    let usage = counted.usage(new, now);
    if let negative @ [_, ..] = usage.negative().as_slice() {
        return refuse(format!(
            "quota usage is negative for resource(s): {}",
            negative.join(",")
        ));
    }
    let mut takes = Vec::new();
    for (at, quota) in quotas.iter().enumerate() {
        let own: Vec<&str> = quota.hard.names().filter(|name| counted.is_own(name)).collect();
        if own.is_empty() || !counted.in_scopes(&quota.scopes, new) {
            continue;
        }
        if let Err(why) = counted.constraints(own.iter().copied(), new) {
            return refuse(format!("failed quota: {}: {why}", quota.name()));
        }
        if own.iter().any(|name| quota.used.get(name).is_none()) {
            let names = own.join(",");
            return refuse(format!(
                "status unknown for quota: {}, resources: {names}",
                quota.name()
            ));
        }
        let before = old.filter(|old| request.operation == Operation::Update && counted.in_scopes(&quota.scopes, old));
        let delta = match before {
            Some(old) => usage.less(&counted.usage(old, now)),
            None => usage.clone(),
        };
        let asked = delta.without_zeros().only(quota.hard.names());
        if asked.is_empty() {
            continue;
        }
        let mut used = quota.used.clone();
        used.add(&asked);
        let touched = used.only(asked.names());
        let exceeded = touched.exceeding(&quota.hard);
        if request.subresource != "status" && !exceeded.is_empty() {
            let shown = |amounts: &Amounts| amounts.only(exceeded.iter().copied()).to_string();
            return refuse(format!(
                "exceeded quota: {}, requested: {}, used: {}, limited: {}",
                quota.name(),
                shown(&asked),
                shown(&quota.used),
                shown(&quota.hard)
            ));
        }
        takes.push((at, used));
    }
    Ok(takes)
}
