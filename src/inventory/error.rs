//! What is wrong with an inventory, in the form compilers use: the place, the line, a caret and the remedy.

use std::fmt;
use std::path::PathBuf;

/// Everything that is wrong with one inventory.
#[derive(Debug)]
pub struct InventoryError {
    /// The file.
    pub path: PathBuf,
    /// In the order of their lines; never empty.
    pub diagnostics: Vec<Diagnostic>,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong; lowercase, no full stop.
    pub message: String,
    /// Where; none when the file as a whole is meant.
    pub place: Option<Place>,
    /// What to do.
    pub help: Option<String>,
}

/// A place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Characters to underline, at least 1.
    pub length: usize,
    /// The line, passwords and control characters replaced.
    pub source: String,
}

/// Longer lines are cut around the caret.
const LINE_WIDTH_MAX: usize = 140;
/// Characters shown before the caret in a line that is cut.
const LINE_WIDTH_BEFORE: usize = 60;

impl std::error::Error for InventoryError {}

impl fmt::Display for InventoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl InventoryError {
    /// The text for a terminal, without a final newline.
    pub fn render(&self, color: bool) -> String {
        let mut blocks: Vec<String> = self.diagnostics.iter().map(|fault| self.block(fault, color)).collect();
        if self.diagnostics.len() > 1 {
            let count = self.diagnostics.len();
            blocks.push(format!(
                "{}: {count} faults in {}",
                paint("error", "1;31", color),
                self.path.display()
            ));
        }
        blocks.join("\n\n")
    }

    fn block(&self, fault: &Diagnostic, color: bool) -> String {
        let blue = |text: &str| paint(text, "1;34", color);
        let mut lines =
            vec![format!("{}: {}", paint("error", "1;31", color), paint(&fault.message, "1", color))];
        let file = self.path.display();
        let mut margin = String::new();
        match &fault.place {
            None => lines.push(format!(" {} {file}", blue("-->"))),
            Some(place) => {
                let number = place.line.to_string();
                margin = " ".repeat(number.len());
                let (source, column) = window(&place.source, place.column);
                let carets =
                    "^".repeat(place.length.min(source.chars().count().saturating_sub(column - 1)).max(1));
                let bar = blue("|");
                lines.push(format!("{margin}{} {file}:{}:{}", blue("-->"), place.line, place.column));
                lines.push(format!("{margin} {bar}"));
                lines.push(format!("{} {bar} {source}", blue(&number)));
                let indent = " ".repeat(column - 1);
                lines.push(format!("{margin} {bar} {indent}{}", paint(&carets, "1;31", color)));
            }
        }
        for help in fault.help.iter().flat_map(|help| help.lines()) {
            lines.push(format!("{margin} {} {}: {help}", blue("="), paint("help", "1", color)));
        }
        lines.join("\n")
    }
}

