//! What a document gives its reader to type: fenced blocks, and inventories of which later ones say only what changes.

use serde_yaml::Value;

/// A fenced block: its section's heading, its language, and its text.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) section: String,
    pub(crate) language: String,
    pub(crate) text: String,
}

/// All fenced blocks of a Markdown text, in order.
pub(crate) fn blocks(markdown: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut section = String::new();
    let mut open: Option<Block> = None;
    for line in markdown.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => {
                let (section, language) = (section.clone(), language.to_owned());
                open = Some(Block { section, language, text: String::new() });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(block), None) => block.text.extend([line, "\n"]),
            (None, None) => {
                if let Some(heading) = line.strip_prefix("## ") {
                    heading.clone_into(&mut section);
                }
            }
        }
    }
    found
}

/// Lays `change` over `whole`: mappings are merged, all else is replaced.
pub(crate) fn merge(whole: &mut Value, change: Value) {
    match (whole, change) {
        (Value::Mapping(whole), Value::Mapping(change)) => {
            for (key, value) in change {
                merge(whole.entry(key).or_insert(Value::Null), value);
            }
        }
        (whole, change) => *whole = change,
    }
}
