//! Compiled expressions.

use crate::{
    Env, EvalError, Type, Value,
    ast::{Expr, Id},
    cost::{CostRange, Sizes, estimate},
    deep::with_room,
    eval::{Activation, Machine},
    functions::Overload,
    plan::{Step, plan},
    value::{begin_looking, resume_looking},
};
use std::sync::Arc;

/// What a name or a call means.
#[derive(Clone, Debug)]
pub(crate) enum Reference {
    /// A variable, of the environment or of a loop.
    Variable(Arc<str>),
    /// A type's name.
    Type(Type),
    /// A function's overloads that may apply.
    Overloads {
        function: Arc<str>,
        /// Whether the call's target is but a part of the function's name.
        qualified: bool,
        overloads: Vec<&'static Overload>,
    },
}

/// An expression with its types.
#[derive(Clone, Debug)]
pub struct Checked {
    pub(crate) env: Env,
    pub(crate) expr: Expr,
    pub(crate) places: Vec<Option<u32>>,
    pub(crate) types: Vec<Type>,
    pub(crate) references: Vec<Option<Reference>>,
    pub(crate) deep: bool,
}

impl Checked {
    /// The type of the expression's value.
    pub fn output_type(&self) -> &Type {
        self.type_of(self.expr.id)
    }

    /// Whether the expression mentions a variable.
    pub fn references(&self, variable: &str) -> bool {
        let mut all = self.references.iter().flatten();
        all.any(|reference| matches!(reference, Reference::Variable(name) if &**name == variable))
    }

    /// What the expression may cost, given how large variables and their parts may be.
    pub fn estimated_cost(&self, sizes: &dyn Sizes) -> CostRange {
        with_room(self.deep, || estimate(self, sizes))
    }

    /// Makes the expression ready to run. Errors: a literal in it can never be what it is used as,
    /// such as a regular expression that is none.
    pub fn program(&self) -> Result<Program, EvalError> {
        let (step, locals, patterns) = with_room(self.deep, || plan(self))?;
        let deep = self.deep;
        Ok(Program {
            step,
            locals,
            patterns,
            deep,
        })
    }

    pub(crate) fn type_of(&self, id: Id) -> &Type {
        &self.types[id as usize]
    }

    pub(crate) fn reference(&self, id: Id) -> Option<&Reference> {
        self.references.get(id as usize)?.as_ref()
    }

    pub(crate) fn overloads(&self, id: Id) -> &[&'static Overload] {
        match self.reference(id) {
            Some(Reference::Overloads { overloads, .. }) => overloads,
            _ => &[],
        }
    }
}

/// An expression ready to run, as often as wanted and from any thread.
#[derive(Debug)]
pub struct Program {
    step: Step,
    /// How many variables of loops there are at once.
    locals: usize,
    patterns: u64,
    deep: bool,
}

/// What a run came to.
#[derive(Debug)]
pub struct Evaluation<'a> {
    /// The value, or why there is none.
    pub result: Result<Value<'a>, EvalError>,
    /// What it cost, whether it succeeded or not.
    pub cost: u64,
}

impl Program {
    /// How large its regular expressions are together, as [`crate::pattern_weight`] has it.
    pub fn pattern_weight(&self) -> u64 {
        self.patterns
    }

    /// Runs the expression, for at most `limit` units of cost.
    pub fn eval<'a>(&'a self, activation: &dyn Activation<'a>, limit: u64) -> Evaluation<'a> {
        self.eval_until(activation, limit, None)
    }

    /// As `eval`, asking now and then whether to stop.
    pub fn eval_until<'a>(
        &'a self,
        activation: &dyn Activation<'a>,
        limit: u64,
        interrupt: Option<&(dyn Fn() -> bool + Sync)>,
    ) -> Evaluation<'a> {
        with_room(self.deep, || {
            let mut machine = Machine::new(activation, self.locals, limit, interrupt);
            let around = begin_looking();
            let result = machine.eval(&self.step);
            resume_looking(around);
            Evaluation {
                result,
                cost: machine.cost(),
            }
        })
    }
}
