//! Load that knows what was acknowledged: a writer to Kafka and a counter in ZooKeeper, each with an account that is
//! settled at the end.

use aesop::kafka::read::Reader;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The topic that the writer writes to.
pub(crate) const TOPIC: &str = "load";
/// Its partitions.
pub(crate) const PARTITIONS: i32 = 6;
/// Between two records.
const PACE: Duration = Duration::from_millis(5);

/// Numbers acknowledged by Kafka, and errors that reached the application.
#[derive(Debug, Default)]
struct Account {
    acknowledged: Mutex<Vec<u64>>,
    errors: Mutex<Vec<String>>,
}

#[derive(Clone)]
struct Booking(Arc<Account>);

impl rdkafka::ClientContext for Booking {}

impl ProducerContext for Booking {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<u64>) {
        match result {
            Ok(_) => self.0.acknowledged.lock().unwrap().push(*number),
            Err((error, _)) => self.0.errors.lock().unwrap().push(format!("{number}: {error}")),
        }
    }
}

/// Ends a thread, at the latest when who started it is gone: what a failed test leaves must not write to the next lab.
struct Stop(Arc<AtomicBool>);

impl Stop {
    fn now(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.now();
    }
}

/// A running writer.
pub(crate) struct Writer {
    bootstrap: String,
    settings: Vec<(String, String)>,
    stop: Stop,
    account: Arc<Account>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Starts to write numbers with `acks=all`.
    pub(crate) fn start(bootstrap: &str) -> Self {
        Self::start_with(bootstrap, Vec::new())
    }

    /// The same with further settings of librdkafka: TLS, a user.
    pub(crate) fn start_with(bootstrap: &str, settings: Vec<(String, String)>) -> Self {
        let (stop, account) = (Arc::new(AtomicBool::new(false)), Arc::new(Account::default()));
        let mut config: ClientConfig = settings.iter().cloned().collect();
        let producer: BaseProducer<Booking> = config
            .set("bootstrap.servers", bootstrap)
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .create_with_context(Booking(Arc::clone(&account)))
            .expect("a producer");
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut number = 0_u64;
            while !stopped.load(Ordering::SeqCst) {
                let payload = number.to_string();
                let record =
                    BaseRecord::with_opaque_to(TOPIC, Box::new(number)).key(&payload).payload(&payload);
                match producer.send(record) {
                    Ok(()) => number += 1,
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {}
                    Err((error, _)) => panic!("the producer refuses: {error}"),
                }
                producer.poll(PACE);
            }
            producer.flush(Duration::from_mins(2)).expect("everything is delivered in the end");
        });
        Self { bootstrap: bootstrap.to_owned(), settings, stop: Stop(stop), account, thread }
    }

    /// Numbers acknowledged so far.
    pub(crate) fn acknowledged(&self) -> usize {
        self.account.acknowledged.lock().unwrap().len()
    }

    /// Stops, reads the topic whole, and says what is wrong. Gives back what was acknowledged.
    pub(crate) fn settle(self) -> BTreeSet<u64> {
        self.stop.now();
        self.thread.join().expect("the writer ends");
        let errors = self.account.errors.lock().unwrap();
        assert!(errors.is_empty(), "the producer saw more than retriable errors: {errors:?}");
        let wanted: BTreeSet<u64> = self.account.acknowledged.lock().unwrap().iter().copied().collect();
        let found = numbers(&self.bootstrap, &self.settings, wanted.len());
        let lost: Vec<&u64> = wanted.iter().filter(|number| found.binary_search(number).is_err()).collect();
        assert!(
            lost.is_empty(),
            "{} of {} acknowledged records are lost: {lost:?}",
            lost.len(),
            wanted.len()
        );
        // What comes twice comes of the client (see [`Follower`]); what nobody wrote does not.
        let strange: Vec<&u64> = found.iter().filter(|number| !wanted.contains(number)).collect();
        assert!(strange.is_empty(), "nobody was told of these: {strange:?}");
        eprintln!("    {} records, none lost, {} twice", wanted.len(), found.len() - wanted.len());
        wanted
    }
}

/// A reader that follows the topic while it is written.
pub(crate) struct Follower {
    stop: Stop,
    seen: Arc<Mutex<Seen>>,
    thread: JoinHandle<()>,
}

/// Numbers, with the partition and the offset of each.
type Seen = BTreeMap<u64, (i32, i64)>;

