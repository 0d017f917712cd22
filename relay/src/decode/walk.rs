//! Rows of an event that is too large to be held: taken as their bytes come, one row in memory at a time, and of a row
//! over the bound its key alone.

use super::bytes::uint_le;
use super::rows::{self, Encoding, Rows, RowsKind};
use super::table_map::bit;
use super::value::{self, Extent};
use super::{DecodeError, partial};
use crate::schema::TableSchema;
use std::sync::Arc;

/// What a walk takes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// What says whether documents come as steps.
    Options,
    /// Which of them do.
    Steps,
    /// The null bitmap.
    Nulls,
    /// The length of a value.
    Length,
    /// A value.
    Value,
}

/// The key's columns of an image, as an image of fewer columns.
#[derive(Debug)]
struct Key {
    present: Vec<u8>,
    nulls_len: usize,
    kept: usize,
    row: Vec<u8>,
}

impl Key {
    fn new(schema: &TableSchema, present: &[u8]) -> Self {
        let columns = schema.columns.len();
        let mut kept = vec![0; columns.div_ceil(8)];
        let mut keep = |index: usize| {
            if let Some(byte) = kept.get_mut(index / 8) {
                *byte |= 1 << (index % 8);
            }
        };
        let mut there = (0..columns).filter(|index| bit(present, *index));
        let mut count = 0;
        for index in there.clone().filter(|index| schema.key.contains(index)) {
            keep(index);
            count += 1;
        }
        // An image has some column; this one stays NULL, and is left out later: it is no key's.
        if let (0, Some(first)) = (count, there.next()) {
            keep(first);
            count = 1;
        }
        Self { present: kept, nulls_len: usize::div_ceil(count, 8), kept: 0, row: Vec::new() }
    }

    fn begin(&mut self) {
        self.kept = 0;
        self.row.clear();
        // NULL until there is a value.
        self.row.resize(self.nulls_len, 0xff);
    }

    /// The next of its columns.
    fn column(&mut self, null: bool) {
        if !null && let Some(byte) = self.row.get_mut(self.kept / 8) {
            *byte &= !(1 << (self.kept % 8));
        }
        self.kept += 1;
    }
}

/// Where a walk through the rows of an event is.
#[derive(Debug)]
pub(crate) struct Walk {
    schema: Arc<TableSchema>,
    table_id: u64,
    /// Of each image of a row: one, or two of an update.
    present: Vec<Vec<u8>>,
    keys: Vec<Key>,
    encoding: Encoding,
    limit: usize,
    /// The row so far, while it is within the limit.
    row: Vec<u8>,
    /// Bytes of its images so far.
    bytes: usize,
    image: usize,
    /// The next column of the table, and how many of the image came before it.
    column: usize,
    passed: usize,
    nulls: Vec<u8>,
    part: Part,
    /// Bytes that the part still needs.
    left: usize,
    /// The part so far, unless it is a value.
    front: Vec<u8>,
    /// The value is of the key.
    of_key: bool,
}

impl Walk {
    /// For the rows of an event with this front, whose rows are `encoding`, if not compressed.
    pub(crate) fn new(
        schema: &Arc<TableSchema>,
        event: &Rows<'_>,
        kind: RowsKind,
        encoding: Encoding,
        limit: usize,
    ) -> Self {
        let mut present = vec![event.present.to_vec()];
        if kind == RowsKind::Update {
            present.push(event.present_after.to_vec());
        }
        let mut walk = Self {
            keys: present.iter().map(|present| Key::new(schema, present)).collect(),
            schema: Arc::clone(schema),
            table_id: event.table_id,
            present,
            encoding,
            limit,
            row: Vec::new(),
            bytes: 0,
            image: 0,
            column: 0,
            passed: 0,
            nulls: Vec::new(),
            part: Part::Nulls,
            left: 0,
            front: Vec::new(),
            of_key: false,
        };
        walk.begin_row();
        walk
    }

