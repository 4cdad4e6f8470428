//! The terminal we run in: raw while a container has it, its size, its keys.

use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

/// A terminal that is raw as long as this lives.
pub(crate) struct Raw(Termios);

impl Raw {
    /// Makes standard input raw; nothing if it is no terminal.
    pub fn enter() -> Option<Self> {
        let before = tcgetattr(stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that has gone needs no restoring.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.0);
    }
}

pub(crate) fn stdin_is_terminal() -> bool {
    isatty(stdin())
}

pub(crate) fn stdout_is_terminal() -> bool {
    isatty(stdout())
}

pub(crate) fn stderr_is_terminal() -> bool {
    isatty(rustix::stdio::stderr())
}

/// Rows and columns; nothing if standard output is no terminal.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(stdout()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// A sequence of keys that detaches, looked for in what is typed.
#[derive(Debug)]
pub(crate) struct Keys {
    sequence: Vec<u8>,
    matched: usize,
}

impl Keys {
    /// `ctrl-p,ctrl-q`; an empty text is that.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = if text.is_empty() { "ctrl-p,ctrl-q" } else { text };
        let sequence: Option<Vec<u8>> = text.split(',').map(key).collect();
        match sequence {
            Some(sequence) => Ok(Self { sequence, matched: 0 }),
            None => Err(format!("invalid detach keys ({text}): unknown character")),
        }
    }

    /// Whether the sequence is complete with these bytes. They are passed on all the same: the daemon
    /// looks for the same sequence and takes it out.
    pub fn pressed(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            if *byte == self.sequence[self.matched] {
                self.matched += 1;
            } else {
                self.matched = usize::from(*byte == self.sequence[0]);
            }
            if self.matched == self.sequence.len() {
                self.matched = 0;
                return true;
            }
        }
        false
    }
}

fn key(text: &str) -> Option<u8> {
    if let [single] = text.as_bytes() {
        return Some(*single);
    }
    match text.strip_prefix("ctrl-")?.as_bytes() {
        [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
        [b'@'] => Some(0),
        [letter @ b'['..=b'_'] => Some(letter - b'[' + 27),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::Keys;

    #[test]
    fn detach_keys_are_noticed_in_any_cut() {
        let mut keys = Keys::parse("").expect("valid");
        assert!(!keys.pressed(&[16]) && !keys.pressed(b"x") && !keys.pressed(&[16, 16]) && keys.pressed(&[17]));
        assert!(Keys::parse("ctrl-1").is_err());
    }
}
