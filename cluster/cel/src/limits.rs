//! The numbers Kubernetes bounds expressions by. They are protocol: a rule that upstream accepts
//! must be accepted, and one that it refuses must be refused.

/// Most an evaluation of one expression may cost.
pub const PER_CALL_LIMIT: u64 = 1_000_000;
/// Most all expressions of one object, or of one policy binding, may cost together.
pub const RUNTIME_COST_BUDGET: u64 = 10_000_000;
/// Most the match conditions of one webhook or binding may cost together.
pub const RUNTIME_COST_BUDGET_MATCH_CONDITIONS: u64 = 2_500_000;
/// Most one rule of a CustomResourceDefinition may cost by estimate.
pub const STATIC_ESTIMATED_COST_LIMIT: u64 = 10_000_000;
/// Most all rules of a CustomResourceDefinition may cost together by estimate.
pub const STATIC_ESTIMATED_CRD_COST_LIMIT: u64 = 100_000_000;
/// Largest request, by which values without a bound of their own are bounded.
pub const MAX_REQUEST_SIZE_BYTES: u64 = 3 * 1024 * 1024;
/// Longest text a messageExpression may make, in bytes.
pub const MAX_MESSAGE_EXPRESSION_BYTES: usize = 5 * 1024;
/// Loop iterations between looks at the interrupt.
pub(crate) const CHECK_FREQUENCY: u32 = 100;

/// Longest text a function may make, in bytes: what upstream's costs leave unbounded.
pub(crate) const MAX_TEXT: usize = 32 << 20;
/// Longest list a function may make.
pub(crate) const MAX_LIST: usize = 4 << 20;
/// Most elements one comparison may look at: lists that hold one list twice, and so on, are far
/// larger than what they cost to make.
pub(crate) const MAX_COMPARED: u64 = 20_000_000;

/// Largest the regular expressions of one expression may be together, their repetitions written out.
pub(crate) const MAX_PATTERNS: u64 = 500_000;

/// Longest expression, in code points.
pub(crate) const MAX_CODE_POINTS: usize = 100_000;
/// Deepest nesting of the syntax.
pub(crate) const MAX_DEPTH: u32 = 250;
/// Most nodes of an expression after macros: some copy their receiver, so nested uses double.
pub(crate) const MAX_NODES: usize = 400_000;
/// Largest type, written out: a map whose value mentions its key's type twice doubles.
pub(crate) const MAX_TYPE_WEIGHT: u32 = 10_000;
/// Most issues of one compilation that are told apart.
pub(crate) const MAX_ISSUES: usize = 100;
