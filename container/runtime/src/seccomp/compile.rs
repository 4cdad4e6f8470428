//! From a profile to a program.

use super::table::TABLE;
use crate::error::{Error, Result};
use crate::spec::{Seccomp, SeccompArg, SeccompRule};
use alloc::{collections::BTreeMap, format, vec, vec::Vec};
use strata_sys::seccomp::{Instruction, LENGTH_LIMIT};

/// Instruction codes: load a word, jump, return, and.
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
const IF_GREATER_OR_EQUAL: u16 = 0x35;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// `SECCOMP_RET_…`.
const KILL_PROCESS: u32 = 0x8000_0000;
const KILL_THREAD: u32 = 0;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const TRACE: u32 = 0x7ff0_0000;
const NOTIFY: u32 = 0x7fc0_0000;
const LOG: u32 = 0x7ffc_0000;
const ALLOW: u32 = 0x7fff_0000;

/// Set in the numbers of x32 calls.
const X32_BIT: u32 = 0x4000_0000;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// The architectures that a profile can name and this machine can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Architecture {
    X86_64,
    X32,
    X86,
    Aarch64,
}

impl Architecture {
    const NATIVE: Self = if cfg!(target_arch = "aarch64") {
        Self::Aarch64
    } else {
        Self::X86_64
    };

    /// `None` for those of other machines: a profile made for several is not wrong.
    fn parse(name: &str) -> Option<Self> {
        match name {
            "SCMP_ARCH_X86_64" => Some(Self::X86_64),
            "SCMP_ARCH_X32" => Some(Self::X32),
            "SCMP_ARCH_X86" => Some(Self::X86),
            "SCMP_ARCH_AARCH64" => Some(Self::Aarch64),
            "SCMP_ARCH_NATIVE" => Some(Self::NATIVE),
            _ => None,
        }
    }

    fn number(self, name: &str) -> Option<u32> {
        let row = &TABLE[TABLE.binary_search_by(|row| row.0.cmp(name)).ok()?];
        let number = match self {
            Self::X86_64 => row.1,
            Self::X32 => row.2,
            Self::X86 => row.3,
            Self::Aarch64 => row.4,
        };
        u32::try_from(number)
            .ok()
            .map(|number| if self == Self::X32 { number | X32_BIT } else { number })
    }
}

/// Linux's AUDIT_ARCH_… of the two architectures that share a kernel.
const AUDIT_X86_64: u32 = 0xc000_003e;
const AUDIT_X86: u32 = 0x4000_0003;
const AUDIT_AARCH64: u32 = 0xc000_00b7;

/// What happens to one call: tests in order, then an unconditional verdict.
#[derive(Clone, Debug, Default, PartialEq)]
struct Verdict {
    tests: Vec<(Vec<Test>, u32)>,
    otherwise: u32,
}

/// One comparison of a 64-bit argument.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Test {
    argument: u32,
    operator: Operator,
    value: u64,
    mask: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// The program for a profile.
pub fn compile(profile: &Seccomp) -> Result<Vec<Instruction>> {
    let default = action(&profile.default_action, profile.default_errno_ret)?;
    let mut architectures: Vec<Architecture> = profile
        .architectures
        .iter()
        .filter_map(|name| Architecture::parse(name))
        .collect();
    if !architectures.contains(&Architecture::NATIVE) {
        architectures.push(Architecture::NATIVE);
    }
    let section = |architecture: Architecture| -> Result<Option<Vec<Instruction>>> {
        if !architectures.contains(&architecture) {
            return Ok(None);
        }
        Ok(Some(tree(&ranges(
            &verdicts(profile, architecture, default)?,
            architecture,
            default,
        ))))
    };
    let kill = vec![answer(KILL_PROCESS)];
    let mut program = vec![op(LOAD, ARCHITECTURE)];
    if Architecture::NATIVE == Architecture::Aarch64 {
        let native = section(Architecture::Aarch64)?.unwrap_or_default();
        program.extend(branch(IF_EQUAL, AUDIT_AARCH64, with_number(native), kill));
    } else {
        let native = section(Architecture::X86_64)?.unwrap_or_default();
        let x32 = section(Architecture::X32)?.unwrap_or_else(|| kill.clone());
        let x86 = section(Architecture::X86)?
            .map(with_number)
            .unwrap_or_else(|| kill.clone());
        let amd64 = with_number(branch(IF_GREATER_OR_EQUAL, X32_BIT, x32, native));
        let other = branch(IF_EQUAL, AUDIT_X86, x86, kill);
        program.extend(branch(IF_EQUAL, AUDIT_X86_64, amd64, other));
    }
    if program.len() > LENGTH_LIMIT {
        return Err(Error::Invalid(
            "the seccomp profile is too long for a filter of 4096 instructions".into(),
        ));
    }
    Ok(program)
}

