//! Column types: how they are declared, what literals go in, how the server is asked for the canonical text, and what
//! our JSON must then be.

use crate::random::Random;
use crate::server::Kind;
use base64::Engine as _;
use serde_json::Value;

/// How a value that the server returned as text compares with our JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A number with exactly these digits.
    Number,
    /// FLOAT: the same float; the server gives it as a double.
    Float,
    /// The same double.
    Double,
    /// A string, as is.
    Text,
    /// The hex digits of UTF-8.
    HexText,
    /// The hex digits of bytes that we give as base64.
    HexBytes,
    /// `2026-01-01 00:00:00`, for us with a `T`.
    DateTime,
    /// Likewise, in UTC, for us with a `Z`.
    Timestamp,
    /// Members with commas between.
    Set,
    /// A JSON document.
    Json,
    /// `srid` and GeoJSON with a tab between.
    Geometry,
    /// Hex digits of floats.
    Vector,
}

/// A column type.
#[derive(Clone, Debug)]
pub(crate) struct Type {
    /// As in CREATE TABLE, without NULL or NOT NULL.
    pub(crate) ddl: String,
    pub(crate) form: Form,
    pub(crate) nullable: bool,
    literals: Literals,
}

#[derive(Clone, Debug)]
enum Literals {
    Int { bits: u32, unsigned: bool },
    Fixed(&'static [&'static str]),
    Decimal { precision: usize, scale: usize, unsigned: bool },
    Float,
    Double,
    Bit(u32),
    Date,
    Time(usize),
    DateTime(usize),
    Timestamp(usize),
    Chars { pool: &'static str, max: usize },
    Bytes { max: usize },
    Set(usize),
    Enum(usize),
    Json,
    Vector(usize),
}

fn new(ddl: impl Into<String>, form: Form, literals: Literals) -> Type {
    Type { ddl: ddl.into(), form, nullable: true, literals }
}

const ASCII: &str = "abc XYZ 0189 '\"\\\n\t\u{1}\u{7f}";
const WESTERN: &str = "aé ß€Ÿ'\"\\ñü";
const BMP: &str = "aé ßЖλ漢字かな한글€'\"\\";
const ALL: &str = "aé ßЖλ漢字かな한글€😀𝔘'\"\\\u{2028}";
const JAPANESE: &str = "abc漢字かなカナ表能ソー～￥∥－¢£¬¦～ｱｲｳ'\"";
const CHINESE: &str = "abc中文漢字测试的一是·—…′'\"";
const TRADITIONAL: &str = "abc中文漢字測試功許蓋的一是'\"";
const KOREAN: &str = "abc한글漢字가나다라똠'\"";
const CYRILLIC: &str = "abcЖЯяюЁ'\"";
const CENTRAL: &str = "abcĄęłŁőűřž'\"";
const GREEK: &str = "abcαβγΩέ'\"";
const HEBREW: &str = "abcאבת'\"";
const TURKISH: &str = "abcİışğ'\"";
const BALTIC: &str = "abcāēģķ'\"";
const THAI: &str = "abcกขฃ'\"";

/// Character sets both servers have, with characters they can hold.
const CHARSETS: &[(&str, &str)] = &[
    ("utf8mb4", ALL),
    ("utf8mb3", BMP),
    ("latin1", WESTERN),
    ("ascii", ASCII),
    ("utf16", ALL),
    ("utf16le", ALL),
    ("utf32", ALL),
    ("ucs2", BMP),
    ("gbk", CHINESE),
    ("gb2312", "abc中文测试的一是'\""),
    ("sjis", JAPANESE),
    ("cp932", JAPANESE),
    ("ujis", JAPANESE),
    ("eucjpms", JAPANESE),
    ("big5", TRADITIONAL),
    ("euckr", KOREAN),
    ("latin2", CENTRAL),
    ("latin5", TURKISH),
    ("latin7", BALTIC),
    ("cp1250", CENTRAL),
    ("cp1251", CYRILLIC),
    ("cp1256", "abcابت'\""),
    ("cp1257", BALTIC),
    ("cp850", WESTERN),
    ("cp852", CENTRAL),
    ("cp866", CYRILLIC),
    ("koi8r", CYRILLIC),
    ("koi8u", CYRILLIC),
    ("greek", GREEK),
    ("hebrew", HEBREW),
    ("tis620", THAI),
    ("macroman", WESTERN),
    ("macce", CENTRAL),
    ("keybcs2", CENTRAL),
    ("armscii8", "abcԱԲև'\""),
    ("geostd8", "abcაბგ'\""),
    ("dec8", WESTERN),
    ("hp8", WESTERN),
    ("swe7", "abc'\""),
];