    /// Takes the next bytes, and hands on each row that ends in them as an event of one row.
    pub(crate) fn push<E: From<DecodeError>>(
        &mut self,
        mut input: &[u8],
        each: &mut impl FnMut(&Rows<'_>, Encoding) -> Result<(), E>,
    ) -> Result<(), E> {
        while !input.is_empty() {
            let (taken, rest) = input.split_at_checked(self.left).unwrap_or((input, &[]));
            input = rest;
            self.take(taken)?;
            while self.left == 0 {
                if !self.step()? {
                    continue;
                }
                self.hand_on(each)?;
                self.begin_row();
                if input.is_empty() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The event ends here.
    pub(crate) fn finish(&self) -> Result<(), DecodeError> {
        let between = self.bytes == 0 && self.front.is_empty() && self.image == 0;
        if between { Ok(()) } else { Err(DecodeError::Truncated("row")) }
    }

    fn begin_row(&mut self) {
        self.row.clear();
        self.bytes = 0;
        self.image = 0;
        self.keys.iter_mut().for_each(Key::begin);
        self.begin_image();
    }

    fn begin_image(&mut self) {
        (self.column, self.passed) = (0, 0);
        if self.encoding == Encoding::Partial && self.image == 1 {
            self.expect(Part::Options, 1);
        } else {
            self.expect_nulls();
        }
    }

    fn expect(&mut self, part: Part, bytes: usize) {
        (self.part, self.left) = (part, bytes);
        self.front.clear();
    }

    fn expect_nulls(&mut self) {
        let present = self.present.get(self.image).map_or(&[][..], Vec::as_slice);
        self.expect(Part::Nulls, rows::count_ones(present, self.schema.columns.len()).div_ceil(8));
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        self.left -= bytes.len();
        // What tells of steps is not counted: a row is as large as its images.
        if !matches!(self.part, Part::Options | Part::Steps) {
            self.bytes = self.bytes.saturating_add(bytes.len());
        }
        if self.bytes <= self.limit {
            self.row.extend_from_slice(bytes);
        } else {
            self.row = Vec::new();
        }
        if self.part != Part::Value {
            self.front.extend_from_slice(bytes);
        }
        if self.of_key && matches!(self.part, Part::Length | Part::Value) {
            self.keep(bytes)?;
        }
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        let Some(key) = self.keys.get_mut(self.image) else { return Ok(()) };
        if key.row.len().saturating_add(bytes.len()) > self.limit {
            return Err(DecodeError::Unsupported(format!(
                "the primary key's columns of a row of {}.{} alone have more bytes than max_row_bytes of the source: raise it \
                 (256 MiB at most), or leave the table out",
                self.schema.database, self.schema.table
            )));
        }
        key.row.extend_from_slice(bytes);
        Ok(())
    }

    /// A part is whole: says what comes next; true where a row ends.
    fn step(&mut self) -> Result<bool, DecodeError> {
        match self.part {
            Part::Options => {
                let options = self.front.first().copied().unwrap_or_default();
                match partial::steps_len(&self.schema, u64::from(options))? {
                    Some(len) => self.expect(Part::Steps, len),
                    None => self.expect_nulls(),
                }
                return Ok(false);
            }
            Part::Steps => {
                self.expect_nulls();
                return Ok(false);
            }
            Part::Nulls => std::mem::swap(&mut self.nulls, &mut self.front),
            Part::Length => {
                let len = usize::try_from(uint_le(&self.front)).unwrap_or(usize::MAX);
                self.expect(Part::Value, len);
                return Ok(false);
            }
            Part::Value => {}
        }
        self.front.clear();
        if self.next_column() {
            return Ok(false);
        }
        self.image += 1;
        if self.image < self.present.len() {
            self.begin_image();
            return Ok(false);
        }
        if self.bytes == 0 { Err(DecodeError::Invalid("row without bytes")) } else { Ok(true) }
    }

    /// Goes to the next column with a value; false at the end of the image.
    fn next_column(&mut self) -> bool {
        let Some(present) = self.present.get(self.image) else { return false };
        while let Some(column) = self.schema.columns.get(self.column) {
            let index = self.column;
            self.column += 1;
            if !bit(present, index) {
                continue;
            }
            let null = bit(&self.nulls, self.passed);
            self.passed += 1;
            self.of_key = self.schema.key.contains(&index);
            if self.of_key
                && let Some(key) = self.keys.get_mut(self.image)
            {
                key.column(null);
            }
            if null {
                continue;
            }
            match value::extent(&column.kind) {
                Extent::Fixed(bytes) => self.expect(Part::Value, bytes),
                Extent::Prefixed(bytes) => self.expect(Part::Length, bytes),
            }
            return true;
        }
        false
    }

    fn hand_on<E: From<DecodeError>>(
        &mut self,
        each: &mut impl FnMut(&Rows<'_>, Encoding) -> Result<(), E>,
    ) -> Result<(), E> {
        let whole = self.bytes <= self.limit;
        if !whole {
            self.row = self.keys.iter().flat_map(|key| &key.row).copied().collect();
        }
        let present = |image: usize| {
            let of =
                if whole { self.present.get(image) } else { self.keys.get(image).map(|key| &key.present) };
            of.map_or(&[][..], Vec::as_slice)
        };
        let rows = Rows {
            table_id: self.table_id,
            columns: self.schema.columns.len(),
            present: present(0),
            present_after: present(1),
            data: &self.row,
            cut: if whole { 0 } else { self.bytes.saturating_sub(self.row.len()) },
        };
        each(&rows, if whole { self.encoding } else { Encoding::Plain })
    }
}
