//! What expressions ask the authorizer.
//!
//! Expressions are evaluated without waiting, but whoever decides may be a webhook. A question that memory cannot
//! answer is written down and the evaluation's outcome is of no use; when the answer is there, it is begun again.

use super::Request;
use crate::core::Core;
use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use strata_auth::{Attributes, Authorizer as _, UserInfo};
use strata_cel::{Authorizer, AuthorizerValue, Decision, Opaque, ResourceCheck, Value};

/// How often one evaluation is begun: its budget pays for fewer questions.
const ROUNDS: usize = 64;

/// One question.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Question {
    /// Namespace and name of a service account; else the user of the request is asked about.
    account: Option<(String, String)>,
    verb: String,
    /// Of what is no resource.
    path: Option<String>,
    group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

impl Question {
    fn attributes<'a>(&'a self, user: &'a UserInfo) -> Attributes<'a> {
        Attributes {
            verb: &self.verb,
            path: self.path.as_deref().unwrap_or(""),
            is_resource: self.path.is_none(),
            group: &self.group,
            version: if self.path.is_none() { "*" } else { "" },
            resource: &self.resource,
            subresource: &self.subresource,
            namespace: &self.namespace,
            name: &self.name,
            ..Attributes::of(user)
        }
    }

    fn about(&self, user: &UserInfo) -> UserInfo {
        match &self.account {
            None => user.clone(),
            Some((namespace, name)) => UserInfo::service_account(namespace, name, ""),
        }
    }
}

/// The questions of one request: those with an answer, and those that wait for one.
#[derive(Default)]
pub(super) struct Asked {
    known: Mutex<HashMap<Question, Decision>>,
    open: Mutex<Vec<Question>>,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Asked {
    /// Whether an evaluation came to a question without an answer.
    pub(super) fn waits(&self) -> bool {
        !lock(&self.open).is_empty()
    }
}

/// What `evaluate` comes to once everything it asks is answered.
pub(super) async fn answered<T>(request: &Request<'_>, mut evaluate: impl FnMut() -> T) -> T {
    for _ in 1..ROUNDS {
        let outcome = evaluate();
        let Some(asked) = request.asked().filter(|asked| asked.waits()) else {
            return outcome;
        };
        drop(outcome);
        let open = mem::take(&mut *lock(&asked.open));
        for question in open {
            let user = question.about(request.user);
            let attributes = question.attributes(&user);
            let decision = request.core.authorizer.decide(request.core, &attributes).await;
            lock(&asked.known).insert(question, told(&decision));
        }
    }
    evaluate()
}

fn told(decision: &strata_auth::Decision) -> Decision {
    Decision {
        allowed: decision.is_allowed(),
        reason: decision.reason().to_owned(),
        error: None,
    }
}

/// What `authorizer` asks: the server's own authoriser, for the user of the request.
struct Asker {
    core: Arc<Core>,
    user: UserInfo,
    asked: Arc<Asked>,
}

impl Asker {
    fn ask(&self, question: Question) -> Decision {
        let authorizer = &self.core.authorizer;
        if authorizer.is_complete() {
            let user = question.about(&self.user);
            return told(&authorizer.authorize(&question.attributes(&user)));
        }
        if let Some(decision) = lock(&self.asked.known).get(&question) {
            return decision.clone();
        }
        let mut open = lock(&self.asked.open);
        if !open.contains(&question) {
            open.push(question);
        }
        Decision {
            allowed: false,
            reason: String::new(),
            error: Some("there is no answer yet".into()),
        }
    }
}

impl Authorizer for Asker {
    fn authorize_path(&self, account: Option<&(String, String)>, path: &str, verb: &str) -> Decision {
        self.ask(Question {
            account: account.cloned(),
            verb: verb.to_owned(),
            path: Some(path.to_owned()),
            ..Question::default()
        })
    }

    fn authorize_resource(&self, account: Option<&(String, String)>, check: &ResourceCheck, verb: &str) -> Decision {
        self.ask(Question {
            account: account.cloned(),
            verb: verb.to_owned(),
            path: None,
            group: check.group.clone(),
            resource: check.resource.clone(),
            subresource: check.subresource.clone(),
            namespace: check.namespace.clone(),
            name: check.name.clone(),
        })
    }
}

/// The values of `authorizer` and `authorizer.requestResource`.
pub(super) fn authorizer<'a>(request: &Request<'_>) -> (Value<'a>, Value<'a>) {
    let asker = Asker {
        core: request.core.clone(),
        user: request.user.clone(),
        asked: request.asks(),
    };
    let whole = AuthorizerValue::new(Arc::new(asker));
    let resource = &request.row.resource;
    let own = whole.resource_check(
        (&resource.group, &resource.resource, request.subresource),
        (request.rule_namespace(), request.name),
    );
    (Value::Opaque(Opaque::Authorizer(whole)), own)
}
