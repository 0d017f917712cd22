//! From bytes to the raw shapes. Goes on after an error where it can: what is faulty is reported, cut out of the
//! tree, and the rest read again, so that one run reports everything.

use super::de::{DeError, Kind, NodeDe};
use super::error::{Diagnostic, Place, either, nearest};
use super::fault::Faults;
use super::locate::Part;
use super::node::{Node, Path};
use super::raw::Raw;
use serde::Deserialize;

/// No inventory is larger; what is, is the wrong file.
pub(super) const FILE_BYTES_MAX: usize = 4 << 20;
/// Nobody reads more; each costs a parse of the file.
const FAULTS_MAX: usize = 50;

/// The text of the file.
pub(super) fn text(bytes: &[u8]) -> Result<&str, Diagnostic> {
    let whole =
        |message: String, help: &str| Diagnostic { message, place: None, help: Some(help.to_owned()) };
    if bytes.len() > FILE_BYTES_MAX {
        return Err(whole("the file is larger than 4 MiB".to_owned(), "is it the right file?"));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = before.split(|byte| *byte == b'\n').count();
        whole(format!("line {line} is not valid UTF-8"), "save the file as UTF-8")
    })?;
    let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if text.trim_start_matches('\u{feff}').lines().all(blank) {
        return Err(whole("the inventory is empty".to_owned(), "`aesop init DIR` writes one to start from"));
    }
    Ok(text)
}

/// The tree of the file.
pub(super) fn tree(text: &str) -> Result<Node, Diagnostic> {
    let error = match serde_yaml::from_str::<Node>(text) {
        Ok(node @ Node::Map(_)) => return Ok(node),
        Ok(other) => {
            return Err(Diagnostic {
                message: format!(
                    "the inventory is a map of keys such as `cluster:`, found {}",
                    other.describe()
                ),
                place: None,
                help: Some("`aesop init DIR` writes one to start from".to_owned()),
            });
        }
        Err(error) => error,
    };
    let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
    let message = error.to_string();
    let source = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let indent: String = source.chars().take_while(|c| c.is_whitespace()).collect();
    if line > 0 && indent.contains('\t') {
        let column = indent.chars().take_while(|c| *c != '\t').count() + 1;
        return Err(Diagnostic {
            message: "a tab; YAML is indented with spaces".to_owned(),
            place: Some(Place::new(text, line, column)),
            help: None,
        });
    }
    if message.contains("more than one document") {
        let mut marks =
            text.lines().enumerate().filter(|(_, line)| line.starts_with("---")).map(|(at, _)| at + 1);
        let first_has_content = text
            .lines()
            .take_while(|l| !l.starts_with("---"))
            .any(|l| !l.trim().is_empty() && !l.starts_with('#'));
        let line = if first_has_content { marks.next() } else { marks.nth(1) };
        return Err(Diagnostic {
            message: "a second YAML document; one file is one cluster".to_owned(),
            place: line.map(|line| Place::new(text, line, 1)),
            help: None,
        });
    }
    let (message, help) = syntax(&message);
    let place = (line > 0).then(|| Place::new(text, line, column));
    Err(Diagnostic { message, place, help })
}

/// The parser's message without its places, which are shown below it, and what usually helps.
fn syntax(message: &str) -> (String, Option<String>) {
    if let Some((message, help)) = message.split_once("\nhelp: ") {
        let (help, _) = help.split_once(" at line ").unwrap_or((help, ""));
        let message = message.rsplit_once(": ").map_or(message, |(_, message)| message);
        return (message.to_owned(), Some(help.to_owned()));
    }
    let (first, _) = message.split_once(" at line ").unwrap_or((message, ""));
    let help = if first.contains("unknown anchor") || first.contains("alphabetic or numeric character") {
        Some("a text that begins with `*` needs quotes: `\"*.orders\"`")
    } else if first.contains("mapping values are not allowed") {
        Some("is a line above indented less, or does a text with `: ` need quotes?")
    } else if first.contains("did not find expected") {
        Some("is a bracket, a quote or a comma missing, or a line indented differently from its neighbours?")
    } else {
        None
    };
    (format!("this is not YAML: {first}"), help.map(str::to_owned))
}

/// The raw shapes, and whether what was cut out may leave references dangling that are not.
pub(super) fn raw(text: &str, root: &mut Node) -> (Option<Raw>, Vec<Diagnostic>, bool) {
    let whole = root.clone();
    let mut faults = Faults::new(text, &whole);
    duplicates(root, &mut faults);
    let mut harmless = faults.is_empty();
    for _ in 0..FAULTS_MAX {
        let error = match Raw::deserialize(NodeDe::new(root)) {
            Ok(raw) => return (Some(raw), faults.into_sorted(), harmless),
            Err(error) => error,
        };
        let path = error.path.clone().unwrap_or_default();
        harmless &= path.len() > 1 && matches!(error.kind, Kind::UnknownKey { .. });
        if !follows_from_another(root, &path, &error) {
            report(&whole, &path, error, &mut faults);
        }
        match root.get_mut(&path) {
            Some(node) if !path.is_empty() => *node = Node::Pruned,
            _ => break,
        }
    }
    (None, faults.into_sorted(), false)
}

