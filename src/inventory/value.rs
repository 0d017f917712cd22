//! Values that may be written in several ways, each with a visitor of its own so that errors keep their place.

use super::model::SecretRef;
use super::quantity;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// A word; a whole number counts as one (an SCN, a rack number).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word(pub(super) String);

/// A setting of a service: a text, a number or a truth value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scalar(pub(super) String);

/// A size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) u64);

/// A duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

/// Something that the design foresees and this version cannot do; anything is accepted here, and refused later
/// with a better message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Later;

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SecretSource(pub(super) SecretRef);

/// A member of a role: an address or a host's name, or a map that begins with `host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry<T> {
    Host(String),
    Map(T),
}

struct Scalars {
    expecting: &'static str,
    fractions: bool,
    truths: bool,
}

impl Visitor<'_> for Scalars {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E>(self, value: &str) -> Result<String, E> {
        Ok(value.to_owned())
    }

    fn visit_u64<E>(self, value: u64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_i64<E>(self, value: i64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<String, E> {
        if self.fractions && value.is_finite() {
            return Ok(value.to_string());
        }
        Err(E::invalid_type(serde::de::Unexpected::Float(value), &self))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<String, E> {
        if self.truths {
            return Ok(value.to_string());
        }
        Err(E::invalid_type(serde::de::Unexpected::Bool(value), &self))
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let visitor = Scalars { expecting: "a text or a whole number", fractions: false, truths: false };
        deserializer.deserialize_any(visitor).map(Self)
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let visitor =
            Scalars { expecting: "a text, a number, `true` or `false`", fractions: true, truths: true };
        deserializer.deserialize_any(visitor).map(Self)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size, as in `4GiB` or `512m`")
            }
            fn visit_str<E: Error>(self, value: &str) -> Result<Bytes, E> {
                quantity::size(value).map(Bytes).map_err(E::custom)
            }
            fn visit_u64<E>(self, value: u64) -> Result<Bytes, E> {
                Ok(Bytes(value))
            }
        }
        deserializer.deserialize_any(SizeVisitor)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SpanVisitor;
        impl Visitor<'_> for SpanVisitor {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration with its unit, as in `30s`, `5m` or `24h`")
            }
            fn visit_str<E: Error>(self, value: &str) -> Result<Span, E> {
                quantity::duration(value).map(Span).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(SpanVisitor)
    }
}

impl<'de> Deserialize<'de> for Later {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entry<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntryVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for EntryVisitor<T> {
            type Value = Entry<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address, a host's name or a map with `host`")
            }
            fn visit_str<E>(self, value: &str) -> Result<Entry<T>, E> {
                Ok(Entry::Host(value.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Entry<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Entry::Map)
            }
        }
        deserializer.deserialize_any(EntryVisitor(PhantomData))
    }
}

/// What to write instead of a password.
const SECRET_HELP: &str = "\nhelp: write `{env: NAME}`, `{file: PATH}` or `{command: [PROGRAM, ARGUMENT]}`";

impl<'de> Deserialize<'de> for SecretSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

/// The places a secret may come from.
#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum SecretKey {
    Env,
    File,
    Command,
}

struct SecretVisitor;

impl SecretVisitor {
    fn literal<E: Error>() -> E {
        E::custom(format!("a secret must not stand in the inventory{SECRET_HELP}"))
    }
}

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = SecretSource;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`{env: NAME}`, `{file: PATH}` or `{command: [PROGRAM, ARGUMENT]}`")
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<SecretSource, E> {
        Err(Self::literal())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<SecretSource, E> {
        Err(Self::literal())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<SecretSource, E> {
        Err(Self::literal())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<SecretSource, E> {
        Err(Self::literal())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<SecretSource, E> {
        Err(Self::literal())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<SecretSource, A::Error> {
        Err(Self::literal())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretSource, A::Error> {
        let several = || A::Error::custom(format!("a secret comes from exactly one place{SECRET_HELP}"));
        let Some(key) = map.next_key::<SecretKey>()? else { return Err(several()) };
        let reference = match key {
            SecretKey::Env => SecretRef::Env(map.next_value()?),
            SecretKey::File => SecretRef::File(map.next_value::<String>()?.into()),
            SecretKey::Command => SecretRef::Command(map.next_value()?),
        };
        let empty = match &reference {
            SecretRef::Env(name) | SecretRef::Generated(name) => name.is_empty(),
            SecretRef::File(path) => path.as_os_str().is_empty(),
            SecretRef::Command(argv) => argv.first().is_none_or(String::is_empty),
        };
        if empty {
            return Err(A::Error::custom(format!("the place is empty{SECRET_HELP}")));
        }
        if map.next_key::<SecretKey>()?.is_some() {
            return Err(several());
        }
        Ok(SecretSource(reference))
    }
}

/// Implements [`JsonSchema`] by a literal schema.
macro_rules! schema {
    ($type:ty, $name:literal, $($schema:tt)+) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($($schema)+)
            }
        }
    };
}

schema!(Word, "Word", { "type": ["string", "integer"] });
schema!(Scalar, "Setting", { "type": ["string", "number", "boolean"] });
schema!(Bytes, "Size", {
    "type": ["string", "integer"],
    "description": "A size: `4GiB`, `512m`, `2g`.",
    "pattern": "^[0-9]+ ?([bB]|[kKmMgGtT]|[kKmMgGtT]i[bB]|[kK]B|[MGT]B)$"
});
schema!(Span, "Duration", {
    "type": "string",
    "description": "A duration: `30s`, `5m`, `24h`, `7d`.",
    "pattern": "^([0-9]+ ?(ms|s|m|h|d))+$"
});
schema!(Later, "NotSupportedYet", { "not": {}, "description": "Not supported yet." });
schema!(SecretSource, "Secret", {
    "type": "object",
    "description": "Where a secret comes from: an environment variable, a file, or the output of a command.",
    "properties": {
        "env": { "type": "string", "description": "Name of an environment variable." },
        "file": { "type": "string", "description": "A file on this machine; relative paths start at the inventory. A final newline is not part of the secret." },
        "command": { "type": "array", "items": { "type": "string" }, "minItems": 1, "description": "Program and arguments; its output is the secret." }
    },
    "minProperties": 1,
    "maxProperties": 1,
    "additionalProperties": false
});

impl<T: JsonSchema> JsonSchema for Entry<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}Entry", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = generator.subschema_for::<T>();
        json_schema!({
            "anyOf": [{ "type": "string", "description": "An address, or a name from `hosts`." }, map]
        })
    }
}
