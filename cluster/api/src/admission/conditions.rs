//! Match conditions: expressions that all have to hold before a webhook or policy is asked.

use super::{
    Request,
    asked::answered,
    expressions::{Budget, Expression, Failure, Inputs, OUT_OF_BUDGET, Vocabulary, Wanted},
};
use crate::{json, metrics::Conditioned};
use serde_json::Value as Json;
use std::time::Instant;
use strata_cel::limits::RUNTIME_COST_BUDGET_MATCH_CONDITIONS;

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

    /// Whether all hold of what `inputs` makes. Errors: what failed, unless one is false or failures are ignored.
    pub(super) async fn hold<'a>(
        &'a self,
        request: &Request<'_>,
        inputs: impl Fn() -> Inputs<'a>,
        ignores_failure: bool,
        of: Conditioned<'_>,
    ) -> Result<bool, String> {
        let started = Instant::now();
        let outcome = answered(request, || self.all_hold(&inputs())).await;
        let told = outcome.as_ref().map(|holds| *holds).map_err(drop);
        let metrics = &request.core.metrics.admission;
        metrics.conditions(of, told, started.elapsed());
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
