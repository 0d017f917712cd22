//! Ansible's INI inventories: `[group]`, `[group:children]`, `[group:vars]`, hosts with `key=value`.

use super::ImportError;
use super::range::expand;
use super::tree::{Tree, Vars};
use serde_yaml::Value;

enum Section {
    Hosts,
    Children,
    Vars,
}

pub(super) fn parse(file: &str, text: &str) -> Result<Tree, ImportError> {
    let mut tree = Tree::default();
    let (mut group, mut section) = ("ungrouped".to_owned(), Section::Hosts);
    for (number, line) in text.lines().enumerate() {
        let fail = |problem: String| ImportError::Line { file: file.to_owned(), line: number + 1, problem };
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(title) = line.strip_prefix('[').filter(|_| !line.contains('=')) {
            let title = title.split_once(']').map(|(title, _)| title.trim());
            let title = title.ok_or_else(|| fail("`[` is not closed".to_owned()))?;
            let (name, kind) = title.split_once(':').unwrap_or((title, ""));
            section = match kind {
                "" => Section::Hosts,
                "children" => Section::Children,
                "vars" => Section::Vars,
                other => return Err(fail(format!("`:{other}` is none of `:children` and `:vars`"))),
            };
            name.clone_into(&mut group);
            tree.group(name);
            continue;
        }
        let words = words(line).map_err(fail)?;
        match section {
            Section::Children => {
                let child = words.into_iter().next().unwrap_or_default();
                tree.group(&child);
                tree.group(&group).children.push(child);
            }
            Section::Vars => {
                let (key, value) =
                    line.split_once('=').ok_or_else(|| fail(format!("`{line}` has no `=`")))?;
                let value = literal(value.trim());
                tree.group(&group).vars.insert(key.trim().to_owned(), value);
            }
            Section::Hosts => {
                let (pattern, pairs) = words.split_first().ok_or_else(|| fail("no host".to_owned()))?;
                host(&mut tree, &group, pattern, pairs).map_err(fail)?;
            }
        }
    }
    Ok(tree)
}

fn host(tree: &mut Tree, group: &str, pattern: &str, pairs: &[String]) -> Result<(), String> {
    let mut vars = Vars::new();
    for pair in pairs {
        let (key, value) = pair.split_once('=').ok_or_else(|| format!("`{pair}` is no `key=value`"))?;
        vars.insert(key.to_owned(), literal(value));
    }
    // `name:port`, with one colon outside of a range.
    let mut pattern = pattern;
    if let Some((name, port)) = pattern.rsplit_once(':')
        && !port.contains(']')
        && !name.ends_with(':')
        && let Ok(port) = port.parse::<u16>()
        && name.matches(':').count() == name.matches('[').count()
    {
        vars.entry("ansible_port".to_owned()).or_insert(Value::from(port));
        pattern = name;
    }
    for name in expand(pattern)? {
        tree.add(group, &name, vars.clone());
    }
    Ok(())
}

/// Words with quotes, until a comment.
fn words(line: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, '#') if word.is_empty() => break,
            (None, ' ' | '\t') => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            (_, c) => word.push(c),
        }
    }
    if quote.is_some() {
        return Err(format!("a quote is not closed in `{line}`"));
    }
    if !word.is_empty() {
        words.push(word);
    }
    Ok(words)
}

/// Ansible reads these values as Python literals: numbers, booleans, maps and lists, and strings otherwise.
fn literal(text: &str) -> Value {
    let bare = text.trim_matches(['"', '\'']);
    match bare {
        "True" => return Value::Bool(true),
        "False" => return Value::Bool(false),
        _ => {}
    }
    let looks = bare.starts_with(['{', '[']) && !bare.starts_with("{{");
    if looks || bare.parse::<i64>().is_ok() || matches!(bare, "true" | "false") {
        return serde_yaml::from_str(bare).unwrap_or_else(|_| Value::String(bare.to_owned()));
    }
    Value::String(bare.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_have_their_line() {
        for (text, problem) in [
            ("[kafka\n", "i:1: `[` is not closed"),
            ("[kafka:hosts]\n", "i:1: `:hosts` is none of `:children` and `:vars`"),
            ("\n[a]\nk[1: x=1\n", "i:3: `k[1:` opens a range and does not close it"),
            ("[a]\nk1 broken\n", "i:2: `broken` is no `key=value`"),
            ("[a:vars]\nno value\n", "i:2: `no value` has no `=`"),
            ("[a]\nk1 x=\"y\n", "i:2: a quote is not closed in `k1 x=\"y`"),
        ] {
            assert_eq!(parse("i", text).unwrap_err().to_string(), problem);
        }
    }

    #[test]
    fn ports_quotes_comments_and_depth() {
        let text = "[brokers]\nk[1:2]:2222 a='x y' # two\n[kafka:children]\nbrokers\n[kafka:vars]\na=outer\nb={'c': 1}\n";
        let tree = parse("i", text).unwrap();
        assert_eq!(tree.members("kafka"), ["k1", "k2"]);
        let vars = tree.vars("k2");
        assert_eq!(vars.get("a").unwrap(), "x y");
        assert_eq!(vars.get("ansible_port").unwrap(), 2222);
        assert_eq!(vars.get("b").unwrap().get("c").unwrap(), 1);
    }
}