fn paint(text: &str, code: &str, color: bool) -> String {
    if color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// The part of a long line around the caret, and the caret's column in it.
fn window(line: &str, column: usize) -> (String, usize) {
    if line.chars().count() <= LINE_WIDTH_MAX {
        return (line.to_owned(), column);
    }
    let skip = column.saturating_sub(LINE_WIDTH_BEFORE);
    let part: String = line.chars().skip(skip).take(LINE_WIDTH_MAX).collect();
    if skip == 0 { (part, column) } else { (format!("…{part}"), column - skip + 1) }
}

impl Place {
    /// The place of `line` and `column` in `text`; underlines the word or value that begins there.
    pub(super) fn new(text: &str, line: usize, column: usize) -> Self {
        let raw = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
        let length = token_length(raw, column);
        let source: String =
            mask_secrets(raw).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        Self { line, column: column.max(1), length, source: source.trim_end().to_owned() }
    }
}

/// How many characters belong to the scalar at `column`.
fn token_length(line: &str, column: usize) -> usize {
    let rest: Vec<char> = line.chars().skip(column.saturating_sub(1)).collect();
    let length = match rest.first() {
        Some(quote @ ('"' | '\'')) => rest.iter().skip(1).position(|c| c == quote).map(|end| end + 2),
        Some('{' | '[' | '-') => Some(1),
        _ => {
            let ends = |at: usize| {
                let next = rest.get(at + 1).copied().unwrap_or(' ');
                match rest.get(at).copied().unwrap_or('\n') {
                    ':' | ',' => next.is_whitespace(),
                    ']' | '}' | '\n' | '\r' => true,
                    ' ' => next == '#' || rest.iter().skip(at).all(|c| c.is_whitespace()),
                    _ => false,
                }
            };
            (0..=rest.len()).find(|at| ends(*at))
        }
    };
    length.unwrap_or(rest.len()).max(1)
}

/// Replaces what stands after a key that ends in `password`, `token` or `secret`, unless it is a reference
/// (`{env: …}`): a password that somebody wrote into the inventory must not reach a terminal or a log.
fn mask_secrets(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    loop {
        let hit = ["password", "token", "secret"]
            .iter()
            .filter_map(|word| secret_value(rest, word))
            .min_by_key(|(start, _)| *start);
        let Some((start, end)) = hit else {
            out.push_str(rest);
            return out;
        };
        out.push_str(rest.get(..start).unwrap_or_default());
        let hidden = rest.get(start..end).unwrap_or_default().chars().count();
        out.push_str(&"•".repeat(hidden));
        rest = rest.get(end..).unwrap_or_default();
    }
}

/// Byte range of the literal after the first `…word:` in `text`.
fn secret_value(text: &str, word: &str) -> Option<(usize, usize)> {
    let lower = text.to_ascii_lowercase();
    let mut from = 0;
    loop {
        let key_end = from + lower.get(from..)?.find(word)? + word.len();
        from = key_end;
        let after = text.get(key_end..)?.trim_start_matches(['"', '\'']);
        let Some(after) = after.strip_prefix([':', '=']) else { continue };
        let value = after.trim_start();
        if value.is_empty() || value.starts_with(['{', '#', '•']) {
            continue;
        }
        let start = text.len() - value.len();
        let length = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => value.get(1..)?.find(quote).map_or(value.len(), |end| end + 2),
            // Only inside brackets does a plain text end at a comma.
            _ if text.get(..key_end)?.contains(['{', '[']) => {
                value.find(['}', ',', ']']).unwrap_or(value.trim_end().len())
            }
            _ => value.trim_end().len(),
        };
        return Some((start, start + length));
    }
}

/// The known name nearest to `word`, if one is near.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let limit = (word.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|name| (distance(&word, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= limit || name.strip_suffix('s') == Some(&word))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Edits between two words, neighbours swapped counting as one.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let get = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX / 2);
            let mut best =
                (get(&last, j) + usize::from(x != y)).min(get(&last, j + 1) + 1).min(get(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(get(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or_default()
}

/// "`a`, `b` or `c`".
pub(super) fn either<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        None => "nothing".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_typos_and_nothing_far_away() {
        let known = ["retention", "hosts", "port", "http_port", "sources"];
        for (typo, name) in
            [("retension", "retention"), ("hsots", "hosts"), ("source", "sources"), ("prt", "port")]
        {
            assert_eq!(nearest(typo, known), Some(name), "{typo}");
        }
        assert_eq!(nearest("frobnicate", known), None);
    }

    #[test]
    fn passwords_are_masked_wherever_they_stand() {
        for line in [
            "password: hunter2",
            "password: hunter,hunter2}hunter2",
            "  mysql: {host: a, password: hunter2, prot: 3306}",
            "  mysql: {host: a, password: \"hunter2, really}\", prot: 3306}",
            "\"password\": 'hunter2'",
            "sudo_password: hunter2 # hunter2",
            "{password: {env: X}, agent_token: hunter2}",
            "ssl.keystore.password: hunter2",
            "config: {sasl.jaas.config: 'x password=\"hunter2\"'}",
        ] {
            let masked = mask_secrets(line);
            assert!(!masked.contains("hunter2"), "{masked}");
            assert_eq!(masked.chars().count(), line.chars().count(), "carets must still fit: {masked}");
        }
        let reference = "password: {env: SHOP_DB_PASSWORD}";
        assert_eq!(mask_secrets(reference), reference);
    }

    #[test]
    fn underlines_the_scalar() {
        for (line, column, length) in [
            ("port: 99999", 7, 5),
            ("{host: k2, heap: 2q}", 18, 2),
            ("a: \"x y\" # c", 4, 5),
            ("key: v", 1, 3),
            ("x: a b # c", 4, 3),
        ] {
            assert_eq!(token_length(line, column), length, "{line}");
        }
    }
}
