//! The ledger on disk: one SQLite file a run, so that a run of hours can be killed, continued and proven, and
//! looked at afterwards.
//!
//! | table | a row for |
//! | --- | --- |
//! | `run` | the run: its plan and target |
//! | `start` | each part without interruption |
//! | `settled` | each message with an outcome: `settled` is when it was acknowledged (µs), or −1 refused, −2 unknown |
//! | `delivered` | each record read; `visible_us` is null for what came while nobody read |
//! | `position` | each partition of the target: where reading goes on; written with what was read |
//!
//! One thread writes, a transaction for what has gathered; each is on disk before the next.

use std::{
    ops::RangeInclusive,
    path::Path,
    sync::{Arc, mpsc::Receiver},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    Error, Shape,
    notes::{Kept, Note, Notes, Past, Start, Starts},
    payload::RunId,
};
use crate::verify::Observed;

/// Notes gather this long, or until they are so many.
const GATHER: Duration = Duration::from_millis(100);
const GATHERED: usize = 20_000;

const SCHEMA: &str = "
    CREATE TABLE run (
        only INTEGER PRIMARY KEY CHECK (only = 0),
        seed INTEGER NOT NULL, count INTEGER NOT NULL, rate REAL NOT NULL,
        delay_from_ms INTEGER NOT NULL, delay_to_ms INTEGER NOT NULL, due TEXT NOT NULL,
        size INTEGER NOT NULL, keys INTEGER NOT NULL, headers INTEGER NOT NULL,
        topic TEXT NOT NULL, start_ms INTEGER, may_have_sent INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE start (first INTEGER NOT NULL, start_ms INTEGER NOT NULL);
    CREATE TABLE settled (number INTEGER PRIMARY KEY, sent_us INTEGER NOT NULL, settled INTEGER NOT NULL);
    CREATE TABLE delivered (
        partition INTEGER NOT NULL, offset INTEGER NOT NULL,
        number INTEGER, checksum INTEGER NOT NULL, append_ms INTEGER NOT NULL, visible_us INTEGER,
        PRIMARY KEY (partition, offset)
    ) WITHOUT ROWID;
    CREATE TABLE position (partition INTEGER PRIMARY KEY, next INTEGER NOT NULL);
";

/// A ledger that is being written.
#[derive(Debug)]
pub struct Book {
    pub(super) notes: Notes,
    pub(super) past: Option<Past>,
    writer: JoinHandle<rusqlite::Result<()>>,
}

impl Book {
    /// A new ledger for a run that has not begun.
    ///
    /// # Errors
    /// A file that is there, and one that cannot be written.
    pub fn create(file: &Path, shape: &Shape, topic: &str) -> Result<Self, Error> {
        if file.exists() {
            let told = format!("{} is there already: --continue goes on with its run", file.display());
            return Err(Error::Settings(told));
        }
        let connection = connect(file)?;
        connection.execute_batch(SCHEMA)?;
        // SQLite's integers are signed: the seed's bits are what is kept.
        let insert = "INSERT INTO run (only, seed, count, rate, delay_from_ms, delay_to_ms, due, size, keys, \
                      headers, topic) VALUES (0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        let (from_ms, to_ms) = (shape.delays_ms.start(), shape.delays_ms.end());
        let (seed, count) = (shape.seed.cast_signed(), shape.count.cast_signed());
        let (size, keys, headers) = (shape.size as i64, shape.keys, shape.headers);
        connection.execute(
            insert,
            params![seed, count, shape.rate, from_ms, to_ms, shape.due.name(), size, keys, headers, topic],
        )?;
        Self::start(connection, None)
    }

    /// The ledger of a run that was interrupted, with its plan and its target.
    ///
    /// # Errors
    /// A file that is not there, or not a ledger.
    pub fn open(file: &Path) -> Result<(Self, Shape, String), Error> {
        if !file.exists() {
            return Err(Error::Settings(format!("{} is not there", file.display())));
        }
        let connection = connect(file)?;
        let (shape, topic) = read_plan(&connection)?;
        let past = read_past(&connection, shape.seed)?;
        Ok((Self::start(connection, past)?, shape, topic))
    }

    fn start(connection: Connection, past: Option<Past>) -> Result<Self, Error> {
        let (notes, queue, kept) = Notes::new();
        let write = move || {
            let written = write(connection, &queue, &kept);
            if written.is_err() {
                kept.broke();
            }
            written
        };
        let writer = thread::Builder::new().name("ledger".to_owned()).spawn(write);
        let writer = writer.map_err(|error| Error::Settings(format!("no thread for the ledger: {error}")))?;
        Ok(Self { notes, past, writer })
    }

    /// Waits until all of it is on disk.
    ///
    /// # Errors
    /// What kept notes from being written.
    pub fn close(self) -> Result<(), Error> {
        self.notes.put(Note::Ends);
        match self.writer.join() {
            Ok(written) => Ok(written?),
            Err(_panic) => Err(Error::Settings("the ledger's thread died".to_owned())),
        }
    }
}

/// The plan, the target and what is known of a ledger's run, to judge it again. Refused while it is being written.
///
/// # Errors
/// A file that is not there, or not a ledger, and a run that has not begun.
pub fn read_ledger(file: &Path) -> Result<(Shape, String, Past), Error> {
    let refuse = |why: &str| Err(Error::Settings(format!("{} {why}", file.display())));
    if !file.exists() {
        return refuse("is not there");
    }
    let connection = connect(file)?;
    let (shape, topic) = read_plan(&connection)?;
    match read_past(&connection, shape.seed)? {
        Some(past) => Ok((shape, topic, past)),
        None => refuse("has a run that has not begun"),
    }
}

fn connect(file: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(file)?;
    // One owner: a second bench on the same file is refused, not mixed in.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

fn write(mut connection: Connection, queue: &Receiver<Note>, kept: &Arc<Kept>) -> rusqlite::Result<()> {
    // Everyone is gone without a word: a run that failed.
    while let Ok(first) = queue.recv() {
        let transaction = connection.transaction()?;
        let (mut may_send, mut ends, mut gathered) = (0, false, 0);
        let until = Instant::now() + GATHER;
        let mut next = Some(first);
        while let Some(note) = next.take() {
            match &note {
                Note::MaySend { upto } => may_send = *upto,
                Note::Ends => ends = true,
                _ => {}
            }
            keep(&transaction, note)?;
            gathered += 1;
            if !ends && gathered < GATHERED {
                next = queue.recv_timeout(until.saturating_duration_since(Instant::now())).ok();
            }
        }
        transaction.commit()?;
        kept.may_send(may_send);
        if ends {
            break;
        }
    }
    Ok(())
}

fn keep(connection: &Connection, note: Note) -> rusqlite::Result<()> {
    match note {
        Note::Begins { run, start, offsets } => {
            connection.execute("UPDATE run SET start_ms = ?", [run.start_ms])?;
            let values = (start.first.cast_signed(), start.start_ms);
            connection.execute("INSERT INTO start (first, start_ms) VALUES (?, ?)", values)?;
            let mut insert = connection.prepare_cached("INSERT OR REPLACE INTO position VALUES (?, ?)")?;
            for (partition, offset) in (0_i64..).zip(offsets) {
                insert.execute((partition, offset))?;
            }
        }
        Note::MaySend { upto } => {
            connection
                .prepare_cached("UPDATE run SET may_have_sent = max(may_have_sent, ?)")?
                .execute([upto.cast_signed()])?;
        }
        Note::Settled { number, sent_at_us, settled } => {
            connection.prepare_cached("INSERT OR REPLACE INTO settled VALUES (?, ?, ?)")?.execute((
                number.cast_signed(),
                sent_at_us,
                settled,
            ))?;
        }
        Note::Delivered(record) => {
            connection
                .prepare_cached("INSERT OR REPLACE INTO delivered VALUES (?, ?, ?, ?, ?, ?)")?
                .execute((
                    record.partition,
                    record.offset,
                    record.number.map(u64::cast_signed),
                    record.checksum.cast_signed(),
                    record.append_ms,
                    record.received_at_us,
                ))?;
            connection
                .prepare_cached("INSERT OR REPLACE INTO position VALUES (?, ?)")?
                .execute((record.partition, record.offset + 1))?;
        }
        Note::Ends => {}
    }
    Ok(())
}

fn read_plan(connection: &Connection) -> Result<(Shape, String), Error> {
    let select =
        "SELECT seed, count, rate, delay_from_ms, delay_to_ms, due, size, keys, headers, topic FROM run";
    let read = connection.query_row(select, [], |row| {
        let delays_ms: RangeInclusive<i64> = row.get(3)?..=row.get(4)?;
        let shape = Shape {
            seed: row.get::<_, i64>(0)?.cast_unsigned(),
            count: row.get::<_, i64>(1)?.cast_unsigned(),
            rate: row.get(2)?,
            delays_ms,
            due: row.get::<_, String>(5)?.parse().map_err(|why: &str| {
                rusqlite::Error::FromSqlConversionFailure(5, rusqlite::types::Type::Text, why.into())
            })?,
            size: usize::try_from(row.get::<_, i64>(6)?).unwrap_or(0),
            keys: row.get(7)?,
            headers: row.get(8)?,
        };
        Ok((shape, row.get(9)?))
    });
    Ok(read?)
}

/// Nothing if the run never began.
fn read_past(connection: &Connection, seed: u64) -> Result<Option<Past>, Error> {
    let select = "SELECT start_ms, may_have_sent FROM run WHERE start_ms IS NOT NULL";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, i64>(1)?));
    let Some((start_ms, may_have_sent)) = connection.query_row(select, [], read).optional()? else {
        return Ok(None);
    };
    let starts = all(connection, "SELECT first, start_ms FROM start ORDER BY rowid", |row| {
        Ok(Start { first: row.get::<_, i64>(0)?.cast_unsigned(), start_ms: row.get(1)? })
    })?;
    let settled = all(connection, "SELECT number, sent_us, settled FROM settled", |row| {
        Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?, row.get(2)?))
    })?;
    let select = "SELECT partition, offset, number, checksum, append_ms, visible_us FROM delivered";
    let delivered = all(connection, select, |row| {
        Ok(Observed {
            partition: row.get(0)?,
            offset: row.get(1)?,
            number: row.get::<_, Option<i64>>(2)?.map(i64::cast_unsigned),
            checksum: row.get::<_, i64>(3)?.cast_unsigned(),
            append_ms: row.get(4)?,
            received_at_us: row.get(5)?,
        })
    })?;
    let offsets = all(connection, "SELECT next FROM position ORDER BY partition", |row| row.get(0))?;
    Ok(Some(Past {
        run: RunId { seed, start_ms },
        starts: Starts(starts),
        may_have_sent: may_have_sent.cast_unsigned(),
        settled,
        delivered,
        offsets,
    }))
}

