//! Which C library a binary needs: the highest `GLIBC_x.y` among the versions that its dynamic section asks for.
//! Format: ELF-64, gabi "Section Header" and the Linux Standard Base's "Version Requirements".

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// `SHT_GNU_verneed`.
const VERNEED: u32 = 0x6fff_fffe;
/// A table of names or versions is a few hundred bytes; more is no binary of ours.
const TABLE_BYTES_MAX: u64 = 1 << 20;
const SECTION_BYTES: u64 = 64;

/// The version; none for what is no such binary, or needs no glibc.
pub(super) fn glibc_needed(path: &Path) -> Option<(u32, u32)> {
    let file = File::open(path).ok()?;
    let head = bytes(&file, 0, 64)?;
    if head.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let (table, count) = (u64_at(&head, 40)?, u64::from(u16_at(&head, 60)?));
    let section = |index: u64| bytes(&file, table + index * SECTION_BYTES, SECTION_BYTES);
    for index in 0..count {
        let header = section(index)?;
        if u32_at(&header, 4)? == VERNEED {
            let names = section(u64::from(u32_at(&header, 40)?))?;
            let needs = content(&file, &header)?;
            return highest(&needs, &content(&file, &names)?);
        }
    }
    None
}

fn content(file: &File, header: &[u8]) -> Option<Vec<u8>> {
    bytes(file, u64_at(header, 24)?, u64_at(header, 32)?)
}

/// Walks the libraries, and the versions of each.
fn highest(needs: &[u8], names: &[u8]) -> Option<(u32, u32)> {
    let mut best = None;
    let mut library = 0;
    loop {
        let mut version = library + usize::try_from(u32_at(needs, library + 8)?).ok()?;
        loop {
            let name = names.get(usize::try_from(u32_at(needs, version + 8)?).ok()?..)?;
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            best = best.max(std::str::from_utf8(name).ok().and_then(glibc));
            match u32_at(needs, version + 12)? {
                0 => break,
                next => version += usize::try_from(next).ok()?,
            }
        }
        match u32_at(needs, library + 12)? {
            0 => return best,
            next => library += usize::try_from(next).ok()?,
        }
    }
}

fn glibc(name: &str) -> Option<(u32, u32)> {
    let mut parts = name.strip_prefix("GLIBC_")?.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

fn bytes(file: &File, at: u64, count: u64) -> Option<Vec<u8>> {
    let mut buffer = vec![0; usize::try_from(count.min(TABLE_BYTES_MAX)).ok()?];
    file.read_exact_at(&mut buffer, at).ok()?;
    Some(buffer)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The oracle is this very program: it runs here, so what it needs cannot be newer than what is here.
    #[test]
    fn this_program_needs_a_glibc_that_is_here() {
        let needed = glibc_needed(&std::env::current_exe().unwrap()).expect("a dynamic binary");
        let said = std::process::Command::new("getconf").arg("GNU_LIBC_VERSION").output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let here = glibc(&format!("GLIBC_{}", said.trim().rsplit(' ').next().unwrap())).unwrap();
        assert!((2, 2) < needed && needed <= here, "{needed:?} {here:?}");
    }

    #[test]
    fn what_is_no_binary_needs_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "#!/bin/sh\n").unwrap();
        assert_eq!(glibc_needed(file.path()), None);
    }
}
