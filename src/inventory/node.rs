//! The YAML file as a tree that keeps what serde's maps lose: the order of entries and duplicate keys.
//!
//! A node is named by its path, the entry numbers from the root down; `locate.rs` turns a path into a line and
//! a column.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Entry numbers from the root down.
pub(super) type Path = Vec<usize>;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
    /// Was faulty, has been reported, and is passed over from then on.
    Pruned,
}

/// A step of a path by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

impl Node {
    /// The node at `path`.
    pub(super) fn get(&self, path: &[usize]) -> Option<&Self> {
        let Some((&first, rest)) = path.split_first() else { return Some(self) };
        match self {
            Self::List(items) => items.get(first)?.get(rest),
            Self::Map(entries) => entries.get(first)?.1.get(rest),
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Float(_) | Self::Text(_) | Self::Pruned => None,
        }
    }

    pub(super) fn get_mut(&mut self, path: &[usize]) -> Option<&mut Self> {
        let Some((&first, rest)) = path.split_first() else { return Some(self) };
        match self {
            Self::List(items) => items.get_mut(first)?.get_mut(rest),
            Self::Map(entries) => entries.get_mut(first)?.1.get_mut(rest),
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Float(_) | Self::Text(_) | Self::Pruned => None,
        }
    }

    /// The path of what `steps` names, as far down as the file has it.
    pub(super) fn resolve(&self, steps: &[Step]) -> Path {
        let mut path = Path::new();
        let mut node = self;
        for step in steps {
            let next = match (node, step) {
                (Self::Map(entries), Step::Key(key)) => entries
                    .iter()
                    .position(|(name, _)| name == key)
                    .map(|at| (at, entries.get(at).map(|e| &e.1))),
                (Self::List(items), Step::Index(at)) => Some((*at, items.get(*at))),
                _ => None,
            };
            let Some((at, Some(child))) = next else { break };
            path.push(at);
            node = child;
        }
        path
    }

    /// `kafka.hosts[1].heap`, for people.
    pub(super) fn name(&self, path: &[usize]) -> String {
        let mut name = String::new();
        let mut node = self;
        for &at in path {
            match node {
                Self::Map(entries) => {
                    let Some((key, child)) = entries.get(at) else { break };
                    if !name.is_empty() {
                        name.push('.');
                    }
                    name.push_str(key);
                    node = child;
                }
                Self::List(items) => {
                    let Some(child) = items.get(at) else { break };
                    name.push('[');
                    name.push_str(&at.to_string());
                    name.push(']');
                    node = child;
                }
                Self::Null | Self::Bool(_) | Self::Int(_) | Self::Float(_) | Self::Text(_) | Self::Pruned => {
                    break;
                }
            }
        }
        name
    }

    /// Every map with its path, the root first.
    pub(super) fn maps(&self) -> Vec<(Path, &[(String, Node)])> {
        fn walk<'a>(node: &'a Node, path: &mut Path, found: &mut Vec<(Path, &'a [(String, Node)])>) {
            let children: Vec<&Node> = match node {
                Node::Map(entries) => {
                    found.push((path.clone(), entries));
                    entries.iter().map(|(_, child)| child).collect()
                }
                Node::List(items) => items.iter().collect(),
                Node::Null | Node::Bool(_) | Node::Int(_) | Node::Float(_) | Node::Text(_) | Node::Pruned => {
                    return;
                }
            };
            for (at, child) in children.into_iter().enumerate() {
                path.push(at);
                walk(child, path, found);
                path.pop();
            }
        }
        let mut found = Vec::new();
        walk(self, &mut Path::new(), &mut found);
        found
    }

    /// What it is, for "found …". Texts are not quoted: one may be a password in the wrong place.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Null | Self::Pruned => "nothing".to_owned(),
            Self::Bool(value) => format!("`{value}`"),
            Self::Int(value) => format!("the number {value}"),
            Self::Float(value) => format!("the number {value}"),
            Self::Text(_) => "a text".to_owned(),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a map".to_owned(),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Int(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Int(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Int(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Node, E> {
        Ok(i128::try_from(value).map_or(Node::Float(f64::INFINITY), Node::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(Key(key)) = map.next_key()? {
            entries.push((key, map.next_value()?));
        }
        Ok(Node::Map(entries))
    }

    fn visit_enum<A>(self, _: A) -> Result<Node, A::Error>
    where
        A: serde::de::EnumAccess<'de>,
    {
        Err(A::Error::custom(
            "a value that begins with `!` is a YAML tag\nhelp: put it in quotes: `\"!shop.sessions\"`",
        ))
    }
}

/// A key; numbers and truth values count as text.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = Key;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a word as key")
            }
            fn visit_str<E>(self, value: &str) -> Result<Key, E> {
                Ok(Key(value.to_owned()))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Key, E> {
                Ok(Key(value.to_string()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Key, E> {
                Ok(Key(value.to_string()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Key, E> {
                Ok(Key(value.to_string()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Key, E> {
                Ok(Key(value.to_string()))
            }
        }
        deserializer.deserialize_any(KeyVisitor)
    }
}