const FORTY_MEMBERS: usize = 40;

fn members(count: usize) -> Vec<String> {
    (0..count)
        .map(|i| match i {
            0 => "a".to_owned(),
            1 => "Ünï".to_owned(),
            2 => "it''s \"x\"".to_owned(),
            _ => format!("m{i}"),
        })
        .collect()
}

fn member_list(count: usize) -> String {
    members(count).iter().map(|m| format!("'{m}'")).collect::<Vec<_>>().join(",")
}

/// All types of a server.
pub(crate) fn all(kind: Kind) -> Vec<Type> {
    let mut types = Vec::new();
    for (name, bits) in [("TINYINT", 8), ("SMALLINT", 16), ("MEDIUMINT", 24), ("INT", 32), ("BIGINT", 64)] {
        for unsigned in [false, true] {
            let ddl = if unsigned { format!("{name} UNSIGNED") } else { name.to_owned() };
            types.push(new(ddl, Form::Number, Literals::Int { bits, unsigned }));
        }
    }
    for (precision, scale) in [(65, 30), (10, 2), (1, 0), (30, 30), (9, 9), (18, 9), (65, 0), (20, 1)] {
        for unsigned in [false, true] {
            let ddl = format!("DECIMAL({precision},{scale}){}", if unsigned { " UNSIGNED" } else { "" });
            types.push(new(ddl, Form::Text, Literals::Decimal { precision, scale, unsigned }));
        }
    }
    types.push(new("FLOAT", Form::Float, Literals::Float));
    types.push(new("DOUBLE", Form::Double, Literals::Double));
    types.push(new("FLOAT UNSIGNED", Form::Float, Literals::Fixed(&["0", "1.5", "3.4e38"])));
    types.push(new("DOUBLE(12,3)", Form::Double, Literals::Fixed(&["0", "-1.555", "123456789.123"])));
    for bits in [1, 7, 8, 9, 16, 33, 63, 64] {
        types.push(new(format!("BIT({bits})"), Form::Number, Literals::Bit(bits)));
    }
    types.push(new("BOOLEAN", Form::Number, Literals::Fixed(&["TRUE", "FALSE", "-128"])));
    types.push(new("YEAR", Form::Number, Literals::Fixed(&["1901", "2155", "'0000'", "2026", "1999"])));
    types.push(new("DATE", Form::Text, Literals::Date));
    for digits in [0, 1, 2, 3, 4, 5, 6] {
        types.push(new(format!("TIME({digits})"), Form::Text, Literals::Time(digits)));
        types.push(new(format!("DATETIME({digits})"), Form::DateTime, Literals::DateTime(digits)));
        types.push(new(format!("TIMESTAMP({digits})"), Form::Timestamp, Literals::Timestamp(digits)));
    }
    charsets(kind, &mut types);
    for ddl in ["BINARY(1)", "BINARY(16)", "BINARY(255)", "BINARY(4)"] {
        types.push(new(ddl, Form::HexBytes, Literals::Bytes { max: if ddl == "BINARY(1)" { 1 } else { 4 } }));
    }
    for ddl in ["VARBINARY(200)", "VARBINARY(2000)", "TINYBLOB", "BLOB", "MEDIUMBLOB", "LONGBLOB"] {
        types.push(new(ddl, Form::HexBytes, Literals::Bytes { max: 200 }));
    }
    for count in [3, 8, 9, FORTY_MEMBERS, 64] {
        types.push(new(format!("SET({})", member_list(count)), Form::Set, Literals::Set(count)));
    }
    for count in [3, 300] {
        types.push(new(format!("ENUM({})", member_list(count)), Form::Text, Literals::Enum(count)));
    }
    types.push(new(format!("ENUM({}) CHARACTER SET latin1", member_list(3)), Form::Text, Literals::Enum(3)));
    types.push(new(format!("SET({}) CHARACTER SET utf16", member_list(3)), Form::Set, Literals::Set(3)));
    types.push(new(
        "ENUM('中','文') CHARACTER SET gbk",
        Form::Text,
        Literals::Fixed(&["'中'", "'文'", "''"]),
    ));
    types.push(new(
        "GEOMETRY",
        Form::Geometry,
        Literals::Fixed(&[
            "ST_GeomFromText('POINT(1.5 -2.25)')",
            "ST_GeomFromText('LINESTRING(0 0,1 1,2.5 3)')",
            "ST_GeomFromText('POLYGON((0 0,10 0,10 10,0 10,0 0),(2 2,4 2,4 4,2 4,2 2))')",
            "ST_GeomFromText('MULTIPOINT((0 0),(1 1))')",
            "ST_GeomFromText('MULTILINESTRING((0 0,1 1),(2 2,3 3))')",
            "ST_GeomFromText('MULTIPOLYGON(((0 0,1 0,1 1,0 0)),((5 5,6 5,6 6,5 5)))')",
            "ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 2),LINESTRING(0 0,1 1))')",
            "ST_GeomFromText('GEOMETRYCOLLECTION EMPTY')",
            "ST_GeomFromText('POINT(1 2)', 3857)",
            "ST_GeomFromText('POINT(10 20)', 4326)",
        ]),
    ));
    types.push(new("POINT", Form::Geometry, Literals::Fixed(&["ST_GeomFromText('POINT(-0.5 4096)')"])));
    match kind {
        Kind::MySql => {
            types.push(new("JSON", Form::Json, Literals::Json));
            types.push(new("VECTOR(3)", Form::Vector, Literals::Vector(3)));
            types.push(new("VECTOR", Form::Vector, Literals::Vector(70)));
        }
        Kind::MariaDb => {
            types.push(new("JSON", Form::HexText, Literals::Fixed(&["'{\"a\": 1}'", "'[]'", "'\"ü\"'"])));
            let chars = |pool, max| Literals::Chars { pool, max };
            types.push(new("VARCHAR(300) COMPRESSED", Form::HexText, chars(BMP, 250)));
            types.push(new("TEXT COMPRESSED", Form::HexText, chars(BMP, 400)));
            types.push(new("VARBINARY(3000) COMPRESSED", Form::HexBytes, Literals::Bytes { max: 300 }));
            types.push(new("LONGBLOB COMPRESSED", Form::HexBytes, Literals::Bytes { max: 300 }));
        }
    }
    types
}

