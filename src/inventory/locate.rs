//! From a path to a place in the file. YAML's parser gives positions only in errors: so a visitor walks down the
//! path and fails on purpose at the target. It costs one parse per reported error, and nothing without errors.

use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Which end of a map's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Key,
    Value,
}

/// Line and column, both from 1, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// Where `path` is in `text`; none when it is not there.
pub(super) fn locate(text: &str, path: &[usize], part: Part) -> Option<Spot> {
    let found = Walk { path, part }.deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
    let location = found.location()?;
    Some(Spot { line: location.line(), column: location.column() })
}

use serde::de::DeserializeSeed;

struct Walk<'a> {
    path: &'a [usize],
    part: Part,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    // Scalars end here: "invalid type" is as good a failure as any.
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the place looked for")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Some((&at, rest)) = self.path.split_first() else { return Err(A::Error::custom("here")) };
        for _ in 0..at {
            list.next_element::<IgnoredAny>()?;
        }
        list.next_element_seed(Walk { path: rest, part: self.part })?;
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((&at, rest)) = self.path.split_first() else { return Err(A::Error::custom("here")) };
        for _ in 0..at {
            map.next_entry::<IgnoredAny, IgnoredAny>()?;
        }
        if rest.is_empty() && self.part == Part::Key {
            map.next_key_seed(Walk { path: &[], part: self.part })?;
        } else {
            map.next_key::<IgnoredAny>()?;
        }
        map.next_value_seed(Walk { path: rest, part: self.part })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, path: &[usize], part: Part) -> Option<(usize, usize)> {
        locate(text, path, part).map(|spot| (spot.line, spot.column))
    }

    #[test]
    fn finds_keys_and_values_in_block_and_flow_style() {
        let text = "a: 1\nb:\n  - x\n  - {h: k2, heap: 2g}\nc: [true, null, {d: 1.5}]\n";
        assert_eq!(at(text, &[0], Part::Key), Some((1, 1)));
        assert_eq!(at(text, &[0], Part::Value), Some((1, 4)));
        assert_eq!(at(text, &[1, 0], Part::Value), Some((3, 5)));
        assert_eq!(at(text, &[1, 1, 1], Part::Key), Some((4, 13)));
        assert_eq!(at(text, &[1, 1, 1], Part::Value), Some((4, 19)));
        assert_eq!(at(text, &[2, 1], Part::Value), Some((5, 11)));
        assert_eq!(at(text, &[2, 2, 0], Part::Value), Some((5, 21)));
    }

    #[test]
    fn finds_the_second_of_two_equal_keys() {
        assert_eq!(at("a: 1\nb: 2\na: 3\n", &[2], Part::Key), Some((3, 1)));
    }

    #[test]
    fn counts_characters_and_not_bytes() {
        assert_eq!(at("{é: 1, b: 2}", &[1], Part::Key), Some((1, 8)));
    }
}
