//! Which devices a container may use: files on v1, a BPF program on v2.

use super::Cgroup;
use crate::error::{Context, Error, Result};
use crate::spec::DeviceRule;
use alloc::{format, string::String, vec, vec::Vec};
use rustix::fd::{AsRawFd, FromRawFd, OwnedFd};
use strata_sys::{file, syscall};

/// Devices every container may use, whatever the configuration says: those that runtimes make in
/// /dev, terminals, and making (not using) any node. `(type, major, minor, access)`.
const ALWAYS: [(char, i64, i64, &str); 11] = [
    ('c', -1, -1, "m"),
    ('b', -1, -1, "m"),
    ('c', 1, 3, "rwm"),
    ('c', 1, 5, "rwm"),
    ('c', 1, 7, "rwm"),
    ('c', 1, 8, "rwm"),
    ('c', 1, 9, "rwm"),
    ('c', 5, 0, "rwm"),
    ('c', 5, 1, "rwm"),
    ('c', 5, 2, "rwm"),
    ('c', 136, -1, "rwm"),
];

/// One rule in the kernel's terms; -1 is any.
#[derive(Clone, Copy, Debug)]
struct Rule {
    allow: bool,
    kind: char,
    major: i64,
    minor: i64,
    read: bool,
    write: bool,
    make: bool,
}

/// Applies the rules in order, then those for [`ALWAYS`]. No rule at all leaves the cgroup open.
pub(super) fn restrict(cgroup: &Cgroup, rules: &[DeviceRule]) -> Result<()> {
    if rules.is_empty() {
        return Ok(());
    }
    let mut list = rules.iter().map(parse).collect::<Result<Vec<_>>>()?;
    // A privileged container's "allow everything" needs no further rules.
    let open = list
        .last()
        .is_some_and(|rule| rule.allow && rule.kind == 'a' && rule.major < 0 && rule.minor < 0);
    if !open {
        list.extend(ALWAYS.iter().map(|&(kind, major, minor, access)| Rule {
            allow: true,
            kind,
            major,
            minor,
            read: access.contains('r'),
            write: access.contains('w'),
            make: access.contains('m'),
        }));
    }
    let Some(directory) = cgroup.directory("devices") else {
        return Err(Error::Invalid("this machine has no devices cgroup".into()));
    };
    if cgroup.layout().is_unified() {
        attach_program(&directory, &list)
    } else {
        write_files(&directory, &list)
    }
}

fn parse(rule: &DeviceRule) -> Result<Rule> {
    let kind = match &*rule.kind {
        "" | "a" => 'a',
        "b" => 'b',
        "c" | "u" => 'c',
        other => return Err(Error::Invalid(format!("bad device type {other:?} in a device rule"))),
    };
    let access = if rule.access.is_empty() { "rwm" } else { &*rule.access };
    if access.chars().any(|letter| !"rwm".contains(letter)) {
        return Err(Error::Invalid(format!("bad access {access:?} in a device rule")));
    }
    Ok(Rule {
        allow: rule.allow,
        kind,
        major: rule.major.unwrap_or(-1),
        minor: rule.minor.unwrap_or(-1),
        read: access.contains('r'),
        write: access.contains('w'),
        make: access.contains('m'),
    })
}

fn write_files(directory: &str, rules: &[Rule]) -> Result<()> {
    for rule in rules {
        let name = if rule.allow { "devices.allow" } else { "devices.deny" };
        let number = |number: i64| {
            if number < 0 {
                String::from("*")
            } else {
                format!("{number}")
            }
        };
        // "a" alone means everything, whatever stands behind it.
        let text = if rule.kind == 'a' && rule.major < 0 && rule.minor < 0 {
            String::from("a")
        } else {
            let mut access = String::new();
            for (wanted, letter) in [(rule.read, 'r'), (rule.write, 'w'), (rule.make, 'm')] {
                if wanted {
                    access.push(letter);
                }
            }
            format!("{} {}:{} {access}", rule.kind, number(rule.major), number(rule.minor))
        };
        file::write(&*format!("{directory}/{name}"), text.as_bytes())
            .context(|| format!("cannot write {text:?} to {name}"))?;
    }
    Ok(())
}