impl Follower {
    /// Starts at the beginning.
    pub(crate) fn start(bootstrap: &str) -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Seen>>::default());
        let mut reader = Reader::new(bootstrap, TOPIC).expect("a reader");
        // A broker hears of a new topic a moment after it was made.
        crate::cluster::wait("the topic's partitions", || {
            reader.refresh().is_ok_and(|count| i32::try_from(count) == Ok(PARTITIONS)).then_some(())
        });
        let (stopped, found) = (Arc::clone(&stop), Arc::clone(&seen));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                // A broker that restarts is an error that passes; what counts is what has been read in the end.
                let Ok(Some(record)) = reader.next(Duration::from_millis(100)) else { continue };
                let text = String::from_utf8(record.value.expect("a value")).expect("UTF-8");
                let place = (record.partition, record.offset);
                let before = found.lock().unwrap().insert(text.parse().expect("a number"), place);
                if let Some(before) = before {
                    // Fetched again, or written again: with librdkafka both happen now and then when leaders change, the
                    // latter even to idempotent producers (its issue 4953). Readers of aesop's topics must bear it.
                    eprintln!("    {text} comes twice: from {before:?} and from {place:?}");
                }
            }
        });
        Self { stop: Stop(stop), seen, thread }
    }

    /// Numbers read so far.
    pub(crate) fn read(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// It gets all that was acknowledged, then it stops.
    pub(crate) fn settle(self, wanted: &BTreeSet<u64>) {
        crate::cluster::wait("the reader", || {
            let seen = self.seen.lock().unwrap();
            wanted.iter().all(|number| seen.contains_key(number)).then_some(())
        });
        self.stop.now();
        self.thread.join().expect("the reader ends");
    }
}

/// All three get on from here.
pub(crate) fn all_go_on(writer: &Writer, reader: &Follower, counter: &Counter) {
    let (written, read, counted) = (writer.acknowledged(), reader.read(), counter.value());
    crate::cluster::wait("records written", || (writer.acknowledged() > written + 50).then_some(()));
    crate::cluster::wait("records read", || (reader.read() > read + 50).then_some(()));
    crate::cluster::wait("counts", || (counter.value() > counted + 50).then_some(()));
}

/// All numbers in the topic, sorted; waits for at least `count`.
pub(crate) fn numbers(bootstrap: &str, settings: &[(String, String)], count: usize) -> Vec<u64> {
    let settings: Vec<(&str, &str)> =
        settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut reader = Reader::with(bootstrap, TOPIC, &settings).expect("a reader");
    reader.refresh().expect("the topic's partitions");
    let deadline = Instant::now() + crate::cluster::PATIENCE;
    let mut found = Vec::new();
    loop {
        match reader.next(Duration::from_secs(2)).expect("a readable topic") {
            Some(record) => {
                let text = String::from_utf8(record.value.expect("a value")).expect("UTF-8");
                found.push(text.parse().expect("a number"));
            }
            None if found.len() >= count || Instant::now() > deadline => break,
            // A broker that has just come back may not know the topic yet.
            None => drop(reader.refresh()),
        }
    }
    found.sort_unstable();
    found
}

/// A counter in ZooKeeper that is raised all the time.
pub(crate) struct Counter {
    servers: String,
    stop: Stop,
    raised: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

const COUNTER: &str = "/counter";

impl Counter {
    /// Starts to count from nothing. `servers` is where it connects to; they need not all be there yet.
    pub(crate) fn start(servers: &str) -> Self {
        let (stop, raised) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted, all) = (Arc::clone(&stop), Arc::clone(&raised), servers.to_owned());
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(count(&all, &stopped, &counted));
        });
        Self { servers: servers.to_owned(), stop: Stop(stop), raised, thread }
    }

    /// Acknowledged so far.
    pub(crate) fn value(&self) -> u64 {
        self.raised.load(Ordering::SeqCst)
    }

    /// Stops; ZooKeeper must not have forgotten what it acknowledged.
    pub(crate) fn settle(self, servers: &str) {
        self.stop.now();
        self.thread.join().expect("the counter ends");
        let acknowledged = self.raised.load(Ordering::SeqCst);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (data, stat) = runtime.block_on(async {
            let client = zookeeper::Client::connect(servers).await.expect("ZooKeeper answers");
            client.sync(COUNTER).await.expect("a sync");
            client.get_data(COUNTER).await.expect("the counter")
        });
        let value: u64 = String::from_utf8(data).expect("UTF-8").parse().expect("a number");
        assert!(value >= acknowledged, "acknowledged {acknowledged}, {} says {value}", self.servers);
        // Each write carried the version that it had read: a forgotten write would leave a gap between the two.
        assert_eq!(u64::try_from(stat.version).expect("a version"), value, "the counter and its version");
        eprintln!("    counted to {value}, acknowledged {acknowledged}");
    }
}

/// Reads the counter, writes it plus one at the version read, for ever; a write whose fate is unknown is looked up.
async fn count(servers: &str, stop: &AtomicBool, raised: &AtomicU64) {
    let options = zookeeper::CreateMode::Persistent.with_acls(zookeeper::Acls::anyone_all());
    while !stop.load(Ordering::SeqCst) {
        let connector = zookeeper::Client::connector().with_session_timeout(Duration::from_secs(10));
        let Ok(client) = connector.connect(servers).await else {
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        };
        match client.create(COUNTER, b"0", &options).await {
            Ok(_) | Err(zookeeper::Error::NodeExists) => {}
            Err(_) => continue,
        }
        while !stop.load(Ordering::SeqCst) {
            let Ok((data, stat)) = client.get_data(COUNTER).await else { break };
            let value: u64 = String::from_utf8(data).expect("UTF-8").parse().expect("a number");
            let seen = raised.load(Ordering::SeqCst);
            assert!(value >= seen, "ZooKeeper forgot: acknowledged {seen}, it says {value}");
            let next = (value + 1).to_string();
            if client.set_data(COUNTER, next.as_bytes(), Some(stat.version)).await.is_err() {
                break;
            }
            raised.store(value + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
