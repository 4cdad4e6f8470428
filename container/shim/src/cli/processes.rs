//! `ps`.

use super::flags::{Arguments, Flag};
use super::store::Container;
use super::{Global, print};
use alloc::{ffi::CString, format, string::String, string::ToString, vec::Vec};
use rustix::pipe::{PipeFlags, pipe_with};
use strata_runtime::{Context, Error, Result};
use strata_sys::file;
use strata_sys::process::{self, Fork, ForkOptions};

pub(super) const FLAGS: &[Flag] = &[Flag::value("format", "f", "table or json")];

/// Longest output of ps(1) that is read.
const OUTPUT_LIMIT: usize = 16 << 20;

pub(super) fn ps(global: &Global, arguments: &Arguments) -> Result<i32> {
    let container = Container::load(global, arguments.id()?)?;
    let processes = container.cgroup()?.processes()?;
    match arguments.value("format").unwrap_or("table") {
        "json" => {
            let list: Vec<String> = processes.iter().map(ToString::to_string).collect();
            return print(&format!("[{}]\n", list.join(","))).map(|()| 0);
        }
        "table" => {}
        other => return Err(Error::Invalid(format!("invalid format option {other:?}"))),
    }
    let options = &arguments.rest[1..];
    let text = if options.is_empty() {
        own_table(&processes)
    } else {
        select(&foreign_table(options)?, &processes)?
    };
    print(&text).map(|()| 0)
}

/// Without options nobody else is needed.
fn own_table(processes: &[i32]) -> String {
    let mut text = String::from("UID          PID    PPID CMD\n");
    for pid in processes {
        let read = |name: &str| file::read(&*format!("/proc/{pid}/{name}"), 64 << 10).ok();
        // One that has ended meanwhile is not there.
        let Some(status) = read("status") else { continue };
        let status = String::from_utf8_lossy(&status).into_owned();
        let field = |key: &str| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            line.and_then(|line| line.split_ascii_whitespace().next())
                .unwrap_or("?")
        };
        let line = read("cmdline").unwrap_or_else(Vec::new);
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let line = match line.trim_end() {
            "" => format!("[{}]", field("Name")),
            line => line.into(),
        };
        text += &format!("{:<8} {pid:>7} {:>7} {line}\n", field("Uid"), field("PPid"));
    }
    text
}

/// What the host's ps(1) prints with these options.
fn foreign_table(options: &[String]) -> Result<String> {
    let what = || "run ps";
    let strings = |list: &[&str]| -> Vec<CString> { list.iter().filter_map(|text| CString::new(*text).ok()).collect() };
    let mut arguments = strings(&["ps"]);
    arguments.extend(options.iter().filter_map(|option| CString::new(&**option).ok()));
    let environment = strings(&["PATH=/usr/bin:/bin"]);
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).context(what)?;
    // SAFETY: runtime processes have one thread.
    let child = match unsafe { process::fork(ForkOptions::default()) }.context(what)? {
        Fork::Parent(child) => child,
        Fork::Child => {
            if rustix::stdio::dup2_stdout(&write).is_ok() {
                for program in [c"/usr/bin/ps", c"/bin/ps"] {
                    process::execute(program, &arguments, &environment);
                }
            }
            process::exit(127)
        }
    };
    drop(write);
    let output = file::read_all(&read, OUTPUT_LIMIT).context(what);
    // Who still writes when that was too much ends by it, instead of waiting for a reader for ever.
    drop(read);
    let code = process::reap(child.pid).context(what)?.code();
    if code != 0 {
        return Err(Error::State(format!("ps {}: exit status {code}", options.join(" "))));
    }
    Ok(String::from_utf8_lossy(&output?).into_owned())
}

/// The head and the lines of these processes.
fn select(table: &str, processes: &[i32]) -> Result<String> {
    let mut lines = table.lines();
    let head = lines.next().unwrap_or("");
    let column = head.split_ascii_whitespace().position(|name| name == "PID");
    let column = column.ok_or_else(|| Error::Invalid("couldn't find PID field in ps output".into()))?;
    let mut text = format!("{head}\n");
    for line in lines {
        let pid = line
            .split_ascii_whitespace()
            .nth(column)
            .and_then(|field| field.parse().ok());
        if pid.is_some_and(|pid: i32| processes.contains(&pid)) {
            text += line;
            text.push('\n');
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::select;

    #[test]
    fn the_lines_of_the_processes_are_picked_by_their_column() {
        let table = "UID PID CMD\nroot 7 a\nroot 70 7 7\n";
        assert_eq!(select(table, &[7]).unwrap(), "UID PID CMD\nroot 7 a\n");
        assert!(select("UID CMD\n", &[7]).is_err());
    }
}
