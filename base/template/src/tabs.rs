//! Aligning cells that tabs end, as Go's text/tabwriter does for docker's tables.

/// Narrowest column and the space after the widest cell, as docker sets them.
const MIN_WIDTH: usize = 10;
const PADDING: usize = 3;

/// Replaces the tabs of lines by spaces so that cells stand in columns.
///
/// A column is a block of adjacent lines that have a tab-ended cell there; what follows the
/// last tab of a line belongs to no column.
pub fn align(text: &str) -> String {
    let lines: Vec<Vec<&str>> = text.split('\n').map(|line| line.split('\t').collect()).collect();
    let mut output = String::with_capacity(text.len() * 2);
    let mut widths = Vec::new();
    block(&lines, 0, lines.len(), &mut widths, &mut output);
    // The text after the last newline is no line of its own.
    output.pop();
    output
}

/// Writes the lines of `from..to`, of which `widths` says how wide the first columns are.
fn block(lines: &[Vec<&str>], from: usize, to: usize, widths: &mut Vec<usize>, output: &mut String) {
    let column = widths.len();
    let has_cell = |line: &Vec<&str>| column + 1 < line.len();
    let mut at = from;
    while at < to {
        if !has_cell(&lines[at]) {
            write_line(&lines[at], widths, output);
            at += 1;
            continue;
        }
        let end = (at..to).find(|line| !has_cell(&lines[*line])).unwrap_or(to);
        let widest = lines[at..end].iter().map(|line| width(line[column])).max().unwrap_or(0);
        widths.push((widest + PADDING).max(MIN_WIDTH));
        block(lines, at, end, widths, output);
        widths.pop();
        at = end;
    }
}

fn write_line(cells: &[&str], widths: &[usize], output: &mut String) {
    for (at, cell) in cells.iter().enumerate() {
        output.push_str(cell);
        if at + 1 < cells.len()
            && let Some(column) = widths.get(at)
        {
            output.extend(std::iter::repeat_n(' ', column.saturating_sub(width(cell))));
        }
    }
    output.push('\n');
}

fn width(text: &str) -> usize {
    text.chars().count()
}
