//! Where rows go: lines on stdout or in a file. Kafka is in [`super::kafka`].

use super::printer::PrintError;
use crate::format::{Formatter, RowContext};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::path::Path;

/// Output is written in pieces of about this size.
const WRITE_CHUNK: usize = 256 << 10;
/// Bytes looked at at a time for the end of the last whole line.
const LOOK_BACK: u64 = 64 << 10;

/// Takes rows in order.
pub(super) trait Out {
    /// Takes a row.
    fn row(&mut self, row: &RowContext<'_>) -> Result<(), PrintError>;
    /// Nothing more comes for now.
    fn flush(&mut self) -> Result<(), PrintError>;
    /// Comes back when all rows taken are where they should be; what was seen before is then kept as the place to go on
    /// from. False: told to end before.
    fn settle(&mut self) -> Result<bool, PrintError>;
}

/// A row a line.
#[derive(Debug)]
pub(super) struct Lines<W> {
    out: W,
    formatter: Formatter,
    buffer: Vec<u8>,
}

/// What lines are written to.
pub(super) trait Target: Write {
    /// What was written survives a crash, as far as it can.
    fn sync(&mut self) -> io::Result<()>;
}

impl Target for io::Stdout {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Target for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

impl<W: Target> Lines<W> {
    pub(super) fn new(out: W, formatter: Formatter) -> Self {
        Self { out, formatter, buffer: Vec::new() }
    }

    fn write_out(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

impl<W: Target> Out for Lines<W> {
    fn row(&mut self, row: &RowContext<'_>) -> Result<(), PrintError> {
        self.formatter.value(row, &mut self.buffer)?;
        self.buffer.push(b'\n');
        if self.buffer.len() >= WRITE_CHUNK {
            self.write_out()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), PrintError> {
        self.write_out()?;
        Ok(self.out.flush()?)
    }

    fn settle(&mut self) -> Result<bool, PrintError> {
        self.flush()?;
        self.out.sync()?;
        Ok(true)
    }
}

/// Opens a file to append to. The beginning of a line at its end, left by a crash, is cut off: that row comes again.
pub(super) fn append(path: &Path) -> io::Result<File> {
    let mut file = File::options().create(true).read(true).append(true).open(path)?;
    let mut end = file.seek(SeekFrom::End(0))?;
    let whole = loop {
        let from = end.saturating_sub(LOOK_BACK);
        let mut piece = vec![0; usize::try_from(end - from).map_err(io::Error::other)?];
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(&mut piece)?;
        if let Some(at) = piece.iter().rposition(|byte| *byte == b'\n') {
            break from + u64::try_from(at + 1).map_err(io::Error::other)?;
        }
        if from == 0 {
            break 0;
        }
        end = from;
    };
    if whole < file.metadata()?.len() {
        file.set_len(whole)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_line_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows");
        let long = "x".repeat(usize::try_from(LOOK_BACK).unwrap() * 2);
        for (there, left) in [
            (String::new(), ""),
            ("a\nb\n".into(), "a\nb\n"),
            ("a\nb".into(), "a\n"),
            ("a".into(), ""),
            (format!("a\n{long}"), "a\n"),
        ] {
            std::fs::write(&path, there).unwrap();
            append(&path).unwrap().write_all(b"c\n").unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{left}c\n"));
        }
    }
}
