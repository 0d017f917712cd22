use super::*;
use crate::event::{TxnEnd, TxnStart};
use crate::log::Options;
use crate::position::Position;
use crate::serve::Served;
use crate::telemetry::Registry;
use std::collections::BTreeMap;

/// A source whose log holds one transaction and the beginning of another.
fn source(dir: &Path) -> (Source, Writer) {
    let options = Options::new(dir.join("shop/log"), u64::MAX, u64::MAX);
    let (log, mut writer) = Log::open(options).unwrap();
    begin(&mut writer, 100);
    writer.commit(TxnEnd { end_offset: 200 }).unwrap();
    writer.flush().unwrap();
    begin(&mut writer, 200);
    let served = BTreeMap::from([("shop".to_owned(), Served::new(log))]);
    let hub = Arc::new(Hub::new("c", served, Registry::default()));
    let config: config::Source =
        serde_yaml::from_str("{mysql: {host: db, user: u, server_id: 7}, start: earliest}").unwrap();
    let look_back = Arc::new(LookBacks::new("shop", config.clone(), &dir.join("shop")));
    (Source::new("shop".into(), "r1".into(), config, dir, hub, look_back, None), writer)
}

fn begin(writer: &mut Writer, offset: u64) {
    let start = TxnStart {
        position: Position::new(1, 1, offset),
        file_name: "b.000001".into(),
        gtid: None,
        server_id: 1,
        commit_time_us: 1,
    };
    writer.begin(start).unwrap();
}

/// Waits until the source has stopped; what it says then.
async fn stopped(source: &Source) -> String {
    loop {
        if let Some(Obstacle::Stopped(why)) = source.obstacle() {
            return why;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_fault_stops_the_source_in_sight_and_it_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let (source, writer) = source(dir.path());
    let session: Session = |_, _, _| Box::pin(async { panic!("no row {}", 7) });
    let mut reading = Box::pin(read(&source, writer, session));
    let why = tokio::select! {
        () = &mut reading => unreachable!("it is looked at again"),
        why = tokio::time::timeout(Duration::from_secs(20), stopped(&source)) => why.unwrap(),
    };
    assert_eq!(why, "source shop has stopped: a fault of the program: no row 7; upgrade it");
    assert!(!source.stop.is_cancelled());
}

/// The transaction that was open is no more: it is read again.
#[tokio::test]
async fn what_a_fault_has_left_open_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let (source, mut writer) = source(dir.path());
    let fault: Fault = Box::new("no row");
    let failure = source.faulted(&mut writer, &fault);
    assert!(matches!(failure, Failure::Definite(_)));
    begin(&mut writer, 200);
    writer.commit(TxnEnd { end_offset: 300 }).unwrap();
    writer.flush().unwrap();
    assert_eq!(source.log.state().covered.unwrap().position.offset, 300);
}

#[tokio::test]
async fn a_fault_while_the_log_is_written_stops_the_source_until_the_relay_is_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let (source, writer) = source(dir.path());
    let session: Session = |source, _, _| {
        source.writing.store(true, Ordering::Relaxed);
        Box::pin(async { panic!("no block") })
    };
    let reading = tokio::time::timeout(Duration::from_secs(20), read(&source, writer, session));
    reading.await.expect("reading ends");
    let why = stopped(&source).await;
    assert_eq!(
        why,
        "source shop has stopped: a fault of the program, writing its log: no block: restart the relay, and upgrade it"
    );
    assert_eq!(source.log.state().covered.unwrap().position.offset, 200, "what the log has is served");
}
