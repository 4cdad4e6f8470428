//! The processes of a container as ps(1) lists them. The usual lists are read from /proc; only for other
//! options the machine's ps is asked.

use crate::error::{Answer, ApiError};
use crate::machine::{self, TICKS};
use serde_json::{Value, json};
use std::collections::HashMap;

/// Longest name of a user that fits its column.
const MAX_NAME: usize = 8;
/// A terminal of a pseudo-terminal (major number 136 to 143).
const PTS: std::ops::Range<u32> = 136..144;
/// A console.
const CONSOLE: u32 = 4;

/// What docker lists unless told otherwise, and the other list that people ask for.
const FULL: [&str; 8] = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];
const BY_USER: [&str; 11] = [
    "USER", "PID", "%CPU", "%MEM", "VSZ", "RSS", "TTY", "STAT", "START", "TIME", "COMMAND",
];

/// One process, as far as lists show it.
struct Process {
    user: String,
    pid: i32,
    parent: i32,
    state: String,
    terminal: String,
    /// Seconds of processor time.
    time: u64,
    /// Seconds since 1970 when it was started.
    started: i64,
    /// Kilobytes.
    virtual_size: u64,
    resident: u64,
    command: String,
}

/// What a list needs of the machine.
struct Machine {
    boot: i64,
    now: i64,
    memory: u64,
    users: HashMap<u32, String>,
}

/// `Titles` and `Processes` of those processes.
pub(crate) fn list(arguments: &str, pids: &[i32]) -> Answer<Value> {
    match arguments {
        "" | "-ef" => own(&FULL, pids, Process::full),
        "aux" => own(&BY_USER, pids, Process::by_user),
        other => ask_ps(other, pids),
    }
}

fn own(titles: &[&str], pids: &[i32], row: fn(&Process, &Machine) -> Vec<String>) -> Answer<Value> {
    let machine = Machine::read()?;
    let mut pids = pids.to_vec();
    pids.sort_unstable();
    // One that ends meanwhile is not listed.
    let rows = pids.iter().filter_map(|pid| Process::read(*pid, &machine));
    let rows: Vec<Vec<String>> = rows.map(|process| row(&process, &machine)).collect();
    Ok(json!({"Titles": titles, "Processes": rows}))
}

impl Machine {
    fn read() -> Answer<Self> {
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_else(|error| {
            tracing::debug!(%error, "this machine names no users");
            String::new()
        });
        let user = |line: &str| -> Option<(u32, String)> {
            let mut parts = line.split(':');
            let name = parts.next()?.to_owned();
            Some((parts.nth(1)?.parse().ok()?, name))
        };
        Ok(Self {
            boot: machine::started()?,
            now: jiff::Timestamp::now().as_second(),
            memory: (machine::memory()? / 1024).max(1),
            users: users.lines().rev().filter_map(user).collect(),
        })
    }

    fn user(&self, id: u32) -> String {
        match self.users.get(&id) {
            Some(name) if name.len() <= MAX_NAME => name.clone(),
            _ => id.to_string(),
        }
    }

    /// `10:30` of today, `Jan02` of this year, else the year.
    fn moment(&self, seconds: i64) -> String {
        let at = |seconds| {
            let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
            time.to_zoned(jiff::tz::TimeZone::UTC)
        };
        let (then, now) = (at(seconds), at(self.now));
        let form = if then.date() == now.date() {
            "%H:%M"
        } else if then.year() == now.year() {
            "%b%d"
        } else {
            "%Y"
        };
        then.strftime(form).to_string()
    }
}

impl Process {
    fn read(pid: i32, machine: &Machine) -> Option<Self> {
        let file = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
        let stat = file("stat")?;
        // The name may hold anything, parentheses too.
        let (head, tail) = stat.rsplit_once(") ")?;
        let name = head.split_once('(').map_or("", |(_, name)| name);
        let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
        // proc_pid_stat(5), of which the first here is the third there.
        let number = |at: usize| fields.get(at - 3).and_then(|text| text.parse::<u64>().ok());
        let status = file("status")?;
        let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let effective = line("Uid:")?.split_ascii_whitespace().nth(1)?.parse().ok()?;
        let size = |key: &str| {
            line(key)
                .and_then(|text| text.split(' ').next()?.parse().ok())
                .unwrap_or(0)
        };
        let raw = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words = String::from_utf8_lossy(&raw).trim_end_matches('\0').replace('\0', " ");
        Some(Self {
            user: machine.user(effective),
            pid,
            parent: fields.get(1)?.parse().ok()?,
            state: fields.first().map_or_else(String::new, |state| (*state).to_owned()),
            terminal: terminal(number(7)?),
            time: (number(14)? + number(15)?) / TICKS,
            started: machine.boot + i64::try_from(number(22)? / TICKS).ok()?,
            virtual_size: size("VmSize:"),
            resident: size("VmRSS:"),
            command: if words.is_empty() { format!("[{name}]") } else { words },
        })
    }

