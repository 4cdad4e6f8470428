use super::*;
use crate::seccomp::default_profile;
use std::string::{String, ToString};

/// Runs a program as the kernel would: the answer for a call.
fn run(program: &[Instruction], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = [0u32; 16];
    data[0] = number;
    data[1] = architecture;
    for (index, argument) in arguments.iter().enumerate() {
        data[4 + 2 * index] = *argument as u32;
        data[5 + 2 * index] = (*argument >> 32) as u32;
    }
    let (mut accumulator, mut at) = (0u32, 0usize);
    loop {
        let Instruction { code, yes, no, k } = program[at];
        at += 1;
        let holds = match code {
            LOAD => {
                accumulator = data[k as usize / 4];
                continue;
            }
            AND => {
                accumulator &= k;
                continue;
            }
            JUMP => {
                at += k as usize;
                continue;
            }
            RETURN => return k,
            IF_EQUAL => accumulator == k,
            IF_GREATER => accumulator > k,
            IF_GREATER_OR_EQUAL => accumulator >= k,
            other => panic!("unknown code {other:#x}"),
        };
        at += usize::from(if holds { yes } else { no });
    }
}

fn rule(name: &str, action: &str, args: &[(u32, &str, u64, u64)]) -> SeccompRule {
    SeccompRule {
        names: vec![name.to_string()],
        action: action.to_string(),
        errno_ret: None,
        args: args
            .iter()
            .map(|&(index, op, value, value_two)| SeccompArg {
                index,
                value,
                value_two,
                op: op.to_string(),
            })
            .collect(),
    }
}

fn profile(rules: Vec<SeccompRule>) -> Seccomp {
    Seccomp {
        default_action: "SCMP_ACT_ERRNO".to_string(),
        architectures: ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
            .map(String::from)
            .to_vec(),
        syscalls: rules,
        ..Seccomp::default()
    }
}

#[test]
fn every_comparison_holds_for_64_bit_values() {
    type Holds = fn(u64, u64) -> bool;
    let operators: [(&str, Holds); 6] = [
        ("SCMP_CMP_EQ", |a, b| a == b),
        ("SCMP_CMP_NE", |a, b| a != b),
        ("SCMP_CMP_LT", |a, b| a < b),
        ("SCMP_CMP_LE", |a, b| a <= b),
        ("SCMP_CMP_GT", |a, b| a > b),
        ("SCMP_CMP_GE", |a, b| a >= b),
    ];
    let values = [
        0,
        1,
        2,
        0xffff_ffff,
        0x1_0000_0000,
        0x1_0000_0001,
        0x2_0000_0000,
        u64::MAX,
    ];
    for (name, holds) in operators {
        for value in values {
            let program = compile(&profile(vec![rule("read", "SCMP_ACT_ALLOW", &[(1, name, value, 0)])])).unwrap();
            for given in values {
                let expected = if holds(given, value) { ALLOW } else { ERRNO | EPERM };
                let found = run(&program, AUDIT_X86_64, 0, [9, given, 9, 9, 9, 9]);
                assert_eq!(found, expected, "{given} {name} {value}");
            }
        }
    }
}

