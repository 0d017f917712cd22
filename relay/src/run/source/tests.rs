use super::*;
use crate::event::{TxnEnd, TxnStart};
use crate::position::Position;
use crate::telemetry::Registry;
use std::collections::BTreeMap;
use std::path::Path;

/// A source whose log is not opened yet.
fn closed(dir: &Path) -> Source {
    let relay: RelayConfig = serde_yaml::from_str(&format!(
        "{{cluster: c, id: r1, listen: '127.0.0.1:1', advertise: '127.0.0.1:1', http_listen: '127.0.0.1:2', data_dir: {}, \
         sources: {{shop: {{mysql: {{host: db, user: u, server_id: 7}}, start: earliest}}}}}}",
        dir.display()
    ))
    .unwrap();
    let registry = Registry::default();
    let hub = Arc::new(Hub::new("c", BTreeMap::new(), registry.clone()));
    Source::new("shop".into(), relay.sources["shop"].clone(), &relay, hub, &registry, None)
}

/// A source whose log holds one transaction and the beginning of another.
async fn source(dir: &Path) -> (Source, Writer) {
    let source = closed(dir);
    let mut writer = source.open().await.unwrap();
    begin(&mut writer, 100);
    writer.commit(TxnEnd { end_offset: 200 }).unwrap();
    writer.flush().unwrap();
    begin(&mut writer, 200);
    (source, writer)
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
    let (source, writer) = source(dir.path()).await;
    let session: Session = |_, _, _| Box::pin(async { panic!("no row {}", 7) });
    let mut reading = Box::pin(read(&source, Ok(writer), session));
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
    let (source, mut writer) = source(dir.path()).await;
    let fault: Fault = Box::new("no row");
    let failure = source.faulted(&mut writer, &fault);
    assert!(matches!(failure, Failure::Definite(_)));
    begin(&mut writer, 200);
    writer.commit(TxnEnd { end_offset: 300 }).unwrap();
    writer.flush().unwrap();
    assert_eq!(source.log().unwrap().state().covered.unwrap().position.offset, 300);
}

#[tokio::test]
async fn a_fault_while_the_log_is_written_stops_the_source_until_the_relay_is_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let (source, writer) = source(dir.path()).await;
    let session: Session = |source, _, _| {
        source.writing.store(true, Ordering::Relaxed);
        Box::pin(async { panic!("no block") })
    };
    let reading = tokio::time::timeout(Duration::from_secs(20), read(&source, Ok(writer), session));
    reading.await.expect("reading ends");
    let why = stopped(&source).await;
    assert_eq!(
        why,
        "source shop has stopped: a fault of the program, writing its log: no block: restart the relay, and upgrade it"
    );
    assert_eq!(
        source.log().unwrap().state().covered.unwrap().position.offset,
        200,
        "what the log has is served"
    );
}

#[tokio::test]
async fn a_log_is_served_once_it_can_be_opened() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shop/log");
    std::fs::create_dir(dir.path().join("shop")).unwrap();
    std::fs::write(&path, "not a directory").unwrap();
    let source = closed(dir.path());
    assert_eq!(source.open().await.err(), Some(MAX_PAUSE));
    assert!(stopped(&source).await.contains(&format!("or move {} away", path.display())));
    assert!(source.log().is_none() && source.hub.source("shop").is_none());
    std::fs::rename(&path, dir.path().join("away")).unwrap();
    let session: Session = |_, _, _| Box::pin(std::future::pending());
    let reading = read(&source, Err(Duration::from_millis(1)), session);
    let opened = async {
        while source.log().is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = reading => unreachable!("it is read on"),
        opened = tokio::time::timeout(Duration::from_secs(20), opened) => opened.unwrap(),
    }
    assert!(source.log().is_some() && source.hub.source("shop").is_some());
}