    /// Tenths of a percent of a processor since its start.
    fn share(&self, machine: &Machine) -> u64 {
        let lived = u64::try_from(machine.now - self.started).unwrap_or(0).max(1);
        self.time * 1000 / lived
    }

    fn full(&self, machine: &Machine) -> Vec<String> {
        let time = format!(
            "{:02}:{:02}:{:02}",
            self.time / 3600,
            self.time / 60 % 60,
            self.time % 60
        );
        vec![
            self.user.clone(),
            self.pid.to_string(),
            self.parent.to_string(),
            (self.share(machine) / 10).to_string(),
            machine.moment(self.started),
            self.terminal.clone(),
            time,
            self.command.clone(),
        ]
    }

    fn by_user(&self, machine: &Machine) -> Vec<String> {
        let tenths = |value: u64| format!("{}.{}", value / 10, value % 10);
        vec![
            self.user.clone(),
            self.pid.to_string(),
            tenths(self.share(machine)),
            tenths(self.resident * 1000 / machine.memory),
            self.virtual_size.to_string(),
            self.resident.to_string(),
            self.terminal.clone(),
            self.state.clone(),
            machine.moment(self.started),
            format!("{}:{:02}", self.time / 60, self.time % 60),
            self.command.clone(),
        ]
    }
}

/// A terminal by its device number.
fn terminal(number: u64) -> String {
    let number = u32::try_from(number).unwrap_or(0);
    let (major, minor) = (number >> 8 & 0xfff, number & 0xff | number >> 12 & 0xfff00);
    match major {
        0 => "?".into(),
        CONSOLE if minor < 64 => format!("tty{minor}"),
        major if PTS.contains(&major) => format!("pts/{minor}"),
        major => format!("{major}:{minor}"),
    }
}

/// The lines of ps(1) that are about those processes.
fn ask_ps(arguments: &str, pids: &[i32]) -> Answer<Value> {
    let words: Vec<&str> = arguments.split_ascii_whitespace().collect();
    let run = std::process::Command::new("ps")
        .args(&words)
        .output()
        .map_err(|error| ApiError::internal(format!("Error running ps: {error}")))?;
    if !run.status.success() {
        let why = String::from_utf8_lossy(&run.stderr);
        return Err(ApiError::internal(format!("Error running ps: {}", why.trim())));
    }
    let text = String::from_utf8_lossy(&run.stdout);
    let mut lines = text.lines();
    let titles: Vec<&str> = lines.next().unwrap_or("").split_ascii_whitespace().collect();
    let column = titles
        .iter()
        .position(|title| *title == "PID")
        .ok_or_else(|| ApiError::internal("Couldn't find PID field in ps output"))?;
    let rows = lines.filter_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let pid: i32 = words.get(column)?.parse().ok()?;
        if !pids.contains(&pid) {
            return None;
        }
        // The last column holds the rest of the line.
        let last = titles.len() - 1;
        let mut row: Vec<String> = words.iter().take(last).map(|word| (*word).to_owned()).collect();
        row.push(words.get(last..).unwrap_or(&[]).join(" "));
        Some(row)
    });
    Ok(json!({"Titles": titles, "Processes": rows.collect::<Vec<_>>()}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_listed_with_its_parent_and_command() {
        let pid = i32::try_from(std::process::id()).expect("a pid");
        let all = list("", &[pid]).expect("listed");
        let row = all["Processes"][0].as_array().expect("a row");
        assert_eq!(row.len(), FULL.len());
        assert_eq!(row[1], json!(pid.to_string()));
        assert_eq!(row[2], json!(std::os::unix::process::parent_id().to_string()));
        let program = std::env::args().next().expect("a name");
        assert!(row[7].as_str().expect("text").starts_with(&program));
        let by_user = list("aux", &[pid]).expect("listed");
        assert_eq!(by_user["Processes"][0].as_array().map(Vec::len), Some(BY_USER.len()));
    }

    #[test]
    fn terminals_are_named_by_their_numbers() {
        assert_eq!(terminal(0), "?");
        assert_eq!(terminal(136 << 8 | 3), "pts/3");
        assert_eq!(terminal(4 << 8 | 1), "tty1");
    }
}
