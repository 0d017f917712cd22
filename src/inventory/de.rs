//! serde over a [`Node`], with errors that know the path of what is wrong.

use super::node::{Node, Path};
use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    Visitor,
};
use std::fmt;

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DeError {
    pub(super) path: Option<Path>,
    pub(super) kind: Kind,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// A key that is none.
    UnknownKey { key: String, known: &'static [&'static str] },
    /// A word that is none.
    UnknownWord { word: String, known: &'static [&'static str] },
    /// A key without which it does not go.
    Missing(&'static str),
    /// Another type than is wanted.
    Wrong { expected: String },
    /// Anything else; may hold `\nhelp: `.
    Message(String),
}

impl DeError {
    fn new(kind: Kind) -> Self {
        Self { path: None, kind }
    }

    /// The innermost path wins.
    fn at(mut self, path: &Path) -> Self {
        self.path.get_or_insert_with(|| path.clone());
        self
    }
}

impl fmt::Display for DeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)
    }
}

impl std::error::Error for DeError {}

impl de::Error for DeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Kind::Message(message.to_string()))
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(Kind::Wrong { expected: expected.to_string() })
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(Kind::Wrong { expected: expected.to_string() })
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        Self::new(Kind::UnknownWord { word: word.to_owned(), known })
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Self::new(Kind::UnknownKey { key: key.to_owned(), known })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Kind::Missing(field))
    }
}

/// A node and its path.
#[derive(Debug)]
pub(super) struct NodeDe<'de> {
    node: &'de Node,
    path: Path,
}

impl<'de> NodeDe<'de> {
    pub(super) fn new(root: &'de Node) -> Self {
        Self { node: root, path: Path::new() }
    }

    fn child(&self, node: &'de Node, at: usize) -> Self {
        let mut path = self.path.clone();
        path.push(at);
        Self { node, path }
    }

    fn wrong(&self, expected: &str) -> DeError {
        DeError { path: Some(self.path.clone()), kind: Kind::Wrong { expected: expected.to_owned() } }
    }
}

impl<'de> Deserializer<'de> for NodeDe<'de> {
    type Error = DeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        let path = self.path.clone();
        let value = match self.node {
            Node::Null | Node::Pruned => visitor.visit_unit(),
            Node::Bool(value) => visitor.visit_bool(*value),
            Node::Int(value) => match (u64::try_from(*value), i64::try_from(*value)) {
                (Ok(value), _) => visitor.visit_u64(value),
                (_, Ok(value)) => visitor.visit_i64(value),
                _ => visitor.visit_i128(*value),
            },
            Node::Float(value) => visitor.visit_f64(*value),
            Node::Text(value) => visitor.visit_borrowed_str(value),
            Node::List(items) => visitor.visit_seq(Items { list: self, items: items.iter().enumerate() }),
            Node::Map(entries) => {
                let rest = entries.iter().enumerate();
                visitor.visit_map(Entries { map: self, rest, value: None })
            }
        };
        value.map_err(|error| error.at(&path))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        if matches!(self.node, Node::Null) { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DeError> {
        let path = self.path.clone();
        visitor.visit_newtype_struct(self).map_err(|error| error.at(&path))
    }

    /// serde would take a list for a struct, field by field.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        if matches!(self.node, Node::Map(_)) {
            self.deserialize_any(visitor)
        } else {
            Err(self.wrong("a map"))
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        let Node::Text(word) = self.node else { return Err(self.wrong("a word")) };
        let word: StrDeserializer<'_, DeError> = word.as_str().into_deserializer();
        visitor.visit_enum(word).map_err(|error| error.at(&self.path))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'de> {
    list: NodeDe<'de>,
    items: std::iter::Enumerate<std::slice::Iter<'de, Node>>,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = DeError;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, DeError> {
        let next = self.items.find(|(_, node)| !matches!(node, Node::Pruned));
        next.map(|(at, node)| seed.deserialize(self.list.child(node, at))).transpose()
    }
}

struct Entries<'de> {
    map: NodeDe<'de>,
    rest: std::iter::Enumerate<std::slice::Iter<'de, (String, Node)>>,
    value: Option<NodeDe<'de>>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = DeError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, DeError> {
        let Some((at, (key, node))) = self.rest.find(|(_, (_, node))| !matches!(node, Node::Pruned)) else {
            return Ok(None);
        };
        let value = self.map.child(node, at);
        let key: StrDeserializer<'_, DeError> = key.as_str().into_deserializer();
        let key = seed.deserialize(key).map_err(|error| error.at(&value.path))?;
        self.value = Some(value);
        Ok(Some(key))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, DeError> {
        match self.value.take() {
            Some(value) => seed.deserialize(value),
            None => Err(de::Error::custom("a value was asked for before its key")),
        }
    }
}