/// One instruction of extended BPF.
#[repr(C)]
#[derive(Clone, Copy)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

fn attach_program(directory: &str, rules: &[Rule]) -> Result<()> {
    let program = load(&assemble(rules)).context(|| "cannot load the device filter")?;
    let cgroup = file::open_directory(directory).context(|| format!("open {directory}"))?;
    // union bpf_attr of BPF_PROG_ATTACH.
    const PROG_ATTACH: usize = 8;
    const CGROUP_DEVICE: u32 = 6;
    const ALLOW_MULTI: u32 = 2;
    let attributes = [
        cgroup.as_raw_fd() as u32,
        program.as_raw_fd() as u32,
        CGROUP_DEVICE,
        ALLOW_MULTI,
        0,
    ];
    // SAFETY: bpf(2) reads the attributes.
    let result = unsafe {
        let length = size_of_val(&attributes);
        syscall(
            libc::SYS_bpf,
            [PROG_ATTACH, attributes.as_ptr() as usize, length, 0, 0, 0],
        )
    };
    result.map(drop).context(|| "cannot attach the device filter")
}

fn load(program: &[Instruction]) -> strata_sys::Result<OwnedFd> {
    const PROG_LOAD: usize = 5;
    const TYPE_CGROUP_DEVICE: u32 = 15;
    #[repr(C)]
    #[derive(Default)]
    struct Attributes {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
    }
    let attributes = Attributes {
        kind: TYPE_CGROUP_DEVICE,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..Attributes::default()
    };
    // SAFETY: bpf(2) reads the attributes and the program; the result is a new descriptor.
    unsafe {
        let length = size_of::<Attributes>();
        let number = syscall(
            libc::SYS_bpf,
            [PROG_LOAD, &raw const attributes as usize, length, 0, 0, 0],
        )?;
        Ok(OwnedFd::from_raw_fd(number as i32))
    }
}

