//! MySQL's partial updates of JSON columns: the steps from the old document to the new one, applied.
//!
//! Documents stay in the server's binary form: containers are taken apart where a path leads, scalars and untouched
//! documents are carried over byte for byte, so that a DECIMAL or a date in a document stays what it is.

use super::DecodeError;
use super::bytes::{Bytes, uint_le};

/// The server's own limit.
const MAX_DEPTH: u32 = 100;
const INVALID: DecodeError = DecodeError::Invalid("partial update of a JSON document");

const REPLACE: u8 = 0;
const INSERT: u8 = 1;
const REMOVE: u8 = 2;

/// A document.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    /// Its type, and its bytes.
    Scalar(u8, Vec<u8>),
    /// Sorted as the server sorts keys: by length, then by bytes.
    Object(Vec<(Vec<u8>, Node)>),
    Array(Vec<Node>),
}

/// A step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Leg {
    Member(Vec<u8>),
    Cell(usize),
}

/// Applies the steps to a document in binary form; appends the new one.
pub(crate) fn apply(document: &[u8], steps: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let mut input = Bytes::new(steps, "partial update of a JSON document");
    if input.is_empty() {
        out.extend_from_slice(document);
        return Ok(());
    }
    let mut root = parse(document)?;
    while !input.is_empty() {
        let operation = input.u8()?;
        let legs = path(input.lenenc_bytes()?)?;
        let value = if operation == REMOVE { None } else { Some(parse(input.lenenc_bytes()?)?) };
        step(&mut root, operation, &legs, value)?;
    }
    write(&root, out)
}

fn step(root: &mut Node, operation: u8, legs: &[Leg], value: Option<Node>) -> Result<(), DecodeError> {
    let Some((last, parents)) = legs.split_last() else {
        // The document as a whole.
        *root = value.filter(|_| operation == REPLACE).ok_or(INVALID)?;
        return Ok(());
    };
    let mut node = root;
    for leg in parents {
        node = child(node, leg).ok_or(INVALID)?;
    }
    match (operation, value) {
        (REPLACE, Some(value)) => *child(node, last).ok_or(INVALID)? = value,
        (INSERT, Some(value)) => match (node, last) {
            (Node::Object(members), Leg::Member(key)) => {
                let at = members.binary_search_by(|(known, _)| order(known, key));
                members.insert(at.err().ok_or(INVALID)?, (key.clone(), value));
            }
            (Node::Array(cells), Leg::Cell(at)) => cells.insert((*at).min(cells.len()), value),
            _ => return Err(INVALID),
        },
        (REMOVE, None) => match (node, last) {
            (Node::Object(members), Leg::Member(key)) => {
                let at = members.binary_search_by(|(known, _)| order(known, key));
                members.remove(at.map_err(|_| INVALID)?);
            }
            (Node::Array(cells), Leg::Cell(at)) if *at < cells.len() => drop(cells.remove(*at)),
            _ => return Err(INVALID),
        },
        _ => return Err(INVALID),
    }
    Ok(())
}

fn order(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

fn child<'a>(node: &'a mut Node, leg: &Leg) -> Option<&'a mut Node> {
    match (node, leg) {
        (Node::Object(members), Leg::Member(key)) => {
            let at = members.binary_search_by(|(known, _)| order(known, key)).ok()?;
            members.get_mut(at).map(|(_, value)| value)
        }
        (Node::Array(cells), Leg::Cell(at)) => cells.get_mut(*at),
        // A scalar is its own first cell.
        (node @ Node::Scalar(..), Leg::Cell(0)) => Some(node),
        _ => None,
    }
}

