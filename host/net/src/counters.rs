//! What went over the links of a network namespace, as proc_pid_net(5) tells it.

use std::io;

/// Columns of [`LinkCounters`]; those that were sent begin at [`SENT`].
const COLUMNS: usize = 16;

/// The first column of what was sent.
pub const SENT: usize = 8;

/// One link's counters since it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkCounters {
    /// Its name.
    pub name: String,
    /// Received and then, from [`SENT`] on, sent: bytes, packets, errors, drops and four more.
    pub columns: [u64; COLUMNS],
}

/// The links that a process sees, without loopback. Errors: it has ended.
pub fn link_counters(pid: i32) -> io::Result<Vec<LinkCounters>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev"))?;
    Ok(parse(&text))
}

fn parse(text: &str) -> Vec<LinkCounters> {
    let link = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let mut columns = [0; COLUMNS];
        let mut words = numbers.split_ascii_whitespace();
        for column in &mut columns {
            *column = words.next()?.parse().ok()?;
        }
        Some(LinkCounters {
            name: name.trim().to_owned(),
            columns,
        })
    };
    text.lines().filter_map(link).filter(|link| link.name != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_but_loopback_are_read_and_heads_skipped() {
        let text = "Inter-|   Receive   |  Transmit\n face |bytes packets|bytes packets\n\
                    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 10 2 0 1 0 0 0 0 30 4 0 0 0 0 0 0\n bad: 1 2\n";
        let links = parse(text);
        assert_eq!(links.len(), 1);
        assert_eq!(
            (&*links[0].name, links[0].columns[0], links[0].columns[SENT]),
            ("eth0", 10, 30)
        );
    }
}
