//! Domain names, kept in wire form.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

/// RFC 1035 section 3.1
const MAX_LABEL: usize = 63;
const MAX_NAME: usize = 255;

/// An absolute domain name; compared without regard to ASCII case (RFC 4343).
#[derive(Clone)]
pub struct Name {
    /// Labels with their lengths, and the closing zero.
    wire: Box<[u8]>,
}

/// Text or labels that make no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A label is empty or longer than 63 bytes.
    #[error("a label of a domain name must have 1 to 63 bytes")]
    Label,
    /// The name is longer than 255 bytes.
    #[error("a domain name must not be longer than 255 bytes")]
    Length,
}

impl Name {
    /// The root.
    pub fn root() -> Self {
        Self { wire: Box::new([0]) }
    }

    /// A name of these labels, the outermost last.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, NameError> {
        let mut wire = Vec::new();
        for label in labels {
            if label.is_empty() || label.len() > MAX_LABEL {
                return Err(NameError::Label);
            }
            wire.push(label.len() as u8);
            wire.extend_from_slice(label);
            if wire.len() >= MAX_NAME {
                return Err(NameError::Length);
            }
        }
        wire.push(0);
        Ok(Self { wire: wire.into() })
    }

    /// The labels, the outermost last.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.wire[..];
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first()?;
            let label = after.get(..usize::from(*length)).filter(|label| !label.is_empty())?;
            rest = &after[label.len()..];
            Some(label)
        })
    }

    /// The labels in front of `zone`, if the name is in it.
    pub fn labels_under(&self, zone: &Name) -> Option<Vec<&[u8]>> {
        let (mine, theirs): (Vec<_>, Vec<_>) = (self.labels().collect(), zone.labels().collect());
        let split = mine.len().checked_sub(theirs.len())?;
        let under = mine[split..]
            .iter()
            .zip(&theirs)
            .all(|(mine, theirs)| mine.eq_ignore_ascii_case(theirs));
        under.then(|| mine[..split].to_vec())
    }

    /// This name under another: `a.b` and `c.` make `a.b.c.`.
    pub fn under(&self, zone: &Name) -> Result<Self, NameError> {
        Self::from_labels(self.labels().chain(zone.labels()))
    }

    /// The wire form, not compressed.
    pub fn as_wire(&self) -> &[u8] {
        &self.wire
    }

    /// The wire form in lower case: equal for equal names.
    pub fn to_lower_wire(&self) -> Vec<u8> {
        // A length is below 64, where no ASCII letter is.
        self.wire.to_ascii_lowercase()
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.wire.eq_ignore_ascii_case(&other.wire)
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.to_lower_wire().hash(state);
    }
}

impl FromStr for Name {
    type Err = NameError;

    /// Plain text without escapes; a closing dot is optional.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Ok(Self::root());
        }
        Self::from_labels(text.split('.').map(str::as_bytes))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.wire.len() == 1 {
            return f.write_str(".");
        }
        for label in self.labels() {
            for byte in label {
                match byte {
                    b'.' | b'\\' => write!(f, "\\{}", char::from(*byte))?,
                    b'!'..=b'~' => write!(f, "{}", char::from(*byte))?,
                    other => write!(f, "\\{other:03}")?,
                }
            }
            f.write_str(".")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