/// `$.name."quoted name"[7]`.
fn path(text: &[u8]) -> Result<Vec<Leg>, DecodeError> {
    let mut rest = text.strip_prefix(b"$").ok_or(INVALID)?;
    let mut legs = Vec::new();
    while let Some((head, tail)) = rest.split_first() {
        let len = match (head, tail.first()) {
            (b'.', Some(b'"')) => {
                let (len, name) = quoted(tail)?;
                legs.push(Leg::Member(name));
                len
            }
            (b'.', Some(_)) => {
                let len = tail.iter().position(|byte| matches!(byte, b'.' | b'[')).unwrap_or(tail.len());
                legs.push(Leg::Member(tail.get(..len).unwrap_or_default().to_vec()));
                len
            }
            (b'[', _) => {
                let len = tail.iter().position(|byte| *byte == b']').ok_or(INVALID)?;
                let digits = std::str::from_utf8(tail.get(..len).unwrap_or_default()).map_err(|_| INVALID)?;
                legs.push(Leg::Cell(digits.trim().parse().map_err(|_| INVALID)?));
                len + 1
            }
            _ => return Err(INVALID),
        };
        rest = tail.get(len..).ok_or(INVALID)?;
    }
    Ok(legs)
}

/// A JSON string at the front; its length in the text, and what it says.
fn quoted(text: &[u8]) -> Result<(usize, Vec<u8>), DecodeError> {
    let mut at = 1;
    loop {
        match text.get(at).ok_or(INVALID)? {
            b'\\' => at += 2,
            b'"' => break,
            _ => at += 1,
        }
    }
    let json = text.get(..=at).ok_or(INVALID)?;
    let name: String = serde_json::from_slice(json).map_err(|_| INVALID)?;
    Ok((at + 1, name.into_bytes()))
}

fn parse(document: &[u8]) -> Result<Node, DecodeError> {
    // Stored by servers in place of an invalid document, and shown as null.
    let Some((kind, body)) = document.split_first() else { return Ok(Node::Scalar(4, vec![0])) };
    Parser { budget: document.len() * 2 + 16 }.node(*kind, body, 0)
}

struct Parser {
    /// A document that refers to the same bytes again and again could otherwise grow without bound.
    budget: usize,
}

impl Parser {
    fn spend(&mut self, amount: usize) -> Result<(), DecodeError> {
        self.budget = self.budget.checked_sub(amount).ok_or(INVALID)?;
        Ok(())
    }

    fn node(&mut self, kind: u8, body: &[u8], depth: u32) -> Result<Node, DecodeError> {
        self.spend(1)?;
        let mut input = Bytes::new(body, "JSON document");
        let len = match kind {
            0..=3 if depth >= MAX_DEPTH => return Err(INVALID),
            0 => return self.container(body, true, 2, depth),
            1 => return self.container(body, true, 4, depth),
            2 => return self.container(body, false, 2, depth),
            3 => return self.container(body, false, 4, depth),
            4 => 1,
            5 | 6 => 2,
            7 | 8 => 4,
            9..=11 => 8,
            12 | 15 => {
                if kind == 15 {
                    input.u8()?;
                }
                let len = varint(&mut input)?;
                input.take(len)?;
                body.len() - input.rest().len()
            }
            _ => return Err(INVALID),
        };
        self.spend(len)?;
        Ok(Node::Scalar(kind, body.get(..len).ok_or(INVALID)?.to_vec()))
    }

    fn container(
        &mut self,
        body: &[u8],
        object: bool,
        width: usize,
        depth: u32,
    ) -> Result<Node, DecodeError> {
        let number = |bytes: &[u8]| usize::try_from(uint_le(bytes)).map_err(|_| INVALID);
        let mut input = Bytes::new(body, "JSON document");
        let (count, size) = (number(input.take(width)?)?, number(input.take(width)?)?);
        let body = body.get(..size).ok_or(INVALID)?;
        let entries = if object { count.checked_mul(width + 2).ok_or(INVALID)? } else { 0 };
        let mut keys = Bytes::new(input.take(entries)?, "JSON document");
        let (mut members, mut cells) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let kind = input.u8()?;
            let entry = input.take(width)?;
            let value =
                if inline(kind, width) { entry } else { body.get(number(entry)?..).ok_or(INVALID)? };
            let value = self.node(kind, value, depth + 1)?;
            if object {
                let offset = number(keys.take(width)?)?;
                let len = usize::from(keys.u16()?);
                self.spend(len)?;
                let key = body.get(offset..offset.checked_add(len).ok_or(INVALID)?).ok_or(INVALID)?;
                members.push((key.to_vec(), value));
            } else {
                cells.push(value);
            }
        }
        Ok(if object { Node::Object(members) } else { Node::Array(cells) })
    }
}

