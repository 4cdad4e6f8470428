//! Processes: identity, pidfds, attributes.

use std::io;

/// When a process started, in clock ticks since boot. With the pid it names one process for good.
pub fn start_time(pid: i32) -> io::Result<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat"))?;
    // The name stands in parentheses and may hold anything, so count from the last one.
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "unreadable /proc/PID/stat");
    let end = stat.iter().rposition(|&byte| byte == b')').ok_or_else(invalid)?;
    let rest = std::str::from_utf8(&stat[end + 1..]).map_err(|_| invalid())?;
    // proc_pid_stat(5): starttime is field 22, the first field after the name is number 3.
    rest.split_ascii_whitespace()
        .nth(19)
        .and_then(|field| field.parse().ok())
        .ok_or_else(invalid)
}
