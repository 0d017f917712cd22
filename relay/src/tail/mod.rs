//! `aesop-relay tail`: a server's row changes as JSON lines on stdout, relay and consumer in one process.

mod checkpoint;
mod kafka;
mod out;
mod printer;
mod progress;
mod target;

use crate::config::{self, Format};
use crate::format::Formatter;
use crate::mysql::source::{self, Ended, Job};
use crate::mysql::{Error, Remembered, Start, StatusCell, snapshot};
use anyhow::Context as _;
use checkpoint::Checkpoint;
use kafka::KafkaOut;
use out::{Lines, Out};
use printer::{PrintError, Printer};
use progress::Progress;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between lines of progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// A `server_id` that `tail` takes lies above this: far from the small numbers people give their servers.
const SERVER_ID_BASE: u32 = 1 << 31;

/// The `--from` that shows the rows there are, first.
const FROM_SNAPSHOT: &str = "snapshot";

/// What to show, and from where.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The server: `mysql://user[:password]@host[:port]/[?tls=disabled|preferred|required|verify_ca|verify_identity][&ca=FILE]`.
    pub url: String,
    /// Tables to show: globs `database.table`, a leading `!` excludes, the last match wins; all but the system's by
    /// default.
    #[arg(long, value_delimiter = ',')]
    pub tables: Vec<String>,
    /// Columns to leave out: globs `database.table.column`.
    #[arg(long, value_delimiter = ',')]
    pub exclude_columns: Vec<String>,
    /// The most bytes of one row, its old and its new image together.
    #[arg(long, value_name = "BYTES", default_value_t = config::MAX_ROW_BYTES)]
    pub max_row_bytes: u64,
    /// What becomes of a row that has more: stop there, or `leave_out` all but its key.
    #[arg(long, value_enum, default_value_t)]
    pub oversize: config::Oversize,
    /// What becomes of changes that were logged as statements, so that their rows are not known: stop there, or
    /// `leave_out` and warn.
    #[arg(long, value_enum, default_value_t)]
    pub hidden_changes: config::HiddenChanges,
    /// Where names of columns come from: the binlog's row metadata, or where it lacks them, as far as they can be known,
    /// `best_effort` from `information_schema`.
    #[arg(long, value_enum, default_value_t)]
    pub schema: config::SchemaFrom,
    /// Where to begin: snapshot (all rows as they are, then what changes), earliest, latest, a time like 2026-11-22T15:00:00Z, an SCN or a GTID set. Default: the checkpoint if there is one, else latest.
    #[arg(long)]
    pub from: Option<String>,
    /// End when everything that was committed at the start is shown.
    #[arg(long)]
    pub until_caught_up: bool,
    /// Shape of the JSON: aesop, debezium, maxwell or aesop-v1.
    #[arg(long, default_value = "aesop")]
    pub format: Format,
    /// Appends the lines to this file, which is on disk before a place is kept; the beginning of a line at its end, left
    /// by a crash, is cut off.
    #[arg(long, value_name = "FILE", conflicts_with = "kafka")]
    pub output: Option<PathBuf>,
    /// Writes to Kafka: `host:port` of some brokers.
    #[arg(long, value_name = "BROKERS", value_delimiter = ',')]
    pub kafka: Vec<String>,
    /// Settings for Kafka, a YAML file: the keys of `sink: {kafka: …}` of a consumer group as in consumer.yml, but
    /// `bootstrap` and `format`.
    #[arg(long, value_name = "FILE", requires = "kafka")]
    pub kafka_settings: Option<PathBuf>,
    /// Keeps the place in this file, and goes on from there the next time.
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// File with the password; else it is taken from the URL or from `AESOP_PASSWORD`.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// The `server_id` to replicate with; must differ from every other replica's.
    #[arg(long)]
    pub server_id: Option<u32>,
    /// The source's name in the messages.
    #[arg(long, default_value = "tail")]
    pub source: String,
}

impl Args {
    fn writes_to_stdout(&self) -> bool {
        self.output.is_none() && self.kafka.is_empty()
    }

    fn out(&self, shutdown: &CancellationToken) -> anyhow::Result<Box<dyn Out + Send>> {
        let formatter = Formatter::new(self.format);
        if let Some(path) = &self.output {
            let file = out::append(path).with_context(|| format!("cannot write to {}", path.display()))?;
            return Ok(Box::new(Lines::new(file, formatter)));
        }
        if self.kafka.is_empty() {
            return Ok(Box::new(Lines::new(std::io::stdout(), formatter)));
        }
        let settings = kafka::settings(self.kafka_settings.as_deref(), &self.kafka, self.format)?;
        Ok(Box::new(KafkaOut::open(settings, &self.source, shutdown.clone())?))
    }
}

