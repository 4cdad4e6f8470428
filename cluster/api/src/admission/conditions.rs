//! Match conditions: expressions that all have to hold before a webhook or policy is asked.

use super::{
    Request,
    expressions::{Budget, Expression, Failure, Inputs, OUT_OF_BUDGET, Vocabulary, Wanted},
};
use crate::{
    core::Core,
    json,
    metrics::{Conditioned, Metrics},
};
use serde_json::Value as Json;
use std::{sync::Arc, time::Instant};
use strata_auth::{Attributes, Authorizer as _, UserInfo};
use strata_cel::{
    Authorizer, AuthorizerValue, Decision, Opaque, ResourceCheck, Value, limits::RUNTIME_COST_BUDGET_MATCH_CONDITIONS,
};

/// The conditions of one webhook or policy.
#[derive(Default)]
pub(super) struct Conditions(Vec<Expression>);

impl Conditions {
    /// Reads `matchConditions`.
    pub(super) fn read(value: &Json, params: bool) -> Self {
        let list = json::list(value, "matchConditions");
        if list.is_empty() {
            return Self::default();
        }
        let vocabulary = Vocabulary {
            params,
            authorizer: true,
            ..Vocabulary::default()
        };
        let env = vocabulary.env();
        let one = |c: &Json| Expression::new(&env, json::text(c, "expression").trim(), Wanted::Bool);
        Self(list.iter().map(one).collect())
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all hold. Errors: what failed, unless one is false or failures are ignored.
    pub(super) fn hold<'a>(
        &'a self,
        inputs: &Inputs<'a>,
        ignores_failure: bool,
        (metrics, of): (&Metrics, Conditioned<'_>),
    ) -> Result<bool, String> {
        let started = Instant::now();
        let outcome = self.all_hold(inputs);
        let told = outcome.as_ref().map(|holds| *holds).map_err(drop);
        metrics.admission.conditions(of, told, started.elapsed());
        match outcome {
            Err(_) if ignores_failure => Ok(false),
            other => other,
        }
    }

    fn all_hold<'a>(&'a self, inputs: &Inputs<'a>) -> Result<bool, String> {
        let budget = Budget::new(RUNTIME_COST_BUDGET_MATCH_CONDITIONS);
        let mut failures = Vec::new();
        for condition in &self.0 {
            match inputs.run(condition, &budget) {
                Ok(value) if value.as_bool() == Some(false) => return Ok(false),
                Ok(_) => {}
                Err(Failure::Failed(why)) => failures.push(why),
                Err(Failure::Budget) => {
                    failures = vec![OUT_OF_BUDGET.to_owned()];
                    break;
                }
            }
        }
        match failures.as_slice() {
            [] => Ok(true),
            [only] => Err(only.clone()),
            many => Err(format!("[{}]", many.join(", "))),
        }
    }
}

/// What `authorizer` asks: the server's own authoriser, for the user of the request.
struct Asker {
    core: Arc<Core>,
    user: UserInfo,
}

impl Asker {
    fn ask(&self, account: Option<&(String, String)>, fill: impl FnOnce(Attributes<'_>) -> Decision) -> Decision {
        match account {
            None => fill(Attributes::of(&self.user)),
            Some((namespace, name)) => {
                let user = UserInfo::service_account(namespace, name, "");
                fill(Attributes::of(&user))
            }
        }
    }

    fn decide(&self, attributes: &Attributes<'_>) -> Decision {
        let decision = self.core.authorizer.authorize(attributes);
        Decision {
            allowed: decision.is_allowed(),
            reason: decision.reason().to_owned(),
            error: None,
        }
    }
}

impl Authorizer for Asker {
    fn authorize_path(&self, account: Option<&(String, String)>, path: &str, verb: &str) -> Decision {
        self.ask(account, |user| {
            self.decide(&Attributes {
                verb,
                path,
                is_resource: false,
                ..user
            })
        })
    }

    fn authorize_resource(&self, account: Option<&(String, String)>, check: &ResourceCheck, verb: &str) -> Decision {
        self.ask(account, |user| {
            self.decide(&Attributes {
                verb,
                group: &check.group,
                version: "*",
                resource: &check.resource,
                subresource: &check.subresource,
                namespace: &check.namespace,
                name: &check.name,
                is_resource: true,
                ..user
            })
        })
    }
}

/// The values of `authorizer` and `authorizer.requestResource`.
pub(super) fn authorizer<'a>(request: &Request<'_>) -> (Value<'a>, Value<'a>) {
    let asker = Asker {
        core: request.core.clone(),
        user: request.user.clone(),
    };
    let whole = AuthorizerValue::new(Arc::new(asker));
    let resource = &request.row.resource;
    let own = whole.resource_check(
        (&resource.group, &resource.resource, request.subresource),
        (request.rule_namespace(), request.name),
    );
    (Value::Opaque(Opaque::Authorizer(whole)), own)
}
