//! Places in values.

use std::fmt;

/// A place in a value: steps that lie on the stack of a walk. Its text is made when somebody reads it, for most
/// places never: a long name with many places below it is not copied for each.
#[derive(Clone, Copy)]
pub struct Path<'p> {
    above: Option<&'p Path<'p>>,
    step: Step<'p>,
}

#[derive(Clone, Copy)]
enum Step<'p> {
    Root,
    Member(&'p str),
    Dotted(&'p str),
    Key(&'p str),
    Item(usize),
}

impl<'p> Path<'p> {
    /// The value itself.
    pub const ROOT: Self = Path {
        above: None,
        step: Step::Root,
    };

    fn below(&'p self, step: Step<'p>) -> Self {
        let above = Some(self);
        Self { above, step }
    }

    /// A member: `.name`, without the dot at the root.
    pub fn member(&'p self, name: &'p str) -> Self {
        self.below(Step::Member(name))
    }

    /// A member that has its dot at the root too.
    pub fn dotted(&'p self, name: &'p str) -> Self {
        self.below(Step::Dotted(name))
    }

    /// A member of a map: `[name]`.
    pub fn key(&'p self, name: &'p str) -> Self {
        self.below(Step::Key(name))
    }

    /// An item of a list.
    pub fn item(&'p self, at: usize) -> Self {
        self.below(Step::Item(at))
    }

    /// Whether this is the value itself.
    pub fn is_root(&self) -> bool {
        self.above.is_none()
    }

    fn write(&self, out: &mut String) {
        use fmt::Write as _;
        if let Some(above) = self.above {
            above.write(out);
        }
        match self.step {
            Step::Root => {}
            Step::Member(name) => {
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(name);
            }
            Step::Dotted(name) => out.extend([".", name]),
            Step::Key(name) => out.extend(["[", name, "]"]),
            // Writing to a String cannot fail.
            Step::Item(at) => drop(write!(out, "[{at}]")),
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl fmt::Debug for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text(), f)
    }
}