/// Literals and 16-bit numbers stand in a container's entry itself, 32-bit ones in wide entries.
fn inline(kind: u8, width: usize) -> bool {
    matches!(kind, 4..=6) || (width == 4 && matches!(kind, 7 | 8))
}

/// A length in seven bits a byte, lowest first.
fn varint(input: &mut Bytes<'_>) -> Result<usize, DecodeError> {
    let mut len = 0usize;
    for shift in [0, 7, 14, 21, 28] {
        let byte = input.u8()?;
        len |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(len);
        }
    }
    Err(INVALID)
}

/// Appends a document with its type.
fn write(node: &Node, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let start = out.len();
    out.push(0);
    let kind = write_body(node, out)?;
    if let Some(byte) = out.get_mut(start) {
        *byte = kind;
    }
    Ok(())
}

/// Appends a document without its type, and says which it is.
fn write_body(node: &Node, out: &mut Vec<u8>) -> Result<u8, DecodeError> {
    let (object, count) = match node {
        Node::Scalar(kind, bytes) => {
            out.extend_from_slice(bytes);
            return Ok(*kind);
        }
        Node::Object(members) => (true, members.len()),
        Node::Array(cells) => (false, cells.len()),
    };
    let start = out.len();
    let kind = if object { 0 } else { 2 };
    if u16::try_from(count).is_ok() && write_container(node, count, 2, out)? {
        return Ok(kind);
    }
    out.truncate(start);
    if write_container(node, count, 4, out)? { Ok(kind + 1) } else { Err(INVALID) }
}

