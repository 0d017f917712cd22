//! What a stream reads: the log, or what is read again for it until it has reached the log.

use super::connection::End;
use super::hub::Served;
use super::lookback::{Opened, Refused};
use crate::log::{Found, Log, Mark, ReadError, Reader};
use crate::position::Position;
use crate::schema::SchemaId;
use crate::wire::Sealed;
use crate::wire::frame::{ErrorCode, ErrorFrame, StartFrom};
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

/// Where a stream begins.
enum Sought {
    /// In the log.
    Log(StartFrom),
    /// Before it.
    Back(Opened),
}

enum State<'a> {
    /// Looking for the place.
    Seeking(BoxFuture<'a, Result<Sought, End>>),
    /// Of the log.
    Log(Reader),
    /// Of what is read again.
    Back { reader: Reader, opened: Opened },
    /// Nothing is taken now: neither a seat nor a file is held. Goes on here.
    Resting(Mark),
}

/// A stream's reader.
pub(super) struct Reading<'a> {
    served: &'a Served,
    state: State<'a>,
    /// Parts of blocks are sent, not whole ones.
    copying: bool,
    /// Where the blocks to come begin to be wanted, until somebody asks: the first may begin earlier.
    begins: Option<Position>,
}

impl From<Refused> for End {
    fn from(Refused { code, definite, message }: Refused) -> Self {
        Self::Told(ErrorFrame { code, definite, message })
    }
}

impl<'a> Reading<'a> {
    /// From a place on, for a stream that may want parts of blocks only.
    pub(super) fn new(served: &'a Served, from: StartFrom, copying: bool) -> Self {
        let state = match from {
            StartFrom::Gtid(_) | StartFrom::Time(_) => State::Seeking(seek(served, from).boxed()),
            StartFrom::Position { .. } | StartFrom::Earliest | StartFrom::Latest => {
                State::Log(served.log.reader(from).copying(copying))
            }
        };
        Self { served, state, copying, begins: None }
    }

    /// The last block, and what was made of it, are sent.
    pub(super) fn sent(&mut self) {
        match &mut self.state {
            State::Log(reader) | State::Back { reader, .. } => reader.done(),
            State::Seeking(_) | State::Resting(_) => {}
        }
    }

    fn reader(&self, log: &Log, from: StartFrom) -> Reader {
        log.reader(from).copying(self.copying)
    }

