//! Names of signals, as images and pods write them.

const NAMES: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];
/// The C library keeps two for itself.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;
const TERM: i32 = 15;

/// The number of `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`; empty is SIGTERM.
pub fn number(text: &str) -> Option<i32> {
    if text.is_empty() {
        return Some(TERM);
    }
    let valid = |number: i32| (1..=RTMAX).contains(&number).then_some(number);
    if let Ok(number) = text.parse::<i32>() {
        return valid(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        return offset_of(offset, '+').and_then(|offset| valid(RTMIN + offset));
    }
    if let Some(offset) = name.strip_prefix("RTMAX") {
        return offset_of(offset, '-')
            .map(|offset| RTMAX - offset)
            .filter(|number| *number >= RTMIN);
    }
    NAMES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, number)| *number)
}

fn offset_of(text: &str, sign: char) -> Option<i32> {
    if text.is_empty() {
        Some(0)
    } else {
        text.strip_prefix(sign)?
            .parse()
            .ok()
            .filter(|offset| (0..=30).contains(offset))
    }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn signals_are_known_by_name_and_number() {
        for (text, expected) in [
            ("", Some(15)),
            ("SIGKILL", Some(9)),
            ("quit", Some(3)),
            ("10", Some(10)),
            ("SIGRTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("0", None),
            ("65", None),
            ("SIGNONE", None),
            ("RTMIN-1", None),
            ("RTMAX-40", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
    }
}