/// Whether some call is to be notified. Errors: the one that hands the listener over would be.
pub(super) fn notifies(profile: &Seccomp) -> Result<bool> {
    const HAND_OVER: &str = "sendmsg";
    let notify = |action: &str| action == "SCMP_ACT_NOTIFY";
    let mut found = notify(&profile.default_action);
    let mut handed = found;
    for rule in &profile.syscalls {
        let names = rule.names.iter().any(|name| name == HAND_OVER);
        if notify(&rule.action) {
            found = true;
            handed |= names;
        } else if names && rule.args.is_empty() {
            handed = false;
        }
    }
    if handed {
        return Err(Error::Invalid(format!(
            "SCMP_ACT_NOTIFY cannot be used for {HAND_OVER}, by which the listener gets its descriptor"
        )));
    }
    Ok(found)
}

fn with_number(mut section: Vec<Instruction>) -> Vec<Instruction> {
    section.insert(0, op(LOAD, NUMBER));
    section
}

fn action(name: &str, errno: Option<u32>) -> Result<u32> {
    let data = errno.unwrap_or(EPERM) & 0xffff;
    Ok(match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => KILL_PROCESS,
        "SCMP_ACT_TRAP" => TRAP,
        "SCMP_ACT_ERRNO" => ERRNO | data,
        "SCMP_ACT_TRACE" => TRACE | data,
        "SCMP_ACT_LOG" => LOG,
        "SCMP_ACT_ALLOW" => ALLOW,
        "SCMP_ACT_NOTIFY" => NOTIFY,
        other => return Err(Error::Invalid(format!("unknown seccomp action {other:?}"))),
    })
}

/// The verdict for each number that the profile names.
fn verdicts(profile: &Seccomp, architecture: Architecture, default: u32) -> Result<BTreeMap<u32, Verdict>> {
    let mut verdicts: BTreeMap<u32, Verdict> = BTreeMap::new();
    let mut settled: BTreeMap<u32, ()> = BTreeMap::new();
    for rule in &profile.syscalls {
        let action = action(&rule.action, rule.errno_ret)?;
        let alternatives = alternatives(rule)?;
        for number in rule.names.iter().filter_map(|name| architecture.number(name)) {
            if settled.contains_key(&number) {
                continue;
            }
            let verdict = verdicts.entry(number).or_insert_with(|| Verdict {
                tests: Vec::new(),
                otherwise: default,
            });
            if rule.args.is_empty() {
                *verdict = Verdict {
                    tests: Vec::new(),
                    otherwise: action,
                };
                settled.insert(number, ());
            } else if action != default {
                verdict
                    .tests
                    .extend(alternatives.iter().map(|tests| (tests.clone(), action)));
            }
        }
    }
    Ok(verdicts)
}

/// All conditions of a rule must hold, except that several on the same argument are alternatives, as
/// runtimes have always read them.
fn alternatives(rule: &SeccompRule) -> Result<Vec<Vec<Test>>> {
    let tests = rule.args.iter().map(test).collect::<Result<Vec<_>>>()?;
    let repeated = tests
        .iter()
        .enumerate()
        .any(|(i, a)| tests[..i].iter().any(|b| a.argument == b.argument));
    Ok(if repeated {
        tests.into_iter().map(|test| vec![test]).collect()
    } else {
        vec![tests]
    })
}

fn test(condition: &SeccompArg) -> Result<Test> {
    let (operator, value, mask) = match &*condition.op {
        "SCMP_CMP_EQ" => (Operator::Equal, condition.value, u64::MAX),
        "SCMP_CMP_NE" => (Operator::NotEqual, condition.value, u64::MAX),
        "SCMP_CMP_LT" => (Operator::Less, condition.value, u64::MAX),
        "SCMP_CMP_LE" => (Operator::LessOrEqual, condition.value, u64::MAX),
        "SCMP_CMP_GT" => (Operator::Greater, condition.value, u64::MAX),
        "SCMP_CMP_GE" => (Operator::GreaterOrEqual, condition.value, u64::MAX),
        "SCMP_CMP_MASKED_EQ" => (Operator::Equal, condition.value_two & condition.value, condition.value),
        other => return Err(Error::Invalid(format!("unknown seccomp operator {other:?}"))),
    };
    if condition.index > 5 {
        return Err(Error::Invalid(format!(
            "seccomp argument {} is not 0 to 5",
            condition.index
        )));
    }
    Ok(Test {
        argument: condition.index,
        operator,
        value,
        mask,
    })
}