    /// The next block. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Sealed, End> {
        loop {
            self.join();
            match &mut self.state {
                State::Resting(mark) => {
                    let position = mark.position;
                    self.begins = Some(position);
                    let from = StartFrom::Position { position, rows: 0 };
                    self.state = State::Log(self.reader(&self.served.log, from));
                }
                State::Seeking(sought) => {
                    let sought = sought.await?;
                    self.found(sought);
                }
                State::Log(reader) => match reader.next().await {
                    Err(ReadError::BelowLowest { wanted, .. }) if self.served.look_back().is_some() => {
                        let from = StartFrom::Position { position: wanted, rows: 0 };
                        self.state = State::Seeking(back(self.served, from).boxed());
                    }
                    block => return Ok(block?),
                },
                State::Back { reader, opened } => {
                    let block = tokio::select! {
                        biased;
                        block = reader.next() => block,
                        refused = opened.seat.failed() => return Err(refused.into()),
                    };
                    match block {
                        // No event begins at the place itself: with the first one behind it.
                        Err(ReadError::BelowLowest { lowest, .. }) if opened.log.is_first(&lowest) => {
                            *reader = opened.log.reader(StartFrom::Earliest).copying(self.copying);
                        }
                        // Others read faster and drove it on: from this place on anew.
                        Err(ReadError::BelowLowest { wanted, .. }) => {
                            let from = StartFrom::Position { position: wanted, rows: 0 };
                            self.state = State::Seeking(back(self.served, from).boxed());
                        }
                        Err(error) => return Err(error.into()),
                        Ok(block) => {
                            opened.seat.at(reader.segment().unwrap_or(0));
                            return Ok(block);
                        }
                    }
                }
            }
        }
    }

    /// How far this stream has read.
    pub(super) fn covered(&self) -> Option<Mark> {
        match &self.state {
            State::Seeking(_) => None,
            State::Log(reader) | State::Back { reader, .. } => reader.covered(),
            State::Resting(mark) => Some(mark.clone()),
        }
    }

    /// Gives up what others may want, a place among the readers of what is read again and the log's files, until the next
    /// block is asked for. Nothing is lost by it. An error where that cannot be: inside a transaction of what is read again.
    pub(super) fn rest(&mut self) -> Result<(), End> {
        match &self.state {
            State::Log(reader) | State::Back { reader, .. } if !reader.is_inside() => {
                if let Some(mark) = reader.covered() {
                    self.state = State::Resting(mark);
                }
                Ok(())
            }
            State::Back { .. } => Err(Refused {
                code: ErrorCode::Busy,
                definite: false,
                message:
                    "nothing is taken of a transaction that is read again, and others wait: come back for it"
                        .to_owned(),
            }
            .into()),
            State::Seeking(_) | State::Log(_) | State::Resting(_) => Ok(()),
        }
    }

    /// From where on the blocks to come are wanted; said once.
    pub(super) fn begins(&mut self) -> Option<Position> {
        self.begins.take()
    }

    /// Whether the next block can be had without reading from disk or waiting.
    pub(super) fn is_ready(&self) -> bool {
        match &self.state {
            State::Seeking(_) | State::Resting(_) => false,
            State::Log(reader) | State::Back { reader, .. } => reader.is_ready(),
        }
    }

    /// A schema's definition.
    pub(super) fn schema(&self, id: SchemaId) -> Option<Bytes> {
        let again = match &self.state {
            State::Back { opened, .. } => opened.log.schema(id),
            State::Seeking(_) | State::Log(_) | State::Resting(_) => None,
        };
        again.or_else(|| self.served.log.schema(id))
    }

    fn found(&mut self, sought: Sought) {
        self.state = match sought {
            Sought::Log(from) => {
                if let StartFrom::Position { position, .. } = from {
                    self.begins = Some(position);
                }
                State::Log(self.reader(&self.served.log, from))
            }
            Sought::Back(opened) => {
                if let StartFrom::Position { position, .. } = opened.from {
                    self.begins = Some(position);
                }
                State::Back { reader: self.reader(&opened.log, opened.from.clone()), opened }
            }
        };
    }

    /// Goes on in the log once what was read again has reached its beginning. Between transactions only.
    fn join(&mut self) {
        let State::Back { reader, .. } = &self.state else { return };
        let (Some(mark), Some(lowest)) = (reader.covered(), self.served.log.state().lowest) else { return };
        if mark.position >= lowest.position && !reader.is_inside() {
            let position = mark.position;
            self.begins = Some(position);
            let from = StartFrom::Position { position, rows: 0 };
            self.state = State::Log(self.reader(&self.served.log, from));
        }
    }
}

async fn seek(served: &Served, from: StartFrom) -> Result<Sought, End> {
    let found = match &from {
        StartFrom::Gtid(set) => served.log.find_gtids(set, &served.read()).await?,
        StartFrom::Time(time_us) => served.log.find_time(*time_us).await?,
        StartFrom::Position { .. } | StartFrom::Earliest | StartFrom::Latest => {
            return Ok(Sought::Log(from));
        }
    };
    match found {
        Found::At(position) => Ok(Sought::Log(StartFrom::Position { position, rows: 0 })),
        Found::Older => back(served, from).await,
    }
}

async fn back(served: &Served, from: StartFrom) -> Result<Sought, End> {
    let Some(look_back) = served.look_back() else {
        return Err(
            ReadError::Unsupported("what was asked for is older than the relay's log".to_owned()).into()
        );
    };
    Ok(Sought::Back(look_back.open(from).await?))
}