fn all<T>(
    connection: &Connection,
    select: &str,
    read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    connection.prepare(select)?.query_map([], read)?.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Due;

    fn shape() -> Shape {
        Shape {
            seed: u64::MAX,
            count: 10,
            rate: 2.5,
            delays_ms: 5..=70,
            due: Due::Together,
            size: 200,
            keys: 3,
            headers: 1,
        }
    }

    #[test]
    fn what_is_kept_comes_back() {
        let dir = std::env::temp_dir().join(format!("ksched-book-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        let file = dir.join("what_is_kept_comes_back.db");
        let _ = std::fs::remove_file(&file);
        let book = Book::create(&file, &shape(), "target").expect("a new ledger");
        assert!(Book::create(&file, &shape(), "target").is_err(), "not over another");
        let run = RunId { seed: u64::MAX, start_ms: 77 };
        let observed = Observed {
            number: Some(4),
            checksum: u64::MAX - 1,
            partition: 1,
            offset: 30,
            append_ms: 99,
            received_at_us: None,
        };
        let start = Start { first: 0, start_ms: 77 };
        for note in [
            Note::Begins { run, start, offsets: vec![7, 8] },
            Note::MaySend { upto: 6 },
            Note::Settled { number: 4, sent_at_us: 3, settled: -2 },
            Note::Delivered(observed),
        ] {
            book.notes.put(note);
        }
        let notes = book.notes.clone();
        book.close().expect("all is kept");
        assert_eq!(notes.may_send(), 6);

        let (book, plan, topic) = Book::open(&file).expect("the ledger");
        assert_eq!((plan.seed, plan.rate, plan.delays_ms, plan.due), (u64::MAX, 2.5, 5..=70, Due::Together));
        assert_eq!(topic, "target");
        let past = book.past.as_ref().expect("it has begun");
        assert_eq!((past.run, past.may_have_sent), (run, 6));
        assert_eq!(past.starts.0, [start]);
        assert_eq!(past.settled, [(4, 3, -2)]);
        assert_eq!(past.offsets, [7, 31]);
        assert_eq!((past.delivered[0].checksum, past.delivered[0].received_at_us), (u64::MAX - 1, None));
        book.close().expect("nothing to keep");
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