/// Types that only `information_schema` names.
pub(crate) fn unnamed(kind: Kind) -> Vec<Type> {
    if kind == Kind::MySql {
        return Vec::new();
    }
    vec![
        new(
            "UUID",
            Form::Text,
            Literals::Fixed(&[
                "'123e4567-e89b-12d3-a456-426655440000'",
                "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
                "'00000000-0000-0000-0000-000000000000'",
                "'017f22e2-79b0-7cc3-98c4-dc0c0c07398f'",
                "'1ec9414c-232a-6b00-b3c8-9e6bdeced846'",
                "'6fa459ea-ee8a-3ca4-894e-db77e160355e'",
                "'00000001-0000-4000-8000-000000000000'",
                "'320c3d4d-cc00-875b-8ec9-32d5f69181c0'",
                "UUID()",
            ]),
        ),
        new(
            "INET6",
            Form::Text,
            Literals::Fixed(&[
                "'::'",
                "'::1'",
                "'2001:db8::ff00:42:8329'",
                "'1:0:2:3:4:5:6:7'",
                "'1:0:0:2:0:0:3:4'",
                "'::ffff:192.0.2.128'",
                "'::192.0.2.128'",
                "'::1:0'",
                "'fe80::'",
                "'0:0:1::'",
            ]),
        ),
        new(
            "INET4",
            Form::Text,
            Literals::Fixed(&["'0.0.0.0'", "'192.0.2.1'", "'10.0.0.0'", "'255.255.255.255'"]),
        ),
    ]
}

