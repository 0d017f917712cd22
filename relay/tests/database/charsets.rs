//! The tables of character sets are the server's own.

use crate::server::{Kind, Server};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use relay::decode::charset::units;
use relay::schema::TableCharset;

/// The file that the decoder reads.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/decode/charset.zst");
/// Highest compression level of zstd that is not "ultra".
const LEVEL: i32 = 19;

/// Compares every code of every table with what the server converts it to. With `UPDATE_EXPECT=1` writes the file, which
/// takes effect at the next build.
pub(crate) async fn are_the_servers(server: &Server) {
    let mut conn = server.connect().await;
    conn.query_drop("DROP DATABASE IF EXISTS codes").await.unwrap();
    conn.query_drop("CREATE DATABASE codes").await.unwrap();
    conn.query_drop("CREATE TABLE codes.n (n INT PRIMARY KEY) ENGINE=MyISAM").await.unwrap();
    for chunk in (0..65_536u32).collect::<Vec<_>>().chunks(8192) {
        let rows: Vec<String> = chunk.iter().map(|n| format!("({n})")).collect();
        conn.query_drop(format!("INSERT INTO codes.n VALUES {}", rows.join(","))).await.unwrap();
    }
    let file = zstd::stream::decode_all(std::fs::File::open(FILE).unwrap()).unwrap();
    let mut known = file.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit));
    let update = std::env::var_os("UPDATE_EXPECT").is_some() && server.kind == Kind::MySql;
    let mut written = Vec::new();
    let mut faults = Vec::new();
    for charset in relay::decode::charset::tables() {
        let ours: Vec<u16> = known.by_ref().take(units(charset)).collect();
        assert!(update || ours.len() == units(charset), "the file ends in {}", charset.name());
        if charset.name() == "gb18030" && server.kind == Kind::MariaDb {
            continue;
        }
        let theirs = table(&mut conn, charset).await;
        for (code, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            if ours != theirs {
                faults
                    .push(format!("{} {code:04x}: {ours:04x}, the server says {theirs:04x}", charset.name()));
            }
        }
        written.extend(theirs.into_iter().flat_map(u16::to_le_bytes));
    }
    conn.query_drop("DROP DATABASE codes").await.unwrap();
    if update {
        return std::fs::write(FILE, zstd::stream::encode_all(written.as_slice(), LEVEL).unwrap()).unwrap();
    }
    let first: Vec<&String> = faults.iter().take(60).collect();
    assert!(faults.is_empty(), "{} differ: {first:#?}", faults.len());
}

async fn table(conn: &mut Conn, charset: TableCharset) -> Vec<u16> {
    let mut found = vec![0u16; units(charset)];
    let hex = |digits: usize, prefix: &str| format!("UNHEX(CONCAT('{prefix}', LPAD(HEX(n), {digits}, '0')))");
    let mut parts = vec![(hex(2, ""), "n < 256", 0)];
    if units(charset) > 256 {
        parts.push((hex(4, ""), "n >= 32768", 0));
    }
    if matches!(charset.name(), "ujis" | "eucjpms") {
        parts.push((hex(4, "8f"), "n >= 32768", 65_536));
    }
    if charset.name() == "gb18030" {
        let four = "CHAR(129 + n DIV 12600, 48 + n DIV 1260 % 10, 129 + n DIV 10 % 126, 48 + n % 10)";
        parts.push((four.to_owned(), "n < 39420", 65_536));
    }
    for (bytes, condition, base) in parts {
        let name = charset.name();
        let sql = format!(
            "SELECT n, HEX(CONVERT(CONVERT({bytes} USING {name}) USING utf16)) FROM codes.n WHERE {condition}"
        );
        let rows: Vec<(usize, Option<String>)> = conn.query(sql).await.unwrap();
        for (n, hex) in rows {
            // What has no character becomes a question mark, what is no code NULL; several characters are no code.
            let unit =
                hex.filter(|hex| hex.len() == 4).map_or(0, |hex| u16::from_str_radix(&hex, 16).unwrap());
            found[base + n] = if unit == 0x3f && (base, n) != (0, 0x3f) { 0 } else { unit };
        }
    }
    found
}
