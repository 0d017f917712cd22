//! What relay and consumer say of themselves: beans of numbers, read as `/metrics` and `/jolokia`, health, logs,
//! and the word to systemd.
//!
//! The two HTTP views show the same numbers: attribute `RowsTotal` of `aesop.relay:type=Source,name=shop` is
//! `aesop_relay_source_rows_total{source="shop"}`.

mod http;
mod jolokia;
mod logs;
mod name;
mod process;
mod prometheus;
mod registry;
mod systemd;

pub use http::{Health, HttpError, bind, serve};
pub use logs::{init as init_logs, init_over_progress as init_logs_over_progress};
pub use name::ObjectName;
pub use process::register as register_process;
pub use registry::{Bean, Counter, Flag, Gauge, Kind, Registry, Text, Value};
pub use systemd::notify;