/// Consecutive numbers with the same verdict, from 0 on: `(first, verdict)`.
fn ranges(verdicts: &BTreeMap<u32, Verdict>, architecture: Architecture, default: u32) -> Vec<(u32, Verdict)> {
    let plain = |otherwise| Verdict {
        tests: Vec::new(),
        otherwise,
    };
    let first = if architecture == Architecture::X32 { X32_BIT } else { 0 };
    let mut ranges: Vec<(u32, Verdict)> = Vec::new();
    let mut push = |first: u32, verdict: Verdict| {
        if ranges.last().is_none_or(|last| last.1 != verdict) {
            ranges.push((first, verdict));
        }
    };
    let mut next = first;
    for (&number, verdict) in verdicts {
        if number > next {
            push(next, plain(default));
        }
        push(number, verdict.clone());
        next = number + 1;
    }
    // A call newer than any that the profile knows does not exist as far as its author could say: with
    // EPERM programs would give up instead of falling back.
    let newer = if default & 0xffff_0000 == ERRNO {
        ERRNO | ENOSYS
    } else {
        default
    };
    push(next, plain(newer));
    ranges
}

/// Binary search over the ranges; expects the number in the accumulator.
fn tree(ranges: &[(u32, Verdict)]) -> Vec<Instruction> {
    match ranges {
        [] => vec![answer(KILL_PROCESS)],
        [(_, verdict)] => leaf(verdict),
        _ => {
            let (left, right) = ranges.split_at(ranges.len() / 2);
            branch(IF_GREATER_OR_EQUAL, right[0].0, tree(right), tree(left))
        }
    }
}

fn leaf(verdict: &Verdict) -> Vec<Instruction> {
    let mut program = Vec::new();
    for (tests, action) in &verdict.tests {
        let mut body = vec![answer(*action)];
        for test in tests.iter().rev() {
            body = compare(test, body);
        }
        program.extend(body);
    }
    program.push(answer(verdict.otherwise));
    program
}

/// `test`, then `body`; control falls behind `body` when the test fails.
fn compare(test: &Test, body: Vec<Instruction>) -> Vec<Instruction> {
    let low = ARGUMENTS + 8 * test.argument;
    let (value_low, value_high) = (test.value as u32, (test.value >> 32) as u32);
    let (mask_low, mask_high) = (test.mask as u32, (test.mask >> 32) as u32);
    // (high word decides true, high word decides false, compare the low word, wanted outcome)
    let (low_code, greater_holds, less_holds, wanted) = match test.operator {
        Operator::Equal => (IF_EQUAL, false, false, true),
        Operator::NotEqual => (IF_EQUAL, true, true, false),
        Operator::Greater => (IF_GREATER, true, false, true),
        Operator::GreaterOrEqual => (IF_GREATER_OR_EQUAL, true, false, true),
        Operator::Less => (IF_GREATER_OR_EQUAL, false, true, false),
        Operator::LessOrEqual => (IF_GREATER, false, true, false),
    };
    let load = |offset: u32, mask: u32| {
        let mut load = vec![op(LOAD, offset)];
        if mask != u32::MAX {
            load.push(op(AND, mask));
        }
        load
    };
    // Layout: [load high] [high > value?] [high == value?] [load low] [low test] body
    let mut program = load(low + 4, mask_high);
    let low_part = load(low, mask_low);
    let length = body.len() as u8;
    let after_high = low_part.len() as u8 + 1;
    let (to_body, past_body) = (after_high + 1, after_high + 1 + length);
    program.push(Instruction {
        code: IF_GREATER,
        yes: if greater_holds { to_body } else { past_body },
        no: 0,
        k: value_high,
    });
    program.push(Instruction {
        code: IF_EQUAL,
        yes: 0,
        no: if less_holds { after_high } else { after_high + length },
        k: value_high,
    });
    program.extend(low_part);
    program.push(Instruction {
        code: low_code,
        yes: if wanted { 0 } else { length },
        no: if wanted { length } else { 0 },
        k: value_low,
    });
    program.extend(body);
    program
}

/// `if (accumulator code value) yes else no`; both branches end with an answer.
fn branch(code: u16, value: u32, yes: Vec<Instruction>, no: Vec<Instruction>) -> Vec<Instruction> {
    let mut program = Vec::with_capacity(yes.len() + no.len() + 2);
    match u8::try_from(no.len()) {
        Ok(over) => program.push(Instruction {
            code,
            yes: over,
            no: 0,
            k: value,
        }),
        // Conditional jumps reach 255 instructions, unconditional ones any.
        Err(_) => {
            program.push(Instruction {
                code,
                yes: 0,
                no: 1,
                k: value,
            });
            program.push(op(JUMP, no.len() as u32));
        }
    }
    program.extend(no);
    program.extend(yes);
    program
}

fn op(code: u16, k: u32) -> Instruction {
    Instruction { code, yes: 0, no: 0, k }
}

fn answer(action: u32) -> Instruction {
    op(RETURN, action)
}

#[cfg(test)]
mod tests;