/// The program: the last rule that matches decides, so they are tried from the last on; none denies.
///
/// The kernel passes `struct bpf_cgroup_dev_ctx { u32 access_type; u32 major; u32 minor; }` in r1, with
/// the type in the low half of `access_type` (1 block, 2 char) and the access in the high one (1 make,
/// 2 read, 4 write). A rule matches when it covers all of the access asked for.
fn assemble(rules: &[Rule]) -> Vec<Instruction> {
    const LOAD_WORD: u8 = 0x61;
    const AND: u8 = 0x54;
    const SHIFT_RIGHT: u8 = 0x74;
    const MOVE: u8 = 0xb4;
    const MOVE_REGISTER: u8 = 0xbc;
    const JUMP_NOT_EQUAL: u8 = 0x56;
    const EXIT: u8 = 0x95;
    let op = |code, destination: u8, source: u8, offset, immediate| Instruction {
        code,
        registers: source << 4 | destination,
        offset,
        immediate,
    };
    // r2 type, r3 access, r4 major, r5 minor.
    let mut program = vec![
        op(LOAD_WORD, 2, 1, 0, 0),
        op(MOVE_REGISTER, 3, 2, 0, 0),
        op(AND, 2, 0, 0, 0xffff),
        op(SHIFT_RIGHT, 3, 0, 0, 16),
        op(LOAD_WORD, 4, 1, 4, 0),
        op(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules.iter().rev() {
        let mut tests = Vec::new();
        match rule.kind {
            'b' => tests.push(op(JUMP_NOT_EQUAL, 2, 0, 0, 1)),
            'c' => tests.push(op(JUMP_NOT_EQUAL, 2, 0, 0, 2)),
            _ => {}
        }
        let mask = i32::from(rule.make) | i32::from(rule.read) << 1 | i32::from(rule.write) << 2;
        if mask != 7 {
            // r1 = access asked for beyond the rule's.
            tests.push(op(MOVE_REGISTER, 1, 3, 0, 0));
            tests.push(op(AND, 1, 0, 0, !mask & 7));
            // A denial holds as soon as it covers part of the access.
            if rule.allow {
                tests.push(op(JUMP_NOT_EQUAL, 1, 0, 0, 0));
            } else {
                tests.truncate(tests.len() - 2);
                const JUMP_EQUAL: u8 = 0x16;
                tests.push(op(MOVE_REGISTER, 1, 3, 0, 0));
                tests.push(op(AND, 1, 0, 0, mask));
                tests.push(op(JUMP_EQUAL, 1, 0, 0, 0));
            }
        }
        if rule.major >= 0 {
            tests.push(op(JUMP_NOT_EQUAL, 4, 0, 0, rule.major as i32));
        }
        if rule.minor >= 0 {
            tests.push(op(JUMP_NOT_EQUAL, 5, 0, 0, rule.minor as i32));
        }
        let unconditional = tests.is_empty();
        let length = tests.len();
        for (index, test) in tests.iter_mut().enumerate() {
            if test.code & 7 == 6 {
                // Over the remaining tests and the two instructions of the verdict.
                test.offset = (length - index - 1 + 2) as i16;
            }
        }
        program.append(&mut tests);
        program.push(op(MOVE, 0, 0, 0, rule.allow.into()));
        program.push(op(EXIT, 0, 0, 0, 0));
        if unconditional {
            return program;
        }
    }
    program.push(op(MOVE, 0, 0, 0, 0));
    program.push(op(EXIT, 0, 0, 0, 0));
    program
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::process::Command;

    /// A cgroup v2 directory of a machine that has one, if only beside v1: programs attach there too.
    fn make(name: &str) -> Option<std::string::String> {
        let base = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
            .into_iter()
            .find(|base| Path::new(base).join("cgroup.controllers").exists())?;
        let path = std::format!("{base}/strata-device-{name}-{}", std::process::id());
        std::fs::create_dir(&path).ok()?;
        Some(path)
    }

    /// What can be read of some devices from inside a cgroup.
    fn readable(cgroup: &str, devices: &[&str]) -> Vec<bool> {
        let tries = devices
            .iter()
            .map(|device| std::format!("(: < {device}) 2>&- && echo y || echo n; "));
        let script = std::format!(
            "echo $$ > {cgroup}/cgroup.procs; {}",
            tries.collect::<std::string::String>()
        );
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        std::string::String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| line == "y")
            .collect()
    }

    fn rule(allow: bool, kind: &str, major: i64, minor: i64, access: &str) -> DeviceRule {
        DeviceRule {
            allow,
            kind: kind.into(),
            major: Some(major),
            minor: Some(minor),
            access: access.into(),
        }
    }

    #[test]
    fn the_last_rule_of_the_program_that_matches_decides() {
        let Some(cgroup) = make("order") else { return };
        let rules = [
            rule(false, "a", -1, -1, "rwm"),
            rule(true, "c", 1, -1, "rw"),
            rule(false, "c", 1, 5, "r"),
            rule(true, "c", 1, 8, "w"),
        ];
        let rules: Vec<Rule> = rules.iter().map(|rule| parse(rule).unwrap()).collect();
        attach_program(&cgroup, &rules).unwrap();
        // null; zero, denied again; random, which the wider rule still lets read; the terminal, never allowed.
        let found = readable(&cgroup, &["/dev/null", "/dev/zero", "/dev/random", "/dev/ptmx"]);
        std::fs::remove_dir(&cgroup).unwrap();
        assert_eq!(found, [true, false, true, false]);
    }

    #[test]
    fn rules_that_make_no_sense_are_refused() {
        assert!(parse(&rule(true, "x", 1, 1, "r")).is_err());
        assert!(parse(&rule(true, "c", 1, 1, "rx")).is_err());
        assert!(parse(&rule(true, "", -1, -1, "")).is_ok());
    }
}
