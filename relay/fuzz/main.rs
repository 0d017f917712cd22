//! Fuzzing of everything that reads bytes of others: a panic, a hang or memory without bound is a fault.
//!
//! `cargo test -p relay --test fuzz` mutates seeds for a while, the same way each time; `AESOP_FUZZ_ROUNDS` (mutations a
//! target) and `AESOP_FUZZ_SEED` make it longer, and another one. With arguments, `TARGET FILE…`, each file is one
//! input: what an engine such as AFL or honggfuzz runs, and how a finding is run again. A finding is kept in a file.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test may panic, and tells what it is doing"
)]

#[path = "../tests/database/random.rs"]
#[allow(dead_code, reason = "the oracle uses more of it")]
mod random;
mod targets;

use random::Random;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use targets::{TARGETS, Target};

/// Mutations of a target, unless `AESOP_FUZZ_ROUNDS` says otherwise.
const ROUNDS: usize = 20_000;
/// Longest input: enough for several events.
const MAX_BYTES: usize = 1 << 16;

fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}: {text}")))
}

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if let Some((name, files)) = arguments.split_first() {
        let Some(target) = TARGETS.iter().find(|target| target.name == name) else {
            eprintln!("no target {name}: {}", TARGETS.iter().map(|t| t.name).collect::<Vec<_>>().join(", "));
            return ExitCode::from(2);
        };
        for file in files {
            (target.run)(&std::fs::read(file).expect("a readable file"));
        }
        return ExitCode::SUCCESS;
    }
    let (rounds, seed) = (number("AESOP_FUZZ_ROUNDS", ROUNDS), number("AESOP_FUZZ_SEED", 1));
    let mut found = false;
    for target in TARGETS {
        found |= !fuzz(target, rounds, u64::try_from(seed).unwrap_or(1));
    }
    if found { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Runs one target; false when an input made it panic.
fn fuzz(target: &Target, rounds: usize, seed: u64) -> bool {
    let mut random = Random::new(seed);
    // What was understood to the end is mutated further.
    let mut pool = (target.seeds)();
    let mut understood = 0usize;
    for seed in &mut pool {
        // A format description in a file that is being written has another flag than its checksum.
        (target.repair)(seed);
        assert!((target.run)(seed), "{}: a seed is understood", target.name);
    }
    for _ in 0..rounds {
        let mut input = random.pick(&pool).clone();
        for _ in 0..=random.below(4) {
            mutate(&mut input, &pool, &mut random);
        }
        input.truncate(MAX_BYTES);
        if !random.one_in(8) {
            (target.repair)(&mut input);
        }
        match catch_unwind(AssertUnwindSafe(|| (target.run)(&input))) {
            Ok(true) => {
                understood += 1;
                if pool.len() < 500 {
                    pool.push(input);
                }
            }
            Ok(false) => {}
            Err(_) => {
                let file = std::env::temp_dir().join(format!("aesop-fuzz-{}-{seed}", target.name));
                std::fs::write(&file, &input).expect("a writable temporary folder");
                eprintln!("{}: panicked; run it again with: {} {}", target.name, target.name, file.display());
                return false;
            }
        }
    }
    eprintln!("{}: {rounds} inputs, {understood} understood", target.name);
    true
}

/// One change: bits, numbers that are often wrong, pieces taken out, doubled, or from elsewhere.
fn mutate(input: &mut Vec<u8>, pool: &[Vec<u8>], random: &mut Random) {
    if input.is_empty() {
        input.push(0);
    }
    let at = random.below(input.len());
    let piece = |of: &[u8], random: &mut Random| {
        let from = random.below(of.len().max(1));
        let to = (from + random.below(64) + 1).min(of.len());
        of.get(from..to).unwrap_or_default().to_vec()
    };
    match random.below(7) {
        0 => input[at] ^= 1 << random.below(8),
        1 => input[at] = u8::try_from(random.below(256)).unwrap(),
        2 => input[at] = *random.pick(&[0, 1, 0x7f, 0x80, 0xfb, 0xfc, 0xfd, 0xfe, 0xff]),
        3 => {
            let end = (at + random.below(16)).min(input.len());
            drop(input.drain(at..end));
        }
        4 => {
            let piece = piece(input, random);
            drop(input.splice(at..at, piece));
        }
        5 => {
            let other: &Vec<u8> = random.pick(pool);
            let piece = piece(other, random);
            let end = (at + piece.len()).min(input.len());
            drop(input.splice(at..end, piece));
        }
        _ => {
            let value =
                random.pick(&[0u32, 1, 0xff, 0xffff, 0x7fff_ffff, 0x8000_0000, u32::MAX]).to_le_bytes();
            for (byte, new) in input.iter_mut().skip(at).zip(value) {
                *byte = new;
            }
        }
    }
}