fn charsets(kind: Kind, types: &mut Vec<Type>) {
    let chars = |pool, max| Literals::Chars { pool, max };
    for (name, pool) in CHARSETS {
        for (ddl, max) in [("VARCHAR(20)", 20), ("CHAR(9)", 9)] {
            types.push(new(format!("{ddl} CHARACTER SET {name}"), Form::HexText, chars(pool, max)));
        }
    }
    if kind == Kind::MySql {
        types.push(new("TEXT CHARACTER SET gb18030", Form::HexText, chars(ALL, 50)));
    }
    for (name, pool) in [("utf8mb4", ALL), ("latin1", WESTERN), ("utf16", ALL), ("sjis", JAPANESE)] {
        for ddl in ["TINYTEXT", "TEXT", "MEDIUMTEXT", "LONGTEXT", "VARCHAR(500)"] {
            types.push(new(format!("{ddl} CHARACTER SET {name}"), Form::HexText, chars(pool, 40)));
        }
    }
    types.push(new("CHAR(255) CHARACTER SET utf8mb4", Form::HexText, chars(ALL, 100)));
    types.push(new("VARCHAR(30) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", Form::HexText, chars(ALL, 30)));
    types.push(new("CHAR(0)", Form::HexText, Literals::Fixed(&["''"])));
    types.push(new("VARCHAR(0)", Form::HexText, Literals::Fixed(&["''"])));
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

fn digits(random: &mut Random, count: usize) -> String {
    (0..count).map(|_| char::from(b'0' + u8::try_from(random.below(10)).unwrap())).collect()
}

fn fraction(random: &mut Random, count: usize) -> String {
    match (count, random.below(3)) {
        (0, _) => String::new(),
        (count, 0) => format!(".{}", "9".repeat(count)),
        (count, _) => format!(".{}", digits(random, count)),
    }
}

impl Type {
    /// A literal or expression to insert.
    pub(crate) fn literal(&self, random: &mut Random) -> String {
        match &self.literals {
            Literals::Fixed(all) => (*random.pick(all)).to_owned(),
            Literals::Int { bits, unsigned } => int(random, *bits, *unsigned),
            Literals::Decimal { precision, scale, unsigned } => {
                let (whole, scale) = (precision - scale, *scale);
                let sign = if *unsigned || random.one_in(2) { "" } else { "-" };
                match random.below(4) {
                    0 => format!("{sign}{}.{}", "9".repeat(whole.max(1)), "9".repeat(scale.max(1))),
                    1 => "0".to_owned(),
                    2 => format!("{sign}0.{}1", "0".repeat(scale.saturating_sub(1))),
                    _ => {
                        let (whole, scale) = (random.below(whole + 1), random.below(scale + 1));
                        format!("{sign}0{}.{}0", digits(random, whole), digits(random, scale))
                    }
                }
            }
            Literals::Float => match random.below(3) {
                0 => random
                    .pick(&["0", "-0.0", "3.4028234e38", "1.1754944e-38", "1e-45", "16777217"])
                    .to_string(),
                _ => format!("{}e{}", digits(random, 8), random.below(20)),
            },
            Literals::Double => match random.below(3) {
                0 => random
                    .pick(&[
                        "0",
                        "1.7976931348623157e308",
                        "2.2250738585072014e-308",
                        "5e-324",
                        "0.1",
                        "1e22",
                    ])
                    .to_string(),
                _ => format!("-{}.{}e{}", digits(random, 2), digits(random, 17), random.below(200)),
            },
            Literals::Bit(bits) => {
                let mask = if *bits == 64 { u64::MAX } else { (1 << bits) - 1 };
                match random.below(3) {
                    0 => mask.to_string(),
                    1 => "0".to_owned(),
                    _ => (random.bits() & mask).to_string(),
                }
            }
            Literals::Date => quoted(&date(random)),
            Literals::Time(digits) => {
                let hours = *random.pick(&["0", "23", "99", "838", "-838", "-0", "-12"]);
                let minutes = random.below(60);
                let fraction = if hours.ends_with("838") { String::new() } else { fraction(random, *digits) };
                quoted(&format!("{hours}:{minutes:02}:{:02}{fraction}", random.below(60)))
            }
            Literals::DateTime(digits) => {
                let (hour, minute, second) = (random.below(24), random.below(60), random.below(60));
                let date = date(random);
                quoted(&format!("{date} {hour:02}:{minute:02}:{second:02}{}", fraction(random, *digits)))
            }
            Literals::Timestamp(digits) => {
                let whole = *random.pick(&[
                    "1970-01-01 00:00:01",
                    "2038-01-19 03:14:07",
                    "2000-02-29 23:59:59",
                    "0000-00-00 00:00:00",
                    "2026-11-22 15:02:53",
                ]);
                let zero = whole.starts_with("0000") || whole.starts_with("2038");
                let fraction = if zero { String::new() } else { fraction(random, *digits) };
                quoted(&format!("{whole}{fraction}"))
            }
            Literals::Chars { pool, max } => {
                let pool: Vec<char> = pool.chars().collect();
                let len = if random.one_in(4) { *max } else { random.below(max + 1) };
                quoted(&(0..len).map(|_| *random.pick(&pool)).collect::<String>())
            }
            Literals::Bytes { max } => {
                let len = random.below(max + 1);
                let byte = |random: &mut Random| match random.below(3) {
                    0 => 0,
                    _ => random.bits() & 0xff,
                };
                format!("X'{}'", (0..len).map(|_| format!("{:02x}", byte(random))).collect::<String>())
            }
            Literals::Set(count) => {
                let mask = if *count == 64 { u64::MAX } else { (1 << count) - 1 };
                match random.below(3) {
                    0 => "0".to_owned(),
                    1 => mask.to_string(),
                    _ => (random.bits() & mask).to_string(),
                }
            }
            Literals::Enum(count) => match random.below(6) {
                0 => "'no member'".to_owned(),
                1 => count.to_string(),
                _ => (random.below(*count) + 1).to_string(),
            },
            Literals::Json => json(random, 0, true),
            Literals::Vector(dimensions) => {
                let numbers: Vec<_> =
                    (0..*dimensions).map(|_| format!("{}.{}", random.below(9), digits(random, 3))).collect();
                format!("STRING_TO_VECTOR('[{}]')", numbers.join(","))
            }
        }
    }

    /// What to select for the canonical text of a column.
    pub(crate) fn select(&self, column: &str) -> String {
        match self.form {
            Form::Number => format!("CAST({column} + 0 AS CHAR)"),
            Form::Float | Form::Double => format!("CAST({column} AS DOUBLE)"),
            Form::HexText => format!("HEX(CONVERT({column} USING utf8mb4))"),
            Form::HexBytes | Form::Vector => format!("HEX({column})"),
            Form::Geometry => format!("CONCAT(ST_SRID({column}), '\t', ST_AsGeoJSON({column}))"),
            Form::Text | Form::DateTime | Form::Timestamp | Form::Set | Form::Json => {
                format!("CAST({column} AS CHAR CHARACTER SET utf8mb4)")
            }
        }
    }

    /// Whether our JSON says what the server said.
    pub(crate) fn same(&self, ours: &Value, server: Option<&str>) -> bool {
        let Some(server) = server else { return ours.is_null() };
        let text = ours.as_str();
        match self.form {
            Form::Number => ours.as_number().map(ToString::to_string).as_deref() == Some(server),
            Form::Double => ours.as_f64() == server.parse().ok(),
            Form::Float => {
                let float = ours.is_number().then(|| ours.to_string().parse::<f32>().unwrap());
                float.map(f64::from) == server.parse().ok()
            }
            Form::Text => text == Some(server),
            Form::HexText => text.map(str::as_bytes) == Some(&unhex(server)),
            Form::HexBytes => text == Some(&base64::engine::general_purpose::STANDARD.encode(unhex(server))),
            Form::DateTime => text == Some(&server.replace(' ', "T")),
            Form::Timestamp => text == Some(&format!("{}Z", server.replace(' ', "T"))),
            Form::Set => {
                let members: Vec<Value> =
                    server.split(',').filter(|m| !m.is_empty()).map(Value::from).collect();
                ours.as_array() == Some(&members)
            }
            Form::Json => serde_json::from_str::<Value>(server).is_ok_and(|server| same_json(ours, &server)),
            Form::Geometry => geometry(ours, server),
            Form::Vector => {
                let floats = unhex(server);
                let floats = floats.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
                let ours = ours.as_array().into_iter().flatten();
                ours.map(|v| v.to_string().parse::<f32>().unwrap()).eq(floats)
            }
        }
    }
}

fn geometry(ours: &Value, server: &str) -> bool {
    let Some((srid, geo)) = server.split_once('\t') else { return false };
    let Ok(mut geo) = serde_json::from_str::<Value>(geo) else { return false };
    let mut ours = ours.clone();
    let Some(object) = ours.as_object_mut() else { return false };
    let our_srid = object.remove("srid");
    if let Some(geo) = geo.as_object_mut() {
        // MySQL names a foreign reference system there.
        geo.remove("crs");
    }
    our_srid.map(|s| s.to_string()).as_deref() == Some(srid) && same_json(&ours, &geo)
}

/// Equal, numbers by value: `1.0` and `1` are one number.
fn same_json(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => {
            x == y || (x.as_f64() == y.as_f64() && (x.is_f64() || y.is_f64()))
        }
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same_json(x, y))
        }
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(k, x)| y.get(k).is_some_and(|y| same_json(x, y)))
        }
        _ => a == b,
    }
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn int(random: &mut Random, bits: u32, unsigned: bool) -> String {
    let (low, high) = if unsigned {
        (0i128, (1i128 << bits) - 1)
    } else {
        (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1)
    };
    match random.below(5) {
        0 => low.to_string(),
        1 => high.to_string(),
        2 => "0".to_owned(),
        _ => (low + i128::from(random.bits()) % (high - low + 1)).to_string(),
    }
}

