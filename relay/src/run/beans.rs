//! The bean of a source.

use super::source::Source;
use crate::log::{LogState, Mark};
use crate::mysql::{State, Status};
use crate::position::Position;
use crate::telemetry::{Bean, Kind, ObjectName, Registry, Value};
use std::sync::Arc;

/// Registers `aesop.relay:type=Source,name=<source>`; every attribute is worked out when it is read.
pub(super) fn register(registry: &Registry, source: &Arc<Source>) -> Bean {
    let bean = registry.bean(ObjectName::new("aesop.relay", &[("type", "Source"), ("name", &source.name)]));
    let status = |attribute, kind, read: fn(&Status) -> Value| {
        let source = Arc::clone(source);
        bean.computed(attribute, kind, move || read(&source.status.get()));
    };
    status("State", Kind::Info, |status| Value::Text(word(status.state).to_owned()));
    status("Connected", Kind::Gauge, |status| Value::Bool(status.state == State::Streaming));
    status("LastError", Kind::Text, |status| Value::Text(status.last_error.clone().unwrap_or_default()));
    status("TimeLagMs", Kind::Gauge, time_lag_ms);
    status("MilliSecondsSinceLastEvent", Kind::Gauge, |status| match status.last_event_at_us {
        0 => Value::Null,
        at => Value::Int((super::now_us() - at).max(0) / 1000),
    });
    status("TransactionsTotal", Kind::Counter, |status| Value::Uint(status.transactions_total));
    status("RowsTotal", Kind::Counter, |status| Value::Uint(status.rows_total));
    status("OversizeRowsTotal", Kind::Counter, |status| Value::Uint(status.oversize_rows_total));
    status("HiddenChangesTotal", Kind::Counter, |status| Value::Uint(status.hidden_changes_total));
    status("InsertsTotal", Kind::Counter, |status| Value::Uint(status.inserts_total));
    status("UpdatesTotal", Kind::Counter, |status| Value::Uint(status.updates_total));
    status("DeletesTotal", Kind::Counter, |status| Value::Uint(status.deletes_total));
    status("StatementsTotal", Kind::Counter, |status| Value::Uint(status.statements_total));
    status("ServerUuid", Kind::Info, |status| {
        Value::Text(status.server.as_ref().map_or_else(String::new, |server| server.server_uuid.clone()))
    });
    status("GtidSet", Kind::Text, |status| {
        Value::Text(status.executed.as_ref().map_or_else(String::new, |executed| executed.gtids.clone()))
    });
    status("BytesReadTotal", Kind::Counter, |status| Value::Uint(status.bytes_read_total));
    status("DisconnectsTotal", Kind::Counter, |status| Value::Uint(status.disconnects_total));
    let log = |attribute, kind, read: fn(&LogState) -> Value| {
        let source = Arc::clone(source);
        bean.computed(attribute, kind, move || source.log().map_or(Value::Null, |log| read(&log.state())));
    };
    log("MinScn", Kind::Gauge, |state| scn(state.lowest.as_ref().map(|lowest| lowest.position)));
    log("MaxScn", Kind::Gauge, |state| scn(state.last.as_ref().map(|last| last.position)));
    log("MaxPositionFile", Kind::Text, |state| {
        Value::Text(state.covered.as_ref().map_or_else(String::new, |covered| covered.file_name.clone()))
    });
    log("MaxPositionOffset", Kind::Gauge, |state| {
        let offset = |covered: &Mark| Value::Uint(covered.position.offset);
        state.covered.as_ref().map_or(Value::Null, offset)
    });
    log("LastCommitTimeUs", Kind::Gauge, |state| match state.last_commit_time_us {
        0 => Value::Null,
        at => Value::Int(at),
    });
    log("Epoch", Kind::Gauge, |state| {
        let epoch = |covered: &Mark| Value::Uint(covered.position.epoch.into());
        state.covered.as_ref().map_or(Value::Null, epoch)
    });
    log("LogTimeSpanMs", Kind::Gauge, |state| match &state.lowest {
        Some(lowest) if lowest.commit_time_us > 0 => {
            Value::Int((state.last_commit_time_us - lowest.commit_time_us).max(0) / 1000)
        }
        _ => Value::Null,
    });
    log("LogBytes", Kind::Gauge, |state| Value::Uint(state.bytes));
    bean
}

fn scn(position: Option<Position>) -> Value {
    position.map_or(Value::Null, |position| Value::Uint(position.scn().0))
}

const fn word(state: State) -> &'static str {
    match state {
        State::Connecting => "connecting",
        State::Streaming => "streaming",
        State::Stopped => "stopped",
    }
}

/// By the server's clock; nothing while the source is read to its end, unknown before the first event.
fn time_lag_ms(status: &Status) -> Value {
    if status.caught_up {
        return Value::Int(0);
    }
    let offset = status.server.as_ref().map_or(0, |server| server.clock_offset_us);
    match status.last_commit_time_us {
        0 => Value::Null,
        at => Value::Int((super::now_us() + offset - at).max(0) / 1000),
    }
}
