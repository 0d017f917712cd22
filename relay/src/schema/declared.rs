//! A table as `information_schema` declares it, for table maps that name no columns.

use super::Charset;
use serde::{Deserialize, Serialize};

/// A table's declaration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    /// The columns in table order.
    pub columns: Vec<DeclaredColumn>,
    /// Indices into `columns` of the primary key, in key order.
    pub key: Vec<usize>,
}

/// A column's declaration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredColumn {
    /// Column name.
    pub name: String,
    /// `COLUMN_TYPE`: `bigint unsigned`, `enum('a','b')`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `CHARACTER_SET_NAME` of text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charset: Option<String>,
    /// `CHARACTER_OCTET_LENGTH` of text and bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub octets: Option<u64>,
    /// May be NULL.
    pub nullable: bool,
    /// Shown by `SELECT *`.
    pub visible: bool,
}

impl DeclaredColumn {
    /// The type's first word.
    pub(crate) fn word(&self) -> &str {
        let end = self.kind.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(self.kind.len());
        self.kind.get(..end).unwrap_or_default()
    }

    /// Numbers in the brackets behind the first word: `decimal(10,2)`.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        let rest = self.kind.get(self.word().len()..).unwrap_or_default();
        let inside = rest.strip_prefix('(').and_then(|rest| rest.split(')').next()).unwrap_or_default();
        inside.split(',').map_while(|number| number.trim().parse().ok()).collect()
    }

    /// Declared UNSIGNED; ZEROFILL means it too.
    pub(crate) fn unsigned(&self) -> bool {
        self.kind.split_ascii_whitespace().any(|word| matches!(word, "unsigned" | "zerofill"))
    }

    /// The character set of its text.
    pub(crate) fn text_charset(&self) -> Charset {
        match self.charset.as_deref() {
            None => Charset::Binary,
            // One that is not known is shown as base64, marked.
            Some(name) => Charset::of_name(name).unwrap_or(Charset::Other(0)),
        }
    }

    /// Bytes of a SET with so many members.
    pub(crate) fn set_bytes(members: usize) -> u8 {
        match members {
            0..=8 => 1,
            9..=16 => 2,
            17..=24 => 3,
            25..=32 => 4,
            _ => 8,
        }
    }

    /// The members of an ENUM or SET; none where the list does not end well.
    pub(crate) fn members(&self) -> Option<Vec<String>> {
        let mut rest = self.kind.get(self.word().len()..)?.strip_prefix('(')?;
        let mut members = Vec::new();
        loop {
            rest = rest.strip_prefix('\'')?;
            let mut member = String::new();
            let mut chars = rest.char_indices();
            let end = loop {
                match chars.next()? {
                    (_, '\\') => member.push(match chars.next()?.1 {
                        '0' => '\0',
                        'n' => '\n',
                        'r' => '\r',
                        other => other,
                    }),
                    (at, '\'') => {
                        // A doubled quote stands for one.
                        if chars.clone().next().is_some_and(|(_, next)| next == '\'') {
                            chars.next();
                            member.push('\'');
                        } else {
                            break at + 1;
                        }
                    }
                    (_, other) => member.push(other),
                }
            };
            members.push(member);
            rest = rest.get(end..)?;
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => return rest.starts_with(')').then_some(members),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(kind: &str) -> DeclaredColumn {
        DeclaredColumn {
            name: "c".into(),
            kind: kind.into(),
            charset: None,
            octets: None,
            nullable: true,
            visible: true,
        }
    }

    #[test]
    fn types_are_taken_apart() {
        assert_eq!(column("decimal(10,2) unsigned").word(), "decimal");
        assert_eq!(column("decimal(10,2) unsigned").numbers(), [10, 2]);
        assert!(column("decimal(10,2) unsigned").unsigned());
        assert!(column("int(10) unsigned zerofill").unsigned());
        assert!(!column("bigint").unsigned());
        assert_eq!(column("json").word(), "json");
    }

    #[test]
    fn members_are_read_with_their_escapes() {
        let all = column(r"enum('a','it''s, \\ (b)','new\nline','')").members();
        assert_eq!(all.unwrap(), ["a", "it's, \\ (b)", "new\nline", ""]);
        assert_eq!(column("set('Ünï')").members().unwrap(), ["Ünï"]);
        for broken in ["enum('a'", "enum('a',)", "enum", "enum(a)", "enum('a"] {
            assert_eq!(column(broken).members(), None, "{broken}");
        }
    }
}
