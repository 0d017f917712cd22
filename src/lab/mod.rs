//! Real hosts on one machine, for the demo and the tests.

pub mod shop;