/// Appends a container with counts and offsets of this width; false when they do not reach.
fn write_container(node: &Node, count: usize, width: usize, out: &mut Vec<u8>) -> Result<bool, DecodeError> {
    let start = out.len();
    let limit =
        if width == 2 { usize::from(u16::MAX) } else { usize::try_from(u32::MAX).unwrap_or(usize::MAX) };
    let put = |out: &mut Vec<u8>, at: usize, number: usize| {
        let bytes = u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
        if let (Some(place), Some(bytes)) = (out.get_mut(at..at + width), bytes.get(..width)) {
            place.copy_from_slice(bytes);
        }
    };
    let members: &[(Vec<u8>, Node)] = if let Node::Object(members) = node { members } else { &[] };
    let keys_at = start + 2 * width;
    let values_at = keys_at + members.len() * (width + 2);
    out.resize(values_at + count * (width + 1), 0);
    for (index, (key, _)) in members.iter().enumerate() {
        let at = keys_at + index * (width + 2);
        let offset = out.len() - start;
        put(out, at, offset);
        let len = u16::try_from(key.len()).map_err(|_| INVALID)?.to_le_bytes();
        if let Some(place) = out.get_mut(at + width..at + width + 2) {
            place.copy_from_slice(&len);
        }
        out.extend_from_slice(key);
    }
    let cells: &[Node] = if let Node::Array(cells) = node { cells } else { &[] };
    for (index, value) in members.iter().map(|(_, value)| value).chain(cells).enumerate() {
        let at = values_at + index * (width + 1);
        let kind = match value {
            Node::Scalar(kind, bytes) if inline(*kind, width) => {
                if let Some(place) = out.get_mut(at + 1..at + 1 + bytes.len()) {
                    place.copy_from_slice(bytes);
                }
                *kind
            }
            Node::Scalar(..) | Node::Object(_) | Node::Array(_) => {
                let offset = out.len() - start;
                put(out, at + 1, offset);
                write_body(value, out)?
            }
        };
        if let Some(byte) = out.get_mut(at) {
            *byte = kind;
        }
        if out.len() - start > limit {
            return Ok(false);
        }
    }
    let size = out.len() - start;
    put(out, start, count);
    put(out, start + width, size);
    Ok(size <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::json;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn node(value: &Value) -> Node {
        match value {
            Value::Null => Node::Scalar(4, vec![0]),
            Value::Bool(is) => Node::Scalar(4, vec![if *is { 1 } else { 2 }]),
            Value::Number(number) => Node::Scalar(9, number.as_i64().unwrap().to_le_bytes().to_vec()),
            Value::String(text) => {
                let (mut bytes, mut len) = (Vec::new(), text.len());
                while len > 0x7f {
                    bytes.push(u8::try_from(len & 0x7f).unwrap() | 0x80);
                    len >>= 7;
                }
                bytes.push(u8::try_from(len).unwrap());
                bytes.extend_from_slice(text.as_bytes());
                Node::Scalar(12, bytes)
            }
            Value::Array(cells) => Node::Array(cells.iter().map(node).collect()),
            Value::Object(members) => {
                let mut members: Vec<_> =
                    members.iter().map(|(key, value)| (key.as_bytes().to_vec(), node(value))).collect();
                members.sort_by(|(a, _), (b, _)| order(a, b));
                Node::Object(members)
            }
        }
    }

    fn binary(value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        write(&node(value), &mut out).unwrap();
        out
    }

    fn text(binary: &[u8]) -> Value {
        let mut out = Vec::new();
        json::write(binary, &mut out).unwrap();
        serde_json::from_slice(&out).unwrap()
    }

    fn diff(operation: u8, path: &str, value: Option<&Value>) -> Vec<u8> {
        let mut bytes = vec![operation, u8::try_from(path.len()).unwrap()];
        bytes.extend_from_slice(path.as_bytes());
        if let Some(value) = value {
            let value = binary(value);
            bytes.push(u8::try_from(value.len()).unwrap());
            bytes.extend_from_slice(&value);
        }
        bytes
    }

    fn applied(document: &Value, steps: &[u8]) -> Option<Value> {
        let mut out = Vec::new();
        apply(&binary(document), steps, &mut out).ok().map(|()| text(&out))
    }

    #[test]
    fn steps_replace_insert_and_remove() {
        let document = json!({"a": [1, {"b c": 2}, 3], "d": "x", "é": null});
        let mut steps = diff(REPLACE, "$.a[1].\"b c\"", Some(&json!("new")));
        steps.extend(diff(INSERT, "$.a[9]", Some(&json!([]))));
        steps.extend(diff(REMOVE, "$.a[0]", None));
        steps.extend(diff(INSERT, "$.\"q\\\"\"", Some(&json!(true))));
        steps.extend(diff(REMOVE, "$.d", None));
        assert_eq!(
            applied(&document, &steps),
            Some(json!({"a": [{"b c": "new"}, 3, []], "é": null, "q\"": true}))
        );
        assert_eq!(applied(&document, &[]), Some(document));
    }

    #[test]
    fn steps_that_lead_nowhere_are_errors() {
        let document = json!({"a": [1]});
        for steps in [
            diff(REPLACE, "$.b", Some(&json!(1))),
            diff(REMOVE, "$.a[1]", None),
            diff(INSERT, "$.a", Some(&json!(1))),
            diff(REMOVE, "$", None),
            diff(REMOVE, "$.a[x]", None),
            diff(7, "$.a", None),
        ] {
            assert_eq!(applied(&document, &steps), None);
        }
    }

    #[test]
    fn a_container_that_outgrows_small_offsets_becomes_large() {
        let big = "x".repeat(70_000);
        let document = json!({"big": big, "n": [1, 2]});
        let steps = diff(REPLACE, "$.n[1]", Some(&json!({"z": 3})));
        assert_eq!(applied(&document, &steps), Some(json!({"big": big, "n": [1, {"z": 3}]})));
    }

    fn documents() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,20}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::btree_map(".{0,6}", inner, 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn documents_are_written_as_they_were_read(document in documents()) {
            let bytes = binary(&document);
            prop_assert_eq!(text(&bytes), document);
            prop_assert_eq!(&parse(&bytes).unwrap(), &parse(&bytes).unwrap());
            let mut again = Vec::new();
            write(&parse(&bytes).unwrap(), &mut again).unwrap();
            prop_assert_eq!(again, bytes);
        }

        #[test]
        fn arbitrary_bytes_never_panic(document in proptest::collection::vec(any::<u8>(), 0..64), steps in proptest::collection::vec(any::<u8>(), 0..64)) {
            drop(apply(&document, &steps, &mut Vec::new()));
            drop(path(&steps));
        }
    }
}