/// A key is missing, or a map is not as it should be, because something in it was faulty and has been cut out.
fn follows_from_another(root: &Node, path: &Path, error: &DeError) -> bool {
    let Some(Node::Map(entries)) = root.get(path) else { return false };
    let mut pruned = entries.iter().filter(|(_, node)| matches!(node, Node::Pruned)).map(|(key, _)| key);
    match &error.kind {
        Kind::Missing(field) => pruned.any(|key| key == field || nearest(key, [*field]).is_some()),
        Kind::Message(_) => pruned.next().is_some(),
        Kind::UnknownKey { .. } | Kind::UnknownWord { .. } | Kind::Wrong { .. } => false,
    }
}

/// Keys that stand twice, and merge keys, which YAML 1.2 no longer has.
fn duplicates(root: &mut Node, faults: &mut Faults<'_>) {
    let mut bad: Vec<Path> = Vec::new();
    for (path, entries) in root.maps() {
        for (at, (key, _)) in entries.iter().enumerate() {
            let here = || path.iter().copied().chain([at]).collect::<Path>();
            if key == "<<" {
                let help = "write the keys out; anchors (`&x`, `*x`) work for whole values";
                faults.push(
                    &here(),
                    Part::Key,
                    "merge keys are not supported".to_owned(),
                    Some(help.to_owned()),
                );
                bad.push(here());
            } else if entries.iter().take(at).any(|(before, _)| before == key) {
                let help =
                    format!("one `{key}` would hide the other; keep one, or join what stands below them");
                faults.push(&here(), Part::Key, format!("`{key}` stands twice"), Some(help));
                bad.push(here());
            }
        }
    }
    for path in bad {
        if let Some(node) = root.get_mut(&path) {
            *node = Node::Pruned;
        }
    }
}

fn report(root: &Node, path: &Path, error: DeError, faults: &mut Faults<'_>) {
    let name = root.name(path);
    match error.kind {
        Kind::UnknownKey { key, known } => {
            let help = match nearest(&key, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", either(known.iter().copied())),
            };
            faults.push(path, Part::Key, format!("unknown key `{key}`"), Some(help));
        }
        Kind::UnknownWord { word, known } => {
            let help = match nearest(&word, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("it is {}", either(known.iter().copied())),
            };
            faults.push(path, Part::Value, format!("`{name}` cannot be `{word}`"), Some(help));
        }
        Kind::Missing(field) => {
            let whose = if name.is_empty() { "the inventory".to_owned() } else { format!("`{name}`") };
            faults.add_at(path, format!("{whose} has no `{field}`"), Some(format!("add `{field}:`")));
        }
        Kind::Wrong { expected } => {
            let found = root.get(path).unwrap_or(&Node::Null);
            let (expected, help) = explain(&expected, found);
            faults.add_at(path, format!("`{name}` must be {expected}, found {}", found.describe()), help);
        }
        Kind::Message(message) => {
            let (message, help) = match message.split_once("\nhelp: ") {
                Some((message, help)) => (message, Some(help.to_owned())),
                None => (message.as_str(), None),
            };
            faults.add_at(path, format!("`{name}`: {message}"), help);
        }
    }
}

/// serde's words in words for people.
fn explain(expected: &str, found: &Node) -> (String, Option<String>) {
    let number = |max: u64| format!("a whole number from 0 to {max}");
    let words = match expected {
        "u16" => number(u16::MAX.into()),
        "u32" => number(u32::MAX.into()),
        "a boolean" => "`true` or `false`".to_owned(),
        "a string" => "a text".to_owned(),
        "a sequence" => "a list".to_owned(),
        other if other.starts_with("struct ") => "a map".to_owned(),
        other => other.to_owned(),
    };
    let help = match (expected, found) {
        ("a string" | "a text or a whole number", Node::Int(_) | Node::Float(_) | Node::Bool(_)) => {
            Some("put it in quotes".to_owned())
        }
        ("a boolean", Node::Text(word)) => match word.to_ascii_lowercase().as_str() {
            "yes" | "on" | "y" => Some("YAML 1.2 writes `true`".to_owned()),
            "no" | "off" | "n" => Some("YAML 1.2 writes `false`".to_owned()),
            _ => None,
        },
        ("u16" | "u32", Node::Text(word)) if word.parse::<u32>().is_ok() => {
            Some("write it without quotes".to_owned())
        }
        ("a sequence", Node::Text(_)) => Some("put it in brackets: `[…]`".to_owned()),
        (_, Node::Int(_)) if expected.starts_with("a duration") => Some("add the unit".to_owned()),
        _ => None,
    };
    (words, help)
}
