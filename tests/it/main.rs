//! Tests of the program as a whole that need neither root nor network; one binary. What needs real hosts is in
//! tests/lab.

#![expect(clippy::unwrap_used, clippy::string_slice, reason = "a test fails by panicking")]

mod architecture;
mod cases;
mod docs;
#[path = "../common/document.rs"]
mod document;
mod help;
