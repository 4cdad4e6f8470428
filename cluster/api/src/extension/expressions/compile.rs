//! From the rules of a schema to programs.

use crate::metrics::expressions;
use std::{cell::OnceCell, sync::Arc, time::Instant};
use strata_cel::{Checked, DeclType, Env, Program, Type, limits};
use strata_schema::structural::{Additional, Flags, Structural, Validation};

/// The rules of a place, and of the places below it.
#[derive(Default)]
pub(in crate::extension) struct Compiled {
    /// The rules of this place.
    pub(super) rules: Vec<Rule>,
    /// What values here are.
    pub(super) decl: Option<DeclType>,
    /// Members with rules.
    pub(super) properties: Vec<(Arc<str>, Compiled)>,
    /// Items with rules.
    pub(super) items: Option<Box<Compiled>>,
    /// Other members with rules.
    pub(super) additional: Option<Box<Compiled>>,
}

/// One rule.
pub(super) struct Rule {
    /// What it says.
    pub(super) stated: Validation,
    /// The program, or why there is none.
    pub(super) program: Result<Program, String>,
    /// The program for its message.
    pub(super) message: Option<Program>,
    /// Whether it compares with the old value.
    pub(super) uses_old: bool,
}

/// A rule that has been compiled, with what it may cost.
pub(super) struct Compilation {
    /// The program, or why there is none.
    pub(super) program: Result<Program, String>,
    /// What the rule may cost.
    pub(super) cost: u64,
    /// The program of the message with what it may cost, or why there is none.
    pub(super) message: Result<Option<(Program, u64)>, String>,
    /// Whether it compares with the old value.
    pub(super) uses_old: bool,
}

impl Compiled {
    /// Compiles all rules of a schema.
    pub(in crate::extension) fn of(schema: &Arc<Structural>) -> Self {
        Self::below(schema, true)
    }

    /// Compiles the rules of a part of one.
    pub(super) fn of_part(schema: &Arc<Structural>) -> Self {
        Self::below(schema, false)
    }

    fn below(schema: &Arc<Structural>, root: bool) -> Self {
        if !schema.is(Flags::EXPRESSIONS) {
            return Self::default();
        }
        let stated = schema.validations();
        let root = root || schema.is(Flags::EMBEDDED);
        let decl = (!stated.is_empty()).then(|| declaration(schema, root)).flatten();
        let compiler = Compiler::new(decl.as_ref());
        let started = Instant::now();
        let rules = stated.iter().map(|validation| {
            let compiled = compiler.compile(validation);
            Rule {
                stated: validation.clone(),
                program: compiled.program,
                message: compiled.message.ok().flatten().map(|(program, _)| program),
                uses_old: compiled.uses_old,
            }
        });
        let rules: Vec<Rule> = rules.collect();
        if !rules.is_empty() {
            expressions::compiled(started);
        }
        let some = |schema: &Arc<Structural>| {
            schema
                .is(Flags::EXPRESSIONS)
                .then(|| Box::new(Self::below(schema, false)))
        };
        let properties = schema.properties.iter().filter(|p| p.schema.is(Flags::EXPRESSIONS));
        Self {
            rules,
            properties: properties
                .map(|p| (p.name.clone(), Self::below(&p.schema, false)))
                .collect(),
            items: schema.items.as_ref().and_then(some),
            additional: match &schema.additional {
                Additional::Of(others) => some(others),
                _ => None,
            },
            // What rules were checked against is as large as the schema; running them takes less.
            decl: decl.and_then(|_| DeclType::on_demand(schema, root)),
        }
    }
}

/// What `self` is at a place.
pub(super) fn declaration(schema: &Structural, root: bool) -> Option<DeclType> {
    DeclType::from_schema(schema, "selfType", root)
}

/// How many values of a type fit into a request.
pub(super) fn fitting(decl: &DeclType) -> u64 {
    limits::MAX_REQUEST_SIZE_BYTES / (decl.min_serialized_size + 1)
}

/// Compiles the rules of one place, which see the same variables.
pub(super) struct Compiler<'d> {
    decl: Option<&'d DeclType>,
    /// Without and with an old value that may be absent. Each is as large as the schema.
    environments: [OnceCell<Env>; 2],
}

impl<'d> Compiler<'d> {
    /// For a place whose values are declared so.
    pub(super) fn new(decl: Option<&'d DeclType>) -> Self {
        let environments = Default::default();
        Self { decl, environments }
    }

    /// Compiles a rule.
    pub(super) fn compile(&self, rule: &Validation) -> Compilation {
        let failed = |why: String| Compilation {
            program: Err(why),
            cost: 0,
            message: Ok(None),
            uses_old: false,
        };
        let Some(decl) = self.decl else {
            return failed("failed to convert to declType for CEL validation rules".into());
        };
        let optional = rule.optional_old_self;
        let env = self.environments[usize::from(optional)].get_or_init(|| environment(decl, optional));
        let checked = match env.compile(&rule.rule) {
            Ok(checked) => checked,
            Err(issues) => return failed(format!("compilation failed: {issues}")),
        };
        if *checked.output_type() != Type::Bool {
            return failed("cel expression must evaluate to a bool".into());
        }
        let program = checked
            .program()
            .map_err(|error| format!("program instantiation failed: {error}"));
        Compilation {
            cost: checked.estimated_cost(decl).max,
            uses_old: checked.references("oldSelf"),
            message: message(env, rule, decl),
            program,
        }
    }
}

impl Compilation {
    /// How large its regular expressions are.
    pub(super) fn pattern_weight(&self) -> u64 {
        let message = self.message.as_ref().ok().and_then(Option::as_ref);
        let programs = self.program.iter().chain(message.map(|(program, _)| program));
        programs.map(Program::pattern_weight).fold(0, u64::saturating_add)
    }
}

fn message(env: &Env, rule: &Validation, decl: &DeclType) -> Result<Option<(Program, u64)>, String> {
    if rule.message_expression.is_empty() {
        return Ok(None);
    }
    let checked: Checked = env
        .compile(&rule.message_expression)
        .map_err(|issues| format!("messageExpression compilation failed: {issues}"))?;
    if *checked.output_type() != Type::String {
        return Err("messageExpression must evaluate to a string".into());
    }
    let program = checked
        .program()
        .map_err(|error| format!("messageExpression instantiation failed: {error}"))?;
    Ok(Some((program, checked.estimated_cost(decl).max)))
}

fn environment(decl: &DeclType, optional: bool) -> Env {
    let own = decl.cel_type();
    let old = if optional { Type::optional(own) } else { own };
    Env::kubernetes()
        .declared("self", decl)
        .variable("oldSelf", old)
        .build()
}
