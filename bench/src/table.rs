//! The table that is printed.

use std::fmt;

/// One line of the budget.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// What is measured.
    pub what: String,
    /// Ours.
    pub strata: String,
    /// The peer's, with its name.
    pub peer: String,
    /// Ours to the peer's.
    pub ratio: String,
    /// The bar.
    pub bar: String,
    /// Whether ours meets it; none where it cannot be said.
    pub met: Option<bool>,
    /// How it was measured, with commands and flags.
    pub how: String,
}

/// All of them, with the machine they were measured on.
#[derive(Debug, Default)]
pub struct Table {
    /// About the machine and the run.
    pub heading: String,
    /// In the order measured.
    pub rows: Vec<Row>,
    /// What was left out, and why.
    pub skipped: Vec<String>,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.heading)?;
        writeln!(f, "| what | Strata | peer, same run | ratio | bar | met | how |")?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        let mut notes: Vec<&str> = Vec::new();
        for row in &self.rows {
            let note = notes.iter().position(|n| *n == row.how).unwrap_or_else(|| {
                notes.push(&row.how);
                notes.len() - 1
            });
            let met = match row.met {
                Some(true) => "yes",
                Some(false) => "**no**",
                None => "–",
            };
            let Row {
                what,
                strata,
                peer,
                ratio,
                bar,
                ..
            } = row;
            writeln!(
                f,
                "| {what} | {strata} | {peer} | {ratio} | {bar} | {met} | {} |",
                note + 1
            )?;
        }
        writeln!(f)?;
        for (number, note) in notes.iter().enumerate() {
            writeln!(f, "{}. {note}", number + 1)?;
        }
        for line in &self.skipped {
            writeln!(f, "\nSkipped: {line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_measured_alike_share_a_note() {
        let row = |what: &str, met| Row {
            what: what.into(),
            how: "so".into(),
            met,
            ..Row::default()
        };
        let table = Table {
            rows: vec![row("a", Some(true)), row("b", Some(false))],
            ..Table::default()
        };
        let text = table.to_string();
        assert!(text.contains("| a |  |  |  |  | yes | 1 |"), "{text}");
        assert!(text.contains("| b |  |  |  |  | **no** | 1 |"), "{text}");
        assert_eq!(text.matches("1. so").count(), 1);
    }
}