fn date(random: &mut Random) -> String {
    match random.below(8) {
        0 => "0000-00-00".to_owned(),
        1 => "2026-00-00".to_owned(),
        2 => "2026-02-31".to_owned(),
        3 => "9999-12-31".to_owned(),
        4 => "0001-01-01".to_owned(),
        _ => format!("{:04}-{:02}-{:02}", random.below(9999) + 1, random.below(12) + 1, random.below(28) + 1),
    }
}

/// An SQL expression of type JSON.
fn json(random: &mut Random, depth: usize, top: bool) -> String {
    let scalar = |text: String| if top { format!("CAST({} AS JSON)", quoted(&text)) } else { text };
    match random.below(if depth > 2 { 9 } else { 12 }) {
        0 => scalar("null".to_owned()),
        1 => scalar("true".to_owned()),
        2 => {
            let unsigned = random.one_in(2);
            scalar(int(random, 64, unsigned))
        }
        3 => scalar(int(random, 16, false)),
        4 => scalar(int(random, 32, true)),
        5 => scalar(format!("{}.{}e{}", random.below(10), random.below(1000), random.below(30))),
        6 => {
            let text: String = (0..random.below(300)).map(|_| *random.pick(&['a', 'ü', '😀', '漢'])).collect();
            scalar(format!("\"{text}\""))
        }
        7 if top => random
            .pick(&[
                "CAST(12.345 AS JSON)",
                "CAST(CAST('2026-11-22 10:11:12.123456' AS DATETIME(6)) AS JSON)",
                "CAST(CAST('-838:59:59' AS TIME) AS JSON)",
                "CAST(CAST('2026-11-22' AS DATE) AS JSON)",
                "JSON_ARRAY(CAST(99999999999999999999999999999999999.000000000000000000000000000001 AS DECIMAL(65,30)))",
                "JSON_OBJECT('t', TIMESTAMP('2026-11-22 10:11:12'), 'b', X'00ff', 'y', CAST(2026 AS YEAR))",
                "JSON_OBJECT('bit', b'101', 'd', -0.000)",
                "CAST(CONCAT(REPEAT('[', 99), '1', REPEAT(']', 99)) AS JSON)",
                "CAST(ST_GeomFromText('POINT(1 2)') AS JSON)",
                "JSON_OBJECT('big', REPEAT('x', 70000), 'small', 1)",
                "JSON_ARRAY(18446744073709551615, -9223372036854775808, 1.5e300, 0.1)",
            ])
            .to_string(),
        8 => scalar("\"\"".to_owned()),
        7 | 9 => {
            let parts: Vec<_> = (0..random.below(5)).map(|_| json(random, depth + 1, false)).collect();
            scalar(format!("[{}]", parts.join(",")))
        }
        _ => {
            let parts: Vec<_> = (0..random.below(5))
                .map(|i| format!("\"k{}{i}\":{}", ["", "ü", "long key "][random.below(3)], json(random, depth + 1, false)))
                .collect();
            scalar(format!("{{{}}}", parts.join(",")))
        }
    }
}
