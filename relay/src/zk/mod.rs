//! The only place that knows znode paths and payloads.

pub mod types;