#[test]
fn a_masked_comparison_looks_at_the_masked_bits_alone() {
    let mask = 0x7e02_0000;
    let program = compile(&profile(vec![rule(
        "clone",
        "SCMP_ACT_ALLOW",
        &[(0, "SCMP_CMP_MASKED_EQ", mask, 0)],
    )]))
    .unwrap();
    let clone = Architecture::X86_64.number("clone").unwrap();
    assert_eq!(run(&program, AUDIT_X86_64, clone, [0x11, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(
        run(&program, AUDIT_X86_64, clone, [0x1000_0011, 0, 0, 0, 0, 0]),
        ERRNO | EPERM
    );
}

#[test]
fn all_conditions_must_hold_but_repeated_arguments_are_alternatives() {
    let both = [(0, "SCMP_CMP_EQ", 1, 0), (1, "SCMP_CMP_EQ", 2, 0)];
    let program = compile(&profile(vec![rule("read", "SCMP_ACT_ALLOW", &both)])).unwrap();
    assert_eq!(run(&program, AUDIT_X86_64, 0, [1, 2, 0, 0, 0, 0]), ALLOW);
    assert_eq!(run(&program, AUDIT_X86_64, 0, [1, 3, 0, 0, 0, 0]), ERRNO | EPERM);
    let either = [(0, "SCMP_CMP_EQ", 1, 0), (0, "SCMP_CMP_EQ", 2, 0)];
    let program = compile(&profile(vec![rule("read", "SCMP_ACT_ALLOW", &either)])).unwrap();
    assert_eq!(run(&program, AUDIT_X86_64, 0, [2, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(run(&program, AUDIT_X86_64, 0, [3, 0, 0, 0, 0, 0]), ERRNO | EPERM);
}

#[test]
fn each_architecture_has_numbers_of_its_own() {
    let program = compile(&profile(vec![rule("getpid", "SCMP_ACT_ALLOW", &[])])).unwrap();
    let arguments = [0; 6];
    assert_eq!(run(&program, AUDIT_X86_64, 39, arguments), ALLOW);
    assert_eq!(run(&program, AUDIT_X86_64, 39 | X32_BIT, arguments), ALLOW);
    assert_eq!(run(&program, AUDIT_X86, 20, arguments), ALLOW);
    assert_eq!(run(&program, AUDIT_X86, 39, arguments), ERRNO | ENOSYS);
    assert_eq!(run(&program, AUDIT_X86_64, 38, arguments), ERRNO | EPERM);
    assert_eq!(run(&program, AUDIT_AARCH64, 39, arguments), KILL_PROCESS);
}

#[test]
fn an_architecture_that_is_not_listed_is_killed() {
    let mut narrow = profile(vec![rule("getpid", "SCMP_ACT_ALLOW", &[])]);
    narrow.architectures = vec!["SCMP_ARCH_X86_64".to_string()];
    let program = compile(&narrow).unwrap();
    assert_eq!(run(&program, AUDIT_X86, 20, [0; 6]), KILL_PROCESS);
    assert_eq!(run(&program, AUDIT_X86_64, 39 | X32_BIT, [0; 6]), KILL_PROCESS);
}

#[test]
fn the_default_profile_agrees_with_its_rules_on_every_number() {
    for capabilities in [&[][..], &["CAP_SYS_ADMIN".to_string()][..]] {
        let profile = default_profile(capabilities);
        let program = compile(&profile).unwrap();
        assert!(program.len() < LENGTH_LIMIT, "{}", program.len());
        let verdicts = verdicts(&profile, Architecture::X86_64, ERRNO | EPERM).unwrap();
        for (&number, verdict) in verdicts.iter().filter(|(_, verdict)| verdict.tests.is_empty()) {
            assert_eq!(
                run(&program, AUDIT_X86_64, number, [0; 6]),
                verdict.otherwise,
                "{number}"
            );
        }
        for number in 0..335 {
            if !verdicts.contains_key(&number) {
                assert_eq!(run(&program, AUDIT_X86_64, number, [0; 6]), ERRNO | EPERM, "{number}");
            }
        }
        assert_eq!(run(&program, AUDIT_X86_64, 9999, [0; 6]), ERRNO | ENOSYS);
    }
}

#[test]
fn the_default_profile_lets_an_administrator_mount_and_nobody_else() {
    let mount = Architecture::X86_64.number("mount").unwrap();
    let clone = Architecture::X86_64.number("clone").unwrap();
    let socket = Architecture::X86_64.number("socket").unwrap();
    let plain = compile(&default_profile(&[])).unwrap();
    let admin = compile(&default_profile(&["CAP_SYS_ADMIN".to_string()])).unwrap();
    assert_eq!(run(&plain, AUDIT_X86_64, mount, [0; 6]), ERRNO | EPERM);
    assert_eq!(run(&admin, AUDIT_X86_64, mount, [0; 6]), ALLOW);
    let new_user_namespace = [0x1000_0000, 0, 0, 0, 0, 0];
    assert_eq!(run(&plain, AUDIT_X86_64, clone, new_user_namespace), ERRNO | EPERM);
    assert_eq!(run(&admin, AUDIT_X86_64, clone, new_user_namespace), ALLOW);
    assert_eq!(run(&plain, AUDIT_X86_64, 435, [0; 6]), ERRNO | ENOSYS);
    assert_eq!(run(&plain, AUDIT_X86_64, socket, [2, 1, 0, 0, 0, 0]), ALLOW);
    assert_eq!(run(&plain, AUDIT_X86_64, socket, [40, 1, 0, 0, 0, 0]), ERRNO | EPERM);
}

#[test]
fn what_is_unknown_or_unsupported_is_refused() {
    for action in ["SCMP_ACT_NOPE", ""] {
        assert!(compile(&profile(vec![rule("read", action, &[])])).is_err(), "{action}");
    }
    assert!(
        compile(&profile(vec![rule(
            "read",
            "SCMP_ACT_ALLOW",
            &[(6, "SCMP_CMP_EQ", 0, 0)]
        )]))
        .is_err()
    );
    assert!(compile(&profile(vec![rule("no_such_call", "SCMP_ACT_ALLOW", &[])])).is_ok());
}

#[test]
fn the_call_that_hands_the_listener_over_cannot_be_notified() {
    let notify = |name| notifies(&profile(vec![rule(name, "SCMP_ACT_NOTIFY", &[])]));
    assert!(notify("mkdir").unwrap());
    assert!(notify("sendmsg").is_err());
    assert!(!notifies(&profile(vec![rule("mkdir", "SCMP_ACT_ERRNO", &[])])).unwrap());
    assert!(
        crate::seccomp::Filter::new(&profile(vec![rule("mkdir", "SCMP_ACT_NOTIFY", &[])])).is_err(),
        "nobody listens"
    );
}
