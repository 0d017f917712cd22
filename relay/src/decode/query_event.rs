//! Statements in the binlog: their text, and the settings of the session that ran them.

use super::DecodeError;
use super::bytes::Bytes;
use super::charset::Chars;
use crate::schema::Charset;
use std::borrow::Cow;

/// A `QUERY`: default database and statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    /// Default database of the session, may be empty.
    pub database: &'a [u8],
    /// The session's settings, as the server packs them.
    pub status: &'a [u8],
    /// The statement's bytes in the session's character set.
    pub sql: &'a [u8],
}

/// Settings of the session that ran a statement, as far as they are there and known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Bits of `sql_mode`.
    pub sql_mode: Option<u64>,
    /// Collation id of `character_set_client`: the statement's text is in its set.
    pub client: Option<u16>,
    /// Databases with tables that the statement writes to, by functions and triggers too (MySQL); none where the server
    /// does not say, or says there are too many.
    pub updated: Option<Vec<String>>,
}

/// Splits a `QUERY` body.
pub fn query(body: &[u8]) -> Result<Query<'_>, DecodeError> {
    let mut input = Bytes::new(body, "query event");
    input.take(8)?;
    let database_len = usize::from(input.u8()?);
    input.u16()?;
    let status_len = usize::from(input.u16()?);
    let status = input.take(status_len)?;
    let database = input.take(database_len)?;
    input.u8()?;
    Ok(Query { database, status, sql: input.rest() })
}

impl Query<'_> {
    /// The session's settings. What comes behind one that is not known is left out.
    pub fn status(&self) -> Status {
        let mut status = Status::default();
        let mut input = Bytes::new(self.status, "status of a query event");
        while let Ok(true) = status_variable(&mut input, &mut status) {}
        status
    }

    /// The statement's text. Bytes that mean nothing in the session's character set become U+FFFD.
    pub fn text(&self) -> Cow<'_, str> {
        if self.sql.is_ascii() {
            return String::from_utf8_lossy(self.sql);
        }
        let client = self.status().client.map_or(Charset::Utf8, |id| Charset::of_collation(u64::from(id)));
        match client {
            Charset::Binary | Charset::Utf8 | Charset::Ascii | Charset::Other(_) => {
                String::from_utf8_lossy(self.sql)
            }
            Charset::Latin1
            | Charset::Utf16
            | Charset::Utf16Le
            | Charset::Utf32
            | Charset::Ucs2
            | Charset::Table(_) => {
                let chars = Chars::new(client, self.sql);
                Cow::Owned(chars.map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
            }
        }
    }
}

/// Reads one setting; false where it is not known how long it is. Codes and lengths: MySQL's `statement_events.h`,
/// the same in MariaDB as far as they go here.
fn status_variable(input: &mut Bytes<'_>, status: &mut Status) -> Result<bool, DecodeError> {
    const TOO_MANY: u8 = 254;
    match input.u8()? {
        1 => status.sql_mode = Some(input.u64()?),
        4 => {
            status.client = Some(input.u16()?);
            input.take(4)?;
        }
        // Flags, auto increment, numbers of languages and sets, bits of tables, size at the master.
        0 | 3 | 10 => drop(input.take(4)?),
        7 | 8 => drop(input.take(2)?),
        9 => drop(input.take(8)?),
        // The catalogue, older and newer; the time zone.
        2 => {
            let len = usize::from(input.u8()?);
            input.take(len + 1)?;
        }
        5 | 6 => {
            let len = usize::from(input.u8()?);
            input.take(len)?;
        }
        // The definer's user and host.
        11 => {
            for _ in 0..2 {
                let len = usize::from(input.u8()?);
                input.take(len)?;
            }
        }
        12 => {
            let count = input.u8()?;
            if count != TOO_MANY {
                let names = (0..count).map(|_| until_nul(input));
                status.updated = Some(names.collect::<Result<_, _>>()?);
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn until_nul(input: &mut Bytes<'_>) -> Result<String, DecodeError> {
    let len =
        memchr::memchr(0, input.rest()).ok_or(DecodeError::Invalid("name of a database without an end"))?;
    let name = String::from_utf8_lossy(input.take(len)?).into_owned();
    input.u8()?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn body(status: &[u8], sql: &[u8]) -> Vec<u8> {
        let mut body = vec![0; 8];
        body.push(1);
        body.extend([0, 0]);
        body.extend(u16::try_from(status.len()).unwrap().to_le_bytes());
        body.extend(status);
        body.extend(b"d\0");
        body.extend(sql);
        body
    }

    #[test]
    fn settings_of_a_session() {
        let status = [
            &[0, 0, 0, 0, 0][..],
            &[1, 0, 0, 0x10, 0, 0, 0, 0, 0],
            b"\x06\x03std",
            &[3, 1, 0, 1, 0],
            &[4, 8, 0, 8, 0, 33, 0],
            b"\x05\x03UTC",
            &[12, 2],
            b"shop\0other\0",
            &[13, 1, 2, 3],
            b"never read",
        ]
        .concat();
        let body = body(&status, b"CREATE TABLE t\xe4 (a int)");
        let query = query(&body).unwrap();
        let expected = Status {
            sql_mode: Some(1 << 20),
            client: Some(8),
            updated: Some(vec!["shop".to_owned(), "other".to_owned()]),
        };
        assert_eq!(query.status(), expected);
        assert_eq!(query.text(), "CREATE TABLE tä (a int)");
    }

    #[test]
    fn a_backslash_inside_a_character_is_none() {
        // gbk: 昞 is 95 5c.
        let body = body(&[4, 28, 0, 28, 0, 33, 0], b"ALTER TABLE `a` COMMENT '\x95\x5c'");
        assert_eq!(query(&body).unwrap().text(), "ALTER TABLE `a` COMMENT '昞'");
    }

    #[test]
    fn too_many_databases_are_none() {
        let body = body(&[12, 254], b"x");
        assert_eq!(query(&body).unwrap().status(), Status::default());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(status in proptest::collection::vec(any::<u8>(), 0..40), sql in proptest::collection::vec(any::<u8>(), 0..40)) {
            let body = body(&status, &sql);
            let query = query(&body).unwrap();
            query.status();
            query.text();
        }
    }
}
