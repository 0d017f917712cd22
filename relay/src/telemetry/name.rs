//! MBean names and patterns: `domain:key=value,…`.

use std::collections::BTreeMap;
use std::fmt;

/// The name of a bean. Keys are kept in canonical order, alphabetical, as every JMX tool prints them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    domain: String,
    keys: BTreeMap<String, String>,
}

impl ObjectName {
    /// Builds a name; a value with a special character is quoted when printed.
    pub fn new(domain: &str, keys: &[(&str, &str)]) -> Self {
        let keys = keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Self { domain: domain.to_owned(), keys }
    }

    /// The part before the colon.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.keys.get(key).map(String::as_str)
    }

    /// Keys and values, in order.
    pub fn keys(&self) -> impl Iterator<Item = (&str, &str)> {
        self.keys.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.domain)?;
        for (at, (key, value)) in self.keys.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            if value.contains([',', '=', ':', '"', '*', '?']) {
                let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
                let quoted = quoted.replace('*', "\\*").replace('?', "\\?");
                write!(f, "{comma}{key}=\"{quoted}\"")?;
            } else {
                write!(f, "{comma}{key}={value}")?;
            }
        }
        Ok(())
    }
}

/// What a request asks for: one bean, or all that match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    domain: String,
    keys: BTreeMap<String, KeyValue>,
    more_keys: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum KeyValue {
    Exact(String),
    Glob(String),
}

impl Pattern {
    /// Parses a name or pattern; `None` when it is neither.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (domain, list) = text.split_once(':')?;
        let mut pattern = Self { domain: domain.to_owned(), keys: BTreeMap::new(), more_keys: false };
        for part in split_keys(list) {
            if part == "*" {
                pattern.more_keys = true;
                continue;
            }
            let (key, value) = part.split_once('=')?;
            let value = match value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) {
                Some(quoted) => unquote(quoted),
                None if value.contains(['*', '?']) => KeyValue::Glob(value.to_owned()),
                None => KeyValue::Exact(value.to_owned()),
            };
            pattern.keys.insert(key.to_owned(), value);
        }
        (pattern.more_keys || !pattern.keys.is_empty()).then_some(pattern)
    }

    /// Whether more than one bean may match.
    pub(super) fn is_pattern(&self) -> bool {
        self.more_keys
            || self.domain.contains(['*', '?'])
            || self.keys.values().any(|value| matches!(value, KeyValue::Glob(_)))
    }

    /// Whether a bean matches.
    pub(super) fn matches(&self, name: &ObjectName) -> bool {
        glob(&self.domain, &name.domain)
            && (self.more_keys || self.keys.len() == name.keys.len())
            && self.keys.iter().all(|(key, wanted)| match (wanted, name.keys.get(key)) {
                (KeyValue::Exact(wanted), Some(value)) => wanted == value,
                (KeyValue::Glob(wanted), Some(value)) => glob(wanted, value),
                (_, None) => false,
            })
    }
}

/// Splits at commas outside quotes.
fn split_keys(list: &str) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    list.split(move |c| {
        let comma = c == ',' && !quoted;
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        comma
    })
    .collect()
}

/// Undoes the quoting; a star that is not escaped is a wildcard.
fn unquote(text: &str) -> KeyValue {
    let mut exact = String::with_capacity(text.len());
    let mut wild = false;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => exact.extend(chars.next()),
            '*' | '?' => {
                wild = true;
                exact.push(c);
            }
            _ => exact.push(c),
        }
    }
    if wild { KeyValue::Glob(exact) } else { KeyValue::Exact(exact) }
}

/// `*` any text, `?` one character. Linear with one backtrack point, so that no request can be made expensive.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || text.get(t) == Some(c) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    p = at + 1;
                    t = from + 1;
                    star = Some((at, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_canonical_and_quoted_where_needed() {
        let name =
            ObjectName::new("aesop.relay", &[("type", "Stream"), ("member", "[::1]:9"), ("source", "shop")]);
        assert_eq!(name.to_string(), "aesop.relay:member=\"[::1]:9\",source=shop,type=Stream");
        let pattern = Pattern::parse(&name.to_string()).unwrap();
        assert!(pattern.matches(&name));
        assert!(!pattern.is_pattern());
    }

    #[test]
    fn patterns_match_as_in_jmx() {
        let name = ObjectName::new("aesop.relay", &[("type", "Source"), ("name", "shop")]);
        let matches = |pattern: &str| Pattern::parse(pattern).unwrap().matches(&name);
        assert!(matches("aesop.relay:type=Source,name=shop"));
        assert!(matches("aesop.relay:name=shop,type=Source"));
        assert!(matches("aesop.*:type=Source,*"));
        assert!(matches("*:name=sh?p,type=S*e"));
        assert!(matches("*:*"));
        assert!(!matches("aesop.relay:type=Source"));
        assert!(!matches("aesop.relay:type=Stream,*"));
        assert!(!matches("kafka:*"));
        assert_eq!(Pattern::parse("no colon"), None);
        assert_eq!(Pattern::parse("a:nokey"), None);
    }
}
