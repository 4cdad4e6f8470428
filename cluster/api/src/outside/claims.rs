//! From the claims of a token to a user, by name or by expression, and rules that both must meet.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use strata_auth::{GROUP_AUTHENTICATED, UserInfo};
use strata_cel::{Bindings, Env, Program, Type, Value as Cel, limits::PER_CALL_LIMIT};

/// A rule about claims or the user.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Rule {
    claim: String,
    required_value: String,
    expression: String,
    message: String,
}

/// Where each part of a user comes from.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct MappingSettings {
    username: Mapping,
    groups: Mapping,
    uid: Mapping,
    extra: Vec<Extra>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Mapping {
    claim: String,
    prefix: Option<String>,
    expression: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Extra {
    key: String,
    value_expression: String,
}

fn compile(variable: &str, expression: &str) -> Result<Program, String> {
    let env = Env::kubernetes().variable(variable, Type::Dyn).build();
    let checked = env.compile(expression).map_err(|e| format!("{expression:?}: {e}"))?;
    checked.program().map_err(|e| format!("{expression:?}: {e}"))
}

/// What an expression makes of JSON.
fn run(program: &Program, variable: &str, over: &Value) -> Result<Value, String> {
    let bindings = Bindings::new().with(variable, Cel::dynamic(over));
    let result = program
        .eval(&bindings, PER_CALL_LIMIT)
        .result
        .map_err(|e| e.to_string())?;
    result
        .to_json()
        .ok_or_else(|| "the expression has no value in JSON".into())
}

/// Rules about one thing.
pub(super) struct Rules {
    variable: &'static str,
    required: Vec<(String, String)>,
    expressions: Vec<(Program, String)>,
}

impl Rules {
    pub(super) fn new(variable: &'static str, rules: Vec<Rule>) -> Result<Self, String> {
        let mut made = Self {
            variable,
            required: Vec::new(),
            expressions: Vec::new(),
        };
        for rule in rules {
            match (rule.claim.is_empty(), rule.expression.is_empty()) {
                (false, true) => made.required.push((rule.claim, rule.required_value)),
                (true, false) => {
                    let said = if rule.message.is_empty() {
                        format!("validation expression '{}' failed", rule.expression)
                    } else {
                        rule.message
                    };
                    made.expressions.push((compile(variable, &rule.expression)?, said));
                }
                _ => return Err("a rule has either a claim or an expression".into()),
            }
        }
        Ok(made)
    }

    /// Errors: the first rule that is not met.
    pub(super) fn check(&self, over: &Value) -> Result<(), String> {
        for (claim, wanted) in &self.required {
            if over[claim.as_str()] != wanted.as_str() {
                return Err(format!("oidc: claim {claim:?} must be {wanted:?} and is not"));
            }
        }
        for (program, said) in &self.expressions {
            if run(program, self.variable, over)? != true {
                return Err(said.clone());
            }
        }
        Ok(())
    }
}

/// One part of a user.
enum Source {
    Claim(String, String),
    Expression(Program),
    Nothing,
}

impl Source {
    fn new(mapping: Mapping) -> Result<Self, String> {
        match (mapping.claim.as_str(), mapping.expression.as_str()) {
            ("", "") => Ok(Self::Nothing),
            ("", expression) => compile("claims", expression).map(Self::Expression),
            (claim, "") => Ok(Self::Claim(claim.to_owned(), mapping.prefix.unwrap_or_default())),
            _ => Err("a mapping has either a claim or an expression".into()),
        }
    }

    /// Its texts, each with the prefix.
    fn texts(&self, claims: &Value) -> Result<Vec<String>, String> {
        let (found, prefix) = match self {
            Self::Nothing => return Ok(Vec::new()),
            Self::Claim(name, prefix) => (claims[name.as_str()].clone(), prefix.as_str()),
            Self::Expression(program) => (run(program, "claims", claims)?, ""),
        };
        texts(&found, prefix)
    }
}

fn texts(value: &Value, prefix: &str) -> Result<Vec<String>, String> {
    let text = |value: &Value| match value {
        Value::String(text) => Ok(format!("{prefix}{text}")),
        other => Err(format!("{other} is no text")),
    };
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(text) if text.is_empty() => Ok(Vec::new()),
        Value::Array(list) => list.iter().map(text).collect(),
        one => Ok(vec![text(one)?]),
    }
}

/// From claims to a user.
pub(super) struct Mappings {
    username: Source,
    groups: Source,
    uid: Source,
    extra: Vec<(String, Program)>,
}

impl Mappings {
    pub(super) fn new(settings: MappingSettings) -> Result<Self, String> {
        let extra = settings.extra.into_iter().map(|extra| {
            let program = compile("claims", &extra.value_expression)?;
            Ok::<_, String>((extra.key, program))
        });
        let mappings = Self {
            extra: extra.collect::<Result<_, _>>()?,
            username: Source::new(settings.username)?,
            groups: Source::new(settings.groups)?,
            uid: Source::new(settings.uid)?,
        };
        match mappings.username {
            Source::Nothing => Err("claimMappings.username: Required value: claim or expression is required".into()),
            _ => Ok(mappings),
        }
    }

    /// The user. Errors: no name, or a claim that is no text.
    pub(super) fn user(&self, claims: &Value) -> Result<UserInfo, String> {
        // An address that nobody has verified is nobody's (OpenID Connect core section 5.7).
        if matches!(&self.username, Source::Claim(name, _) if name == "email") && claims["email_verified"] == false {
            return Err("oidc: email not verified".into());
        }
        let one = |source: &Source| source.texts(claims).map(|texts| texts.into_iter().next());
        let name = one(&self.username)?.filter(|name| !name.is_empty());
        let mut user = UserInfo {
            name: name.ok_or("oidc: the token names nobody")?,
            uid: one(&self.uid)?.unwrap_or_default(),
            groups: self.groups.texts(claims)?,
            extra: BTreeMap::new(),
        };
        for (key, program) in &self.extra {
            let values = texts(&run(program, "claims", claims)?, "")?;
            if !values.is_empty() {
                user.extra.insert(key.clone(), values);
            }
        }
        user.groups.push(GROUP_AUTHENTICATED.to_owned());
        Ok(user)
    }
}