/// Shows changes until `shutdown`, or until caught up if asked to.
pub async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let target = target::parse(&args)?;
    // Whoever says where to begin does not need it.
    let checkpoint = match &args.checkpoint {
        Some(path) if args.from.is_none() => Checkpoint::load(path)?,
        _ => None,
    };
    let takes_snapshot = args.from.as_deref().is_some_and(|from| from.trim() == FROM_SNAPSHOT);
    let start = match (&args.from, &checkpoint) {
        // Until it is known.
        (Some(_), _) if takes_snapshot => Start::Latest,
        (Some(from), _) => from.parse().context("--from (which takes snapshot too)")?,
        (None, Some(checkpoint)) => checkpoint.start(),
        (None, None) => Start::Latest,
    };
    let branches = beside(args.checkpoint.as_deref(), "xa");
    let definitions_path = beside(args.checkpoint.as_deref(), "definitions");
    let definitions = match args.schema {
        config::SchemaFrom::BestEffort => Some(Remembered::open(definitions_path.clone())),
        config::SchemaFrom::RowMetadata => {
            Remembered::forget(&definitions_path);
            None
        }
    };
    let mut job = Job {
        name: args.source.clone(),
        config: config::Source {
            mysql: target.mysql,
            tables: args.tables.clone(),
            exclude_columns: args.exclude_columns.clone(),
            start: "latest".to_owned(),
            max_row_bytes: args.max_row_bytes,
            oversize: args.oversize,
            hidden_changes: args.hidden_changes,
            schema: args.schema,
        },
        password: target.password,
        epoch: 1,
        expected_server: checkpoint.map(|checkpoint| checkpoint.server_uuid),
        start,
        counts_gtids: false,
        executed: None,
        definitions: definitions.clone(),
        branches: branches.clone(),
        pace: None,
        until_caught_up: args.until_caught_up,
    };
    let status = Arc::new(StatusCell::default());
    let mut progress = Progress::here(args.writes_to_stdout());
    let out = args.out(&shutdown)?;
    let mut printer = Printer::new(out, args.source.clone(), args.checkpoint.clone(), Arc::clone(&status));
    let taken = if takes_snapshot {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => Ok(Some(Ended::Shutdown)),
            taken = take_snapshot(&mut job, &mut printer, &status, &mut progress) => taken.map(|()| None),
        }
    } else {
        Ok(None)
    };
    let ended = match taken {
        Ok(Some(ended)) => Ok(ended),
        Err(error) => Err(error),
        Ok(None) => {
            let read = source::run(&job, &mut printer, &status, &shutdown);
            tokio::pin!(read);
            let mut ticks = tokio::time::interval(PROGRESS_EVERY);
            loop {
                tokio::select! {
                    ended = &mut read => break ended,
                    _ = ticks.tick() => progress.show(&status),
                }
            }
        }
    };
    progress.end(&status);
    if args.checkpoint.is_none() {
        // Not there unless a branch was met.
        drop(std::fs::remove_dir_all(&branches));
        Remembered::forget(&definitions_path);
    }
    match ended {
        Ok(Ended::Shutdown | Ended::CaughtUp) => Ok(printer.finish()?),
        // The reader of our output has gone, or we are to end: nothing is wrong.
        Err(Error::Sink(error)) if printer::is_end(error.as_ref()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Shows all rows as they are at one place, from which the job then goes on.
async fn take_snapshot(
    job: &mut Job,
    printer: &mut Printer,
    status: &StatusCell,
    progress: &mut Progress,
) -> Result<(), Error> {
    let sink = |error: PrintError| Error::Sink(Box::new(error));
    let snapshot = snapshot::begin(job).await?;
    let (server, place) = (snapshot.server().clone(), snapshot.place());
    job.start = Start::At(place);
    job.expected_server = Some(server.server_uuid.clone());
    let file_name = Arc::clone(snapshot.file_name());
    status.update(|s| {
        s.server = Some(server.clone());
        s.file_name = file_name;
        s.end_offset = place.offset;
    });
    printer.begin_snapshot().map_err(sink)?;
    let told_of = |now: &snapshot::Progress| progress.show_snapshot(now);
    let rows = snapshot
        .rows(job, told_of, |header, row, change| printer.read(header, row, change, &server.server_uuid));
    rows.await?;
    printer.end_snapshot(place).map_err(sink)
}

/// Where things wait: beside the checkpoint, else in a place of this run.
fn beside(checkpoint: Option<&Path>, what: &str) -> PathBuf {
    match checkpoint {
        Some(path) => {
            let mut name = path.as_os_str().to_owned();
            name.push(".");
            name.push(what);
            name.into()
        }
        None => std::env::temp_dir().join(format!("aesop-tail-{what}-{}", uuid::Uuid::new_v4())),
    }
}
